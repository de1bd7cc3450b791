"""Where tokens stand, as attention learns it: the frequencies of rotary positions, and T5's bias by distance.

N heads, H head width, S longest sequence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from unpad.config import ModelConfig
from unpad.core.layers import Table


def rotary_frequencies(head_width: int, theta: float, scaling: Mapping[str, Any] | None = None) -> Tensor:
    """fp32 [H / 2]: radians per place, theta ** (-2 i / H), stretched as `scaling` says.

    "linear" divides them all by `factor`. "llama3" divides those whose wave is longer than `original_max_position_embeddings /
    low_freq_factor` places, keeps those shorter than `... / high_freq_factor`, and goes from one to the other between (Llama 3.1).
    """
    steps = torch.arange(0, head_width, 2, dtype=torch.int64, device="cpu").float()
    frequencies = 1.0 / theta ** (steps / head_width)
    kind = None if scaling is None else scaling.get("rope_type", scaling.get("type"))
    if scaling is None or kind in (None, "default"):
        return frequencies
    factor = float(scaling["factor"])
    if kind == "linear":
        return frequencies / factor
    context, low, high = (
        float(scaling[name]) for name in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
    )
    turns = context * frequencies / (2 * math.pi)  # in the original context
    smooth = ((turns - low) / (high - low)).clamp(0, 1)
    return frequencies * (smooth + (1 - smooth) / factor)


class DistanceBias(nn.Module):
    """A learned number per head and bucket of distances, added to attention scores: `table` [buckets, N] (Raffel et al., 2020)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.table = Table(config.bias_buckets, config.heads)
        self.reach, self.causal = config.bias_reach, config.causal

    def forward(self, places_Q: Tensor, longest: int) -> Tensor:
        """[N, Q, S] fp32, for queries at these places and keys at 0 .. S - 1."""
        distance = torch.arange(longest, device=places_Q.device) - places_Q[:, None]
        buckets = distance_bucket(distance, self.table.num_embeddings, self.reach, self.causal)
        return self.table(buckets).permute(2, 0, 1).float()


def distance_bucket(distance: Tensor, buckets: int, reach: int, causal: bool) -> Tensor:
    """The bucket of each distance (place of the key minus that of the query): near ones have their own, farther ones share with the
    logarithm, those from `reach` on the last. Half of the buckets are for keys that come later, unless `causal`."""
    later = torch.zeros_like(distance)
    if causal:
        distance = (-distance).clamp(min=0)
    else:
        buckets //= 2
        later = (distance > 0).long() * buckets
        distance = distance.abs()
    near = buckets // 2
    growth = torch.log(distance.clamp(min=1).float() / near) / math.log(reach / near)
    far = (near + (growth * (buckets - near)).long()).clamp(max=buckets - 1)
    return later + torch.where(distance < near, distance, far)
