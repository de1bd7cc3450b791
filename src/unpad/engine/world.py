"""The processes that train together: which one this is, and the few things that they tell one another.

`torchrun` (or `unpad launch`) starts them and sets RANK, WORLD_SIZE and LOCAL_RANK; `torch.distributed` carries what they say, over NCCL
for tensors on GPUs and over gloo for everything on CPUs. One process is a world of one, in which nothing is sent.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from unpad.engine import one_of
from unpad.errors import ArgumentError, TrainingError, UnpadError
from unpad.notices import quiet

T = TypeVar("T")
RESTARTS = "TORCHELASTIC_RESTART_COUNT"


class World:
    """The processes of a run. Made once per process; raises ArgumentError when they cannot meet."""

    def __init__(self, device: str | torch.device | None = None, cpu: bool = False) -> None:
        self.rank, self.size, self.local_rank = (_number(name, usual) for name, usual in _PLACE)
        cuda = torch.cuda.is_available() and not cpu
        found = f"cuda:{self.local_rank}" if cuda and self.size > 1 else "cuda" if cuda else "cpu"
        try:
            self.device = torch.device(device or found)
        except (RuntimeError, TypeError):
            raise ArgumentError(f"device={device!r} is unknown; write 'cpu', 'cuda' or 'cuda:1'") from None
        if self.size > 1:
            if self.rank:
                quiet()
            self._meet()

    def _meet(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if not dist.is_initialized():
            where = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
            try:
                patience = timedelta(minutes=float(os.environ.get("UNPAD_TIMEOUT_MINUTES", "30")))
                backend = "cpu:gloo,cuda:nccl" if self.device.type == "cuda" else "gloo"
                dist.init_process_group(backend, timeout=patience, **self._store(patience))
            except (RuntimeError, ValueError) as error:
                reason = "the port is in use" if "EADDRINUSE" in str(error) else str(error).splitlines()[0][:120]
                raise ArgumentError(
                    f"process {self.rank} of {self.size} cannot meet the others at {where} ({reason}); "
                    "start all with one `unpad launch` or `torchrun`, or give another --port"
                ) from None
            atexit.register(_part)
        if dist.get_world_size() != self.size:
            met = dist.get_world_size()
            raise ArgumentError(f"WORLD_SIZE={self.size}, but {met} processes have met; start them anew")
        sys.excepthook = _one_line(self.rank)

    def _store(self, patience: timedelta) -> dict[str, Any]:
        """Where the processes look for one another, after a restart by torchrun on one machine: its store still has the addresses of the
        dead ones, at which gloo would wait for ever."""
        shared = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        if not (self.restarted and shared and _number("GROUP_WORLD_SIZE", 1) == 1):
            return {}
        place = (os.environ["MASTER_ADDR"], _number("MASTER_PORT", 0))
        store = dist.TCPStore(*place, self.size, is_master=False, timeout=patience)
        attempt = dist.PrefixStore(f"attempt {os.environ[RESTARTS]}", store)
        return {"store": attempt, "rank": self.rank, "world_size": self.size}

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def restarted(self) -> bool:
        """Whether `torchrun` started this process again after a failure."""
        return _number(RESTARTS, 0) > 0

    # -- what they tell one another; with one process each gives back what it got

    def wait(self) -> None:
        """Return when all processes are here."""
        if self.size > 1:
            self.sums(0)

    def objects(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def from_main(self, value: T) -> T:
        """The value of the main process."""
        if self.size == 1:
            return value
        found = [value]
        dist.broadcast_object_list(found, src=0)
        return found[0]

    def on_main(self, act: Callable[[], T]) -> T:
        """What `act` gives on the main process, which alone runs it; where it fails, all processes raise its error."""
        if self.size == 1:
            return act()
        result: T | None = None
        failure: Exception | None = None
        if self.is_main:
            try:
                result = act()
            except Exception as error:
                failure = error
        told = failure
        if failure is not None and not isinstance(failure, UnpadError):
            what = f"{type(failure).__name__} ({str(failure)[:120]!r})"
            told = TrainingError(f"the main process failed with {what}; see its traceback")
        result, told = self.from_main((result, told))
        if told is not None:
            raise failure or told
        return result  # type: ignore[return-value]

    def sums(self, *numbers: int) -> tuple[int, ...]:
        """Each of the whole numbers summed over all processes."""
        if self.size == 1:
            return numbers
        total = torch.tensor(numbers, dtype=torch.int64)
        dist.all_reduce(total)
        return tuple(total.tolist())

    def agree(self, what: str, facts: dict[str, Any]) -> None:
        """Raise ArgumentError on all processes where `facts` differ between them, and name the first that does."""
        everyone = self.objects(facts)
        for name in dict.fromkeys(name for theirs in everyone for name in theirs):
            for rank, theirs in enumerate(everyone):
                if theirs.get(name) != everyone[0].get(name):
                    raise ArgumentError(
                        f"the processes differ in {what}: {name} is {everyone[0].get(name)!r} on rank 0 and {theirs.get(name)!r} on "
                        f"rank {rank}; start all with the same script, arguments and data"
                    )

    def gather(self, value: Any) -> Any:
        """Tensors of all processes one after another along dimension 0, whose size may differ; numbers become [size]."""
        return value if self.size == 1 else each_tensor(value, self._gather, _refuse)

    def _gather(self, tensor: Tensor) -> Tensor:
        tensor = (tensor.detach() if tensor.dim() else tensor.detach().view(1)).contiguous()
        met = self.objects((tuple(tensor.shape), tensor.dtype))
        there = [one for one in met if one[0][0]] or met[:1]  # a process without rows has them of any shape and type
        if len({shape[1:] for shape, _ in there}) > 1:
            raise ArgumentError(
                f"gather needs the same shape beyond dimension 0, the processes have {', '.join(str(list(s)) for s, _ in met)}; "
                "call pad_across_processes(value, dim=1) before"
            )
        if len({kind for _, kind in there}) > 1:
            kinds = ", ".join(str(kind) for _, kind in met)
            raise ArgumentError(f"gather needs one dtype, the processes have {kinds}; convert before")
        rows = [shape[0] for shape, _ in met]
        if not len(tensor):
            tensor = torch.empty(0, *there[0][0][1:], dtype=there[0][1], device=tensor.device)
        kind, plain = tensor.dtype, tensor.to(_CARRIED.get(tensor.dtype, tensor.dtype))
        room = plain.new_zeros(max(rows), *plain.shape[1:])
        room[: len(plain)] = plain
        parts = [torch.empty_like(room) for _ in rows]
        dist.all_gather(parts, room)
        whole = torch.cat([part[:count] for part, count in zip(parts, rows, strict=True)])
        return whole.to(kind)

    def pad(self, value: Any, dim: int = 0, fill: float = 0, first: bool = False) -> Any:
        """Tensors padded with `fill` to the longest of all processes along `dim`, at the end or at the beginning (`first`)."""

        def padded(tensor: Tensor) -> Tensor:
            if not -tensor.dim() <= dim < tensor.dim():
                return tensor
            at = dim % tensor.dim()
            longest = max(self.objects(tensor.shape[at]))
            out = tensor.new_full((*tensor.shape[:at], longest, *tensor.shape[at + 1 :]), fill)
            out.narrow(at, longest - tensor.shape[at] if first else 0, tensor.shape[at]).copy_(tensor)
            return out

        return value if self.size == 1 else each_tensor(value, padded, _refuse)

    def reduce(self, value: Any, reduction: str = "sum") -> Any:
        """Sum or mean of tensors over all processes; all get it. `reduction`: "sum", "mean" or "none"."""
        one_of("reduction", reduction, ("sum", "mean", "none"))

        def reduced(tensor: Tensor) -> Tensor:
            total = tensor.detach().clone()
            dist.all_reduce(total)
            return total / self.size if reduction == "mean" else total

        return value if self.size == 1 or reduction == "none" else each_tensor(value, reduced, _refuse)


_CARRIED = {
    torch.bool: torch.uint8, torch.int16: torch.int32, torch.float16: torch.float32, torch.bfloat16: torch.float32
}  # fmt: skip
"""Types that gloo does not carry, and what carries each of their values."""
_PLACE = (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))


def _number(name: str, usual: int) -> int:
    value = os.environ.get(name, str(usual))
    if not value.isdigit():
        wrong = f"the environment variable {name}={value!r} is not a number"
        raise ArgumentError(f"{wrong}; start with `unpad launch` or `torchrun`")
    return int(value)


def each_tensor(
    value: Any, change: Callable[[Tensor], Tensor], other: Callable[[Any], Any] = lambda value: value
) -> Any:
    """`value` with `change` done to each tensor in it, and `other` to whatever is no dictionary, list or tuple either."""
    if isinstance(value, Tensor):
        return change(value)
    if hasattr(value, "keys"):
        return {key: each_tensor(value[key], change, other) for key in value.keys()}  # noqa: SIM118
    if isinstance(value, (list, tuple)):
        return like(value, [each_tensor(item, change, other) for item in value])
    return other(value)


def _refuse(value: Any) -> Any:
    raise ArgumentError(
        f"a {type(value).__name__} cannot be gathered; give tensors, or lists, tuples and dictionaries of them"
    )


def like(value: Any, items: list[Any]) -> Any:
    """A list or tuple of `items`, of the same type as `value`, which may be a named tuple."""
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def _part() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _one_line(rank: int) -> Callable[..., None]:
    """An exception hook that shows an error of the user's as one line and exits with 2.

    Most such errors come to all processes at once: the others leave it to the main one, and speak only where it stays silent.
    """
    usual = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if not issubclass(kind, UnpadError):
            usual(kind, error, trace)
            return
        if rank:
            time.sleep(2.0)  # time enough for a launcher that sees the main process end to end this one too
        print(f"unpad: {error}" if not rank else f"unpad: rank {rank}: {error}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(2)  # a regular exit would wait for processes that wait for this one

    return show
