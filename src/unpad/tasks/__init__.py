"""The tasks, one file each, loaded when first asked for. Training, evaluation, prediction and pipelines all ask here."""

from __future__ import annotations

from importlib import import_module

from unpad.errors import ArgumentError, nearest
from unpad.tasks._task import Columns, Features, Prepared, Task, spent

TASKS: dict[str, str] = {
    "text-classification": "unpad.tasks.text_classification",
}
"""Name of a task -> module that holds it as `TASK`."""

ALIASES: dict[str, str] = {
    "sentiment-analysis": "text-classification",
    "sequence-classification": "text-classification",
    "text_classification": "text-classification",
}
"""Other names that people use for a task -> its name."""


def task(name: str) -> Task:
    """The task called `name` (or by an alias). Raises ArgumentError, with the nearest name, for any other."""
    known = ALIASES.get(name, name) if isinstance(name, str) else name
    if not isinstance(known, str) or known not in TASKS:
        every = [*TASKS, *ALIASES]
        raise ArgumentError(
            f"there is no task {name!r:.60}{nearest(str(name), every)}; there are: {', '.join(every)}"
        )
    found: Task = import_module(TASKS[known]).TASK
    return found


def task_of(head: str) -> Task | None:
    """The task that a head is for, or None (the base model answers no task)."""
    for name in TASKS:
        if (found := task(name)).head == head:
            return found
    return None


__all__ = ["ALIASES", "TASKS", "Columns", "Features", "Prepared", "Task", "spent", "task", "task_of"]
