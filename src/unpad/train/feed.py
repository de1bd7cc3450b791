"""Where training batches come from: step -> micro-batches, as a pure function of seed, data and step.

A packed feed serves native models from the flat token store; a collated feed serves any other model through the caller's
collator. Both follow the same sampler, so that which examples form step k never depends on the kind of model or on restarts. A
stream feed takes batches as they come, and its position belongs to every checkpoint.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from unpad.batch import PackedBatch
from unpad.data.sampler import BatchSampler, deal, shares
from unpad.data.stream import TokenStream
from unpad.data.terms import loss_terms, token_count
from unpad.data.tokens import TokenStore
from unpad.engine.world import World
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
    epoch: int = 0
    empty: bool = False
    """It holds a row that does not count: there are fewer rows than processes, and all have to take part."""


Make = Callable[[np.ndarray, int], tuple[Any, int, int]]
"""Rows and epoch -> a batch, its loss terms and its tokens."""


class Feed:
    """Micro-batches by (epoch, k), and their grouping into optimizer steps, of which each process computes its share."""

    def __init__(
        self, sampler: BatchSampler, args: TrainingArguments, make: Make, fingerprint: str, rows: int, lengths: np.ndarray | None, world: World
    ) -> None:  # fmt: skip
        self._sampler, self._accumulation, self._make = sampler, args.gradient_accumulation_steps, make
        self._lengths, self._world = lengths, world
        budget, size = args.max_tokens_per_batch, args.per_device_train_batch_size
        self._most = {"max_tokens": budget} if budget else {"max_rows": size}
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
        epoch = bisect_right(self._bounds, step) - 1
        return epoch, step - self._bounds[epoch]

    def rows_of(self, step: int) -> list[np.ndarray]:
        """Rows of each micro-batch of optimizer step `step`."""
        epoch, k = self.place(step)
        first = k * self._accumulation
        last = min(first + self._accumulation, self._sampler.batches(epoch))
        return [self._sampler.batch(epoch, i) for i in range(first, last)]

    def step(self, step: int) -> list[Micro]:
        """This process's micro-batches of optimizer step `step`."""
        epoch, _ = self.place(step)
        parts = self.rows_of(step)
        if self._world.size > 1:
            rows = np.concatenate(parts)
            lengths = np.ones(len(rows), np.int64) if self._lengths is None else self._lengths[rows]
            parts = [rows[part] for part in shares(lengths, self._world.size, **self._most)[self._world.rank]]
            return [self._micro(part if len(part) else rows[:1], epoch, not len(part)) for part in parts]
        return [self._micro(part, epoch) for part in parts]

    def _micro(self, rows: np.ndarray, epoch: int, empty: bool = False) -> Micro:
        batch, count, tokens = self._make(rows, epoch)
        return Micro(batch, 0 if empty else count, 0 if empty else tokens, rows, epoch, empty)

    def halves(self, micro: Micro) -> list[Micro]:
        """The same rows in two micro-batches, where there are two."""
        if len(micro.rows) < 2:
            return [micro]
        half = len(micro.rows) // 2
        return [self._micro(rows, micro.epoch) for rows in (micro.rows[:half], micro.rows[half:])]

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

    def __init__(
        self, stream: TokenStream, args: TrainingArguments, model: Model, change: Change, world: World
    ) -> None:
        facts = stream.state_dict()
        size = facts["block_size"]
        if args.max_steps <= 0:
            raise ArgumentError("a stream does not know its length; set max_steps, the steps of the whole run")
        if size > (most := model.config.longest):
            long = f"a stream with block_size={size} is too long for a model of {most} tokens"
            raise ArgumentError(f"{long}; make it with less")
        self._stream, self._args, self._model, self._change, self._world = stream, args, model, change, world
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
        return micros if self._world.size == 1 else [self._share(micro) for micro in micros]

    def _share(self, micro: Micro) -> Micro:
        """This process's rows of a micro-batch; all processes read the same stream."""
        lengths = [len(row) for row in micro.batch.rows(micro.batch.input_ids)]
        mine = deal(lengths, self._world.size)[self._world.rank].tolist()
        return self._part(micro, mine) if mine else replace(self._part(micro, [0]), count=0, tokens=0, empty=True)

    def _part(self, micro: Micro, places: list[int]) -> Micro:
        batch = micro.batch.take(places)
        return replace(
            micro, batch=batch, count=loss_terms(batch, len(places), self._model.next), tokens=batch.tokens, rows=np.asarray(batch.sample_ids)
        )  # fmt: skip

    def halves(self, micro: Micro) -> list[Micro]:
        """The same rows in two micro-batches, where there are two."""
        size = len(micro.batch)
        if size < 2:
            return [micro]
        return [self._part(micro, list(places)) for places in (range(size // 2), range(size // 2, size))]

    def _next(self) -> Micro:
        batch = None
        while batch is None:
            self._batches = self._batches or self._stream.batches(self._budget)
            if (batch := next(self._batches, None)) is None:
                self._batches = None  # the next epoch of the stream
        highest, size = int(batch.input_ids.max()), self._model.config.vocab_size
        if highest >= size:
            where = f"document {batch.sample_ids[0]} of the stream or near it"
            wrong = f"token id {highest} in {where} is outside the model's vocabulary of {size}"
            raise DataError(f"{wrong}: load both by the same name")
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
    store: TokenStore, args: TrainingArguments, world: World, change: Change = lambda epoch: None, shifted: bool = False
) -> Feed:
    """Batches of a token store for native models; `shifted` as for `loss_terms`. Raises DataError where no token has a next one."""
    if shifted and store.lengths.max() < 2:
        short = "no row of the training data has two tokens"
        raise DataError(f"{short}, so there is no next one to learn; make longer rows")

    def make(rows: np.ndarray, epoch: int) -> tuple[Any, int, int]:
        batch = store.pack(rows)
        if (remake := change(epoch)) is not None:
            batch = remake(batch)
        return batch, loss_terms(batch, len(rows), shifted), token_count(batch)

    sampler = _sampler(args, len(store), store.fingerprint, store.lengths)
    return Feed(sampler, args, make, store.fingerprint, len(store), store.lengths, world)


def collated_feed(
    dataset: Any, collator: Callable[[list[Any]], Any], model: Any, args: TrainingArguments, world: World
) -> Feed:
    """Batches of any map-style data set through the caller's collator, for any module."""
    size = len_of(dataset)
    keep, shifted = accepted_by(model), isinstance(model, Model) and model.next

    def make(rows: np.ndarray, epoch: int) -> tuple[Any, int, int]:
        batch = collator([dataset[int(row)] for row in rows])
        if not isinstance(batch, PackedBatch) and keep is not None and hasattr(batch, "keys"):
            batch = {key: batch[key] for key in batch.keys() if key in keep}  # noqa: SIM118
        return batch, loss_terms(batch, len(rows), shifted), token_count(batch)

    fingerprint = hashlib.blake2b(f"{getattr(dataset, '_fingerprint', '')}/{size}".encode(), digest_size=16).hexdigest()
    return Feed(_sampler(args, size, fingerprint, None), args, make, fingerprint, size, None, world)


def len_of(dataset: Any) -> int:
    """Rows of a data set; DataError when it has none or does not know."""
    try:
        size = len(dataset)
    except TypeError:
        how = "give a data set with rows, or for training an unpad.TokenStream"
        raise DataError(f"a {type(dataset).__name__} has no length; {how}") from None
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


def loss_of(output: Any) -> Tensor:
    """The loss that a model of any kind returned. Raises TrainingError where there is none."""
    loss = output.get("loss") if hasattr(output, "get") else getattr(output, "loss", None)
    if loss is None and isinstance(output, (tuple, list)):
        loss = output[0]
    if not isinstance(loss, Tensor) or loss.dim():
        raise TrainingError("the model returned no loss; do its inputs include labels? (a column 'label' or 'labels')")
    return loss
