"""From a list of features to one batch: padded dictionaries the Hugging Face way, or a packed batch without padding.

A collator declares in `fields` the columns that it understands. Columns of text are left out of every batch, and that is
said once. B features, S tokens of the longest, C labels of a feature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from unpad.batch import PackedBatch, pack
from unpad.data.tokens import LABEL_FIELDS, TOKEN_FIELDS
from unpad.errors import ArgumentError, DataError, listing
from unpad.notices import say_once

if TYPE_CHECKING:
    from torch import Tensor

Features = Sequence[Any] | Mapping[str, Any]
"""A list of feature dictionaries, or one dictionary of columns."""


def default_data_collator(features: Features, return_tensors: str = "pt") -> dict[str, Any]:
    """Stack features of equal shape into tensors ("pt") or numpy arrays ("np").

    `label` (a number) or `label_ids` (a list) becomes `labels`: int64, or float32 for decimal numbers. Every other column
    keeps its name; columns that are None in the first feature or hold text are left out. Raises DataError when the rows
    of a column have different lengths.
    """
    if return_tensors not in ("pt", "np"):
        raise ArgumentError(f"return_tensors={return_tensors!r} is unknown; allowed: 'pt', 'np'")
    columns = _without_text(_columns(features))
    batch: dict[str, Any] = {}
    target = next((n for n in ("label", "label_ids") if n in columns and columns[n][0] is not None), None)
    if target is not None:
        batch["labels"] = _stack(target, columns[target], return_tensors, narrow=True)
    for name, values in columns.items():
        if name not in ("label", "label_ids") and values[0] is not None:
            batch[name] = _stack(name, values, return_tensors)
    return batch


@dataclass
class DataCollatorWithPadding:
    """Pads the features of a batch to one length with `tokenizer.pad`, as the Hugging Face course does.

    Called with a list of feature dictionaries or one dictionary of columns, it gives `input_ids`, `attention_mask`, ... [B, S]
    and `labels` (from `label`, `labels` or `label_ids`). `pack` gives the same batch without padding, which is what
    training takes when the model can. Raises DataError for features that are not tokenized.
    """

    tokenizer: Any
    """Anything with a method `pad` like that of a tokenizer."""
    padding: bool | str = True
    """True or "longest": to the longest of the batch; "max_length": to `max_length`; False: not at all."""
    max_length: int | None = None
    """Tokens to pad to with padding="max_length"."""
    pad_to_multiple_of: int | None = None
    """Round the padded length up to a multiple of this."""
    return_tensors: str = "pt"
    """"pt" for torch tensors, "np" for numpy arrays."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Columns that the collator understands; other columns of numbers pass through unchanged."""
        return TOKEN_FIELDS + LABEL_FIELDS

    def __call__(self, features: Features) -> Any:
        columns = _columns(features)
        _need_tokens(columns)
        columns = _without_text(columns)
        target = _target(columns)
        labels = None if target is None else columns[target]
        columns = {n: v for n, v in columns.items() if n not in LABEL_FIELDS and v[0] is not None}
        if target is not None and labels is not None:
            _refuse_none(target, labels)
            columns["labels"] = labels
        # A transformers tokenizer would advise against `pad`, the very method that is needed here.
        advice: dict[str, bool] = getattr(self.tokenizer, "deprecation_warnings", {})
        before = advice.get("Asking-to-pad-a-fast-tokenizer", False)
        advice["Asking-to-pad-a-fast-tokenizer"] = True
        try:
            return self.tokenizer.pad(
                {name: _lists(values) for name, values in columns.items()},
                padding=self.padding,
                max_length=self.max_length,
                pad_to_multiple_of=self.pad_to_multiple_of,
                return_tensors=self.return_tensors,
            )
        finally:
            advice["Asking-to-pad-a-fast-tokenizer"] = before

    def pack(self, features: Features) -> PackedBatch:
        """The same features as a packed batch: the same tokens, segments and labels, and no padding."""
        return PackingCollator()(features)


@dataclass
class PackingCollator:
    """Features to a `PackedBatch`, the batch that native models train with.

    Called with a list of feature dictionaries or one dictionary of columns. Tokens whose `attention_mask` is 0 are left
    out. Labels: whole numbers become int64 [B], decimal numbers float32 [B], lists float32 [B, C]; with `token_labels` each
    feature has a list as long as its `input_ids`. Raises DataError for features that are not tokenized or do not fit together.
    """

    token_labels: bool = False
    """Labels are one per token."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Columns that the collator uses; it ignores all others."""
        return TOKEN_FIELDS + LABEL_FIELDS

    def __call__(self, features: Features) -> PackedBatch:
        columns = _columns(features)
        _need_tokens(columns)
        ids = [_row(i, "input_ids", v) for i, v in enumerate(columns["input_ids"])]
        name = _target(columns)
        per_token = {
            "token_type_ids": columns.get("token_type_ids"),
            "labels": None,
            "attention_mask": columns.get("attention_mask"),
        }
        if name is not None and self.token_labels:
            per_token["labels"] = columns[name]
        rows: dict[str, list[np.ndarray]] = {}
        for column, values in per_token.items():
            if values is None or values[0] is None:
                continue
            rows[column] = [_row(i, column, v) for i, v in enumerate(values)]
            for i, (row, tokens) in enumerate(zip(rows[column], ids, strict=True)):
                if len(row) != len(tokens):
                    raise DataError(
                        f"feature {i} of the batch has {len(tokens)} input_ids but {len(row)} {column}: each token needs exactly one"
                    )
        masks = rows.pop("attention_mask", None)
        if masks is not None and not all(m.all() for m in masks):
            ids = [row[m != 0] for row, m in zip(ids, masks, strict=True)]
            rows = {c: [row[m != 0] for row, m in zip(v, masks, strict=True)] for c, v in rows.items()}
        empty = next((i for i, row in enumerate(ids) if len(row) == 0), None)
        if empty is not None:
            raise DataError(
                f"feature {empty} of the batch has no tokens: tokenize with special tokens, or leave it out"
            )
        types = rows.get("token_type_ids")
        if types is not None and not any(t.any() for t in types):
            types = None
        labels = None
        if name is not None and not self.token_labels:
            labels = _label_array(name, columns[name])
        return pack(ids, token_type_ids=types, labels=labels, token_labels=rows.get("labels"))


def _columns(features: Features) -> dict[str, list[Any]]:
    """Columns as lists of one value per feature, from either form of features."""
    if isinstance(features, Mapping):
        columns = {name: list(values) for name, values in features.items()}
        sizes = {name: len(values) for name, values in columns.items()}
        if not sizes or min(sizes.values()) == 0:
            raise DataError("a batch needs at least one feature, this one has none")
        if len(set(sizes.values())) > 1:
            raise DataError(
                f"the columns of the batch have different numbers of rows: {listing(f'{n}: {s}' for n, s in sizes.items())}"
            )
        return columns
    if not isinstance(features, Sequence) or isinstance(features, str):
        raise DataError(
            f"a batch is a list of features, not a {type(features).__name__}; give rows of a tokenized data set"
        )
    bad = next(
        (i for i, f in enumerate(features) if not isinstance(f, Mapping) and not hasattr(f, "__dict__")), None
    )
    if bad is not None:
        raise DataError(
            f"feature {bad} of the batch is {features[bad]!r:.40} ({type(features[bad]).__name__}), not a dictionary; give rows of a tokenized data set"
        )
    rows = [f if isinstance(f, Mapping) else vars(f) for f in features]
    if not rows:
        raise DataError("a batch needs at least one feature, this one has none")
    for i, row in enumerate(rows):
        if row.keys() != rows[0].keys():
            odd = sorted(map(str, row.keys() ^ rows[0].keys()))
            raise DataError(
                f"feature {i} of the batch and feature 0 differ in the columns {listing(odd)}: give all features the same ones"
            )
    return {name: [row[name] for row in rows] for name in rows[0]}


def _need_tokens(columns: Mapping[str, Any]) -> None:
    if "input_ids" not in columns:
        raise DataError(
            f"the features have no 'input_ids' (they have: {listing(columns)}): tokenize first, "
            "dataset.map(lambda batch: tokenizer(batch['text'], truncation=True), batched=True)"
        )


def _without_text(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The columns whose values are not strings or lists of strings; the labels being text is an error."""
    text = [name for name, values in columns.items() if _is_text(values[0])]
    target = _target(columns)
    if target is not None and target in text:
        _refuse_text(target, columns[target])
    if text:
        say_once(f"text columns are left out of batches: {listing(text)}")
    return {name: values for name, values in columns.items() if name not in text}


def _target(columns: Mapping[str, Any]) -> str | None:
    """The column that holds the labels: the first of `LABEL_FIELDS` that is there and not empty."""
    return next((n for n in LABEL_FIELDS if n in columns and any(v is not None for v in columns[n])), None)


def _refuse_none(name: str, values: Sequence[Any]) -> None:
    missing = next((i for i, v in enumerate(values) if v is None), None)
    if missing is not None:
        raise DataError(
            f"feature {missing} of the batch has no label ({name!r} is None): give it one, or leave it out"
        )


def _refuse_text(name: str, values: Sequence[Any]) -> NoReturn:
    raise DataError(
        f"{name!r} holds text ({values[0]!r}): number the classes, dataset.class_encode_column({name!r})"
    )


def _is_text(value: Any) -> bool:
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return isinstance(value, (str, bytes))


def _array(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        return value.detach().cpu().numpy()
    try:
        return np.asarray(value)
    except ValueError:  # nested lists of unequal length
        return np.asarray(value, dtype=object)


def _row(i: int, name: str, value: Any) -> np.ndarray:
    """One feature's list of whole numbers as a 1-D array."""
    row = _array(value)
    if row.ndim != 1 or (row.dtype.kind not in "iub" and row.size):
        kind = f"{row.dtype} of shape {list(row.shape)}"
        raise DataError(
            f"{name} of feature {i} of the batch is {kind}, a flat list of whole numbers is needed: leave return_tensors= out when tokenizing a data set"
        )
    return row.astype(np.int64, copy=False)


def _label_array(name: str, values: Sequence[Any]) -> np.ndarray:
    """[B] int64, [B] float32 or [B, C] float32 from one label (a number or a list of numbers) per feature."""
    _refuse_none(name, values)
    if _is_text(values[0]):
        _refuse_text(name, values)
    rows = [_array(v) for v in values]
    odd = next((i for i, row in enumerate(rows) if row.shape != rows[0].shape), None)
    if odd is not None:
        raise DataError(
            f"feature {odd} of the batch has {rows[odd].size} labels, feature 0 has {rows[0].size}: give each as many, "
            "or use token_labels=True when they are one per token"
        )
    labels = np.stack(rows)
    if labels.dtype.kind not in "iubf":
        raise DataError(f"{name!r} holds {labels.dtype}, labels are numbers or lists of numbers")
    return labels.astype(np.int64 if labels.dtype.kind != "f" and labels.ndim == 1 else np.float32)


def _stack(
    name: str, values: Sequence[Any], return_tensors: str, narrow: bool = False
) -> np.ndarray | Tensor:
    """Rows of equal shape as one array or tensor; decimal Python numbers (and with `narrow` all) become float32."""
    if return_tensors == "pt" and hasattr(values[0], "detach"):
        import torch

        if len({v.shape for v in values}) == 1:
            stacked = torch.stack(list(values))
            if narrow:
                return stacked.float() if stacked.is_floating_point() else stacked.long()
            return stacked
    plain = not isinstance(values[0], (np.ndarray, np.generic))
    rows = [_array(v) for v in values]
    if any(row.shape != rows[0].shape or row.dtype == object for row in rows):
        sizes = listing((row.shape[0] if row.ndim else 1 for row in rows), 6)
        raise DataError(
            f"column {name!r} has rows of different lengths ({sizes}): use DataCollatorWithPadding(tokenizer), or tokenize with padding='max_length'"
        )
    array = np.stack(rows)
    if array.dtype == np.float64 and (narrow or plain) and return_tensors == "pt":
        array = array.astype(np.float32)
    if narrow and array.dtype.kind in "iub":
        array = array.astype(np.int64)
    if narrow and array.dtype.kind == "f":
        array = array.astype(np.float32)
    if return_tensors == "np":
        return array
    import torch

    return torch.from_numpy(array)


def _lists(values: list[Any]) -> list[Any]:
    """Values as `tokenizer.pad` takes them: plain lists and numbers (arrays of unequal length would not stack)."""
    return [v.tolist() if hasattr(v, "tolist") else v for v in values]
