"""Text classification: one label, several labels or a number for a text or for a pair of texts.

N rows, B inputs, C labels. Columns and labels are found and checked here, on the host, before anything is computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unpad.errors import ArgumentError, DataError, listing, nearest
from unpad.metrics import load_metric
from unpad.tasks._columns import check_named, holds_text, not_found, one_of, say_lost, say_read, splits_of, text_array
from unpad.tasks._labels import MULTI, REGRESSION, SINGLE, read_targets
from unpad.tasks._task import Columns, Example, Features, Judge, Prepared, Reader, Task, figure, no_text, token_columns
from unpad.tasks.glue import glue_of

if TYPE_CHECKING:
    from torch import Tensor

    from unpad.config import ModelConfig
    from unpad.text.tokenizer import Tokenizer

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


class TextClassification(Task):
    """See `Task`. The labels of a model are `config.id2label`; `config.problem_type` says what they mean."""

    name = "text-classification"
    head = "sequence-classification"
    auto_class = "AutoModelForSequenceClassification"
    default_model = "distilbert-base-uncased-finetuned-sst-2-english"
    default_data = "helpdesk/pairs"
    options = ("top_k", "function_to_apply")
    settings = ("data_name",)

    # ---- data sets ----

    def columns(
        self, dataset: Any, text: str | None = None, text_pair: str | None = None, label: str | None = None, labelled: bool | None = None
    ) -> Columns:  # fmt: skip
        """The columns to read of a `Dataset` or a `DatasetDict` (of which `train`, or else the first split, counts).

        Names that are given win; `text` alone means that the texts are no pairs. Others are found by `PAIRS`, `TEXTS` and
        `LABELS`, a text also as the only column of texts, a label also as the only `ClassLabel` column. `labelled`: True
        when a label must be there, False when none is looked for, None for either. Raises DataError, with the
        columns that there are, when one is missing or several could be meant.
        """
        part = one_of(dataset)
        features = getattr(part, "features", None)
        if not isinstance(features, Mapping):
            raise DataError(f"a {type(part).__name__} has no columns with known types; load it with load_dataset(...)")
        check_named({"text": text, "text_pair": text_pair, "label": label}, features)
        if text is None:
            text, text_pair = _find_texts(features, text_pair, label)
        if label is None and labelled is not False:
            label = _find_label(features, (text, text_pair))
            if label is None and labelled:
                raise not_found("label", "label=", features)
        check_named({"text": text, "text_pair": text_pair, "label": label}, features, "text, text_pair and label")
        return Columns(text, text_pair, label)

    def prepare(
        self, raw: Any, tokenizer: Tokenizer, columns: Columns, max_length: int | None = None, label_names: Sequence[str] | None = None,
        **settings: Any,
    ) -> Prepared:  # fmt: skip
        """Tokenize a `DatasetDict` (or a `Dataset`) and turn its labels into numbers.

        Texts longer than `max_length` tokens (default: `tokenizer.model_max_length`) are cut and counted; empty texts stay.
        Labels: texts and numbers other than 0..C-1 become ids in sorted order; decimal numbers mean regression; lists
        mean several labels each. A split whose labels are all -1 or all missing has none. With `data_name` a GLUE task, numbers get
        its names, and `metrics` gives its figures. `label_names` are those of a
        trained model, in its order: labels are then matched by name. Raises DataError, naming the row, for what is no text
        or no usable label.
        """
        from datasets import DatasetDict

        splits = splits_of(raw)
        glue = glue_of(settings.get("data_name"), columns.text, columns.text_pair)
        if glue is not None and label_names is None and _unnamed(splits, columns.label):
            label_names = glue.label_names
        targets = read_targets(splits, columns.label, label_names)
        before, done = tokenizer.truncation_report(), {}
        for split, part in splits.items():
            read = [name for name in (columns.text, columns.text_pair) if name is not None]
            texts, pairs = [*(text_array(part, name, split).to_pylist() for name in read), None][:2]
            done[split] = targets.joined(token_columns(tokenizer, texts, pairs, max_length), split)
        lost = say_lost(before, tokenizer, max_length)
        pair = f" and {columns.text_pair!r}" if columns.text_pair else ""
        answer = f", the label is {columns.label!r}" if columns.label else ""
        say_read(self.name, f"{columns.text!r}{pair}{answer}", splits, (columns.text, columns.text_pair, columns.label))
        notes = {} if glue is None else dict.fromkeys((*splits, "validation"), settings["data_name"])
        return Prepared(DatasetDict(done), columns, lost, targets.names, targets.count, targets.kind, notes)

    # ---- pipelines ----

    def encode(self, inputs: Sequence[Any], reader: Reader, options: Mapping[str, Any]) -> Features:
        """Features of texts, `(a, b)` tuples and `{"text": a, "text_pair": b}` dictionaries, also mixed.

        Raises DataError, naming the input, for anything else.
        """
        kinds = set(map(type, inputs))
        if kinds <= {str}:
            return reader.features(list(inputs))
        rows = [_pair(item, reader.first + i) for i, item in enumerate(inputs)]
        alone = np.array([b is None for _, b in rows])
        if alone.all() or not alone.any():
            pairs = None if alone.all() else [b for _, b in rows if b is not None]
            return reader.features([a for a, _ in rows], pairs)
        return _mixed(reader, rows, alone)

    def checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """`top_k` (None counts: all labels) and `function_to_apply` (None and "default" do not)."""
        out = dict(options)
        if "top_k" in out:
            k = out["top_k"]
            if k is not None and (isinstance(k, bool) or not isinstance(k, int) or k < 1):
                raise ArgumentError(f"top_k={k!r} must be 1 or more, or None for all labels")
        apply = out.pop("function_to_apply", None)
        if apply not in (None, "default"):
            out["function_to_apply"] = str(apply).lower()
            if out["function_to_apply"] not in FUNCTIONS:
                raise ArgumentError(
                    f"function_to_apply={apply!r} is unknown{nearest(str(apply), FUNCTIONS)}; allowed: {', '.join(FUNCTIONS)}"
                )
        return out

    def answers(self, found: Tensor, features: Features, config: ModelConfig, options: Mapping[str, Any]) -> list[Any]:
        """For each input its `top_k` labels (None: all) as `{"label": name, "score": float}`, best first; without `top_k` its best one alone,
        as in `transformers`.

        `function_to_apply` is one of `FUNCTIONS`; left out, it is softmax for one label out of C, sigmoid for several labels or a single
        output, and for regression the numbers stay as they are.
        """
        kind, top_k = config.problem_type, options.get("top_k", 1)
        usual = "none" if kind == REGRESSION else "sigmoid" if kind == MULTI or config.num_labels == 1 else "softmax"
        apply = options.get("function_to_apply", usual)
        values = found.softmax(-1) if apply == "softmax" else found.sigmoid() if apply == "sigmoid" else found
        scores, names = values.numpy(), list(config.id2label.values())
        if top_k == 1:
            best, top = scores.argmax(1).tolist(), scores.max(1, initial=-np.inf).tolist()
            ranked = [[{"label": names[i], "score": score}] for i, score in zip(best, top, strict=True)]
            return ranked if "top_k" in options else [best for [best] in ranked]
        # stable: equal scores stand in the order of the labels
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
        places = zip(order.tolist(), np.take_along_axis(scores, order, axis=1).tolist(), strict=True)
        return [[{"label": names[i], "score": score} for i, score in zip(*row, strict=True)] for row in places]

    def single(self, answer: Any, is_text: bool, called: Mapping[str, Any]) -> Any:
        """A text alone gets a list unless the call itself names `top_k`; a pair alone does not. So `transformers` has it."""
        return [answer] if is_text and "top_k" not in called else answer

    # ---- figures ----

    def metrics(self, config: ModelConfig, notes: Any = None) -> Judge:
        """The figures for models with this configuration.

        `accuracy` and `f1` (of label 1) for two labels; `accuracy` and `f1_macro` for more; `f1_micro` and `f1_macro` for
        several labels each; `pearson`, `spearmanr` and `mse` for regression (`mse` alone for several outputs). With the
        name of a GLUE task as `notes`, its figures.
        """
        kind = config.problem_type or (REGRESSION if config.num_labels == 1 else SINGLE)
        return _Figures(kind, config.num_labels, notes)

    def example(self, row: Mapping[str, Any], answer: Any, columns: Columns, prepared: Prepared) -> Example:
        truth, names = None if columns.label is None else row[columns.label], prepared.label_names
        if isinstance(truth, list):
            named = all(isinstance(name, str) for name in truth)
            truth = listing(truth if named else [names[i] if names else i for i, on in enumerate(truth) if on])
        elif names and isinstance(truth, int) and truth < len(names):
            truth = names[truth]
        texts = [row[name] for name in (columns.text, columns.text_pair) if name is not None]
        shown = str(answer["label"]) if prepared.label_names else f"{answer['score']:.3f}"
        return Example(texts, shown, None if truth is None else str(truth))


class _Figures(Judge):
    """Keeps one integer per sample (C for several labels, a float for regression), never the logits."""

    def __init__(self, kind: str, labels: int, glue: str | None) -> None:
        self.kind = kind
        macro = figure("f1_macro", "f1", average="macro")
        if glue is not None:
            metric: Any = load_metric("glue", glue)
            parts = [figure(metric.rename.get(name, name), part) for name, part in metric.parts.items()]
        elif kind == REGRESSION:
            correlations = [figure("pearson", "pearsonr"), figure("spearmanr")] if labels == 1 else []
            parts = [*correlations, figure("mse")]
        elif kind == MULTI:
            parts = [figure("f1_micro", "f1", average="micro"), macro]
        else:
            parts = [figure("accuracy"), figure("f1") if labels == 2 else macro]
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
    return no_text(where, value, advice)


def _mixed(reader: Reader, rows: list[tuple[str, str | None]], alone: np.ndarray) -> Features:
    """Single texts and pairs in one list: two calls of the tokenizer, merged in the order of the rows."""
    order = np.concatenate([np.flatnonzero(alone), np.flatnonzero(~alone)])
    texts = reader.features([a for a, b in rows if b is None])
    both = [(a, b) for a, b in rows if b is not None]
    pairs = reader.features([a for a, _ in both], [b for _, b in both])
    lengths = np.concatenate([texts.lengths, pairs.lengths])
    ends = np.cumsum(lengths)
    back = np.argsort(order)
    place = np.concatenate([np.arange(ends[i] - lengths[i], ends[i]) for i in back])
    types = None
    if texts.token_type_ids is not None or pairs.token_type_ids is not None:
        kinds = [np.zeros_like(f.input_ids) if f.token_type_ids is None else f.token_type_ids for f in (texts, pairs)]
        types = np.concatenate(kinds)[place]
    cut = np.concatenate([order[texts.cut], order[len(texts) + pairs.cut]])
    return Features(np.concatenate([texts.input_ids, pairs.input_ids])[place], types, lengths[back], cut=cut)


# ---- columns ----


def _find_texts(features: Mapping[str, Any], second: str | None, label: str | None) -> tuple[str, str | None]:
    """(text, second text or None); `second` and `label` are the columns that the caller has named for these."""
    texts = {name.lower(): name for name, f in features.items() if holds_text(f) and name not in (second, label)}
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
        raise not_found("text", "text= (and text_pair=)", features)
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


def _unnamed(splits: Mapping[str, Any], label: str | None) -> bool:
    """The labels are whole numbers without names."""
    feature = next((part.features[label] for part in splits.values() if label in part.column_names), None)
    return str(getattr(feature, "dtype", "")).startswith("int") and not hasattr(feature, "names")


def _unclear(option: str, found: Sequence[str], features: Mapping[str, Any], more: str = "") -> DataError:
    could = f"the {option} could be {', '.join(found[:-1])} or {found[-1]}"
    return DataError(f"{could}; name it with {option}={more}; the columns are: {listing(features, 40)}")
