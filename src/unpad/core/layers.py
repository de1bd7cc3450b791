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

from unpad.config import ModelConfig
from unpad.core.noise import Noise
from unpad.errors import ArgumentError, nearest

ALIGN = 64
"""Rows; wastes half of it per batch on average, 8 percent of a batch of 8 short pairs and nothing of a large one."""
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The activation of this name; ArgumentError names the supported ones."""
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ArgumentError(
            f"activation {name!r} is not supported{nearest(name, ACTIVATIONS)}; supported: {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]


class Table(nn.Embedding):
    """An embedding that draws no weights where it has no memory: to do so, PyTorch would load its compiler (1 s)."""

    def reset_parameters(self) -> None:
        """PyTorch's default weights; a model's are drawn by `transformer.initialise`."""
        if not self.weight.is_meta:
            super().reset_parameters()


class RowEmbedding(Table):
    """An embedding that trains only the rows that the data use, and whose gradient touches only those of the batch.

    A vocabulary has tens of thousands of rows, a data set uses some of them and a batch a few hundred. While it is being
    trained by rows (`train_rows`), the rows in use stand in a table of their own, `trained` [U, D]: the optimizer neither reads
    nor keeps moments of the others, whose gradient is always 0. Its gradient buffer is kept between steps: a backward pass
    adds rows into it and remembers which, `clear_gradient` zeroes just these; it is at all times the dense gradient
    that PyTorch would have computed. In evaluation mode `weight` is the truth, in training mode `trained` is.
    """

    whole = False
    """The table also reads out the vocabulary: its gradient touches every row, so that only the buffer is kept."""

    def __init__(self, rows: int, width: int, padding_idx: int | None = None) -> None:
        super().__init__(rows, width, padding_idx)
        self._trained: list[Tensor] = []  # a list, so that it is no parameter of the module
        self.used: Tensor | None = None
        """[U] int64: the rows of `trained`; None: all."""
        self._place: Tensor | None = None
        self.touched: list[Tensor] = []
        self._spare: Tensor | None = None
        self.register_state_dict_pre_hook(_write_back)

    @property
    def trained(self) -> Tensor:
        """The table that an optimizer trains: [U, D] while rows are trained apart, else `weight`."""
        return self._trained[0] if self._trained else self.weight

    def train_rows(self, used: Tensor | None = None) -> None:
        """Keep the gradient by rows (one process, plain optimizer). `used` int64 [U]: the only ids that training will ask for;
        their rows are then trained apart, which is exact where the optimizer leaves rows without gradient alone."""
        self.release()
        if used is None or self.whole:
            self._trained = [self.weight]
            return
        self.used = used
        self._place = torch.full((self.num_embeddings,), -1, dtype=torch.int64, device=used.device)
        self._place[used] = torch.arange(len(used), device=used.device)
        self._trained = [nn.Parameter(self.weight.detach().index_select(0, used))]

    def release(self) -> None:
        """Back to a plain embedding."""
        self.write_back()
        self._trained, self.touched = [], []
        self.used = self._place = self._spare = self.weight.grad = None

    def write_back(self) -> None:
        """Bring `weight` up to date in training mode."""
        if self.used is not None and self.training:
            with torch.no_grad():
                self.weight.index_copy_(0, self.used, self.trained)

    def train(self, mode: bool = True) -> RowEmbedding:
        """Switch between the two truths."""
        if self.used is not None and mode != self.training:
            self.write_back()
            if mode:
                with torch.no_grad():
                    torch.index_select(self.weight, 0, self.used, out=self.trained.data)
        super().train(mode)
        return self

    def forward(self, ids_T: Tensor) -> Tensor:
        apart, pad, given_T = self._place is not None and self.training, self.padding_idx, ids_T
        if apart:
            ids_T = self._place.index_select(0, ids_T)  # type: ignore[union-attr]
        table = self.trained if apart else self.weight
        if not self.weight.requires_grad:  # a callback may have frozen it
            return F.embedding(ids_T, table.detach())
        if table is self.trained and self._trained and torch.is_grad_enabled():
            padding_T = None if pad is None else given_T == pad
            if padding_T is not None and padding_T.device.type == "cpu" and not padding_T.any():
                padding_T = None
            return _RowLookup.apply(table, ids_T, self, padding_T)
        return F.embedding(ids_T, table, None if apart else pad)

    def gradient_buffer(self) -> Tensor:
        """Memory [V, E] for a gradient of the whole table, of what was put aside where there is some."""
        buffer, self._spare = self._spare, None
        return torch.empty_like(self.weight) if buffer is None else buffer

    def add_gradient(self, grad_VE: Tensor) -> Tensor | None:
        """Add to the gradient of the whole table: in place while it is trained by rows, else as the result."""
        if not self._trained:
            return grad_VE
        if self.weight.grad is None:
            self.weight.grad = grad_VE
        else:
            self.weight.grad += grad_VE
            self._spare = grad_VE
        return None

    def clear_gradient(self) -> None:
        """Forget the gradient: zero the rows that were touched since the last call, or put the whole buffer aside."""
        if self.whole:
            self._spare, self.weight.grad = self.weight.grad, None
        elif self.trained.grad is not None:
            for rows in self.touched:
                self.trained.grad.index_fill_(0, rows, 0)
        self.touched = []

    def touched_gradient(self) -> Tensor | None:
        """The gradient rows that can differ from zero, [rows, D], for norms; None when there is no gradient."""
        if self.whole:
            return self.weight.grad
        if self.trained.grad is None or not self.touched:
            return None
        return self.trained.grad.index_select(0, torch.unique(torch.cat(self.touched)))


def _write_back(module: RowEmbedding, *_: Any) -> None:
    module.write_back()


class _RowLookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, layer: RowEmbedding, padding: Tensor | None) -> Tensor:
        ctx.ids, ctx.layer, ctx.padding = ids, layer, padding
        return weight.index_select(0, ids)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, None, None]:
        layer, ids, grad = ctx.layer, ctx.ids, grads[0]
        if layer.trained.grad is None:
            layer.trained.grad = torch.zeros_like(layer.trained)
        if ctx.padding is not None:
            grad = grad.masked_fill(ctx.padding[:, None], 0)
        layer.trained.grad.index_add_(0, ids, grad)
        layer.touched.append(ids)
        return None, None, None, None


class Norm(nn.LayerNorm):
    """Layer norm of (dropout(x) + residual), the step that closes each half of a post-norm block.

    One pass over memory for dropout and sum, one for the norm; the backward pass keeps the mask instead of the dropped values.
    """

    def forward(
        self, x_TD: Tensor, residual_TD: Tensor | None = None, p: float = 0.0, noise: Noise | None = None
    ) -> Tensor:
        mask = noise.mask(x_TD.shape, p, self.weight) if noise is not None and p > 0 else None
        if residual_TD is None and mask is None:
            return F.layer_norm(x_TD.to(self.weight.dtype), self.normalized_shape, self.weight, self.bias, self.eps)
        return _DropAddNorm.apply(x_TD, residual_TD, mask, self.weight, self.bias, self.eps)


class RMSNorm(nn.RMSNorm):
    """Norm by the root mean square (Zhang and Sennrich, 2019), computed in the dtype of its weight; called like `Norm`."""

    def forward(
        self, x_TD: Tensor, residual_TD: Tensor | None = None, p: float = 0.0, noise: Noise | None = None
    ) -> Tensor:
        x_TD = drop(x_TD.to(self.weight.dtype), p, noise)
        return super().forward(x_TD if residual_TD is None else x_TD + residual_TD)


def norm(config: ModelConfig, width: int | None = None) -> Norm | RMSNorm:
    """The norm of the family over `width` (D) values."""
    if config.rms_norm:
        return RMSNorm(width or config.width, eps=config.norm_eps)
    return Norm(width or config.width, eps=config.norm_eps, bias=config.norm_bias)


class _DropAddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor | None, mask: Tensor | None, weight: Tensor, bias: Tensor, eps: float
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
        wanted = [True, ctx.needs_input_grad[3], ctx.needs_input_grad[4]]
        d_total, d_weight, d_bias = torch.ops.aten.native_layer_norm_backward(
            grads[0], total, list(weight.shape), mean, rstd, weight, bias, wanted
        )
        d_x = (d_total if mask is None else d_total * mask).to(ctx.dtype)
        return d_x, d_total if ctx.has_residual else None, None, d_weight, d_bias, None


def drop(x: Tensor, p: float, noise: Noise | None) -> Tensor:
    """Plain dropout, for heads."""
    return x * noise.mask(x.shape, p, x) if noise is not None and p > 0 else x


def aligned(x_TD: Tensor, to: int = ALIGN) -> Tensor:
    """`x_TD` with zero rows appended up to a multiple of `to`, where matrix products run in bf16 on a CPU.

    oneDNN compiles a bf16 product anew for each shape, at 10 to 40 times the cost of running it once; almost every packed batch
    has its own T. With few distinct T the compiled products are found again. The extra rows belong to no sequence: attention
    leaves them out and nothing reads them.
    """
    half = x_TD.dtype == torch.bfloat16 or (
        torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )
    extra = -x_TD.shape[0] % to
    if x_TD.device.type != "cpu" or not half or not extra:
        return x_TD
    return F.pad(x_TD, (0, 0, 0, extra))
