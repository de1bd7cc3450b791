"""What a task is: the one place that knows how its examples become features and how a model's answers become words.

N rows, B sequences, T tokens of all of them, C labels. A task holds no state: one object serves every caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from unpad.batch import PackedBatch, pack

if TYPE_CHECKING:
    from datasets import DatasetDict

    from unpad.config import ModelConfig
    from unpad.text.tokenizer import Tokenizer, TruncationReport


@dataclass(frozen=True)
class Columns:
    """Which columns of a data set a task reads."""

    text: str
    """The text, or the first text of a pair."""
    text_pair: str | None = None
    """The second text of a pair."""
    label: str | None = None
    """The answer, where the data set has one."""


@dataclass(frozen=True)
class Prepared:
    """A data set that is ready for training, and what a model must be to learn it."""

    data: DatasetDict
    """Splits with `input_ids`, `token_type_ids` (where any is not 0) and `labels` (where there are some)."""
    columns: Columns
    """The columns of the raw data that it was made of."""
    label_names: list[str] | None
    """Names of the labels in the order of their ids; None when they have no names."""
    num_labels: int | None
    """C: outputs that a model needs; None when no split has labels."""
    problem_type: str | None
    """One of `core.losses.PROBLEM_TYPES`; None when no split has labels."""
    truncation: TruncationReport
    """What truncation has cost."""

    @property
    def model_options(self) -> dict[str, Any]:
        """Keyword arguments for `from_pretrained`, so that the model fits the labels and carries their names."""
        if self.num_labels is None:
            return {}
        labels: dict[str, Any] = {"num_labels": self.num_labels}
        if self.label_names is not None:
            labels = {"id2label": dict(enumerate(self.label_names))}
        return {**labels, "problem_type": self.problem_type}


@dataclass(frozen=True)
class Features:
    """B tokenized inputs as flat columns: no object per input, and any of them as a packed batch."""

    input_ids: np.ndarray
    """[T] int64."""
    token_type_ids: np.ndarray | None
    """[T] int64, or None where every token is of type 0 (which is what models take None for)."""
    lengths: np.ndarray
    """[B] int64: tokens of each input."""

    @cached_property
    def ends(self) -> np.ndarray:
        """[B] int64: where each input ends in T."""
        return np.cumsum(self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def pack(self, rows: np.ndarray) -> PackedBatch:
        """The inputs with these numbers as one batch; its `sample_ids` are the numbers."""
        ends = self.ends[rows].tolist()
        starts = (self.ends[rows] - self.lengths[rows]).tolist()
        spans = list(zip(starts, ends, strict=True))
        types = self.token_type_ids
        return pack(
            [self.input_ids[a:b] for a, b in spans],
            None if types is None else [types[a:b] for a, b in spans],
            sample_ids=rows.tolist(),
        )


class Task:
    """Base of all tasks. The methods stand in the order in which data meets them."""

    name: ClassVar[str]
    """Its name in `unpad.tasks.TASKS`."""
    head: ClassVar[str]
    """The head that its models have."""
    auto_class: ClassVar[str]
    """Name of the class in `unpad.models.auto` that loads such a model."""
    default_model: ClassVar[str]
    """What a pipeline loads when no model is named."""
    options: ClassVar[tuple[str, ...]] = ()
    """Options of `decode` that callers of a pipeline may set."""

    def columns(
        self,
        dataset: Any,
        text: str | None = None,
        text_pair: str | None = None,
        label: str | None = None,
        labelled: bool | None = None,
    ) -> Columns:
        """The columns of a `Dataset` or `DatasetDict` to read; names that are given win over names that are found."""
        raise NotImplementedError

    def prepare(
        self,
        raw: Any,
        tokenizer: Tokenizer,
        columns: Columns,
        max_length: int | None = None,
        label_names: Sequence[str] | None = None,
    ) -> Prepared:
        """Tokenize a data set and turn its labels into numbers."""
        raise NotImplementedError

    def encode(
        self,
        inputs: Sequence[Any],
        tokenizer: Tokenizer,
        max_length: int | None = None,
        *,
        truncation: bool | str = True,
        first: int = 0,
    ) -> Features:
        """Tokenize what a pipeline was given; `first` is the number of the first input in messages."""
        raise NotImplementedError

    def checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of `decode` that say something, from those that a caller has set. Raises ArgumentError for bad values."""
        return dict(options)

    def decode(self, logits: Any, config: ModelConfig) -> list[Any]:
        """A model's outputs for B inputs as what a person wants, in their order. Subclasses add `options` as keywords."""
        raise NotImplementedError

    def answers(self, logits: Any, config: ModelConfig, options: Mapping[str, Any]) -> list[Any]:
        """What a pipeline gives for each of B inputs of a list, under the options that were set."""
        raise NotImplementedError

    def single(self, answer: Any, is_text: bool, called: Mapping[str, Any]) -> Any:
        """What a pipeline gives for one input that is no list; `called` are the options of this very call."""
        return answer

    def metrics(self, config: ModelConfig) -> Judge:
        """The figures by which predictions for this task are judged, as a streaming metric for the Trainer."""
        raise NotImplementedError


@dataclass
class Part:
    """One figure of a judge."""

    key: str
    """Its name in the result."""
    metric: Any
    """The `unpad.metrics.Metric` that computes it."""
    figure: str
    """Its name in what that metric computes."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of that metric's `compute`."""


class Judge:
    """Several figures over one stream of batches. A subclass says how logits become predictions."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)

    def reduce(self, logits: Any) -> Any:
        """Predictions for logits [B, C], on the same device; as small as the figures allow."""
        raise NotImplementedError

    def add_batch(self, *, predictions: Any, references: Any) -> None:
        """Add the predictions that `reduce` made and the labels of the same samples."""
        for part in self.parts:
            part.metric.add_batch(predictions=predictions, references=references)

    def compute(self) -> dict[str, float]:
        """The figures over everything added since the last call; then starts anew. Raises DataError for nothing."""
        return {part.key: part.metric.compute(**part.options)[part.figure] for part in self.parts}

    def reset(self) -> None:
        """Forget everything that was added."""
        for part in self.parts:
            part.metric.reset()


def tokenize(
    tokenizer: Tokenizer,
    texts: list[str],
    pairs: list[str] | None,
    max_length: int | None,
    truncation: bool | str,
) -> Features:
    """Texts (or pairs of them) as features, in one call of the tokenizer."""
    if not texts:
        return Features(np.empty(0, np.int64), None, np.empty(0, np.int64))
    typed = "token_type_ids" in tokenizer.model_input_names
    rows = tokenizer(
        texts, pairs, truncation=truncation, max_length=max_length, return_attention_mask=False, return_token_type_ids=typed
    )  # fmt: skip
    ids = rows["input_ids"]
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    total = int(lengths.sum())
    types = np.fromiter(chain.from_iterable(rows["token_type_ids"]), np.int64, total) if typed else None
    return Features(
        np.fromiter(chain.from_iterable(ids), np.int64, total),
        types if types is not None and types.any() else None,
        lengths,
    )


def spent(before: TruncationReport, after: TruncationReport) -> TruncationReport:
    """What truncation has cost between two reports of one tokenizer."""
    names = ("texts", "truncated", "tokens_before", "tokens_lost")
    return replace(after, **{name: getattr(after, name) - getattr(before, name) for name in names})
