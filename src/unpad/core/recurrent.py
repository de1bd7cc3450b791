"""Segment recurrence and relative positions (Dai et al., 2019, arXiv:1901.02860): a segment also attends to the tokens before it, and
scores count how far a key is, not where.

T packed tokens, D width, N heads, H head width, M tokens of memory, S longest sequence; inside a bucket B sequences of S tokens. Plain
autograd products per bucket, so that gradients reach the distances; the fused kernels take no such scores.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unpad.batch import PackedBatch
from unpad.config import ModelConfig
from unpad.core.attention import Attention, pairs_of, rotary_table, working_dtype
from unpad.core.cache import Memory
from unpad.core.layers import Table, aligned, drop
from unpad.core.noise import Noise
from unpad.core.positions import rotary_frequencies


def distance_waves(memory: int, longest: int, width: int, limit: int, device: torch.device) -> Tensor:
    """fp32 [M + S, D]: sines, then cosines, of the distances M + S - 1 .. 0; with `limit` above 0 none counts as more than that."""
    distance = torch.arange(memory + longest - 1, -1, -1, device=device)
    cos, sin = rotary_table(distance.clamp(max=limit) if limit > 0 else distance, rotary_frequencies(width, 10_000.0))
    return torch.cat([sin, cos], dim=1)


class RecurrentAttention(nn.Module):
    """Of one block: `distance` gives distances their keys; `biases` [2 N, H] are added to queries, the first N where they meet the
    keys of tokens, the others where they meet those of distances."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.distance = nn.Linear(config.width, config.heads * config.head_width, bias=False)
        self.biases = Table(2 * config.heads, config.head_width)
        self.length, self.p = config.memory_length or 0, config.probability("attention_dropout")

    def forward(
        self, x_TD: Tensor, qkv: nn.Linear, before: Callable[[Tensor], Tensor], batch: PackedBatch, memory: Memory | None,
        layer: int, how: Attention, waves_RD: Tensor, noise: Noise | None,
    ) -> Tensor:  # fmt: skip
        """What every token reads, [T, N H]. `before` is what a block does to hidden states in front of `qkv`: to those of memory too."""
        qkv_TX, inner = qkv(x_TD), how.heads * how.head_width
        old = None if memory is None else memory.read(layer, batch)
        if old is None or memory is None or not memory.keys:
            hidden = x_TD.new_zeros(1, 1, x_TD.shape[1]) if old is None else old
            old = F.linear(before(hidden), qkv.weight[inner:], None if qkv.bias is None else qkv.bias[inner:])
        if memory is not None and memory.keys:
            memory.store(qkv_TX[:, inner:], old, batch)
        place_RX = self.distance(aligned(waves_RD))[: len(waves_RD)]
        with torch.autocast(x_TD.device.type, enabled=False):  # it chooses its own dtype
            old_BMX = old.expand(len(batch), self.length, -1)
            return self._attend(qkv_TX, old_BMX, place_RX, batch, how, noise)

    def _attend(
        self, qkv: Tensor, old_BMX: Tensor, place_RX: Tensor, batch: PackedBatch, how: Attention, noise: Noise | None
    ) -> Tensor:
        N, M, work, row, out = how.heads, self.length, working_dtype(qkv), 0, []
        place_NHR = place_RX.to(work).view(len(place_RX), N, -1).permute(1, 2, 0)
        content, far = self.biases.weight.to(work)[:, None].split(N)  # [N, 1, H] each
        for pair in pairs_of(batch, qkv.device, how):
            grid, S = pair.queries, pair.queries.longest
            q, k, v = grid.read(qkv, 3, N).to(work)
            old = old_BMX[row : row + grid.size].to(work).view(grid.size, M, 2, N, how.head_width)
            old_k, old_v = old.permute(2, 0, 3, 1, 4)
            k, v = torch.cat([old_k, k], 2), torch.cat([old_v, v], 2)
            by_distance = (q + far) * how.scale @ place_NHR[:, :, len(place_RX) - M - S :]
            scores = (q + content) * how.scale @ k.transpose(-1, -2) + _shifted(by_distance)
            places = torch.arange(-M, S, device=qkv.device)
            hidden = how.hides(places[M:, None] - places)
            weights = torch.softmax(scores.masked_fill(hidden, -torch.inf), dim=-1)
            out.append(grid.rows_of(drop(weights, self.p, noise) @ v))
            row += grid.size
        return F.pad(torch.cat(out), (0, 0, 0, qkv.shape[0] - batch.tokens)).to(qkv.dtype)


def _shifted(scores: Tensor) -> Tensor:
    """Scores [B, N, S, M + S] by falling distance -> by place of the key; those of keys after the query are meaningless."""
    B, N, S, R = scores.shape
    return F.pad(scores, (1, 0)).view(B, N, R + 1, S)[:, :, 1:].view(B, N, S, R)
