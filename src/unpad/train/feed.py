"""Where training batches come from: step -> micro-batches, as a pure function of seed, data and step.

A packed feed serves native models from the flat token store; a collated feed serves any other model through the caller's
collator. Both follow the same sampler, so that which examples form step k never depends on the kind of model or on restarts.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unpad.batch import IGNORED_LABEL, PackedBatch
from unpad.data.sampler import BatchSampler
from unpad.data.tokens import SPAN_FIELDS, TokenStore
from unpad.errors import DataError
from unpad.models.model import Model
from unpad.train.arguments import TrainingArguments


@dataclass(frozen=True)
class Micro:
    """One micro-batch: what the model takes, how many loss terms and tokens it holds, which rows it is made of."""

    batch: Any
    count: int
    tokens: int
    rows: np.ndarray


class Feed:
    """Micro-batches by (epoch, k), and their grouping into optimizer steps."""

    def __init__(
        self,
        sampler: BatchSampler,
        accumulation: int,
        make: Callable[[np.ndarray, int], Micro],
        fingerprint: str,
        rows: int,
    ) -> None:
        self._sampler, self._accumulation, self._make = sampler, accumulation, make
        self.fingerprint, self.rows = fingerprint, rows
        self._bounds = [0]  # first step of each epoch; with a token budget epochs differ in their number of steps

    def steps(self, epoch: int) -> int:
        """Optimizer steps of an epoch; the last window of accumulation may be short."""
        return math.ceil(self._sampler.batches(epoch) / self._accumulation)

    def total_steps(self, epochs: float) -> int:
        """Optimizer steps of `epochs` passes, the last of which may be a fraction."""
        whole = int(epochs)
        steps = sum(self.steps(epoch) for epoch in range(whole))
        return steps + (math.ceil((epochs - whole) * self.steps(whole)) if epochs > whole else 0)

    def place(self, step: int) -> tuple[int, int]:
        """(epoch, step inside it) of optimizer step `step`, from 0."""
        while self._bounds[-1] <= step:
            self._bounds.append(self._bounds[-1] + self.steps(len(self._bounds) - 1))
        epoch = int(np.searchsorted(self._bounds, step, side="right")) - 1
        return epoch, step - self._bounds[epoch]

    def rows_of(self, step: int) -> list[np.ndarray]:
        """Rows of each micro-batch of optimizer step `step`."""
        epoch, k = self.place(step)
        first = k * self._accumulation
        last = min(first + self._accumulation, self._sampler.batches(epoch))
        return [self._sampler.batch(epoch, i) for i in range(first, last)]

    def step(self, step: int) -> list[Micro]:
        """The micro-batches of optimizer step `step`."""
        epoch, _ = self.place(step)
        return [self._make(rows, epoch) for rows in self.rows_of(step)]


def packed_feed(
    store: TokenStore,
    args: TrainingArguments,
    change: Callable[[int], Callable[[PackedBatch], PackedBatch] | None] = lambda epoch: None,
) -> Feed:
    """Batches of a token store for native models. `change(epoch)` gives what remakes the batches of an epoch (masking)."""

    def make(rows: np.ndarray, epoch: int) -> Micro:
        batch = store.pack(rows)
        if (remake := change(epoch)) is not None:
            batch = remake(batch)
        return Micro(batch, label_count(batch.labels, len(rows)), batch.tokens, rows)

    return Feed(
        _sampler(args, len(store), store.fingerprint, store.lengths),
        args.gradient_accumulation_steps,
        make,
        store.fingerprint,
        len(store),
    )


def collated_feed(dataset: Any, collator: Callable[[list[Any]], Any], model: Any, args: TrainingArguments) -> Feed:
    """Batches of any map-style data set through the caller's collator, for any module."""
    size = len_of(dataset)
    keep = accepted_by(model)

    def make(rows: np.ndarray, epoch: int) -> Micro:
        batch = collator([dataset[int(row)] for row in rows])
        if not isinstance(batch, PackedBatch) and keep is not None and hasattr(batch, "keys"):
            batch = {key: batch[key] for key in batch.keys() if key in keep}  # noqa: SIM118
        return Micro(batch, label_count(targets(batch), len(rows)), token_count(batch), rows)

    fingerprint = hashlib.blake2b(f"{getattr(dataset, '_fingerprint', '')}/{size}".encode(), digest_size=16).hexdigest()
    return Feed(_sampler(args, size, fingerprint, None), args.gradient_accumulation_steps, make, fingerprint, size)


def len_of(dataset: Any) -> int:
    """Rows of a data set; DataError when it has none or does not know."""
    try:
        size = len(dataset)
    except TypeError:
        raise DataError(
            f"a {type(dataset).__name__} has no length; give a data set with rows, or turn the stream into one"
        ) from None
    if size == 0:
        raise DataError("the data set has no rows; check the file, the split and any filter before it")
    return size


def _sampler(args: TrainingArguments, size: int, fingerprint: str, lengths: np.ndarray | None) -> BatchSampler:
    seed = args.seed if args.data_seed is None else args.data_seed
    budget = args.max_tokens_per_batch or None
    return BatchSampler(
        size, None if budget else args.per_device_train_batch_size, seed=seed, fingerprint=fingerprint, drop_last=args.dataloader_drop_last,
        lengths=lengths, group_by_length=args.group_by_length and lengths is not None, max_tokens=budget,
    )  # fmt: skip


def accepted_by(model: Any) -> set[str] | None:
    """Names that the model's forward takes; None when it takes anything."""
    if isinstance(model, Model):
        return set(model.inputs)
    parameters = inspect.signature(model.forward).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters}


def targets(batch: Any) -> Tensor | None:
    """The labels of a batch; for answers in texts their starts and ends, [B, 2]."""
    ends = [_get(batch, name) for name in SPAN_FIELDS]
    return _get(batch, "labels") if any(end is None for end in ends) else torch.stack([e.view(-1) for e in ends], 1)


def label_count(labels: Any, rows: int) -> int:
    """Loss terms in a batch: labels that are not -100, or rows where there are none."""
    if labels is None:
        return rows
    return int((labels != IGNORED_LABEL).sum()) if not labels.is_floating_point() else int(labels.numel())


def token_count(batch: Any) -> int:
    """Tokens that are not padding, where the batch tells."""
    if isinstance(batch, PackedBatch):
        return batch.tokens
    mask, ids = _get(batch, "attention_mask"), _get(batch, "input_ids")
    return int(mask.sum()) if mask is not None else int(ids.numel()) if ids is not None else 0


def _get(batch: Any, name: str) -> Any:
    if isinstance(batch, PackedBatch):
        return getattr(batch, name, None)
    return batch[name] if hasattr(batch, "keys") and name in batch else None
