"""The labels of sequences as numbers: ids for classes, switches for several labels each, numbers for regression.

Everything is checked on the host, over all splits at once, so that a wrong label is named by its row before the first step.
N rows, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unpad.core.losses import PROBLEM_TYPES
from unpad.data.load import class_names, encode_labels
from unpad.errors import DataError, listing, nearest
from unpad.notices import say
from unpad.tasks._columns import is_text

if TYPE_CHECKING:
    import pyarrow as pa

SINGLE, MULTI, REGRESSION = PROBLEM_TYPES


def whole_column(part: Any, column: str, split: str) -> pa.Array:
    """A whole column, without a copy where there is one chunk and no selection."""
    if column not in part.column_names:
        names = part.column_names
        raise DataError(
            f"split {split!r} has no column {column!r}{nearest(column, names)}; its columns are: {listing(names, 40)}"
        )
    return part.with_format("arrow")[:][column].combine_chunks()


@dataclass(frozen=True)
class Targets:
    """The labels of all splits as numbers."""

    values: dict[str, np.ndarray | None]
    """By split: [N] int64, [N] float or [N, C] float, or None for a split without labels."""
    names: list[str] | None = None
    count: int | None = None
    kind: str | None = None


def read_targets(splits: Mapping[str, Any], column: str | None, given: Sequence[str] | None) -> Targets:
    """Read, check and number the labels; `given` are the label names of a trained model."""
    import pyarrow as pa

    values: dict[str, np.ndarray | None] = dict.fromkeys(splits)
    parts = {s: p.select_columns([column]) for s, p in splits.items() if column in p.column_names}
    if column is not None and not parts:
        whole_column(next(iter(splits.values())), column, next(iter(splits)))
    arrays = {}
    for split, part in parts.items():
        array = whole_column(part, str(column), split)
        if array.null_count == len(array) or (pa.types.is_integer(array.type) and _all(array, -1)):
            say(f"{split}: all labels in {column!r} are {'-1' if len(array) and not array.null_count else 'missing'}: it counts as unlabelled")  # fmt: skip
            continue
        if array.null_count:
            row = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
            raise DataError(
                f"row {row} of {split!r} has no label in {column!r} ({array.null_count} such row(s)); fill it in or filter it out"
            )
        arrays[split] = array
    if column is None or not arrays:
        return Targets(values)

    names = _names_of({s: parts[s] for s in arrays}, column)
    spelt = [_texts_inside(array.type) for array in arrays.values()]
    if any(spelt) and not all(spelt):
        raise _different(arrays, column)
    if all(spelt):
        if given is not None:
            arrays = {s: _looked_up(array, list(given), column, s) for s, array in arrays.items()}
            names = list(given)
        else:
            from datasets import DatasetDict

            encoded = encode_labels(DatasetDict({s: parts[s] for s in arrays}), column)
            arrays = {s: whole_column(encoded[s], column, s) for s in arrays}
            names = class_names(encoded, column)
    kinds = {s: _kind(array.type, column, s) for s, array in arrays.items()}
    if set(kinds.values()) == {"whole", "decimal"}:
        kinds = dict.fromkeys(kinds, "decimal")
    if len(set(kinds.values())) > 1:
        raise _different(arrays, column)
    kind = next(iter(kinds.values()))
    if kind == "list":
        return _several(values, arrays, column, names, given)
    if kind == "decimal":
        for split, array in arrays.items():
            values[split] = array.cast("float64").to_numpy(zero_copy_only=False)
            _refuse_infinite(values[split], column, split)
        say(f"labels in {column!r} are decimal numbers: the model learns one number (regression)")
        return Targets(values, None, 1, REGRESSION)
    for split, array in arrays.items():
        values[split] = array.cast("int64").to_numpy(zero_copy_only=False)
    if names is None and all(str(array.type) == "bool" for array in arrays.values()):
        names = ["False", "True"]
    return _single(values, column, names, given)


def _single(
    values: dict[str, np.ndarray | None], column: str, names: list[str] | None, given: Sequence[str] | None
) -> Targets:
    """One class per row. Ids keep their numbers where these are 0..C-1 or have names; other numbers become names."""
    labelled = {split: v for split, v in values.items() if v is not None}
    if names is not None and given is not None:
        move = _aligned(names, list(given), column)
        for split, v in labelled.items():
            _refuse_outside(v, names, column, split)
            values[split] = move[v]
        return Targets(values, list(given), len(given), SINGLE)
    if names is None:
        for split, v in labelled.items():
            if (v < 0).any():
                row = int((v < 0).argmax())
                raise DataError(
                    f"label {v[row]} in row {row} of {split!r} is negative (-1 marks a hidden answer): "
                    f"filter such rows out, or make the labels in {column!r} texts"
                )
        found = np.unique(np.concatenate(list(labelled.values())))
        whole = np.array_equal(found, np.arange(len(found)))
        spelt = list(given) if given is not None else [str(v) for v in found]
        if given is None and whole:
            if len(found) == 1:
                say(
                    f"all labels in {column!r} are {found[0]}: with a single class there is nothing to learn to tell apart"
                )
            return Targets(values, None, max(len(found), 2), SINGLE)
        if given is None or all(name.isdigit() for name in spelt):
            for split, v in labelled.items():
                known = np.array([int(name) for name in spelt])
                order = np.argsort(known)
                place = np.minimum(np.searchsorted(known[order], v), len(known) - 1)
                ids = order[place]
                if (known[ids] != v).any():
                    row = int((known[ids] != v).argmax())
                    raise DataError(
                        f"label {v[row]} in row {row} of {split!r} is none of the model's: {listing(spelt)}"
                    )
                values[split] = ids.astype(np.int64)
            if given is None:
                say(f"labels in {column!r} are not 0..{len(found) - 1}: mapped to {len(spelt)} ids in sorted order: {listing(spelt)}")  # fmt: skip
        names = spelt
    for split in labelled:
        _refuse_outside(values[split], names, column, split)
    if len(names) < 2:
        raise DataError(
            f"all labels in {column!r} are {names[0]!r}; a classifier needs two different ones to learn from"
        )
    return Targets(values, names, len(names), SINGLE)


def _several(
    values: dict[str, np.ndarray | None],
    arrays: dict[str, pa.Array],
    column: str,
    names: list[str] | None,
    given: Sequence[str] | None,
) -> Targets:
    """Lists of labels: as [N, C] of 0 and 1. Lists of names or of `ClassLabel` ids say which labels a row has."""
    import pyarrow as pa

    flat, lengths = {}, {}
    for split, array in arrays.items():
        inner = array.flatten()
        lengths[split] = np.diff(array.offsets.to_numpy()) if hasattr(array, "offsets") else np.full(len(array), array.type.list_size)  # fmt: skip
        if inner.null_count:
            at = int(np.argmax(inner.is_null().to_numpy(zero_copy_only=False)))
            row = int(np.searchsorted(np.cumsum(lengths[split]), at, side="right"))
            raise DataError(
                f"row {row} of {split!r} has an empty value in its list of labels in {column!r}; fill it in"
            )
        if pa.types.is_null(inner.type):
            raise DataError(f"every list of labels in {column!r} of {split!r} is empty; there is nothing to learn")
        flat[split] = inner.cast("float64").to_numpy(zero_copy_only=False)
        if not np.isfinite(flat[split]).all():
            at = int((~np.isfinite(flat[split])).argmax())
            row = int(np.searchsorted(np.cumsum(lengths[split]), at, side="right"))
            raise DataError(f"the labels in row {row} of {split!r} are not finite ({column!r}); mend or remove the row")
    widths = np.unique(np.concatenate(list(lengths.values())))
    numbers = np.concatenate(list(flat.values()))
    switches = len(widths) == 1 and widths[0] > 1 and ((numbers == 0) | (numbers == 1)).all()
    if names is not None or (not switches and _whole(arrays)):
        if numbers.min(initial=0) < 0:
            raise DataError(f"labels in {column!r} hold {numbers.min():g}; list ids from 0, or 0 and 1 for each label")
        count = len(names) if names is not None else int(numbers.max(initial=0)) + 1
        move = np.arange(count)
        if given is not None:
            move = _aligned(names, list(given), column) if names is not None else np.arange(len(given))
            names, count = list(given), len(given)
        for split in arrays:
            rows, ids = (np.repeat(np.arange(len(lengths[split])), lengths[split]), flat[split].astype(np.int64))
            if (ids >= len(move)).any():
                at = int((ids >= len(move)).argmax())
                raise DataError(
                    f"label {ids[at]} in row {rows[at]} of {split!r} is outside 0..{len(move) - 1} ({column!r})"
                )
            hot = np.zeros((len(lengths[split]), count), np.float32)
            hot[rows, move[ids]] = 1
            values[split] = hot
        return Targets(values, names, count, MULTI)
    for split, n in lengths.items():
        width = int(lengths[next(iter(arrays))][0])
        if (n != width).any():
            row = int((n != width).argmax())
            raise DataError(
                f"row {row} of {split!r} has {n[row]} numbers in {column!r}, row 0 of {next(iter(arrays))!r} has {width}; give every row as many"
            )
        values[split] = flat[split].reshape(-1, width).astype(np.float32)
    if given is not None and len(given) != int(widths[0]):
        raise DataError(f"rows have {widths[0]} labels in {column!r}, the model has {len(given)}: {listing(given)}")
    inside = bool(((numbers >= 0) & (numbers <= 1)).all())
    if not inside:
        say(f"labels in {column!r} are lists of numbers beyond 0..1: the model learns {widths[0]} numbers (regression)")
    return Targets(values, None if given is None else list(given), int(widths[0]), MULTI if inside else REGRESSION)


def _whole(arrays: Mapping[str, pa.Array]) -> bool:
    import pyarrow as pa

    return all(pa.types.is_integer(array.type.value_type) for array in arrays.values())


def _names_of(parts: Mapping[str, Any], column: str) -> list[str] | None:
    """The `ClassLabel` names of a column, which must be the same in all splits."""
    found = {split: class_names(part, column) for split, part in parts.items()}
    first, names = next(iter(found.items()))
    for split, other in found.items():
        if other != names:
            raise DataError(
                f"the labels of {column!r} are {listing(names or ['without names'])} in {first!r} but "
                f"{listing(other or ['without names'])} in {split!r}; give all splits the same ClassLabel"
            )
    return names


def _aligned(names: list[str], given: list[str], column: str) -> np.ndarray:
    """[C] int64: for each label of the data its id in the model, by name; as it is where the model has only numbers."""
    if given == names:
        return np.arange(len(names))
    if len(given) == len(names) and given == [f"LABEL_{i}" for i in range(len(given))]:
        return np.arange(len(names))
    place = {name.casefold(): i for i, name in enumerate(given)}
    missing = [name for name in names if name.casefold() not in place]
    if missing:
        raise DataError(
            f"label {missing[0]!r} of {column!r} is unknown to the model, whose labels are: {listing(given)}; "
            f"those of the data are: {listing(names)}. Rename them, or use the model of these data"
        )
    move = np.array([place[name.casefold()] for name in names], dtype=np.int64)
    if not np.array_equal(move, np.arange(len(names))):
        say(f"labels in {column!r} are numbered otherwise than the model's and were matched by name: {listing(given)}")
    return move


def _looked_up(array: pa.Array, given: list[str], column: str, split: str) -> pa.Array:
    """Texts (or lists of them) as ids among `given`."""
    import pyarrow as pa

    place = {name: i for i, name in enumerate(given)}
    rows = array.to_pylist()
    listed = any(isinstance(row, list) for row in rows[:1])
    for row, value in enumerate(rows):
        for name in value if listed else [value]:
            if name not in place:
                raise DataError(
                    f"label {name!r} in row {row} of {split!r} ({column!r}) is unknown to the model"
                    f"{nearest(str(name), given)}; its labels are: {listing(given)}"
                )
    return pa.array([[place[n] for n in row] if listed else place[row] for row in rows])


def _different(arrays: Mapping[str, pa.Array], column: str) -> DataError:
    shown = listing(f"{array.type} in {split!r}" for split, array in arrays.items())
    return DataError(f"the labels in {column!r} are of different kinds: {shown}; make them the same in all splits")


def _kind(kind: pa.DataType, column: str, split: str) -> str:
    import pyarrow as pa

    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return "whole"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "decimal"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = kind.value_type
        if pa.types.is_boolean(inner) or pa.types.is_integer(inner) or pa.types.is_floating(inner) or pa.types.is_null(inner):  # fmt: skip
            return "list"
    raise DataError(
        f"column {column!r} of {split!r} holds {kind}; labels are texts, numbers or lists of these; name another one with label="
    )


def _texts_inside(kind: pa.DataType) -> bool:
    import pyarrow as pa

    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
    return is_text(inner)


def _all(array: pa.Array, value: int) -> bool:
    return not array.null_count and bool((array.to_numpy(zero_copy_only=False) == value).all())


def _refuse_outside(values: np.ndarray | None, names: list[str], column: str, split: str) -> None:
    assert values is not None
    wrong = (values < 0) | (values >= len(names))
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"label {values[row]} in row {row} of {split!r} ({column!r}) is outside 0..{len(names) - 1} "
            f"({len(names)} labels: {listing(names)}); mend the row or filter it out"
        )


def _refuse_infinite(values: np.ndarray | None, column: str, split: str) -> None:
    assert values is not None
    if not np.isfinite(values).all():
        row = int((~np.isfinite(values)).argmax())
        raise DataError(f"the label in row {row} of {split!r} is {values[row]} ({column!r}); mend or remove the row")
