"""Learning curves: reads `metrics.jsonl`, draws it as PNG and SVG, and says in words what the curves mean.

Everything but `read_history` and `draw` is a pure function of the history, a list of dictionaries with one record per
logging event: training records hold `step`, `epoch`, `loss`, `learning_rate`, ...; evaluation records hold `step`,
`epoch`, `eval_loss`, `eval_<metric>`, ...; a summary with the prefix `train_` may end it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unpad.errors import DataError
from unpad.notices import say

History = Sequence[Mapping[str, Any]]
Verdict = Literal["healthy", "overfitting", "underfitting", "erratic", "diverging", "too short"]

# ---------------------------------------------------------------------------------------------------- history


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
        raise DataError(
            f"cannot read the history {str(file)!r} ({error.strerror or error}). "
            f"Pass a metrics.jsonl, or the output folder of a run."
        ) from None
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
            say(
                f"line {number} of {str(file)!r} is unfinished (the process was stopped while writing it); ignored."
            )
        else:
            shown = line[:40].decode("utf-8", "replace")
            raise DataError(
                f"line {number} of {str(file)!r} is not one JSON object but {shown!r}. Mend or remove that line."
            )
    return records


def series(history: History, key: str) -> tuple[np.ndarray, np.ndarray]:
    """`(steps [n], values [n])` in float64 of all records that hold `key` and `step`, by rising step.

    Of several records of one step (a continued run) the last counts. A value of None stands for NaN.
    """
    found: dict[float, float] = {}
    for record in history:
        step, value = record.get("step"), record.get(key, "")
        value = math.nan if value is None else value
        if _is_number(step) and _is_number(value):
            found[float(step)] = float(value)  # type: ignore[arg-type]
    steps = sorted(found)
    return np.array(steps, dtype=np.float64), np.array([found[s] for s in steps], dtype=np.float64)


def larger_is_better(metric: str) -> bool:
    """Whether larger values of `metric` are better: false for losses, errors and perplexity."""
    words = metric.lower().replace("-", "_").split("_")
    return not {"loss", "mse", "rmse", "mae", "error", "perplexity", "ppl", "wer", "cer", "ter"} & set(words)


def best_record(
    history: History, metric: str, greater_is_better: bool | None = None
) -> dict[str, Any] | None:
    """The record with the best value of `metric` (`"f1"` and `"eval_f1"` mean the same); the earliest of equals.

    Values that are not finite never win. `greater_is_better` is told from the name unless given. None when no record
    holds the metric.
    """
    key = metric if metric.startswith("eval_") else f"eval_{metric}"
    up = larger_is_better(metric) if greater_is_better is None else greater_is_better
    held = [r for r in history if _is_number(r.get(key)) and math.isfinite(r[key])]
    if not held:
        return None
    return dict(max(held, key=lambda r: r[key]) if up else min(held, key=lambda r: r[key]))


def sparkline(values: Iterable[float], width: int = 60) -> str:
    """The values as one line of block characters, at most `width` wide; `·` where a value is not finite."""
    blocks = "▁▂▃▄▅▆▇█"
    array = np.array([math.nan if v is None else v for v in values], dtype=np.float64)
    if len(array) > width:
        array = np.array([part.mean() for part in np.array_split(array, width)])
    known = array[np.isfinite(array)]
    if not len(known):
        return "·" * len(array)
    low, high = float(known.min()), float(known.max())
    if not high / 2 - low / 2 > 0:  # halves, so that the span cannot overflow
        return "".join(blocks[3] if math.isfinite(v) else "·" for v in array)
    return "".join(
        blocks[round(7 * ((v / 2 - low / 2) / (high / 2 - low / 2)))] if math.isfinite(v) else "·"
        for v in array
    )


# -------------------------------------------------------------------------------------------------- diagnosis

MIN_LOSSES, MIN_EVALUATIONS = 8, 3


@dataclass(frozen=True)
class Diagnosis:
    """What the curves of a run mean."""

    verdict: Verdict
    """One word."""
    evidence: str
    """The numbers that it rests on."""
    advice: str
    """What to try, as arguments to change."""

    @property
    def paragraph(self) -> str:
        """All of it in one paragraph."""
        return f"{self.verdict.capitalize()}. {self.evidence} {self.advice}"


def diagnose(history: History) -> Diagnosis:
    """Judge a run by its curves; the first rule that holds decides. No rule depends on the scale of the loss.

    The *level* of the training loss is its running median over a tenth of the points (at least 3; its start over half of that). *Noise* is the
    standard deviation of single values around the trend, from the median size of second differences, so that
    neither trends nor outliers count.

    1. diverging: a loss is not finite.
    2. too short: fewer than 8 training losses and fewer than 3 evaluations.
    3. diverging: the level ends above 1.25 times its start; or it had fallen by a fifth of its start and has given
       back four fifths of that fall (collapsed). Both beyond 4 standard errors.
    4. overfitting: validation loss ends more than 5 percent above its minimum (also by more than 1 percent of the first
       training level, and either by 3 times its own noise or by half of all its ups and downs since), while the
       training level has fallen by a further 2 percent since that minimum, or is below 2 percent of its start.
    5. erratic: noise of training losses above 0.4 of the first level; or at least 5 evaluations of which 60 percent
       turn the direction, in steps whose median is above 10 percent of the loss; or validation loss rises as in
       rule 4 though training loss does not fall.
    6. underfitting: the level fell by less than 5 percent; or at least a fifth of the whole fall came in the last
       quarter, and validation is at its minimum at the end and still gains 5 percent per evaluation; or nine tenths of
       a fall of less than 25 percent came in the first quarter and no figure between 0 and 1 reaches 0.9.
    7. healthy: none of these.
    """
    run = _Run(history)
    rules = (_not_finite, _too_short, _diverging, _overfitting, _erratic, _underfitting)
    return next((found for rule in rules if (found := rule(run)) is not None), None) or _healthy(run)


class _Run:
    """The values that the rules look at, worked out once."""

    def __init__(self, history: History):
        self.raw = series(history, "loss")
        self.raw_eval = series(history, _loss_keys(history)[0] if _loss_keys(history) else "eval_loss")
        self.steps, self.losses = _finite(*self.raw)
        self.eval_steps, self.evals = _finite(*self.raw_eval)
        self.scores = {
            key.removeprefix("eval_"): series(history, key)
            for key in _metric_keys(history)
            if larger_is_better(key)
        }
        self.rate = float(max(series(history, "learning_rate")[1], default=math.nan))

        count = len(self.losses)
        thin_steps, thin = _thin(self.steps, self.losses)
        width = max(3, len(thin) // 10) if count >= MIN_LOSSES else 1
        self.noise = _noise(self.losses)
        self.eval_noise = _noise(self.evals)
        self.level_steps, self.levels = _running(np.mean, thin_steps, width), _running(np.median, thin, width)
        first = self.losses[: max(3, count // 20) if count >= MIN_LOSSES else 1]
        self.start = float(np.median(first if count else self.evals[:1])) if count or len(self.evals) else 0.0
        # standard error of the difference of start and a level; 1.25 is the price of a median over a mean
        share = len(thin) / (width * count) + 1 / len(first) if count else 0.0
        self.doubt = 1.25 * self.noise * math.sqrt(share)
        self.end = float(self.levels[-1]) if count else 0.0
        self.trained = count >= 2

    def level_at(self, step: float) -> float:
        return float(np.interp(step, self.level_steps, self.levels))

    def lower_rate(self) -> str:
        """How to say that the learning rate should be smaller."""
        known = math.isfinite(self.rate) and self.rate > 0
        return (
            f"learning_rate={self.rate / 3:.1g} (now {self.rate:.2g})"
            if known
            else "a third of learning_rate"
        )

    def rise(self) -> tuple[int, float] | None:
        """Index of the validation minimum and the rise since then, when the rise is more than chance."""
        if len(self.evals) < 2:
            return None
        low = int(np.argmin(self.evals))
        after = self.evals[low + 1 :]
        if not len(after):
            return None
        end = min(after[-1], float(np.median(after[-3:]))) if len(after) >= 3 else after[-1]
        rise = float(end - self.evals[low])
        way = float(np.abs(np.diff(self.evals[low:])).sum())
        steady = len(after) >= 3 and rise > 0.5 * way
        if rise <= max(0.05 * abs(self.evals[low]), 0.01 * abs(self.start)):
            return None
        return (low, rise) if steady or rise > 3 * self.eval_noise else None

    def train_text(self) -> str:
        return f"training loss {_short(self.start)} -> {_short(self.end)} by step {self.steps[-1]:.0f}"

    def eval_text(self, low: int) -> str:
        return (
            f"validation loss {_short(self.evals[low])} at step {self.eval_steps[low]:.0f} "
            f"-> {_short(self.evals[-1])} at step {self.eval_steps[-1]:.0f}"
        )


def _not_finite(run: _Run) -> Diagnosis | None:
    for (steps, values), what in ((run.raw, "training"), (run.raw_eval, "validation")):
        odd = np.flatnonzero(~np.isfinite(values))
        if len(odd):
            first = odd[0]
            before = (
                f"the last finite one was {_short(values[first - 1])} at step {steps[first - 1]:.0f}, "
                f"the first {_short(values[0])}"
                if first
                else "there was no finite one before"
            )
            return Diagnosis(
                "diverging",
                f"The {what} loss is {values[first]} at step {steps[first]:.0f}; {before}.",
                f"Try {run.lower_rate()}, warmup_ratio=0.1 and max_grad_norm=1.0; with fp16=True try bf16=True or full "
                f"precision; and look for empty or broken examples in the batches before that step.",
            )
    return None


def _too_short(run: _Run) -> Diagnosis | None:
    losses, evals = len(run.losses), len(run.evals)
    if losses >= MIN_LOSSES or evals >= MIN_EVALUATIONS:
        return None
    said = [f"Only {losses} training loss{'es' if losses != 1 else ''}"]
    if losses:
        said[0] += f" ({_walk(run.steps, run.losses)})"
    said.append(f"{evals} evaluation{'s' if evals != 1 else ''}")
    if evals:
        said[1] += f" (validation loss {_walk(run.eval_steps, run.evals)})"
    return Diagnosis(
        "too short",
        f"{said[0]} and {said[1]}: too few to tell a trend from chance.",
        f"Log and evaluate more often (a smaller logging_steps; eval_strategy='steps' with eval_steps) or train longer: "
        f"{MIN_LOSSES} training losses or {MIN_EVALUATIONS} evaluations are enough.",
    )


def _diverging(run: _Run) -> Diagnosis | None:
    if not run.trained:
        return None
    advice = (
        f"Try {run.lower_rate()}, warmup_ratio=0.1 and max_grad_norm=1.0; if it goes on, a larger batch "
        f"(per_device_train_batch_size or gradient_accumulation_steps)."
    )
    rise = run.end - run.start
    if rise > max(0.25 * abs(run.start), 4 * run.doubt):
        return Diagnosis("diverging", f"Loss rises instead of falling: {run.train_text()}.", advice)
    low = int(np.argmin(run.levels))
    fall, back = run.start - run.levels[low], run.end - run.levels[low]
    if fall > max(0.2 * abs(run.start), 4 * run.doubt) and back > max(0.8 * fall, 4 * run.doubt):
        return Diagnosis(
            "diverging",
            f"Training loss collapsed: it had fallen from {_short(run.start)} to {_short(run.levels[low])} at step "
            f"{run.level_steps[low]:.0f} and is back at {_short(run.end)} by step {run.steps[-1]:.0f}.",
            advice,
        )
    return None


def _overfitting(run: _Run) -> Diagnosis | None:
    found = run.rise()
    if found is None:
        return None
    low, _ = found
    best = run.eval_steps[low]
    evidence = run.eval_text(low)
    if run.trained:
        before = run.level_at(best)
        falls = before - run.end > 0.02 * abs(before)
        learnt = run.end < 0.02 * run.start
        if not falls and not learnt:
            return None
        evidence += f" while training loss {'fell' if falls else 'stayed at'} " + (
            f"{_short(before)} -> {_short(run.end)}" if falls else _short(run.end)
        )
    else:
        evidence += " (training loss was not logged often enough to compare)"
    evidence = evidence[0].upper() + evidence[1:] + "."
    moved = _score_since(run, best)
    advice = (
        f"Keep the best step with load_best_model_at_end=True, stop there with EarlyStoppingCallback, and try fewer "
        f"epochs, weight_decay=0.01 or more, {run.lower_rate()}, or more data."
    )
    if moved is not None:
        name, then, now = moved
        if now > then + 0.002:
            evidence += (
                f" Yet {name} still rose from {_short(then)} to {_short(now)}: the model grows over-confident "
                f"rather than worse."
            )
            advice = (
                f"If {name} is what counts, set metric_for_best_model={name!r} with load_best_model_at_end=True; for "
                f"probabilities that can be trusted try label_smoothing_factor=0.1, fewer epochs or weight_decay=0.01."
            )
        else:
            evidence += f" In that time {name} went from {_short(then)} to {_short(now)}."
    return Diagnosis("overfitting", evidence, advice)


def _erratic(run: _Run) -> Diagnosis | None:
    advice = (
        f"Try {run.lower_rate()}, a larger batch (per_device_train_batch_size or gradient_accumulation_steps), "
        f"warmup_ratio=0.1 and max_grad_norm=1.0."
    )
    if len(run.losses) >= MIN_LOSSES and run.noise > 0.4 * abs(run.start):
        return Diagnosis(
            "erratic",
            f"Single training losses scatter by {_short(run.noise)} around their trend, "
            f"{100 * run.noise / max(abs(run.start), 1e-300):.0f} percent of where it began ({run.train_text()}).",
            advice,
        )
    if len(run.evals) >= 5:
        moves = np.diff(run.evals)
        turns = int((moves[1:] * moves[:-1] < 0).sum())
        jump = float(np.median(np.abs(moves)))
        if turns >= 0.6 * (len(moves) - 1) and jump > 0.1 * float(np.median(np.abs(run.evals))):
            return Diagnosis(
                "erratic",
                f"Validation loss jumps up and down: {turns} turns in {len(run.evals)} evaluations between "
                f"{_short(run.evals.min())} and {_short(run.evals.max())}, typically by {_short(jump)}.",
                advice + " A very small validation set looks like this too.",
            )
    found = run.rise()
    if found is not None:
        return Diagnosis(
            "erratic",
            f"Validation got worse although training loss did not fall any more: {run.eval_text(found[0])}, "
            f"{run.train_text()}.",
            advice + " Keep the best step with load_best_model_at_end=True.",
        )
    return None


def _underfitting(run: _Run) -> Diagnosis | None:
    if not run.trained:
        return None
    fall = run.start - run.end
    follow = f" (validation loss {_walk(run.eval_steps, run.evals)})" if len(run.evals) else ""
    if fall < 0.05 * abs(run.start):
        return Diagnosis(
            "underfitting",
            f"Training loss hardly fell: {run.train_text()}{follow}.",
            "Try a larger learning_rate (3 times), more epochs (num_train_epochs), less weight_decay or a larger model; "
            "and check that labels belong to their texts and that no layers are frozen by accident.",
        )
    if len(run.losses) < MIN_LOSSES:
        return None
    first, last = run.level_steps[0], run.level_steps[-1]
    late = run.level_at(first + 0.75 * (last - first)) - run.end
    early = run.start - run.level_at(first + 0.25 * (last - first))
    following = (
        len(run.evals) >= 2
        and run.evals[-1] == run.evals.min()
        and run.evals[-2] - run.evals[-1] > 0.05 * abs(run.evals[-1])
    )
    if late > max(0.2 * fall, 4 * run.doubt) and following:
        return Diagnosis(
            "underfitting",
            f"Training stopped while everything still improved: {run.train_text()}, a {100 * late / fall:.0f} percent "
            f"share of that in the last quarter, and validation loss {_walk(run.eval_steps, run.evals)}.",
            "Train longer (a larger num_train_epochs), or try twice the learning_rate.",
        )
    bounded = [v for _, v in run.scores.values() if len(v) and np.nanmin(v) >= 0 and np.nanmax(v) <= 1]
    if bounded and early > 0.9 * fall and fall < 0.25 * abs(run.start) and max(map(np.nanmax, bounded)) < 0.9:
        name, values = next((n, v) for n, (_, v) in run.scores.items() if any(v is b for b in bounded))
        return Diagnosis(
            "underfitting",
            f"Learning stopped early at a poor level: {run.train_text()}, nearly all of it in the first quarter, and "
            f"{name} is {_short(values[-1])} at the end.",
            "Try another learning_rate (3 times, and a third), warmup_ratio=0.1, a larger model, or cleaner labels.",
        )
    return None


def _healthy(run: _Run) -> Diagnosis:
    said = []
    if run.trained:
        said.append(
            f"training loss fell from {_short(run.start)} to {_short(run.end)} by step {run.steps[-1]:.0f}"
        )
    if len(run.evals) < 2:
        only = f" but one ({_walk(run.eval_steps, run.evals)})" if len(run.evals) else ""
        return Diagnosis(
            "healthy",
            f"{said[0][0].upper()}{said[0][1:]}, without jumps. There is no validation loss{only}, "
            f"so overfitting cannot be seen.",
            "Pass eval_dataset and eval_strategy='epoch', or 'steps' with eval_steps, to see it.",
        )
    low = int(np.argmin(run.evals))
    said.append(
        f"validation loss went {_walk(run.eval_steps, run.evals)}, lowest {_short(run.evals[low])} "
        f"at step {run.eval_steps[low]:.0f}"
    )
    text = " and ".join(said)
    moved = _score_since(run, run.eval_steps[0])
    if moved is not None:
        text += f", {moved[0]} from {_short(moved[1])} to {_short(moved[2])}"
    at_end = (
        "the last step is the best by validation loss"
        if low == len(run.evals) - 1
        else "the best step is not the last"
    )
    return Diagnosis(
        "healthy",
        f"{text[0].upper()}{text[1:]}.",
        f"Nothing has to change; {at_end}, so load_best_model_at_end=True "
        f"{'costs nothing' if low == len(run.evals) - 1 else 'gains a little'}.",
    )


def _score_since(run: _Run, step: float) -> tuple[str, float, float] | None:
    """Name of a figure that is better when larger (accuracy first), its value at `step` and at the end."""
    for name, (steps, values) in sorted(run.scores.items(), key=lambda kv: not kv[0].endswith("accuracy")):
        at = np.flatnonzero(steps == step)
        if len(at) and len(values) > at[0] + 1 and np.isfinite(values[[at[0], -1]]).all():
            return name, float(values[at[0]]), float(values[-1])
    return None


def _noise(values: np.ndarray) -> float:
    """Standard deviation around any trend, 0 when there are fewer than 5 values.

    The second difference of independent noise is sqrt(6) times as wide; 1.4826 turns a median size into a width.
    """
    if len(values) < 5:
        return 0.0
    return 1.4826 * float(np.median(np.abs(np.diff(values, 2)))) / math.sqrt(6)


def _running(function: Callable[..., np.ndarray], values: np.ndarray, width: int) -> np.ndarray:
    if len(values) < width:
        return values
    return function(np.lib.stride_tricks.sliding_window_view(values, width), axis=1)


def _thin(steps: np.ndarray, values: np.ndarray, most: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    """Means of neighbours, so that at most `most` points remain: neither eyes nor medians need more."""
    if len(values) <= most:
        return steps, values
    return (
        np.array([part.mean() for part in np.array_split(steps, most)]),
        np.array([part.mean() for part in np.array_split(values, most)]),
    )


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


def _finite(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = np.isfinite(values)
    return steps[known], values[known]


def _walk(steps: np.ndarray, values: np.ndarray) -> str:
    first = f"{_short(values[0])} at step {steps[0]:.0f}"
    return first if len(values) == 1 else f"{first} -> {_short(values[-1])} at step {steps[-1]:.0f}"


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}" if abs(value) < 1e6 else f"{value:.2e}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_NOT_METRICS = (
    "loss",
    "runtime",
    "per_second",
    "seconds",
    "time",
    "samples",
    "examples",
    "steps",
    "tokens",
    "memory",
)


def _loss_keys(history: History) -> list[str]:
    """`eval_loss` first, then losses of further validation sets (`eval_<name>_loss`)."""
    keys = {k: None for r in history for k in r if k.startswith("eval_") and k.endswith("_loss")}
    return sorted(keys, key=lambda k: k != "eval_loss")


def _metric_keys(history: History) -> list[str]:
    """Keys of the figures that evaluations give, in the order they first appear; losses and timings left out."""
    keys = {
        key: None
        for record in history
        for key, value in record.items()
        if key.startswith("eval_") and _is_number(value) and not key.endswith(_NOT_METRICS)
    }
    return list(keys)


# ---------------------------------------------------------------------------------------------------- drawing

# Okabe and Ito's palette: told apart with every kind of colour vision, and in grey
_BLUE, _ORANGE, _GREEN, _PURPLE, _SKY, _GREY, _INK = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#6B7280",
    "#1F2937",
)
_MOST_METRICS = 4


def draw(
    history: History,
    folder: str | os.PathLike[str],
    best_step: int | None = None,
    best_metric: str | None = None,
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

    metrics = _metric_keys(history)
    key = None if best_metric is None else "eval_" + best_metric.removeprefix("eval_")
    if len(metrics) > _MOST_METRICS:
        metrics.sort(key=lambda k: k != key)
        left = ", ".join(k.removeprefix("eval_") for k in metrics[_MOST_METRICS:])
        say(f"the picture shows the first {_MOST_METRICS} metrics; left out: {left}.")
        metrics = metrics[:_MOST_METRICS]
    if best_step is None:
        best_step, key = _guess_best(history, key)

    rate_steps, rates = _thin(*_finite(*series(history, "learning_rate")), most=400)
    panels = 1 + len(metrics)
    # rows, columns of the large panels; with 3 or 5 of them the learning rate takes the free place
    rows, columns = {1: (1, 1), 2: (1, 2), 3: (2, 2), 4: (2, 2), 5: (2, 3)}[panels]
    if panels == 3 and not len(rates):
        rows, columns = 1, 3
    strip = len(rates) > 0 and rows * columns == panels
    figure = Figure(
        figsize=({1: 7.2, 2: 10.4, 3: 14.4}[columns], 3.7 * rows + (1.5 if strip else 0) + 0.4),
        layout="constrained",
    )
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08, wspace=0.03, hspace=0.03)  # type: ignore[union-attr,call-arg]
    grid = figure.add_gridspec(rows + strip, columns, height_ratios=[1] * rows + ([0.34] if strip else []))
    places = [(i // columns, i % columns) for i in range(rows * columns)]
    axes = [figure.add_subplot(grid[place]) for place in places[:panels]]
    _loss_panel(axes[0], history)
    for axis, metric in zip(axes[1:], metrics, strict=True):
        _metric_panel(axis, history, metric)
    if len(rates):
        axis = figure.add_subplot(grid[rows, :] if strip else grid[places[panels]])
        axis.plot(
            rate_steps,
            rates,
            color=_GREY,
            linewidth=1.6,
            marker="o" if len(rates) == 1 else None,
            markersize=4,
        )
        axis.fill_between(rate_steps, rates, color=_GREY, alpha=0.12, linewidth=0)
        axis.set_ylim(0, max(rates.max() * 1.12, 1e-12))
        axis.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)
        axis.yaxis.get_offset_text().set(size=9, color=_INK)
        if strip:
            axis.locator_params(axis="y", nbins=3)
        axes.append(axis)

    if len(rates):
        axes[-1].set_ylabel("learning rate" if not strip else "learning\nrate")
    last = max((float(r["step"]) for r in history if _is_number(r.get("step"))), default=1.0)
    per_epoch = _steps_per_epoch(history)
    for i, axis in enumerate(axes):
        _dress(axis, last, per_epoch if i < columns else None)
        if best_step is not None:
            axis.axvline(
                best_step, color=_GREEN, linewidth=1.3, linestyle=(0, (5, 3)), zorder=1.5, label="best step"
            )
    if best_step is not None:
        _label_best(axes, ["eval_loss", *metrics], history, best_step, key)
    handles = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    if "best step" in handles:
        handles["best step"] = handles.pop("best step")  # last
    if handles:
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="outside lower center",
            ncols=min(len(handles), 4 * columns),
            frameon=False,
            fontsize=9,
            labelcolor=_INK,
        )
    return figure


def _loss_panel(axis: Any, history: History) -> None:
    raw_steps, raw = series(history, "loss")
    steps, losses = _thin(*_finite(raw_steps, raw))
    shown = [losses]
    if len(losses) >= 10:
        smooth = _smooth(losses)
        axis.plot(steps, losses, color=_BLUE, linewidth=0.7, alpha=0.35, label="training, as logged")
        axis.plot(steps, smooth, color=_BLUE, linewidth=2, label="training, smoothed")
        # a few wild values should not flatten the rest
        shown = [smooth, np.quantile(losses, [0.005, 0.995])]
    elif len(losses):
        axis.plot(steps, losses, color=_BLUE, linewidth=1.8, marker="o", markersize=4, label="training")
    for key, colour in zip(_loss_keys(history), (_ORANGE, _PURPLE, _SKY, _INK), strict=False):
        name = key.removeprefix("eval_").removesuffix("loss").rstrip("_")
        where, values = _finite(*series(history, key))
        _marked(axis, where, values, colour, f"validation ({name})" if name else "validation")
        shown.append(values)
    everything = np.concatenate(shown) if shown else np.empty(0)
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
        axis.plot(
            odd,
            np.full(len(odd), 0.97),
            "v",
            color="#B00020",
            markersize=6,
            transform=axis.get_xaxis_transform(),
            label="loss not finite",
            linestyle="none",
        )
    axis.set_ylabel("loss")


def _metric_panel(axis: Any, history: History, key: str) -> None:
    name = key.removeprefix("eval_")
    for train_key in (f"train_{name}", name):
        steps, values = _finite(*series(history, train_key))
        if len(values):
            marker = "o" if len(values) < 30 else None
            axis.plot(
                steps, values, color=_BLUE, linewidth=1.8, marker=marker, markersize=4, label="training"
            )
            break
    _marked(axis, *_finite(*series(history, key)), _ORANGE, "validation")
    axis.set_ylabel(name.replace("_", " "))
    axis.margins(y=0.12)


def _marked(axis: Any, steps: np.ndarray, values: np.ndarray, colour: str, label: str) -> None:
    if len(values):
        size = 5.5 if len(values) <= 40 else 3
        axis.plot(
            steps,
            values,
            color=colour,
            linewidth=1.8,
            marker="o",
            markersize=size,
            markeredgecolor="white",
            markeredgewidth=0.8,
            label=label,
            zorder=3,
        )


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


def _label_best(
    axes: Sequence[Any], keys: Sequence[str], history: History, step: float, chosen: str | None
) -> None:
    """Name the best step beside its line, in the panel of the metric that chose it."""
    key = chosen if chosen in keys and chosen is not None else keys[0]
    steps, values = series(history, key)
    at = np.flatnonzero(steps == step)
    text = f"best: step {step:.0f}"
    if len(at):
        text += f"\n{key.removeprefix('eval_').replace('_', ' ')} {values[at[0]]:.4g}"
    axis = axes[list(keys).index(key)]
    right, high = _free_corner(axis, step)
    axis.annotate(
        text,
        xy=(step, 0.97 if high else 0.03),
        xycoords=axis.get_xaxis_transform(),
        xytext=(6 if right else -6, 0),
        textcoords="offset points",
        ha="left" if right else "right",
        va="top" if high else "bottom",
        fontsize=9,
        color=_GREEN,
        fontweight="bold",
        bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
        zorder=5,
    )


def _free_corner(axis: Any, step: float) -> tuple[bool, bool]:
    """Whether a label beside the line at `step` disturbs least on its right, and whether at the top."""
    to_panel = axis.transLimits if axis.get_yscale() == "linear" else axis.transScale + axis.transLimits
    at = to_panel.transform((step, axis.get_ylim()[0]))[0]
    lines = [np.column_stack(line.get_data()) for line in axis.get_lines() if len(line.get_xdata()) > 2]
    parts = []
    for points in lines:
        where = to_panel.transform(points)
        # lines cross a box between their points too
        dense = np.linspace(0, 1, 400)
        parts.append(np.column_stack([dense, np.interp(dense, where[:, 0], where[:, 1], left=-1, right=-1)]))
    seen = np.concatenate(parts) if parts else np.empty((0, 2))

    def crowd(corner: tuple[bool, bool]) -> float:
        right, high = corner
        start = at if right else at - 0.34
        if start < 0 or start + 0.34 > 1:
            return math.inf
        inside = (seen[:, 0] >= start) & (seen[:, 0] <= start + 0.34)
        return float((inside & (seen[:, 1] > 0.8 if high else (seen[:, 1] < 0.2) & (seen[:, 1] >= 0))).sum())

    return min([(True, True), (True, False), (False, True), (False, False)], key=crowd)


def _guess_best(history: History, key: str | None) -> tuple[int | None, str | None]:
    key = key or (_loss_keys(history) or ["eval_loss"])[0]
    record = best_record(history, key)
    several = len(_finite(*series(history, key))[0]) > 1
    if record is None or not several or not _is_number(record.get("step")):
        return None, key
    return int(record["step"]), key


def _steps_per_epoch(history: History) -> float | None:
    both = [
        (float(r["step"]), float(r["epoch"]))
        for r in history
        if _is_number(r.get("step")) and _is_number(r.get("epoch")) and r["epoch"] > 0 and r["step"] > 0
    ]
    return max(both)[0] / max(both)[1] if both else None
