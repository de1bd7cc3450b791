"""Multiple choice: which of several endings or answers fits a prompt (SWAG, and questions with given answers).

N rows, C choices of a row, T tokens. Each choice is read together with its prompt, and the model gives it one score.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from unpad.data.collators import DataCollatorForMultipleChoice
from unpad.errors import ArgumentError, DataError, listing
from unpad.tasks._columns import check_named, check_there, dataset_of, lists_of, one_of, say_lost, say_read, splits_of
from unpad.tasks._task import Columns, Example, Features, Judge, Prepared, Reader, Task, figure, token_columns

if TYPE_CHECKING:
    from unpad.config import ModelConfig
    from unpad.text.tokenizer import Tokenizer

# Names by which data sets call what is read first, and what a choice continues or answers; often there is only one of the two.
CONTEXTS = ("sent1", "context", "article", "passage", "premise", "ctx", "fact1")
PROMPTS = ("sent2", "question", "prompt", "question_stem", "query", "goal", "sentence")
CHOICES = ("choices", "options", "endings", "answers", "candidates")
"""Names by which they call a column with the list of choices."""
NUMBERED = re.compile(r"(?:ending|choice|option|answer|sol)_?([0-9a-e])", re.IGNORECASE)
"""Names of columns with one choice each."""
LABELS = ("label", "labels", "answer", "answerKey", "answer_key", "gold", "target")


class MultipleChoice(Task):
    """See `Task`. An input is `{"prompt": text, "choices": texts}`, with a "context" that is read before the prompt if there is one."""

    name = head = "multiple-choice"
    auto_class = "AutoModelForMultipleChoice"
    default_model = "bert-base-uncased"
    default_data = "helpdesk/subjects"
    options = ("top_k",)
    classes = False

    def columns(
        self, dataset: Any, text: str | None = None, text_pair: str | None = None, label: str | None = None, labelled: bool | None = None
    ) -> Columns:  # fmt: skip
        """The columns to read: `text`, `text_pair` (what the choices continue, where that is a column of its own), `label`, and in
        `more` the choices: one column of lists, or several of texts. Names that are given win. Raises DataError when one is missing."""
        dataset = one_of(dataset)
        there = dataset.column_names
        check_named({"text": text, "text_pair": text_pair, "label": label}, there)
        lists = tuple(n for n in CHOICES if n in there and not hasattr(dataset.features[n], "dtype"))[:1]
        more = lists or tuple(sorted(filter(NUMBERED.fullmatch, there), key=str.lower))
        if text is None:
            text_pair = text_pair or next((n for n in PROMPTS if n in there), None)
            text = next((n for n in CONTEXTS if n in there), None)
            text, text_pair = (text, text_pair) if text else (text_pair, None)
        if label is None and labelled is not False:
            label = next((n for n in LABELS if n in there and n not in more), None)
        wanted = {"the prompt (a question)": text, "the choices (choices, or ending0, ending1, ...)": more}
        for what, found in {**wanted, "the label": label or not labelled}.items():
            if not found:
                raise DataError(
                    f"no column looks like {what}; name it (text=, label=) or rename it; the columns are: {listing(there, 40)}"
                )
        return Columns(str(text), text_pair, label, more)

    def prepare(
        self, raw: Any, tokenizer: Tokenizer, columns: Columns, max_length: int | None = None, label_names: Sequence[str] | None = None,
        **settings: Any,
    ) -> Prepared:  # fmt: skip
        """Tokenize every choice with its prompt: `input_ids` holds C lists of tokens per row, `labels` the place of the right one.

        Labels are places from 0, letters, or the keys that the data give their choices. A split whose labels are all -1 or missing
        has none. Raises DataError, naming the row, for texts and labels that cannot be used and for unequal numbers of choices.
        """
        from datasets import DatasetDict

        splits, before = splits_of(raw), tokenizer.truncation_report()
        done = {s: _tokenized(part, tokenizer, columns, max_length, s) for s, part in splits.items()}
        lost = say_lost(before, tokenizer, max_length)
        say_read(self.name, listing(columns.used), splits, columns.used, always=True)
        return Prepared(DatasetDict(done), columns, lost)

    def collator(self, tokenizer: Tokenizer, **settings: Any) -> Any:
        return DataCollatorForMultipleChoice(tokenizer)

    def encode(self, inputs: Sequence[Any], reader: Reader, options: Mapping[str, Any]) -> Features:
        """One sequence per choice of each input; `notes` are the choices. Raises DataError, naming the input, for anything else."""
        texts, pairs = _pairs([_checked(item, reader.name(i)) for i, item in enumerate(inputs)])
        found = reader.features(texts, pairs)
        choices = [list(item["choices"]) for item in inputs]
        owner = np.repeat(np.arange(len(choices)), list(map(len, choices)))
        return replace(found, notes=choices, cut=np.unique(owner[found.cut]))

    def checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        if (k := options.get("top_k")) is not None and (type(k) is not int or k < 1):
            raise ArgumentError(f"top_k={k!r} must be 1 or more, or None for all choices")
        return dict(options)

    def answers(self, found: Any, features: Features, config: ModelConfig, options: Mapping[str, Any]) -> list[Any]:  # fmt: skip
        """For each input its choices (`top_k`: only so many), best first: `{"choice": text, "index": place, "score": probability}`."""
        answers = []
        for choices, own in zip(features.notes, found.view(-1).split([len(c) for c in features.notes]), strict=True):  # fmt: skip
            scores = own.softmax(0).numpy()
            best = np.argsort(-scores, kind="stable")[: options.get("top_k")].tolist()
            answers.append([{"choice": choices[i], "index": i, "score": float(scores[i])} for i in best])
        return answers

    def metrics(self, config: ModelConfig, notes: Any = None) -> Judge:
        """`accuracy`: the share of rows whose right choice has the highest score."""
        return Judge([figure("accuracy")])

    def row_input(self, row: Mapping[str, Any], columns: Columns) -> Any:
        first, second = row[columns.text], None if columns.text_pair is None else row[columns.text_pair]
        if not columns.more:  # a command line gives the choices as its second text: "this | that"
            return {"prompt": first, "choices": [c.strip() for c in (second or "").split("|") if c.strip()]}
        texts = {"prompt": first} if columns.text_pair is None else {"context": first, "prompt": second}
        return {**texts, "choices": _choices(row, columns)[0]}

    def example(self, row: Mapping[str, Any], answer: Any, columns: Columns, prepared: Prepared) -> Example:
        (first, *_), seconds = _pairs([self.row_input(row, columns)])
        choices, keys = _choices(row, columns)
        place = _place(row.get(columns.label), choices, keys) if columns.label else None
        truth = None if place in (None, -1) else choices[place or 0]
        return Example([first, " | ".join(seconds)], answer[0]["choice"], truth)


TASK = MultipleChoice()


def _checked(item: Any, where: str) -> Mapping[str, Any]:
    """An input of the model, if it is one."""
    keys = set(item) if isinstance(item, Mapping) else set()
    if not {"prompt", "choices"} <= keys <= {"context", "prompt", "choices"}:
        raise DataError(f"{where} is {item!r:.60}; give {{'prompt': text, 'choices': texts}}, also a 'context'")
    choices = item["choices"]
    if not isinstance(choices, (list, tuple)) or len(choices) < 2:
        raise DataError(f"the choices of {where} are {choices!r:.60}; give a list of two or more texts")
    odd = [t for t in (*choices, *(item[n] for n in keys - {"choices"})) if not isinstance(t, str)]
    if odd:
        raise DataError(f"{where} holds {odd[0]!r:.40} where a text is needed; fill it in, or leave it out")
    return item


def _pairs(items: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """The two texts of each sequence: prompt and choice, or context and prompt with the choice behind it."""
    firsts = [item.get("context", item["prompt"]) for item in items for _ in item["choices"]]
    starts = [item["prompt"] + " " if "context" in item else "" for item in items]
    return firsts, [start + c for start, item in zip(starts, items, strict=True) for c in item["choices"]]


def _choices(row: Mapping[str, Any], columns: Columns) -> tuple[Any, list[str]]:
    """The choices of a row of data, and the keys by which its label may name them."""
    value = row[columns.more[0]]
    if len(columns.more) > 1:
        return [row[n] for n in columns.more], [n[-1].upper() for n in columns.more]
    if isinstance(value, Mapping):  # texts beside their keys, as in ARC and CommonsenseQA
        given, value = value.get("label"), value.get("text")
        if given is not None:
            return value, [str(key).upper() for key in given]
    return value, [chr(ord("A") + i) for i in range(len(value or ()))]


def _place(label: Any, choices: Sequence[str], keys: list[str]) -> int | None:
    """The place of the choice that a label names, -1 for a hidden answer, None where it names no choice."""
    if label in (None, "", -1, "-1"):
        return -1
    if isinstance(label, str) and label.strip().upper() in keys:
        return keys.index(label.strip().upper())
    return int(label) if str(label).isdecimal() and int(label) < len(choices) else None


def _tokenized(part: Any, tokenizer: Tokenizer, columns: Columns, max_length: int | None, split: str) -> Any:
    """One split as a data set of nested token lists, built from flat arrays."""
    # a split may have no labels
    used = [name for name in columns.used if name in part.column_names or name != columns.label]
    for name in used:
        check_there(part, name, split)
    items, labels, count = [], [], 0
    for number, row in enumerate(part.with_format(None).select_columns(used)):
        here = f"row {number} of {split!r}"
        items.append(_checked(TASK.row_input(row, columns), here))
        choices, keys = _choices(row, columns)
        count, label = count or len(choices), row.get(columns.label)
        labels.append(_place(label, choices, keys))
        if len(choices) != count:
            raise DataError(f"{here} has {len(choices)} choices, row 0 has {count}; give all rows as many")
        if labels[-1] is None:
            raise DataError(f"label {label!r} in {here} is no choice; give 0..{count - 1} or {listing(keys)}")
        if (labels[-1] == -1) != (labels[0] == -1):
            raise DataError(f"row {labels.index(-1)} of {split!r} has no label; fill it in or filter it out")
    found = token_columns(tokenizer, *_pairs(items), max_length)
    ends = np.arange(1, len(items) + 1) * count
    table: dict[str, Any] = {name: lists_of(column.combine_chunks(), ends) for name, column in found.items()}
    return dataset_of(table if labels[0] == -1 else {**table, "labels": labels}, split)
