"""What the Trainer refuses to be made with: parts that are none, told before any work is done."""

from __future__ import annotations

from typing import Any

from unpad.errors import ArgumentError
from unpad.train.callbacks import TrainerCallback
from unpad.train.evaluate import streams


def checked_functions(**given: Any) -> None:
    """Raise ArgumentError for a collator or metric that is neither None, a function, nor (metrics) one that streams."""
    for name, part in given.items():
        if part is not None and not callable(part) and not streams(part):
            if hasattr(part, "add_batch"):
                raise ArgumentError(
                    f"compute_metrics is a bare {type(part).__name__} metric; give a function of (predictions, label_ids), "
                    "e.g. lambda p: metric.compute(predictions=p[0].argmax(-1), references=p[1])"
                )
            raise ArgumentError(f"{name} is {part!r:.60} ({type(part).__name__}); give a function, or leave it out")


def checked_pair(optimizers: Any) -> tuple[Any, Any]:
    """The caller's optimizer and schedule."""
    optimizers = (None, None) if optimizers is None else optimizers
    if not isinstance(optimizers, (tuple, list)) or len(optimizers) != 2:
        how = "give a pair (optimizer, schedule), None for those to be made from args"
        raise ArgumentError(f"optimizers is a {type(optimizers).__name__}; {how}")
    if isinstance(optimizers[0], type):
        how = "give an optimizer of the model's parameters, or None"
        raise ArgumentError(f"optimizers[0] is the class {optimizers[0].__name__}; {how}")
    return optimizers[0], optimizers[1]


def checked_callbacks(given: Any) -> list[TrainerCallback]:
    """The caller's callbacks; classes are made into objects."""
    if not isinstance(given, (list, tuple, type(None))):
        raise ArgumentError(f"callbacks is a {type(given).__name__}; give a list of callbacks")
    found = [c() if isinstance(c, type) else c for c in given or []]
    for callback in found:
        if not isinstance(callback, TrainerCallback):
            kind = type(callback).__name__
            raise ArgumentError(f"callback {callback!r:.60} is a {kind}; derive it from TrainerCallback")
    return found
