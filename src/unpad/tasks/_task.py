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
from unpad.errors import DataError
from unpad.metrics import Metric, load_metric
from unpad.tasks._columns import lists_of

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import DatasetDict

    from unpad.config import ModelConfig
    from unpad.text.tokenizer import Tokenizer, TruncationReport

BLOCK = 50_000
"""Texts per call of the tokenizer when a data set is prepared: a bound for the memory of what the call returns."""


@dataclass(frozen=True)
class Columns:
    """Which columns of a data set a task reads."""

    text: str
    """The text, or the first text of a pair."""
    text_pair: str | None = None
    """The second text of a pair."""
    label: str | None = None
    """The answer, where the data set has one."""
    more: tuple[str, ...] = ()
    """Further columns that the task reads (the endings of multiple choice, the ids of questions)."""

    @property
    def used(self) -> list[str]:
        """All of them."""
        return [name for name in (self.text, self.text_pair, self.label, *self.more) if name is not None]


@dataclass(frozen=True)
class Prepared:
    """A data set that is ready for training, and what a model must be to learn it."""

    data: DatasetDict
    """Splits with `input_ids`, `token_type_ids` (where any is not 0) and `labels` (where there are some)."""
    columns: Columns
    """The columns of the raw data that it was made of."""
    truncation: TruncationReport
    """What truncation has cost."""
    label_names: list[str] | None = None
    """Names of the labels in the order of their ids; None when they have no names."""
    num_labels: int | None = None
    """C: outputs that a model needs; None when no split has labels."""
    problem_type: str | None = None
    """One of `core.losses.PROBLEM_TYPES`; None when no split has labels."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """By split, what `Task.metrics` needs beside the tokens (the contexts and offsets of question answering)."""

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
    """[B] int64: tokens of each sequence."""
    notes: Any = None
    """What the task's `answers` needs to know of them: offsets, which input each sequence is of."""
    asked: np.ndarray | None = None
    """[M] int64 rising: places in T at which a vocabulary head is read."""
    cut: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """[n] int64: numbers of the inputs of which truncation has lost something."""

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
        spans = list(map(slice, starts, ends))
        types = None if self.token_type_ids is None else [self.token_type_ids[span] for span in spans]
        batch = pack([self.input_ids[span] for span in spans], types, sample_ids=rows.tolist())
        if self.asked is None:
            return batch
        import torch

        starts_of, out = np.cumsum([0, *batch.lengths]), []
        for start, row in zip(starts_of, batch.sample_ids, strict=False):
            end = int(self.ends[row])
            low, high = np.searchsorted(self.asked, [end - int(self.lengths[row]), end])
            out.append(self.asked[low:high] - (end - int(self.lengths[row])) + start)
        return replace(batch, asked=torch.from_numpy(np.concatenate(out)))


@dataclass(frozen=True)
class Reader:
    """How a pipeline reads the inputs of a call."""

    tokenizer: Tokenizer
    limit: int
    """Tokens that a sequence may have."""
    config: ModelConfig | None = None
    """That of the model."""
    truncation: bool | str = True
    first: int = 0
    """Number of the first input."""

    def name(self, place: int) -> str:
        """An input in messages."""
        return f"input {self.first + place}"

    def features(self, texts: list[str], pairs: list[str] | None = None) -> Features:
        """Texts (or pairs of them) as features."""
        return tokenize(self.tokenizer, texts, pairs, self.limit, self.truncation)

    def texts(self, inputs: Sequence[Any], advice: str) -> list[str]:
        """The inputs, which must be texts; else DataError with the advice."""
        for place, text in enumerate(inputs):
            if not isinstance(text, str):
                raise no_text(self.name(place), text, advice)
        return list(inputs)


class Task:
    """Base of all tasks. The methods stand in the order in which data meets them."""

    name: ClassVar[str]
    """Its name in `unpad.tasks.TASKS`."""
    head: ClassVar[str]
    """The head that its models have."""
    auto_class: ClassVar[str]
    """Name of the class in `unpad.models.auto` that loads such a model."""
    default_model: ClassVar[str]
    """What a pipeline loads when no model is named: the model of the Hub that the field takes for the task."""
    default_data: ClassVar[str | None] = None
    """Bundled data that a command line learns from when none is named."""
    options: ClassVar[tuple[str, ...]] = ()
    """Options of `answers` that callers of a pipeline may set."""
    positional: ClassVar[tuple[str, ...]] = ()
    """Those of them that may follow the inputs of a call without their names."""
    settings: ClassVar[tuple[str, ...]] = ()
    """Options of `prepare` and `collator` that a command line may set (`unpad.cli.train.TrainOptions`)."""
    readable: ClassVar[Mapping[str, Any]] = {}
    """Options with which the command line asks: the answers that people want, where a pipeline's own are others."""
    pairs: ClassVar[bool] = True
    """Its inputs may have a second text."""
    words: ClassVar[bool] = False
    """Its texts may be lists of words."""
    classes: ClassVar[bool] = True
    """A model has one output per label, and data without labels teach it nothing."""
    one_to_one: ClassVar[bool] = True
    """`prepare` makes one row of each row."""
    generates: ClassVar[bool] = False
    """Its models write their answers: a pipeline generates, and the fields of `GenerationConfig` are options beside its own."""

    def columns(
        self, dataset: Any, text: str | None = None, text_pair: str | None = None, label: str | None = None, labelled: bool | None = None
    ) -> Columns:  # fmt: skip
        """The columns of a `Dataset` or `DatasetDict` to read; names that are given win over names that are found."""
        raise NotImplementedError

    def prepare(
        self, raw: Any, tokenizer: Tokenizer, columns: Columns, max_length: int | None = None, label_names: Sequence[str] | None = None,
        **settings: Any,
    ) -> Prepared:  # fmt: skip
        """Tokenize a data set and turn its labels into numbers. `settings` are those of the task, and `config`, the model's if it is known."""
        raise NotImplementedError

    def collator(self, tokenizer: Tokenizer, **settings: Any) -> Any:
        """The data collator that its training needs; None for the Trainer's own."""
        return None

    def inputs(self, inputs: Any, options: dict[str, Any]) -> Any:
        """The inputs of a pipeline call; a task whose inputs come as keywords takes them out of `options`."""
        return inputs

    def encode(self, inputs: Sequence[Any], reader: Reader, options: Mapping[str, Any]) -> Features:
        """Tokenize what a pipeline was given; `options` are those of the task that are set. Raises DataError, naming the input."""
        raise NotImplementedError

    def reduce(self, output: Any, batch: PackedBatch, options: Mapping[str, Any]) -> Any:
        """What of a model's output is brought from the device, in its order: one entry per sequence, token, or token asked."""
        return output["logits"]

    def by_sequence(self, options: Mapping[str, Any]) -> bool:
        """Whether `reduce` gives one entry per sequence although the model answers per token."""
        return False

    def checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options that say something, of those that a caller has set. Raises ArgumentError for bad values."""
        return dict(options)

    def settled(self, options: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
        """What `checked` gave in the model's terms (words as ids); this is what the methods around the model get."""
        return dict(options)

    def remark(self, options: Mapping[str, Any], config: ModelConfig, tokenizer: Tokenizer) -> str | None:
        """What to say of options that a caller has set and this model cannot follow."""
        return None

    def answers(self, found: Any, features: Features, config: ModelConfig, options: Mapping[str, Any]) -> list[Any]:
        """What a pipeline gives for each input of a list. `found`: a tensor [B, C] in the order of `features`, or for models that
        answer per token a list of B arrays, each for the tokens (or the tokens asked) of a sequence."""
        raise NotImplementedError

    def single(self, answer: Any, is_text: bool, called: Mapping[str, Any]) -> Any:
        """What a pipeline gives for one input that is no list; `called` are the options of this very call."""
        return answer

    def several(self, answers: list[Any]) -> list[Any]:
        """What a pipeline gives for a list."""
        return answers

    def writing(self, config: ModelConfig, tokenizer: Tokenizer, options: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of `GenerationConfig` that the task gives its models; what a caller sets goes before them."""
        return {}

    def metrics(self, config: ModelConfig, notes: Any = None) -> Judge | None:
        """The figures by which predictions are judged, as a streaming metric for the Trainer; `notes` are those of the
        prepared split. None: the loss says it all, with the perplexity, which the Trainer adds where words are learned."""
        return None

    # ---- rows of raw data, for people ----

    def row_input(self, row: Mapping[str, Any], columns: Columns) -> Any:
        """A row of raw data as an input of the pipeline."""
        return row[columns.text] if columns.text_pair is None else (row[columns.text], row[columns.text_pair])

    def example(self, row: Mapping[str, Any], answer: Any, columns: Columns, prepared: Prepared) -> Example:
        """A row and a pipeline's answer to it, as a person reads them."""
        raise NotImplementedError

    def examples(
        self, pipe: Any, rows: Sequence[Mapping[str, Any]], columns: Columns, prepared: Prepared
    ) -> list[Example]:
        """Rows and the answers of `pipe` to them, as a person reads them."""
        found = pipe([self.row_input(row, columns) for row in rows], **self.readable)
        return [self.example(row, answer, columns, prepared) for row, answer in zip(rows, found, strict=True)]


@dataclass(frozen=True)
class Example:
    """An answer beside the truth, in words."""

    texts: list[str]
    answer: str
    truth: str | None = None
    """None where the data do not tell."""
    right: bool | None = None
    """None: where the answer is the truth."""


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


def figure(key: str, metric: str | Metric | None = None, **options: Any) -> Part:
    """The figure of the metric that has its name (by default that of `key`)."""
    found = metric if isinstance(metric, Metric) else load_metric(metric or key)
    return Part(key, found, found.name, options)


class Judge:
    """Several figures over one stream of batches."""

    by_row: ClassVar[bool] = False
    """`add_batch` takes the numbers of the samples too, as `rows` [B]."""
    generates: ClassVar[bool] = False
    """It judges what a model writes: `add_batch` takes lists of 1-D arrays of ids, the new tokens and the labels (or None)."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)

    def reduce(self, logits: Any) -> Any:
        """Predictions for logits [B, C] (or [B, S, C] padded, per token), on the same device; as small as the figures allow: the
        numbers of the highest, int64 [B] (or [B, S])."""
        return logits.argmax(-1)

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
    tokenizer: Tokenizer, texts: list[str], pairs: list[str] | None, max_length: int | None, truncation: bool | str
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
    flat = np.fromiter(chain.from_iterable(ids), np.int64, total)
    types = np.fromiter(chain.from_iterable(rows["token_type_ids"]), np.int64, total) if typed else None
    types = types if types is not None and types.any() else None
    return Features(flat, types, lengths, cut=np.array(rows.cut, np.int64))


def token_columns(
    tokenizer: Tokenizer, texts: list[str], pairs: list[str] | None, max_length: int | None
) -> dict[str, pa.ChunkedArray]:
    """`input_ids` of a data set and (where any is not 0) `token_type_ids`, flat arrays behind lists: no dictionary per row."""
    import pyarrow as pa

    spans = [slice(start, start + BLOCK) for start in range(0, len(texts), BLOCK)]
    blocks = [tokenize(tokenizer, texts[s], None if pairs is None else pairs[s], max_length, True) for s in spans]
    chunks = {"input_ids": [lists_of(block.input_ids.astype(np.int32), block.ends) for block in blocks]}
    if any(block.token_type_ids is not None for block in blocks):
        types = [np.zeros(len(b.input_ids)) if b.token_type_ids is None else b.token_type_ids for b in blocks]
        chunks["token_type_ids"] = [lists_of(t.astype(np.int8), b.ends) for t, b in zip(types, blocks, strict=True)]
    return {name: pa.chunked_array(parts) for name, parts in chunks.items()}


def no_text(where: str, value: Any, advice: str) -> DataError:
    """The error that an input is no text."""
    return DataError(f"{where} is {value!r:.40} ({type(value).__name__}), not a text; {advice}")
