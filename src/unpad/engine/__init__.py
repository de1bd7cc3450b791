"""What turns a model and batches into steps: device, precision, optimizer, schedules, accumulation, saved state."""

from collections.abc import Iterable

from unpad.errors import ArgumentError, nearest

OPTIMIZERS = ("adamw_torch", "adamw_torch_fused")
"""Names that `TrainingArguments.optim` takes; here, so that arguments can be checked without loading PyTorch."""


def one_of(name: str, value: object, allowed: Iterable[str]) -> None:
    """Raise ArgumentError where `value` is not among those that the argument `name` takes."""
    if value not in (known := tuple(allowed)):
        raise ArgumentError(f"{name}={value!r} is unknown{nearest(value, known)}; allowed: {', '.join(known)}")
