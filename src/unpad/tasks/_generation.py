"""What the tasks share whose models write their answers: a text is read, its target is written, and texts are compared.

`translation`, `summarization` and `text2text_generation` are `TextToText` with names of their own; `text_generation` uses `results`.
N rows, T tokens. Settings of `GenerationConfig` stay with the pipeline; here is only what a task says about them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from unpad.batch import IGNORED_LABEL
from unpad.data.collators import DataCollatorForSeq2Seq
from unpad.errors import ArgumentError, DataError
from unpad.notices import say, say_once
from unpad.tasks._columns import (
    check_named,
    check_there,
    dataset_of,
    is_text,
    not_found,
    one_of,
    say_lost,
    say_read,
    spent,
    splits_of,
    whole_column,
)
from unpad.tasks._task import Columns, Example, Features, Judge, Part, Prepared, Reader, Task, no_text

if TYPE_CHECKING:
    import pyarrow as pa

    from unpad.config import ModelConfig
    from unpad.text.tokenizer import Tokenizer

NO_LIMIT = 10**20
"""Tokens of texts that are not cut."""
FORMS = ("return_text", "return_tensors", "clean_up_tokenization_spaces")
"""Options of all pipelines that write: in which form."""
BLOCK = 10_000
"""Rows per call of the tokenizer when a data set is prepared: a bound for the memory of what the call returns."""


@dataclass(frozen=True)
class Texts:
    """What judging a prepared split needs: by row, what is read, and what is right (without the prefix, and not cut)."""

    tokenizer: Tokenizer
    sources: list[str]
    targets: list[str]
    language: str = "en"
    known: dict[str, float] = field(default_factory=dict)
    """Figures that no model changes, computed once."""


class TextToText(Task):
    """Base of the tasks with a source and a target. Subclasses name columns, the key of their answers, and their figures."""

    head = "conditional-generation"
    auto_class = "AutoModelForSeq2SeqLM"
    options: ClassVar[tuple[str, ...]] = ("prefix", "max_source_length", *FORMS)
    settings: ClassVar[tuple[str, ...]] = ("prefix", "max_source_length", "max_target_length", "empty_targets")
    classes = one_to_one = pairs = False
    generates = True

    key: ClassVar[str]
    """Answers are `{key + "_text": ...}`."""
    sources: ClassVar[tuple[str, ...]]
    """Names by which data sets call what is read."""
    targets: ClassVar[tuple[str, ...]]
    """Names by which they call what is to be written."""

    # ---- data sets ----

    def columns(
        self, dataset: Any, text: str | None = None, text_pair: str | None = None, label: str | None = None, labelled: bool | None = None
    ) -> Columns:  # fmt: skip
        """The columns of sources (`text`) and targets (`label`), found by name where not given. Raises DataError for a missing one."""
        if text_pair is not None:
            raise ArgumentError(f"{self.name} reads one text, no pairs; leave text_pair={text_pair!r} out")
        there = list(one_of(dataset).column_names)
        check_named({"text": text, "label": label}, there, "the text and its target")
        text = text or next((n for n in self.sources if n in there and n != label), None)
        if label is None and labelled is not False:
            label = next((n for n in self.targets if n in there and n != text), None)
        if text is None or (label is None and labelled):
            raise not_found(*(("text", "text=") if text is None else ("target", "label=")), there)
        return Columns(text, label=label)

    def prepare(
        self, raw: Any, tokenizer: Tokenizer, columns: Columns, max_length: int | None = None, label_names: Sequence[str] | None = None,
        *, config: ModelConfig | None = None, prefix: str | None = None, max_source_length: int | None = None,
        max_target_length: int | None = None, empty_targets: str = "error", **settings: Any,
    ) -> Prepared:  # fmt: skip
        """Tokenize sources to `input_ids` and targets to `labels`, each cut to its length (default: `max_length`, or what the tokenizer takes).

        `prefix` stands before each source (default: what `config` has for the task). A row without a source or a target is an error
        that names it, or with `empty_targets="drop"` left out and counted. Raises DataError and ArgumentError.
        """
        from datasets import DatasetDict

        if empty_targets not in ("error", "drop"):
            raise ArgumentError(f"empty_targets={empty_targets!r} is unknown; allowed: 'error', 'drop'")
        for name, most in (("max_source_length", max_source_length), ("max_target_length", max_target_length)):
            if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
                raise ArgumentError(f"{name}={most!r} must be a whole number of tokens, 1 or more")
        splits = splits_of(raw)
        columns, spoken = self.directed(splits, columns, tokenizer, settings)
        prefix = self.prefix(config, spoken) if prefix is None else prefix
        limits = [asked or max_length or tokenizer.model_max_length for asked in (max_source_length, max_target_length)]
        begun, done, notes = tokenizer.truncation_report(), {}, {}
        for split, part in splits.items():
            read, written = _whole(part, columns, split, empty_targets == "drop")
            with speaking(tokenizer, spoken):
                table = {"input_ids": tokenized(tokenizer, [prefix + text for text in read], "text", limits[0], split)}
                if written is not None:
                    table["labels"] = tokenized(tokenizer, written, "text_target", limits[1], split)
                    notes[split] = Texts(tokenizer, read, written, settings.get("language") or "en")
            done[split] = dataset_of(table, split)
        used = [str(name).partition(".")[0] for name in columns.used] + columns.used
        more = f", before each {prefix!r}" if prefix else ""
        say_read(self.name, f"{columns.text!r}, the target is {columns.label!r}{more}", splits, used, bool(prefix))
        lost = spent(begun, tokenizer)
        return Prepared(DatasetDict(done), columns, lost, notes=notes)

    def directed(
        self, splits: Mapping[str, Any], columns: Columns, tokenizer: Tokenizer, settings: Mapping[str, Any]
    ) -> tuple[Columns, dict[str, str]]:
        """The columns once more, and languages (`src_lang`, `tgt_lang`) of what is read and written, where these matter."""
        return columns, {}

    def collator(self, tokenizer: Tokenizer, **settings: Any) -> DataCollatorForSeq2Seq:
        return DataCollatorForSeq2Seq(tokenizer)

    # ---- pipelines ----

    def prefix(self, config: ModelConfig | None, options: Mapping[str, Any]) -> str:
        """What stands before each text: the configuration's `prefix` for the task, or in general."""
        return "" if config is None else {**config.extra, **self.params(config, options)}.get("prefix") or ""

    def params(self, config: ModelConfig, options: Mapping[str, Any]) -> dict[str, Any]:
        """The `task_specific_params` of the configuration for this task."""
        return config.task_settings.get(self.name, {})

    def writing(self, config: ModelConfig, tokenizer: Tokenizer, options: Mapping[str, Any]) -> dict[str, Any]:
        return self.params(config, options)

    def checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return checked(options)

    def encode(self, inputs: Sequence[Any], reader: Reader, options: Mapping[str, Any]) -> Features:
        """Features of texts behind the prefix. Raises DataError, naming the input, for anything else."""
        texts = [self.text_of(item, reader.name(i), options) for i, item in enumerate(inputs)]
        prefix = options.get("prefix")
        prefix = self.prefix(reader.config, options) if prefix is None else prefix
        with speaking(reader.tokenizer, options):
            found = reader.features([prefix + text for text in texts])
        if not found.lengths.all():
            raise DataError(f"{reader.name(int(found.lengths.argmin()))} has no tokens; give a text with some, or leave it out")  # fmt: skip
        return replace(found, notes=reader.tokenizer)

    def text_of(self, item: Any, where: str, options: Mapping[str, Any]) -> str:
        """The text of one input."""
        if not isinstance(item, str):
            raise no_text(where, item, "give a text, or a list of them")
        return item

    def answers(self, found: Any, features: Features, config: ModelConfig, options: Mapping[str, Any]) -> list[Any]:
        """For each input its answers (as many as `num_return_sequences`) as `{key_text: text}`; with `return_tensors` as `{key_token_ids:
        int64 [S]}`, the decoder's start token included."""
        start = [] if config.decoder_start_token_id is None else [config.decoder_start_token_id]
        made = results(found, features.notes, self.key, options, [start] * len(found))
        if options.get("return_tensors"):
            import torch

            return [[{name: torch.tensor(ids) for name, ids in one.items()} for one in of] for of in made]
        return made

    def several(self, answers: list[Any]) -> list[Any]:
        """A list of dictionaries, or of lists of them where inputs have several answers, as the field has it."""
        return [a[0] for a in answers] if all(len(a) == 1 for a in answers) else answers

    # ---- figures, and rows for people ----

    def metrics(self, config: ModelConfig, notes: Any = None) -> Judge | None:
        """The figures of `parts`, in percent, and `gen_len`, the tokens of an answer on average. None without targets."""
        return None if notes is None else Figures(self.parts(), notes)

    def parts(self) -> list[Part]:
        """The figures of the task."""
        raise NotImplementedError

    def row_input(self, row: Mapping[str, Any], columns: Columns) -> Any:
        return value_of(row, columns.text)

    def examples(
        self, pipe: Any, rows: Sequence[Mapping[str, Any]], columns: Columns, prepared: Prepared
    ) -> list[Example]:
        return super().examples(pipe, rows, prepared.columns, prepared)

    def example(self, row: Mapping[str, Any], answer: Any, columns: Columns, prepared: Prepared) -> Example:
        truth = None if columns.label is None else value_of(row, columns.label)
        return Example([value_of(row, columns.text)], answer[f"{self.key}_text"], truth)


class Figures(Judge):
    """Decodes what was generated and keeps the texts. Right are the decoded labels; a label that was cut counts as the whole target of its
    row, and without labels the rows tell."""

    generates = by_row = True
    scale = 1.0

    def __init__(self, parts: Sequence[Part], notes: Texts) -> None:
        super().__init__(parts)
        self.notes, self.sizes = notes, list[int]()

    def shaped(self, text: str) -> str:
        """A text as the metrics read it."""
        return text.strip()

    def add_batch(self, *, predictions: Any, references: Any = None, rows: Any = None) -> None:
        tokenizer, targets = self.notes.tokenizer, self.notes.targets
        right = [] if rows is None else [targets[row] if row < len(targets) else "" for row in rows]
        if references is not None:
            labels = [[int(i) for i in row if i != IGNORED_LABEL] for row in references]
            texts = tokenizer.batch_decode(labels, skip_special_tokens=True)
            whole = tokenizer(text_target=right, truncation=False, max_length=1)["input_ids"] if right else []
            same = [ids[: len(label) - 1] == label[:-1] for ids, label in zip(whole, labels, strict=False)]
            right = [right[i] if right and same[i] else text for i, text in enumerate(texts)]
        said = tokenizer.batch_decode([[int(i) for i in row] for row in predictions], skip_special_tokens=True)
        judged = {"predictions": list(map(self.shaped, said)), "references": list(map(self.shaped, right))}
        for metric in {part.metric for part in self.parts}:
            metric.add_batch(**judged)
        self.sizes += map(len, predictions)

    def compute(self) -> dict[str, float]:
        metrics = {part.metric: part.options for part in self.parts}
        found = {metric: metric.compute(**options) for metric, options in metrics.items()}
        figures = {part.key: self.scale * float(found[part.metric][part.figure]) for part in self.parts}
        figures["gen_len"], self.sizes = float(np.mean(self.sizes)), []
        return figures

    def reset(self) -> None:
        super().reset()
        self.sizes = []


# ---- texts and tokens ----


def results(
    found: Sequence[Sequence[np.ndarray]], tokenizer: Tokenizer, key: str, options: Mapping[str, Any],
    before: Sequence[Sequence[int]], texts: Sequence[str] | None = None,
) -> list[list[dict[str, Any]]]:  # fmt: skip
    """The new tokens of each input as dictionaries; `before` are ids that stand before them, `texts` texts, where they are to be shown."""
    if options.get("return_tensors"):
        return [[{f"{key}_token_ids": [*ids, *a.tolist()]} for a in of] for ids, of in zip(before, found, strict=True)]
    flat = [ids.tolist() for of in found for ids in of]
    said = iter(tokenizer.batch_decode(flat, True, options.get("clean_up_tokenization_spaces")))
    texts = [""] * len(found) if texts is None else texts
    return [[{f"{key}_text": text + next(said)} for _ in of] for text, of in zip(texts, found, strict=True)]


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of pipelines that write, without those that say nothing. Raises ArgumentError for values that cannot be."""
    out = {name: value for name, value in options.items() if value is not None}
    for name in ("return_full_text", "return_text", "return_tensors", "clean_up_tokenization_spaces"):
        if not isinstance(out.get(name, True), bool):
            raise ArgumentError(f"{name}={out[name]!r:.40} must be True or False")
    for name in ("prefix", "src_lang", "tgt_lang"):
        if not isinstance(out.get(name, ""), str):
            raise ArgumentError(f"{name}={out[name]!r:.40} is a {type(out[name]).__name__}, not a text")
    kinds = [name for name in ("return_full_text", "return_text", "return_tensors") if name in out]
    if len(kinds) > 1:
        raise ArgumentError(f"{kinds[0]} and {kinds[1]} exclude each other; pass one of the two")
    return out


@contextmanager
def speaking(tokenizer: Tokenizer, languages: Mapping[str, Any]) -> Iterator[None]:
    """Inside, texts are marked with these languages (`src_lang`, `tgt_lang`), where the tokenizer marks any. Raises ArgumentError for
    an unknown one."""
    before = {name: getattr(tokenizer, name) for name in ("src_lang", "tgt_lang")}
    try:
        for name in before if tokenizer.lang_code_to_id else ():
            if languages.get(name):
                setattr(tokenizer, name, code_of(languages[name], tokenizer))
        yield
    finally:
        for name, code in before.items():
            if code is not None:
                setattr(tokenizer, name, code)


def code_of(language: str, tokenizer: Tokenizer) -> str:
    """The tokenizer's code of a language that may lack its country (en: en_XX); an unknown one as it is."""
    longer = [code for code in tokenizer.lang_code_to_id if code.split("_")[0] == language]
    return longer[0] if len(longer) == 1 else language


def value_of(row: Mapping[str, Any], name: str) -> Any:
    """A value of a row; a name with a dot, as in `translation.en`, goes into a dictionary."""
    outer, _, inner = name.partition(".")
    return row[name] if name in row else row[outer][inner]


def _texts(part: Any, name: str | None, split: str) -> list[Any] | None:
    """The values of a column (with a dot: inside the dictionaries of one), None where there is none."""
    outer, _, inner = (name, "", "") if name in part.column_names else str(name).partition(".")
    if outer not in part.column_names:
        return None
    array = whole_column(part, str(outer), split)
    array = array.field(inner) if inner else array
    if not is_text(array.type):
        raise DataError(f"column {name!r} of {split!r} holds {array.type}, not texts; name another one with text= or label=, or cast it to string")  # fmt: skip
    return array.to_pylist()


def _whole(part: Any, columns: Columns, split: str, drop: bool) -> tuple[list[str], list[str] | None]:
    """What is read and (None: there is no such column) what is to be written, of the rows that have both; others are dropped or named."""
    read, written = _texts(part, columns.text, split), _texts(part, columns.label, split)
    if read is None:
        check_there(part, columns.text, split)
    assert read is not None
    if columns.label is not None and written is None:
        say(f"{split}: there is no column {columns.label!r}, so its answers are not judged")
    pairs = list(zip(read, read if written is None else written, strict=True))
    good = [all(text and text.strip() for text in pair) for pair in pairs]
    if not all(good) and not (drop and any(good)):
        bad = good.index(False)
        what = "has a target without text" if (pairs[bad][0] or "").strip() else "has no text to read"
        raise DataError(
            f"row {bad} of {split!r} {what} ({good.count(False)} of {len(good)} rows lack one); fill it in, or leave such rows out with "
            "empty_targets='drop'"
        )
    if not all(good):
        say(f"{split}: {good.count(False)} of {len(good)} rows are dropped: their source or target has no text")
    read = [a for (a, _), fine in zip(pairs, good, strict=True) if fine]
    return read, None if written is None else [b for (_, b), fine in zip(pairs, good, strict=True) if fine]


def tokenized(tokenizer: Tokenizer, texts: list[str], kind: str, limit: int, split: str) -> pa.ChunkedArray:
    """Lists of ids, cut to `limit`, which is said. Targets end with the end token whether or not the tokenizer puts it there."""
    import pyarrow as pa

    before, chunks, end = tokenizer.truncation_report(), [], []
    for start in range(0, len(texts), BLOCK):
        options: dict[str, Any] = {kind: texts[start : start + BLOCK], "truncation": True, "max_length": limit}
        rows = tokenizer(**options, return_attention_mask=False, return_token_type_ids=False)["input_ids"]
        if not start and kind == "text_target" and tokenizer.eos_token_id not in (None, *rows[0]):
            end = [tokenizer.eos_token_id]
            say_once(f"this tokenizer does not end texts: {tokenizer.eos_token} is put behind each target")
        chunks.append(pa.array([row[: limit - len(end)] + end for row in rows], pa.list_(pa.int32())))
    which = f"{split}, {'sources' if kind == 'text' else 'targets'}"
    say_lost(before, tokenizer, limit, which)
    return pa.chunked_array(chunks)
