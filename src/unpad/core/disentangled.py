"""Disentangled attention (He et al., 2021, arXiv:2006.03654): scores also from relative positions, which have keys and queries too.

T packed tokens, D width, N heads, H head width, R relative positions in reach; inside a bucket B sequences of S tokens. Plain
autograd products per bucket, so that gradients reach the relative positions; the fused kernels take no such scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unpad.batch import PackedBatch
from unpad.config import ModelConfig
from unpad.core.attention import Attention, distances, pairs_of, working_dtype
from unpad.core.layers import Norm, Table, drop
from unpad.core.noise import Noise


@dataclass(frozen=True)
class Reach:
    """The relative positions that a batch needs."""

    rows: Tensor
    """[R, D]: their vectors."""
    places: Tensor
    """[2 S - 1] int64, on the host: row of each distance -(S - 1) .. S - 1 of query minus key, S the longest sequence."""

    def table(self, length: int) -> tuple[slice, Tensor]:
        """For sequences up to `length` tokens: the rows in reach, and which of these each pair has, [S, S] int64."""
        middle = len(self.places) // 2
        places = self.places[middle - length + 1 : middle + length]
        first, last = int(places[0]), int(places[-1])
        pairs = distances(length, places.device) + length - 1
        return slice(first, last + 1), (places[pairs] - first).to(self.rows.device)


class RelativePositions(nn.Module):
    """The vectors of relative positions, which all blocks share: `table` [2 span, D] and `norm`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.most = config.relative_reach if config.relative_reach > 0 else config.max_positions
        self.buckets = config.relative_buckets
        self.span = self.buckets if self.buckets > 0 else self.most
        self.table = Table(2 * self.span, config.width)
        normed = "layer_norm" in (config.relative_norm or "").lower()
        self.norm = Norm(config.width, eps=config.norm_eps) if normed else None

    def forward(self, longest: int) -> Reach:
        """What sequences up to `longest` tokens need."""
        distance = torch.arange(1 - longest, longest)
        if self.buckets > 0:
            distance = log_bucket(distance, self.buckets, self.most)
        places = (distance + self.span).clamp(0, 2 * self.span - 1)
        rows = self.table.weight[int(places[0]) : int(places[-1]) + 1]
        return Reach(rows if self.norm is None else self.norm(rows), places - places[0])


def log_bucket(distance: Tensor, buckets: int, most: int) -> Tensor:
    """Distances up to buckets / 2 as they are, farther ones in steps that grow with the logarithm, `most` - 1 in the last."""
    middle = buckets // 2
    size = distance.abs()
    # fp32 decides on which side of a step
    growth = torch.log(size / middle) / torch.log(torch.tensor((most - 1) / middle))
    far = torch.ceil(growth * (middle - 1)) + middle
    return torch.where(size <= middle, distance, far * distance.sign()).long()


class DisentangledAttention(nn.Module):
    """Of one block: `key` gives relative positions keys (c2p), `query` queries (p2c), where they have layers of their own."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        D, kinds = config.width, config.relative_kinds
        own = config.relative_attention and not config.relative_shared
        self.c2p, self.p2c, self.heads = "c2p" in kinds, "p2c" in kinds, config.heads
        self.key = nn.Linear(D, D) if self.c2p and own else None
        self.query = nn.Linear(D, D) if self.p2c and own else None
        self.p, self.attention_p = config.dropout, config.probability("attention_dropout")
        self.scale = 1 / math.sqrt(config.head_width * (1 + len(kinds)))

    def forward(
        self, x_TD: Tensor, qkv: nn.Linear, batch: PackedBatch, reach: Reach | None, noise: Noise | None
    ) -> Tensor:
        """What every token reads, [T, D]. Relative positions without layers of their own go through those of the tokens, `qkv`."""
        key_RD = query_RD = None
        if reach is not None:
            rows_RD = drop(reach.rows, self.p, noise)
            (q, k, _), (q_bias, k_bias, _) = qkv.weight.chunk(3), qkv.bias.chunk(3)
            if self.c2p:
                key_RD = F.linear(rows_RD, k, k_bias) if self.key is None else self.key(rows_RD)
            if self.p2c:
                query_RD = F.linear(rows_RD, q, q_bias) if self.query is None else self.query(rows_RD)
        qkv_T3D = qkv(x_TD)
        with torch.autocast(x_TD.device.type, enabled=False):  # it chooses its own dtype
            return self._attend(qkv_T3D, batch, reach, key_RD, query_RD, noise)

    def _attend(
        self, qkv: Tensor, batch: PackedBatch, reach: Reach | None, key_RD: Tensor | None, query_RD: Tensor | None, noise: Noise | None
    ) -> Tensor:  # fmt: skip
        N, work, out = self.heads, working_dtype(qkv), []

        def per_head(rows: Tensor) -> Tensor:  # [R, D] -> [N, H, R]
            return rows.to(work).view(rows.shape[0], N, -1).permute(1, 2, 0)

        for pair in pairs_of(batch, qkv.device, Attention(N, qkv.shape[1] // (3 * N), N)):
            q, k, v = pair.queries.read(qkv, 3, N).to(work)
            q, k_scaled = q * self.scale, k * self.scale
            scores = q @ k.transpose(-1, -2)
            if reach is not None:
                rows, pairs = reach.table(pair.queries.longest)
                if key_RD is not None:
                    scores = scores + (q @ per_head(key_RD[rows])).gather(-1, pairs.expand_as(scores))
                if query_RD is not None:
                    asked = (k_scaled @ per_head(query_RD[rows])).gather(-1, pairs.T.expand_as(scores))
                    scores = scores + asked.transpose(-1, -2)
            (whole,) = pair.tiles
            if whole.masked is not None:
                scores = scores.masked_fill(whole.masked, -torch.inf)
            weights = torch.softmax(scores, dim=-1)
            out.append(pair.queries.rows_of(drop(weights, self.attention_p, noise) @ v))
        return F.pad(torch.cat(out), (0, 0, 0, qkv.shape[0] - batch.tokens)).to(qkv.dtype)
