"""The Accelerator: one loop for scripts and for the Trainer, on one process or many.

It owns the device, the precision, the accumulation window, the processes and the saved state. `Trainer.train()` runs on the same
methods that a custom loop calls, so the two cannot differ.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unpad.checkpoint.files import checkpoints, newest_valid, recover, staged_folder, verify, writing_to
from unpad.data.sampler import mixed
from unpad.engine.loader import Part, PreparedLoader, SharedStream
from unpad.engine.optim import PreparedOptimizer, gradient_norm, scale_gradients
from unpad.engine.precision import choose_precision
from unpad.engine.state import random_state, read_tree, restore_random_state, set_seed, write_tree
from unpad.engine.stop import StopRequest
from unpad.engine.strategy import choose_strategy, recompute_activations
from unpad.engine.world import World, each_tensor
from unpad.errors import ArgumentError, CheckpointError, listing, nearest
from unpad.notices import say, say_once

_NOTHING = contextlib.nullcontext()  # one for all: a step makes none


class Accelerator:
    """Prepares models, optimizers, loaders and schedulers, and runs their steps.

    `mixed_precision`: "auto" (default), "fp32"/"no", "bf16", "fp16". `gradient_accumulation_steps`: micro-batches per optimizer
    step. `seed`: seeds all generators. `cpu=True` ignores a GPU. `strategy`: how several processes hold a model, "ddp" (default) or
    "fsdp". `project_dir`: where `save_state` and `load_state` keep numbered states. `gradient_checkpointing`: activations of
    our models are computed again in the backward pass. `find_unused_parameters`: for models that leave out parameters in some steps.

    A script runs unchanged with one process and with many (`unpad launch`, `torchrun`): a loader's batches are shared out, so that
    global batches, steps and losses stay what they are with one.
    """

    def __init__(
        self, mixed_precision: str | None = None, gradient_accumulation_steps: int = 1, *, seed: int | None = None, cpu: bool = False,
        device: str | torch.device | None = None, strategy: str = "auto", project_dir: str | Path | None = None,
        gradient_checkpointing: bool = False, find_unused_parameters: bool = False, **other: Any,
    ) -> None:  # fmt: skip
        if other:
            name, known = next(iter(other)), [n for n in inspect.signature(Accelerator).parameters if n != "other"]
            near = nearest(name, known)
            raise ArgumentError(f"Accelerator has no argument {name!r}{near}; it takes {', '.join(known)}")
        steps = gradient_accumulation_steps
        if not isinstance(steps, int) or steps < 1:
            raise ArgumentError(f"gradient_accumulation_steps={steps!r} must be a whole number, 1 or more")
        self.world = World(device, cpu)
        self.device = self.world.device
        self.num_processes, self.process_index = self.world.size, self.world.rank
        self.local_process_index = self.world.local_rank
        self.is_main_process, self.is_local_main_process = self.process_index == 0, self.local_process_index == 0
        self.restarted = self.world.restarted
        """Whether `torchrun` started the processes again after one of them failed."""
        self.precision = choose_precision(mixed_precision or "auto", self.device)
        self.strategy = choose_strategy(strategy, self.world, self.precision, find_unused_parameters)
        self.scaler = torch.amp.GradScaler(self.device.type) if self.precision.name == "fp16" else None
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.gradient_checkpointing = gradient_checkpointing
        self.project_dir = None if project_dir is None else Path(project_dir)
        self.sync_gradients = True
        self._micro_step = 0
        self._models: list[nn.Module] = []
        self._wrapped: list[nn.Module] = []
        self._optimizers: list[PreparedOptimizer] = []
        self._schedulers: list[Any] = []
        self._loaders: list[PreparedLoader] = []
        self._stream = SharedStream(self.world)
        self._stop: StopRequest | None = None
        self._last: list[PreparedLoader] = []  # the loader that gave a batch last
        if seed is not None:
            set_seed(seed)
        say_once(f"precision {self.precision.name} ({self.precision.reason})")
        if self.world.size > 1:
            say_once(f"{self.world.size} processes share each batch ({self.strategy.name}, {self.device.type})")

    # -- the processes

    def stop_requested(self) -> bool:
        """Whether a process was sent SIGTERM or SIGUSR1. All processes ask at the same place of their loop and get the same answer.

        From the first call on these signals end nothing by themselves: the loop saves its state and exits, with
        `unpad.errors.EXIT_CONTINUE` where it wants to be started again.
        """
        if self._stop is None:
            self._stop = StopRequest().__enter__()
        return self.world.sums(self._stop.asked is not None)[0] > 0

    def wait_for_everyone(self) -> None:
        """Return when all processes are here."""
        self.world.wait()

    @contextlib.contextmanager
    def main_process_first(self) -> Iterator[None]:
        """The main process goes first and fills caches (a tokenized data set, a download), the others follow."""
        if not self.is_main_process:
            self.world.wait()
        yield
        if self.is_main_process:
            self.world.wait()

    def print(self, *values: Any, **options: Any) -> None:
        """Print once, on the main process."""
        if self.is_main_process:
            print(*values, **options)

    def gather(self, value: Any) -> Any:
        """Tensors of all processes (or lists, tuples, dictionaries of them) along dimension 0, whose size may differ.

        What was computed of the last batch of a prepared loader comes back for each of its samples once: the row of a process that had
        none to itself is left out, and a loss that was repeated once for each sample of a whole batch counts for this process's samples.
        """
        return self.world.gather(value if self.world.size == 1 else self._own_rows(value))

    def gather_for_metrics(self, value: Any) -> Any:
        """The same for what was computed of the last batch of a prepared loader: each sample exactly once, in the batch's order."""
        if self.world.size > 1 and self._part().rows == 0:
            value = each_tensor(value, lambda tensor: tensor[:0] if tensor.dim() else tensor.new_empty(0))
        return self.world.gather(value)

    def _own_rows(self, value: Any) -> Any:
        part = self._part()
        if part.rows is None:
            return value
        size = getattr(self._last[0], "batch_size", None)

        def own(tensor: Tensor) -> Tensor:
            if not tensor.dim():
                return tensor
            repeated = tensor.dim() == 1 and len(tensor) == size != part.given and tensor.is_floating_point()
            repeated = repeated and bool((tensor == tensor[0]).all())
            return tensor[: part.rows] if repeated or len(tensor) == part.given else tensor

        return each_tensor(value, own)

    def pad_across_processes(self, value: Any, dim: int = 0, pad_index: int = 0, pad_first: bool = False) -> Any:
        """Pad to the longest of all processes along `dim`."""
        return self.world.pad(value, dim, pad_index, pad_first)

    def reduce(self, value: Any, reduction: str = "sum") -> Any:
        """Sum or mean over all processes."""
        return self.world.reduce(value, reduction)

    # -- preparation

    def prepare(self, *things: Any) -> Any:
        """Models, optimizers, loaders and schedulers, in any order; returns them prepared, in the same order.

        Models move to the device and run under the precision; optimizers respect accumulation; loaders move their batches, and give each
        process its share. Raises ArgumentError for what was prepared before, and where the processes do not prepare the same.
        """
        self._check(things)
        prepared: dict[int, Any] = {}
        optimizers = [thing for thing in things if isinstance(thing, torch.optim.Optimizer)]
        for model in (thing for thing in things if isinstance(thing, nn.Module)):
            prepared[id(model)] = self._prepare_model(model, optimizers)
        for thing in things:
            if isinstance(thing, torch.optim.Optimizer):
                prepared[id(thing)] = self._prepare_optimizer(thing)
            elif isinstance(thing, torch.optim.lr_scheduler.LRScheduler):
                prepared[id(thing)] = _PreparedScheduler(thing, self)
                self._schedulers.append(prepared[id(thing)])
            elif id(thing) not in prepared:
                prepared[id(thing)] = PreparedLoader(thing, self.world, self._stream, self._shifted, self._last)
                self._loaders.append(prepared[id(thing)])
        if self.world.size == 1:
            for optimizer in (one for one in self._optimizers if not one.rows):
                for model in self._models:
                    optimizer.keep_rows(model)
        out = tuple(prepared[id(thing)] for thing in things)
        return out[0] if len(out) == 1 else out

    def _check(self, things: tuple[Any, ...]) -> None:
        """Refuse what cannot be prepared, or not in the same way by all processes."""
        inner = [o.optimizer for o in self._optimizers] + [s.scheduler for s in self._schedulers]
        inner += [loader.loader for loader in self._loaders]
        known = (self._models, self._wrapped, self._loaders, self._optimizers, self._schedulers, inner)
        before = {id(one) for some in known for one in some}
        facts: dict[str, Any] = {
            "mixed_precision": self.precision.name, "gradient_accumulation_steps": self.gradient_accumulation_steps,
            "strategy": self.strategy.name, "gradient_checkpointing": self.gradient_checkpointing,
        }  # fmt: skip
        for i, thing in enumerate(things, 1):
            kind, what = type(thing).__name__, f"argument {i} of prepare"
            if id(thing) in before:
                raise ArgumentError(f"{what} ({kind}) was prepared before; call prepare once with everything")
            before.add(id(thing))
            facts[what] = kind
            if isinstance(thing, nn.Module):
                facts |= {f"parameter {name}": f"{p.dtype}{list(p.shape)}" for name, p in thing.named_parameters()}
            elif isinstance(thing, torch.optim.Optimizer):
                facts |= {f"{kind} {name}": repr(value) for name, value in thing.defaults.items()}
            elif not isinstance(thing, torch.optim.lr_scheduler.LRScheduler):
                if not hasattr(thing, "__iter__"):
                    allowed = "models, optimizers, loaders and schedulers"
                    raise ArgumentError(f"prepare cannot take a {kind}; it takes {allowed}")
                with contextlib.suppress(TypeError):
                    facts |= {f"batches of {what}": len(thing), "batch_size": getattr(thing, "batch_size", None)}
        self.world.agree("how they were started", facts)

    def _prepare_model(self, model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> nn.Module:
        model.to(self.device)
        self._models.append(model)
        if self.precision.name != "fp32":
            _run_under(model, self)
        wrapped = self.wrap(model, optimizers)
        self._wrapped.append(wrapped)
        return wrapped

    def wrap(self, model: nn.Module, optimizers: list[torch.optim.Optimizer] | tuple[()] = ()) -> nn.Module:
        """The module that training calls, and the optimizers made to train its parameters, which a strategy may have replaced."""
        if self.gradient_checkpointing:
            recompute_activations(model)
        names = {id(p): name for name, p in model.named_parameters()}
        wrapped = self.strategy.wrap(model)
        parameters = dict(model.named_parameters())
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["params"] = [parameters.get(names.get(id(p), ""), p) for p in group["params"]]
        return wrapped

    def prepare_pair(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, scheduler: Any
    ) -> tuple[PreparedOptimizer, Any]:
        """The optimizer and the schedule of `model`, which was wrapped, prepared."""
        prepared = self._prepare_optimizer(optimizer, model)
        self._schedulers.append(_PreparedScheduler(scheduler, self))
        return prepared, self._schedulers[-1]

    def _prepare_optimizer(self, optimizer: torch.optim.Optimizer, model: nn.Module | None = None) -> PreparedOptimizer:
        if model is None and self._models:
            mine = {id(p) for group in optimizer.param_groups for p in group["params"]}
            model = next((m for m in self._models if any(id(p) in mine for p in m.parameters())), None)
            if model is None and self.strategy.sharded:
                raise ArgumentError(
                    "an optimizer has no parameter of a prepared model, whose weights fsdp has replaced; give model and optimizer to one "
                    "call of prepare, or make the optimizer after it"
                )
        prepared = PreparedOptimizer(optimizer, self, model)
        self._optimizers.append(prepared)
        return prepared

    def _shifted(self) -> bool:
        """Whether a token is asked for the label after it."""
        return any(getattr(model, "next", False) is True for model in self._models)

    def _part(self) -> Part:
        return self._last[0].part if self._last else Part()

    def release_optimizers(self) -> None:
        """Forget the prepared optimizers and schedulers, and with them their memory."""
        for layer in (layer for optimizer in self._optimizers for layer in optimizer.rows):
            layer.release()
        self._optimizers.clear()
        self._schedulers.clear()

    def unwrap_model(self, model: nn.Module) -> nn.Module:
        """The model as it was before `prepare`."""
        pairs = zip(self._models, self._wrapped, strict=True)
        return next((plain for plain, wrapped in pairs if model is wrapped), model)

    def get_state_dict(self, model: nn.Module) -> dict[str, Tensor]:
        """All weights of a prepared model by name, for `save_pretrained(state_dict=...)`; all processes call it, the main one gets them."""
        return self.strategy.weights(self.unwrap_model(model))

    # -- the step

    def autocast(self) -> Any:
        """The context of the precision, for forward passes outside a prepared model."""
        return self.precision.autocast(self.device.type)

    def accumulate(self, *models: nn.Module) -> Any:
        """One micro-batch: optimizer and scheduler act only in the last of each accumulation window, and in the last batch of a loader."""
        ended = bool(self._last) and self._last[0].ended
        self._micro_step += 1
        self.sync_gradients = ended or self._micro_step % self.gradient_accumulation_steps == 0
        if ended:
            self._micro_step = 0
        return _NOTHING if self.sync_gradients or self.world.size == 1 else self.strategy.apart(*models)

    def backward(self, loss: Tensor) -> None:
        """Gradients of `loss`, the mean over this process's share of the batch, as part of the mean over the whole batch; divided by the
        accumulation steps of a custom loop."""
        factor = (self._last[0].part.weight if self._last else 1.0) / self.gradient_accumulation_steps
        self.backward_raw(loss if factor == 1 else loss * factor)

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
        scale_gradients(parameters, max_norm, norm)
        return norm

    # -- state

    def save(self, value: Any, path: str | Path) -> None:
        """Save a dictionary of tensors as safetensors (never pickle), once, on the main process."""
        from safetensors.torch import save_file

        if self.is_main_process:
            save_file({name: t.detach().contiguous().cpu() for name, t in value.items()}, str(path))

    def state(self, without_moments: bool = False) -> dict[str, Any]:
        """Everything beside the models' weights that the next step depends on. All processes call it; the main one's is whole."""
        return {
            "optimizers": [o.settings() if without_moments else o.state_dict() for o in self._optimizers],
            "schedulers": [_plain(s.state_dict()) for s in self._schedulers],
            "loaders": [loader.state_dict() for loader in self._loaders],
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "random": self.world.objects(random_state()),
            "stream": self._stream.state,
            "micro_step": self._micro_step,
        }

    def restore(self, state: dict[str, Any], without_moments: bool = False) -> None:
        """Set everything that `state` gave, also with another number of processes; CheckpointError when it is of another set of objects."""
        for name in ("optimizers", "schedulers", "loaders"):
            saved, prepared = len(state.get(name, [])), len(getattr(self, f"_{name}"))
            if saved != prepared:
                what = f"the saved state has {saved} {name}, {prepared} are prepared"
                raise CheckpointError(f"{what}; prepare the same objects first")
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            if without_moments:
                optimizer.set_settings(saved)
            else:
                optimizer.load_state_dict(saved)
        others = [*state["schedulers"], *state.get("loaders", [])]
        for other, saved in zip([*self._schedulers, *self._loaders], others, strict=True):
            other.load_state_dict(saved)
        if self.scaler is not None and state["scaler"] is not None:
            self.scaler.load_state_dict(state["scaler"])
        self._micro_step = state["micro_step"]
        random = state["random"] if isinstance(state["random"], list) else [state["random"]]
        restore_random_state(random[min(self.process_index, len(random) - 1)])
        self._stream.state = state.get("stream")
        if self._stream.state is not None and self.num_processes == 1:  # then collators draw from its own generators
            restore_random_state(self._stream.state)
        if self.process_index >= len(random):  # a process that was not there: masks of its own
            torch.manual_seed(mixed(torch.initial_seed(), self.process_index))

    def save_state(self, folder: str | Path | None = None, sharded: bool = False) -> Path:
        """Write models, optimizers, schedulers, loaders' positions, scaler and generators to `folder`, whole or not at all.

        Without a folder: `project_dir/checkpoint-<n>`, n one more than the newest. All processes call it; the main one writes, or with
        `sharded` (FSDP) each its part of weights and optimizers, to a folder that all of them see. Raises CheckpointError when the disk
        refuses; what was there before is unharmed then.
        """
        if left := self._micro_step % self.gradient_accumulation_steps:
            where = f"after {left} of {self.gradient_accumulation_steps} micro-batches of a step"
            how = "save where accelerator.sync_gradients is true"
            say_once(f"save_state {where}: their gradients are not saved; {how}")
        parts = sharded and self.strategy.sharded
        weights = [] if parts else [dict(self.strategy.weights(model)) for model in self._models]
        state = self.state(parts)
        final = self.world.on_main(lambda: self._next_state() if folder is None else Path(folder))
        with contextlib.ExitStack() as stack:  # the main process owns the staging folder
            staging = self.world.on_main(lambda: stack.enter_context(staged_folder(final)))
            if parts:
                for i, model in enumerate(self._models):
                    self.strategy.save_parts(model, self._optimizers_of(model), staging / f"model_{i}")  # type: ignore[attr-defined]

            def write() -> None:
                with writing_to(final):
                    for i, model in enumerate(weights):
                        write_tree(staging, f"model_{i}", model)
                    write_tree(staging, "state", state)

            self.world.on_main(write)
            self.world.on_main(stack.close)
        return final

    def load_state(self, folder: str | Path | None = None) -> Path:
        """Read what `save_state` wrote into the prepared objects, also by another number of processes; returns the folder.

        Without a folder: the newest valid state below `project_dir`. Raises CheckpointError when there is none, when it is damaged or does
        not fit.
        """

        def find() -> Path:
            found = self._newest_state() if folder is None else Path(folder)
            if problems := verify(found):
                raise CheckpointError(f"{found} cannot be loaded: {listing(problems, 3)}; use an earlier state")
            return found

        found = self.world.on_main(find)
        parts = (found / "model_0").is_dir()
        if parts and not self.strategy.sharded:
            how = "load it with several processes and strategy='fsdp', and save it whole"
            raise CheckpointError(f"{found} was saved in parts; {how}")
        for i, model in enumerate(self._models):
            try:
                if parts:
                    self.strategy.load_parts(model, self._optimizers_of(model), found / f"model_{i}")  # type: ignore[attr-defined]
                else:
                    self.strategy.set_weights(model, read_tree(found, f"model_{i}"))
            except (RuntimeError, KeyError) as error:
                raise CheckpointError(f"{found} is of another model ({str(error).splitlines()[-1].strip()})") from None
        self.restore(read_tree(found, "state"), parts)
        return found

    def _optimizers_of(self, model: nn.Module) -> list[torch.optim.Optimizer]:
        return [prepared.optimizer for prepared in self._optimizers if prepared.model is model]

    def _project(self) -> Path:
        if self.project_dir is None:
            raise ArgumentError(
                "save_state and load_state need a folder, or Accelerator(project_dir=...) to number states there"
            )
        return self.project_dir

    def _next_state(self) -> Path:
        there = checkpoints(self._project())
        number = int(there[-1].name.removeprefix("checkpoint-")) + 1 if there else 0
        return self._project() / f"checkpoint-{number}"

    def _newest_state(self) -> Path:
        recover(self._project())
        found = newest_valid(self._project())
        if found is None:
            raise CheckpointError(f"{self._project()} has no valid state; call save_state() before")
        say(f"going on from {found}")
        return found


class _PreparedScheduler:
    """A scheduler that moves only when its optimizer does."""

    def __init__(self, scheduler: Any, engine: Accelerator) -> None:
        self.scheduler, self._engine = scheduler, engine

    def step(self) -> None:
        if self._engine.sync_gradients:
            self.scheduler.step()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.scheduler, name)


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
    model.autocast = engine.autocast  # type: ignore[assignment] # `generate` calls parts of a model


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if not callable(value) and key != "lr_lambdas"} | (
        {"lr_lambdas": [None] * len(state["lr_lambdas"])} if "lr_lambdas" in state else {}
    )
