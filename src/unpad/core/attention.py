"""Attention over packed sequences: the only place that knows where sequences begin.

T packed tokens, D width, N heads, H head width; inside a bucket B sequences padded to S tokens.

Three backends compute the same function; `choose_backend` picks one by what the device can do:
- `varlen`: CUDA flash attention over cu_seqlens (half precision, no attention dropout in its kernel). Not yet run on hardware.
- `bucketed`: neighbours of similar length together; the path of CPUs, and of GPUs without the kernel.
- `naive`: one sequence after another in float64; the reference for tests.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unpad.batch import Bucket, PackedBatch, slot_index
from unpad.core.noise import Noise


def choose_backend(device: torch.device, dtype: torch.dtype, p: float = 0.0, window: int | None = None) -> str:
    """The fastest backend that computes exactly what is asked: attention dropout p rules the flash kernel out."""
    if device.type == "cuda" and dtype in (torch.float16, torch.bfloat16) and p == 0 and _has_varlen(device, window):
        return "varlen"
    return "bucketed"


def _has_varlen(device: torch.device, window: int | None) -> bool:
    try:
        from torch.nn.attention import varlen
    except ImportError:
        return False
    if window is not None and "window_size" not in inspect.signature(varlen.varlen_attn).parameters:
        return False  # PyTorch 2.10
    return torch.cuda.get_device_capability(device) >= (8, 0)


def attend(
    qkv_T3D: Tensor,
    batch: PackedBatch,
    heads: int,
    p: float = 0.0,
    noise: Noise | None = None,
    backend: str | None = None,
    window: int | None = None,
    rotary: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Softmax attention of every token over the tokens of its own sequence.

    `qkv_T3D` [T, 3 D]: queries, keys and values side by side, heads inside each third. `p` is the dropout probability of
    the attention weights (used when `noise` is given). `window`: a token sees those at most so many places away (None: all).
    `rotary`: what `rotary_table` gives, by which queries and keys are turned. Returns [T, D] in the dtype of `qkv_T3D`.
    """
    p = p if noise is not None else 0.0
    backend = backend or choose_backend(qkv_T3D.device, qkv_T3D.dtype, p, window)
    if backend == "naive":
        return _naive(qkv_T3D, batch, heads, window, rotary)
    if rotary is not None:
        qkv_T3D = _Rotation.apply(qkv_T3D, *rotary, heads)
    if backend == "varlen":
        return _varlen(qkv_T3D, batch, heads, window)
    if p > 0 or (torch.is_grad_enabled() and qkv_T3D.requires_grad):
        with torch.autocast(qkv_T3D.device.type, enabled=False):  # it chooses its own dtype
            return _BucketedAttention.apply(qkv_T3D, batch, heads, p, noise, window)
    return _bucketed_inference(qkv_T3D, batch, heads, window)


def _naive(
    qkv: Tensor, batch: PackedBatch, heads: int, window: int | None, rotary: tuple[Tensor, Tensor] | None
) -> Tensor:
    out, start = [], 0
    for length in batch.lengths:
        part = slice(start, start + length)
        q, k, v = qkv[part].double().view(length, 3, heads, -1).permute(1, 2, 0, 3)
        if rotary is not None:
            cos, sin = (table[part].double().repeat(1, 2) for table in rotary)
            q, k = (x * cos + torch.cat([-x.chunk(2, -1)[1], x.chunk(2, -1)[0]], -1) * sin for x in (q, k))
        scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
        if window is not None:
            scores = scores.masked_fill(distances(length, qkv.device).abs() > window, -torch.inf)
        out.append((torch.softmax(scores, dim=-1) @ v).transpose(0, 1).reshape(length, -1))
        start += length
    return torch.cat(out).to(qkv.dtype)


def _varlen(qkv: Tensor, batch: PackedBatch, heads: int, window: int | None) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    tokens = qkv.shape[0]
    q, k, v = qkv.view(tokens, 3, heads, -1).unbind(1)
    longest, ends = batch.lengths[0], batch.cu_seqlens
    if window is None:
        mixed = varlen_attn(q, k, v, ends, ends, longest, longest)
    else:
        mixed = varlen_attn(q, k, v, ends, ends, longest, longest, window_size=(window, window))
    assert isinstance(mixed, Tensor)
    return mixed.reshape(tokens, -1)


def rotary_table(position_ids_T: Tensor, head_width: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine, fp32 [T, H / 2] each, of position * theta ** (-2 i / H): rotary positions (Su et al., 2021)."""
    steps = torch.arange(0, head_width, 2, dtype=torch.float32, device=position_ids_T.device)
    angles = position_ids_T[:, None].float() * (1.0 / theta ** (steps / head_width))
    return angles.cos(), angles.sin()


class _Rotation(torch.autograd.Function):
    """Queries and keys turned by the angles of their positions; the gradient is turned back."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, heads: int) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.heads = heads
        return _turned(qkv, cos, sin, heads)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(grads[0], cos, -sin, ctx.heads), None, None, None


def _turned(qkv: Tensor, cos: Tensor, sin: Tensor, heads: int) -> Tensor:
    """`qkv` [T, 3 D] with the first and second half of each query and key as the two coordinates of a rotation."""
    out = qkv.clone(memory_format=torch.contiguous_format)
    tokens = cos.shape[0]  # rows after these belong to no sequence
    to = out[:tokens].view(tokens, 3, heads, 2, -1)[:, :2]
    x, y = qkv[:tokens].reshape(tokens, 3, heads, 2, -1)[:, :2].unbind(3)
    cos, sin = cos[:, None, None], sin[:, None, None]
    to[..., 0, :] = x * cos - y * sin
    to[..., 1, :] = y * cos + x * sin
    return out


def distances(length: int, device: torch.device) -> Tensor:
    """[S, S] int64: place of the query minus place of the key."""
    places = torch.arange(length, device=device)
    return places[:, None] - places


@dataclass(frozen=True)
class Grid:
    """A bucket as attention computes it: its packed rows as a grid of B sequences of S tokens."""

    rows: slice
    """The bucket's packed tokens."""
    size: int
    """B."""
    longest: int
    """S."""
    slots: Tensor | None
    """[tokens] int64 places in the flattened grid [B S]; None: all sequences are equally long, the grid is a plain view."""
    masked: Tensor | None
    """bool, broadcasts to [B, N, S, S]; True: a key that the query does not see. None: it sees all."""

    def read(self, values: Tensor, parts: int, heads: int, dtype: torch.dtype | None = None) -> Tensor:
        """Packed rows [T, parts N H] as [parts, B, N, S, H], padding 0; with `dtype` a contiguous copy in it."""
        rows = values[self.rows]
        if self.slots is not None:
            grid = rows.new_zeros(self.size * self.longest, rows.shape[1])
            rows = grid.index_copy_(0, self.slots, rows)
        grid = rows.view(self.size, self.longest, parts, heads, -1).permute(2, 0, 3, 1, 4)
        return grid if dtype is None else torch.empty(grid.shape, dtype=dtype, device=grid.device).copy_(grid)

    def write(self, out: Tensor, grid: Tensor) -> None:
        """The inverse of `read`: [parts, B, N, S, H] into the bucket's rows of `out` [T, parts N H]."""
        grid = grid.permute(1, 3, 0, 2, 4)
        if self.slots is None:
            out[self.rows].view(grid.shape).copy_(grid)
        else:
            flat = out.new_empty(grid.shape).copy_(grid).view(self.size * self.longest, -1)
            torch.index_select(flat, 0, self.slots, out=out[self.rows])


def grids(batch: PackedBatch, device: torch.device, window: int | None = None) -> list[Grid]:
    """The grids of the batch's buckets, made once per batch and window."""
    cached = batch.__dict__.setdefault("_grids", {})
    if window not in cached:
        if window is None:
            cached[window] = [_grid(bucket, device) for bucket in batch.buckets]
        else:
            cached[window] = [_narrow(grid, window, device) for grid in grids(batch, device)]
    return cached[window]


def _grid(bucket: Bucket, device: torch.device) -> Grid:
    slots = masked = None
    if not bucket.even:
        slots = torch.from_numpy(slot_index(bucket.lengths, bucket.longest)).to(device)
        lengths = torch.tensor(bucket.lengths, device=device)
        masked = (torch.arange(bucket.longest, device=device) >= lengths[:, None])[:, None, None, :]
    rows = slice(bucket.start, bucket.start + bucket.tokens)
    return Grid(rows, len(bucket.lengths), bucket.longest, slots, masked)


def _narrow(grid: Grid, window: int, device: torch.device) -> Grid:
    """`grid` where a token sees only those at most `window` places away."""
    if window >= grid.longest - 1:
        return grid
    away = distances(grid.longest, device).abs()
    if grid.masked is None:
        return replace(grid, masked=away > window)
    # padding sees itself: the softmax of a row without keys would be NaN, and reach the gradients of the others
    return replace(grid, masked=(grid.masked | (away > window)) & (away > 0))


def _bucketed_inference(qkv: Tensor, batch: PackedBatch, heads: int, window: int | None) -> Tensor:
    """Without gradients and dropout: fused attention per bucket, straight on strided views."""
    out = _rows_for(batch, qkv, qkv.shape[1] // 3)
    for grid in grids(batch, qkv.device, window):
        q, k, v = grid.read(qkv, 3, heads)
        mask = None if grid.masked is None else ~grid.masked
        grid.write(out, F.scaled_dot_product_attention(q, k, v, attn_mask=mask)[None])
    return out


def _rows_for(batch: PackedBatch, like: Tensor, width: int) -> Tensor:
    """An empty [rows, width] for results per token; rows that belong to no sequence are 0."""
    out = like.new_empty(like.shape[0], width)
    if like.shape[0] > batch.tokens:
        out[batch.tokens :] = 0
    return out


def working_dtype(qkv: Tensor) -> torch.dtype:
    """fp32 on CPUs: the softmax of bf16 is three times slower there, and each shape of a bf16 product is compiled anew."""
    return torch.float32 if qkv.device.type == "cpu" else qkv.dtype


class _BucketedAttention(torch.autograd.Function):
    """Attention with dropout and its gradient, written out in batched products.

    PyTorch's fused CPU kernel has no dropout, and its backward pass is slower at short lengths than the five products
    below. Weights are kept between the passes; one contiguous copy per bucket brings q, k, v into [3, B N, S, H].
    """

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, batch: PackedBatch, heads: int, p: float, noise: Noise | None, window: int | None
    ) -> Tensor:
        width = qkv.shape[1] // 3
        out = _rows_for(batch, qkv, width)
        work = working_dtype(qkv)
        scale = 1 / math.sqrt(width // heads)
        saved: list[Tensor | None] = []
        for grid in grids(batch, qkv.device, window):
            size, longest = grid.size, grid.longest
            q, k, v = grid.read(qkv, 3, heads, work).view(3, size * heads, longest, -1)
            scores = torch.bmm(q.mul_(scale), k.transpose(1, 2))
            if grid.masked is not None:
                scores.view(size, heads, longest, longest).masked_fill_(grid.masked, -torch.inf)
            weights = torch.softmax(scores, dim=-1)
            mask = noise.mask(weights.shape, p, weights) if noise is not None and p > 0 else None
            mixed = torch.bmm(weights if mask is None else weights * mask, v)
            grid.write(out, mixed.view(1, size, heads, longest, -1))
            saved += [q, k, v, weights, mask]
        ctx.save_for_backward(*saved)
        ctx.batch, ctx.heads, ctx.scale, ctx.window = batch, heads, scale, window
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        d_out, saved, heads = grads[0], ctx.saved_tensors, ctx.heads
        d_qkv = _rows_for(ctx.batch, d_out, 3 * d_out.shape[1])
        for i, grid in enumerate(grids(ctx.batch, d_out.device, ctx.window)):
            q, k, v, weights, mask = saved[5 * i : 5 * i + 5]
            d_mixed = grid.read(d_out, 1, heads, q.dtype).view(q.shape)
            d_grid = torch.empty(3, *q.shape, dtype=q.dtype, device=q.device)
            dropped = weights if mask is None else weights * mask
            torch.bmm(dropped.transpose(1, 2), d_mixed, out=d_grid[2])
            d_weights = torch.bmm(d_mixed, v.transpose(1, 2))
            if mask is not None:
                d_weights.mul_(mask)
            d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
            torch.bmm(d_scores, k, out=d_grid[0])
            d_grid[0].mul_(ctx.scale)
            torch.bmm(d_scores.transpose(1, 2), q, out=d_grid[1])
            grid.write(d_qkv, d_grid.view(3, grid.size, heads, grid.longest, -1))
        return d_qkv, None, None, None, None, None
