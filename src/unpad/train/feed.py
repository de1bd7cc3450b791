"""Where training batches come from: step -> micro-batches, as a pure function of seed, data and step.

A packed feed serves native models from the flat token store; a collated feed serves any other model through the caller's
collator. Both follow the same sampler, so that which examples form step k never depends on the kind of model or on restarts. A
stream feed takes batches as they come, and its position belongs to every checkpoint.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unpad.batch import IGNORED_LABEL, PackedBatch
from unpad.data.sampler import BatchSampler
from unpad.data.stream import TokenStream
from unpad.data.tokens import SPAN_FIELDS, TokenStore
from unpad.errors import ArgumentError, DataError, TrainingError
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

    def state(self) -> dict[str, Any] | None:
        """What a checkpoint keeps of the position beside the step: nothing."""
        return None

    def seek(self, state: Mapping[str, Any] | None) -> None:
        """Go on at a position that `state` gave."""


Change = Callable[[int], Callable[[PackedBatch], PackedBatch] | None]
"""Epoch -> what remakes its batches (masking), or None."""


class StreamFeed:
    """What `Feed` is, of a corpus that is read as it comes. The whole run counts as one epoch of `max_steps` steps.

    A micro-batch holds `max_tokens_per_batch` tokens, or as many as `per_device_train_batch_size` rows of the stream's block size.
    Raises ArgumentError without `max_steps` and for blocks that are longer than the model.
    """

    def __init__(self, stream: TokenStream, args: TrainingArguments, model: Model, change: Change) -> None:
        facts = stream.state_dict()
        size = facts["block_size"]
        if args.max_steps <= 0:
            raise ArgumentError("a stream does not know its length; set max_steps, the steps of the whole run")
        if size > (most := model.config.longest):
            raise ArgumentError(
                f"a stream with block_size={size} is too long for a model of {most} tokens; make it with less"
            )
        self._stream, self._args, self._model, self._change = stream, args, model, change
        self._budget = args.max_tokens_per_batch or args.per_device_train_batch_size * size
        self._batches: Iterator[PackedBatch] | None = None
        self._documents: dict[int, list[np.ndarray]] = {}
        self._seen, self._steps = 0, 0
        order = {k: v for k, v in facts.items() if k not in ("epoch", "document", "offset")}
        self.fingerprint = hashlib.blake2b(repr(sorted(order.items())).encode(), digest_size=16).hexdigest()

    @property
    def rows(self) -> int:
        """Rows of the whole run, as far as the steps so far tell."""
        return self._seen * self._args.max_steps // max(self._steps, 1)

    def steps(self, epoch: int) -> int:
        return self._args.max_steps

    def place(self, step: int) -> tuple[int, int]:
        return 0, step

    def rows_of(self, step: int) -> list[np.ndarray]:
        """Numbers of the documents in each micro-batch of a step of late."""
        return self._documents.get(step, [])

    def step(self, step: int) -> list[Micro]:
        """The next micro-batches of the stream."""
        micros = [self._next() for _ in range(self._args.gradient_accumulation_steps)]
        self._documents[step] = [micro.rows for micro in micros]
        self._documents.pop(step - 64, None)  # losses are looked at some steps late, see Trainer._settle
        self._seen, self._steps = self._seen + sum(len(micro.rows) for micro in micros), self._steps + 1
        return micros

    def _next(self) -> Micro:
        batch = None
        while batch is None:
            self._batches = self._batches or self._stream.batches(self._budget)
            if (batch := next(self._batches, None)) is None:
                self._batches = None  # the next epoch of the stream
        highest, size = int(batch.input_ids.max()), self._model.config.vocab_size
        if highest >= size:
            where = f"document {batch.sample_ids[0]} of the stream or near it"
            raise DataError(
                f"token id {highest} in {where} is outside the model's vocabulary of {size}: load both by the same name"
            )
        if (remake := self._change(self._stream.state_dict()["epoch"])) is not None:
            batch = remake(batch)
        rows = np.asarray(batch.sample_ids)
        return Micro(batch, loss_terms(batch, len(rows), self._model.next), batch.tokens, rows)

    def state(self) -> dict[str, Any]:
        return self._stream.state_dict()

    def seek(self, state: Mapping[str, Any] | None) -> None:
        self._batches = None
        if state is not None:
            self._stream.load_state_dict(state)


def packed_feed(
    store: TokenStore, args: TrainingArguments, change: Change = lambda epoch: None, shifted: bool = False
) -> Feed:
    """Batches of a token store for native models; `shifted` as for `loss_terms`. Raises DataError where no token has a next one."""
    if shifted and store.lengths.max() < 2:
        raise DataError(
            "no row of the training data has two tokens, so there is no next one to learn; make longer rows"
        )

    def make(rows: np.ndarray, epoch: int) -> Micro:
        batch = store.pack(rows)
        if (remake := change(epoch)) is not None:
            batch = remake(batch)
        return Micro(batch, loss_terms(batch, len(rows), shifted), token_count(batch), rows)

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
    keep, shifted = accepted_by(model), isinstance(model, Model) and model.next

    def make(rows: np.ndarray, epoch: int) -> Micro:
        batch = collator([dataset[int(row)] for row in rows])
        if not isinstance(batch, PackedBatch) and keep is not None and hasattr(batch, "keys"):
            batch = {key: batch[key] for key in batch.keys() if key in keep}  # noqa: SIM118
        return Micro(batch, loss_terms(batch, len(rows), shifted), token_count(batch), rows)

    fingerprint = hashlib.blake2b(f"{getattr(dataset, '_fingerprint', '')}/{size}".encode(), digest_size=16).hexdigest()
    return Feed(_sampler(args, size, fingerprint, None), args.gradient_accumulation_steps, make, fingerprint, size)


def len_of(dataset: Any) -> int:
    """Rows of a data set; DataError when it has none or does not know."""
    try:
        size = len(dataset)
    except TypeError:
        raise DataError(
            f"a {type(dataset).__name__} has no length; give a data set with rows, or for training an unpad.TokenStream"
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


def loss_of(output: Any) -> Tensor:
    """The loss that a model of any kind returned. Raises TrainingError where there is none."""
    loss = output.get("loss") if hasattr(output, "get") else getattr(output, "loss", None)
    if loss is None and isinstance(output, (tuple, list)):
        loss = output[0]
    if not isinstance(loss, Tensor) or loss.dim():
        raise TrainingError("the model returned no loss; do its inputs include labels? (a column 'label' or 'labels')")
    return loss
