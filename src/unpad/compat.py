"""Spellings of the past that still work, in one table. Facts only: the code that takes keywords asks `modern` to translate them."""

from __future__ import annotations

from typing import Any

from unpad.errors import ArgumentError

ALIASES: dict[str, dict[str, str]] = {
    "TrainingArguments": {
        "evaluation_strategy": "eval_strategy",
        "per_gpu_train_batch_size": "per_device_train_batch_size",
        "per_gpu_eval_batch_size": "per_device_eval_batch_size",
        "no_cuda": "use_cpu",
        "train_batch_size": "per_device_train_batch_size",
        "eval_batch_size": "per_device_eval_batch_size",
    },
    "Trainer": {"tokenizer": "processing_class"},
}
"""Where a keyword is taken -> old spelling -> today's."""


def modern(where: str, given: dict[str, Any]) -> dict[str, Any]:
    """`given` with old spellings replaced; ArgumentError when a value comes under both names."""
    table = ALIASES[where]
    out: dict[str, Any] = {}
    for name, value in given.items():
        new = table.get(name, name)
        if new in out or (new != name and new in given):
            raise ArgumentError(f"{where}: {name}= is the old name of {new}=; give only one of them")
        out[new] = value
    return out
