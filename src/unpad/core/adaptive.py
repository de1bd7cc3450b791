"""An adaptive vocabulary (Grave et al., 2017, arXiv:1609.04309; Baevski and Auli, 2019, arXiv:1809.10853): words stand in parts by falling
frequency, rare ones with narrower vectors, and are read out in two steps: the part, then the word in it.

T packed tokens, M tokens that are asked, V vocabulary, P parts, D width. Frequent words need no first step: the softmax of part 0 has a
row for each other part too. Where all parts are equally wide, they are the rows of one table.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unpad.batch import IGNORED_LABEL
from unpad.config import ModelConfig
from unpad.core.layers import RowEmbedding, Table, aligned
from unpad.core.losses import vocabulary_loss
from unpad.errors import ArgumentError

ALIGN_PART = 16
"""Rows of the words of one part, see `aligned`."""


class Part(NamedTuple):
    """Words `first` .. `first + size - 1`, with vectors of this width."""

    first: int
    size: int
    width: int


def parts_of(config: ModelConfig) -> list[Part]:
    """The parts [P] of the vocabulary, frequent words first."""
    wide, ends = config.embedding_width or config.width, [0, *(config.cutoffs or ()), config.vocab_size]
    return [Part(a, b - a, wide // config.narrowing**i) for i, (a, b) in enumerate(pairwise(ends))]


def tables_of(config: ModelConfig) -> list[Part]:
    """The words of each table."""
    parts = parts_of(config)
    return parts if config.narrowing > 1 else [Part(0, config.vocab_size, parts[0].width)]


def part_of(ids: Tensor, parts: list[Part]) -> Tensor:
    """The number of the part of each id; 0 for ids below 0."""
    firsts = torch.tensor([part.first for part in parts[1:]], dtype=ids.dtype, device=ids.device)
    return torch.bucketize(ids, firsts, right=True)


class AdaptiveEmbedding(nn.Module):
    """Word vectors [T, D]: `tables`, and `projections` of each to D; a single table that is D wide has none."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.parts, self.width = tables_of(config), config.width
        kind = RowEmbedding if len(self.parts) == 1 else Table
        self.tables = nn.ModuleList(kind(part.size, part.width) for part in self.parts)
        projected = config.narrowing > 1 or self.parts[0].width != self.width
        self.projections = nn.ModuleList(
            nn.Linear(part.width, self.width, bias=False) for part in self.parts if projected
        )

    @property
    def weight(self) -> Tensor:
        """The table of the most frequent words."""
        return self.tables[0].weight  # type: ignore[return-value]

    def forward(self, ids_T: Tensor) -> Tensor:
        if not self.projections:
            return self.tables[0](ids_T)
        number_T = part_of(ids_T, self.parts)
        x_TD = self.weight.new_zeros(len(ids_T), self.width)
        for i, part in enumerate(self.parts):
            places = (number_T == i).nonzero().view(-1)
            x = self.projections[i](aligned(self.tables[i](ids_T[places] - part.first), ALIGN_PART))
            x_TD = x_TD.index_copy(0, places, x[: len(places)].to(x_TD.dtype))
        return x_TD


class AdaptiveSoftmax(nn.Module):
    """Reads words out: `outputs` with a bias for each word, and with tables where they are not those of the token embedding; `others`, the
    rows of the parts after the first; `projections` of the parts that do not read with those of the token embedding."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.parts, tables = parts_of(config), tables_of(config)
        self.outputs = nn.ModuleList(nn.Linear(part.width, part.size) for part in tables)
        if config.tied:
            for output in self.outputs:
                output.register_parameter("weight", None)
        self.others = nn.Linear(self.parts[0].width, len(self.parts) - 1) if len(self.parts) > 1 else None
        assert not isinstance(config.tied_projections, bool)
        self.projections = nn.ModuleDict({
            str(i): nn.Linear(config.width, part.width, bias=False)
            for i, (part, tied) in enumerate(zip(self.parts, config.tied_projections, strict=True))
            if not tied and (config.narrowing > 1 or part.width != config.width)
        })  # fmt: skip

    def forward(self, x_MD: Tensor, tokens: AdaptiveEmbedding) -> Tensor:
        """Log-probabilities, fp32 [M, V]."""
        first, *rest = (
            F.log_softmax(F.linear(self._project(x_MD, i, tokens), weight, bias).float(), dim=-1)
            for i, (weight, bias) in enumerate(self._layers(tokens))
        )
        size = self.parts[0].size
        return torch.cat([first[:, :size], *(first[:, size + i, None] + part for i, part in enumerate(rest))], dim=1)

    def loss(
        self, x_MD: Tensor, tokens: AdaptiveEmbedding, labels_M: Tensor, weights_M: Tensor | None, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """Sum of the losses and number of the labels that are not -100, as `vocabulary_loss`; parts without a label cost nothing."""
        if smoothing:
            raise ArgumentError(
                f"label smoothing {smoothing} is not supported for an adaptive vocabulary; leave label_smoothing_factor out"
            )
        number_M, layers = part_of(labels_M, self.parts), self._layers(tokens)
        labels = torch.where(number_M == 0, labels_M, self.parts[0].size + number_M - 1)
        total, count = vocabulary_loss(self._project(x_MD, 0, tokens), *layers[0], labels, None, weights_M)
        for i in range(1, len(layers)):
            rows = (number_M == i).nonzero().view(-1)
            if len(rows):
                x = aligned(x_MD.index_select(0, rows), ALIGN_PART)
                extra = (0, len(x) - len(rows))
                labels = F.pad(labels_M[rows] - self.parts[i].first, extra, value=IGNORED_LABEL)
                weights = None if weights_M is None else F.pad(weights_M[rows], extra)
                total = total + vocabulary_loss(self._project(x, i, tokens), *layers[i], labels, None, weights)[0]
        return total, count

    def _project(self, x_MD: Tensor, part: int, tokens: AdaptiveEmbedding) -> Tensor:
        """Hidden states [M, D] as wide as the vectors of the part."""
        if str(part) in self.projections:
            return self.projections[str(part)](x_MD)
        if not tokens.projections:
            return x_MD
        weight: Tensor = tokens.projections[min(part, len(tokens.projections) - 1)].weight  # type: ignore[assignment]
        return F.linear(x_MD, weight.t())

    def _layers(self, tokens: AdaptiveEmbedding) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias of each part, those of the first with the rows of the others."""
        tables = tokens.tables if self.outputs[0].weight is None else self.outputs
        weights: list[Tensor] = [table.weight for table in tables]  # type: ignore[misc]
        biases: list[Tensor] = [output.bias for output in self.outputs]  # type: ignore[misc]
        if len(weights) < len(self.parts):
            sizes = [part.size for part in self.parts]
            weights, biases = list(weights[0].split(sizes)), list(biases[0].split(sizes))
        if self.others is not None:
            weights[0], biases[0] = (
                torch.cat([weights[0], self.others.weight]),
                torch.cat([biases[0], self.others.bias]),
            )
        return list(zip(weights, biases, strict=True))
