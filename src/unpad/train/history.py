"""The history of a run: `metrics.jsonl` as a list of records, and the series of numbers in it.

A record is a dictionary of one logging event: training records hold `step`, `epoch`, `loss`, `learning_rate`, ...;
evaluation records hold `step`, `epoch`, `eval_loss`, `eval_<metric>`, ...; a summary with the prefix `train_` may end it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unpad.errors import DataError
from unpad.notices import say

History = Sequence[Mapping[str, Any]]
_NOT_METRICS = (
    "loss", "runtime", "per_second", "seconds", "time", "samples", "examples", "steps", "tokens", "memory",
)  # fmt: skip
"""Endings of evaluation keys that say nothing about the quality of a model."""


def read_history(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl` (or of the one inside a folder), in the order of the file.

    A last line that a killed process left unfinished is ignored, with a notice.

    Raises:
        DataError: there is no such file, or another line is not one JSON object (named by its number).
    """
    file = Path(path)
    if file.is_dir():
        file = file / "metrics.jsonl"
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        how = "Pass a metrics.jsonl, or the output folder of a run"
        raise DataError(f"cannot read the history {str(file)!r} ({error.strerror or error}). {how}.") from None
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip(b" \t\r\0")]
    records = []
    for number, line in numbered:
        try:
            record = json.loads(line)
        except ValueError:  # of JSON and of UTF-8
            record = None
        if isinstance(record, dict):
            records.append(record)
        elif number == numbered[-1][0]:
            say(f"line {number} of {str(file)!r} is unfinished (the process was stopped while writing it); ignored.")
        else:
            wrong = f"not one JSON object but {line[:40].decode('utf-8', 'replace')!r}"
            raise DataError(f"line {number} of {str(file)!r} is {wrong}. Mend or remove that line.")
    return records


def series(history: History, key: str) -> tuple[np.ndarray, np.ndarray]:
    """`(steps [n], values [n])` in float64 of all records that hold `key` and `step`, by rising step.

    Of several records of one step (a continued run) the last counts. A value of None stands for NaN.
    """
    found: dict[float, float] = {}
    for record in history:
        step, value = record.get("step"), record.get(key, "")
        value = math.nan if value is None else value
        if is_number(step) and is_number(value):
            found[float(step)] = float(value)  # type: ignore[arg-type]
    steps = sorted(found)
    return np.array(steps, dtype=np.float64), np.array([found[s] for s in steps], dtype=np.float64)


def larger_is_better(metric: str) -> bool:
    """Whether larger values of `metric` are better: false for losses, errors and perplexity."""
    words = metric.lower().replace("-", "_").split("_")
    return not {"loss", "mse", "rmse", "mae", "error", "perplexity", "ppl", "wer", "cer", "ter"} & set(words)


def best_record(history: History, metric: str, greater_is_better: bool | None = None) -> dict[str, Any] | None:
    """The record with the best value of `metric` (`"f1"` and `"eval_f1"` mean the same); the earliest of equals.

    Values that are not finite never win. `greater_is_better` is told from the name unless given. None when no record
    holds the metric.
    """
    key = metric if metric.startswith("eval_") else f"eval_{metric}"
    up = larger_is_better(metric) if greater_is_better is None else greater_is_better
    held = [r for r in history if is_number(r.get(key)) and math.isfinite(r[key])]
    if not held:
        return None
    return dict(max(held, key=lambda r: r[key]) if up else min(held, key=lambda r: r[key]))


def sparkline(values: Iterable[float], width: int = 60) -> str:
    """The values as one line of block characters, at most `width` wide; `·` where a value is not finite."""
    blocks = "▁▂▃▄▅▆▇█"
    array = np.array([math.nan if v is None else v for v in values], dtype=np.float64)
    array = _means(array, width) if len(array) > width else array
    known = array[np.isfinite(array)]
    if not len(known):
        return "·" * len(array)
    low, high = float(known.min()) / 2, float(known.max()) / 2  # halves, so that the span cannot overflow
    places = [round(7 * ((v / 2 - low) / (high - low))) if high > low else 3 for v in known.tolist()]
    shown = iter(blocks[place] for place in places)
    return "".join(next(shown) if math.isfinite(v) else "·" for v in array)


def finite(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points whose value is finite."""
    known = np.isfinite(values)
    return steps[known], values[known]


def thin(steps: np.ndarray, values: np.ndarray, most: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    """Means of neighbours, so that at most `most` points remain: neither eyes nor medians need more."""
    if len(values) <= most:
        return steps, values
    return _means(steps, most), _means(values, most)


def _means(values: np.ndarray, parts: int) -> np.ndarray:
    return np.array([part.mean() for part in np.array_split(values, parts)])


def is_number(value: object) -> bool:
    """Whether a value of a record is a number; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def loss_keys(history: History) -> list[str]:
    """`eval_loss` first, then losses of further validation sets (`eval_<name>_loss`)."""
    keys = {k: None for r in history for k in r if k.startswith("eval_") and k.endswith("_loss")}
    return sorted(keys, key=lambda k: k != "eval_loss")


def metric_keys(history: History) -> list[str]:
    """Keys of the figures that evaluations give, in the order they first appear; losses and timings left out."""
    pairs = ((key, value) for record in history for key, value in record.items() if key.startswith("eval_"))
    return list(dict.fromkeys(k for k, value in pairs if is_number(value) and not k.endswith(_NOT_METRICS)))
