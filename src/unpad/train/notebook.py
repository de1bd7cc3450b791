"""The progress of a run in a notebook: a bar above the table of losses and metrics, in one output that is replaced as the run goes on.

The table is a function of the history, so a run that continues shows its earlier rows again. IPython is asked only where it runs
already; whoever shows no HTML gets the same as text.
"""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from unpad.train.arguments import TrainingArguments
from unpad.train.state import TrainerState

MOST_ROWS = 200
"""Rows of the table that are shown, the newest: every update sends them all."""
NOT_SHOWN = ("_runtime", "_per_second")
"""Endings of figures that say nothing about the model."""


def in_notebook() -> bool:
    """Whether cells of a notebook are being run, and not a script, a terminal or IPython in one."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell" or "IPKernelApp" in getattr(shell, "config", ())


def table(history: Sequence[Mapping[str, Any]], eval_strategy: str = "no") -> list[dict[str, Any]]:
    """The rows of the table, values by heading.

    Without evaluations a row is a logged training loss; with them it is an evaluation, beside it the newest training loss before it.
    `eval_strategy` "epoch" counts epochs, any other one steps.
    """
    evaluates = eval_strategy != "no" or any(_is_evaluation(record) for record in history)
    rows, loss = [], "No log"
    for record in history:
        loss = record.get("loss", loss)
        if not (_is_evaluation(record) if evaluates else "loss" in record):
            continue
        epoch = record.get("epoch", 0.0)
        by_epoch = {"Epoch": int(epoch) if epoch == int(epoch) else epoch}
        row = {**(by_epoch if eval_strategy == "epoch" else {"Step": record["step"]}), "Training Loss": loss}
        if evaluates:
            row["Validation Loss"] = record.get("eval_loss", "No log")
        for name, value in record.items():
            if name.startswith("eval_") and name != "eval_loss" and not name.endswith(NOT_SHOWN):
                words = name.removeprefix("eval_").split("_")
                row[" ".join(word[:1].upper() + word[1:] for word in words)] = value
        rows.append(row)
    return rows


class NotebookView:
    """One output of a cell that follows a run."""

    def __init__(self, args: TrainingArguments, state: TrainerState) -> None:
        self._eval_strategy = args.eval_strategy
        self._epochs = "" if args.max_steps > 0 else f"/{args.num_train_epochs:.4g}"
        self._first, self._since = state.global_step, time.perf_counter()
        self._output: Any = None
        self._figures: dict[str, str] = {}
        self.show(state)

    def step(self, state: TrainerState, figures: dict[str, str] | None) -> None:
        """After a step: `figures` (loss, learning rate, ...) when it is time to show them; they stay until there are new ones."""
        if figures is not None:
            self._figures = figures
            self.show(state)

    def show(self, state: TrainerState, metrics: dict[str, Any] | None = None) -> None:
        """Replace the output by what the run is now; the history has the `metrics`, too."""
        from IPython.display import display

        bar, rows = self._bar(state), table(state.log_history, self._eval_strategy)
        data = {"text/html": _html(bar, state, rows), "text/plain": _plain(bar, rows)}
        if self._output is None:
            self._output = display(data, raw=True, display_id=True)
        else:
            self._output.update(data, raw=True)

    logged = evaluated = show

    def close(self, state: TrainerState) -> None:
        """Show how the run ended, without what only its last steps had."""
        self._figures = {}
        self.show(state)

    def _bar(self, state: TrainerState) -> str:
        """The words beside the bar: `[500/1377 02:12 < 03:52, 3.78 steps/s, epoch 1.09/3, loss 0.5447]`."""
        seconds, done = time.perf_counter() - self._since, state.global_step - self._first
        parts = [f"{state.global_step}/{state.max_steps} {_clock(seconds)}"]
        if done and state.global_step < state.max_steps:
            parts[0] += f" < {_clock(seconds / done * (state.max_steps - state.global_step))}"
        if done:
            parts.append(f"{done / max(seconds, 1e-9):.2f} steps/s")
        parts.append(f"epoch {state.epoch:.4g}{self._epochs}")
        return "[" + ", ".join([*parts, *(f"{name} {value}" for name, value in self._figures.items())]) + "]"


def _is_evaluation(record: Mapping[str, Any]) -> bool:
    return any(name.startswith("eval_") for name in record)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def _cells(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Headings, then the newest rows."""
    headings = list(dict.fromkeys(name for row in rows for name in row))
    shown = [[row.get(name, "") for name in headings] for row in rows[-MOST_ROWS:]]
    return [headings, *([f"{cell:.6f}" if isinstance(cell, float) else str(cell) for cell in row] for row in shown)]


def _html(bar: str, state: TrainerState, rows: list[dict[str, Any]]) -> str:
    text = f"<div><progress value='{state.global_step}' max='{state.max_steps}' style='width:300px; vertical-align:middle'></progress>"
    text += f" {html.escape(bar)}</div>"
    if not rows:
        return text
    headings, *body = ([html.escape(cell) for cell in row] for row in _cells(rows))
    lines = ["<tr style='text-align:left'>" + "".join(f"<th>{cell}</th>" for cell in headings) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body]
    earlier = f"<p>{len(rows) - MOST_ROWS} earlier rows are in metrics.jsonl</p>" if len(rows) > MOST_ROWS else ""
    return f"{text}<table border='1' class='dataframe'>{''.join(lines)}</table>{earlier}"


def _plain(bar: str, rows: list[dict[str, Any]]) -> str:
    cells = _cells(rows) if rows else []
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join([bar, *("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)])
