"""List columns of Arrow as flat numpy views: N rows of unequal length over the values that Arrow already holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unpad.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 4096
"""Rows that whole-store passes (fingerprint, checks) gather at a time: bounds their memory."""


def first(flags: np.ndarray) -> int | None:
    """Place of the first flag that is set, None where none is."""
    return int(flags.argmax()) if flags.any() else None


@dataclass(frozen=True)
class Column:
    """N rows of unequal length, each a view into one of a few flat arrays."""

    flats: list[np.ndarray]
    chunk: np.ndarray | None
    """[N] int32: which flat array a row is in; None: the first one holds all."""
    start: np.ndarray
    """[N] int64: first element of the row."""
    length: np.ndarray
    """[N] int64: elements of the row."""

    def rows(self, rows: Any) -> list[np.ndarray]:
        """The rows with these numbers, as views."""
        start = self.start[rows]
        ends = (start + self.length[rows]).tolist()
        if self.chunk is None:
            flat = self.flats[0]
            return [flat[a:b] for a, b in zip(start.tolist(), ends, strict=True)]
        flats, chunk = self.flats, self.chunk[rows].tolist()
        return [flats[c][a:b] for c, a, b in zip(chunk, start.tolist(), ends, strict=True)]

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """All values in row order, `BLOCK` rows at a time, each with the number of its first row."""
        for begin in range(0, len(self.start), BLOCK):
            yield begin, np.concatenate(self.rows(slice(begin, begin + BLOCK)))

    def narrow(self, skip: np.ndarray, length: np.ndarray) -> Column:
        """Each row without its first `skip` elements, cut to `length`."""
        return Column(self.flats, self.chunk, self.start + skip, length)

    def compact(self, mask: Column) -> Column:
        """A copy with only the elements where `mask` is not 0: for masks with holes, which no view can express."""
        parts, lengths = [], []
        for (begin, values), (_, keep) in zip(self.blocks(), mask.blocks(), strict=True):
            kept = keep != 0
            ends = np.cumsum(self.length[begin : begin + BLOCK])
            counts = np.concatenate([[0], np.cumsum(kept)])[ends]
            parts.append(values[kept])
            lengths.append(np.diff(counts, prepend=0))
        length = np.concatenate(lengths)
        return Column([np.concatenate(parts)], None, np.cumsum(length) - length, length)

    def first_outside(self, low: int, high: float, ignored: int | None = None) -> tuple[int, Any] | None:
        """(row, value) of the first value that is not in low..high - 1, or None."""
        if all(len(f) == 0 or (f.min() >= low and f.max() < high) for f in self.flats):
            return None  # the flat arrays may hold more than the rows, so only this answer is final
        for begin, values in self.blocks():
            wrong = ~((values >= low) & (values < high))  # nan is nowhere
            if ignored is not None:
                wrong &= values != ignored
            if (at := first(wrong)) is not None:
                ends = np.cumsum(self.length[begin : begin + BLOCK])
                return begin + int(np.searchsorted(ends, at, side="right")), values[at].item()
        return None


def column_of(
    array: pa.ChunkedArray, name: str, mapping: np.ndarray | None, of: str, decimals: bool = False, null: int | None = None
) -> Column:  # fmt: skip
    """A list column of Arrow as flat numpy views. Copies only boolean values and chunks with nulls that no row uses."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not is_list(array.type):
        needed = "a list of numbers per row is needed: tokenize the text with dataset.map(...)"
        raise DataError(f"column {name!r}{of} holds {array.type}, {needed}")
    inner = array.type.value_type
    if is_list(inner):
        how = "leave return_tensors= and return_overflowing_tokens= out of dataset.map(...), or map with batched=True"
        raise DataError(f"column {name!r}{of} holds lists of lists: {how}")
    kinds = [pa.types.is_integer, pa.types.is_boolean, pa.types.is_null, *([pa.types.is_floating] if decimals else [])]
    if not any(kind(inner) for kind in kinds):
        needed = "whole numbers are needed: tokenize the text with dataset.map(...)"
        raise DataError(f"column {name!r}{of} holds lists of {inner}, {needed}")

    flats: list[np.ndarray] = []
    chunk_of, starts, lengths, broken = [], [], [], []
    for chunk in array.chunks:
        if len(chunk) == 0:
            continue
        if pa.types.is_fixed_size_list(array.type):
            offsets = (chunk.offset + np.arange(len(chunk) + 1, dtype=np.int64)) * array.type.list_size
        else:
            offsets = chunk.offsets.to_numpy().astype(np.int64)
        values = chunk.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
        offsets = offsets - offsets[0]
        bad = chunk.is_null().to_numpy(zero_copy_only=False)
        if pa.types.is_null(inner):  # rows without a single value have no type
            values = pa.array([None] * len(values), pa.int64())
        if values.null_count:
            if null is None:
                at = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))
                bad = bad.copy()
                bad[np.searchsorted(offsets, at, side="right") - 1] = True
            fill = False if pa.types.is_boolean(inner) else pa.scalar(null or 0, values.type)
            values = pc.fill_null(values, fill)
        chunk_of.append(np.full(len(chunk), len(flats), dtype=np.int32))
        flats.append(values.to_numpy(zero_copy_only=False))
        starts.append(offsets[:-1])
        lengths.append(np.diff(offsets))
        broken.append(bad)

    several = len(flats) > 1
    start, length, bad = np.concatenate(starts), np.concatenate(lengths), np.concatenate(broken)
    number = np.concatenate(chunk_of) if several else None
    if mapping is not None:
        start, length, bad = start[mapping], length[mapping], bad[mapping]
        number = None if number is None else number[mapping]
    if (row := first(bad)) is not None:
        found = f"row {row}{of} has an empty value (null) in {name!r} ({int(bad.sum())} such row(s))"
        how = f"remove it, dataset.filter(lambda row: row[{name!r}] is not None), or tokenize the text again"
        raise DataError(f"{found}: {how}")
    return Column(flats, number, start, length)


def any_value(column: Column) -> bool:
    """Whether any value of any row is not 0; stops at the first block with one."""
    return any(f.any() for f in column.flats) and any(values.any() for _, values in column.blocks())


def nested(kind: Any) -> bool:
    """Whether an Arrow type is one of lists of lists."""
    return is_list(kind) and is_list(kind.value_type)


def is_list(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
