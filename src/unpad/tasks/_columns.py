"""What the data sets of all tasks have in common: splits, columns that are there or not, and what is said of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from unpad.errors import DataError, listing, nearest
from unpad.notices import say

if TYPE_CHECKING:
    import pyarrow as pa

    from unpad.text.tokenizer import TruncationReport


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
            raise DataError(
                f"there is no column {name!r} for {option}={nearest(name, there)}; the columns are: {listing(there, 40)}"
            )
    given = [name for name in names.values() if name is not None]
    if what and (twice := next((name for name in given if given.count(name) > 1), None)):
        raise DataError(
            f"column {twice!r} is named for two things; {what} are different columns of: {listing(there, 40)}"
        )


def not_found(what: str, how: str, there: Iterable[str]) -> DataError:
    """The error that no column looks like `what`."""
    return DataError(f"no column looks like the {what}; name it with {how}; the columns are: {listing(there, 40)}")


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds texts."""
    return str(kind) in ("string", "large_string")


def lists_of(values: Any, ends: np.ndarray) -> pa.ListArray:
    """Flat values as an Arrow array of lists; `ends` [N] are where they end."""
    import pyarrow as pa

    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], ends]), pa.int32()), values)


def say_lost(lost: TruncationReport, limit: int, which: str = "") -> None:
    """Say what truncation to `limit` tokens has cost, of `which` texts if there are several kinds."""
    if lost.truncated:
        say(f"{which}: {lost} (the limit is {limit} tokens)".removeprefix(": "))


def say_read(
    name: str, reads: str, splits: Mapping[str, Any], used: Iterable[str | None], always: bool = False
) -> None:
    """Say which columns a task reads and which it leaves (where it leaves none, only `always`)."""
    used = set(used)
    left = [c for c in dict.fromkeys(c for part in splits.values() for c in part.column_names) if c not in used]
    if left or always:
        say(f"{name} reads {reads}" + (f"; not used: {listing(left)}" if left else ""))
