"""Learning-rate schedules: factors of the step, with warm-up. The formulas are those of the Hugging Face schedules."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from unpad.errors import ArgumentError, nearest

SCHEDULES = ("linear", "cosine", "constant", "constant_with_warmup")


def factor(name: str, step: int, warmup: int, total: int) -> float:
    """What the base learning rate is multiplied with at optimizer step `step` (0: the first)."""
    if name != "constant" and step < warmup:
        return step / max(1, warmup)
    if name == "linear":
        return max(0.0, (total - step) / max(1, total - warmup))
    if name == "cosine":
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))))
    return 1.0


def get_scheduler(
    name: str, optimizer: Any, num_warmup_steps: int | None = None, num_training_steps: int | None = None
) -> Any:
    """A `torch.optim.lr_scheduler.LambdaLR` that follows the schedule `name`.

    `name`: linear, cosine, constant or constant_with_warmup. `num_training_steps` is needed by linear and cosine.
    Raises ArgumentError for an unknown name or a missing number of steps.
    """
    from torch.optim.lr_scheduler import LambdaLR

    name = str(getattr(name, "value", name))
    if name not in SCHEDULES:
        raise ArgumentError(f"schedule {name!r} is unknown{nearest(name, SCHEDULES)}; allowed: {', '.join(SCHEDULES)}")
    if num_training_steps is None and name in ("linear", "cosine"):
        raise ArgumentError(f"the {name} schedule needs num_training_steps= (optimizer steps of the whole training)")
    for option, steps in (("num_warmup_steps", num_warmup_steps), ("num_training_steps", num_training_steps)):
        if steps is not None and (not isinstance(steps, Real) or steps < 0):
            raise ArgumentError(f"{option}={steps!r} must be a number of steps, 0 or more")
    if not hasattr(optimizer, "param_groups"):
        what = type(optimizer).__name__
        raise ArgumentError(f"optimizer is a {what}; give the optimizer whose learning rate is scheduled")
    warmup, total = num_warmup_steps or 0, num_training_steps or 0
    return LambdaLR(getattr(optimizer, "optimizer", optimizer), lambda step: factor(name, step, warmup, total))
