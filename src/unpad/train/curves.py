"""Learning curves: draws a history as PNG and SVG; beside it everything else that curves are asked for, by import.

Reading is in `history`, the judgement in words in `diagnosis`; matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unpad.notices import say
from unpad.train.diagnosis import diagnose
from unpad.train.history import (
    History,
    best_record,
    finite,
    is_number,
    loss_keys,
    metric_keys,
    read_history,
    series,
    sparkline,
    thin,
)

__all__ = ["best_record", "diagnose", "draw", "read_history", "series", "sparkline"]

# Okabe and Ito's palette: told apart with every kind of colour vision, and in grey
_BLUE, _ORANGE, _GREEN, _PURPLE, _SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"
_GREY, _INK = "#6B7280", "#1F2937"
_MOST_METRICS = 4
_POINTS = {"linewidth": 1.8, "marker": "o", "markeredgecolor": "white", "markeredgewidth": 0.8, "zorder": 3}


def draw(
    history: History, folder: str | os.PathLike[str], best_step: int | None = None, best_metric: str | None = None
) -> list[Path]:
    """Draw `curves.png` and `curves.svg` into `folder` (made if missing), each replaced in one step.

    One panel for the loss, one for each evaluation metric (at most 4, `best_metric` among them), a small one for the
    learning rate. Steps below, epochs above. `best_step` is marked in every panel; when it is not given, the best step
    by `best_metric` or, without that, by validation loss is marked (if there are several evaluations).

    Returns the two paths.

    Raises:
        OSError: the folder cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    figure = _figure(history, best_step, best_metric)
    FigureCanvasAgg(figure)
    paths = []
    for kind, options in (("png", {"dpi": 150}), ("svg", {"metadata": {"Date": None}})):
        path = folder / f"curves.{kind}"
        unfinished = folder / f".curves.{os.getpid()}.{kind}.tmp"
        try:
            figure.savefig(unfinished, format=kind, facecolor="white", **options)
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
        paths.append(path)
    return paths


def _figure(history: History, best_step: int | None, best_metric: str | None) -> Any:
    from matplotlib.figure import Figure

    metrics = metric_keys(history)
    key = None if best_metric is None else "eval_" + best_metric.removeprefix("eval_")
    if len(metrics) > _MOST_METRICS:
        metrics.sort(key=lambda k: k != key)
        left = ", ".join(k.removeprefix("eval_") for k in metrics[_MOST_METRICS:])
        say(f"the picture shows the first {_MOST_METRICS} metrics; left out: {left}.")
        metrics = metrics[:_MOST_METRICS]
    if best_step is None:
        best_step, key = _guess_best(history, key)

    rate_steps, rates = thin(*finite(*series(history, "learning_rate")), most=400)
    panels = 1 + len(metrics)
    # rows, columns of the large panels; with 3 or 5 of them the learning rate takes the free place
    rows, columns = {1: (1, 1), 2: (1, 2), 3: (2, 2), 4: (2, 2), 5: (2, 3)}[panels]
    if panels == 3 and not len(rates):
        rows, columns = 1, 3
    strip = len(rates) > 0 and rows * columns == panels
    size = ({1: 7.2, 2: 10.4, 3: 14.4}[columns], 3.7 * rows + (1.5 if strip else 0) + 0.4)
    figure = Figure(size, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08, wspace=0.03, hspace=0.03)  # type: ignore[union-attr,call-arg]
    grid = figure.add_gridspec(rows + strip, columns, height_ratios=[1] * rows + ([0.34] if strip else []))
    places = [(i // columns, i % columns) for i in range(rows * columns)]
    axes = [figure.add_subplot(grid[place]) for place in places[:panels]]
    _loss_panel(axes[0], history)
    for axis, metric in zip(axes[1:], metrics, strict=True):
        _metric_panel(axis, history, metric)
    if len(rates):
        axis = figure.add_subplot(grid[rows, :] if strip else grid[places[panels]])
        axis.plot(rate_steps, rates, color=_GREY, linewidth=1.6, marker="o" if len(rates) == 1 else None, markersize=4)
        axis.fill_between(rate_steps, rates, color=_GREY, alpha=0.12, linewidth=0)
        axis.set_ylim(0, max(rates.max() * 1.12, 1e-12))
        axis.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)
        axis.yaxis.get_offset_text().set(size=9, color=_INK)
        axis.set_ylabel("learning\nrate" if strip else "learning rate")
        if strip:
            axis.locator_params(axis="y", nbins=3)
        axes.append(axis)

    last = max((float(r["step"]) for r in history if is_number(r.get("step"))), default=1.0)
    per_epoch = _steps_per_epoch(history)
    for i, axis in enumerate(axes):
        _dress(axis, last, per_epoch if i < columns else None)
        if best_step is not None:
            axis.axvline(best_step, color=_GREEN, linewidth=1.3, linestyle=(0, (5, 3)), zorder=1.5, label="best step")
    if best_step is not None:
        _label_best(axes, ["eval_loss", *metrics], history, best_step, key)
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    if "best step" in handles:
        handles["best step"] = handles.pop("best step")  # last
    if handles:
        look: Any = {"loc": "outside lower center", "frameon": False, "fontsize": 9, "labelcolor": _INK}
        figure.legend(list(handles.values()), list(handles), ncols=min(len(handles), 4 * columns), **look)
    return figure


def _loss_panel(axis: Any, history: History) -> None:
    raw_steps, raw = series(history, "loss")
    steps, losses = thin(*finite(raw_steps, raw))
    shown = [losses]
    if len(losses) >= 10:
        smooth = _smooth(losses)
        axis.plot(steps, losses, color=_BLUE, linewidth=0.7, alpha=0.35, label="training, as logged")
        axis.plot(steps, smooth, color=_BLUE, linewidth=2, label="training, smoothed")
        # a few wild values should not flatten the rest
        shown = [smooth, np.quantile(losses, [0.005, 0.995])]
    elif len(losses):
        axis.plot(steps, losses, color=_BLUE, linewidth=1.8, marker="o", markersize=4, label="training")
    for key, colour in zip(loss_keys(history), (_ORANGE, _PURPLE, _SKY, _INK), strict=False):
        name = key.removeprefix("eval_").removesuffix("loss").rstrip("_")
        label = f"validation ({name})" if name else "validation"
        shown.append(_marked(axis, *finite(*series(history, key)), colour, label))
    everything = np.concatenate(shown)
    if len(everything):
        low, high = float(everything.min()), float(everything.max())
        if low > 0 and high > 30 * low and high > 30 * float(np.median(everything)):
            axis.set_yscale("log")
        elif high > low:
            axis.set_ylim(low - 0.06 * (high - low), high + 0.08 * (high - low))
    else:
        axis.text(0.5, 0.5, "no loss was logged yet", ha="center", color=_GREY, transform=axis.transAxes)
        axis.set_yticks([])
    odd = raw_steps[~np.isfinite(raw)]
    if len(odd):
        look = {"color": "#B00020", "markersize": 6, "linestyle": "none", "label": "loss not finite"}
        axis.plot(odd, np.full(len(odd), 0.97), "v", transform=axis.get_xaxis_transform(), **look)
    axis.set_ylabel("loss")


def _metric_panel(axis: Any, history: History, key: str) -> None:
    name = key.removeprefix("eval_")
    for train_key in (f"train_{name}", name):
        steps, values = finite(*series(history, train_key))
        if len(values):
            marker = "o" if len(values) < 30 else None
            axis.plot(steps, values, color=_BLUE, linewidth=1.8, marker=marker, markersize=4, label="training")
            break
    _marked(axis, *finite(*series(history, key)), _ORANGE, "validation")
    axis.set_ylabel(name.replace("_", " "))
    axis.margins(y=0.12)


def _marked(axis: Any, steps: np.ndarray, values: np.ndarray, colour: str, label: str) -> np.ndarray:
    """Draw a line with a mark at each point; returns the values."""
    if len(values):
        axis.plot(steps, values, color=colour, label=label, markersize=5.5 if len(values) <= 40 else 3, **_POINTS)
    return values


def _dress(axis: Any, last: float, per_epoch: float | None) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_xlim(0, last * 1.03 if last > 0 else 1)
    axis.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    axis.set_xlabel("optimizer step", color=_INK, fontsize=9)
    axis.yaxis.label.set(color=_INK, fontsize=11, fontweight="bold")
    axis.tick_params(colors=_GREY, labelcolor=_INK, labelsize=9, length=3)
    axis.grid(True, color="#E5E7EB", linewidth=0.8)
    axis.set_axisbelow(True)
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#9CA3AF")
    if per_epoch:
        above = axis.secondary_xaxis("top", functions=(lambda s: s / per_epoch, lambda e: e * per_epoch))
        whole = last / per_epoch >= 2
        above.xaxis.set_major_locator(MaxNLocator(6, integer=whole))
        above.set_xlabel("epoch", color=_GREY, fontsize=9)
        above.tick_params(colors=_GREY, labelsize=8, length=3)
        above.spines["top"].set_color("#D1D5DB")


def _label_best(axes: Sequence[Any], keys: Sequence[str], history: History, step: float, chosen: str | None) -> None:
    """Name the best step beside its line, in the panel of the metric that chose it."""
    key = chosen if chosen and chosen in keys else keys[0]
    steps, values = series(history, key)
    at = np.flatnonzero(steps == step)
    text = f"best: step {step:.0f}"
    if len(at):
        text += f"\n{key.removeprefix('eval_').replace('_', ' ')} {values[at[0]]:.4g}"
    axis = axes[list(keys).index(key)]
    right, high = _free_corner(axis, step)
    axis.annotate(
        text, (step, 0.97 if high else 0.03), (6 if right else -6, 0),
        xycoords=axis.get_xaxis_transform(), textcoords="offset points",
        ha="left" if right else "right", va="top" if high else "bottom", zorder=5,
        fontsize=9, color=_GREEN, fontweight="bold",
        bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
    )  # fmt: skip


def _free_corner(axis: Any, step: float) -> tuple[bool, bool]:
    """Whether a label beside the line at `step` disturbs least on its right, and whether at the top."""
    to_panel = axis.transLimits if axis.get_yscale() == "linear" else axis.transScale + axis.transLimits
    at = to_panel.transform((step, axis.get_ylim()[0]))[0]
    dense = np.linspace(0, 1, 400)  # lines cross a box between their points too
    lines = [line.get_data() for line in axis.get_lines() if len(line.get_xdata()) > 2]
    drawn = [to_panel.transform(np.column_stack(data)).T for data in lines]
    heights = np.array([np.interp(dense, x, y, left=-1, right=-1) for x, y in drawn]).reshape(-1, len(dense))

    def crowd(corner: tuple[bool, bool]) -> float:
        right, high = corner
        start = at if right else at - 0.34
        if start < 0 or start + 0.34 > 1:
            return math.inf
        beside = heights[:, (dense >= start) & (dense <= start + 0.34)]
        return float((beside > 0.8 if high else (beside < 0.2) & (beside >= 0)).sum())

    return min([(True, True), (True, False), (False, True), (False, False)], key=crowd)


def _guess_best(history: History, key: str | None) -> tuple[int | None, str | None]:
    key = key or (loss_keys(history) or ["eval_loss"])[0]
    record = best_record(history, key)
    several = len(finite(*series(history, key))[0]) > 1
    if record is None or not several or not is_number(record.get("step")):
        return None, key
    return int(record["step"]), key


def _steps_per_epoch(history: History) -> float | None:
    found: Any = [(r.get("step"), r.get("epoch")) for r in history]
    both = [(s, e) for s, e in found if is_number(s) and is_number(e) and s > 0 and e > 0]
    return max(both)[0] / max(both)[1] if both else None


def _smooth(values: np.ndarray) -> np.ndarray:
    """A local straight line under a bell-shaped window of about a fifth of the points: no lag, no bias at the ends."""
    size = len(values)
    width = max(1.0, size * 0.05)
    half = math.ceil(3 * width)
    apart = np.arange(-half, half + 1)
    bell = np.exp(-0.5 * (apart / width) ** 2)

    def moment(signal: np.ndarray, power: int) -> np.ndarray:
        return np.convolve(signal, (bell * apart**power)[::-1], "full")[half : half + size]

    ones = np.ones(size)
    s0, s1, s2 = (moment(ones, p) for p in (0, 1, 2))
    return (s2 * moment(values, 0) - s1 * moment(values, 1)) / (s0 * s2 - s1 * s1)
