"""Metrics under the names of the field's library for them: `evaluate.load("glue", "mrpc")`, `evaluate.combine([...])`.

The metrics are those of `unpad.metrics`. Figures are plain floats, of ROUGE too, where `load_metric` gives its bounds as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unpad import metrics
from unpad.metrics import METRICS, Combined, Metric, load_metric

__all__ = ["combine", "list_evaluation_modules", "load"]


def load(path: str, config_name: str | None = None, **options: Any) -> Metric:
    """A fresh metric by name; `options` as `load_metric` takes them. Raises ArgumentError, with the list, for an unknown one."""
    metric = load_metric(path, config_name, **options)
    if metric.name == "rouge":
        from unpad.metrics.rouge import PlainRouge

        return PlainRouge(config_name)
    return metric


def combine(evaluations: Sequence[str | Metric] | Mapping[str, str | Metric], force_prefix: bool = False) -> Combined:
    """One metric that feeds several, by name or as `load` gave them; a dictionary says what they are to be called.

    Figures of the same name are prefixed by the name of their metric; with `force_prefix` all are.
    """
    if isinstance(evaluations, Mapping):
        named = {name: load(metric) if isinstance(metric, str) else metric for name, metric in evaluations.items()}
        return metrics.combine(named, force_prefix)
    return metrics.combine([load(m) if isinstance(m, str) else m for m in evaluations], force_prefix)


def list_evaluation_modules() -> list[str]:
    """Names of the metrics that `load` knows."""
    return sorted(METRICS)
