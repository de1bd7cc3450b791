"""Losses as a sum and a count, so that the loop can divide by the count over the whole global batch.

B sequences, C labels. Formulas are those of `torch.nn.CrossEntropyLoss`, `BCEWithLogitsLoss` and `MSELoss` before the mean.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from unpad.errors import DataError

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


def mean(total: Tensor, count: int | Tensor) -> Tensor:
    """total / count without a synchronisation; 0 where nothing was counted."""
    return total / (max(count, 1) if isinstance(count, int) else torch.clamp(count, min=1))
