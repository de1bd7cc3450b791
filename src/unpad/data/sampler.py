"""Which rows form which batch, as a pure function: of seed, data fingerprint, epoch and batch number, and of nothing else.

Nothing is drawn in sequence, so seeking to any batch costs no more than the next one does, and neither restarts nor
workers nor ranks can change the order. A shuffle is a permutation that is evaluated only where it is needed. The order
that a (seed, fingerprint, epoch) stands for is a promise to interrupted runs: changing a constant here breaks their resume.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence

import numpy as np

from unpad.errors import ArgumentError

BLOCK = 1024
"""Places of a shuffle that are evaluated together."""
MEGA = 50
"""Batches whose rows are sorted by length together: enough to even out lengths, few enough to stay random."""
LEAST_MEGAS = 4
"""Small data sets use smaller mega-batches, so that an epoch has about this many and batches differ between epochs."""

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_A, _MIX_B = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)


def mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea and Flood, 2014): every input bit changes every output bit half the time."""
    x = (x ^ (x >> _30)) * _MIX_A
    x = (x ^ (x >> _27)) * _MIX_B
    return x ^ (x >> _31)


def mixed(*numbers: int) -> int:
    """A seed (0..2**63 - 1) that is a function of whole numbers, of 64 bits each."""
    state = np.zeros(1, np.uint64)
    for number in numbers:
        state = mix(state + np.array([number & 0xFFFFFFFFFFFFFFFF], np.uint64) + GOLDEN)
    return int(state[0] >> np.uint64(1))


def key_of(name: str) -> int:
    """64 bits that a text stands for: always the same ones."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def permute(places: np.ndarray, size: int, key: int) -> np.ndarray:
    """The elements (int64) at `places` of a pseudo-random permutation of 0..size-1, without computing the others.

    A balanced Feistel network permutes the smallest domain of an even number of bits that holds `size`; values outside
    0..size-1 are sent through it again until they fall inside (cycle walking: at most 4 passes per value on average, as
    the domain is less than 4 times too large). The low 64 bits of `key` count. Raises IndexError for places outside.
    """
    assert 0 < size <= 1 << 62, f"a permutation of {size} elements"
    if places.size and (places.min() < 0 or places.max() >= size):
        raise IndexError(f"position outside 0..{size - 1}")
    half = max(1, -(-(size - 1).bit_length() // 2))
    # Eight rounds pass chi-square tests on single positions and pairs at every size; tiny halves get a margin.
    rounds = 12 if half <= 3 else 8
    seed = np.array([key & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64)
    keys = mix(mix(seed) + np.arange(1, rounds + 1, dtype=np.uint64) * GOLDEN)
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)

    values = places.astype(np.uint64)
    outside = np.arange(len(values))
    while len(outside):
        left, right = values[outside] >> bits, values[outside] & mask
        for one in keys:
            left, right = right, left ^ (mix(right + one) & mask)
        values[outside] = (left << bits) | right
        outside = outside[values[outside] >= np.uint64(size)]
    return values.astype(np.int64)


class BatchSampler:
    """The batches of every epoch over `size` rows: `batch(epoch, k)` gives the row numbers of batch k.

    - By count (`batch_size` rows each): O(batch) work for any (epoch, k); nothing is stored.
    - By count with `group_by_length`: shuffled rows are cut into mega-batches of up to 50 batches, each mega-batch is
      sorted by length, cut, and its batches shuffled. Work is O(mega-batch), whatever the size of the data.
    - By tokens (`max_tokens`): a batch holds as many rows of similar length as fit in that many tokens, at least one, and
      at most `batch_size` where that is given. The plan of an epoch takes O(size) once and is kept for the last epoch
      asked for; then every batch is O(1). `batches(epoch)` differs a little between epochs.

    `seed` and `fingerprint` (of the data) choose the order. `shuffle=False` gives rows in their own order, or by falling
    length when lengths are grouped. Every row occurs exactly once per epoch; `drop_last` leaves out the rows (other ones in each
    shuffled epoch) that do not fill a batch. `lengths` [size] are tokens per row. Raises ArgumentError for arguments out of range.
    """

    def __init__(
        self,
        size: int,
        batch_size: int | None,
        *,
        seed: int,
        fingerprint: str = "",
        shuffle: bool = True,
        drop_last: bool = False,
        lengths: np.ndarray | Sequence[int] | None = None,
        group_by_length: bool = False,
        max_tokens: int | None = None,
    ) -> None:
        _check_counts(batch_size=batch_size, max_tokens=max_tokens)
        if size < 1:
            raise ArgumentError(f"size={size}: a sampler needs at least one row")
        if batch_size is None and max_tokens is None:
            raise ArgumentError("batch_size=None needs max_tokens=: say how many rows or how many tokens a batch has")
        if max_tokens is not None and drop_last:
            raise ArgumentError("drop_last=True has no meaning with max_tokens=: no batch is too short; leave it out")
        if drop_last and batch_size is not None and size < batch_size:
            raise ArgumentError(
                f"drop_last=True leaves no batch: {size} rows, batch_size={batch_size}; take a smaller one"
            )
        if (group_by_length or max_tokens is not None) and lengths is None:
            raise ArgumentError("group_by_length=True and max_tokens= need lengths=, the number of tokens of each row")
        if lengths is not None and len(lengths) != size:
            raise ArgumentError(f"lengths has {len(lengths)} entries for {size} rows: give one per row")
        self.size, self.batch_size, self.max_tokens = size, batch_size, max_tokens
        self.seed, self.fingerprint, self.shuffle = seed, fingerprint, shuffle
        self.group_by_length = group_by_length
        self.lengths = np.zeros(0, np.int64) if lengths is None else np.asarray(lengths, dtype=np.int64)
        self._by_count = 0 if batch_size is None else size // batch_size if drop_last else -(-size // batch_size)
        self._falling = np.argsort(-self.lengths, kind="stable") if group_by_length and not shuffle else None
        self._block = (-1, 0, np.empty(0, np.int64))  # epoch, place of the first row, rows
        self._kept: tuple[tuple[int, int], list[np.ndarray]] = ((-1, -1), [])
        self._counts: dict[int, int] = {}

    def batches(self, epoch: int = 0) -> int:
        """Number of batches in an epoch."""
        if self.max_tokens is None:
            return self._by_count
        epoch = epoch if self.shuffle else 0
        if epoch not in self._counts:
            self._counts[epoch] = len(self._plan(epoch))
        return self._counts[epoch]

    def batch(self, epoch: int, k: int) -> np.ndarray:
        """[rows] int64: the rows of batch k of an epoch. Raises IndexError when the epoch has no batch k."""
        if not 0 <= k < self.batches(epoch):
            raise IndexError(f"epoch {epoch} has batches 0..{self.batches(epoch) - 1}, not {k}")
        if self.max_tokens is not None:
            return self._plan(epoch if self.shuffle else 0)[k]
        if not (self.group_by_length and self.shuffle):
            return self._rows(epoch, k, k + 1)
        mega, place = divmod(k, _mega_batches(self._by_count))
        return self._plan(epoch, mega)[place]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[np.ndarray]:
        """The batches of an epoch in order, from batch `start` on."""
        for k in range(start, self.batches(epoch)):
            yield self.batch(epoch, k)

    def _shuffled(self, places: np.ndarray, size: int, epoch: int, purpose: str) -> np.ndarray:
        return permute(places, size, key_of(f"{self.seed}|{self.fingerprint}|{epoch}|{purpose}"))

    def _rows(self, epoch: int, first: int, last: int) -> np.ndarray:
        """The rows of batches first..last-1 in the epoch's order; `drop_last` cuts that order, not the shortest rows."""
        assert self.batch_size is not None
        first, last = first * self.batch_size, min(min(last, self._by_count) * self.batch_size, self.size)
        if not self.shuffle:
            return np.arange(first, last) if self._falling is None else self._falling[first:last]
        done, start, block = self._block
        if epoch != done or not start <= first <= last <= start + len(block):
            places = np.arange(first, max(last, min(first + BLOCK, self.size)))
            start, block = first, self._shuffled(places, self.size, epoch, "rows")
            self._block = (epoch, start, block)
        return block[first - start : last - start]

    def _plan(self, epoch: int, mega: int = 0) -> list[np.ndarray]:
        """All batches of an epoch by token budget, or those of one mega-batch, in their order; the last ones asked for are kept."""
        if self._kept[0] != (epoch, mega):
            if self.max_tokens is None:
                span = _mega_batches(self._by_count)
                plan = self._similar(self._rows(epoch, mega * span, (mega + 1) * span))
                purpose = f"mega {mega}"
            else:
                plan = self._token_plan(epoch)
                purpose = "token batches"
            if self.shuffle:
                plan = [plan[i] for i in self._shuffled(np.arange(len(plan)), len(plan), epoch, purpose)]
            self._kept = ((epoch, mega), plan)
        return self._kept[1]

    def _token_plan(self, epoch: int) -> list[np.ndarray]:
        assert self.max_tokens is not None
        rows = np.arange(self.size)
        if not self.shuffle:
            return self._similar(rows)
        rows = self._shuffled(rows, self.size, epoch, "rows")
        # About as many rows as MEGA batches take, so that each mega-batch ends in one part-filled batch of many.
        batches = max(1, int(self.lengths.sum()) // self.max_tokens, self.size // (self.batch_size or self.size))
        span = max(1, -(-self.size * _mega_batches(batches) // batches))
        return [batch for first in range(0, self.size, span) for batch in self._similar(rows[first : first + span])]

    def _similar(self, rows: np.ndarray) -> list[np.ndarray]:
        """Some rows cut into batches of similar lengths."""
        lengths = self.lengths[rows]
        budget = self.max_tokens or max(1, int(lengths.sum()))
        return [rows[part] for part in token_budget_batches(lengths, budget, self.batch_size)]


def _mega_batches(batches: int) -> int:
    """Batches in a mega-batch."""
    return min(MEGA, max(2, batches // LEAST_MEGAS))


def _check_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ArgumentError(f"{name}={count} must be 1 or more")


def token_budget_batches(
    lengths: np.ndarray | Sequence[int], max_tokens: int, max_rows: int | None = None
) -> list[np.ndarray]:
    """Cut rows into batches of at most `max_tokens` tokens (and `max_rows` rows), similar lengths together.

    `lengths` [N] are tokens per row. Gives int64 arrays of row numbers by falling length, equal lengths in their own order;
    every row is in exactly one. A row longer than the budget is a batch of its own. Sorting is O(N log N), the cuts
    O(batches log N).
    """
    _check_counts(max_tokens=max_tokens, max_rows=max_rows)
    tokens = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-tokens, kind="stable")
    ends = np.cumsum(tokens[order])
    out, first, used = [], 0, 0
    while first < len(order):
        last = max(first + 1, int(np.searchsorted(ends, used + max_tokens, side="right")))
        last = min(last, first + (max_rows or last))
        out.append(order[first:last])
        first, used = last, int(ends[last - 1])
    return out


def deal(lengths: np.ndarray | Sequence[int], piles: int) -> list[np.ndarray]:
    """Places 0..N-1 in `piles` parts of nearly equal numbers of rows and of tokens, as int64 arrays.

    `lengths` [N] are tokens per row. Rows are dealt by falling length, forth and back; the rows of a last, part-filled round go
    to the piles with the fewest tokens; then rich and poor piles swap rows. Numbers of rows differ by at most 1, of tokens by at most the
    longest row; a pile is empty where there are fewer rows than piles.
    """
    tokens = np.append(np.asarray(lengths, dtype=np.int64), 0)
    return _cut(_dealt(tokens, np.arange(len(tokens) - 1)[None], piles), len(tokens) - 1)


def shares(
    lengths: np.ndarray | Sequence[int], ranks: int, max_rows: int | None = None, max_tokens: int | None = None
) -> list[list[np.ndarray]]:
    """How `ranks` processes compute one global batch: for each its micro-batches, as places 0..N-1 of the rows.

    `lengths` [N] are tokens per row. Every row is in exactly one micro-batch, and every rank has as many of them as the others (sharded
    models gather their weights together in each); some are empty where there are too few rows. They are as few as let each have at most
    `max_rows` rows, and on average at most `max_tokens` tokens: one may have more, by no more than the longest row. A row that is longer
    than that counts as a micro-batch.
    """
    tokens = np.append(np.asarray(lengths, dtype=np.int64), 0)
    rows, needed = len(tokens) - 1, 1
    if max_rows is not None:
        needed = max(needed, -(-rows // (ranks * max_rows)))
    if max_tokens is not None:
        needed = max(needed, -(-int(np.minimum(tokens, max_tokens).sum()) // (ranks * max_tokens)))
    micros = _cut(_dealt(tokens, _dealt(tokens, np.arange(rows)[None], ranks), needed), rows)
    return [micros[first : first + needed] for first in range(0, len(micros), needed)]


SWAPS, COMPARED, COLUMNS = 8, 1 << 16, 64
"""Rounds of swaps between piles, how many swaps are compared in one, and how many rows of a pile: together about two milliseconds."""


def _dealt(tokens: np.ndarray, sets: np.ndarray, piles: int) -> np.ndarray:
    """Each row of `sets` [G, N] dealt as `deal` does it: [G * piles, R]. All are places in `tokens`, whose last one stands for no row."""
    held = tokens[sets]
    longest = int(held.max(initial=0))
    # 16 bits are sorted five times as fast
    missing = (longest - held).astype(np.uint16 if longest < 1 << 16 else np.int64)
    order = np.take_along_axis(sets, np.argsort(missing, axis=1, kind="stable"), axis=1)
    rounds, left = divmod(order.shape[1], piles)
    full = order[:, : rounds * piles].reshape(len(sets), rounds, piles).copy()
    full[:, 1::2] = full[:, 1::2, ::-1]
    places = full.swapaxes(1, 2).reshape(len(sets) * piles, rounds)
    sums = tokens[places].sum(1)
    if left:
        last = np.full((len(sets), piles), len(tokens) - 1)
        poorest = np.argsort(sums.reshape(last.shape), axis=1, kind="stable")[:, :left]
        np.put_along_axis(last, poorest, order[:, rounds * piles :], axis=1)
        places = np.column_stack([places, last.ravel()])
        sums += tokens[last.ravel()]
    some = min(rounds, COLUMNS, math.isqrt(COMPARED // len(sets)))
    columns = np.unique(np.linspace(0, rounds - 1, some).astype(np.int64))
    pairs = min(piles // 2, COMPARED // max(1, len(sets) * len(columns) ** 2))
    of_set = np.arange(len(sets))[:, None] * piles
    # the richest pile of a set and its poorest, the next and the next, and so on: each pair swaps the rows that bring it closest
    for _ in range(SWAPS if len(columns) and pairs else 0):
        rising = np.argsort(sums.reshape(len(sets), piles), axis=1, kind="stable") + of_set
        poor, rich = rising[:, :pairs].ravel(), rising[:, ::-1][:, :pairs].ravel()
        gap = sums[rich] - sums[poor]
        moved = tokens[places[rich][:, columns]][:, :, None] - tokens[places[poor][:, columns]][:, None]
        after = np.abs(gap[:, None, None] - 2 * moved).reshape(len(gap), -1)
        best = after.argmin(1)
        better = np.flatnonzero(after[np.arange(len(gap)), best] < gap)
        if not len(better):
            break
        give, take = rich[better], poor[better]
        i, j = np.divmod(best[better], len(columns))
        change = moved[better, i, j]
        i, j = columns[i], columns[j]
        places[give, i], places[take, j] = places[take, j], places[give, i]
        sums[give] -= change
        sums[take] += change
    return places


def _cut(places: np.ndarray, rows: int) -> list[np.ndarray]:
    """The rows of a table of places as arrays of their own, without the places that are `rows` or more."""
    real = places < rows
    flat, ends = places[real], real.sum(1).cumsum().tolist()
    return [flat[first:last] for first, last in zip([0, *ends[:-1]], ends, strict=True)]
