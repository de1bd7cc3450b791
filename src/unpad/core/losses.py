"""Losses as a sum and a count, so that the loop can divide by the count over the whole global batch.

B sequences, C labels, M tokens that are asked, V vocabulary, E width of its table. Formulas are those of `torch.nn.CrossEntropyLoss`, `BCEWithLogitsLoss` and `MSELoss` before the mean.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unpad.batch import IGNORED_LABEL
from unpad.core.layers import RowEmbedding
from unpad.errors import DataError

ROWS = 256
"""Words whose logits exist together where no gradient is needed."""
PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")


def problem_type(labels: Tensor, num_labels: int) -> str:
    """What kind of labels these are: one output means regression, integers mean classes, floats mean several labels each."""
    if num_labels == 1:
        return "regression"
    return (
        "multi_label_classification"
        if labels.is_floating_point() or labels.dim() > 1
        else "single_label_classification"
    )


def sequence_loss(logits_BC: Tensor, labels: Tensor, kind: str) -> tuple[Tensor, int]:
    """Sum of the losses in fp32 and the number of terms in it.

    `labels`: [B] int64 for classes, [B, C] of 0 and 1 for several labels, [B] or [B, 1] numbers for regression. The mean over
    the count is the usual loss: over sequences for classes, over all B C outputs for the other two.
    """
    logits_BC = logits_BC.float()
    if kind == "single_label_classification":
        return F.cross_entropy(logits_BC, labels.view(-1).long(), reduction="sum"), int(labels.numel())
    if labels.numel() != logits_BC.numel():
        raise DataError(
            f"{kind} needs labels of shape {list(logits_BC.shape)}, but they have shape {list(labels.shape)}; "
            f"give each example {logits_BC.shape[1]} numbers or change num_labels="
        )
    targets = labels.reshape(logits_BC.shape).float()
    if kind == "regression":
        return F.mse_loss(logits_BC, targets, reduction="sum"), int(targets.numel())
    return F.binary_cross_entropy_with_logits(logits_BC, targets, reduction="sum"), int(targets.numel())


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
    x_ME: Tensor, table: RowEmbedding, bias_V: Tensor | None, labels_M: Tensor
) -> tuple[Tensor, Tensor]:
    """Sum of the losses and number of the labels that are not -100, of words read out as `x_ME @ table.T + bias_V`.

    The same numbers as cross entropy over logits [M, V], of which one copy (in the dtype of autocast) is kept until the backward
    pass, which turns it into their gradient in place; without gradients no more than ROWS of them exist at a time.
    """
    weight, kind = table.weight, x_ME.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    count = (labels_M != IGNORED_LABEL).sum()
    if torch.is_grad_enabled() and (x_ME.requires_grad or weight.requires_grad):
        return _VocabularyLoss.apply(x_ME, weight, bias_V, labels_M, table, dtype), count
    total, cast, bias_V = x_ME.new_zeros((), dtype=torch.float32), weight.to(dtype), _to(bias_V, dtype)
    for x, labels in zip(x_ME.to(dtype).split(ROWS), labels_M.split(ROWS), strict=True):
        total = total + _word_losses(F.linear(x, cast, bias_V), labels)[0].sum()
    return total, count


class _VocabularyLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, table: RowEmbedding, dtype: torch.dtype
    ) -> Tensor:  # fmt: skip
        ctx.table, ctx.dtypes = table, (x.dtype, weight.dtype)
        x, cast = x.to(dtype), weight.to(dtype)
        logits = F.linear(x, cast, _to(bias, dtype))
        losses, lse = _word_losses(logits, labels)
        # exp(logit - inf) = 0: no gradient where there is no label
        ctx.save_for_backward(x, cast, logits, lse.masked_fill(labels == IGNORED_LABEL, torch.inf), labels)
        return losses.sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, cast, logits, lse, labels = ctx.saved_tensors
        wants, scale = ctx.needs_input_grad, grads[0]
        size, ones = _block(logits), -(labels != IGNORED_LABEL).float()[:, None]
        d_bias = lse.new_zeros(logits.shape[1]) if wants[2] else None
        parts = (t.split(size) for t in (logits, lse[:, None], labels.clamp(min=0)[:, None], ones))
        for some, norm, places, one in zip(*parts, strict=True):
            part = some.float()  # the block itself in fp32
            part.sub_(norm).exp_().scatter_add_(1, places, one)
            if d_bias is not None:
                d_bias += part.sum(0)
            if part is not some:
                some.copy_(part)
        d_x = ((logits @ cast) * scale).to(ctx.dtypes[0]) if wants[0] else None
        d_weight = ctx.table.add_product(logits.t(), (x * scale).to(x.dtype), cast) if wants[1] else None
        return d_x, d_weight, None if d_bias is None else d_bias * scale, None, None, None


def _word_losses(logits_MV: Tensor, labels_M: Tensor) -> tuple[Tensor, Tensor]:
    """(Loss [M], 0 where the label is -100; log of the sum of exponentials [M]), both fp32."""
    lse = torch.cat([part.float().logsumexp(1) for part in logits_MV.split(_block(logits_MV))])
    picked = logits_MV.gather(1, labels_M.clamp(min=0)[:, None])[:, 0].float()
    return (lse - picked).masked_fill(labels_M == IGNORED_LABEL, 0), lse


def _block(logits_MV: Tensor) -> int:
    """Rows that are worked on together: on a CPU as many as stay in its cache."""
    return max(1, (1 << 18 if logits_MV.device.type == "cpu" else 1 << 26) // logits_MV.shape[1])


def _to(bias: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if bias is None else bias.to(dtype)


def mean(total: Tensor, count: int | Tensor) -> Tensor:
    """total / count without a synchronisation; 0 where nothing was counted."""
    return total / (max(count, 1) if isinstance(count, int) else torch.clamp(count, min=1))
