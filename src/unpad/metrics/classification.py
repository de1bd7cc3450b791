"""Accuracy, precision, recall, F1 and Matthews' correlation of class labels, from three counters per class.

None of these figures needs the confusion matrix: for each class it is enough to know how often it was predicted,
how often it was right to, and how often it should have been. So memory is a few numbers per class, whatever the
number of examples, and figures of batches equal the figure of the whole.

Definitions are those of scikit-learn (the reference in the tests). `C` classes, `B` examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from unpad.errors import ArgumentError, DataError, listing
from unpad.metrics._metric import Accumulator, Metric, as_array, as_function, as_weights, check_lengths
from unpad.notices import say_once

Average = Literal["binary", "micro", "macro", "weighted", "samples"]
_FIGURES = ("precision", "recall", "f1")
"""Rows of what `_figures` gives."""


class Counts(Accumulator):
    """Weighted counts per class, in float64 (exact for plain counts below 2**53).

    Takes class labels `[B]` (integers, booleans or texts) or multi-label rows `[B, C]` of 0 and 1, of which each
    column is a class.

    Raises DataError when lengths or shapes differ, labels are floats, texts are mixed with numbers, or rows of a
    2-D input hold anything but 0 and 1.
    """

    def __init__(self) -> None:
        self.multilabel: bool | None = None
        self.classes = np.empty(0, dtype=np.int64)
        """`[C]` sorted labels seen so far (column numbers when multi-label)."""
        self.counts = np.zeros((3, 0))
        """`[3, C]` right predictions, predictions, references of each class."""
        self.right = self.total = 0.0
        """Weight of the examples that are right in every label, and of all."""
        self.row_sum, self.row_undefined = np.zeros(3), np.zeros(3)
        """Sums over examples of precision, recall and F1 within each, and the weight of those where they are not defined."""

    def add(self, predictions: Any, references: Any, *, sample_weight: Any = None) -> None:
        """Take one batch; `sample_weight` `[B]` counts an example as that many."""
        predicted, true = _as_labels(predictions, "predictions"), _as_labels(references, "references")
        check_lengths(len(predicted), len(true))
        if not len(predicted):
            return
        if predicted.shape != true.shape:
            shapes = f"predictions have shape {list(predicted.shape)} and references {list(true.shape)}"
            raise DataError(f"{shapes}. Both must be [examples], or both [examples, classes] of 0 and 1.")
        weights = as_weights(sample_weight, len(true))
        self._check_kind(predicted, true)
        self.multilabel = predicted.ndim == 2
        right = (self._add_rows if self.multilabel else self._add_labels)(predicted, true, weights)
        self.right += float(weights[right].sum())
        self.total += float(weights.sum())
        self.examples += len(true)

    def _check_kind(self, predicted: np.ndarray, true: np.ndarray) -> None:
        multilabel = predicted.ndim == 2
        if self.multilabel not in (None, multilabel):
            both = "one batch holds class labels [examples] and another multi-label rows [examples, classes]"
            raise DataError(f"{both}. Add only one kind between two calls of compute.")
        for values, what in ((predicted, "predictions"), (true, "references")):
            if multilabel and len(odd := values[~np.isin(values, (0, 1))]):
                raise DataError(
                    f"{what} have two dimensions, so they must hold 0 and 1 (multi-label), but hold {odd[0]}. "
                    f"For one class number per token, leave out padding and pass one flat list."
                )
        if multilabel and self.multilabel and predicted.shape[1] != len(self.classes):
            counts = f"{predicted.shape[1]} columns but earlier ones had {len(self.classes)}"
            raise DataError(f"multi-label rows have {counts}. Every row needs one column per class.")
        known = [self.classes] if self.multilabel is False else []
        if len({values.dtype.kind == "U" for values in (predicted, true, *known)}) == 2:
            raise DataError(
                "labels are numbers in one place and texts in another (predictions, references or an earlier batch). "
                "Map them to one kind, e.g. with model.config.label2id."
            )

    def _add_labels(self, predicted: np.ndarray, true: np.ndarray, weights: np.ndarray) -> np.ndarray:
        known = self.classes if len(self.classes) else true[:0]
        classes = np.unique(np.concatenate([known, predicted, true]))
        counts = np.zeros((3, len(classes)))
        counts[:, np.searchsorted(classes, known)] = self.counts
        predicted, true = np.searchsorted(classes, predicted), np.searchsorted(classes, true)
        right = predicted == true
        for row, (labels, weight) in enumerate(((true[right], weights[right]), (predicted, weights), (true, weights))):
            counts[row] += np.bincount(labels, weight, len(classes))
        self.classes, self.counts = classes, counts
        return right

    def _add_rows(self, predicted: np.ndarray, true: np.ndarray, weights: np.ndarray) -> np.ndarray:
        hits = np.stack([predicted * true, predicted, true]).astype(np.float64)
        if not len(self.classes):
            self.classes, self.counts = np.arange(true.shape[1]), np.zeros((3, true.shape[1]))
        self.counts = self.counts + weights @ hits
        rows = _figures(hits.sum(2))
        undefined = np.isnan(rows)
        self.row_sum = self.row_sum + np.where(undefined, 0.0, rows) @ weights
        self.row_undefined = self.row_undefined + undefined @ weights
        return (predicted == true).all(1)


class Accuracy(Metric):
    """Share of examples whose prediction equals the reference; of multi-label rows, equals it in every column."""

    name = "accuracy"
    configs = ("default", "multilabel")
    accumulator = Counts

    def result(self, state: Counts, *, normalize: bool = True) -> dict[str, Any]:
        """`{"accuracy": share}`; with `normalize=False` the number (weight) of right examples instead."""
        if not normalize:
            return {"accuracy": float(state.right)}
        return {"accuracy": float(state.right / state.total) if state.total else math.nan}


class Precision(Metric):
    """Of the examples that were given a class, the share that have it: hits / predicted."""

    name = "precision"
    configs = ("default", "multilabel")
    accumulator = Counts

    def result(
        self, state: Counts, *, average: Average | None = "binary", pos_label: int | str = 1,
        labels: Sequence[int | str] | None = None, zero_division: float | str = "warn",
    ) -> dict[str, Any]:  # fmt: skip
        """`{name: value}`, over classes as `average` says.

        Arguments:
            average: `"binary"` is the value of class `pos_label` alone; `"micro"` counts all classes together; `"macro"`
                is the mean over classes; `"weighted"` that mean weighted by true counts; `"samples"` (multi-label) the
                mean over examples; None gives a list with one value per class, sorted by label or in the order of `labels`.
            labels: the classes to take into account, seen or not; by default all that were seen.
            zero_division: value where nothing was predicted or nothing was true: 0 (said once, also under `"warn"`), 1,
                or NaN, which averages leave out.

        Raises:
            ArgumentError: an option is unknown or does not fit the labels; the message says what to pass.
        """
        if zero_division not in ("warn", 0, 1) and not (isinstance(zero_division, float) and math.isnan(zero_division)):
            allowed = "0, 1, float('nan') or 'warn' (0, said once)"
            raise ArgumentError(f"zero_division={zero_division!r} is not allowed; pass {allowed}.")
        if average not in (averages := (*get_args(Average), None)):
            raise ArgumentError(f"average={average!r} is unknown; pass one of {listing(map(repr, averages))}.")
        row, fill = _FIGURES.index(self.name), 0.0 if zero_division == "warn" else float(zero_division)
        if average == "samples":
            _check_samples(state, labels)
            empty = state.row_undefined[row]
            if empty and zero_division == "warn":
                self._say_undefined()
            of = state.total - (empty if math.isnan(fill) else 0.0)
            total = state.row_sum[row] + (0.0 if math.isnan(fill) else fill * empty)
            return {self.name: float(total / of) if of > 0 else math.nan}
        chosen = _select(state, [_positive(state, self.name, pos_label)] if average == "binary" else labels)
        values = _figures(chosen.sum(1, keepdims=True) if average == "micro" else chosen)[row]
        undefined = np.isnan(values)
        if undefined.any() and zero_division == "warn":
            self._say_undefined()
        values = np.where(undefined, fill, values)
        if average is None:
            return {self.name: values.tolist()}
        known = ~np.isnan(values)
        if not known.any():
            return {self.name: math.nan}
        true = chosen[2, known] if average == "weighted" else np.zeros(1)
        return {self.name: float(np.average(values[known], weights=true if true.sum() > 0 else None))}

    def _say_undefined(self) -> None:
        say_once(
            f"{self.name} divides by zero for a class (or example) that nothing was predicted as or that never occurs; "
            f"it counts as 0 there. Pass zero_division=0, 1 or nan to choose.",
            key=f"zero_division {self.name}",
        )


class Recall(Precision):
    """Of the examples that have a class, the share that were given it: hits / true."""

    name = "recall"


class F1(Precision):
    """Harmonic mean of precision and recall: 2 hits / (predicted + true)."""

    name = "f1"


class MatthewsCorrelation(Metric):
    """Matthews' correlation of predicted and true classes, in -1..1, for two or more classes (Gorodkin, 2004).

    0 when predictions or references are all of one class. Multi-label rows have one value per column.
    """

    name = "matthews_correlation"
    configs = ("default", "multilabel")
    accumulator = Counts

    def result(self, state: Counts, *, average: Literal["macro"] | None = "macro") -> dict[str, Any]:
        """`{"matthews_correlation": value}`; of multi-label rows the mean over columns, or with `average=None` a list."""
        if not state.multilabel:
            return {self.name: _matthews(state.counts, state.total)}
        if average not in ("macro", None):
            raise ArgumentError(f"metric {self.name!r} cannot average by {average!r}; pass average='macro' or None.")
        n = state.total
        columns = [_matthews(np.array([[n - p - t + h, h], [n - p, p], [n - t, t]]), n) for h, p, t in state.counts.T]
        return {self.name: float(np.mean(columns)) if average else columns}


accuracy, precision, recall, f1, matthews_correlation = map(
    as_function, (Accuracy, Precision, Recall, F1, MatthewsCorrelation)
)


def _as_labels(values: Any, what: str) -> np.ndarray:
    array = as_array(values, what)
    if not array.size and array.ndim <= 1:
        return np.empty(0, dtype=np.int64)
    if array.dtype.kind == "f":
        found = f"{what} are floats (shape {list(array.shape)}, first value {array.ravel()[0]:.6g})"
        instead = "Take .argmax(-1) of logits, .astype(int) of class numbers; for real targets use 'mse' or 'pearsonr'"
        raise DataError(f"{found} where class labels are needed. {instead}.")
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.dtype.kind in "US"):
        needed = "class labels [examples], or multi-label rows [examples, classes] of 0 and 1, are needed"
        raise DataError(f"{what} have shape {list(array.shape)} where {needed}. Pass one flat list of labels.")
    return array.astype(np.str_ if array.dtype.kind in "US" else np.int64)


def _figures(counts: np.ndarray) -> np.ndarray:
    """`[3, C]` precision, recall and F1 of `[3, C]` hits, predictions, references; NaN where the denominator is zero."""
    hit, predicted, true = counts
    above, below = np.stack([hit, hit, 2 * hit]), np.stack([predicted, true, predicted + true])
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0)


def _check_samples(counts: Counts, labels: Any) -> None:
    if not counts.multilabel:
        instead = "for one label per example pass average='micro', 'macro' or 'weighted'"
        raise ArgumentError(f"average='samples' needs multi-label rows [examples, classes] of 0 and 1; {instead}.")
    if labels is not None:
        instead = "Pass only the wanted columns, or average='macro'"
        raise ArgumentError(f"average='samples' cannot go with labels=, because examples are not kept. {instead}.")


def _positive(counts: Counts, figure: str, pos_label: int | str) -> int | str:
    instead = "Pass average='macro', 'micro', 'weighted' or None"
    if counts.multilabel:
        raise ArgumentError(f"{figure} of multi-label rows cannot use average='binary'. {instead}, or 'samples'.")
    if len(counts.classes) > 2:
        got = f"{figure} got {len(counts.classes)} classes ({listing(counts.classes, 6)})"
        raise ArgumentError(f"{got} but average='binary' (the default) is for two. {instead}.")
    known = counts.classes.tolist()
    if (counts.classes.dtype.kind == "U" or len(known) == 2) and pos_label not in known:
        wrong = f"pos_label={pos_label!r} is not among the labels ({listing(map(repr, known))})"
        raise ArgumentError(f"{wrong}. Pass the label that counts as positive, or average='macro'.")
    return pos_label


def _select(counts: Counts, labels: Sequence[int | str] | None) -> np.ndarray:
    """`[3, C]` counts of `labels` in their order, zero for labels that were never seen."""
    if labels is None:
        return counts.counts
    wanted = as_array(labels, "labels").ravel().tolist()
    if not wanted:
        raise ArgumentError("labels= is empty. Name at least one class, or leave it out to take all.")
    place = {label: i for i, label in enumerate(counts.classes.tolist())}
    if counts.multilabel and not set(wanted) <= set(place):
        raise ArgumentError(f"labels={wanted} are not all columns (0..{len(place) - 1}). Pass their numbers.")
    if not set(wanted) & set(place) and {type(w) for w in wanted} != {type(p) for p in place}:
        data = f"the labels of the data ({listing(map(repr, place), 6)})"
        raise ArgumentError(f"labels={wanted} are of another kind than {data}. Pass them as the data spells them.")
    return np.pad(counts.counts, ((0, 0), (0, 1)))[:, [place.get(label, -1) for label in wanted]]


def _matthews(counts: np.ndarray, total: float) -> float:
    hit, predicted, true = counts
    # one class only: the exact answer is 0, and weights may leave a rounding error instead of zero
    if np.count_nonzero(predicted) < 2 or np.count_nonzero(true) < 2:
        return 0.0
    between = hit.sum() * total - true @ predicted
    spread = math.sqrt(max(0.0, (total**2 - predicted @ predicted) * (total**2 - true @ true)))
    return float(between / spread) if spread else 0.0
