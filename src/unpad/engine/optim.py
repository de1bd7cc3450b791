"""The optimizer: AdamW without decay on biases and norms, and the step around it that reads each gradient once.

Embedding gradients that are kept by rows (core.layers.RowEmbedding) are cleared and measured by their touched rows; clipping is
handed to the fused kernel as a factor instead of rewriting every gradient first.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from unpad.core.layers import RowEmbedding


class AdamW(torch.optim.AdamW):
    """PyTorch's, whose methods each load PyTorch's compiler (1 s, 67 MB) to tell it to leave them alone; these do not.

    Without `differentiable` there is nothing else in the decorators that are taken off.
    """

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    state_dict = inspect.unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.AdamW.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: decayed, and the biases and norm weights, which are not."""
    norms = [module for module in model.modules() if isinstance(module, (nn.LayerNorm, nn.RMSNorm))]
    spared = {id(p) for norm in norms for p in norm.parameters(recurse=False)}
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (plain if id(parameter) in spared or name.endswith("bias") else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def adamw(
    model: nn.Module, lr: float, betas: tuple[float, float], eps: float, weight_decay: float, name: str
) -> torch.optim.Optimizer:
    """The optimizer that `TrainingArguments.optim` names, over `decay_groups`."""
    device = next(model.parameters()).device
    fused = name == "adamw_torch_fused" and device.type in ("cpu", "cuda")
    return AdamW(decay_groups(model, weight_decay), lr=lr, betas=betas, eps=eps, fused=fused)


def gradient_norm(parameters: Iterable[nn.Parameter], rows: Iterable[RowEmbedding] = ()) -> Tensor:
    """L2 norm over all gradients, a scalar on the device; row embeddings are read by their touched rows."""
    if by_row := {id(layer.trained): layer for layer in rows}:
        grads = []
        for parameter in parameters:
            layer = by_row.get(id(parameter))
            grad = parameter.grad if layer is None else layer.touched_gradient()
            if grad is not None:
                grads.append(grad)
    else:
        grads = [grad for parameter in parameters if (grad := parameter.grad) is not None]
    if not grads:
        return torch.zeros(())
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    return norm.full_tensor() if _is_sharded(norm) else norm


def scale_gradients(parameters: Iterable[nn.Parameter], max_norm: float, norm: Tensor) -> None:
    """Scale all gradients so that their L2 norm, which is `norm`, becomes at most `max_norm`."""
    if norm.device.type == "cpu":  # reading it costs nothing there, a pass over gradients that are short enough does
        value = norm.item()
        factor: Any = max_norm / (value + 1e-6)
        if factor >= 1:
            return
    else:
        factor = torch.clamp(max_norm / (norm + 1e-6), max=1.0)
    if grads := [grad for p in parameters if (grad := p.grad) is not None]:
        torch._foreach_mul_(grads, float(factor) if _is_sharded(grads[0]) else factor)


def _is_sharded(tensor: Any) -> bool:
    """Whether it is a `DTensor`, whose import takes time."""
    return hasattr(tensor, "full_tensor")


class PreparedOptimizer:
    """An optimizer as `Accelerator.prepare` returns it: the same interface, and nothing happens inside an accumulation window."""

    def __init__(self, optimizer: torch.optim.Optimizer, engine: Any = None, model: nn.Module | None = None) -> None:
        self.optimizer, self.model = optimizer, model
        self.rows: list[RowEmbedding] = []
        self._engine = engine

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups

    @property
    def state(self) -> Any:
        return self.optimizer.state

    def parameters(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def keep_rows(self, model: nn.Module, used: Tensor | None = None) -> None:
        """Keep embedding gradients by rows for the embeddings of `model` that this optimizer trains.

        `used` int64 [U]: the ids that training will ask for. Where nothing decays and no step has been made, only their rows are
        trained: AdamW leaves a row alone whose gradient has always been 0.
        """
        layers: list[RowEmbedding] = getattr(model, "row_embeddings", list)()
        mine = {id(p): (group, i) for group in self.param_groups for i, p in enumerate(group["params"])}
        self.rows = [m for m in layers if id(m.weight) in mine]
        for layer in self.rows:
            group, i = mine[id(layer.weight)]
            apart = used is not None and not group.get("weight_decay") and not self.state
            layer.train_rows(used if apart else None)
            group["params"][i] = layer.trained

    def step(self, closure: Any = None) -> None:
        """Apply the gradients, unless the accelerator is still accumulating."""
        if self._engine is None or self._engine.sync_gradients:
            scaler = None if self._engine is None else self._engine.scaler
            if scaler is not None:
                scaler.step(self.optimizer)
                scaler.update()
            else:
                self.optimizer.step(closure)

    def clipped_step(self, max_norm: float | None) -> Tensor:
        """Measure the gradient, scale it to at most `max_norm` and step. Returns the norm before clipping.

        Same result as `clip_grad_norm_` and `step`. The fused kernels divide by `grad_scale` while they read the gradient, so
        clipping costs no pass of its own and no synchronisation.
        """
        scaler = None if self._engine is None else self._engine.scaler
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        parameters = self.parameters()
        norm = gradient_norm(parameters, self.rows)
        fused = self.optimizer.defaults.get("fused") and not isinstance(self.optimizer, torch.optim.SGD)
        if max_norm and scaler is None and fused and not _is_sharded(parameters[0]):
            if norm.device.type != "cpu":
                self.optimizer.grad_scale = torch.clamp((norm + 1e-6) / max_norm, min=1.0)  # type: ignore[attr-defined]
            elif (excess := (norm.item() + 1e-6) / max_norm) > 1:
                self.optimizer.grad_scale = torch.tensor(excess)  # type: ignore[attr-defined]
            self.step()
            self.optimizer.grad_scale = None  # type: ignore[attr-defined]
        else:
            if max_norm:
                scale_gradients(parameters, max_norm, norm)
            self.step()
        return norm

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, unless the accelerator is still accumulating."""
        if self._engine is not None and not self._engine.sync_gradients:
            return
        kept = {id(layer.trained) for layer in self.rows}
        for layer in self.rows:
            layer.clear_gradient()
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if kept and id(parameter) in kept:
                    continue
                if set_to_none:
                    parameter.grad = None
                elif parameter.grad is not None:
                    parameter.grad.zero_()

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's whole state; `rows`: by parameter, which rows of an embedding it is about, where not all."""
        if self._engine is None:
            return self.optimizer.state_dict()
        state = dict(self._engine.strategy.optimizer_state(self.model, self.optimizer))
        if used := self._used():
            state["rows"] = used
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set what `state_dict` gave, also where it kept other rows of an embedding (all of them, say, with many processes)."""
        state = dict(state)
        saved, used = state.pop("rows", {}), self._used()
        of = dict(state["state"])
        tables = {self._number(layer): layer.num_embeddings for layer in self.rows} | dict.fromkeys(saved, 0)
        for number in tables:
            theirs, ours = saved.get(number), used.get(number)
            same = theirs is ours if theirs is None or ours is None else torch.equal(theirs, ours)
            if number in of and not same:
                rows = tables[number] or len(self.parameters()[number])
                of[number] = {name: _other_rows(value, theirs, ours, rows) for name, value in of[number].items()}
        state["state"] = of
        if self._engine is None:
            self.optimizer.load_state_dict(state)
        else:
            self._engine.strategy.set_optimizer_state(self.model, self.optimizer, state)

    def settings(self) -> dict[str, Any]:
        """Learning rates and whatever else the groups of parameters have, without the parameters."""
        return {"groups": [{k: v for k, v in group.items() if k != "params"} for group in self.param_groups]}

    def set_settings(self, settings: dict[str, Any]) -> None:
        """Set what `settings` gave."""
        for group, saved in zip(self.param_groups, settings["groups"], strict=True):
            group.update(saved)

    def _number(self, layer: RowEmbedding) -> int:
        return next(i for i, p in enumerate(self.parameters()) if p is layer.trained)

    def _used(self) -> dict[int, Tensor]:
        return {self._number(layer): layer.used.cpu() for layer in self.rows if layer.used is not None}


def _other_rows(moments: Any, theirs: Tensor | None, ours: Tensor | None, rows: int) -> Any:
    """Moments of the rows `theirs` of a table (None: all `rows`) as those of the rows `ours`; what was never trained has moments of 0."""
    if not isinstance(moments, Tensor) or moments.dim() != 2:  # the number of steps
        return moments
    if theirs is not None:
        moments = moments.new_zeros(rows, moments.shape[1]).index_copy_(0, theirs, moments)
    return moments if ours is None else moments.index_select(0, ours)
