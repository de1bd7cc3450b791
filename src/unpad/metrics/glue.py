"""The figures of the GLUE benchmark (Wang et al., 2018), by name of the task."""

from __future__ import annotations

from unpad.errors import ArgumentError, listing, nearest
from unpad.metrics._metric import Combined, Metric
from unpad.metrics.classification import F1, Accuracy, MatthewsCorrelation
from unpad.metrics.regression import Pearson, Spearman

GLUE: dict[str, tuple[type[Metric], ...]] = {
    "cola": (MatthewsCorrelation,),
    "sst2": (Accuracy,),
    "mrpc": (Accuracy, F1),
    "qqp": (Accuracy, F1),
    "stsb": (Pearson, Spearman),
    "mnli": (Accuracy,),
    "mnli_mismatched": (Accuracy,),
    "mnli_matched": (Accuracy,),
    "qnli": (Accuracy,),
    "rte": (Accuracy,),
    "wnli": (Accuracy,),
    "hans": (Accuracy,),
    "ax": (Accuracy,),
}


def glue(config_name: str | None = None) -> Metric:
    """The metric of the GLUE task `config_name`; its keys are `accuracy`, `f1`, `matthews_correlation`, `pearson`
    and `spearmanr`, as the task has them.

    Raises:
        ArgumentError: no task was named, or an unknown one.
    """
    if config_name is None or config_name not in GLUE:
        what = "needs the name of a task" if config_name is None else f"has no task {config_name!r}"
        raise ArgumentError(
            f"metric 'glue' {what}{nearest(config_name or '', GLUE)}; it has: {listing(GLUE, 20)}. "
            f"Write e.g. load_metric('glue', 'mrpc')."
        )
    parts = {part.name: part() for part in GLUE[config_name]}
    return Combined(parts, rename={"pearsonr": "pearson"}, name=f"glue/{config_name}")
