"""The layers of a block on packed tokens: linear, embedding, activation, and dropout + residual + norm in one step.

T packed tokens, D width. Under autocast the linear layers run in its dtype; the residual stream and the norms stay in fp32,
so that only matrix products lose precision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unpad.core.noise import Noise
from unpad.errors import ArgumentError, nearest

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The activation of this name; ArgumentError names the supported ones."""
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ArgumentError(
            f"activation {name!r} is not supported{nearest(name, ACTIVATIONS)}; supported: {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]


class RowEmbedding(nn.Embedding):
    """An embedding whose gradient touches only the rows that the batch used.

    A vocabulary has tens of thousands of rows and a batch uses a few hundred, yet the dense gradient is zero-filled, measured
    and read whole in each step. With `standing_gradient()` the gradient buffer is kept between steps: a backward pass adds
    rows into it and remembers which, `clear_gradient` zeroes just these. `weight.grad` is at all times the dense gradient that
    PyTorch would have computed, so any optimizer works with it.
    """

    def __init__(self, rows: int, width: int) -> None:
        super().__init__(rows, width)
        self._standing = False
        self.touched: list[Tensor] = []

    def standing_gradient(self, on: bool = True) -> None:
        """Switch the standing buffer on (one process, plain optimizer) or off (wrappers that hook gradients)."""
        self._standing = on
        self.touched = []
        if not on:
            self.weight.grad = None

    def forward(self, ids_T: Tensor) -> Tensor:
        if self._standing and self.weight.requires_grad and torch.is_grad_enabled():
            return _RowLookup.apply(self.weight, ids_T, self)
        return F.embedding(ids_T, self.weight)

    def clear_gradient(self) -> None:
        """Zero the rows that were touched since the last call."""
        if self.weight.grad is not None:
            for rows in self.touched:
                self.weight.grad.index_fill_(0, rows, 0)
        self.touched = []

    def touched_gradient(self) -> Tensor | None:
        """The gradient rows that can differ from zero, [rows, D], for norms; None when there is no gradient."""
        if self.weight.grad is None or not self.touched:
            return None
        return self.weight.grad.index_select(0, torch.unique(torch.cat(self.touched)))


class _RowLookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, layer: RowEmbedding) -> Tensor:
        ctx.ids, ctx.layer = ids, layer
        return weight.index_select(0, ids)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, None]:
        layer, ids = ctx.layer, ctx.ids
        if layer.weight.grad is None:
            layer.weight.grad = torch.zeros_like(layer.weight)
        layer.weight.grad.index_add_(0, ids, grads[0])
        layer.touched.append(ids)
        return None, None, None


class Norm(nn.LayerNorm):
    """Layer norm of (dropout(x) + residual), the step that closes each half of a post-norm block.

    One pass over memory for dropout and sum, one for the norm; the backward pass keeps the mask instead of the dropped values.
    """

    def forward(
        self, x_TD: Tensor, residual_TD: Tensor | None = None, p: float = 0.0, noise: Noise | None = None
    ) -> Tensor:
        mask = noise.mask(x_TD.shape, p, self.weight) if noise is not None and p > 0 else None
        if residual_TD is None and mask is None:
            return F.layer_norm(
                x_TD.to(self.weight.dtype), self.normalized_shape, self.weight, self.bias, self.eps
            )
        return _DropAddNorm.apply(x_TD, residual_TD, mask, self.weight, self.bias, self.eps)


class _DropAddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor | None,
        mask: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.dtype = x.dtype
        x = x.to(weight.dtype)
        if residual is None:
            total = x if mask is None else x * mask
        else:
            total = x + residual if mask is None else torch.addcmul(residual, x, mask)
        out, mean, rstd = torch.native_layer_norm(total, weight.shape, weight, bias, eps)
        ctx.save_for_backward(total, mask, weight, bias, mean, rstd)
        ctx.has_residual = residual is not None
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        total, mask, weight, bias, mean, rstd = ctx.saved_tensors
        d_total, d_weight, d_bias = torch.ops.aten.native_layer_norm_backward(
            grads[0],
            total,
            list(weight.shape),
            mean,
            rstd,
            weight,
            bias,
            [True, ctx.needs_input_grad[3], ctx.needs_input_grad[4]],
        )
        d_x = (d_total if mask is None else d_total * mask).to(ctx.dtype)
        return d_x, d_total if ctx.has_residual else None, None, d_weight, d_bias, None


def drop(x: Tensor, p: float, noise: Noise | None) -> Tensor:
    """Plain dropout, for heads."""
    return x * noise.mask(x.shape, p, x) if noise is not None and p > 0 else x
