"""A generation in progress: the rows that are still being written, and what a model says comes next.

R live rows, V vocabulary. `CachedSession` computes each token once; `PlainSession` runs the whole text anew at every step and is
what the cache is tested against. Neither pads: prompts of any lengths stand in one packed batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unpad.batch import PackedBatch, pack
from unpad.core.attention import memory_tokens
from unpad.core.cache import Cache, Memory
from unpad.core.transformer import EncoderDecoder, Transformer


class _Session:
    """What both kinds know of the model."""

    def __init__(self, model: Any, sources: PackedBatch | None) -> None:
        both = model.transformer
        self.reader: Transformer | None = both.encoder if isinstance(both, EncoderDecoder) else None
        self.writer: Transformer = both.decoder if isinstance(both, EncoderDecoder) else both
        self.tokens, self.head, self.device = both.embeddings.tokens, model.head, model.device
        self.sources = None if sources is None else sources.to(self.device)

    def _read(self) -> Tensor | None:
        """The hidden states of the sources."""
        return None if self.sources is None or self.reader is None else self.reader(self.sources)

    def _words(self, hidden_RD: Tensor, batch: PackedBatch) -> Tensor:
        """[R, V] for one token of each row."""
        return self.head(hidden_RD, replace(batch, asked=torch.arange(len(hidden_RD), device=self.device)), self.tokens)


class PlainSession(_Session):
    """Without a cache."""

    def __init__(self, model: Any, prompts: Sequence[np.ndarray], sources: PackedBatch | None = None) -> None:
        super().__init__(model, sources)
        self.rows = [np.asarray(prompt, dtype=np.int64) for prompt in prompts]
        self.memory = self._read()
        self.source = np.arange(len(self.rows))

    def first(self) -> Tensor:
        """fp32 [R, V]: what comes after the prompts."""
        batch = pack(self.rows).to(self.device)
        ends = batch.cu_seqlens[1:].long() - 1
        # every row of the decoder needs a source of its own
        memory = () if self.sources is None else self._sources(batch)
        return batch.restore(self._words(self.writer(batch, ends, *memory), batch))

    def advance(self, tokens_R: Tensor) -> Tensor:
        """fp32 [R, V]: what comes after one further token of each row."""
        self.rows = [np.append(row, token) for row, token in zip(self.rows, tokens_R.tolist(), strict=True)]
        return self.first()

    def keep(self, rows_R: Tensor) -> None:
        """The live rows become these: fewer, in another order, or several times."""
        rows = rows_R.cpu().numpy()
        self.rows, self.source = [self.rows[i] for i in rows], self.source[rows]

    def _sources(self, batch: PackedBatch) -> tuple[PackedBatch, Tensor]:
        """The source of each live row, and its hidden states."""
        assert self.sources is not None
        assert self.memory is not None
        tokens, lengths = memory_tokens(self.source, self.sources)
        ids = self.sources.input_ids.cpu().numpy()[tokens]
        again = pack(np.split(ids, np.cumsum(lengths)[:-1])).to(self.device)
        tokens, _ = memory_tokens(self.source[np.asarray(again.order)], self.sources)
        return again, self.memory.index_select(0, torch.from_numpy(tokens).to(self.device))


class CachedSession(_Session):
    """With a cache of keys and values. To a model with segment recurrence the prompt is one segment, and each token after it another: the
    keys and values are those of its memory, and of that length."""

    def __init__(self, model: Any, prompts: Sequence[np.ndarray], sources: PackedBatch | None = None) -> None:
        super().__init__(model, sources)
        self.batch = pack(list(prompts)).to(self.device)
        self.cache: Cache | Memory
        if self.writer.memory is not None:
            self.cache = Memory(self.writer.memory, keys=True)
        else:
            self.cache = Cache(np.array([len(p) for p in prompts]), len(self.writer.blocks), self.device)

    def first(self) -> Tensor:
        """fp32 [R, V]: what comes after the prompts."""
        ends = self.batch.cu_seqlens[1:].long() - 1
        hidden = self.writer(self.batch, ends, self.sources, self._read(), self.cache)
        return self.batch.restore(self._words(hidden, self.batch))

    def advance(self, tokens_R: Tensor) -> Tensor:
        """fp32 [R, V]: what comes after one further token of each row."""
        batch = self.cache.step(tokens_R)
        hidden = self.writer(batch, cache=self.cache)
        self.cache.done()
        return self._words(hidden, batch)

    def keep(self, rows_R: Tensor) -> None:
        """The live rows become these: fewer, in another order, or several times."""
        self.cache.keep(rows_R.cpu().numpy())
