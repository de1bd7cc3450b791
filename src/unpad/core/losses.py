"""Losses as a sum and a count, so that the loop can divide by the count over the whole global batch.

B sequences, C labels, M tokens that are asked, V vocabulary, E width of its table. Formulas are those of
`torch.nn.CrossEntropyLoss`, `BCEWithLogitsLoss` and `MSELoss` before the mean.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from unpad.batch import IGNORED_LABEL
from unpad.core.layers import RowEmbedding
from unpad.errors import ArgumentError, DataError

BLOCK = 1 << 24
"""Logits over the vocabulary that exist at a time: 64 MB in fp32."""
_WORDS = 1 << 13
"""Rows of the vocabulary whose gradient exists in half precision at a time."""
LIFT = 256.0
"""Gradients over the vocabulary are so many times as great while they are fp16, whose least number is 6e-8: the loss scaling of a loop
comes after they were made. A gradient of the mean is no greater than what the head reads, far from fp16's 65504."""
PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")


def problem_type(labels: Tensor, num_labels: int) -> str:
    """What kind of labels these are: one output means regression, integers mean classes, floats mean several labels each."""
    if num_labels == 1:
        return "regression"
    several = labels.is_floating_point() or labels.dim() > 1
    return "multi_label_classification" if several else "single_label_classification"


def sequence_loss(logits_BC: Tensor, labels: Tensor, kind: str) -> tuple[Tensor, int | Tensor]:
    """Sum of the losses in fp32 and the number of terms in it.

    `labels`: [B] int64 for classes (-100: none), [B, C] of 0 and 1 for several labels, [B] or [B, 1] numbers for regression. The mean over
    the count is the usual loss: over sequences for classes, over all B C outputs for the other two.
    """
    logits_BC = logits_BC.float()
    if kind == "single_label_classification":
        total = F.cross_entropy(logits_BC, labels.view(-1).long(), ignore_index=IGNORED_LABEL, reduction="sum")
        return total, (labels != IGNORED_LABEL).sum()
    if labels.numel() != logits_BC.numel():
        raise DataError(
            f"{kind} needs labels of shape {list(logits_BC.shape)}, but they have shape {list(labels.shape)}; "
            f"give each example {logits_BC.shape[1]} numbers or change num_labels="
        )
    targets = labels.reshape(logits_BC.shape).float()
    loss = F.mse_loss if kind == "regression" else F.binary_cross_entropy_with_logits
    return loss(logits_BC, targets, reduction="sum"), targets.numel()


def token_loss(logits_TC: Tensor, labels_T: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the losses and number of the tokens whose label is not -100. One output per token is a yes or no (0 and 1)."""
    counted = labels_T != IGNORED_LABEL
    if logits_TC.shape[-1] == 1:
        kept = logits_TC.view(-1)[counted]
        total = F.binary_cross_entropy_with_logits(kept, labels_T[counted].float(), reduction="sum")
    else:
        total = F.cross_entropy(logits_TC, labels_T.long(), ignore_index=IGNORED_LABEL, reduction="sum")
    return total, counted.sum()


def span_loss(logits_BS2: Tensor, spans_B2: Tensor) -> tuple[Tensor, Tensor]:
    """Sum over the starts and ends of answers that lie in their sequence, and their number (two per sequence).

    `logits_BS2` [B, S, 2] with -inf on padding, `spans_B2` int64 tokens of their own sequence. The mean over the count is the mean
    of the start loss and the end loss, as the field has it.
    """
    places = spans_B2.clamp(0, logits_BS2.shape[1] - 1)
    inside = (places == spans_B2) & (logits_BS2.gather(1, places[:, None])[:, 0] != -torch.inf)
    spans_B2 = spans_B2.where(inside, IGNORED_LABEL)
    total = F.cross_entropy(logits_BS2, spans_B2.long(), ignore_index=IGNORED_LABEL, reduction="sum")
    return total, (spans_B2 != IGNORED_LABEL).sum()


def vocabulary_loss(
    x_ME: Tensor,
    weight_VE: Tensor,
    bias_V: Tensor | None,
    labels_M: Tensor,
    table: RowEmbedding | None = None,
    weights_M: Tensor | None = None,
    smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Sum of the losses and number of the labels that are not -100, of words read out as `x_ME @ weight_VE.T + bias_V`.

    The same numbers as cross entropy over logits [M, V] with `label_smoothing=smoothing`, each times its weight; but about
    BLOCK of the logits exist at a time: where gradients are wanted they are taken block by block in the forward pass.
    `table`: the token embedding, if `weight_VE` is its own. The gradients are there for one backward pass.
    """
    kind = x_ME.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight_VE.dtype
    count = (labels_M != IGNORED_LABEL).sum()
    if not torch.is_grad_enabled():  # the function sees what requires a gradient, not that nobody wants it
        x_ME, weight_VE = x_ME.detach(), weight_VE.detach()
        bias_V = None if bias_V is None else bias_V.detach()
    with torch.autocast(kind, enabled=False):
        args = (x_ME, weight_VE, bias_V, labels_M, weights_M, table, dtype, smoothing, count)
        return _VocabularyLoss.apply(*args), count


class _VocabularyLoss(torch.autograd.Function):
    """Gradients are made for the mean, total / count, which a loop most often asks for, and stretched if it asks for another."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, weights: Tensor | None,
        table: RowEmbedding | None, dtype: torch.dtype, smoothing: float, count: Tensor,
    ) -> Tensor:  # fmt: skip
        wants = ctx.needs_input_grad
        V, cast = weight.shape[0], weight.to(dtype)
        d_x = torch.empty_like(x) if wants[0] else None
        d_weight = None
        if wants[1]:
            d_weight = weight.new_empty(weight.shape) if table is None else table.gradient_buffer()
        d_bias = None
        if bias is not None and wants[2]:  # summed from many parts
            d_bias = weight.new_zeros(V, dtype=torch.promote_types(weight.dtype, torch.float32))
        each = (labels != IGNORED_LABEL).float()
        if weights is not None:
            each = each * weights
        lift = LIFT if dtype == torch.float16 else 1.0
        share, total = each / (count.clamp(min=1) / lift), x.new_zeros((), dtype=torch.float32)
        parts = max(1, math.ceil(x.shape[0] * V / BLOCK))  # of about equal size, in few shapes
        rows = max(1, -(-x.shape[0] // parts // 16) * 16)
        for start in range(0, x.shape[0], rows):
            part = slice(start, start + rows)
            some, places = x[part].to(dtype), labels[part].clamp(min=0)[:, None]
            logits = F.linear(some, cast, None if bias is None else bias.to(dtype))
            losses = _word_losses(logits, places, share[part] if any(wants) else None, smoothing, d_bias)
            total = total + (losses * each[part]).sum()
            if not any(wants):
                continue
            if d_x is not None:
                d_x[part] = logits @ cast
            if d_weight is not None:
                if dtype == d_weight.dtype:
                    d_weight.addmm_(logits.t(), some, beta=int(start > 0))
                    continue
                for word in range(0, V, _WORDS):
                    found, to = logits[:, word : word + _WORDS].t() @ some, d_weight[word : word + _WORDS]
                    to.copy_(found) if start == 0 else to.add_(found)
        if d_weight is not None and not x.shape[0]:
            d_weight.zero_()
        ctx.table, ctx.grads = table, (d_x, d_weight, d_bias, count / lift)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.grads is None:
            raise ArgumentError(
                "a loss over the vocabulary has one backward pass; call the model again for a second one"
            )
        (d_x, d_weight, d_bias, terms), ctx.grads = ctx.grads, None
        stretch = grads[0] * terms
        if stretch.device.type != "cpu" or abs(float(stretch) - 1) > 1e-6:  # on a GPU a look at it would wait
            for grad in (d_x, d_weight, d_bias):
                if grad is not None:
                    grad.mul_(stretch)
        if d_weight is not None and ctx.table is not None:
            d_weight = ctx.table.add_gradient(d_weight)
        return d_x, d_weight, d_bias, None, None, None, None, None, None


def _word_losses(
    logits_MV: Tensor, places_M1: Tensor, share_M: Tensor | None, smoothing: float, d_bias_V: Tensor | None
) -> Tensor:
    """Losses fp32 [M]; with shares the logits become, in place, the gradient of the losses, each times its share.

    `d_bias_V` fp32: where there is one, the sum of these gradients is added to it.
    """
    V, losses = logits_MV.shape[1], []
    # as many rows at a time as stay in the cache of a CPU
    size = max(1, (1 << 18 if logits_MV.device.type == "cpu" else 1 << 26) // V)
    shares = places_M1.float() if share_M is None else share_M[:, None]
    for some, places, share in zip(*(t.split(size) for t in (logits_MV, places_M1, shares)), strict=True):
        part = some.float()  # the block itself in fp32
        picked, top = part.gather(1, places), part.amax(1, keepdim=True)
        means = part.mean(1, keepdim=True) if smoothing else None
        part = part.sub_(top) if share_M is not None else part - top
        sums = part.exp_().sum(1, keepdim=True)
        lse = sums.log() + top
        loss = lse - picked if means is None else lse - (1 - smoothing) * picked - smoothing * means
        losses.append(loss[:, 0])
        if share_M is None:
            continue
        part.mul_(share / sums)
        if smoothing:
            part.sub_(share * (smoothing / V))
        part.scatter_add_(1, places, share * (smoothing - 1))
        if d_bias_V is not None:
            d_bias_V += part.sum(0)
        if part is not some:
            some.copy_(part)
    return torch.cat(losses) if losses else logits_MV.new_zeros(0, dtype=torch.float32)


def mean(total: Tensor, count: int | Tensor) -> Tensor:
    """total / count without a synchronisation; 0 where nothing was counted."""
    return total / (max(count, 1) if isinstance(count, int) else torch.clamp(count, min=1))
