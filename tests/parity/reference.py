"""Attention in float64, one sequence after another and with a vector for every pair of tokens: what the fast paths are held to."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unpad.batch import PackedBatch, bounds
from unpad.core.attention import Attention, distances
from unpad.core.disentangled import DisentangledAttention, Reach
from unpad.core.recurrent import RecurrentAttention


def attention(
    qkv: Tensor,
    batch: PackedBatch,
    how: Attention,
    bias: Tensor | None = None,
    kv: Tensor | None = None,
    memory: PackedBatch | None = None,
) -> Tensor:
    """What `attend` computes."""
    other, width = memory or batch, how.heads * how.head_width
    q_rows, kv_rows = (qkv[:, :width], qkv[:, width:]) if kv is None else (qkv, kv)
    where = dict(zip(other.order, pairwise(bounds(other.lengths).tolist()), strict=True))
    out, start = [], 0
    for length, row in zip(batch.lengths, batch.order, strict=True):
        first, last = where[row]
        q = q_rows[start : start + length].double().view(length, how.heads, -1).transpose(0, 1)
        k, v = kv_rows[first:last].double().view(last - first, 2, how.kv_heads, -1).permute(1, 2, 0, 3)
        k, v = (x.repeat_interleave(how.heads // how.kv_heads, 0) for x in (k, v))
        scores = q @ k.transpose(1, 2) * how.scale
        if bias is not None:
            scores = scores + bias[:, :length, : last - first].double()
        if memory is None:
            back = distances(length, qkv.device)
            seen = back.abs() <= (length if how.window is None else how.window)
            seen &= back >= (0 if how.causal else -length)
            scores = scores.masked_fill(~seen, -torch.inf)
        out.append((torch.softmax(scores, dim=-1) @ v).transpose(0, 1).reshape(length, -1))
        start += length
    return torch.cat(out).to(qkv.dtype)


def disentangled(
    self: DisentangledAttention,
    qkv: Tensor,
    batch: PackedBatch,
    reach: Reach | None,
    key_RD: Tensor | None,
    query_RD: Tensor | None,
    noise: Any,
) -> Tensor:
    """What `DisentangledAttention._attend` computes, without dropout."""
    out, start = [], 0
    for length in batch.lengths:
        q, k, v = qkv[start : start + length].double().view(length, 3, self.heads, -1).permute(1, 2, 0, 3)
        scores = q @ k.transpose(1, 2)
        for x, rows, form in ((q, key_RD, "nih,ijnh->nij"), (k, query_RD, "njh,ijnh->nij")):
            if rows is not None and reach is not None:
                which, pairs = reach.table(length)
                vectors = rows[which].double()[pairs].view(length, length, self.heads, -1)
                scores = scores + torch.einsum(form, x, vectors)
        out.append((torch.softmax(scores * self.scale, dim=-1) @ v).transpose(0, 1).reshape(length, -1))
        start += length
    return torch.cat(out).to(qkv.dtype)


def recurrent(
    self: RecurrentAttention,
    qkv: Tensor,
    old_BMX: Tensor,
    place_RX: Tensor,
    batch: PackedBatch,
    how: Attention,
    noise: Any,
) -> Tensor:
    """What `RecurrentAttention._attend` computes, without dropout."""
    N, M, start, out = how.heads, self.length, 0, []
    content, far = self.biases.weight.double().split(N)
    place_RNH = place_RX.double().flip(0).view(len(place_RX), N, -1)  # by distance
    for row, length in enumerate(batch.lengths):
        q, k, v = qkv[start : start + length].double().view(length, 3, N, -1).unbind(1)
        old_k, old_v = old_BMX[row].double().view(M, 2, N, how.head_width).unbind(1)
        k, v = torch.cat([old_k, k]), torch.cat([old_v, v])
        distance = torch.arange(length)[:, None] - torch.arange(-M, length)
        scores = torch.einsum("inh,jnh->nij", q + content, k)
        scores = scores + torch.einsum("inh,ijnh->nij", q + far, place_RNH[distance.clamp(min=0)])
        scores = (scores * how.scale).masked_fill(how.hides(distance), -torch.inf)
        out.append(torch.einsum("nij,jnh->inh", scores.softmax(-1), v).reshape(length, -1))
        start += length
    return F.pad(torch.cat(out), (0, 0, 0, qkv.shape[0] - batch.tokens)).to(qkv.dtype)
