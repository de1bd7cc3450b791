"""What commands show people: a table of metrics, the loss as one line of blocks, example answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unpad.cli._options import one_line

_WIDEST = 88


def shown_metrics(record: dict[str, Any]) -> dict[str, float]:
    """Figures of an evaluation record that say how good the model is, by plain name."""
    timings = ("_runtime", "_per_second")
    keys = [key for key in record if key.startswith("eval_") and not key.endswith(timings)]
    return {key.removeprefix("eval_"): float(record[key]) for key in keys if isinstance(record[key], (int, float))}


def metric_table(out: Any, history: Sequence[Mapping[str, Any]], final: Mapping[str, float], title: str) -> None:
    """A table of the final metrics, with the best value and its epoch where there were several evaluations."""
    from rich.table import Table

    from unpad.train.curves import best_record, series

    several = any(len(series(history, f"eval_{name}")[0]) > 1 for name in final)
    table = Table(title=f"on {title}" if title else None, title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("metric")
    table.add_column("final", justify="right", style="bold")
    if several:
        table.add_column("best", justify="right")
        table.add_column("at epoch", justify="right")
    for name, value in final.items():
        cells = [name, f"{value:.4f}"]
        if several:
            best = best_record(history, name)
            cells += [f"{best[f'eval_{name}']:.4f}", f"{best.get('epoch', float('nan')):g}"] if best else ["", ""]
        table.add_row(*cells)
    out.print(table)
    out.print()


def spark(out: Any, history: Sequence[Mapping[str, Any]]) -> None:
    """The training loss as one line of blocks with its first and last value."""
    from unpad.train.curves import series, sparkline

    values = series(history, "loss")[1]
    if len(values):
        out.print(f"loss         {values[0]:.4f} {sparkline(values, 50)} {values[-1]:.4f}", markup=False)


def write_examples(out: Any, examples: Sequence[Any], judged: bool = True) -> None:
    """Each `unpad.tasks.Example`: its texts, the answer, and the truth where the data tell it; `judged`: an answer is right or wrong."""
    if not examples:
        return
    out.print()
    out.print("[bold]examples[/]")
    for example in examples:
        for place, text in enumerate(example.texts):
            out.print(f"  {' ' if place else '-'} {one_line(text, _WIDEST)}", markup=False)
        right = example.truth in (None, example.answer) if example.right is None else example.right
        out.print("    " if not judged else "    [green]ok[/]    " if right else "    [red]wrong[/] ", end="")
        truth = "" if example.truth is None else f"   truth: {one_line(example.truth, _WIDEST)}"
        out.print(f"answer: {one_line(example.answer, _WIDEST)}{truth}", markup=False)
