"""What the data sets of all tasks have in common: splits, columns that are there or not, and what is said of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from unpad.errors import DataError, listing, nearest
from unpad.notices import say

if TYPE_CHECKING:
    import pyarrow as pa

    from unpad.text.tokenizer import Tokenizer, TruncationReport


def splits_of(raw: Any) -> dict[str, Any]:
    """The splits of a `DatasetDict`, or a `Dataset` as the only one. Raises DataError for one without rows."""
    splits = _splits(raw) if isinstance(raw, Mapping) else {str(raw.split or "train"): raw}
    for split, part in splits.items():
        if not len(part):
            raise DataError(f"split {split!r} has no rows; check the file and any filter before")
    return splits


def _splits(raw: Mapping[Any, Any]) -> dict[str, Any]:
    if not raw:
        raise DataError("the data set has no splits; load or build one with at least 'train'")
    return {str(split): part for split, part in raw.items()}


def one_of(dataset: Any) -> Any:
    """The data set itself, or the split of a dictionary that stands for all: `train`, or else the first."""
    if not isinstance(dataset, Mapping):
        return dataset
    splits = _splits(dataset)
    return splits["train"] if "train" in splits else next(iter(splits.values()))


def check_named(names: Mapping[str, str | None], there: Iterable[str], what: str = "") -> None:
    """Raise DataError for a column that is named (by option) and is not `there`, or is named twice though `what` are different ones."""
    there = list(there)
    for option, name in names.items():
        if name is not None and name not in there:
            near = nearest(name, there)
            raise DataError(f"there is no column {name!r} for {option}={near}; the columns are: {listing(there, 40)}")
    given = [name for name in names.values() if name is not None]
    if what and (twice := next((name for name in given if given.count(name) > 1), None)):
        raise DataError(f"column {twice!r} is named for two things; {what} are different ones of: {listing(there, 40)}")


def not_found(what: str, how: str, there: Iterable[str]) -> DataError:
    """The error that no column looks like `what`."""
    return DataError(f"no column looks like the {what}; name it with {how}; the columns are: {listing(there, 40)}")


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds texts."""
    return str(kind) in ("string", "large_string")


def holds_text(feature: Any) -> bool:
    """Whether a column with this feature of a data set holds texts."""
    return getattr(feature, "dtype", None) in ("string", "large_string")


def check_there(part: Any, column: str, split: str) -> None:
    """Raise DataError where the column is missing."""
    if column not in (names := part.column_names):
        near = nearest(column, names)
        raise DataError(f"split {split!r} has no column {column!r}{near}; its columns are: {listing(names, 40)}")


def whole_column(part: Any, column: str, split: str) -> pa.Array:
    """A whole column, without a copy where there is one chunk and no selection. DataError where it is missing."""
    check_there(part, column, split)
    return part.with_format("arrow")[:][column].combine_chunks()


def text_array(part: Any, column: str, split: str) -> pa.Array:
    """A column of texts; DataError, naming the row, for one that is missing, and for a column of anything else."""
    array = whole_column(part, column, split)
    if array.null_count:
        raise DataError(
            f"row {gaps(array).argmax()} of {split!r} has no text in {column!r} ({array.null_count} such row(s)); "
            f"fill it with '' or filter it out: dataset.filter(lambda row: row[{column!r}] is not None)"
        )
    if not is_text(array.type):
        raise DataError(
            f"column {column!r} of {split!r} holds {array.type}, not texts; name another one with text= or text_pair=, or cast it to string"
        )
    return array


def gaps(array: pa.Array) -> np.ndarray:
    """bool: where an Arrow array has no value."""
    return array.is_null().to_numpy(zero_copy_only=False)


def numbers_of(array: pa.Array, dtype: str = "int64") -> np.ndarray:
    """An Arrow array without gaps as numbers."""
    return array.cast(dtype).to_numpy(zero_copy_only=False)


@dataclass(frozen=True)
class Lists:
    """A column of one split as the values of all rows, and how many each row has (one, where the column holds no lists)."""

    flat: pa.Array
    """[W]"""
    lengths: np.ndarray
    """[R] int64"""
    split: str
    column: str

    def row(self, marked: np.ndarray) -> int:
        """The row of the first value that is marked, of bool [W]."""
        return int(np.searchsorted(np.cumsum(self.lengths), marked.argmax(), side="right"))

    def places(self, names: Sequence[str], what: str) -> np.ndarray:
        """[W] int64: texts as places among the names of a model. Raises DataError for one (a `what`) that is not there."""
        import pyarrow as pa
        import pyarrow.compute as pc

        found = pc.index_in(self.flat, pa.array(names, self.flat.type))
        if found.null_count:
            odd = gaps(found)
            name = self.flat[int(odd.argmax())].as_py()
            raise DataError(
                f"{what} {name!r} in row {self.row(odd)} of {self.split!r} ({self.column!r}) is unknown to the model{nearest(name, names)}; "
                f"its {what}s are: {listing(names)}"
            )
        return numbers_of(found)


def read_lists(array: pa.Array, column: str, split: str) -> Lists:
    """A column as `Lists`, whatever it holds."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not isinstance(array, (pa.ListArray, pa.LargeListArray, pa.FixedSizeListArray)):
        return Lists(array, np.ones(len(array), np.int64), split, column)
    return Lists(array.flatten(), numbers_of(pc.fill_null(pc.list_value_length(array), 0)), split, column)


def lists_of(values: Any, ends: np.ndarray) -> pa.ListArray:
    """Flat values as an Arrow array of lists; `ends` [N] are where they end."""
    import pyarrow as pa

    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], ends]), pa.int32()), values)


def dataset_of(columns: Mapping[str, Any], split: str, **features: Any) -> Any:
    """A split of a data set with these columns, of which `features` are more than their Arrow types."""
    import pyarrow as pa
    from datasets import Dataset, DatasetInfo, Features, NamedSplit

    table = pa.table(dict(columns))
    info = DatasetInfo(features=Features({**Features.from_arrow_schema(table.schema), **features}))
    return Dataset(table, info=info, split=NamedSplit(split))


def spent(before: TruncationReport, tokenizer: Tokenizer) -> TruncationReport:
    """What truncation has cost since the tokenizer's report was `before`."""
    after, names = tokenizer.truncation_report(), ("texts", "truncated", "tokens_before", "tokens_lost")
    return replace(after, **{name: getattr(after, name) - getattr(before, name) for name in names})


def say_lost(before: TruncationReport, tokenizer: Tokenizer, limit: int | None, which: str = "") -> TruncationReport:
    """`spent`, which is also said; `limit`: tokens of the longest text, `which`: the kind of texts if there are several."""
    lost = spent(before, tokenizer)
    if lost.truncated:
        say(f"{which}: {lost} (the limit is {limit or tokenizer.model_max_length} tokens)".removeprefix(": "))
    return lost


def say_read(
    name: str, reads: str, splits: Mapping[str, Any], used: Iterable[str | None], always: bool = False
) -> None:
    """Say which columns a task reads and which it leaves (where it leaves none, only `always`)."""
    used = set(used)
    left = [c for c in dict.fromkeys(c for part in splits.values() for c in part.column_names) if c not in used]
    if left or always:
        say(f"{name} reads {reads}" + (f"; not used: {listing(left)}" if left else ""))
