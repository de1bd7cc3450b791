"""Heads: what reads the hidden states of the transformer and answers for a task.

T packed tokens, B sequences, D width, C labels, V vocabulary, M tokens that are asked. A head is one chain of optional steps,
pick - dropout - dense - activation - norm - dropout - output, built from a `HeadSpec`: the few facts in which families differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unpad.batch import IGNORED_LABEL, PackedBatch
from unpad.config import ModelConfig
from unpad.core.adaptive import AdaptiveEmbedding, AdaptiveSoftmax
from unpad.core.layers import RowEmbedding, activation, aligned, drop, norm
from unpad.core.losses import vocabulary_loss
from unpad.core.noise import Noise

ALIGN_ASKED = 16
"""Rows of words that are asked, a few hundred per batch: fine enough to waste little, coarse enough for few shapes (see `aligned`)."""


@dataclass(frozen=True)
class HeadSpec:
    """How a family reads its hidden states for a task. Dropouts are names of `ModelConfig` fields."""

    reads: str = "first"
    """"first" or "last" token of each sequence, "mean" of its tokens, what the configuration calls its `pooling`, or "each" token."""
    drop_in: str | None = None
    """Dropout before the dense layer."""
    dense: bool = False
    """A dense layer (BERT calls it the pooler before a classifier, and the transform before the vocabulary)."""
    activation: str | None = "tanh"
    """Activation after the dense layer; None: that of the feed-forward layers."""
    norm: bool = False
    """A layer norm after the activation."""
    drop: str | None = "classifier_dropout"
    """Dropout before the output; `classifier_dropout` stands for `dropout` where the configuration has none."""
    output: str | int | None = "labels"
    """"labels": C outputs; a number: that many; "vocabulary": V, by the token embedding; None: the vector is the answer."""
    output_bias: bool = True
    """The output has a bias (not in decoders). That of a vocabulary is the configuration's `vocabulary_bias`."""


class Head(nn.Module):
    """`dense`, `norm`, `classifier` (of a vocabulary `bias` [V], and `table` [V, E] where it is not the token embedding, or all that
    is `adaptive`), as far as the `HeadSpec` has them."""

    def __init__(self, spec: HeadSpec, config: ModelConfig) -> None:
        super().__init__()
        self.spec, D = spec, config.width
        self.reads = {"cls": "first", "mean": "mean"}[config.pooling] if spec.reads == "pooling" else spec.reads
        vocabulary = spec.output == "vocabulary"
        wide = config.embedding_width or D if vocabulary else D
        self.dense = nn.Linear(D, wide, bias=config.head_bias) if spec.dense else None
        self.activation = activation(spec.activation or config.activation)
        self.norm = norm(config, wide) if spec.norm else None
        outputs = config.num_labels if spec.output == "labels" else spec.output
        self.classifier = nn.Linear(D, outputs, bias=spec.output_bias) if isinstance(outputs, int) else None
        self.adaptive = AdaptiveSoftmax(config) if vocabulary and config.cutoffs is not None else None
        vocabulary = vocabulary and self.adaptive is None
        biased = vocabulary and config.vocabulary_bias
        trained = not config.fixed_vocabulary_bias
        self.bias = nn.Parameter(torch.zeros(config.vocab_size), requires_grad=trained) if biased else None
        self.table = nn.Linear(wide, config.vocab_size, bias=False) if vocabulary and not config.tied else None
        self.scale = D**-0.5 if vocabulary and config.scaled_output else 1.0
        self.p_in, self.p = (config.probability(name) if name else 0.0 for name in (spec.drop_in, spec.drop))

    @property
    def answers(self) -> bool:
        """Whether anything is computed: a base model may have no pooler."""
        return self.dense is not None or self.classifier is not None or self.spec.output == "vocabulary"

    def rows(self, batch: PackedBatch) -> Tensor | None:
        """int64 [R]: the tokens that are read; None: all. The transformer need not finish the others."""
        if self.reads in ("first", "last"):
            return _ends(batch, self.reads)
        return batch.asked if self.reads == "each" else None

    def pick(self, hidden_TD: Tensor, batch: PackedBatch) -> Tensor:
        """The vectors that are read, of hidden states [T, D] or of those of `rows` alone: [B, D] in the order of the batch, [T, D],
        or [M, D] of the tokens that are asked."""
        if self.reads != "each":
            return pooled(hidden_TD, batch, self.reads)
        if batch.asked is None or hidden_TD.shape[0] == batch.asked.shape[0]:
            return hidden_TD
        return hidden_TD.index_select(0, batch.asked)

    def forward(
        self,
        hidden_TD: Tensor,
        batch: PackedBatch,
        tokens: RowEmbedding | AdaptiveEmbedding,
        labels_M: Tensor | None = None,
        weights_M: Tensor | None = None,
        smoothing: float = 0.0,
    ) -> Any:
        """The answers in fp32: [B, C], [T, C] or [M, V], in the order of the batch. `tokens` is the token embedding.

        With `labels_M` (vocabulary heads only) not the answers, but the sum and the count of their losses, see `vocabulary_loss`.
        """
        noise = Noise(hidden_TD.device) if self.training else None
        x = drop(self.pick(hidden_TD, batch), self.p_in, noise)
        rows = x.shape[0]
        if self.spec.output == "vocabulary":
            x = aligned(x, ALIGN_ASKED)
        if self.dense is not None:
            x = self.activation(self.dense(x))
        if self.norm is not None:
            x = self.norm(x)
        if self.classifier is not None:
            return self.classifier(drop(x, self.p, noise)).to(torch.float32)
        if self.spec.output != "vocabulary":
            return x
        x = x if self.scale == 1.0 else x * self.scale
        weight = tokens.weight if self.table is None else self.table.weight
        if labels_M is None:
            if self.adaptive is not None:
                return self.adaptive(x, tokens)[:rows]
            return F.linear(x, weight, self.bias)[:rows].to(torch.float32)
        extra = (0, x.shape[0] - rows)
        labels_M = F.pad(labels_M, extra, value=IGNORED_LABEL)
        weights_M = None if weights_M is None else F.pad(weights_M, extra)
        if isinstance(tokens, AdaptiveEmbedding):
            assert self.adaptive is not None
            return self.adaptive.loss(x, tokens, labels_M, weights_M, smoothing)
        table = tokens if self.table is None else None
        return vocabulary_loss(x, weight, self.bias, labels_M, table, weights_M, smoothing)


def pooled(hidden_TD: Tensor, batch: PackedBatch, reads: str) -> Tensor:
    """[B, D] in the order of the batch: the "first" or "last" vector of each sequence or their "mean"; [B, D] stays as it is."""
    if hidden_TD.shape[0] == len(batch):
        return hidden_TD
    if reads in ("first", "last"):
        return hidden_TD.index_select(0, _ends(batch, reads).to(hidden_TD.device))
    lengths = torch.tensor(batch.lengths, device=hidden_TD.device)
    row = torch.repeat_interleave(torch.arange(len(batch), device=hidden_TD.device), lengths)
    total = hidden_TD.new_zeros(len(batch), hidden_TD.shape[1]).index_add(0, row, hidden_TD)
    return total / lengths[:, None]


def _ends(batch: PackedBatch, which: str) -> Tensor:
    """int64 [B]: the first or last token of each sequence."""
    return batch.cu_seqlens[:-1].long() if which == "first" else batch.cu_seqlens[1:].long() - 1


@dataclass(frozen=True)
class HeadKind:
    """What all families share about a head of this name."""

    suffix: str
    """Last part of its Hugging Face class names: "ForSequenceClassification"."""
    labels: str | None
    """What its labels belong to: "row", "token", "span" (start and end in a sequence), "choice", "target" (a sequence of their own),
    or None."""
    vocabulary: bool = False
    """Its answers are over the vocabulary: they are made only where labels ask for them, and never kept."""
    next: bool = False
    """A token is asked for the label of the token after it."""


HEADS: dict[str, HeadKind] = {
    "base": HeadKind("Model", None),
    "sequence-classification": HeadKind("ForSequenceClassification", "row"),
    "token-classification": HeadKind("ForTokenClassification", "token"),
    "question-answering": HeadKind("ForQuestionAnswering", "span"),
    "multiple-choice": HeadKind("ForMultipleChoice", "choice"),
    "masked-lm": HeadKind("ForMaskedLM", "token", vocabulary=True),
    "pre-training": HeadKind("ForPreTraining", "token"),
    "causal-lm": HeadKind("ForCausalLM", "token", vocabulary=True, next=True),
    "conditional-generation": HeadKind("ForConditionalGeneration", "target", vocabulary=True),
}
"""Every head, by name."""
