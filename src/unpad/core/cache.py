"""Keys and values of the tokens before, so that generation computes each token once; and the memory of models that read by segments.

R live rows, N heads, K heads of keys and values, H head width, B sources, V vocabulary. Tokens stand in one slab
[R, layers, 2, K, S, H] whose rows are filled to their own length; only attention over the slab meets what is not filled, linear
layers see the R new tokens alone. What an encoder has read is kept once per source, however many beams read it. A memory
[layers, M, B, X] has the last M tokens of each row, and zeros for those that never were.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unpad.batch import PackedBatch
from unpad.core.attention import Attention

ROOM = 8
"""Tokens by which the slab grows, a quarter of its length at least: reordering beams copies what is empty too, growing copies all."""


class Cache:
    """Made for prompts of known `lengths` [R] (the caller's order); filled by the first pass through the model."""

    def __init__(self, lengths: np.ndarray, layers: int, device: torch.device) -> None:
        self.lengths, self.layers, self.device = lengths.astype(np.int64), layers, device
        self.stepping = False
        self._slab: Tensor | None = None
        self._across: dict[int, Tensor] = {}
        self._hidden: Tensor | None = None  # [B, 1, 1, Sk] bool: padding of the sources
        self.source = np.arange(len(lengths))

    @property
    def longest(self) -> int:
        """Tokens of the longest row, the new one included."""
        return int(self.lengths.max()) + 1

    # ---- the first pass ----

    def store(self, qkv_TX: Tensor, batch: PackedBatch, layer: int, how: Attention) -> None:
        """Keep the keys and values of prompts."""
        K, H = how.kv_heads, how.head_width
        if self._slab is None:
            size = (len(self.lengths), self.layers, 2, K, self.longest - 1 + ROOM, H)
            self._slab = qkv_TX.new_zeros(size)
        kv = qkv_TX[: batch.tokens, how.heads * H :].view(-1, 2, K, H)
        rows = torch.from_numpy(np.repeat(np.asarray(batch.order), batch.lengths)).to(self.device)
        self._slab[:, layer].permute(0, 3, 1, 2, 4)[rows, batch.position_ids] = kv

    def store_across(self, kv_MX: Tensor, memory: PackedBatch, layer: int, how: Attention) -> None:
        """Keep the keys and values of the sources."""
        kv = memory.pad(kv_MX[: memory.tokens]).view(len(memory), max(memory.lengths), 2, how.kv_heads, -1)
        self._across[layer] = kv.permute(2, 0, 3, 1, 4).contiguous()
        if self._hidden is None and memory.lengths[0] != memory.lengths[-1]:
            lengths = torch.tensor(memory.lengths, device=self.device)
            ends = memory.restore(lengths)[:, None]
            self._hidden = (torch.arange(memory.lengths[0], device=self.device) >= ends)[:, None, None, :]

    # ---- one token more for each row ----

    def step(self, tokens_R: Tensor) -> PackedBatch:
        """The next token of each row as a batch; the cache makes room for them. Call `done` after the model."""
        assert self._slab is not None
        self.stepping = True
        if self.longest > self._slab.shape[4]:
            self._slab = F.pad(self._slab, (0, 0, 0, max(ROOM, self.longest // 4)))
        count = len(self.lengths)
        self._even = bool((self.lengths == self.lengths[0]).all())
        self._places = torch.from_numpy(self.lengths).to(self.device)
        self._rows = torch.arange(count, device=self.device)
        self._find_sources()
        return _single(tokens_R, self._places)

    def _find_sources(self) -> None:
        """How the rows of this step read their sources, the same in all layers: `_each` rows of a source together, or, where rows of
        a source stand apart or are not equally many, each by itself, from the sources `_apart`."""
        if not self._across:
            return
        count, sources, hidden = len(self.lengths), self._across[0].shape[1], self._hidden
        self._each, self._apart = count // sources, None
        if not np.array_equal(self.source, np.repeat(np.arange(sources), self._each)):
            self._each, self._apart = 1, torch.from_numpy(self.source).to(self.device)
            hidden = None if hidden is None else hidden.index_select(0, self._apart)
        self._readable = None if hidden is None else ~hidden

    def done(self) -> None:
        """The tokens of `step` are in."""
        self.lengths = self.lengths + 1

    def attend(self, qkv_RX: Tensor, layer: int, how: Attention, bias_NRS: Tensor | None) -> Tensor:
        """Attention of the new tokens over those of their rows, themselves included: [R, N H]. `bias_NRS` is added to the scores."""
        assert self._slab is not None
        count, longest, H = len(self.lengths), self.longest, how.head_width
        slab = self._slab[:, layer]
        kv = qkv_RX[:count, how.heads * H :].view(count, 2, how.kv_heads, H)
        if self._even:
            slab[:, :, :, longest - 1] = kv
        else:
            slab.permute(0, 3, 1, 2, 4)[self._rows, self._places] = kv
        k, v = slab[:, 0, :, :longest], slab[:, 1, :, :longest]
        q = qkv_RX[:count, : how.heads * H].reshape(count, how.heads, 1, H)
        mask = self._mask(how, bias_NRS, q.dtype)
        mixed = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, scale=how.scale, enable_gqa=how.heads != how.kv_heads
        )
        mixed = mixed.reshape(count, -1)
        return mixed if count == len(qkv_RX) else F.pad(mixed, (0, 0, 0, len(qkv_RX) - count))

    def _mask(self, how: Attention, bias_NRS: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        narrow = how.window is not None and how.window < self.longest - 1
        seen = None
        if not self._even or narrow:
            away = self._places[:, None] - torch.arange(self.longest, device=self.device)
            seen = away >= 0
            if narrow:
                seen &= away <= (how.window or 0)
            seen = seen[:, None, None, :]
        if bias_NRS is None:
            return seen
        bias = bias_NRS.transpose(0, 1)[:, :, None].to(dtype)  # [R, N, 1, S]
        return bias if seen is None else bias.masked_fill(~seen, -torch.inf)

    def attend_across(self, q_RX: Tensor, layer: int, how: Attention) -> Tensor:
        """Attention of the new tokens over their source: [R, N H]. Rows of one source that stand together are read at once."""
        count, (k, v) = len(self.lengths), self._across[layer]
        if self._apart is not None:
            k, v = k.index_select(0, self._apart), v.index_select(0, self._apart)
        q = q_RX[:count].view(-1, self._each, how.heads, how.head_width).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self._readable, scale=how.scale)
        mixed = mixed.transpose(1, 2).reshape(count, -1)
        return mixed if count == len(q_RX) else F.pad(mixed, (0, 0, 0, len(q_RX) - count))

    def keep(self, rows: np.ndarray) -> None:
        """The live rows become these: fewer, in another order, or several times."""
        if len(rows) == len(self.lengths) and np.array_equal(rows, np.arange(len(rows))):
            return
        assert self._slab is not None
        self._slab = self._slab.index_select(0, torch.from_numpy(rows).to(self.device))
        self.lengths, self.source = self.lengths[rows], self.source[rows]
        if not self._across:
            return
        left, self.source = np.unique(self.source, return_inverse=True)
        if len(left) < self._across[0].shape[1]:
            sources = torch.from_numpy(left).to(self.device)
            self._across = {layer: kv.index_select(1, sources) for layer, kv in self._across.items()}
            self._hidden = None if self._hidden is None else self._hidden.index_select(0, sources)


class Memory:
    """What a model with segment recurrence (Dai et al., 2019) has of the M tokens before a segment, for each layer [M, B, X] in the
    caller's order: the layer's input (X = D), or with `keys` the keys and values made of it (X = 2 N H), so that generation makes
    them once. None: nothing was before, which to such a model is zeros.
    """

    def __init__(self, length: int, before: Sequence[Tensor] | None = None, keys: bool = False) -> None:
        self.length, self.before, self.keys = length, before, keys
        self.after: list[Tensor] = []
        """What the next segment has of this one and those before, layer by layer."""
        self.stepping = False

    def read(self, layer: int, batch: PackedBatch) -> Tensor | None:
        """[B, M, X] in the order of the batch."""
        if self.before is None:
            return None
        order = torch.tensor(batch.order, device=self.before[layer].device)
        return self.before[layer].index_select(1, order).transpose(0, 1)

    @torch.no_grad()
    def store(self, values_TX: Tensor, before_BMX: Tensor | None, batch: PackedBatch) -> None:
        """Keep the last M of the values of each row, those before included (there [1, 1, X] may stand for all, None for zeros)."""
        if before_BMX is None:
            before_BMX = values_TX.new_zeros(1, 1, values_TX.shape[1])
        M, lengths = self.length, np.asarray(batch.lengths)
        rows, ends = np.arange(len(lengths)), np.cumsum(lengths)
        places = lengths[:, None] + np.arange(M)  # in the row, those before it counted
        many, each = before_BMX.shape[:2]
        old = (rows[:, None] % many) * each + places % each
        new = many * each + (ends - lengths)[:, None] + places - M
        index = np.empty((M, len(lengths)), dtype=np.int64)
        index[:, np.asarray(batch.order)] = np.where(places < M, old, new).T
        flat = before_BMX.reshape(many * each, -1).to(values_TX.dtype)
        both, where = torch.cat([flat, values_TX]), torch.from_numpy(index).to(values_TX.device)
        self.after.append(both.index_select(0, where.view(-1)).view(M, len(lengths), -1))

    # ---- generation, as with a `Cache` ----

    def step(self, tokens_R: Tensor) -> PackedBatch:
        """The next token of each row as a segment of its own. Call `done` after the model."""
        self.done()
        return _single(tokens_R, torch.zeros_like(tokens_R))

    def done(self) -> None:
        """The next segment has this one before it."""
        if self.after:
            self.before, self.after = self.after, []

    def keep(self, rows: np.ndarray) -> None:
        """The live rows become these: fewer, in another order, or several times."""
        self.done()
        assert self.before is not None
        self.before = [m.index_select(1, torch.from_numpy(rows).to(m.device)) for m in self.before]


def _single(tokens_R: Tensor, places_R: Tensor) -> PackedBatch:
    """One token of each row, at these places."""
    count = len(tokens_R)
    return PackedBatch(
        input_ids=tokens_R,
        position_ids=places_R,
        cu_seqlens=torch.arange(count + 1, dtype=torch.int32, device=tokens_R.device),
        lengths=(1,) * count,
        order=tuple(range(count)),
    )
