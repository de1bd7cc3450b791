"""The Accelerator: one loop for scripts and for the Trainer. This file is its single-process part.

It owns the device, the precision, the accumulation window and the saved state. `Trainer.train()` runs on the same methods that a
custom loop calls, so the two cannot differ.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unpad.batch import PackedBatch
from unpad.checkpoint.files import staged_folder, verify
from unpad.engine.optim import PreparedOptimizer, gradient_norm
from unpad.engine.precision import choose_precision
from unpad.engine.state import random_state, read_tree, restore_random_state, set_seed, write_tree
from unpad.errors import ArgumentError, CheckpointError, listing
from unpad.notices import say_once


class Accelerator:
    """Prepares models, optimizers, loaders and schedulers, and runs their steps.

    `mixed_precision`: "auto" (default), "fp32"/"no", "bf16", "fp16". `gradient_accumulation_steps`: micro-batches per optimizer
    step. `seed`: seeds all generators. `cpu=True` ignores a GPU.
    """

    def __init__(
        self, mixed_precision: str | None = None, gradient_accumulation_steps: int = 1, *, seed: int | None = None, cpu: bool = False,
        device: str | torch.device | None = None,
    ) -> None:  # fmt: skip
        if gradient_accumulation_steps < 1:
            raise ArgumentError(f"gradient_accumulation_steps={gradient_accumulation_steps} must be 1 or more")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ArgumentError("this version trains on one process; start the script without torchrun")
        try:
            self.device = torch.device(device or ("cuda" if torch.cuda.is_available() and not cpu else "cpu"))
        except (RuntimeError, TypeError):
            raise ArgumentError(f"device={device!r} is unknown; write 'cpu', 'cuda' or 'cuda:1'") from None
        self.precision = choose_precision(mixed_precision or "auto", self.device)
        self.scaler = torch.amp.GradScaler(self.device.type) if self.precision.name == "fp16" else None
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.sync_gradients = True
        self._micro_step = 0
        self._models: list[nn.Module] = []
        self._optimizers: list[PreparedOptimizer] = []
        self._schedulers: list[Any] = []
        if seed is not None:
            set_seed(seed)
        say_once(f"precision {self.precision.name} ({self.precision.reason})")

    # -- one process: the whole world

    num_processes = 1
    process_index = 0
    local_process_index = 0
    is_main_process = True
    is_local_main_process = True

    def wait_for_everyone(self) -> None:
        """Return when all processes are here."""

    def print(self, *values: Any, **options: Any) -> None:
        """Print once, on the main process."""
        print(*values, **options)

    def gather(self, value: Any) -> Any:
        """Values of all processes along dimension 0."""
        return value

    gather_for_metrics = gather

    def pad_across_processes(self, value: Any, dim: int = 0, pad_index: int = 0, pad_first: bool = False) -> Any:
        """Pad to the longest of all processes along `dim`."""
        return value

    def reduce(self, value: Any, reduction: str = "sum") -> Any:
        """Sum or mean over all processes."""
        return value

    # -- preparation

    def prepare(self, *things: Any) -> Any:
        """Models, optimizers, loaders and schedulers, in any order; returns them prepared, in the same order.

        Models move to the device and run under the precision; optimizers respect accumulation; loaders move their batches.
        """
        prepared = [self._prepare_one(thing) for thing in things]
        for optimizer in self._optimizers:
            for model in self._models:
                if not optimizer.rows:
                    optimizer.keep_rows(model)
        return prepared[0] if len(prepared) == 1 else tuple(prepared)

    def _prepare_one(self, thing: Any) -> Any:
        if isinstance(thing, nn.Module):
            if any(thing is model for model in self._models):
                raise ArgumentError(
                    f"the model {type(thing).__name__} was prepared before; call prepare once with everything"
                )
            thing.to(self.device)
            self._models.append(thing)
            if self.precision.name != "fp32":
                _run_under(thing, self)
            return thing
        if isinstance(thing, torch.optim.Optimizer):
            if any(thing is known.optimizer for known in self._optimizers):
                raise ArgumentError(
                    f"the optimizer {type(thing).__name__} was prepared before; call prepare once with everything"
                )
            optimizer = PreparedOptimizer(thing, self)
            self._optimizers.append(optimizer)
            return optimizer
        if isinstance(thing, torch.optim.lr_scheduler.LRScheduler):
            scheduler = _PreparedScheduler(thing, self)
            self._schedulers.append(scheduler)
            return scheduler
        if hasattr(thing, "__iter__"):
            return _PreparedLoader(thing, self.device)
        raise ArgumentError(
            f"prepare cannot take a {type(thing).__name__}; it takes models, optimizers, loaders and schedulers"
        )

    def release_optimizers(self) -> None:
        """Forget the prepared optimizers and schedulers, and with them their memory."""
        for layer in (layer for optimizer in self._optimizers for layer in optimizer.rows):
            layer.release()
        self._optimizers.clear()
        self._schedulers.clear()

    def unwrap_model(self, model: nn.Module) -> nn.Module:
        """The model as it was before `prepare`."""
        return model

    # -- the step

    def autocast(self) -> Any:
        """The context of the precision, for forward passes outside a prepared model."""
        return self.precision.autocast(self.device.type)

    @contextlib.contextmanager
    def accumulate(self, *models: nn.Module) -> Iterator[None]:
        """One micro-batch: optimizer and scheduler act only in the last of each accumulation window."""
        self._micro_step += 1
        self.sync_gradients = self._micro_step % self.gradient_accumulation_steps == 0
        yield

    def backward(self, loss: Tensor) -> None:
        """Gradients of `loss`, which is divided by the accumulation steps of a custom loop."""
        if self.gradient_accumulation_steps > 1:
            loss = loss / self.gradient_accumulation_steps
        self.backward_raw(loss)

    def backward_raw(self, loss: Tensor) -> None:
        """Gradients of `loss` as it is: for loops that divide by the count of the whole global batch themselves."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def clip_grad_norm_(self, parameters: Any, max_norm: float, norm_type: float = 2.0) -> Tensor | None:
        """Scale the gradients to at most `max_norm`; returns the norm before, or None while accumulating."""
        if not self.sync_gradients:
            return None
        if norm_type != 2.0:
            raise ArgumentError(f"norm_type={norm_type} is not supported; gradients are clipped by their L2 norm (2.0)")
        parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
        if self.scaler is not None:
            for optimizer in self._optimizers:
                self.scaler.unscale_(optimizer.optimizer)
        norm = gradient_norm(parameters, [layer for optimizer in self._optimizers for layer in optimizer.rows])
        grads = [p.grad for p in parameters if p.grad is not None]
        if grads:
            torch._foreach_mul_(grads, torch.clamp(max_norm / (norm + 1e-6), max=1.0))
        return norm

    # -- state

    def save(self, value: Any, path: str | Path) -> None:
        """Save a dictionary of tensors as safetensors (never pickle)."""
        from safetensors.torch import save_file

        save_file({name: t.detach().contiguous().cpu() for name, t in value.items()}, str(path))

    def state(self) -> dict[str, Any]:
        """Everything beside the models' weights that the next step depends on."""
        return {
            "optimizers": [o.state_dict() for o in self._optimizers],
            "schedulers": [_plain(s.state_dict()) for s in self._schedulers],
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "random": random_state(),
            "micro_step": self._micro_step,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Set everything that `state` gave; CheckpointError when it is of another set of objects."""
        if len(state["optimizers"]) != len(self._optimizers) or len(state["schedulers"]) != len(self._schedulers):
            raise CheckpointError(
                f"the saved state has {len(state['optimizers'])} optimizers and {len(state['schedulers'])} schedulers, "
                f"prepared are {len(self._optimizers)} and {len(self._schedulers)}; prepare the same objects first"
            )
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for scheduler, saved in zip(self._schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        if self.scaler is not None and state["scaler"] is not None:
            self.scaler.load_state_dict(state["scaler"])
        self._micro_step = state["micro_step"]
        restore_random_state(state["random"])

    def save_state(self, folder: str | Path) -> Path:
        """Write models, optimizers, schedulers, scaler and generators to `folder`, whole or not at all."""
        folder = Path(folder)
        with staged_folder(folder) as staging:
            for i, model in enumerate(self._models):
                write_tree(staging, f"model_{i}", dict(model.state_dict()))
            write_tree(staging, "state", self.state())
        return folder

    def load_state(self, folder: str | Path) -> None:
        """Read what `save_state` wrote into the prepared objects. Raises CheckpointError when it is damaged or does not fit."""
        folder = Path(folder)
        if problems := verify(folder):
            raise CheckpointError(f"{folder} cannot be loaded: {listing(problems, 3)}; use an earlier state")
        for i, model in enumerate(self._models):
            try:
                model.load_state_dict(read_tree(folder, f"model_{i}"))
            except RuntimeError as error:
                raise CheckpointError(f"{folder} is of another model ({str(error).splitlines()[-1].strip()})") from None
        self.restore(read_tree(folder, "state"))


class _PreparedScheduler:
    """A scheduler that moves only when its optimizer does."""

    def __init__(self, scheduler: Any, engine: Accelerator) -> None:
        self.scheduler, self._engine = scheduler, engine

    def step(self) -> None:
        if self._engine.sync_gradients:
            self.scheduler.step()

    def get_last_lr(self) -> list[float]:
        return self.scheduler.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        return self.scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scheduler.load_state_dict(state)


class _PreparedLoader:
    """A loader whose batches arrive on the device."""

    def __init__(self, loader: Any, device: torch.device) -> None:
        self.loader, self.device = loader, device

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        return (move(batch, self.device) for batch in self.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


def move(batch: Any, device: torch.device) -> Any:
    """A batch (packed, tensor, mapping or sequence of these) on `device`."""
    if isinstance(batch, (Tensor, PackedBatch)):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict) or hasattr(batch, "keys"):
        return {key: move(batch[key], device) for key in batch.keys()}  # noqa: SIM118
    if isinstance(batch, (list, tuple)):
        return type(batch)(move(item, device) for item in batch)
    return batch


def _run_under(model: nn.Module, engine: Accelerator) -> None:
    """Make every forward pass of `model` run under the engine's precision, also when a custom loop calls it plainly."""
    contexts: list[Any] = []

    def enter(module: nn.Module, args: Any) -> None:
        context = engine.autocast()
        context.__enter__()
        contexts.append(context)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        contexts.pop().__exit__(None, None, None)

    model.register_forward_pre_hook(enter)
    model.register_forward_hook(leave, always_call=True)


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if not callable(value) and key != "lr_lambdas"} | (
        {"lr_lambdas": [None] * len(state["lr_lambdas"])} if "lr_lambdas" in state else {}
    )
