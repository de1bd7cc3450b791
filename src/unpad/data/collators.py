"""From a list of features to one batch: padded dictionaries the Hugging Face way, or a packed batch without padding.

A collator declares in `fields` the columns that it understands. Columns of text are left out of every batch, which is said once. B features, S tokens of the longest, C labels of a feature, T packed tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from unpad.batch import IGNORED_LABEL, PackedBatch, pack
from unpad.data.masking import hashed, mask_rows, mask_tokens
from unpad.data.tokens import LABEL_FIELDS, TOKEN_FIELDS, WEIGHTS, pack_target, weigh
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

    fields: ClassVar[tuple[str, ...]] = TOKEN_FIELDS + LABEL_FIELDS
    """Columns that the collator understands; other columns of numbers pass through unchanged."""
    token_labels: ClassVar[bool] = False

    def __call__(self, features: Features) -> Any:
        columns = _without_text(_tokenized(features))
        batch = {n: v for n, v in columns.items() if n not in LABEL_FIELDS and v[0] is not None}
        if target := _target(columns):
            batch["labels"] = _labelled(target, columns[target])
        return _pad(self, batch)

    def pack(self, features: Features) -> PackedBatch:
        """The same features as a packed batch: the same tokens, segments and labels, and no padding."""
        return PackingCollator(self.token_labels)(features)


@dataclass
class PackingCollator:
    """Features to a `PackedBatch`, the batch that native models train with.

    Called with a list of feature dictionaries or one dictionary of columns. Tokens whose `attention_mask` is 0 are left
    out. Labels: whole numbers become int64 [B], decimal numbers float32 [B], lists float32 [B, C]; with `token_labels` each
    feature has a list as long as its `input_ids`, and may have another of `weights`. Raises DataError for features that are not
    tokenized or do not fit together.
    """

    token_labels: bool = False
    """Labels are one per token."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Columns that the collator uses; it ignores all others."""
        return TOKEN_FIELDS + LABEL_FIELDS + ((WEIGHTS,) if self.token_labels else ())

    def __call__(self, features: Features) -> PackedBatch:
        columns = _tokenized(features)
        name = _target(columns)
        rows = _token_rows(columns, self.fields, name if self.token_labels else None)
        ids = rows.pop("input_ids")
        masks = rows.pop("attention_mask", None)
        if masks is not None and not all(m.all() for m in masks):
            ids = [row[m != 0] for row, m in zip(ids, masks, strict=True)]
            rows = {c: [row[m != 0] for row, m in zip(v, masks, strict=True)] for c, v in rows.items()}
        _refuse((len(row) == 0 for row in ids), "has no tokens: tokenize with special tokens, or leave it out")
        types = rows["token_type_ids"] if any(t.any() for t in rows.get("token_type_ids", ())) else None
        labels = None if name is None or self.token_labels else _label_array(name, columns[name])
        batch = pack(ids, token_type_ids=types, labels=labels, token_labels=rows.get("labels"))
        return weigh(batch, rows[WEIGHTS]) if WEIGHTS in rows else batch


@dataclass
class DataCollatorForTokenClassification(DataCollatorWithPadding):
    """Pads features that have one label per token: `input_ids`, `attention_mask`, ... and `labels`, all [B, S].

    Fields are those of `DataCollatorWithPadding`. `pack` gives the same without padding. Raises DataError for a feature that
    does not have one label per token.
    """

    label_pad_token_id: int = IGNORED_LABEL
    """Label of padding; no loss counts -100."""
    token_labels: ClassVar[bool] = True

    def __call__(self, features: Features) -> Any:
        columns = _tokenized(features)
        return _pad_tokens(self, _token_rows(columns, TOKEN_FIELDS, _target(columns)), self.label_pad_token_id)


@dataclass
class DataCollatorForLanguageModeling:
    """Hides a share of the tokens and asks for them: `labels` are the original ids where a token was chosen, else -100.

    Special tokens (by the column `special_tokens_mask`, else all that the tokenizer names) are never chosen. With mlm=False
    nothing is hidden, `labels` are the ids (unshifted, the model shifts them), -100 on padding, and `weights` [B, S] float32 come along
    where features have them. Padding is what the attention mask says: an end of text that is also the pad token is learned. `pack`
    gives the same without padding; `mask` does it to a packed batch. Other fields are those of `DataCollatorWithPadding`.
    """

    tokenizer: Any
    mlm: bool = True
    """Hide tokens; False for models that predict the next token."""
    mlm_probability: float = 0.15
    """Share of the tokens that are chosen."""
    mask_replace_prob: float = 0.8
    """Share of the chosen tokens that become the mask token."""
    random_replace_prob: float = 0.1
    """Share of the chosen tokens that become any token but special ones; the rest stay."""
    pad_to_multiple_of: int | None = None
    return_tensors: str = "pt"
    seed: int | None = None
    """Makes the mask of a row a function of this and its tokens (for evaluation sets); None: new ones from PyTorch's generator."""

    padding: ClassVar[bool] = True
    max_length: ClassVar[None] = None
    whole_words: ClassVar[bool] = False
    fields: ClassVar[tuple[str, ...]] = (*TOKEN_FIELDS, "special_tokens_mask", WEIGHTS)
    """Columns that the collator uses; others, labels among them, are left out."""

    def __post_init__(self) -> None:
        shares = (self.mlm_probability, self.mask_replace_prob, self.random_replace_prob)
        if min(shares) < 0 or max(shares[0], shares[1] + shares[2]) > 1:
            given = f"mlm_probability, mask_replace_prob, random_replace_prob are {listing(shares)}"
            raise ArgumentError(f"{given}: allowed are shares of 0 to 1, the last two at most 1 together")
        if self.mlm and self.tokenizer.mask_token_id is None:
            raise ArgumentError("the tokenizer has no mask token: use that of a masked model, or mlm=False")

    def __call__(self, features: Features) -> Any:
        return _pad_tokens(self, self._hidden(features), IGNORED_LABEL)

    def pack(self, features: Features) -> PackedBatch:
        """The same features, masked in the same way, as a packed batch without padding."""
        return PackingCollator(token_labels=True)(self._hidden(features))

    def mask(self, batch: PackedBatch, *, seed: int, epoch: int | None = None) -> PackedBatch:
        """A packed batch on the CPU with hidden tokens, `labels` [T] and `asked`, whole words by `batch.words`.

        Each token's fate is a function of (seed, epoch, row in `sample_ids`, position): it depends neither on the batch nor on any
        state. `epoch` is None for evaluation, always the same masks; a `seed` of the collator's own fixes those of all epochs.
        """
        import torch

        ids, ordinal = batch.input_ids.numpy(), np.repeat(np.arange(len(batch)), batch.lengths)
        if not self.mlm:
            return replace(batch, labels=batch.input_ids, words=None)
        if self.whole_words and batch.words is None:
            raise _no_words()
        seed, epoch = (seed, epoch) if self.seed is None else (self.seed, None)
        rows = np.array(batch.sample_ids or batch.order)[ordinal]
        uniform = hashed(seed, epoch, rows, batch.position_ids.numpy())
        words = batch.words.numpy() if self.whole_words and batch.words is not None else None
        maskable = ~np.isin(ids, self.tokenizer.all_special_ids)
        ids, labels = mask_tokens(ids, maskable, uniform=uniform, words=words, rows=ordinal, **self._how())
        asked = torch.from_numpy(np.flatnonzero(labels != IGNORED_LABEL))
        return replace(batch, input_ids=torch.from_numpy(ids), labels=torch.from_numpy(labels), asked=asked, words=None)

    def _how(self) -> dict[str, Any]:
        """The arguments of `mask_tokens` that are the same for all tokens."""
        tokenizer = self.tokenizer
        return {
            "probability": self.mlm_probability, "mask_share": self.mask_replace_prob, "random_share": self.random_replace_prob,
            "mask_id": tokenizer.mask_token_id, "vocab_size": len(tokenizer), "special_ids": tokenizer.all_special_ids,
        }  # fmt: skip

    def _hidden(self, features: Features) -> dict[str, Any]:
        """The columns of tokens, of which some are hidden, and `labels`."""
        rows: dict[str, Any] = _token_rows(_tokenized(features), self.fields)
        ids, masks = rows["input_ids"], rows.get("attention_mask")
        special, words = rows.pop("special_tokens_mask", None), rows.pop("word_ids", None)
        real = [np.ones(len(row), dtype=bool) for row in ids] if masks is None else [m != 0 for m in masks]
        if not self.mlm:
            rows["labels"] = [np.where(r, row, IGNORED_LABEL) for r, row in zip(real, ids, strict=True)]
            return rows
        if self.whole_words and words is None:
            raise _no_words()
        special = special or [np.isin(row, self.tokenizer.all_special_ids) for row in ids]
        rows["input_ids"], rows["labels"] = mask_rows(
            ids, [r & (s == 0) for r, s in zip(real, special, strict=True)], words if self.whole_words else None,
            self.seed, **self._how(),
        )  # fmt: skip
        return rows


@dataclass
class DataCollatorForWholeWordMask(DataCollatorForLanguageModeling):
    """The same with the tokens of a word chosen together, by the column `word_ids` (of any tokenizer; None on special tokens)."""

    whole_words: ClassVar[bool] = True
    fields: ClassVar[tuple[str, ...]] = (*TOKEN_FIELDS, "special_tokens_mask", "word_ids")


@dataclass
class DataCollatorForMultipleChoice(DataCollatorWithPadding):
    """Pads features whose token columns hold one list per choice: `input_ids`, `attention_mask`, ... [B, choices, S] and `labels` [B].

    Other columns are left out. `pack` gives the same without padding. Raises DataError for features that are not tokenized per
    choice or have unequal numbers of choices.
    """

    def __call__(self, features: Features) -> Any:
        columns, labels, choices = self._flat(features)
        batch = _pad(self, _token_rows(columns, TOKEN_FIELDS))
        for name in list(batch):
            batch[name] = batch[name].reshape(-1, choices, batch[name].shape[-1])
        if labels is not None:
            batch["labels"] = _stack("labels", list(labels), self.return_tensors)
        return batch

    def pack(self, features: Features) -> PackedBatch:
        """The same features as a packed batch: one sequence per choice, one label per feature."""
        import torch

        columns, labels, choices = self._flat(features)
        found = None if labels is None else torch.from_numpy(labels)
        return replace(PackingCollator()(columns), labels=found, choices=choices)

    def _flat(self, features: Features) -> tuple[dict[str, list[Any]], np.ndarray | None, int]:
        """(Token columns with one row per choice, labels [B], choices)."""
        columns = _tokenized(features)
        name, ids = _target(columns), columns["input_ids"]
        choices = len(ids[0])
        needed = "tokenize each choice by itself, and give all features as many choices"
        odd = (len(row) != choices or np.ndim([*row, 0][0]) != 1 for row in ids)
        _refuse(odd, f"has no list of {choices} token lists in input_ids: {needed}")
        tokens = {n: [*chain(*v)] for n, v in columns.items() if n in TOKEN_FIELDS and v[0] is not None}
        return tokens, None if name is None else _label_array(name, columns[name]), choices


@dataclass
class DataCollatorForSeq2Seq:
    """Pads sources and targets, each to its own longest: `input_ids`, `attention_mask` [B, S], `labels` [B, S'].

    `labels` are token ids of the target, also of another length than the source. With `model` there are `decoder_input_ids` [B, S']
    too: the labels shifted right behind the token that starts a target, pad tokens for -100. `pack` gives the same without padding,
    as a batch with `target`, which the model shifts. Raises DataError for features that are not tokenized or lack a target.
    """

    tokenizer: Any
    model: Any = None
    """Says how a target starts (its `config.decoder_start_token_id`, or its own `prepare_decoder_input_ids_from_labels`)."""
    padding: bool | str = True
    """As for `DataCollatorWithPadding`, for sources and targets alike."""
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    label_pad_token_id: int = IGNORED_LABEL
    """Label of padding; no loss counts -100."""
    return_tensors: str = "pt"

    fields: ClassVar[tuple[str, ...]] = DataCollatorWithPadding.fields

    def __call__(self, features: Features) -> Any:
        columns = _tokenized(features)
        batch = _pad(self, _token_rows(columns, TOKEN_FIELDS))
        labels = _target_rows(columns)
        if labels is None:
            return batch
        longest = max(map(len, labels))
        width = (self.max_length or longest) if self.padding == "max_length" else longest
        width += -width % (self.pad_to_multiple_of or 1)
        if longest > width:
            needed = "tokenize it with truncation=True and that max_length"
            raise DataError(f"a target has {longest} tokens, max_length is {width}: {needed}")
        batch["labels"] = _grid(labels, width, self.label_pad_token_id, self)
        if (inputs := _decoder_inputs(self.model, batch["labels"])) is not None:
            batch["decoder_input_ids"] = inputs
        return batch

    def pack(self, features: Features) -> PackedBatch:
        """The same features as a packed batch whose `target` holds the labels, and no padding (-100 at the end of labels is that)."""
        columns = _tokenized(features)
        batch = PackingCollator()({n: v for n, v in columns.items() if n not in LABEL_FIELDS})
        labels = _target_rows(columns)
        if labels is None:
            return batch
        ends = [int(np.flatnonzero(row != IGNORED_LABEL)[-1]) + 1 for row in labels]
        return replace(batch, target=pack_target([row[:end] for row, end in zip(labels, ends, strict=True)]))


def _target_rows(columns: Mapping[str, Any]) -> list[np.ndarray] | None:
    """The labels as rows of token ids, each with some that are asked; None where there are no labels."""
    name = _target(columns)
    if name is None:
        return None
    rows = [_row(i, name, [] if value is None else value) for i, value in enumerate(columns[name])]
    empty = ((row == IGNORED_LABEL).all() for row in rows)
    _refuse(empty, f"has a target without text (nothing in {name!r}): give it one, or leave it out")
    return rows


def _decoder_inputs(model: Any, labels: Any) -> Any:
    """`labels` [B, S'] shifted right: by the model's own rule, or behind the start token of its configuration (None: it has none)."""
    if hasattr(model, "prepare_decoder_input_ids_from_labels"):
        return model.prepare_decoder_input_ids_from_labels(labels=labels)
    start = getattr(getattr(model, "config", None), "decoder_start_token_id", None)
    if start is None:
        return None
    shifted = labels.clone() if hasattr(labels, "clone") else labels.copy()
    shifted[:, 1:], shifted[:, 0] = labels[:, :-1], start
    shifted[shifted == IGNORED_LABEL] = model.config.pad_token_id
    return shifted


def _no_words() -> DataError:
    return DataError(
        "there is no column 'word_ids', which tells whole words: while tokenizing, add "
        "tokens['word_ids'] = [tokens.word_ids(i) for i in range(len(tokens['input_ids']))]"
    )


def _columns(features: Features) -> dict[str, list[Any]]:
    """Columns as lists of one value per feature, from either form of features."""
    if isinstance(features, Mapping):
        columns = {name: list(values) for name, values in features.items()}
        sizes = {name: len(values) for name, values in columns.items()}
        if len(set(sizes.values())) > 1:
            counts = listing(f"{n}: {s}" for n, s in sizes.items())
            raise DataError(f"the columns of the batch have different numbers of rows: {counts}")
    else:
        if not isinstance(features, Sequence) or isinstance(features, str):
            kind = type(features).__name__
            raise DataError(f"a batch is a list of features, not a {kind}; give rows of a tokenized data set")
        rows: list[Any] = [f if isinstance(f, Mapping) else getattr(f, "__dict__", None) for f in features]
        for i, row in enumerate(rows):
            where = f"feature {i} of the batch"
            if row is None:
                found = f"{features[i]!r:.40} ({type(features[i]).__name__})"
                raise DataError(f"{where} is {found}, no dictionary; give rows of a tokenized data set")
            if row.keys() != rows[0].keys():
                odd = listing(sorted(map(str, row.keys() ^ rows[0].keys())))
                raise DataError(f"{where} and feature 0 differ in the columns {odd}: give all the same")
        columns = {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
    if not any(columns.values()):
        raise DataError("a batch needs at least one feature, this one has none")
    return columns


def _tokenized(features: Features) -> dict[str, list[Any]]:
    """The same, which must have a column `input_ids`."""
    columns = _columns(features)
    if "input_ids" not in columns:
        how = "dataset.map(lambda batch: tokenizer(batch['text'], truncation=True), batched=True)"
        raise DataError(f"the features have no 'input_ids' (they have: {listing(columns)}): tokenize first, {how}")
    return columns


def _token_rows(
    columns: Mapping[str, Any], fields: Sequence[str], labels: str | None = None
) -> dict[str, list[np.ndarray]]:
    """The columns `fields` that are there, and `labels` as "labels", as arrays of one whole number per token.

    Which other columns there are is said once.
    """
    left = [n for n in columns if n not in fields and n not in LABEL_FIELDS]
    if left:
        say_once(f"columns that are left out of batches: {listing(left)}")
    found = {n: columns[n] for n in fields if n in columns and n not in LABEL_FIELDS}
    found |= {"labels": columns[labels]} if labels else {}
    found = {n: c for n, c in found.items() if n == "input_ids" or c[0] is not None}
    rows = {n: [_row(i, n, v) for i, v in enumerate(c)] for n, c in found.items()}
    for name, column in rows.items():
        for i, (row, tokens) in enumerate(zip(column, rows["input_ids"], strict=True)):
            if len(row) != len(tokens):
                counts = f"{len(tokens)} input_ids but {len(row)} {name}"
                raise DataError(f"feature {i} of the batch has {counts}: each token needs exactly one")
    return rows


def _pad(collator: Any, columns: Mapping[str, list[Any]]) -> Any:
    """`tokenizer.pad` of the columns, with the collator's options."""
    # A transformers tokenizer would advise against `pad`, the very method that is needed here.
    advice: dict[str, bool] = getattr(collator.tokenizer, "deprecation_warnings", {})
    topic, options = "Asking-to-pad-a-fast-tokenizer", ("padding", "max_length", "pad_to_multiple_of", "return_tensors")
    before = advice.get(topic, False)
    advice[topic] = True
    try:
        # plain lists and numbers: arrays of unequal length would not stack
        rows = {n: [v.tolist() if hasattr(v, "tolist") else v for v in values] for n, values in columns.items()}
        return collator.tokenizer.pad(rows, **{name: getattr(collator, name) for name in options})
    finally:
        advice[topic] = before


def _pad_tokens(collator: Any, rows: dict[str, list[np.ndarray]], label_fill: int) -> Any:
    """`_pad` for columns of tokens, and beside them `labels` and `weights`, which no tokenizer pads."""
    fills = {"labels": label_fill, WEIGHTS: 0}
    batch = _pad(collator, {name: column for name, column in rows.items() if name not in fills})
    for name in (n for n in fills if n in rows):
        batch[name] = _grid(rows[name], batch["input_ids"].shape[1], fills[name], collator)
    return batch


def _grid(rows: list[np.ndarray], width: int, fill: int, collator: Any) -> np.ndarray | Tensor:
    """Rows as [B, width], filled up with `fill` on the tokenizer's side."""
    grid = np.full((len(rows), width), fill, dtype=rows[0].dtype)
    for target, row in zip(grid, rows, strict=True):
        target[slice(width - len(row), None) if collator.tokenizer.padding_side == "left" else slice(len(row))] = row
    return _stack("labels", grid, collator.return_tensors)


def _without_text(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The columns whose values are not strings or lists of strings; the labels being text is an error."""
    text = [name for name, values in columns.items() if _is_text(values[0])]
    if (target := _target(columns)) in text:
        _labelled(target, columns[target])
    if text:
        say_once(f"text columns are left out of batches: {listing(text)}")
    return {name: values for name, values in columns.items() if name not in text}


def _target(columns: Mapping[str, Any]) -> str | None:
    """The column that holds the labels: the first of `LABEL_FIELDS` that is there and not empty."""
    return next((n for n in LABEL_FIELDS if n in columns and any(v is not None for v in columns[n])), None)


def _labelled(name: str, values: list[Any]) -> list[Any]:
    """The labels, of which none may be missing or a text."""
    _refuse((v is None for v in values), f"has no label ({name!r} is None): give it one, or leave it out")
    if _is_text(values[0]):
        how = f"number the classes, dataset.class_encode_column({name!r})"
        raise DataError(f"{name!r} holds text ({values[0]!r}): {how}")
    return values


def _refuse(wrong: Iterable[Any], what: str) -> None:
    """Raise DataError for the first feature that is wrong, of which there is one flag per feature."""
    for i, found in enumerate(wrong):
        if found:
            raise DataError(f"feature {i} of the batch {what}")


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
    """One feature's list of whole numbers (weights: any) as a 1-D array; None among word numbers becomes -1."""
    if name == "word_ids":
        value = [-1 if word is None else word for word in value]
    row, kinds = _array(value), "iubf" if name == WEIGHTS else "iub"
    if row.ndim != 1 or (row.dtype.kind not in kinds and row.size):
        found = f"{name} of feature {i} of the batch is {row.dtype} of shape {list(row.shape)}"
        how = "leave return_tensors= out when tokenizing a data set"
        raise DataError(f"{found}, a flat list of whole numbers is needed: {how}")
    return row.astype(np.float32 if name == WEIGHTS else np.int64, copy=False)


def _label_array(name: str, values: list[Any]) -> np.ndarray:
    """[B] int64, [B] float32 or [B, C] float32 from one label (a number or a list of numbers) per feature."""
    rows = [_array(v) for v in _labelled(name, values)]
    odd = next((i for i, row in enumerate(rows) if row.shape != rows[0].shape), None)
    if odd is not None:
        how = "give each as many, or use token_labels=True when they are one per token"
        raise DataError(f"feature {odd} of the batch has {rows[odd].size} labels, feature 0 has {rows[0].size}: {how}")
    labels = np.stack(rows)
    if labels.dtype.kind not in "iubf":
        raise DataError(f"{name!r} holds {labels.dtype}, labels are numbers or lists of numbers")
    return labels.astype(np.int64 if labels.dtype.kind != "f" and labels.ndim == 1 else np.float32)


def _stack(
    name: str, values: Sequence[Any] | np.ndarray, return_tensors: str, narrow: bool = False
) -> np.ndarray | Tensor:
    """Rows of equal shape as one array or tensor; decimal Python numbers (and with `narrow` all) become float32."""
    if return_tensors == "pt" and hasattr(values[0], "detach"):
        import torch

        if len({v.shape for v in values}) == 1:
            stacked = torch.stack(list(values))
            return stacked.to(torch.float32 if stacked.is_floating_point() else torch.int64) if narrow else stacked
    plain = not isinstance(values[0], (np.ndarray, np.generic))
    rows = [_array(v) for v in values]
    if any(row.shape != rows[0].shape or row.dtype == object for row in rows):
        sizes = listing((row.shape[0] if row.ndim else 1 for row in rows), 6)
        how = "use DataCollatorWithPadding(tokenizer), or tokenize with padding='max_length'"
        raise DataError(f"column {name!r} has rows of different lengths ({sizes}): {how}")
    array = np.stack(rows)
    if array.dtype == np.float64 and plain and return_tensors == "pt":
        array = array.astype(np.float32)
    if narrow:
        array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
    if return_tensors == "np":
        return array
    import torch

    return torch.from_numpy(array)
