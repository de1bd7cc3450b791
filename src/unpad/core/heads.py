"""Heads: what reads the hidden states of the transformer and answers for a task.

T packed tokens, B sequences, D width, C labels. A head is built from a `HeadSpec`, the few facts in which families differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unpad.batch import PackedBatch
from unpad.config import ModelConfig
from unpad.core.layers import activation, drop
from unpad.core.noise import Noise


@dataclass(frozen=True)
class HeadSpec:
    """How a family reads its hidden states for a task."""

    dense: bool = False
    """A dense layer with activation between the first token and the classifier (BERT calls it the pooler)."""
    activation: str = "tanh"
    """Activation of that dense layer."""
    output: bool = True
    """A classifier follows; False for the base model, whose pooled vector is its answer."""


class PooledHead(nn.Module):
    """Reads the first token of each sequence: dense + activation, dropout, classifier."""

    def __init__(self, spec: HeadSpec, config: ModelConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.width) if spec.dense else None
        self.activation = activation(spec.activation)
        self.classifier = nn.Linear(config.width, config.num_labels) if spec.output else None
        self.p = config.dropout if config.classifier_dropout is None else config.classifier_dropout

    def pool(self, hidden_TD: Tensor, batch: PackedBatch) -> Tensor:
        """[B, D] in the order of the batch."""
        first_BD = hidden_TD.index_select(0, batch.cu_seqlens[:-1].long())
        return first_BD if self.dense is None else self.activation(self.dense(first_BD))

    def forward(self, hidden_TD: Tensor, batch: PackedBatch) -> Tensor:
        """[B, C] logits (or [B, D] pooled vectors for the base model) in the order of the batch."""
        pooled_BD = self.pool(hidden_TD, batch)
        if self.classifier is None:
            return pooled_BD
        noise = Noise(pooled_BD.device) if self.training else None
        return self.classifier(drop(pooled_BD, self.p, noise)).to(torch.float32)
