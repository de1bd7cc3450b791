"""`unpad curves RUN`: draw the learning curves of a run again from its metrics.jsonl, and say what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unpad.cli._options import Command, options_of
from unpad.errors import DataError


@dataclass
class CurveOptions:
    """Which pictures are drawn, and where."""

    output_dir: str | None = None
    """Folder for curves.png and curves.svg; null: that of the run."""
    metric: str | None = None
    """Metric that decides which step is marked as the best, such as "f1"; null: that of the run, or the loss."""


def command() -> Command:
    about = "Draw the learning curves of a run again from its metrics.jsonl, and say what they mean."
    given = {"run": "folder of a run, or a metrics.jsonl"}
    return Command("curves", about, {"options": options_of(CurveOptions)}, given, with_config=False)


def run(argv: Sequence[str]) -> int:
    options = command().parse(argv)
    from rich.console import Console

    from unpad.checkpoint.files import writing_to
    from unpad.cli._report import metric_table, shown_metrics, spark
    from unpad.cli._run import read_config, refuse_no_folder
    from unpad.train.curves import best_record, diagnose, draw, read_history

    given = Path(options["run"])
    history = read_history(given)
    if not history:
        raise DataError(f"the history of {str(given)!r} has no records yet; let the run log a few steps first")
    folder = given if given.is_dir() else given.parent
    metric = options["metric"] or read_config(folder).get("metric_for_best_model") or "loss"
    best = best_record(history, metric)
    if options["metric"] and best is None:
        known = ", ".join(sorted({name for record in history for name in shown_metrics(record)})) or "none"
        raise DataError(f"the history of {str(given)!r} has no metric {metric!r}; it has: {known}")
    target = Path(options["output_dir"] or folder)
    refuse_no_folder(target)
    with writing_to(target):
        files = draw(history, target, best_step=best.get("step") if best else None, best_metric=metric)
    out = Console(highlight=False, soft_wrap=True)
    evaluations = [record for record in history if shown_metrics(record)]
    if evaluations:
        metric_table(out, history, shown_metrics(evaluations[-1]), "")
    spark(out, history)
    for file in files:
        out.print(f"curves       {file}", markup=False)
    out.print(f"diagnosis    {diagnose(history).paragraph}", markup=False)
    return 0
