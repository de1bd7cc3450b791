"""A prepared loader: batches on the device, and with several processes each one's share of every batch.

All processes read the same batches: the order of rows is a function of a base seed and of the epoch alone, and what collators draw
comes from a stream of random numbers that all share and no dropout touches. Each process then keeps its own rows of the batch. So
the global batches, the number of steps and what masks and paddings look like do not depend on the number of processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from unpad.batch import PackedBatch
from unpad.data.sampler import deal, mixed
from unpad.data.terms import loss_terms
from unpad.engine.state import random_state, restore_random_state
from unpad.engine.world import World
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

    `epoch` counts the passes begun, `position` the batches given in the pass that is under way: both are part of a saved state, and after
    `load_state` the next pass goes on behind the last batch that was given. `len()` is the number of batches of the loader, which
    all processes share.
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
        self._base = world.from_main(int(torch.empty((), dtype=torch.int64).random_().item()))
        sampler = getattr(loader, "sampler", None)
        self._shuffled = isinstance(sampler, torch.utils.data.RandomSampler) and sampler.generator is None

    def __len__(self) -> int:
        try:
            return len(self.loader)
        except TypeError:
            raise NoLengthError(
                f"this loader of a {type(getattr(self.loader, 'dataset', self.loader)).__name__} has no length: count optimizer steps "
                "instead of epochs (num_training_steps=), or give a data set with rows"
            ) from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def state_dict(self) -> dict[str, Any]:
        """Where it stands."""
        return {"epoch": self.epoch, "position": self.position, "base": self._base, "begun": self._begun}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken, also with another number of processes."""
        self.epoch, self.position, self._begun = state["epoch"], state["position"], state["begun"]
        self._base = state["base"]

    def __iter__(self) -> Iterator[Any]:
        if not self._begun:
            self.position = 0
        self._begun = True
        if self._shuffled:
            self.loader.sampler.generator = torch.Generator().manual_seed(mixed(self._base, self.epoch))
        with self._stream:
            batches = iter(_behind(self.loader, self.position))
        last = None
        with contextlib.suppress(TypeError):
            last = len(self.loader)
        device, many = self._world.device, self._world.size > 1
        ahead = self._next(batches) if last is None else None
        while True:
            batch = self._next(batches) if last is not None else ahead
            if batch is _END:
                break
            self.position += 1
            if last is None:
                ahead = self._next(batches)
            self.ended = self.position == last if last is not None else ahead is _END
            if self.ended:
                self._begun, self.epoch = False, self.epoch + 1
            self._last[:] = [self]
            yield move(self._share(batch) if many else batch, device)
        if self._begun:  # an empty or a shorter pass than announced
            self._begun, self.epoch = False, self.epoch + 1

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
        empty = not mine
        own = take(batch, mine or [0], rows)
        terms, all_terms = (loss_terms(part, n, self._shifted()) for part, n in ((own, len(mine)), (batch, rows)))
        self.part = Part(
            0.0 if empty else size * terms / max(all_terms, 1), 0 if empty else len(mine), len(mine or [0])
        )
        return own


class Part:
    """Of a batch: the weight of this process's mean loss, its rows that count, and the rows it was given (one that does not count where
    there were too few)."""

    __slots__ = ("given", "rows", "weight")

    def __init__(self, weight: float = 1.0, rows: int | None = None, given: int | None = None) -> None:
        self.weight, self.rows, self.given = weight, rows, given


_END = object()


def _behind(loader: Any, position: int) -> Any:
    """The batches of a loader without the first `position` of them, which a loader of rows by number does not even read."""
    if not position:
        return loader
    sampler = getattr(loader, "batch_sampler", None)
    if isinstance(loader, torch.utils.data.DataLoader) and sampler is not None:
        return torch.utils.data.DataLoader(
            loader.dataset, batch_sampler=_Rest(sampler, position), collate_fn=loader.collate_fn, num_workers=loader.num_workers,
            pin_memory=loader.pin_memory, timeout=loader.timeout, worker_init_fn=loader.worker_init_fn, generator=loader.generator,
        )  # fmt: skip
    return _rest(loader, position)


def _rest(batches: Any, position: int) -> Iterator[Any]:
    for i, batch in enumerate(batches):
        if i >= position:
            yield batch


class _Rest(torch.utils.data.Sampler[Any]):
    def __init__(self, sampler: Any, position: int) -> None:
        self.sampler, self.position = sampler, position

    def __iter__(self) -> Iterator[Any]:
        return _rest(self.sampler, self.position)

    def __len__(self) -> int:
        return len(self.sampler) - self.position


def skip_first_batches(loader: Any, num_batches: int = 0) -> Any:
    """The batches of a loader, prepared or not, from number `num_batches` on, for one pass."""
    if isinstance(loader, PreparedLoader):
        loader.position, loader._begun = num_batches, True
        return loader
    return _behind(loader, num_batches)


def row_count(batch: Any) -> int:
    """Rows of a batch: sequences of a packed one (for multiple choice: questions), dimension 0 of the first tensor of another."""
    if isinstance(batch, PackedBatch):
        return len(batch) // batch.choices
    if isinstance(batch, Tensor) and batch.dim():
        return len(batch)
    if (
        isinstance(batch, list)
        and batch
        and not isinstance(batch[0], (Tensor, list, tuple))
        and not hasattr(batch[0], "keys")
    ):
        return len(batch)
    parts: Any = batch if isinstance(batch, (list, tuple)) else ()
    if hasattr(batch, "keys"):
        parts = [batch[key] for key in batch.keys()]  # noqa: SIM118
    for part in parts:
        with contextlib.suppress(DataError):
            return row_count(part)
    raise DataError(
        f"a batch that is a {type(batch).__name__} has no tensor to share out by rows; let the collator make tensors"
    )


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
        return type(batch)(take(part, rows, size) for part in batch)
    return batch


def move(batch: Any, device: torch.device) -> Any:
    """A batch (packed, tensor, mapping or sequence of these) on `device`."""
    if isinstance(batch, Tensor):
        return batch if batch.device == device else batch.to(device, non_blocking=True)
    if isinstance(batch, PackedBatch):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict) or hasattr(batch, "keys"):
        return {key: move(batch[key], device) for key in batch.keys()}  # noqa: SIM118
    if isinstance(batch, (list, tuple)):
        return type(batch)([move(item, device) for item in batch])
    return batch
