"""Attention over packed sequences: the only place that knows where sequences begin.

T packed tokens, D width, N heads, K heads of keys and values, G = N / K queries per such head, H head width; inside a bucket B
sequences padded to S tokens.

Two backends compute the same function; `choose_backend` picks one by what the device can do:
- `varlen`: CUDA flash attention over cu_seqlens (half precision, no attention dropout in its kernel). Not yet run on hardware.
- `bucketed`: neighbours of similar length together; the path of CPUs, and of GPUs without the kernel.

Tests hold `bucketed` to a float64 reference that goes one sequence after another.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unpad.batch import PackedBatch, bounds, slot_index, within
from unpad.core.noise import Noise

TILE = 128
"""Queries that look for keys together, where not all keys are seen."""


@dataclass(frozen=True)
class Attention:
    """What one layer of attention computes. A backend may refuse it."""

    heads: int
    """N."""
    head_width: int
    """H."""
    kv_heads: int
    """K: heads of keys and values, each read by N / K heads of queries (Ainslie et al., 2023)."""
    causal: bool = False
    """A token sees itself and those before it."""
    window: int | None = None
    """A token sees those at most so many places away; None: all."""
    scaled: bool = True
    """Scores are divided by the square root of H (not in T5)."""

    @property
    def scale(self) -> float:
        return 1 / math.sqrt(self.head_width) if self.scaled else 1.0

    def visible(self, first: int, last: int, longest: int) -> tuple[int, int]:
        """The places [from, to) of the keys that any query of the places [first, last) may see, of sequences of `longest` tokens."""
        back = 0 if self.window is None else max(first - self.window, 0)
        ahead = last if self.causal else longest
        return back, ahead if self.window is None else min(ahead, last + self.window)

    def hides(self, distance: Tensor) -> Tensor:
        """bool: which pairs do not see each other, by the place of the query minus that of the key."""
        hidden = distance < 0 if self.causal else torch.zeros_like(distance, dtype=torch.bool)
        return hidden if self.window is None else hidden | (distance.abs() > self.window)


def choose_backend(device: torch.device, dtype: torch.dtype, p: float = 0.0, refused: bool = False) -> str:
    """The fastest backend that computes exactly what is asked: attention dropout p, or what it has `refused`, rule the flash
    kernel out."""
    fits = device.type == "cuda" and dtype in (torch.float16, torch.bfloat16) and p == 0 and not refused
    return "varlen" if fits and _has_varlen(device) else "bucketed"


def _has_varlen(device: torch.device) -> bool:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    recent = "enable_gqa" in inspect.signature(varlen_attn).parameters  # from PyTorch 2.12 on
    return recent and torch.cuda.get_device_capability(device) >= (8, 0)


def attend(
    qkv_TX: Tensor,
    batch: PackedBatch,
    how: Attention,
    p: float = 0.0,
    noise: Noise | None = None,
    bias_NSS: Tensor | None = None,
    kv_MX: Tensor | None = None,
    memory: PackedBatch | None = None,
) -> Tensor:
    """Softmax attention of every token over the tokens of its own sequence, or with `memory` over those of another.

    `qkv_TX` [T, (N + 2 K) H]: queries, keys and values side by side; with `memory`, a batch of the same rows of the caller, queries
    [T, N H] alone, and its keys and values `kv_MX` [M, 2 K H]. `p` is the dropout probability of the attention weights (used when
    `noise` is given). `bias_NSS` is added to the scores, by place of query and key. Returns [T, N H] in the dtype of `qkv_TX`.
    """
    p = p if noise is not None else 0.0
    if choose_backend(qkv_TX.device, qkv_TX.dtype, p, bias_NSS is not None) == "varlen":
        return _varlen(qkv_TX, kv_MX, batch, memory, how)
    pairs = pairs_of(batch, qkv_TX.device, how, memory)
    wanted = any(t is not None and t.requires_grad for t in (qkv_TX, kv_MX, bias_NSS))
    if p > 0 or (torch.is_grad_enabled() and wanted):
        with torch.autocast(qkv_TX.device.type, enabled=False):  # it chooses its own dtype
            return _BucketedAttention.apply(qkv_TX, kv_MX, bias_NSS, batch, memory, pairs, how, p, noise)
    return _bucketed_inference(qkv_TX, kv_MX, bias_NSS, batch, pairs, how)


def _split(qkv_TX: Tensor, kv_MX: Tensor | None, how: Attention) -> tuple[Tensor, Tensor]:
    """Queries [T, N H], and keys with values [M, 2 K H]."""
    width = how.heads * how.head_width
    return (qkv_TX[:, :width], qkv_TX[:, width:]) if kv_MX is None else (qkv_TX, kv_MX)


def _varlen(qkv: Tensor, kv: Tensor | None, batch: PackedBatch, memory: PackedBatch | None, how: Attention) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    q_rows, kv_rows = _split(qkv, kv, how)
    ends, longest = batch.cu_seqlens, batch.lengths[0]
    if memory is not None:  # its sequences in the order of the queries
        tokens, lengths = memory_tokens(batch.order, memory)
        kv_rows = kv_rows.index_select(0, torch.from_numpy(tokens).to(qkv.device))
        ends, longest = bounds(lengths).to(qkv.device), memory.lengths[0]
    q = q_rows.view(q_rows.shape[0], how.heads, -1)
    k, v = kv_rows.reshape(kv_rows.shape[0], 2, how.kv_heads, -1).unbind(1)
    back = -1 if how.window is None else how.window
    mixed = varlen_attn(
        q, k, v, batch.cu_seqlens, ends, batch.lengths[0], longest,
        scale=how.scale, window_size=(back, 0 if how.causal else back), enable_gqa=how.heads != how.kv_heads,
    )  # fmt: skip
    assert isinstance(mixed, Tensor)
    return mixed.reshape(q_rows.shape[0], -1)


def rotary_table(position_ids_T: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine, fp32 [T, H / 2] each, of position * frequency: rotary positions (Su et al., 2021)."""
    angles = position_ids_T[:, None].float() * frequencies.to(position_ids_T.device)
    return angles.cos(), angles.sin()


class Rotation(torch.autograd.Function):
    """Queries and keys turned by the angles of their positions, which `rotary_table` gives. The gradient is turned back."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, how: Attention) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.how = how
        return _turned(qkv, cos, sin, how)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(grads[0], cos, -sin, ctx.how), None, None, None


def _turned(qkv: Tensor, cos: Tensor, sin: Tensor, how: Attention) -> Tensor:
    """The first and second half of each query and key are the two coordinates of a rotation."""
    out = qkv.clone(memory_format=torch.contiguous_format)
    tokens, turned = cos.shape[0], how.heads + how.kv_heads  # rows after these belong to no sequence
    shape = (tokens, turned + how.kv_heads, 2, -1)
    to = out[:tokens].view(shape)[:, :turned]
    x, y = qkv[:tokens].reshape(shape)[:, :turned].unbind(2)
    cos, sin = cos[:, None], sin[:, None]
    to[..., 0, :] = x * cos - y * sin
    to[..., 1, :] = y * cos + x * sin
    return out


def distances(length: int, device: torch.device) -> Tensor:
    """[S, S] int64: place of the query minus place of the key."""
    places = torch.arange(length, device=device)
    return places[:, None] - places


@dataclass(frozen=True)
class Grid:
    """Packed rows as attention computes them: a grid of B sequences of S tokens."""

    rows: slice | Tensor
    """The packed tokens."""
    size: int
    """B."""
    longest: int
    """S."""
    slots: Tensor | None
    """[tokens] int64 places in the flattened grid [B S]; None: all sequences are equally long, the grid is a plain view."""

    def read(self, values: Tensor, parts: int, heads: int, dtype: torch.dtype | None = None) -> Tensor:
        """Packed rows [T, parts N H] as [parts, B, N, S, H], padding 0; with `dtype` a contiguous copy in it."""
        rows = values[self.rows] if isinstance(self.rows, slice) else values.index_select(0, self.rows)
        if self.slots is not None:
            grid = rows.new_zeros(self.size * self.longest, rows.shape[1])
            rows = grid.index_copy_(0, self.slots, rows)
        grid = rows.view(self.size, self.longest, parts, heads, -1).permute(2, 0, 3, 1, 4)
        return grid if dtype is None else torch.empty(grid.shape, dtype=dtype, device=grid.device).copy_(grid)

    def rows_of(self, grid: Tensor) -> Tensor:
        """Packed rows [tokens, N H] of a grid [B, N, S, H]."""
        rows = grid.transpose(1, 2).reshape(self.size * self.longest, -1)
        return rows if self.slots is None else rows.index_select(0, self.slots)

    def write(self, out: Tensor, grid: Tensor) -> None:
        """The inverse of `read`: [parts, B, N, S, H] into their rows of `out` [T, parts N H]."""
        grid = grid.permute(1, 3, 0, 2, 4)
        if self.slots is None and isinstance(self.rows, slice):
            out[self.rows].view(grid.shape).copy_(grid)
            return
        flat = grid.new_empty(grid.shape, dtype=out.dtype).copy_(grid).view(self.size * self.longest, -1)
        if isinstance(self.rows, slice) and self.slots is not None and out.is_contiguous():
            torch.index_select(flat, 0, self.slots, out=out[self.rows])
        else:
            out[self.rows] = flat if self.slots is None else flat.index_select(0, self.slots)


@dataclass(frozen=True)
class Tile:
    """Queries of a bucket that stand together, and the keys that any of them sees."""

    queries: slice
    """Their places, q of them."""
    keys: slice
    """The places of the keys, k of them."""
    masked: Tensor | None
    """bool, broadcasts to [B, N, q, k]; True: a key that the query does not see. None: it sees all."""


@dataclass(frozen=True)
class Pair:
    """A bucket of queries and the keys they meet."""

    queries: Grid
    keys: Grid
    lengths: tuple[int, ...]
    """Keys of each sequence."""
    how: Attention
    device: torch.device

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """Together all queries. One, unless queries see only keys of their neighbourhood or before them."""
        return tuple(_tiles(self))


def pairs_of(batch: PackedBatch, device: torch.device, how: Attention, memory: PackedBatch | None = None) -> list[Pair]:
    """The buckets of the batch as attention computes them, made once per batch, kind of attention, and shape of the memory."""
    cached = batch.__dict__.setdefault("_pairs", {})
    kind = (how.causal, how.window, None if memory is None else (memory.lengths, memory.order))
    if kind not in cached:
        cached[kind] = list(_pairs(batch, device, how, memory))
    return cached[kind]


def _pairs(batch: PackedBatch, device: torch.device, how: Attention, memory: PackedBatch | None) -> Iterator[Pair]:
    row = 0
    for bucket in batch.buckets:
        queries = _grid(slice(bucket.start, bucket.start + bucket.tokens), bucket.lengths, device)
        keys, lengths, seen = queries, bucket.lengths, how
        if memory is not None:  # all of another sequence is seen
            tokens, lengths = memory_tokens(batch.order[row : row + queries.size], memory)
            keys, seen = (
                _grid(torch.from_numpy(tokens).to(device), lengths, device),
                replace(how, causal=False, window=None),
            )
            row += queries.size
        yield Pair(queries, keys, lengths, seen, device)


def _grid(rows: slice | Tensor, lengths: tuple[int, ...], device: torch.device) -> Grid:
    longest, even = max(lengths), len(set(lengths)) == 1
    slots = None if even else torch.from_numpy(slot_index(lengths, longest)).to(device)
    return Grid(rows, len(lengths), longest, slots)


def _tiles(pair: Pair) -> Iterator[Tile]:
    how, device, longest = pair.how, pair.device, pair.keys.longest
    padding = None
    if pair.keys.slots is not None and not how.causal:  # it comes last: causality hides it
        ends = torch.tensor(pair.lengths, device=device)
        padding = (torch.arange(longest, device=device) >= ends[:, None])[:, None, None, :]
    if not how.causal and (how.window is None or how.window >= longest - 1):
        yield Tile(slice(0, pair.queries.longest), slice(0, longest), padding)
        return
    places = torch.arange(longest, device=device)
    # a GPU would rather have few large products
    size = TILE if device.type == "cpu" or how.window is not None else longest
    for first in range(0, longest, size):
        last = min(first + size, longest)
        queries, keys = slice(first, last), slice(*how.visible(first, last, longest))
        distance = places[queries, None] - places[keys]
        hidden = how.hides(distance)[None, None]
        if padding is not None:
            # it sees itself: the softmax of a row without keys would be NaN, and reach the gradients of the others
            hidden = (padding[..., keys] | hidden) & (distance != 0)
        yield Tile(queries, keys, hidden)


def memory_tokens(order: Sequence[int] | np.ndarray, memory: PackedBatch) -> tuple[np.ndarray, tuple[int, ...]]:
    """Tokens [M] of the rows `order` of the caller in `memory`, row after row, and how many each has."""
    ends = np.cumsum(memory.lengths)
    place = np.empty(len(memory), dtype=np.int64)
    place[np.asarray(memory.order)] = np.arange(len(memory))
    rows = place[np.asarray(order)]
    lengths = np.asarray(memory.lengths)[rows]
    return np.repeat(ends[rows] - lengths, lengths) + within(lengths), tuple(lengths.tolist())


def _bucketed_inference(
    qkv: Tensor, kv: Tensor | None, bias: Tensor | None, batch: PackedBatch, pairs: list[Pair], how: Attention
) -> Tensor:
    """Without gradients and dropout: fused attention per bucket, straight on strided views."""
    q_rows, kv_rows = _split(qkv, kv, how)
    out = _rows_for(batch, qkv, q_rows.shape[1])
    plain = how.causal and how.window is None and bias is None and kv is None
    fused = partial(F.scaled_dot_product_attention, scale=how.scale, enable_gqa=how.heads != how.kv_heads)
    for pair in pairs:
        q = pair.queries.read(q_rows, 1, how.heads)[0]
        k, v = pair.keys.read(kv_rows, 2, how.kv_heads)
        if plain:  # the kernel leaves out by itself what nobody sees
            pair.queries.write(out, fused(q, k, v, is_causal=True)[None])
            continue
        mixed = []
        for tile in pair.tiles:
            mask = None if tile.masked is None else ~tile.masked
            if bias is not None:
                mask = bias[None, :, tile.queries, tile.keys].to(q.dtype)
                mask = mask if tile.masked is None else mask.masked_fill(tile.masked, -torch.inf)
            mixed.append(fused(q[:, :, tile.queries], k[:, :, tile.keys], v[:, :, tile.keys], attn_mask=mask))
        pair.queries.write(out, (mixed[0] if len(mixed) == 1 else torch.cat(mixed, dim=2))[None])
    return out


def _rows_for(batch: PackedBatch, like: Tensor, width: int) -> Tensor:
    """An empty [rows, width] for results per token; rows that belong to no sequence are 0."""
    out = like.new_empty(like.shape[0], width)
    if like.shape[0] > batch.tokens:
        out[batch.tokens :] = 0
    return out


def working_dtype(qkv: Tensor) -> torch.dtype:
    """fp32 or more on CPUs: the softmax of bf16 is three times slower there, and each shape of a bf16 product is compiled anew."""
    return torch.promote_types(qkv.dtype, torch.float32) if qkv.device.type == "cpu" else qkv.dtype


def _queries_of(grid: Tensor, queries: slice, longest: int) -> Tensor:
    """The places `queries` of [B K, G S, H] queries, as [B K, G q, H]."""
    if queries.stop - queries.start == longest:
        return grid
    return grid.unflatten(1, (-1, longest))[:, :, queries].flatten(1, 2)


def _multiply_into(out: Tensor, left: Tensor, right: Tensor, queries: slice, longest: int) -> None:
    """Write the products [B K, G q, H] of `left` and `right` to the places `queries` of `out` [B K, G S, H]."""
    if queries.stop - queries.start == longest:
        torch.bmm(left, right, out=out)
        return
    to = out.unflatten(1, (-1, longest))[:, :, queries]
    to.copy_(torch.bmm(left, right).view(to.shape))


def _add_product(out: Tensor, left: Tensor, right: Tensor, only: bool) -> None:
    """Add the products of `left` and `right` to `out`; with `only`, write them, whatever stands there."""
    if only:
        torch.bmm(left, right, out=out)
    else:
        out.baddbmm_(left, right)


class _BucketedAttention(torch.autograd.Function):
    """Attention with dropout and its gradient, written out in batched products.

    PyTorch's fused CPU kernel has no dropout, and its backward pass is slower at short lengths than the five products
    below. Weights are kept between the passes. Queries that share a head of keys stand in one grid [B K, G Sq, H]; where each has
    its own, one contiguous copy per bucket brings q, k, v into [3, B N, S, H].
    """

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, kv: Tensor | None, bias: Tensor | None, batch: PackedBatch, memory: PackedBatch | None,
        pairs: list[Pair], how: Attention, p: float, noise: Noise | None,
    ) -> Tensor:  # fmt: skip
        N, K, work = how.heads, how.kv_heads, working_dtype(qkv)
        q_rows, kv_rows = _split(qkv, kv, how)
        out = _rows_for(batch, qkv, q_rows.shape[1])
        saved: list[Tensor | None] = []
        for pair in pairs:
            size, longest = pair.queries.size, pair.queries.longest
            if kv is None and N == K:
                q, k, v = pair.queries.read(qkv, 3, N, work).view(3, size * N, longest, -1)
            else:
                q = pair.queries.read(q_rows, 1, N, work).view(size * K, N // K * longest, -1)
                k, v = pair.keys.read(kv_rows, 2, K, work).view(2, size * K, pair.keys.longest, -1)
            saved += [q.mul_(how.scale), k, v]
            mixed = torch.empty_like(q)
            for tile in pair.tiles:
                keys, values = k[:, tile.keys], v[:, tile.keys]
                scores = torch.bmm(_queries_of(q, tile.queries, longest), keys.transpose(1, 2))
                by_head = scores.view(size, N, -1, keys.shape[1])
                if bias is not None:
                    by_head.add_(bias[:, tile.queries, tile.keys])
                if tile.masked is not None:
                    by_head.masked_fill_(tile.masked, -torch.inf)
                weights = torch.softmax(scores, dim=-1)
                mask = noise.mask(weights.shape, p, weights) if noise is not None and p > 0 else None
                _multiply_into(mixed, weights if mask is None else weights * mask, values, tile.queries, longest)
                saved += [weights, mask]
            pair.queries.write(out, mixed.view(1, size, N, longest, -1))
        ctx.save_for_backward(*saved)
        ctx.batch, ctx.pairs, ctx.how = batch, pairs, how
        ctx.shapes = (qkv.shape, None if kv is None else kv.shape, None if bias is None else bias.shape)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        d_out, saved, how = grads[0], ctx.saved_tensors, ctx.how
        N, K = how.heads, how.kv_heads
        (_, width), kv_shape, bias_shape = ctx.shapes
        d_qkv = _rows_for(ctx.batch, d_out, width)
        d_kv = None if kv_shape is None else d_out.new_zeros(kv_shape)
        d_bias = None if bias_shape is None else d_out.new_zeros(bias_shape, dtype=torch.float32)
        dq_rows, dkv_rows = _split(d_qkv, d_kv, how)
        found = iter(saved)
        for pair in ctx.pairs:
            q, k, v = next(found), next(found), next(found)
            size, longest = pair.queries.size, pair.queries.longest
            d_mixed = pair.queries.read(d_out, 1, N, q.dtype).view(q.shape)
            together = kv_shape is None and N == K
            d_grid = q.new_empty(3, *q.shape) if together else None
            d_q = d_grid[0] if d_grid is not None else torch.empty_like(q)
            d_keys = d_grid[1:] if d_grid is not None else q.new_empty(2, *k.shape)
            only = len(pair.tiles) == 1
            if not only:
                d_keys.zero_()
            for tile in pair.tiles:
                weights, mask = next(found), next(found)
                q_tile, d_tile = (_queries_of(grid, tile.queries, longest) for grid in (q, d_mixed))
                d_k, d_v = d_keys[:, :, tile.keys]
                dropped = weights if mask is None else weights * mask
                _add_product(d_v, dropped.transpose(1, 2), d_tile, only)
                d_weights = torch.bmm(d_tile, v[:, tile.keys].transpose(1, 2))
                if mask is not None:
                    d_weights.mul_(mask)
                d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
                if d_bias is not None:
                    d_bias[:, tile.queries, tile.keys] += d_scores.view(size, N, -1, weights.shape[2]).sum(0)
                _multiply_into(d_q, d_scores, k[:, tile.keys], tile.queries, longest)
                _add_product(d_k, d_scores.transpose(1, 2), q_tile, only)
            d_q.mul_(how.scale)
            if d_grid is not None:
                pair.queries.write(d_qkv, d_grid.view(3, size, N, longest, -1))
            else:
                pair.queries.write(dq_rows, d_q.view(1, size, N, longest, -1))
                pair.keys.write(dkv_rows, d_keys.view(2, size, K, pair.keys.longest, -1))
        return d_qkv, d_kv, d_bias, None, None, None, None, None, None
