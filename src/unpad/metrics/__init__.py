"""Metrics by name: `load_metric("glue", "mrpc")`, `combine(["accuracy", "f1"])`, and plain functions.

All of them stream, work offline and give plain Python floats. Only numpy is imported here; `sacrebleu`, `chrf` and
`rouge` load the package that defines them when they are asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from unpad.compat import modern
from unpad.errors import ArgumentError, listing, nearest
from unpad.metrics._metric import Accumulator, Combined, Kept, Metric
from unpad.metrics.classification import accuracy, f1, matthews_correlation, precision, recall
from unpad.metrics.regression import mse, pearsonr, spearmanr
from unpad.metrics.seqeval import entity_spans

__all__ = [
    "METRICS", "Accumulator", "Combined", "Kept", "Metric", "accuracy", "combine", "entity_spans", "f1", "load_metric",
    "matthews_correlation", "mse", "pearsonr", "precision", "recall", "spearmanr",
]  # fmt: skip

METRICS: dict[str, str] = {
    "accuracy": "unpad.metrics.classification:Accuracy",
    "chrf": "unpad.metrics.translation:Chrf",
    "f1": "unpad.metrics.classification:F1",
    "glue": "unpad.metrics.glue:glue",
    "matthews_correlation": "unpad.metrics.classification:MatthewsCorrelation",
    "mse": "unpad.metrics.regression:MeanSquaredError",
    "pearsonr": "unpad.metrics.regression:Pearson",
    "precision": "unpad.metrics.classification:Precision",
    "recall": "unpad.metrics.classification:Recall",
    "rouge": "unpad.metrics.rouge:Rouge",
    "sacrebleu": "unpad.metrics.translation:Bleu",
    "seqeval": "unpad.metrics.seqeval:Seqeval",
    "spearmanr": "unpad.metrics.regression:Spearman",
    "squad": "unpad.metrics.squad:Squad",
    "squad_v2": "unpad.metrics.squad:SquadV2",
}
"""Where each metric lives: `module:name` of something that takes a `config_name` and gives a `Metric`."""


def load_metric(path: str, config_name: str | None = None, num_process: int = 1, **old: Any) -> Metric:
    """A fresh metric by name, e.g. `load_metric("f1")` or `load_metric("glue", "mrpc")`. Nothing is downloaded.

    `old`: what scripts pass to metrics that are downloaded (`cache_dir`, `experiment_id`, ...); accepted, without effect.

    Raises:
        ArgumentError: there is no such metric or configuration, or several processes are to share one; the message says what to write.
    """
    for name in modern("load_metric", old):
        raise ArgumentError(f"load_metric has no argument {name!r}; it takes names of a metric and a configuration")
    if num_process != 1:
        how = "gather first: predictions, labels = accelerator.gather_for_metrics((predictions, labels))"
        raise ArgumentError(f"load_metric: num_process={num_process!r} is not supported; {how}")
    if path not in METRICS:
        raise ArgumentError(f"there is no metric {path!r}{nearest(path, METRICS)}; there are: {listing(METRICS, 40)}.")
    module, name = METRICS[path].split(":")
    metric: Metric = getattr(importlib.import_module(module), name)(config_name)
    return metric


def combine(metrics: Sequence[str | Metric] | Mapping[str, str | Metric], force_prefix: bool = False) -> Combined:
    """One metric that feeds several: names, metrics, or a dictionary of your own names for them.

    Figures of the same name are prefixed by the name of their metric; with `force_prefix` all are.
    """
    pairs = ((m if isinstance(m, str) else m.name, m) for m in metrics)
    named = metrics.items() if isinstance(metrics, Mapping) else pairs
    parts: dict[str, Metric] = {}
    for name, metric in named:
        if name in parts:
            example = f"combine({{'first': {name!r}, 'second': {name!r}}})"
            raise ArgumentError(f"combine got {name!r} twice. Pass a dictionary with a name for each, e.g. {example}.")
        parts[name] = load_metric(metric) if isinstance(metric, str) else metric
    return Combined(parts, force_prefix=force_prefix)
