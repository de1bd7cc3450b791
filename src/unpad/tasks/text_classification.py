"""Text classification: one label, several labels or a number for a text or for a pair of texts.

N rows, B inputs, C labels. Columns and labels are found and checked here, on the host, before anything is computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from unpad.core.losses import PROBLEM_TYPES
from unpad.data.load import class_names, encode_labels
from unpad.errors import ArgumentError, DataError, listing, nearest
from unpad.metrics import load_metric
from unpad.notices import say
from unpad.tasks._task import Columns, Features, Judge, Part, Prepared, Task, tokenize

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

    from unpad.config import ModelConfig
    from unpad.text.tokenizer import Tokenizer, TruncationReport

PAIRS = (
    ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"), ("question", "sentence"),
    ("text", "text_pair"), ("text1", "text2"), ("text_a", "text_b"),
)  # fmt: skip
"""Names by which data sets call the two texts of a pair."""
TEXTS = ("sentence", "content", "review", "body", "comment", "message", "tweet", "document")
"""Names by which data sets call a text; `text` goes before all of them."""
LABELS = (
    "topic", "class", "category", "intent", "sentiment", "emotion", "target", "score", "rating", "stars", "is_duplicate",
)  # fmt: skip
"""Names by which data sets call the answer; `label` and `labels` go before all of them."""
FUNCTIONS = ("softmax", "sigmoid", "none")
BLOCK = 50_000
"""Rows per call of the tokenizer when a data set is prepared: a bound for the memory of what the call returns."""
SINGLE, MULTI, REGRESSION = PROBLEM_TYPES


class TextClassification(Task):
    """See `Task`. The labels of a model are `config.id2label`; `config.problem_type` says what they mean."""

    name = "text-classification"
    head = "sequence-classification"
    auto_class = "AutoModelForSequenceClassification"
    default_model = "distilbert-base-uncased-finetuned-sst-2-english"
    options = ("top_k", "function_to_apply")

    # ---- data sets ----

    def columns(
        self,
        dataset: Any,
        text: str | None = None,
        text_pair: str | None = None,
        label: str | None = None,
        labelled: bool | None = None,
    ) -> Columns:
        """The columns to read of a `Dataset` or a `DatasetDict` (of which `train`, or else the first split, counts).

        Names that are given win; `text` alone means that the texts are no pairs. Others are found by `PAIRS`, `TEXTS` and
        `LABELS`, a text also as the only column of texts, a label also as the only `ClassLabel` column. `labelled`: True
        when a label must be there, False when none is looked for, None for either. Raises DataError, with the
        columns that there are, when one is missing or several could be meant.
        """
        features = _first(dataset).features
        for option, name in (("text", text), ("text_pair", text_pair), ("label", label)):
            if name is not None and name not in features:
                raise DataError(
                    f"there is no column {name!r} for {option}={nearest(name, features)}; the columns are: {listing(features, 40)}"
                )
        if text is None:
            text, text_pair = _find_texts(features, text_pair, label)
        if label is None and labelled is not False:
            label = _find_label(features, (text, text_pair))
            if label is None and labelled:
                raise DataError(
                    f"no column looks like the label; name it with label=; the columns are: {listing(features, 40)}"
                )
        given = [name for name in (text, text_pair, label) if name is not None]
        for name in given:
            if given.count(name) > 1:
                raise DataError(
                    f"column {name!r} is named for two things; text, text_pair and label are different columns of: {listing(features, 40)}"
                )
        return Columns(text, text_pair, label)

    def prepare(
        self,
        raw: Any,
        tokenizer: Tokenizer,
        columns: Columns,
        max_length: int | None = None,
        label_names: Sequence[str] | None = None,
    ) -> Prepared:
        """Tokenize a `DatasetDict` (or a `Dataset`) and turn its labels into numbers.

        Texts longer than `max_length` tokens (default: `tokenizer.model_max_length`) are cut and counted; empty texts stay.
        Labels: texts and numbers other than 0..C-1 become ids in sorted order; decimal numbers mean regression; lists
        mean several labels each. A split whose labels are all -1 or all missing has none. `label_names` are those of a
        trained model, in its order: labels are then matched by name. Raises DataError, naming the row, for what is no text
        or no usable label.
        """
        from datasets import DatasetDict

        splits = {str(k): v for k, v in raw.items()} if isinstance(raw, Mapping) else {str(raw.split or "train"): raw}
        if not splits:
            raise DataError("the data set has no splits; load or build one with at least 'train'")
        targets = _targets(splits, columns.label, label_names)
        before, done = tokenizer.truncation_report(), {}
        for split, part in splits.items():
            texts = _texts(part, columns.text, split)
            pairs = None if columns.text_pair is None else _texts(part, columns.text_pair, split)
            done[split] = _tokenized(tokenizer, texts, pairs, max_length, targets.values[split], targets, split)
        lost = _since(before, tokenizer.truncation_report())
        if lost.truncated:
            say(f"{lost} (the limit is {max_length or tokenizer.model_max_length} tokens)")
        used = {columns.text, columns.text_pair, columns.label}
        dropped = [c for c in dict.fromkeys(c for part in splits.values() for c in part.column_names) if c not in used]
        if dropped:
            pair = f" and {columns.text_pair!r}" if columns.text_pair else ""
            answer = f", the label is {columns.label!r}" if columns.label else ""
            say(f"{self.name} reads {columns.text!r}{pair}{answer}; not used: {listing(dropped)}")
        return Prepared(DatasetDict(done), columns, targets.names, targets.count, targets.kind, lost)

    # ---- pipelines ----

    def encode(
        self,
        inputs: Sequence[Any],
        tokenizer: Tokenizer,
        max_length: int | None = None,
        *,
        truncation: bool | str = True,
        first: int = 0,
    ) -> Features:
        """Features of texts, `(a, b)` tuples and `{"text": a, "text_pair": b}` dictionaries, also mixed.

        `first` is the number of the first input in messages. Raises DataError, naming the input, for anything else.
        """
        kinds = set(map(type, inputs))
        if kinds <= {str}:
            return tokenize(tokenizer, list(inputs), None, max_length, truncation)
        rows = [_pair(item, first + i) for i, item in enumerate(inputs)]
        alone = np.array([b is None for _, b in rows])
        if alone.all() or not alone.any():
            pairs = None if alone.all() else [b for _, b in rows if b is not None]
            return tokenize(tokenizer, [a for a, _ in rows], pairs, max_length, truncation)
        return _mixed(tokenizer, rows, alone, max_length, truncation)

    def decode(
        self, logits: Tensor, config: ModelConfig, *, top_k: int | None = None, function_to_apply: str | None = None
    ) -> list[list[dict[str, Any]]]:
        """For each row of logits [B, C] its `top_k` labels (None: all) as `{"label": name, "score": float}`, best first.

        `function_to_apply` is one of `FUNCTIONS`; None takes softmax for one label out of C, sigmoid for several labels or
        a single output, and the numbers as they are for regression. Raises ArgumentError for other values.
        """
        import torch

        apply = _function(config) if function_to_apply in (None, "default") else str(function_to_apply).lower()
        if apply not in FUNCTIONS:
            raise ArgumentError(
                f"function_to_apply={function_to_apply!r} is unknown{nearest(apply, FUNCTIONS)}; allowed: {', '.join(FUNCTIONS)}"
            )
        if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
            raise ArgumentError(f"top_k={top_k!r} must be 1 or more, or None for all labels")
        values = logits.detach().float()
        if apply == "softmax":
            values = torch.softmax(values, -1)
        elif apply == "sigmoid":
            values = torch.sigmoid(values)
        scores = values.cpu().numpy()
        names = [config.id2label[i] for i in range(config.num_labels)]
        if top_k == 1:
            best, top = scores.argmax(1).tolist(), scores.max(1, initial=-np.inf).tolist()
            return [[{"label": names[i], "score": score}] for i, score in zip(best, top, strict=True)]
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]  # stable: equal scores in the order of the labels
        ranked = np.take_along_axis(scores, order, axis=1)
        return [
            [{"label": names[i], "score": score} for i, score in zip(row, row_scores, strict=True)]
            for row, row_scores in zip(order.tolist(), ranked.tolist(), strict=True)
        ]

    def answers(self, logits: Tensor, config: ModelConfig, options: Mapping[str, Any]) -> list[Any]:
        """Without `top_k` each input gets its best label alone, with it a list, as in `transformers`."""
        found = self.decode(logits, config, **{"top_k": 1, **options})
        return found if "top_k" in options else [best[0] for best in found]

    def single(self, answer: Any, is_text: bool, called: Mapping[str, Any]) -> Any:
        """A text alone gets a list unless the call itself names `top_k`; a pair alone does not. So `transformers` has it."""
        return [answer] if is_text and "top_k" not in called else answer

    # ---- figures ----

    def metrics(self, config: ModelConfig) -> Judge:
        """The figures for models with this configuration.

        `accuracy` and `f1` (of label 1) for two labels; `accuracy` and `f1_macro` for more; `f1_micro` and `f1_macro` for
        several labels each; `pearson`, `spearmanr` and `mse` for regression (`mse` alone for several outputs).
        """
        kind = config.problem_type or (REGRESSION if config.num_labels == 1 else SINGLE)
        return _Figures(kind, config.num_labels)


class _Figures(Judge):
    """Keeps one integer per sample (C for several labels, a float for regression), never the logits."""

    def __init__(self, kind: str, labels: int) -> None:
        self.kind = kind
        accuracy = Part("accuracy", load_metric("accuracy"), "accuracy")
        macro = Part("f1_macro", load_metric("f1"), "f1", {"average": "macro"})
        if kind == REGRESSION:
            mse = Part("mse", load_metric("mse"), "mse")
            ranks = Part("spearmanr", load_metric("spearmanr"), "spearmanr")
            pearson = Part("pearson", load_metric("pearsonr"), "pearsonr")
            parts = [pearson, ranks, mse] if labels == 1 else [mse]
        elif kind == MULTI:
            parts = [Part("f1_micro", load_metric("f1"), "f1", {"average": "micro"}), macro]
        elif labels == 2:
            parts = [accuracy, Part("f1", load_metric("f1"), "f1")]
        else:
            parts = [accuracy, macro]
        super().__init__(parts)

    def reduce(self, logits: Tensor) -> Tensor:
        """[B] int64 labels; [B, C] of 0 and 1 (probability above one half); [B] or [B, C] numbers."""
        if self.kind == SINGLE:
            return logits.argmax(-1)
        if self.kind == MULTI:
            return (logits > 0).long()
        return logits.float().squeeze(-1)

    def add_batch(self, *, predictions: Any, references: Any) -> None:
        if self.kind == MULTI:  # labels are floats for the loss
            references = (np.asarray(references) > 0.5).astype(np.int64)
        super().add_batch(predictions=predictions, references=references)


TASK = TextClassification()


def _function(config: ModelConfig) -> str:
    if config.problem_type == REGRESSION:
        return "none"
    return "sigmoid" if config.problem_type == MULTI or config.num_labels == 1 else "softmax"


# ---- inputs of pipelines ----


def _pair(item: Any, row: int) -> tuple[str, str | None]:
    """The text and the second text, if any, of one input."""
    if isinstance(item, str):
        return item, None
    if isinstance(item, tuple) and len(item) == 2:
        first, second = item
    elif isinstance(item, Mapping):
        odd = [key for key in item if key not in ("text", "text_pair")]
        if odd or "text" not in item:
            what = f"has the key {odd[0]!r}" if odd else "has no key 'text'"
            raise DataError(f"input {row} {what}; a dictionary holds 'text' and, for a pair, 'text_pair'")
        first, second = item["text"], item.get("text_pair")
        if second is None and isinstance(first, str):
            return first, None
    elif isinstance(item, list) and len(item) == 1 and isinstance(item[0], list) and len(item[0]) == 2:
        first, second = item[0]  # an old way to write one pair
    elif isinstance(item, (list, tuple)):
        raise DataError(
            f"input {row} is a {type(item).__name__} of {len(item)} items, not a text; "
            "write a pair as (a, b) or {'text': a, 'text_pair': b}"
        )
    else:
        raise _no_text(f"input {row}", item)
    for place, part in (("first", first), ("second", second)):
        if not isinstance(part, str):
            raise _no_text(f"the {place} text of input {row}", part)
    return first, second


def _no_text(where: str, value: Any) -> DataError:
    advice = "decode it first: value.decode()" if isinstance(value, bytes) else "leave it out, or pass ''"
    return DataError(f"{where} is {value!r:.40} ({type(value).__name__}), not a text; {advice}")


def _mixed(
    tokenizer: Tokenizer, rows: list[tuple[str, str | None]], alone: np.ndarray, max_length: int | None, truncation: bool | str
) -> Features:  # fmt: skip
    """Single texts and pairs in one list: two calls of the tokenizer, merged in the order of the rows."""
    order = np.concatenate([np.flatnonzero(alone), np.flatnonzero(~alone)])
    texts = tokenize(tokenizer, [a for a, b in rows if b is None], None, max_length, truncation)
    both = [(a, b) for a, b in rows if b is not None]
    pairs = tokenize(tokenizer, [a for a, _ in both], [b for _, b in both], max_length, truncation)
    lengths = np.concatenate([texts.lengths, pairs.lengths])
    ends = np.cumsum(lengths)
    back = np.argsort(order)
    place = np.concatenate([np.arange(ends[i] - lengths[i], ends[i]) for i in back])
    types = None
    if texts.token_type_ids is not None or pairs.token_type_ids is not None:
        types = np.concatenate(
            [np.zeros_like(f.input_ids) if f.token_type_ids is None else f.token_type_ids for f in (texts, pairs)]
        )[place]
    return Features(np.concatenate([texts.input_ids, pairs.input_ids])[place], types, lengths[back])


# ---- columns ----


def _first(dataset: Any) -> Any:
    """The data set itself, or the split of a dictionary that stands for all."""
    if isinstance(dataset, Mapping):
        if not dataset:
            raise DataError("the data set has no splits; load or build one with at least 'train'")
        dataset = dataset["train"] if "train" in dataset else next(iter(dataset.values()))
    if not isinstance(getattr(dataset, "features", None), Mapping):
        raise DataError(
            f"a {type(dataset).__name__} has no columns with known types; load the data with load_dataset(...)"
        )
    return dataset


def _find_texts(features: Mapping[str, Any], second: str | None, label: str | None) -> tuple[str, str | None]:
    """(text, second text or None); `second` and `label` are the columns that the caller has named for these."""
    texts = {name.lower(): name for name, f in features.items() if _is_text(f) and name not in (second, label)}
    if second is not None:
        partners = [a for a, b in PAIRS if b == second.lower() and a in texts]
        if partners:
            return texts[partners[0]], second
    pairs = [(texts[a], texts[b]) for a, b in PAIRS if a in texts and b in texts and second is None]
    if "text" in texts and not any("text" in map(str.lower, pair) for pair in pairs):
        if pairs:
            raise _unclear("text", [texts["text"], *(f"{a} with {b}" for a, b in pairs)], features)
        return texts["text"], second
    if len(pairs) > 1:
        raise _unclear("text", [f"{a} with {b}" for a, b in pairs], features, " (and the second with text_pair=)")
    if pairs:
        return pairs[0]
    known = [texts[name] for name in TEXTS if name in texts] or [n for key, n in texts.items() if key not in ("label", "labels", *LABELS)]  # fmt: skip
    if len(known) > 1:
        raise _unclear("text", known, features)
    if not known:
        raise DataError(
            f"no column looks like the text; name it with text= (and text_pair=); the columns are: {listing(features, 40)}"
        )
    return known[0], second


def _find_label(features: Mapping[str, Any], texts: tuple[str | None, ...]) -> str | None:
    names = {name.lower(): name for name in features if name not in texts}
    for name in ("label", "labels"):
        if name in names:
            return names[name]
    named = [names[name] for name in LABELS if name in names]
    classes = [name for name in names.values() if getattr(features[name], "names", None)]
    found = list(dict.fromkeys([*named, *classes]))
    if len(found) > 1:
        raise _unclear("label", found, features)
    return found[0] if found else None


def _is_text(feature: Any) -> bool:
    return getattr(feature, "dtype", None) in ("string", "large_string") and not hasattr(feature, "names")


def _unclear(option: str, found: Sequence[str], features: Mapping[str, Any], more: str = "") -> DataError:
    return DataError(
        f"the {option} could be {', '.join(found[:-1])} or {found[-1]}; name it with {option}={more}; "
        f"the columns are: {listing(features, 40)}"
    )


def _arrow(part: Any, column: str, split: str) -> pa.Array:
    """A whole column, without a copy where there is one chunk and no selection."""
    if column not in part.column_names:
        names = part.column_names
        raise DataError(
            f"split {split!r} has no column {column!r}{nearest(column, names)}; its columns are: {listing(names, 40)}"
        )
    return part.with_format("arrow")[:][column].combine_chunks()


def _texts(part: Any, column: str, split: str) -> list[str]:
    import pyarrow as pa

    array = _arrow(part, column, split)
    if not len(array):
        raise DataError(f"split {split!r} has no rows; check the file and any filter before")
    if array.null_count:
        row = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
        raise DataError(
            f"row {row} of {split!r} has no text in {column!r} ({array.null_count} such row(s)); "
            f"fill it with '' or filter it out: dataset.filter(lambda row: row[{column!r}] is not None)"
        )
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        raise DataError(
            f"column {column!r} of {split!r} holds {array.type}, not texts; name another one with text= or text_pair=, or cast it to string"
        )
    return array.to_pylist()


def _tokenized(
    tokenizer: Tokenizer, texts: list[str], pairs: list[str] | None, max_length: int | None, labels: np.ndarray | None,
    targets: _Targets, split: str,
) -> Any:  # fmt: skip
    """One split as a data set of token and label columns, built from flat arrays: no dictionary per row."""
    import pyarrow as pa
    from datasets import ClassLabel, Dataset, DatasetInfo, Features, List, NamedSplit, Value

    blocks = [
        tokenize(tokenizer, texts[i : i + BLOCK], None if pairs is None else pairs[i : i + BLOCK], max_length, True)
        for i in range(0, len(texts), BLOCK)
    ]
    typed = any(block.token_type_ids is not None for block in blocks)

    def lists(name: str, dtype: Any) -> pa.ChunkedArray:
        chunks = []
        for block in blocks:
            values = getattr(block, name)
            values = np.zeros(len(block.input_ids), dtype) if values is None else values.astype(dtype)
            chunks.append(pa.ListArray.from_arrays(pa.array(np.concatenate([[0], block.ends]), pa.int32()), values))
        return pa.chunked_array(chunks)

    table = {"input_ids": lists("input_ids", np.int32)}
    features: dict[str, Any] = {"input_ids": List(Value("int32"))}
    if typed:
        table["token_type_ids"] = lists("token_type_ids", np.int8)
        features["token_type_ids"] = List(Value("int8"))
    if labels is not None and targets.kind == SINGLE:
        table["labels"] = pa.chunked_array([pa.array(labels, pa.int64())])
        features["labels"] = Value("int64") if targets.names is None else ClassLabel(names=targets.names)
    elif labels is not None and labels.ndim == 2:
        bounds = pa.array(np.arange(len(labels) + 1) * labels.shape[1], pa.int32())
        table["labels"] = pa.chunked_array([pa.ListArray.from_arrays(bounds, labels.astype(np.float32).ravel())])
        features["labels"] = List(Value("float32"))
    elif labels is not None:
        table["labels"] = pa.chunked_array([pa.array(labels.astype(np.float32))])
        features["labels"] = Value("float32")
    info = DatasetInfo(features=Features(features))
    return Dataset(pa.table(table).cast(info.features.arrow_schema), info=info, split=NamedSplit(split))


def _since(before: TruncationReport, after: TruncationReport) -> TruncationReport:
    """What truncation has cost between two reports."""
    names = ("texts", "truncated", "tokens_before", "tokens_lost")
    return replace(after, **{name: getattr(after, name) - getattr(before, name) for name in names})


# ---- labels ----


@dataclass(frozen=True)
class _Targets:
    """The labels of all splits as numbers."""

    values: dict[str, np.ndarray | None]
    """By split: [N] int64, [N] float or [N, C] float, or None for a split without labels."""
    names: list[str] | None = None
    count: int | None = None
    kind: str | None = None


def _targets(splits: Mapping[str, Any], column: str | None, given: Sequence[str] | None) -> _Targets:
    """Read, check and number the labels; `given` are the label names of a trained model."""
    import pyarrow as pa

    values: dict[str, np.ndarray | None] = dict.fromkeys(splits)
    parts = {s: p.select_columns([column]) for s, p in splits.items() if column in p.column_names}
    if column is not None and not parts:
        _arrow(next(iter(splits.values())), column, next(iter(splits)))
    arrays = {}
    for split, part in parts.items():
        array = _arrow(part, str(column), split)
        if array.null_count == len(array) or (pa.types.is_integer(array.type) and _all(array, -1)):
            say(f"{split}: all labels in {column!r} are {'-1' if len(array) and not array.null_count else 'missing'}: it counts as unlabelled")  # fmt: skip
            continue
        if array.null_count:
            row = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
            raise DataError(
                f"row {row} of {split!r} has no label in {column!r} ({array.null_count} such row(s)); fill it in or filter it out"
            )
        arrays[split] = array
    if column is None or not arrays:
        return _Targets(values)

    names = _names_of({s: parts[s] for s in arrays}, column)
    if all(_texts_inside(array.type) for array in arrays.values()):
        if given is not None:
            arrays = {s: _looked_up(array, list(given), column, s) for s, array in arrays.items()}
            names = list(given)
        else:
            from datasets import DatasetDict

            encoded = encode_labels(DatasetDict({s: parts[s] for s in arrays}), column)
            arrays = {s: _arrow(encoded[s], column, s) for s in arrays}
            names = class_names(encoded, column)
    kinds = {s: _kind(array.type, column, s) for s, array in arrays.items()}
    if set(kinds.values()) == {"whole", "decimal"}:
        kinds = dict.fromkeys(kinds, "decimal")
    if len(set(kinds.values())) > 1:
        shown = listing(f"{arrays[s].type} in {s!r}" for s in arrays)
        raise DataError(f"the labels in {column!r} are of different kinds: {shown}; make them the same in all splits")
    kind = next(iter(kinds.values()))
    if kind == "list":
        return _several(values, arrays, column, names, given)
    if kind == "decimal":
        for split, array in arrays.items():
            values[split] = array.cast("float64").to_numpy(zero_copy_only=False)
            _refuse_infinite(values[split], column, split)
        say(f"labels in {column!r} are decimal numbers: the model learns one number (regression)")
        return _Targets(values, None, 1, REGRESSION)
    for split, array in arrays.items():
        values[split] = array.cast("int64").to_numpy(zero_copy_only=False)
    if names is None and all(str(array.type) == "bool" for array in arrays.values()):
        names = ["False", "True"]
    return _single(values, column, names, given)


def _single(
    values: dict[str, np.ndarray | None], column: str, names: list[str] | None, given: Sequence[str] | None
) -> _Targets:
    """One class per row. Ids keep their numbers where these are 0..C-1 or have names; other numbers become names."""
    labelled = {split: v for split, v in values.items() if v is not None}
    if names is not None and given is not None:
        move = _aligned(names, list(given), column)
        for split, v in labelled.items():
            _refuse_outside(v, names, column, split)
            values[split] = move[v]
        return _Targets(values, list(given), len(given), SINGLE)
    if names is None:
        for split, v in labelled.items():
            if (v < 0).any():
                row = int((v < 0).argmax())
                raise DataError(
                    f"label {v[row]} in row {row} of {split!r} is negative (-1 marks a hidden answer): "
                    f"filter such rows out, or make the labels in {column!r} texts"
                )
        found = np.unique(np.concatenate(list(labelled.values())))
        whole = np.array_equal(found, np.arange(len(found)))
        spelt = list(given) if given is not None else [str(v) for v in found]
        if given is None and whole:
            return _Targets(values, None, max(len(found), 2), SINGLE)
        if given is None or all(name.isdigit() for name in spelt):
            for split, v in labelled.items():
                known = np.array([int(name) for name in spelt])
                order = np.argsort(known)
                place = np.minimum(np.searchsorted(known[order], v), len(known) - 1)
                ids = order[place]
                if (known[ids] != v).any():
                    row = int((known[ids] != v).argmax())
                    raise DataError(f"label {v[row]} in row {row} of {split!r} is none of the model's: {listing(spelt)}")
                values[split] = ids.astype(np.int64)
            if given is None:
                say(f"labels in {column!r} are not 0..{len(found) - 1}: mapped to {len(spelt)} ids in sorted order: {listing(spelt)}")  # fmt: skip
        names = spelt
    for split, v in values.items():
        if v is not None:
            _refuse_outside(v, names, column, split)
    if len(names) < 2:
        raise DataError(f"all labels in {column!r} are {names[0]!r}; a classifier needs two different ones to learn from")
    return _Targets(values, names, len(names), SINGLE)


def _several(
    values: dict[str, np.ndarray | None],
    arrays: dict[str, pa.Array],
    column: str,
    names: list[str] | None,
    given: Sequence[str] | None,
) -> _Targets:
    """Lists of labels: as [N, C] of 0 and 1. Lists of names or of `ClassLabel` ids say which labels a row has."""
    import pyarrow as pa

    flat, lengths = {}, {}
    for split, array in arrays.items():
        inner = array.flatten()
        lengths[split] = np.diff(array.offsets.to_numpy()) if hasattr(array, "offsets") else np.full(len(array), array.type.list_size)  # fmt: skip
        if inner.null_count:
            at = int(np.argmax(inner.is_null().to_numpy(zero_copy_only=False)))
            row = int(np.searchsorted(np.cumsum(lengths[split]), at, side="right"))
            raise DataError(f"row {row} of {split!r} has an empty value in its list of labels in {column!r}; fill it in")
        if pa.types.is_null(inner.type):
            raise DataError(f"every list of labels in {column!r} of {split!r} is empty; there is nothing to learn")
        flat[split] = inner.cast("float64").to_numpy(zero_copy_only=False)
        if not np.isfinite(flat[split]).all():
            at = int((~np.isfinite(flat[split])).argmax())
            row = int(np.searchsorted(np.cumsum(lengths[split]), at, side="right"))
            raise DataError(f"the labels in row {row} of {split!r} are not finite ({column!r}); mend or remove the row")
    widths = np.unique(np.concatenate(list(lengths.values())))
    numbers = np.concatenate(list(flat.values()))
    switches = len(widths) == 1 and widths[0] > 1 and ((numbers == 0) | (numbers == 1)).all()
    if names is not None or (not switches and _whole(arrays)):
        if numbers.min(initial=0) < 0:
            raise DataError(f"labels in {column!r} hold {numbers.min():g}; list ids from 0, or 0 and 1 for each label")
        count = len(names) if names is not None else int(numbers.max(initial=0)) + 1
        move = np.arange(count)
        if given is not None:
            move = _aligned(names, list(given), column) if names is not None else np.arange(len(given))
            names, count = list(given), len(given)
        for split in arrays:
            rows, ids = np.repeat(np.arange(len(lengths[split])), lengths[split]), flat[split].astype(np.int64)
            if (ids >= len(move)).any():
                at = int((ids >= len(move)).argmax())
                raise DataError(f"label {ids[at]} in row {rows[at]} of {split!r} is outside 0..{len(move) - 1} ({column!r})")
            hot = np.zeros((len(lengths[split]), count), np.float32)
            hot[rows, move[ids]] = 1
            values[split] = hot
        return _Targets(values, names, count, MULTI)
    for split, n in lengths.items():
        width = int(lengths[next(iter(arrays))][0])
        if (n != width).any():
            row = int((n != width).argmax())
            raise DataError(
                f"row {row} of {split!r} has {n[row]} numbers in {column!r}, row 0 of {next(iter(arrays))!r} has {width}; give every row as many"
            )
        values[split] = flat[split].reshape(-1, width).astype(np.float32)
    if given is not None and len(given) != int(widths[0]):
        raise DataError(f"rows have {widths[0]} labels in {column!r}, the model has {len(given)}: {listing(given)}")
    inside = bool(((numbers >= 0) & (numbers <= 1)).all())
    if not inside:
        say(f"labels in {column!r} are lists of numbers beyond 0..1: the model learns {widths[0]} numbers (regression)")
    return _Targets(values, None if given is None else list(given), int(widths[0]), MULTI if inside else REGRESSION)


def _whole(arrays: Mapping[str, pa.Array]) -> bool:
    import pyarrow as pa

    return all(pa.types.is_integer(array.type.value_type) for array in arrays.values())


def _names_of(parts: Mapping[str, Any], column: str) -> list[str] | None:
    """The `ClassLabel` names of a column, which must be the same in all splits."""
    found = {split: class_names(part, column) for split, part in parts.items()}
    first, names = next(iter(found.items()))
    for split, other in found.items():
        if other != names:
            raise DataError(
                f"the labels of {column!r} are {listing(names or ['without names'])} in {first!r} but "
                f"{listing(other or ['without names'])} in {split!r}; give all splits the same ClassLabel"
            )
    return names


def _aligned(names: list[str], given: list[str], column: str) -> np.ndarray:
    """[C] int64: for each label of the data its id in the model, by name; as it is where the model has only numbers."""
    if given == names:
        return np.arange(len(names))
    if len(given) == len(names) and given == [f"LABEL_{i}" for i in range(len(given))]:
        return np.arange(len(names))
    place = {name.casefold(): i for i, name in enumerate(given)}
    missing = [name for name in names if name.casefold() not in place]
    if missing:
        raise DataError(
            f"label {missing[0]!r} of {column!r} is unknown to the model, whose labels are: {listing(given)}; "
            f"those of the data are: {listing(names)}. Rename them, or use the model of these data"
        )
    move = np.array([place[name.casefold()] for name in names], dtype=np.int64)
    if not np.array_equal(move, np.arange(len(names))):
        say(f"labels in {column!r} are numbered otherwise than the model's and were matched by name: {listing(given)}")
    return move


def _looked_up(array: pa.Array, given: list[str], column: str, split: str) -> pa.Array:
    """Texts (or lists of them) as ids among `given`."""
    import pyarrow as pa

    place = {name: i for i, name in enumerate(given)}
    rows = array.to_pylist()
    listed = any(isinstance(row, list) for row in rows[:1])
    for row, value in enumerate(rows):
        for name in value if listed else [value]:
            if name not in place:
                raise DataError(
                    f"label {name!r} in row {row} of {split!r} ({column!r}) is unknown to the model"
                    f"{nearest(str(name), given)}; its labels are: {listing(given)}"
                )
    return pa.array([[place[n] for n in row] if listed else place[row] for row in rows])


def _kind(kind: pa.DataType, column: str, split: str) -> str:
    import pyarrow as pa

    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return "whole"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "decimal"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = kind.value_type
        if pa.types.is_boolean(inner) or pa.types.is_integer(inner) or pa.types.is_floating(inner) or pa.types.is_null(inner):  # fmt: skip
            return "list"
    raise DataError(
        f"column {column!r} of {split!r} holds {kind}; labels are texts, numbers or lists of these; name another one with label="
    )


def _texts_inside(kind: pa.DataType) -> bool:
    import pyarrow as pa

    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
    return pa.types.is_string(inner) or pa.types.is_large_string(inner)


def _all(array: pa.Array, value: int) -> bool:
    return not array.null_count and bool((array.to_numpy(zero_copy_only=False) == value).all())


def _refuse_outside(values: np.ndarray, names: list[str], column: str, split: str) -> None:
    wrong = (values < 0) | (values >= len(names))
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"label {values[row]} in row {row} of {split!r} ({column!r}) is outside 0..{len(names) - 1} "
            f"({len(names)} labels: {listing(names)}); mend the row or filter it out"
        )


def _refuse_infinite(values: np.ndarray | None, column: str, split: str) -> None:
    assert values is not None
    if not np.isfinite(values).all():
        row = int((~np.isfinite(values)).argmax())
        raise DataError(f"the label in row {row} of {split!r} is {values[row]} ({column!r}); mend or remove the row")
