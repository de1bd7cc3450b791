"""Attention over packed sequences: the only place that knows where sequences begin.

T packed tokens, D width, N heads, H head width; inside a bucket B sequences padded to S tokens.

Three backends compute the same function; `choose_backend` picks one by what the device can do:
- `varlen`: CUDA flash attention over cu_seqlens (half precision, no attention dropout in its kernel). Not yet run on hardware.
- `bucketed`: neighbours of similar length together; the path of CPUs, and of GPUs without the kernel.
- `naive`: one sequence after another in float64; the reference for tests.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unpad.batch import Bucket, PackedBatch, slot_index
from unpad.core.noise import Noise

BACKENDS = ("varlen", "bucketed", "naive")


def choose_backend(device: torch.device, dtype: torch.dtype, p: float = 0.0) -> str:
    """The fastest backend that computes exactly what is asked: attention dropout p rules the flash kernel out."""
    if device.type == "cuda" and dtype in (torch.float16, torch.bfloat16) and p == 0 and _has_varlen(device):
        return "varlen"
    return "bucketed"


def _has_varlen(device: torch.device) -> bool:
    try:
        from torch.nn.attention import varlen  # noqa: F401
    except ImportError:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


def attend(
    qkv_T3D: Tensor,
    batch: PackedBatch,
    heads: int,
    p: float = 0.0,
    noise: Noise | None = None,
    backend: str | None = None,
) -> Tensor:
    """Softmax attention of every token over the tokens of its own sequence.

    `qkv_T3D` [T, 3 D]: queries, keys and values side by side, heads inside each third. `p` is the dropout probability of
    the attention weights (used when `noise` is given). Returns [T, D] in the dtype of `qkv_T3D`.
    """
    p = p if noise is not None else 0.0
    backend = backend or choose_backend(qkv_T3D.device, qkv_T3D.dtype, p)
    if backend == "varlen":
        return _varlen(qkv_T3D, batch, heads)
    if backend == "naive":
        return _naive(qkv_T3D, batch, heads)
    if p > 0 or (torch.is_grad_enabled() and qkv_T3D.requires_grad):
        with torch.autocast(qkv_T3D.device.type, enabled=False):  # it chooses its own dtype
            return _BucketedAttention.apply(qkv_T3D, batch, heads, p, noise)
    return _bucketed_inference(qkv_T3D, batch, heads)


def _naive(qkv: Tensor, batch: PackedBatch, heads: int) -> Tensor:
    out, start = [], 0
    for length in batch.lengths:
        q, k, v = qkv[start : start + length].double().view(length, 3, heads, -1).permute(1, 2, 0, 3)
        weights = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]), dim=-1)
        out.append((weights @ v).transpose(0, 1).reshape(length, -1))
        start += length
    return torch.cat(out).to(qkv.dtype)


def _varlen(qkv: Tensor, batch: PackedBatch, heads: int) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    tokens = qkv.shape[0]
    q, k, v = qkv.view(tokens, 3, heads, -1).unbind(1)
    longest = batch.lengths[0]
    mixed = varlen_attn(q, k, v, batch.cu_seqlens, batch.cu_seqlens, longest, longest)
    assert isinstance(mixed, Tensor)
    return mixed.reshape(tokens, -1)


def _grid(rows: Tensor, bucket: Bucket, slots: Tensor | None) -> Tensor:
    """The bucket's packed rows [tokens, W] as a padded grid [B, S, W]; padding is 0. A view where lengths are equal."""
    size = len(bucket.lengths)
    if slots is None:
        return rows.view(size, bucket.longest, -1)
    grid = rows.new_zeros(size * bucket.longest, rows.shape[1])
    return grid.index_copy_(0, slots, rows).view(size, bucket.longest, -1)


def _slots(batch: PackedBatch, device: torch.device) -> list[tuple[Bucket, Tensor | None, Tensor | None]]:
    """Per bucket: its places in the grid [tokens] and its key mask [B, 1, 1, S] (True: padding), once per batch."""
    cached = batch.__dict__.get("_slots")
    if cached is None:
        cached = []
        for bucket in batch.buckets:
            if bucket.even:
                cached.append((bucket, None, None))
                continue
            slots = torch.from_numpy(slot_index(bucket.lengths, bucket.longest)).to(device)
            lengths = torch.tensor(bucket.lengths, device=device)
            padding = torch.arange(bucket.longest, device=device)[None, :] >= lengths[:, None]
            cached.append((bucket, slots, padding[:, None, None, :]))
        object.__setattr__(batch, "_slots", cached)
    return cached


def _bucketed_inference(qkv: Tensor, batch: PackedBatch, heads: int) -> Tensor:
    """Without gradients and dropout: fused attention per bucket, straight on strided views."""
    out = _rows_for(batch, qkv, qkv.shape[1] // 3)
    for bucket, slots, padding in _slots(batch, qkv.device):
        rows = slice(bucket.start, bucket.start + bucket.tokens)
        size, longest = len(bucket.lengths), bucket.longest
        q, k, v = _grid(qkv[rows], bucket, slots).view(size, longest, 3, heads, -1).permute(2, 0, 3, 1, 4)
        mask = None if padding is None else ~padding
        mixed = (
            F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            .transpose(1, 2)
            .reshape(size * longest, -1)
        )
        out[rows] = mixed if slots is None else mixed.index_select(0, slots)
    return out


def _rows_for(batch: PackedBatch, like: Tensor, width: int) -> Tensor:
    """An empty [rows, width] for results per token; rows that belong to no sequence are 0."""
    out = like.new_empty(like.shape[0], width)
    if like.shape[0] > batch.tokens:
        out[batch.tokens :] = 0
    return out


def _working_dtype(qkv: Tensor) -> torch.dtype:
    """fp32 on CPUs: the softmax of bf16 is three times slower there, and each shape of a bf16 product is compiled anew."""
    return torch.float32 if qkv.device.type == "cpu" else qkv.dtype


class _BucketedAttention(torch.autograd.Function):
    """Attention with dropout and its gradient, written out in batched products.

    PyTorch's fused CPU kernel has no dropout, and its backward pass is slower at short lengths than the five products
    below. Weights are kept between the passes; one contiguous copy per bucket brings q, k, v into [3, B N, S, H].
    """

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, batch: PackedBatch, heads: int, p: float, noise: Noise | None
    ) -> Tensor:
        width = qkv.shape[1] // 3
        out = _rows_for(batch, qkv, width)
        work = _working_dtype(qkv)
        scale = 1 / math.sqrt(width // heads)
        saved: list[Tensor | None] = []
        for bucket, slots, padding in _slots(batch, qkv.device):
            rows = slice(bucket.start, bucket.start + bucket.tokens)
            size, longest = len(bucket.lengths), bucket.longest
            grid = _grid(qkv[rows], bucket, slots).view(size, longest, 3, heads, -1)
            grid = torch.empty(3, size, heads, longest, width // heads, dtype=work, device=qkv.device).copy_(
                grid.permute(2, 0, 3, 1, 4)
            )
            q, k, v = grid.view(3, size * heads, longest, -1)
            scores = torch.bmm(q.mul_(scale), k.transpose(1, 2))
            if padding is not None:
                scores.view(size, heads, longest, longest).masked_fill_(padding, -torch.inf)
            weights = torch.softmax(scores, dim=-1)
            mask = noise.mask(weights.shape, p, weights) if noise is not None and p > 0 else None
            mixed = torch.bmm(weights if mask is None else weights * mask, v)
            mixed = mixed.view(size, heads, longest, -1).transpose(1, 2)
            if slots is None:
                out[rows].view(size, longest, heads, -1).copy_(mixed)
            else:
                flat = out.new_empty(size, longest, heads, width // heads).copy_(mixed).view(-1, width)
                torch.index_select(flat, 0, slots, out=out[rows])
            saved += [q, k, v, weights, mask]
        ctx.save_for_backward(*saved)
        ctx.batch, ctx.heads, ctx.scale = batch, heads, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        d_out, saved, heads = grads[0], ctx.saved_tensors, ctx.heads
        width = d_out.shape[1]
        d_qkv = _rows_for(ctx.batch, d_out, 3 * width)
        for i, (bucket, slots, _) in enumerate(_slots(ctx.batch, d_out.device)):
            q, k, v, weights, mask = saved[5 * i : 5 * i + 5]
            rows = slice(bucket.start, bucket.start + bucket.tokens)
            size, longest = len(bucket.lengths), bucket.longest
            d_rows = _grid(d_out[rows], bucket, slots).view(size, longest, heads, -1).transpose(1, 2)
            d_mixed = torch.empty(size, heads, longest, width // heads, dtype=q.dtype, device=q.device).copy_(
                d_rows
            )
            d_mixed = d_mixed.view(size * heads, longest, -1)
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
            d_grid = d_grid.view(3, size, heads, longest, -1).permute(1, 3, 0, 2, 4)
            if slots is None:
                d_qkv[rows].view(size, longest, 3, heads, -1).copy_(d_grid)
            else:
                flat = (
                    d_qkv.new_empty(size, longest, 3, heads, width // heads).copy_(d_grid).view(-1, 3 * width)
                )
                torch.index_select(flat, 0, slots, out=d_qkv[rows])
        return d_qkv, None, None, None, None
