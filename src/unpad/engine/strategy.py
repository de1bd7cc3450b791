"""How the processes hold one model: alone, each a copy (DDP), or each a part of every weight (FSDP2).

PyTorch does the work: `DistributedDataParallel` averages gradients in buckets while the backward pass runs, `fully_shard` splits the
parameters block by block. Neither the core nor a task knows about it. FSDP2 and DDP have run on CPUs over gloo; on GPUs they have not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from unpad.core.noise import Noise
from unpad.core.transformer import Block
from unpad.engine import one_of
from unpad.engine.precision import Precision
from unpad.engine.world import World
from unpad.errors import ArgumentError

STRATEGIES = ("auto", "single", "ddp", "fsdp")


class Single:
    """One process, one model. The other strategies change what differs."""

    name = "single"
    sharded = False
    """Whether each process has only a part of the weights."""

    def __init__(self, world: World, precision: Precision, find_unused: bool = False) -> None:
        self.world, self.precision, self.find_unused = world, precision, find_unused

    def wrap(self, model: nn.Module) -> nn.Module:
        """The module that training calls."""
        return model

    @contextlib.contextmanager
    def apart(self, *models: nn.Module) -> Iterator[None]:
        """Within it gradients stay with their process: more of them are to come."""
        yield

    def whole(self, model: nn.Module) -> Any:
        """A context in which every process has all weights of `model`, to call parts of it freely."""
        return contextlib.nullcontext()

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """All weights by name; with several processes on the main one only, on the CPU. All processes call it."""
        return dict(model.state_dict())

    def set_weights(self, model: nn.Module, weights: dict[str, Tensor]) -> None:
        """Set what `weights` gave. Raises RuntimeError where names or shapes differ."""
        model.load_state_dict(weights)

    def optimizer_state(self, model: nn.Module | None, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The whole state of the optimizer. All processes call it."""
        return optimizer.state_dict()

    def set_optimizer_state(
        self, model: nn.Module | None, optimizer: torch.optim.Optimizer, state: dict[str, Any]
    ) -> None:
        """Set what `optimizer_state` of any strategy gave."""
        optimizer.load_state_dict(state)


class DDP(Single):
    """Every process has the whole model; gradients are averaged."""

    name = "ddp"

    def wrap(self, model: nn.Module) -> nn.Module:
        if not any(p.requires_grad for p in model.parameters()):
            return model
        return DistributedDataParallel(model, find_unused_parameters=self.find_unused, gradient_as_bucket_view=True)

    @contextlib.contextmanager
    def apart(self, *models: nn.Module) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for model in models:
                if isinstance(model, DistributedDataParallel):
                    stack.enter_context(model.no_sync())
            yield


class FSDP(Single):
    """Every process has a part of every weight, gathers a block when it computes it, and keeps its part of gradients and optimizer."""

    name = "fsdp"
    sharded = True

    def wrap(self, model: nn.Module) -> nn.Module:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

        if isinstance(model, FSDPModule):
            _shard(model)
            return model
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision.name)
        policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32, cast_forward_inputs=False)
        mesh = init_device_mesh(self.world.device.type, (self.world.size,))
        for block in [m for m in model.modules() if isinstance(m, Block)]:
            fully_shard(block, mesh=mesh, mp_policy=policy)
        fully_shard(model, mesh=mesh, mp_policy=policy)
        return model

    @contextlib.contextmanager
    def apart(self, *models: nn.Module) -> Iterator[None]:
        for model in models:
            model.set_requires_gradient_sync(False)  # type: ignore[operator]
        try:
            yield
        finally:
            for model in models:
                model.set_requires_gradient_sync(True)  # type: ignore[operator]

    @contextlib.contextmanager
    def whole(self, model: nn.Module) -> Iterator[None]:
        parts = _sharded(model)
        for part in parts:
            part.unshard()
            part.set_reshard_after_forward(False, recurse=False)
        try:
            yield
        finally:
            for part in parts:
                part.set_reshard_after_forward(part is not model, recurse=False)  # as `fully_shard` sets it
            _shard(model)

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        from torch.distributed.checkpoint.state_dict import get_model_state_dict

        _shard(model)
        return dict(get_model_state_dict(model, options=_whole()))  # type: ignore[arg-type]

    def set_weights(self, model: nn.Module, weights: dict[str, Tensor]) -> None:
        from torch.distributed.checkpoint.state_dict import set_model_state_dict

        _shard(model)
        set_model_state_dict(model, dict(weights), options=_whole())

    def optimizer_state(self, model: nn.Module | None, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

        _shard(model)
        assert model is not None
        if not optimizer.state:  # PyTorch would make a step with gradients of 0, which counts
            return optimizer.state_dict()
        state: dict[str, Any] = get_optimizer_state_dict(model, optimizer, options=_whole())
        number = {name: i for i, name in enumerate(_names(model, optimizer))}
        return _renamed(state, number) if state else state  # the other processes have none

    def set_optimizer_state(
        self, model: nn.Module | None, optimizer: torch.optim.Optimizer, state: dict[str, Any]
    ) -> None:
        from torch.distributed.checkpoint.state_dict import set_optimizer_state_dict

        _shard(model)
        assert model is not None
        if not state["state"]:
            optimizer.state.clear()
            optimizer.load_state_dict(state)
            return
        set_optimizer_state_dict(model, optimizer, _renamed(state, _names(model, optimizer)), options=_whole())

    def save_parts(self, model: nn.Module, optimizers: list[torch.optim.Optimizer], folder: Path) -> None:
        """Let every process write its part of weights and optimizers into `folder`, as safetensors. All processes call it."""
        import torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

        writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
        dcp.save(self._parts(model, optimizers), storage_writer=writer)

    def load_parts(self, model: nn.Module, optimizers: list[torch.optim.Optimizer], folder: Path) -> None:
        """Read what `save_parts` wrote, also by another number of processes."""
        import torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
        from torch.distributed.checkpoint.state_dict import set_model_state_dict, set_optimizer_state_dict

        parts = self._parts(model, optimizers)
        dcp.load(parts, storage_reader=HuggingFaceStorageReader(str(folder)))
        weights = {name.removeprefix("model."): value for name, value in parts.items() if name.startswith("model.")}
        set_model_state_dict(model, weights)
        for i, optimizer in enumerate(optimizers):
            state: dict[str, Any] = {}
            for name, value in parts.items():
                if name.startswith(f"optimizer {i}."):
                    parameter, _, moment = name.removeprefix(f"optimizer {i}.").rpartition("/")
                    state.setdefault(parameter, {})[moment] = value
            groups = _renamed({**optimizer.state_dict(), "state": {}}, _names(model, optimizer))
            set_optimizer_state_dict(model, optimizer, {**groups, "state": state})

    def _parts(self, model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, Any]:
        """This process's part of every tensor, by a name that all processes know it under."""
        from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_optimizer_state_dict

        _shard(model)
        parts: dict[str, Any] = {f"model.{name}": value for name, value in get_model_state_dict(model).items()}
        for i, optimizer in enumerate(optimizers):
            fresh = not optimizer.state
            state: Any = get_optimizer_state_dict(model, optimizer)["state"]
            if fresh:  # PyTorch has made a step with gradients of 0, to have moments
                for value in (value for moments in optimizer.state.values() for value in moments.values()):
                    value.zero_()
            for name, moments in state.items():
                for moment, value in moments.items():
                    parts[f"optimizer {i}.{name}/{moment}"] = value
        return parts


def _sharded(model: nn.Module | None) -> list[Any]:
    """The modules that keep parts of their weights."""
    from torch.distributed.fsdp import FSDPModule

    return [] if model is None else [m for m in model.modules() if isinstance(m, FSDPModule)]


def _shard(model: nn.Module | None) -> None:
    """Give back what was gathered: after a forward pass without a backward pass the outermost weights are still whole."""
    for part in _sharded(model):
        part.reshard()


def _whole() -> Any:
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict=True, cpu_offload=True)


def _names(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of the optimizer's parameters, by their number."""
    names = {id(p): name for name, p in model.named_parameters()}
    return [names[id(p)] for group in optimizer.param_groups for p in group["params"]]


def _renamed(state: dict[str, Any], new: Any) -> dict[str, Any]:
    """An optimizer's state in which the parameter `p` is called `new[p]`: by name (FSDP), or by number as one process keeps it."""
    groups = [{**group, "params": [new[p] for p in group["params"]]} for group in state["param_groups"]]
    return {"state": {new[p]: value for p, value in state["state"].items()}, "param_groups": groups}


def choose_strategy(asked: str, world: World, precision: Precision, find_unused: bool = False) -> Single:
    """The strategy for `asked`: "auto" is DDP with several processes. With one process all are the same."""
    one_of("strategy", asked, STRATEGIES)
    if world.size == 1:
        return Single(world, precision)
    if asked == "single":
        alone = f"strategy='single' with {world.size} processes: each would train for itself"
        raise ArgumentError(f"{alone}; use 'ddp' or 'fsdp'")
    return (FSDP if asked == "fsdp" else DDP)(world, precision, find_unused)


def recompute_activations(model: nn.Module) -> None:
    """Keep only what enters each block; the backward pass computes the rest of the block anew, with the same dropout masks.

    Activation checkpointing (Chen et al., 2016): memory for activations falls to one block, training takes about a third longer.
    """
    blocks = [m for m in model.modules() if isinstance(m, Block)]
    if not blocks:
        wrong = f"{type(model).__name__} has no blocks of ours"
        raise ArgumentError(f"gradient_checkpointing needs a model of this library, {wrong}")
    for block in blocks:
        if "forward" not in vars(block):
            block.forward = _recomputing(block.forward)  # type: ignore[method-assign]


def _recomputing(forward: Any) -> Any:
    def run(*args: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args)
        noise = next((arg for arg in args if isinstance(arg, Noise)), None)
        before = None if noise is None else noise.state()
        calls = 0

        def again(*args: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 1 or noise is None:
                return forward(*args)
            now = noise.state()
            noise.restore(before)
            try:
                return forward(*args)
            finally:
                noise.restore(now)

        return checkpoint(again, *args, use_reentrant=False)

    return run
