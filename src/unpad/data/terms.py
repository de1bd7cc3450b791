"""What a batch of any kind, packed or padded, holds: its labels, the terms of its loss, its tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unpad.batch import IGNORED_LABEL, PackedBatch
from unpad.data.tokens import SPAN_FIELDS


def targets(batch: Any) -> Tensor | None:
    """The labels of a batch; for answers in texts their starts and ends, [B, 2]."""
    ends = [_get(batch, name) for name in SPAN_FIELDS]
    return _get(batch, "labels") if any(end is None for end in ends) else torch.stack([e.view(-1) for e in ends], 1)


def label_count(labels: Any, rows: int) -> int:
    """Loss terms in a batch: labels that are not -100, or rows where there are none."""
    if labels is None:
        return rows
    return int((labels != IGNORED_LABEL).sum()) if not labels.is_floating_point() else int(labels.numel())


def loss_terms(batch: Any, rows: int, shifted: bool = False) -> int:
    """Terms of the loss in a batch. `shifted`: a token is asked for the label after it, so that none asks for a sequence's first."""
    if isinstance(batch, PackedBatch):
        labels = batch.labels if batch.target is None else batch.target.labels
        first = batch.labels[batch.cu_seqlens[:-1].long()] if shifted and batch.labels is not None else None
    else:
        labels, first = targets(batch), None
        if shifted and labels is not None:  # of padded rows: what attention does not see is no part of the sequence
            mask = _get(batch, "attention_mask")
            kept = torch.ones_like(labels) if mask is None else (mask != 0).long()
            labels = labels.masked_fill(kept == 0, IGNORED_LABEL)
            first = labels.gather(1, kept.argmax(1, keepdim=True))
    return label_count(labels, rows) - (0 if first is None else label_count(first, rows))


def token_count(batch: Any) -> int:
    """Tokens that are not padding, of source and target, where the batch tells."""
    if isinstance(batch, PackedBatch):
        return batch.tokens + (0 if batch.target is None else batch.target.tokens)
    mask, ids = _get(batch, "attention_mask"), _get(batch, "input_ids")
    return int(mask.sum()) if mask is not None else int(ids.numel()) if ids is not None else 0


def _get(batch: Any, name: str) -> Any:
    if isinstance(batch, PackedBatch):
        return getattr(batch, name, None)
    return batch[name] if hasattr(batch, "keys") and name in batch else None
