"""What learning curves mean: one verdict from six rules, with the numbers it rests on and what to try. Pure functions of the history."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unpad.train.history import History, finite, larger_is_better, loss_keys, metric_keys, series, thin

Verdict = Literal["healthy", "overfitting", "underfitting", "erratic", "diverging", "too short"]
MIN_LOSSES, MIN_EVALUATIONS = 8, 3
_Found = tuple[str, str] | None
"""Evidence and advice, where a rule holds."""


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
    return next(Diagnosis(verdict, *found) for rule, verdict in _RULES if (found := rule(run)))


class _Run:
    """The values that the rules look at, worked out once."""

    def __init__(self, history: History):
        self.raw = series(history, "loss")
        self.raw_eval = series(history, next(iter(loss_keys(history)), "eval_loss"))
        self.steps, self.losses = finite(*self.raw)
        self.eval_steps, self.evals = finite(*self.raw_eval)
        keys = [key for key in metric_keys(history) if larger_is_better(key)]
        self.scores = {key.removeprefix("eval_"): series(history, key) for key in keys}
        self.rate = float(max(series(history, "learning_rate")[1], default=math.nan))

        count = len(self.losses)
        few_steps, few = thin(self.steps, self.losses)
        width = max(3, len(few) // 10) if count >= MIN_LOSSES else 1
        self.noise = _noise(self.losses)
        self.eval_noise = _noise(self.evals)
        self.level_steps, self.levels = _running(np.mean, few_steps, width), _running(np.median, few, width)
        first = self.losses[: max(3, count // 20) if count >= MIN_LOSSES else 1]
        self.start = float(np.median(first if count else self.evals[:1])) if count or len(self.evals) else 0.0
        # standard error of the difference of start and a level; 1.25 is the price of a median over a mean
        share = len(few) / (width * count) + 1 / len(first) if count else 0.0
        self.doubt = 1.25 * self.noise * math.sqrt(share)
        self.end = float(self.levels[-1]) if count else 0.0
        self.trained = count >= 2

    def level_at(self, step: float) -> float:
        return float(np.interp(step, self.level_steps, self.levels))

    def lower_rate(self) -> str:
        """How to say that the learning rate should be smaller."""
        if not (math.isfinite(self.rate) and self.rate > 0):
            return "a third of learning_rate"
        return f"learning_rate={self.rate / 3:.1g} (now {self.rate:.2g})"

    def lowest(self) -> int | None:
        """Index of the validation minimum, when the rise since then is more than chance."""
        if len(self.evals) < 2:
            return None
        low = int(np.argmin(self.evals))
        after = self.evals[low + 1 :]
        if not len(after):
            return None
        end = min(after[-1], float(np.median(after[-3:]))) if len(after) >= 3 else after[-1]
        rise = float(end - self.evals[low])
        steady = len(after) >= 3 and rise > 0.5 * float(np.abs(np.diff(self.evals[low:])).sum())
        enough = rise > max(0.05 * abs(self.evals[low]), 0.01 * abs(self.start))
        return low if enough and (steady or rise > 3 * self.eval_noise) else None

    def tamed(self, wider: bool = True) -> str:
        """What to try against losses that jump; `wider`: a larger batch, too."""
        batch = " a larger batch (per_device_train_batch_size or gradient_accumulation_steps)," if wider else ""
        return f"Try {self.lower_rate()},{batch} warmup_ratio=0.1 and max_grad_norm=1.0"

    def train_text(self) -> str:
        return f"training loss {_short(self.start)} -> {_short(self.end)} by step {self.steps[-1]:.0f}"

    def eval_text(self, low: int) -> str:
        return f"validation loss {_walk(self.eval_steps[low:], self.evals[low:])}"


def _not_finite(run: _Run) -> _Found:
    for (steps, values), what in ((run.raw, "training"), (run.raw_eval, "validation")):
        odd = np.flatnonzero(~np.isfinite(values))
        if len(odd):
            first, before = odd[0], "there was no finite one before"
            if first:
                last = f"{_short(values[first - 1])} at step {steps[first - 1]:.0f}"
                before = f"the last finite one was {last}, the first {_short(values[0])}"
            return (
                f"The {what} loss is {values[first]} at step {steps[first]:.0f}; {before}.",
                f"{run.tamed(wider=False)}; with fp16=True try bf16=True or full precision; and look for empty or broken "
                "examples in the batches before that step.",
            )
    return None


def _too_short(run: _Run) -> _Found:
    losses, evals = len(run.losses), len(run.evals)
    if losses >= MIN_LOSSES or evals >= MIN_EVALUATIONS:
        return None
    said = f"Only {losses} training loss{'' if losses == 1 else 'es'}"
    said += f" ({_walk(run.steps, run.losses)})" if losses else ""
    said += f" and {evals} evaluation{'' if evals == 1 else 's'}"
    said += f" (validation loss {_walk(run.eval_steps, run.evals)})" if evals else ""
    return (
        f"{said}: too few to tell a trend from chance.",
        f"Log and evaluate more often (a smaller logging_steps; eval_strategy='steps' with eval_steps) or train longer: "
        f"{MIN_LOSSES} training losses or {MIN_EVALUATIONS} evaluations are enough.",
    )


def _diverging(run: _Run) -> _Found:
    if not run.trained:
        return None
    batch = "a larger batch (per_device_train_batch_size or gradient_accumulation_steps)"
    advice = f"{run.tamed(wider=False)}; if it goes on, {batch}."
    rise = run.end - run.start
    if rise > max(0.25 * abs(run.start), 4 * run.doubt):
        return f"Loss rises instead of falling: {run.train_text()}.", advice
    low = int(np.argmin(run.levels))
    fall, back = run.start - run.levels[low], run.end - run.levels[low]
    if fall > max(0.2 * abs(run.start), 4 * run.doubt) and back > max(0.8 * fall, 4 * run.doubt):
        return (
            f"Training loss collapsed: it had fallen from {_short(run.start)} to {_short(run.levels[low])} at step "
            f"{run.level_steps[low]:.0f} and is back at {_short(run.end)} by step {run.steps[-1]:.0f}.",
            advice,
        )
    return None


def _overfitting(run: _Run) -> _Found:
    low = run.lowest()
    if low is None:
        return None
    best = run.eval_steps[low]
    evidence = run.eval_text(low)
    if run.trained:
        before = run.level_at(best)
        falls = before - run.end > 0.02 * abs(before)
        if not falls and run.end >= 0.02 * run.start:
            return None
        how = f"fell {_short(before)} -> {_short(run.end)}" if falls else f"stayed at {_short(run.end)}"
        evidence += f" while training loss {how}"
    else:
        evidence += " (training loss was not logged often enough to compare)"
    evidence = _sentence(evidence)
    advice = (
        f"Keep the best step with load_best_model_at_end=True, stop there with EarlyStoppingCallback, and try fewer "
        f"epochs, weight_decay=0.01 or more, {run.lower_rate()}, or more data."
    )
    if moved := _score_since(run, best):
        name, then, now = moved
        way = f"from {_short(then)} to {_short(now)}"
        if now > then + 0.002:
            evidence += f" Yet {name} still rose {way}: the model grows over-confident rather than worse."
            advice = (
                f"If {name} is what counts, set metric_for_best_model={name!r} with load_best_model_at_end=True; for "
                f"probabilities that can be trusted try label_smoothing_factor=0.1, fewer epochs or weight_decay=0.01."
            )
        else:
            evidence += f" In that time {name} went {way}."
    return evidence, advice


def _erratic(run: _Run) -> _Found:
    advice = run.tamed() + "."
    if len(run.losses) >= MIN_LOSSES and run.noise > 0.4 * abs(run.start):
        return (
            f"Single training losses scatter by {_short(run.noise)} around their trend, "
            f"{100 * run.noise / max(abs(run.start), 1e-300):.0f} percent of where it began ({run.train_text()}).",
            advice,
        )
    if len(run.evals) >= 5:
        moves = np.diff(run.evals)
        turns = int((moves[1:] * moves[:-1] < 0).sum())
        jump = float(np.median(np.abs(moves)))
        if turns >= 0.6 * (len(moves) - 1) and jump > 0.1 * float(np.median(np.abs(run.evals))):
            return (
                f"Validation loss jumps up and down: {turns} turns in {len(run.evals)} evaluations between "
                f"{_short(run.evals.min())} and {_short(run.evals.max())}, typically by {_short(jump)}.",
                advice + " A very small validation set looks like this too.",
            )
    low = run.lowest()
    if low is None:
        return None
    return (
        f"Validation got worse although training loss did not fall any more: {run.eval_text(low)}, {run.train_text()}.",
        advice + " Keep the best step with load_best_model_at_end=True.",
    )


def _underfitting(run: _Run) -> _Found:
    follow = f" (validation loss {_walk(run.eval_steps, run.evals)})" if len(run.evals) else ""
    if not run.trained:
        if len(run.evals) < 2 or run.evals[0] - run.evals.min() > 0.02 * abs(run.evals[0]):
            return None
        return (
            f"Validation loss did not move{follow}, and no training loss was logged.",
            "Log the training loss (a smaller logging_steps), train longer, or try a larger learning_rate (3 times).",
        )
    fall = run.start - run.end
    if fall < 0.05 * abs(run.start):
        return (
            f"Training loss hardly fell: {run.train_text()}{follow}.",
            "Try a larger learning_rate (3 times), more epochs (num_train_epochs), less weight_decay or a larger model; "
            "and check that labels belong to their texts and that no layers are frozen by accident.",
        )
    if len(run.losses) < MIN_LOSSES:
        return None
    first, last = run.level_steps[0], run.level_steps[-1]
    late = run.level_at(first + 0.75 * (last - first)) - run.end
    early = run.start - run.level_at(first + 0.25 * (last - first))
    gain = run.evals[-2] - run.evals[-1] if len(run.evals) >= 2 else 0.0
    following = gain > 0 and run.evals[-1] == run.evals.min() and gain > 0.05 * abs(run.evals[-1])
    if late > max(0.2 * fall, 4 * run.doubt) and following:
        return (
            f"Training stopped while everything still improved: {run.train_text()}, a {100 * late / fall:.0f} percent "
            f"share of that in the last quarter, and validation loss {_walk(run.eval_steps, run.evals)}.",
            "Train longer (a larger num_train_epochs), or try twice the learning_rate.",
        )
    bounded = {n: v for n, (_, v) in run.scores.items() if len(v) and np.nanmin(v) >= 0 and np.nanmax(v) <= 1}
    if bounded and early > 0.9 * fall and fall < 0.25 * abs(run.start) and max(map(np.nanmax, bounded.values())) < 0.9:
        name, values = next(iter(bounded.items()))
        return (
            f"Learning stopped early at a poor level: {run.train_text()}, nearly all of it in the first quarter, and "
            f"{name} is {_short(values[-1])} at the end.",
            "Try another learning_rate (3 times, and a third), warmup_ratio=0.1, a larger model, or cleaner labels.",
        )
    return None


def _healthy(run: _Run) -> _Found:
    said = []
    if run.trained:
        said.append(f"training loss fell from {_short(run.start)} to {_short(run.end)} by step {run.steps[-1]:.0f}")
    if len(run.evals) < 2:
        only = f" but one ({_walk(run.eval_steps, run.evals)})" if len(run.evals) else ""
        return (
            f"{_sentence(said[0] + ', without jumps')} There is no validation loss{only}, so overfitting cannot be seen.",
            "Pass eval_dataset and eval_strategy='epoch', or 'steps' with eval_steps, to see it.",
        )
    low = int(np.argmin(run.evals))
    lowest = f"lowest {_short(run.evals[low])} at step {run.eval_steps[low]:.0f}"
    text = " and ".join([*said, f"validation loss went {_walk(run.eval_steps, run.evals)}, {lowest}"])
    if moved := _score_since(run, run.eval_steps[0]):
        text += f", {moved[0]} from {_short(moved[1])} to {_short(moved[2])}"
    end = "the best step is not the last, so load_best_model_at_end=True gains a little"
    if low == len(run.evals) - 1:
        end = "the last step is the best by validation loss, so load_best_model_at_end=True costs nothing"
    return _sentence(text), f"Nothing has to change; {end}."


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


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
    return values if len(values) < width else function(np.lib.stride_tricks.sliding_window_view(values, width), axis=1)


def _walk(steps: np.ndarray, values: np.ndarray) -> str:
    first = f"{_short(values[0])} at step {steps[0]:.0f}"
    return first if len(values) == 1 else f"{first} -> {_short(values[-1])} at step {steps[-1]:.0f}"


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}" if abs(value) < 1e6 else f"{value:.2e}"


_RULES: tuple[tuple[Callable[[_Run], _Found], Verdict], ...] = (
    (_not_finite, "diverging"), (_too_short, "too short"), (_diverging, "diverging"), (_overfitting, "overfitting"),
    (_erratic, "erratic"), (_underfitting, "underfitting"), (_healthy, "healthy"),
)  # fmt: skip
"""What looks for evidence and advice, and the verdict when it finds them; the first that does decides."""
