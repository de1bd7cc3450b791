"""The labels of sequences as numbers: ids for classes, switches for several labels each, numbers for regression.

Everything is checked on the host, over all splits at once, so that a wrong label is named by its row before the first step.
N rows, C labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from unpad.core.losses import PROBLEM_TYPES
from unpad.data.load import class_names, encode_labels
from unpad.errors import DataError, listing
from unpad.notices import say
from unpad.tasks._columns import Lists, dataset_of, gaps, is_text, lists_of, numbers_of, read_lists, whole_column

if TYPE_CHECKING:
    import pyarrow as pa

SINGLE, MULTI, REGRESSION = PROBLEM_TYPES


@dataclass(frozen=True)
class Targets:
    """The labels of all splits as numbers."""

    values: Mapping[str, np.ndarray | None]
    """By split: [N] int64, [N] float or [N, C] float, or None for a split without labels."""
    names: list[str] | None = None
    count: int | None = None
    kind: str | None = None

    def joined(self, columns: Mapping[str, Any], split: str) -> Any:
        """A split with these columns and its labels: classes int64, numbers float32, several labels float32 [C]."""
        from datasets import ClassLabel

        labels, features = self.values[split], {}
        if labels is None:
            return dataset_of(columns, split)
        if self.kind == SINGLE:
            features = {} if self.names is None else {"labels": ClassLabel(names=self.names)}
        else:
            labels = labels.astype(np.float32)
        if labels.ndim == 2:
            labels = lists_of(labels.ravel(), np.arange(1, len(labels) + 1) * labels.shape[1])
        return dataset_of({**columns, "labels": labels}, split, **features)


def read_targets(splits: Mapping[str, Any], column: str | None, given: Sequence[str] | None) -> Targets:
    """Read, check and number the labels; `given` are the label names of a trained model."""
    nothing = Targets(dict.fromkeys(splits))
    if column is None:
        return nothing
    parts = {s: p.select_columns([column]) for s, p in splits.items() if column in p.column_names}
    if not parts:  # raises that there is none
        whole_column(next(iter(splits.values())), column, next(iter(splits)))
    arrays = {split: array for split, part in parts.items() if (array := _labelled(part, column, split)) is not None}
    if not arrays:
        return nothing
    names = names_of({split: parts[split] for split in arrays}, column)
    listed, kind = _kind(arrays, column)
    if kind == "text" and given is None:
        from datasets import DatasetDict

        encoded = encode_labels(DatasetDict({split: parts[split] for split in arrays}), column)
        arrays = {split: whole_column(encoded[split], column, split) for split in arrays}
        kind, names = "whole", class_names(encoded, column)
    lists = {split: read_lists(array, column, split) for split, array in arrays.items()}
    if kind == "text" and given is not None:
        names = list(given)
        flat = {split: of.places(names, "label") for split, of in lists.items()}
    else:
        flat = {split: _numbers(of, kind) for split, of in lists.items()}
    if listed:
        found = _several(lists, flat, column, names, given, kind == "whole")
    elif kind == "decimal":
        say(f"labels in {column!r} are decimal numbers: the model learns one number (regression)")
        found = Targets(flat, None, 1, REGRESSION)
    else:
        if names is None and all(str(array.type) == "bool" for array in arrays.values()):
            names = ["False", "True"]
        found = _single(flat, column, names, given)
    return replace(found, values={**nothing.values, **found.values})


def _labelled(part: Any, column: str, split: str) -> pa.Array | None:
    """The labels of a split; None where all are hidden. Raises DataError where some are."""
    import pyarrow as pa

    array = whole_column(part, column, split)
    missing = array.null_count == len(array)
    if missing or (pa.types.is_integer(array.type) and not array.null_count and (numbers_of(array) == -1).all()):
        say(f"{split}: all labels in {column!r} are {'missing' if missing else '-1'}: it counts as unlabelled")
        return None
    if array.null_count:
        raise DataError(
            f"row {gaps(array).argmax()} of {split!r} has no label in {column!r} ({array.null_count} such row(s)); fill it in or filter it out"
        )
    return array


def _kind(arrays: Mapping[str, pa.Array], column: str) -> tuple[bool, str]:
    """Whether the labels are lists, and what they (or those in the lists) are: "text", "whole" or "decimal", as switches in lists are."""
    import pyarrow as pa

    types, kinds = pa.types, set()
    for split, array in arrays.items():
        listed = types.is_list(array.type) or types.is_large_list(array.type) or types.is_fixed_size_list(array.type)
        kind = array.type.value_type if listed else array.type
        if is_text(kind) and not types.is_fixed_size_list(array.type):
            kinds.add((listed, "text"))
        elif types.is_integer(kind) or (types.is_boolean(kind) and not listed):
            kinds.add((listed, "whole"))
        elif types.is_floating(kind) or (types.is_boolean(kind) or types.is_null(kind) if listed else types.is_decimal(kind)):  # fmt: skip
            kinds.add((listed, "decimal"))
        else:
            raise DataError(
                f"column {column!r} of {split!r} holds {array.type}; labels are texts, numbers or lists of these; name another one with label="
            )
    if len({(listed, name == "text") for listed, name in kinds}) > 1:
        shown = listing(f"{array.type} in {split!r}" for split, array in arrays.items())
        raise DataError(f"the labels in {column!r} are of different kinds: {shown}; make them the same in all splits")
    return min(kinds)  # decimal numbers among whole ones make all of them decimal


def _numbers(of: Lists, kind: str) -> np.ndarray:
    """[W] int64 or float64."""
    if of.flat.null_count:
        raise DataError(
            f"row {of.row(gaps(of.flat))} of {of.split!r} has an empty value in its list of labels in {of.column!r}; fill it in"
        )
    if str(of.flat.type) == "null":
        raise DataError(f"every list of labels in {of.column!r} of {of.split!r} is empty; there is nothing to learn")
    values = numbers_of(of.flat, "int64" if kind == "whole" else "float64")
    if (odd := ~np.isfinite(values)).any():
        raise DataError(
            f"the label in row {of.row(odd)} of {of.split!r} is {values[odd][0]} ({of.column!r}); mend or remove the row"
        )
    return values


def _single(flat: dict[str, np.ndarray], column: str, names: list[str] | None, given: Sequence[str] | None) -> Targets:
    """One class per row. Ids keep their numbers where these are 0..C-1 or have names; other numbers become names."""
    if names is not None and given is not None:
        move = aligned(names, list(given), column)
        _refuse_outside(flat, names, column)
        return Targets({split: move[v] for split, v in flat.items()}, list(given), len(given), SINGLE)
    if names is None:
        for split, v in flat.items():
            if (v < 0).any():
                row = int((v < 0).argmax())
                raise DataError(
                    f"label {v[row]} in row {row} of {split!r} is negative (-1 marks a hidden answer): "
                    f"filter such rows out, or make the labels in {column!r} texts"
                )
        found = np.unique(np.concatenate(list(flat.values())))
        if given is None and np.array_equal(found, np.arange(len(found))):
            if len(found) == 1:
                say(f"all labels in {column!r} are {found[0]}: with a single class there is nothing to learn to tell apart")  # fmt: skip
            return Targets(flat, None, max(len(found), 2), SINGLE)
        names = [str(v) for v in found] if given is None else list(given)
        if all(name.isdigit() for name in names):
            flat = _spelt(flat, names)
        if given is None:
            say(f"labels in {column!r} are not 0..{len(found) - 1}: mapped to {len(names)} ids in sorted order: {listing(names)}")  # fmt: skip
    _refuse_outside(flat, names, column)
    if len(names) < 2:
        raise DataError(f"all labels in {column!r} are {names[0]!r}; a classifier needs two different ones")
    return Targets(flat, names, len(names), SINGLE)


def _spelt(flat: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Numbers as places among names that are numbers."""
    place, out = {int(name): i for i, name in enumerate(names)}, {}
    for split, values in flat.items():
        numbers, back = np.unique(values, return_inverse=True)
        out[split] = np.array([place.get(number, -1) for number in numbers.tolist()])[back]
        if (out[split] < 0).any():
            row = int(out[split].argmin())
            raise DataError(f"label {values[row]} in row {row} of {split!r} is none of the model's: {listing(names)}")
    return out


def _several(
    lists: Mapping[str, Lists], flat: Mapping[str, np.ndarray], column: str, names: list[str] | None, given: Sequence[str] | None, whole: bool
) -> Targets:  # fmt: skip
    """Lists of labels: as [N, C] of 0 and 1. Lists of names or of `ClassLabel` ids say which labels a row has."""
    widths = np.unique(np.concatenate([of.lengths for of in lists.values()]))
    numbers, values = np.concatenate(list(flat.values())), {}
    switches = len(widths) == 1 and widths[0] > 1 and np.isin(numbers, (0, 1)).all()
    if names is not None or (whole and not switches):
        if numbers.min(initial=0) < 0:
            raise DataError(f"labels in {column!r} hold {numbers.min():g}; list ids from 0, or 0 and 1 for each label")
        known = names if names is not None else given
        size = int(numbers.max(initial=0)) + 1 if known is None else len(known)
        move = np.arange(size)
        if given is not None:
            move = aligned(names, list(given), column) if names is not None else move
            names = list(given)
        for split, of in lists.items():
            ids = flat[split].astype(np.int64)
            if (odd := ids >= size).any():
                raise DataError(f"label {ids[odd][0]} in row {of.row(odd)} of {split!r} is outside 0..{size - 1} ({column!r})")  # fmt: skip
            values[split] = np.zeros((len(of.lengths), size if names is None else len(names)), np.float32)
            values[split][np.repeat(np.arange(len(of.lengths)), of.lengths), move[ids]] = 1
        return Targets(values, names, size if names is None else len(names), MULTI)
    first = next(iter(lists.values()))
    width = int(first.lengths[0])
    for split, of in lists.items():
        if (odd := of.lengths != width).any():
            row = int(odd.argmax())
            raise DataError(
                f"row {row} of {split!r} has {of.lengths[row]} numbers in {column!r}, row 0 of {first.split!r} has {width}; give every row as many"
            )
        values[split] = flat[split].reshape(-1, width).astype(np.float32)
    if given is not None and len(given) != width:
        raise DataError(f"rows have {width} labels in {column!r}, the model has {len(given)}: {listing(given)}")
    inside = bool(((numbers >= 0) & (numbers <= 1)).all())
    if not inside:
        say(f"labels in {column!r} are lists of numbers beyond 0..1: the model learns {width} numbers (regression)")
    return Targets(values, None if given is None else list(given), width, MULTI if inside else REGRESSION)


def names_of(parts: Mapping[str, Any], column: str) -> list[str] | None:
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


def aligned(names: list[str], given: list[str], column: str) -> np.ndarray:
    """[C] int64: for each label of the data its id in the model, by name; as it is where the model has only numbers."""
    if given in (names, [f"LABEL_{i}" for i in range(len(names))]):
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


def _refuse_outside(flat: Mapping[str, np.ndarray], names: list[str], column: str) -> None:
    for split, values in flat.items():
        if (odd := (values < 0) | (values >= len(names))).any():
            row = int(odd.argmax())
            raise DataError(
                f"label {values[row]} in row {row} of {split!r} ({column!r}) is outside 0..{len(names) - 1} "
                f"({len(names)} labels: {listing(names)}); mend the row or filter it out"
            )
