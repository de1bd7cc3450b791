"""A prepared loader: batches on the device, and with several processes each one's share of every batch.

All processes read the same batches: the order of rows is a function of a base seed and of the epoch alone, and what collators draw
comes from a stream of random numbers that all share and no dropout touches. Each process then keeps its own rows of the batch. So
the global batches, the number of steps and what masks and paddings look like do not depend on the number of processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unpad.batch import PackedBatch
from unpad.data.sampler import deal, mixed
from unpad.data.terms import loss_terms
from unpad.engine.state import random_state, restore_random_state
from unpad.engine.world import World, each_tensor, like
from unpad.errors import ArgumentError, DataError


class NoLengthError(ArgumentError, TypeError):
    """A loader does not know how many batches it has."""


class SharedStream:
    """A context in which all processes draw the same random numbers, for what collators draw: a stream of their own that begins where the
    main process's generators stood when it was first needed. One process draws from its generators as ever."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.state: dict[str, Any] | None = None
        self._own: dict[str, Any] = {}

    def __enter__(self) -> None:
        if self._world.size > 1:
            self._own = random_state()
            if self.state is None:
                self.state = self._world.from_main(self._own)
            restore_random_state(self.state)

    def __exit__(self, *error: Any) -> None:
        if self._world.size > 1:
            self.state = random_state()
            restore_random_state(self._own)


class PreparedLoader:
    """A loader as `Accelerator.prepare` returns it.

    `epoch` counts the passes that have ended, `position` the batches given in the pass that is under way: both are part of a saved state,
    and after `load_state` the next pass goes on behind the last batch that was given. Without, a pass that was left begins anew. `len()`
    is the number of batches of the loader, which all processes share.
    """

    def __init__(
        self, loader: Any, world: World, stream: SharedStream, shifted: Callable[[], bool], last: list[PreparedLoader]
    ) -> None:
        self.loader, self._world, self._stream, self._shifted, self._last = loader, world, stream, shifted, last
        self.epoch, self.position = 0, 0
        self.ended = False
        """Whether the batch given last is the last one of its pass."""
        self.part = Part()
        """What this process holds of the batch given last."""
        self._begun = False
        self._goes_on = False  # the next pass begins behind `position`
        self._base = world.from_main(int(torch.empty((), dtype=torch.int64).random_().item()))
        own = getattr(loader, "sampler", None)
        self._sampler: Any = getattr(getattr(loader, "batch_sampler", None), "sampler", own)
        self._shuffled = getattr(self._sampler, "generator", self) is None
        self._drawn: Tensor | None = None  # where the caller's own generator stood when the pass began
        if world.size > 1 and isinstance(self._sampler, torch.utils.data.DistributedSampler):
            raise ArgumentError(
                "a loader with a DistributedSampler would be shared out twice; make it with shuffle=True alone: prepare gives each process "
                "its rows of every batch"
            )

    def __len__(self) -> int:
        try:
            return len(self.loader)
        except TypeError:
            kind = type(getattr(self.loader, "dataset", self.loader)).__name__
            how = "count optimizer steps instead of epochs (num_training_steps=), or give a data set with rows"
            raise NoLengthError(f"this loader of a {kind} has no length: {how}") from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def state_dict(self) -> dict[str, Any]:
        """Where it stands."""
        own = self._generator()
        drawn = self._drawn if self._begun or own is None else own.get_state()
        return {
            "epoch": self.epoch, "position": self.position, "base": self._base, "begun": self._begun, "generator": drawn,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken, also with another number of processes."""
        self.epoch, self.position, self._begun = state["epoch"], state["position"], state["begun"]
        self._base, self._goes_on, self._drawn = state["base"], state["begun"], state.get("generator")
        own = self._generator()
        if own is not None and self._drawn is not None:
            own.set_state(self._drawn)

    def _generator(self) -> torch.Generator | None:
        """The generator that the caller gave to shuffle with."""
        return None if self._shuffled else getattr(self._sampler, "generator", None)

    def __iter__(self) -> Iterator[Any]:
        if self._begun and not self._goes_on:  # the pass before was left
            self.epoch += 1
        place = self.position if self._goes_on else 0
        self.position, self._begun, self._goes_on = place, True, False
        if self._shuffled:
            self._sampler.generator = torch.Generator().manual_seed(mixed(self._base, self.epoch))
        elif (own := self._generator()) is not None:
            self._drawn = own.get_state()
        with self._stream:
            batches = iter(_behind(self.loader, place))
        last = None
        with contextlib.suppress(TypeError):
            last = len(self.loader)
        device, many = self._world.device, self._world.size > 1
        ahead = self._next(batches) if last is None else None
        while True:
            batch = self._next(batches) if last is not None else ahead
            if batch is _END:
                break
            self.position = place = place + 1
            if last is None:
                ahead = self._next(batches)
            self.ended = place == last if last is not None else ahead is _END
            if self.ended:
                self._begun, self.epoch = False, self.epoch + 1
            self._last[:] = [self]
            yield move(self._share(batch) if many else batch, device)
        if self._begun:  # an empty or a shorter pass than announced
            self._begun, self.epoch = False, self.epoch + 1
        if self._last and self._last[0] is self:  # what is computed from here on is not of its last batch
            self._last.clear()

    def _next(self, batches: Iterator[Any]) -> Any:
        if self._world.size == 1:
            return next(batches, _END)
        with self._stream:
            return next(batches, _END)

    def _share(self, batch: Any) -> Any:
        """This process's rows of a batch, and by how much its mean loss counts."""
        rows, rank, size = row_count(batch), self._world.rank, self._world.size
        if isinstance(batch, PackedBatch):
            lengths = [0] * len(batch)
            for length, row in zip(batch.lengths, batch.order, strict=True):
                lengths[row // batch.choices] += length
            mine = deal(lengths[:rows], size)[rank].tolist()
        else:
            mine = list(range(rows * rank // size, rows * (rank + 1) // size))
        given = mine or [0]
        own = take(batch, given, rows)
        terms, all_terms = (loss_terms(part, n, self._shifted()) for part, n in ((own, len(mine)), (batch, rows)))
        self.part = Part(size * terms / max(all_terms, 1) if mine else 0.0, len(mine), len(given))
        return own


class Part(NamedTuple):
    """Of a batch: the weight of this process's mean loss, its rows that count, and the rows it was given (one that does not count where
    there were too few)."""

    weight: float = 1.0
    rows: int | None = None
    given: int | None = None


_END = object()


def _behind(loader: Any, position: int) -> Any:
    """The batches of a loader without the first `position` of them, which a loader of rows by number does not even read."""
    if not position:
        return loader
    sampler = getattr(loader, "batch_sampler", None)
    plain = not isinstance(getattr(loader, "dataset", None), torch.utils.data.IterableDataset)
    if isinstance(loader, torch.utils.data.DataLoader) and sampler is not None and plain:
        return torch.utils.data.DataLoader(
            loader.dataset, batch_sampler=_Rest(sampler, position), collate_fn=loader.collate_fn, num_workers=loader.num_workers,
            pin_memory=loader.pin_memory, timeout=loader.timeout, worker_init_fn=loader.worker_init_fn, generator=loader.generator,
        )  # fmt: skip
    return islice(loader, position, None)


class _Rest(torch.utils.data.Sampler[Any]):
    def __init__(self, sampler: Any, position: int) -> None:
        self.sampler, self.position = sampler, position

    def __iter__(self) -> Iterator[Any]:
        return islice(self.sampler, self.position, None)

    def __len__(self) -> int:
        return len(self.sampler) - self.position


def skip_first_batches(loader: Any, num_batches: int = 0) -> Any:
    """The batches of a loader, prepared or not, from number `num_batches` on, for one pass."""
    if isinstance(loader, PreparedLoader):
        loader.position, loader._begun, loader._goes_on = num_batches, True, True
        return loader
    return _behind(loader, num_batches)


def row_count(batch: Any) -> int:
    """Rows of a batch: sequences of a packed one (for multiple choice: questions), dimension 0 of the first tensor of another."""
    if isinstance(batch, PackedBatch):
        return len(batch) // batch.choices
    if isinstance(batch, Tensor) and batch.dim():
        return len(batch)
    first = batch[0] if isinstance(batch, list) and batch else batch
    if first is not batch and not isinstance(first, (Tensor, list, tuple)) and not hasattr(first, "keys"):
        return len(batch)
    parts: Any = batch if isinstance(batch, (list, tuple)) else ()
    if hasattr(batch, "keys"):
        parts = [batch[key] for key in batch.keys()]  # noqa: SIM118
    for part in parts:
        with contextlib.suppress(DataError):
            return row_count(part)
    what = f"a batch that is a {type(batch).__name__}"
    raise DataError(f"{what} has no tensor to share out by rows; let the collator make tensors")


def take(batch: Any, rows: list[int], size: int) -> Any:
    """The rows `rows` of a batch of `size` rows; what has no rows stays whole."""
    if isinstance(batch, PackedBatch):
        return batch.take(rows)
    if isinstance(batch, Tensor):
        return batch[rows[0] : rows[-1] + 1] if batch.dim() and len(batch) == size else batch
    if hasattr(batch, "keys"):
        return {key: take(batch[key], rows, size) for key in batch.keys()}  # noqa: SIM118
    if isinstance(batch, (list, tuple)):
        if len(batch) == size and not any(isinstance(part, (Tensor, list, tuple)) for part in batch):
            return type(batch)(batch[row] for row in rows)
        return like(batch, [take(part, rows, size) for part in batch])
    return batch


def move(batch: Any, device: torch.device) -> Any:
    """A batch (packed, tensor, mapping or sequence of these) on `device`."""

    def other(value: Any) -> Any:
        return value.to(device, non_blocking=True) if isinstance(value, PackedBatch) else value

    return each_tensor(batch, lambda tensor: tensor.to(device, non_blocking=True), other)
