"""A batch without padding: the tokens of all sequences in one flat tensor, and where each sequence begins.

Shape names: T packed tokens, B sequences, S padded length. `PackedBatch` is built once, on the CPU, by a collator (or by
`from_padded` for callers who bring Hugging Face tensors), and everything below attention works on `[T, ...]`.
Sequences stand in the batch by falling length, so that attention can treat neighbours of similar length together
without moving them; `order` tells which sequence of the caller each one is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, groupby, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from unpad.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

IGNORED_LABEL = -100
"""Label that no loss counts (the standard value of the field)."""

# What one more bucket costs, in multiples of one padded score of one head pair; fitted on CPU (docs/performance.md).
BUCKET_COST = 12_000
TOKEN_COST = 60


@dataclass(frozen=True)
class Bucket:
    """Neighbouring sequences that attention computes together, padded to the longest of them inside attention only."""

    start: int
    """First packed token of the bucket."""
    tokens: int
    """Packed tokens in the bucket."""
    lengths: tuple[int, ...]
    """Tokens of each of its sequences, falling."""


def plan_buckets(lengths: Sequence[int]) -> list[Bucket]:
    """Split falling `lengths` into buckets of least cost.

    A bucket of n sequences costs `BUCKET_COST + n (TOKEN_COST S + S^2)` with S its longest: too few buckets compute on
    padding, too many pay for kernel launches. Dynamic programme over cut points; cuts are only useful where the length
    changes, so its size is the number of distinct lengths, not of sequences.
    """
    runs = [tuple(run) for _, run in groupby(lengths)]
    best, cut = [0.0] + [float("inf")] * len(runs), [0] * (len(runs) + 1)
    for end in range(1, len(runs) + 1):
        members = 0
        for begin in range(end - 1, max(end - 66, -1), -1):  # farther apart, most would be padding
            members, longest = members + len(runs[begin]), runs[begin][0]
            cost = best[begin] + BUCKET_COST + members * longest * (TOKEN_COST + longest)
            if cost < best[end]:
                best[end], cut[end] = cost, begin
    bounds = [len(runs)]
    while bounds[-1]:
        bounds.append(cut[bounds[-1]])
    out, start = [], 0
    for begin, end in pairwise(reversed(bounds)):
        together = tuple(chain(*runs[begin:end]))
        out.append(Bucket(start, sum(together), together))
        start += sum(together)
    return out


@dataclass(frozen=True)
class PackedBatch:
    """B sequences without padding. Tensors live on one device; `lengths` and `order` stay on the host as integers."""

    input_ids: Tensor
    """[T] int64 or int32 token ids."""
    position_ids: Tensor
    """[T] int64: place of each token in its own sequence, from 0."""
    cu_seqlens: Tensor
    """[B + 1] int32: where each sequence begins in T; the last entry is T."""
    lengths: tuple[int, ...]
    """Tokens of each sequence, falling."""
    order: tuple[int, ...]
    """For each sequence of the batch, its number in the list that the caller gave."""
    token_type_ids: Tensor | None = None
    """[T] int64 or int32 segment of each token, or None: all 0."""
    labels: Tensor | None = None
    """Targets: in the order of this batch [B], [B, C] or [B, 2] (spans) per sequence or [T] per token; for multiple choice
    [B / choices] in the caller's order."""
    sample_ids: tuple[int, ...] = ()
    """Row of each sequence in its data set, where it comes from one."""
    choices: int = 1
    """Multiple choice: the caller's sequences `choices * k .. choices * (k + 1) - 1` are the answers to question k."""
    words: Tensor | None = None
    """[T] int64 number of the word that each token is of, -1 for special tokens; only where whole words are masked."""
    weights: Tensor | None = None
    """[T] fp32 by how much the loss of each token's label counts; None: 1."""
    asked: Tensor | None = None
    """[M] int64 tokens at which a vocabulary head is read; None: where labels are not -100, or everywhere without labels."""
    target: PackedBatch | None = None
    """Encoder-decoder models: the same B sequences as the decoder has them, by their own falling length (both `order`s name the
    caller's rows). The decoder reads its `labels` shifted right; without labels, or if it is `given`, its `input_ids`."""
    given: bool = False
    """Of a target: the decoder reads `input_ids` as they are, also where there are labels."""
    hidden: Tensor | None = None
    """The transformer's answer where it is known beforehand (`unpad.train.frozen`): [T, D], or [B, D] for heads that read one
    vector per sequence."""

    def __post_init__(self) -> None:
        assert list(self.lengths) == sorted(self.lengths, reverse=True), "sequences stand by falling length"

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        """T."""
        return sum(self.lengths)

    @cached_property
    def buckets(self) -> list[Bucket]:
        """The plan by which attention groups the sequences."""
        return plan_buckets(self.lengths)

    def to(self, device: Any, non_blocking: bool = False) -> PackedBatch:
        """The same batch on another device."""
        parts = {name: part for name in (*_TENSORS, "target") if (part := getattr(self, name)) is not None}
        return replace(self, **{name: part.to(device, non_blocking=non_blocking) for name, part in parts.items()})

    def take(self, rows: Sequence[int]) -> PackedBatch:
        """The caller's rows `rows` alone (for multiple choice: questions), numbered anew in this order."""
        import torch

        new = {row * self.choices + c: i * self.choices + c for i, row in enumerate(rows) for c in range(self.choices)}
        places = [place for place, row in enumerate(self.order) if row in new]
        ends = np.cumsum(self.lengths)
        tokens = np.concatenate([np.arange(ends[p] - self.lengths[p], ends[p]) for p in places])
        device = self.input_ids.device
        of_tokens, of_rows = (torch.from_numpy(np.asarray(i, np.int64)).to(device) for i in (tokens, places))
        numbered = torch.full((self.tokens,), -1, dtype=torch.int64, device=device)
        numbered[of_tokens] = torch.arange(len(tokens), device=device)

        def part(name: str) -> Tensor | None:
            values: Tensor | None = getattr(self, name)
            if values is None:
                return None
            if name == "labels" and self.choices > 1:
                return values[torch.tensor(rows, device=device)]
            if name == "asked":
                found = numbered[values]
                return found[found >= 0]
            return values.index_select(0, of_tokens if len(values) == self.tokens else of_rows)

        lengths = tuple(self.lengths[p] for p in places)
        return replace(
            self,
            **{name: part(name) for name in _TENSORS if name != "cu_seqlens"},  # type: ignore[arg-type]
            cu_seqlens=bounds(lengths).to(device),
            lengths=lengths,
            order=tuple(new[self.order[p]] for p in places),
            sample_ids=tuple(self.sample_ids[p] for p in places) if self.sample_ids else (),
            target=None if self.target is None else self.target.take(rows),
        )

    def restore(self, values: Tensor) -> Tensor:
        """Put per-sequence values [B, ...] back into the caller's order."""
        import torch

        if self.order == tuple(range(len(self))):
            return values
        back = torch.empty(len(self), dtype=torch.int64)
        back[torch.tensor(self.order)] = torch.arange(len(self))
        return values.index_select(0, back.to(values.device))

    def rows(self, values: Tensor) -> list[np.ndarray]:
        """Per-token values [T] as one array per sequence, in the caller's order, on the CPU."""
        parts = np.split(values.cpu().numpy(), np.cumsum(self.lengths)[:-1])
        return [part for _, part in sorted(zip(self.order, parts, strict=True), key=lambda pair: pair[0])]

    def pad(self, values: Tensor, fill: float = 0) -> Tensor:
        """Per-token values [T, ...] as [B, S, ...] in the caller's order; S is the longest sequence."""
        import torch

        longest = max(self.lengths, default=0)
        out = values.new_full((len(self) * longest, *values.shape[1:]), fill)
        slots = slot_index(self.lengths, longest, rows=self.order)
        out = out.index_copy(0, torch.from_numpy(slots).to(values.device), values)
        return out.view(len(self), longest, *values.shape[1:])


_TENSORS = (
    "input_ids", "position_ids", "cu_seqlens", "token_type_ids", "labels", "words", "weights", "asked", "hidden",
)  # fmt: skip


def bounds(lengths: Sequence[int] | np.ndarray) -> Tensor:
    """[B + 1] int32: where each of consecutive sequences begins, and where the last ends."""
    import torch

    return torch.from_numpy(np.cumsum([0, *lengths], dtype=np.int32))


def slot_index(lengths: Sequence[int], longest: int, rows: Sequence[int] | None = None) -> np.ndarray:
    """[T] int64: for each packed token its place in the flattened [B * longest] grid (row `rows[b]` for sequence b)."""
    lens = np.asarray(lengths, dtype=np.int64)
    starts = np.arange(len(lens), dtype=np.int64) if rows is None else np.asarray(rows, dtype=np.int64)
    return np.repeat(starts * longest, lens) + within(lens)


def within(lengths: np.ndarray) -> np.ndarray:
    """[T] int64: 0, 1, 2, ... inside each of the consecutive sequences of `lengths`."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) - np.repeat(ends - lengths, lengths)


def pack(
    input_ids: Sequence[np.ndarray],
    token_type_ids: Sequence[np.ndarray] | None = None,
    labels: np.ndarray | None = None,
    token_labels: Sequence[np.ndarray] | None = None,
    sample_ids: Sequence[int] | None = None,
    words: Sequence[np.ndarray] | None = None,
) -> PackedBatch:
    """Pack B rows of token ids (1-D integer arrays) into a batch, longest first.

    `labels` [B, ...] are per sequence; `token_labels` and `words` are B rows as long as their `input_ids`. At most one of
    `labels` and `token_labels`.
    """
    import torch

    lengths = [len(row) for row in input_ids]
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])  # stable: equal lengths keep the caller's order
    falling = tuple(lengths[i] for i in order)

    def flat(rows: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate([rows[i] for i in order]).astype(np.int64, copy=False))

    targets = None
    if labels is not None:
        targets = torch.from_numpy(np.ascontiguousarray(np.asarray(labels)[np.asarray(order)]))
    elif token_labels is not None:
        targets = flat(token_labels)
    return PackedBatch(
        input_ids=flat(input_ids),
        position_ids=torch.from_numpy(within(np.asarray(falling, dtype=np.int64))),
        cu_seqlens=bounds(falling),
        lengths=falling,
        order=tuple(order),
        token_type_ids=None if token_type_ids is None else flat(token_type_ids),
        labels=targets,
        sample_ids=() if sample_ids is None else tuple(int(sample_ids[i]) for i in order),
        words=None if words is None else flat(words),
    )


def from_padded(
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    token_type_ids: Tensor | None = None,
    position_ids: Tensor | None = None,
    labels: Tensor | None = None,
    token_labels: bool = False,
    pad_token_id: int | None = None,
) -> tuple[PackedBatch, Tensor]:
    """Pack Hugging Face tensors [B, S]; also gives the packed tokens' places in the flattened [B * S] grid.

    Padding may stand on either side (or anywhere): a token counts where its mask is not 0, and windows and biases by distance go by
    the tokens that count. Positions follow the Hugging Face rule for BERT: they count columns, padding included, unless
    `position_ids` [B, S] are given. With `pad_token_id` they follow the rule for RoBERTa: they count the tokens that have another
    id, and given ones begin at pad_token_id + 1. `labels` [B, ...] are per sequence, with `token_labels` [B, S] per token. A row
    without a single token keeps one (its first), as a mask of all zeros has no meaning for attention.
    """
    import torch

    given = {"attention_mask": attention_mask, "token_type_ids": token_type_ids, "position_ids": position_ids}
    _check_padded(input_ids, given, labels, token_labels)
    device, (rows, columns) = input_ids.device, input_ids.shape
    if attention_mask is None:
        kept = np.ones((rows, columns), dtype=bool)
    else:
        kept = attention_mask.detach().expand(rows, columns).to("cpu").numpy() != 0
        kept[~kept.any(axis=1), 0] = True
    lengths = kept.sum(axis=1)
    order = np.argsort(-lengths, kind="stable")
    column = np.broadcast_to(np.arange(columns), kept.shape)[order][kept[order]]
    row = np.repeat(order, lengths[order])
    slots = torch.from_numpy(row * columns + column)
    on_device = slots.to(device)

    def take(t: Tensor | None) -> Tensor | None:
        if t is None:
            return None
        return t.expand(rows, columns).reshape(rows * columns).index_select(0, on_device)

    if pad_token_id is not None:
        there = (input_ids != pad_token_id).long()
        position_ids = there.cumsum(1) * there - 1 if position_ids is None else position_ids - pad_token_id - 1
    positions = take(position_ids)
    if token_labels:
        labels = take(labels)
    elif labels is not None:
        labels = labels.index_select(0, torch.from_numpy(order).to(device))
    packed = PackedBatch(
        input_ids=take(input_ids),  # type: ignore[arg-type]
        position_ids=torch.from_numpy(np.ascontiguousarray(column)).to(device) if positions is None else positions,
        cu_seqlens=bounds(lengths[order]).to(device),
        lengths=tuple(lengths[order].tolist()),
        order=tuple(order.tolist()),
        token_type_ids=take(token_type_ids),
        labels=labels,
    )
    return packed, on_device


def _check_padded(input_ids: Tensor, given: Mapping[str, Any], labels: Any, token_labels: bool) -> None:
    """DataError where Hugging Face tensors do not fit `input_ids` [B, S]; `given` are those that have a value for each token."""
    if input_ids.is_floating_point():
        raise DataError(
            f"input_ids are {str(input_ids.dtype).removeprefix('torch.')}, token ids are whole numbers; pass what the tokenizer returned"
        )
    rows, columns = input_ids.shape
    for name, value in given.items():
        if value is not None and _shape(value) not in ([rows, columns], [1, columns]):  # one row may stand for all
            raise DataError(
                f"{name} is {_shape(value)}, input_ids are {[rows, columns]}; give tensors of the same shape (return_tensors='pt')"
            )
    if labels is not None and _shape(labels)[:1] != [rows]:
        raise DataError(
            f"labels are {_shape(labels)}, input_ids are {[rows, columns]}; give a tensor with one entry per row"
        )
    if token_labels and labels is not None and _shape(labels) != [rows, columns]:
        raise DataError(
            f"labels are {_shape(labels)}, input_ids are {[rows, columns]}; give one label per token (-100: none)"
        )


def _shape(value: Any) -> Any:
    """The shape of a tensor as a list, or what else it is."""
    import torch

    return list(value.shape) if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
