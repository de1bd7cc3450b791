"""Dropout masks from cheap random bits.

`torch.nn.functional.dropout` draws one Bernoulli variable per element, on the CPU ten times dearer than the multiplication
that follows. Here a forward pass draws one seed from PyTorch's generator (so `torch.manual_seed` and saved generator states
govern everything) and expands it with NumPy's SFC64 into 16 random bits per element. An element is dropped when its
bits, read as an integer, lie below round(65536 p): the realised probability differs from p by less than 2**-17, and the
survivors are scaled by the realised one, so that the expectation is exact.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Noise:
    """The dropout masks of one forward pass, drawn in the order in which layers ask for them."""

    def __init__(self, device: torch.device) -> None:
        self._bits: np.random.SFC64 | None = None
        self._own = device.type == "cpu"

    def state(self) -> Any:
        """Where the random numbers stand; None before the first mask, and where PyTorch's generator of the device gives them."""
        return None if self._bits is None else self._bits.state

    def restore(self, state: Any) -> None:
        """Go back to a `state`."""
        if state is None:
            self._bits = None
        elif self._bits is not None:
            self._bits.state = state

    def mask(self, shape: tuple[int, ...] | torch.Size, p: float, like: Tensor) -> Tensor:
        """A tensor of `shape` in `like`'s dtype and device: 0 with probability p, else 1 / (1 - p)."""
        if not self._own:
            return torch.empty(shape, dtype=like.dtype, device=like.device).bernoulli_(1 - p).div_(1 - p)
        if self._bits is None:
            self._bits = np.random.SFC64(int(torch.empty((), dtype=torch.int64).random_().item()))
        count, limit = math.prod(shape), round(65536 * p)
        words = self._bits.random_raw(-(-count // 4)).view(np.int16)[:count]
        # NumPy compares int16 ten times faster than PyTorch; through uint8, as the conversion from bool is not vectorised
        kept = torch.from_numpy((words >= np.int16(limit - 32768)).view(np.uint8))
        return kept.to(like.dtype).mul_(65536 / (65536 - limit)).view(shape)
