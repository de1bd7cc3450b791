"""Figures of real-valued predictions: mean squared error, Pearson's and Spearman's correlation.

`B` examples, `K` outputs per example. All arithmetic is in float64, whatever dtype the predictions have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from unpad.errors import ArgumentError, DataError
from unpad.metrics._metric import Accumulator, Metric, as_array, as_function, as_weights, check_lengths
from unpad.notices import say_once


class SquaredErrors(Accumulator):
    """Sums of squared errors per output `[K]`. Takes `[B]` or `[B, K]` numbers, and `sample_weight` `[B]`."""

    def __init__(self) -> None:
        self.total = 0.0
        self.squared = np.zeros(0)

    def add(self, predictions: Any, references: Any, *, sample_weight: Any = None) -> None:
        """Take one batch."""
        x, y = _as_numbers(predictions, references)
        if not len(x):
            return
        x, y = x.reshape(len(x), -1), y.reshape(len(y), -1)
        if len(self.squared) not in (0, x.shape[1]):
            counts = f"{x.shape[1]} outputs per example but earlier ones had {len(self.squared)}"
            raise DataError(f"predictions have {counts}. Every batch needs the same number.")
        weights = as_weights(sample_weight, len(x))
        self.squared = (self.squared if len(self.squared) else 0.0) + weights @ (x - y) ** 2
        self.total += float(weights.sum())
        self.examples += len(x)


class Moments(Accumulator):
    """Means, squared deviations and their product of two variables, merged batch by batch.

    Batches are merged by the formulas of Chan, Golub and LeVeque (1983), which stay accurate where plain sums of
    squares cancel. Smallest and largest values are kept, because only they tell a constant variable for certain.
    """

    def __init__(self) -> None:
        self.mean = np.zeros(2)
        self.spread = np.zeros((2, 2))
        """Sums of squared deviations from the means, and of their products."""
        self.low, self.high = np.full(2, np.inf), np.full(2, -np.inf)

    def add(self, predictions: Any, references: Any) -> None:
        """Take one batch of `[B]` (or `[B, 1]`) numbers."""
        pair = np.stack(_as_numbers(predictions, references, flat=True))
        new = pair.shape[1]
        if not new:
            return
        total = self.examples + new
        mean = pair.mean(1)
        deviations, apart = pair - mean[:, None], mean - self.mean
        self.spread = self.spread + deviations @ deviations.T + np.outer(apart, apart) * (self.examples * new / total)
        self.mean = self.mean + apart * (new / total)
        self.low, self.high = np.minimum(self.low, pair.min(1)), np.maximum(self.high, pair.max(1))
        self.examples = total

    def correlation(self) -> float:
        """Pearson's correlation in -1..1; NaN when a variable is constant (said once)."""
        if (self.low == self.high).any():
            which = "predictions" if self.low[0] == self.high[0] else "references"
            equal = f"all {which} are equal ({self.low.min():.6g})"
            why = "there is one example only" if self.examples == 1 else equal
            say_once(f"correlation is not defined (nan): {why}.", key="correlation of a constant")
            return math.nan
        r = self.spread[0, 1] / math.sqrt(self.spread[0, 0]) / math.sqrt(self.spread[1, 1])
        return float(min(1.0, max(-1.0, r)))


class Values(Accumulator):
    """Every number, in float64 arrays: 16 bytes per example. Ranks are only known once all values are."""

    def __init__(self) -> None:
        self.batches: list[np.ndarray] = []

    def add(self, predictions: Any, references: Any) -> None:
        """Take one batch of `[B]` (or `[B, 1]`) numbers."""
        pair = np.stack(_as_numbers(predictions, references, flat=True))
        self.batches.append(pair)
        self.examples += pair.shape[1]


class MeanSquaredError(Metric):
    """Mean of squared errors; with `squared=False` its root."""

    name = "mse"
    configs = ("default", "multilist")
    accumulator = SquaredErrors

    def result(
        self, state: SquaredErrors, *, squared: bool = True, multioutput: str | Sequence[float] = "uniform_average"
    ) -> dict[str, Any]:
        """`{"mse": value}`.

        Of several outputs `[B, K]`, `multioutput` is `"uniform_average"`, `"raw_values"` (a list of K floats) or K
        weights. Roots are taken per output, before averaging.
        """
        values = state.squared / state.total if state.total else np.full(len(state.squared), np.nan)
        values = values if squared else np.sqrt(values)
        if isinstance(multioutput, str) and multioutput in ("raw_values", "uniform_average"):
            return {"mse": values.tolist() if multioutput == "raw_values" else float(values.mean())}
        if isinstance(multioutput, str) or len(multioutput) != len(values):
            allowed = f"'uniform_average', 'raw_values' or a list of {len(values)} weights (one per output)"
            raise ArgumentError(f"multioutput={multioutput!r} is not allowed; pass {allowed}.")
        return {"mse": float(np.average(values, weights=np.asarray(multioutput, dtype=np.float64)))}


class Pearson(Metric):
    """Pearson's correlation of predictions and references; constant memory. NaN when one of them is constant."""

    name = "pearsonr"
    accumulator = Moments

    def result(self, state: Moments) -> dict[str, Any]:
        """`{"pearsonr": value}`."""
        return {"pearsonr": state.correlation()}


class Spearman(Metric):
    """Spearman's rank correlation; ties share their mean rank. NaN when predictions or references are constant.

    Ranks need all values, so this metric keeps them: 16 bytes per example.
    """

    name = "spearmanr"
    accumulator = Values

    def result(self, state: Values) -> dict[str, Any]:
        """`{"spearmanr": value}`."""
        predictions, references = np.concatenate(state.batches, 1)
        moments = Moments()
        moments.add(_ranks(predictions), _ranks(references))
        return {"spearmanr": moments.correlation()}


mse, pearsonr, spearmanr = map(as_function, (MeanSquaredError, Pearson, Spearman))


def _as_numbers(predictions: Any, references: Any, flat: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Both sides in float64 and of the same shape; a last axis of one output is dropped."""
    both = []
    for values, what in ((predictions, "predictions"), (references, "references")):
        array = as_array(values, what)
        if array.dtype.kind in "US":
            first = array.ravel()[0]
            raise DataError(f"{what} are texts (first: {first!r}) where numbers are needed. Convert them.")
        array = array.astype(np.float64)
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim not in ((1,) if flat else (1, 2)):
            allowed = "[examples]" if flat else "[examples] or [examples, outputs]"
            raise DataError(f"{what} have shape {list(array.shape)} where {allowed} is needed. Pass numbers only.")
        odd = np.argwhere(~np.isfinite(array))
        if len(odd):
            at = tuple(odd[0])
            found = f"{what} hold {array[at]} at position {at[0]} of the batch ({len(odd)} values are not finite)"
            raise DataError(f"{found}. Find out why the model or the data gives it; such a mean would say nothing.")
        both.append(array)
    x, y = both
    check_lengths(len(x), len(y))
    if len(x) and x.shape != y.shape:
        raise DataError(f"predictions have shape {list(x.shape)} and references {list(y.shape)}. They must be equal.")
    return x, y


def _ranks(values: np.ndarray) -> np.ndarray:
    """`[B]` ranks from 1, where equal values share the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place]
