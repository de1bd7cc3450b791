"""What every metric is: an accumulator that grows batch by batch, and a figure that is read from it at the end.

Streaming means that memory does not grow with the evaluation set wherever mathematics allows it: a metric keeps
sums, not predictions. Metrics that need every value (rank correlation, corpus figures) keep them and say so.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from unpad.errors import ArgumentError, DataError, listing, nearest


class Accumulator:
    """What a metric remembers between batches.

    A subclass defines `add`, which takes one batch and counts it in `examples`. It either takes the whole batch or
    raises and stays as it was. Its keyword-only parameters are further values per example (`sample_weight`, ...) that
    users may pass to `Metric.add_batch` and `Metric.compute`.
    """

    examples: int = 0

    def add(self, predictions: Any, references: Any) -> None:
        """Take one batch."""
        raise NotImplementedError


class Kept(Accumulator):
    """Keeps every prediction and reference as it came, for metrics that judge a whole corpus at once.

    `predictions` and `references` are flat lists of whatever objects were added (texts, tag lists, answer
    dictionaries, ...); memory grows with the evaluation set.
    """

    def __init__(self) -> None:
        self.predictions: list[Any] = []
        self.references: list[Any] = []

    def add(self, predictions: Any, references: Any) -> None:
        predictions, references = list(predictions), list(references)
        check_lengths(len(predictions), len(references))
        self.predictions += predictions
        self.references += references
        self.examples += len(predictions)


class Metric:
    """A streaming metric: `add` or `add_batch` as often as you like, then `compute`.

    To write one: give it a `name`, choose its `accumulator`, and define `result`, whose keyword-only parameters are
    the options of `compute`. Then name it in `unpad.metrics.METRICS`.
    """

    name: str = ""
    configs: ClassVar[tuple[str, ...]] = ("default",)
    """Names that `load_metric(name, config_name)` accepts."""
    accumulator: ClassVar[type[Accumulator]] = Kept

    def __init__(self, config_name: str | None = None):
        if config_name is not None and config_name not in self.configs:
            known = f"{nearest(config_name, self.configs)}; it has: {listing(self.configs)}."
            raise ArgumentError(f"metric {self.name!r} has no configuration {config_name!r}{known}")
        self.config_name = config_name
        self.reset()

    def result(self, state: Any) -> dict[str, Any]:
        """The figures of what `state` has gathered. Subclasses add their options as keyword-only parameters."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget everything that was added."""
        self.state = self.accumulator()

    @property
    def examples(self) -> int:
        """How many examples were added since the last `compute` or `reset`."""
        return self.state.examples

    def add(self, *, prediction: Any, reference: Any = None, **values: Any) -> None:
        """Add one example; `values` are further values of this example, such as `sample_weight`."""
        rows = {name: [value] for name, value in values.items()}
        self.add_batch(predictions=[prediction], references=None if reference is None else [reference], **rows)

    def add_batch(self, *, predictions: Any, references: Any = None, **values: Any) -> None:
        """Add a batch: lists, numpy arrays or torch tensors (on any device) of one entry per example.

        Raises:
            DataError: the batch cannot be judged (lengths differ, wrong kind of values). Nothing of it is kept.
            ArgumentError: a name in `values` is not one that this metric takes.
        """
        self._check_names(values, self.value_names(), "add_batch")
        self.state.add(predictions, references, **values)

    def compute(self, *, predictions: Any = None, references: Any = None, **options: Any) -> dict[str, Any]:
        """The figures over everything added, this call's `predictions` and `references` included; then resets.

        Returns a dictionary of plain Python floats (lists of floats where an option asks for one per class). When
        it raises, what was added before stays, so that a misspelt option does not cost an evaluation.

        Raises:
            DataError: nothing was added, or the batch cannot be judged.
            ArgumentError: an option is unknown or does not fit the data.
        """
        self._check_names(options, self.option_names() | self.value_names(), "compute")
        values = {name: options.pop(name) for name in self.value_names() & options.keys()}
        state = self.state
        if predictions is not None:
            state = copy.deepcopy(state)  # nearly always empty here, so this costs nothing
            state.add(predictions, references, **values)
        elif references is not None:
            raise DataError(f"metric {self.name!r} got references without predictions. Pass predictions= too.")
        elif values:
            needed = "Pass it to add_batch with them, or pass predictions= and references= here"
            raise ArgumentError(f"metric {self.name!r}: {listing(values)} belongs to examples added before. {needed}.")
        if not state.examples:
            needed = "Call add_batch(predictions=, references=) first, or pass both to compute"
            raise DataError(f"metric {self.name!r} has nothing to judge: no predictions were added. {needed}.")
        figures = self.result(state, **options)
        self.reset()
        return figures

    def value_names(self) -> set[str]:
        """Names of further values per example that `add_batch` takes."""
        return _keyword_only(self.accumulator.add)

    def option_names(self) -> set[str]:
        """Names of the options that `compute` takes."""
        return _keyword_only(self.result)

    def _check_names(self, given: Iterable[str], known: set[str], where: str) -> None:
        for name in given:
            if name not in known:
                has = f"besides predictions and references it takes: {listing(sorted(known)) or 'none'}"
                wrong = f"{where} of metric {self.name!r} has no argument {name!r}{nearest(name, known)}"
                raise ArgumentError(f"{wrong}; {has}.")


class Combined(Metric):
    """Several metrics that are fed together; their figures come in one dictionary.

    An option goes to every part that takes it. Where two parts give a figure of the same name, both are prefixed by
    the name of their part. A batch that a later part refuses has already been taken by the earlier ones: call
    `reset` before going on.
    """

    def __init__(
        self, parts: Mapping[str, Metric], rename: Mapping[str, str] | None = None, name: str = "", force_prefix: bool = False
    ):  # fmt: skip
        """`parts` by name; `rename` maps names of figures to other ones; `name` stands for all in messages and prefixes;
        with `force_prefix` every figure is prefixed."""
        if not parts:
            raise ArgumentError("combine got no metrics. Pass at least one, e.g. combine(['accuracy', 'f1']).")
        self.parts, self.rename = dict(parts), dict(rename or {})
        self.name, self.config_name, self.force_prefix = name or "+".join(parts), None, force_prefix

    def reset(self) -> None:
        for part in self.parts.values():
            part.reset()

    @property
    def examples(self) -> int:
        return max(part.examples for part in self.parts.values())

    def add_batch(self, *, predictions: Any, references: Any = None, **values: Any) -> None:
        self._check_names(values, self.value_names(), "add_batch")
        for part in self.parts.values():
            mine = {k: v for k, v in values.items() if k in part.value_names()}
            part.add_batch(predictions=predictions, references=references, **mine)

    def compute(self, *, predictions: Any = None, references: Any = None, **options: Any) -> dict[str, Any]:
        self._check_names(options, self.option_names() | self.value_names(), "compute")
        before = [(leaf, leaf.state) for leaf in self._leaves()]  # compute replaces states, never changes them
        found = {}
        try:
            for name, part in self.parts.items():
                takes = part.option_names() | part.value_names()
                mine = {k: v for k, v in options.items() if k in takes}
                found[name] = part.compute(predictions=predictions, references=references, **mine)
        except Exception:
            for leaf, state in before:
                leaf.state = state
            raise
        figures = [(name, key, value) for name, part in found.items() for key, value in part.items()]
        keys = [key for _, key, _ in figures]
        return {
            f"{name}_{k}" if self.force_prefix or keys.count(k) > 1 else self.rename.get(k, k): value
            for name, k, value in figures
        }

    def _leaves(self) -> list[Metric]:
        parts = self.parts.values()
        return [m for part in parts for m in (part._leaves() if isinstance(part, Combined) else [part])]

    def value_names(self) -> set[str]:
        return set().union(*(part.value_names() for part in self.parts.values()))

    def option_names(self) -> set[str]:
        return set().union(*(part.option_names() for part in self.parts.values()))


def as_array(values: Any, what: str) -> np.ndarray:
    """`values` (list, numpy array, torch tensor on any device, column of a data set) as a numpy array.

    Torch is never imported: a tensor is known by its methods. `what` names the values in messages.

    Raises:
        DataError: the values are missing, ragged or not plain numbers or texts.
    """
    if values is None:
        raise DataError(f"{what} are missing. Pass predictions= and references=.")
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        return (values.double() if values.is_floating_point() else values).numpy()  # numpy has no bfloat16
    if isinstance(values, str | bytes | Mapping) or not (hasattr(values, "__iter__") or hasattr(values, "__array__")):
        kind = type(values).__name__
        raise DataError(f"{what} must be a list or an array with one entry per example, not one {kind}.")
    if isinstance(values, Sequence) and not isinstance(values, list | tuple):
        values = values[:]  # a lazy column of a data set gives all its values in one read
    elif not isinstance(values, Sequence) and not hasattr(values, "__array__"):
        values = list(values)
    if isinstance(values, list | tuple) and len(values) and hasattr(values[0], "detach"):
        values = [as_array(v, what) for v in values]
    try:
        array = np.asarray(values)
    except ValueError:
        raise DataError(f"{what} have rows of different lengths. Pass one value (or equal row) per example.") from None
    if array.dtype.kind not in "biufUS" and array.size:
        wrong = (pair for pair in enumerate(array.flat) if not isinstance(pair[1], int | float | str))
        at, odd = next(wrong, (0, array.flat[0]))
        found = f"{what} hold {odd!r} at position {at}, no number or text"
        raise DataError(f"{found}. Leave out such rows, or give them a value.")
    return array


def as_weights(sample_weight: Any, examples: int) -> np.ndarray:
    """Weights `[examples]` in float64; all 1 when none were given."""
    if sample_weight is None:
        return np.ones(examples)
    weights = as_array(sample_weight, "sample_weight").astype(np.float64)
    if weights.shape != (examples,) or not np.isfinite(weights).all() or (weights < 0).any():
        needed = f"must hold a finite number of 0 or more for each of {examples} predictions"
        raise DataError(f"sample_weight of shape {list(weights.shape)} {needed}.")
    return weights


def as_function(metric: type[Metric]) -> Callable[..., Any]:
    """`metric` as a function of predictions, references and what `compute` takes; it gives the figure of that name."""

    def figure(predictions: Any, references: Any, **options: Any) -> Any:
        given = [] if predictions is None else predictions
        return metric().compute(predictions=given, references=references, **options)[metric.name]

    figure.__name__, figure.__doc__ = metric.name, metric.__doc__
    return figure


def check_lengths(predictions: int, references: int) -> None:
    """Raises DataError unless both lengths are the same."""
    if predictions != references:
        what = f"{predictions} predictions but {references} references"
        raise DataError(f"{what}. Each prediction needs exactly one reference.")


def _keyword_only(function: Any) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
