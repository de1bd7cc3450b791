"""The tasks, one file each, loaded when first asked for. Training, evaluation, prediction and pipelines all ask here."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from unpad.errors import ArgumentError, nearest
from unpad.tasks._columns import spent
from unpad.tasks._task import Columns, Example, Features, Prepared, Reader, Task

TASKS: dict[str, str] = {
    "text-classification": "unpad.tasks.text_classification",
    "token-classification": "unpad.tasks.token_classification",
    "fill-mask": "unpad.tasks.fill_mask",
    "question-answering": "unpad.tasks.question_answering",
    "multiple-choice": "unpad.tasks.multiple_choice",
    "zero-shot-classification": "unpad.tasks.zero_shot",
    "feature-extraction": "unpad.tasks.feature_extraction",
    "text2text-generation": "unpad.tasks.text2text_generation",
    "translation": "unpad.tasks.translation",
    "summarization": "unpad.tasks.summarization",
    "text-generation": "unpad.tasks.text_generation",
}
"""Name of a task -> module that holds it as `TASK`."""

ALIASES: dict[str, str] = {
    "sentiment-analysis": "text-classification",
    "sequence-classification": "text-classification",
    "ner": "token-classification",
    "masked-lm": "fill-mask",
    "masked-language-modeling": "fill-mask",
    "mlm": "fill-mask",
    "qa": "question-answering",
    "swag": "multiple-choice",
    "zero-shot": "zero-shot-classification",
    "text2text": "text2text-generation",
    "seq2seq": "text2text-generation",
    "summarisation": "summarization",
    "causal-lm": "text-generation",
    "language-modeling": "text-generation",
    "clm": "text-generation",
}
"""Other names that people use for a task -> its name; `translation_en_to_fr` and the like are translation."""
PAIR = re.compile(r"translation[-_](?P<src_lang>.+)[-_]to[-_](?P<tgt_lang>.+)")


def task(name: str) -> Task:
    """The task called `name` (or by an alias). Raises ArgumentError, with the nearest name, for any other."""
    spelled = name.replace("_", "-") if isinstance(name, str) else name
    known = ALIASES.get(spelled, spelled) if isinstance(name, str) else name
    known = "translation" if languages(name) else known
    if not isinstance(known, str) or known not in TASKS:
        every = [*TASKS, *ALIASES]
        raise ArgumentError(f"there is no task {name!r:.60}{nearest(str(name), every)}; there are: {', '.join(every)}")
    found: Task = import_module(TASKS[known]).TASK
    return found


def languages(name: Any) -> dict[str, str]:
    """`src_lang` and `tgt_lang` in the name of a task such as `translation_en_to_fr`; of any other, nothing."""
    found = PAIR.fullmatch(name) if isinstance(name, str) else None
    return found.groupdict() if found else {}


def task_of(head: str) -> Task | None:
    """The first task that a head is for, or None: what a base model is for, its head does not tell."""
    for name in TASKS if head != "base" else ():
        if (found := task(name)).head == head:
            return found
    return None


__all__ = [
    "ALIASES", "TASKS", "Columns", "Example", "Features", "Prepared", "Reader", "Task", "languages", "spent", "task",
    "task_of",
]  # fmt: skip
