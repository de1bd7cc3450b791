"""A tokenized data set as flat arrays, and any of its rows as a packed batch.

The store reads the Arrow table below a `datasets.Dataset` in place: a row is a chunk, a start and a length in the
token values that Arrow already holds. Shuffles, selections and padding only change those three numbers, so no token is
copied before a batch is packed. N rows, T packed tokens, B rows of a batch, C labels of a row, T' tokens of all targets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from unpad.batch import IGNORED_LABEL, PackedBatch, pack
from unpad.data.columns import Column, any_value, column_of, first, is_list, nested
from unpad.errors import DataError, listing
from unpad.notices import say_once

if TYPE_CHECKING:
    import pyarrow as pa

TOKEN_FIELDS = ("input_ids", "attention_mask", "token_type_ids")
SPAN_FIELDS = ("start_positions", "end_positions")
LABEL_FIELDS = ("labels", "label", "label_ids")
"""Columns that hold the targets; where a data set has several, the first of this list is taken."""
WEIGHTS = "weights"
"""Column of one weight per token: how much its loss counts."""
_TITLES = {
    "input_ids": "ids", "token_type_ids": "types", "labels": "token labels", "word_ids": "words", "target": "target",
    WEIGHTS: "weights",
}  # fmt: skip
"""Columns of tokens in the order and by the names by which they are fingerprinted."""


@dataclass(eq=False, repr=False)
class TokenStore:
    """A tokenized data set of N rows, ready to be packed. Made by `TokenStore.from_dataset`."""

    _tokens: dict[str, Column]
    """`input_ids`, and where there are `token_type_ids`, `word_ids`, `labels` and `weights` of tokens; `target`."""
    labels: np.ndarray | None
    """[N] int64 classes, [N] float32 numbers, [N, C] float32 several labels each, [N, 2] int64 spans, or None (none, one per
    token, or targets)."""
    label_names: list[str] | None
    """Names of the classes where the data set knows them (`ClassLabel`, or labels that were strings)."""
    kept: list[str]
    """Columns of the data set that the store uses."""
    dropped: list[str]
    """Columns that it does not use."""
    padding: int
    """Tokens that were padding and are left out."""
    split: str
    """Name of the data set in messages."""
    choices: int = 1
    """Sequences per row: more than 1 for multiple choice."""

    def __post_init__(self) -> None:
        target = self._tokens.get("target")
        self.target_lengths: np.ndarray | None = None if target is None else target.length
        """[N] int64: tokens of each target, where labels are targets."""
        own = self._tokens["input_ids"].length.reshape(-1, self.choices).sum(1)
        self.lengths: np.ndarray = own if target is None else own + target.length
        """[N] int64: tokens of each row (of all its choices, of source and target), padding not counted."""

    @classmethod
    def from_dataset(
        cls, dataset: Any, *, labels_of: str | None = "row", label_names: Sequence[str] | None = None, split: str = ""
    ) -> TokenStore:
        """Build the store of a tokenized data set.

        `dataset` is a `datasets.Dataset` (in any format; its indices mapping is respected and no token is copied), a list
        of feature dictionaries, or anything with `len()` and numbered rows that are dictionaries. Columns: `input_ids`,
        and where they exist `attention_mask` (tokens with 0 are left out), `token_type_ids`, `word_ids` and one of `labels`,
        `label`, `label_ids`. `labels_of` says what labels belong to (`core.heads.HeadKind.labels`): a "row"; a "token", which may
        also have `weights`, decimal numbers from 0; a "span", from `start_positions` and `end_positions`; a "choice" among the
        sequences of the row, whose columns are then lists of lists; or they are the "target" of the row, token ids of its own
        length, of which -100 at the end are padding. Labels that are strings are numbered by their place in `label_names`, or in
        sorted order when that is not given. `split` names the data set in messages.

        Raises DataError when a column is missing or of the wrong kind, when there are no rows, and for rows without
        tokens, labels or a target.
        """
        of = f" of {split!r}" if split else ""
        columns, mapping, _, classes = token_columns(dataset, of)
        choices = 1
        if labels_of == "choice":
            columns, mapping, choices = _one_sequence_per_row(columns, mapping, of)
        fields = (*TOKEN_FIELDS, "word_ids", *((WEIGHTS,) if labels_of == "token" else ()))
        tokens: dict[str, Column] = {}
        for name in fields:
            if name in columns:
                null = -1 if name == "word_ids" else None  # special tokens are of no word
                tokens[name] = column_of(columns[name], name, mapping, of, decimals=name == WEIGHTS, null=null)
        counts = tokens["input_ids"].length
        label = None if labels_of == "span" else next((n for n in LABEL_FIELDS if n in columns), None)
        labels = names = target = None
        if labels_of == "span" and all(name in columns for name in SPAN_FIELDS):
            starts, ends = (_labels(columns[n], n, mapping, counts, None, of)[0] for n in SPAN_FIELDS)
            labels = None if starts is None or ends is None else np.stack([starts, ends], axis=1)
        elif label is not None:
            names = list(label_names) if label_names is not None else classes.get(label)
            if labels_of == "token":
                tokens["labels"] = column_of(columns[label], label, mapping, of)
            elif labels_of == "target":
                target = _targets(columns[label], label, mapping, of)
            elif labels_of is not None:
                labels, names = _labels(columns[label], label, mapping, counts, names, of)
        for name, column in tokens.items():
            if (row := first(column.length != counts)) is not None:
                found = f"{counts[row]} input_ids but {column.length[row]} {name}"
                raise DataError(f"row {row}{of} has {found}: each token needs exactly one; tokenize the text again")

        before = int(counts.sum())
        tokens = without_padding(tokens)
        counts = tokens["input_ids"].length
        if padding := before - int(counts.sum()):
            share = f"{padding:,} of {before:,} tokens{of} are padding ({100 * padding / before:.0f}%)"
            say_once(f"{share} and are left out: nothing is computed on them")
        if (row := first(counts == 0)) is not None:
            how = "tokenize with special tokens, or remove it, dataset.filter(lambda row: len(row['input_ids']) > 0)"
            raise DataError(f"row {row}{of} has no tokens ({int((counts == 0).sum())} such row(s)): {how}")
        if "token_type_ids" in tokens and not any_value(tokens["token_type_ids"]):
            del tokens["token_type_ids"]
        if labels_of == "span" and labels is not None:  # no loss counts what lies outside of its row
            labels = np.where((labels >= 0) & (labels < counts[:, None]), labels, IGNORED_LABEL)
        used = [n for n in columns if n in (*fields, *(SPAN_FIELDS if labels_of == "span" else (label,)))]
        left = [n for n in columns if n not in used]
        if target is not None:
            tokens["target"] = target
        return cls(tokens, labels, names, used, left, padding, split, choices)

    def __len__(self) -> int:
        return len(self.lengths)

    def __repr__(self) -> str:
        sizes = f"{len(self):,} rows, {self.tokens:,} tokens, longest {int(self.lengths.max())}"
        return f"TokenStore({sizes}, columns {', '.join(self.kept)})"

    @property
    def tokens(self) -> int:
        """Tokens of all rows, padding not counted."""
        return int(self.lengths.sum())

    @property
    def has_labels(self) -> bool:
        """Whether packed batches carry labels."""
        return self.labels is not None or not {"labels", "target"}.isdisjoint(self._tokens)

    @property
    def asks_nothing(self) -> bool:
        """Whether there are labels per token, and all of them are -100."""
        labels = [column for name, column in self._tokens.items() if name in ("labels", "target")]
        return bool(labels) and all((flat == IGNORED_LABEL).all() for column in labels for flat in column.flats)

    @property
    def longest_target(self) -> int | None:
        """Tokens of the longest target, the length that generation takes when none is asked for; None without targets."""
        return None if self.target_lengths is None else int(self.target_lengths.max())

    @cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits of the content: tokens, segments, labels and weights in row order (computed once, when first asked).

        The same content gives the same digits however the table is chunked, mapped, typed, padded or its columns ordered.
        """
        digest = hashlib.blake2b(digest_size=16)
        digest.update(f"rows {len(self)}".encode())
        digest.update(self.lengths.astype("<i8").tobytes())
        for name, title in _TITLES.items():
            if (column := self._tokens.get(name)) is not None:
                digest.update(title.encode())
                if name == "target":
                    digest.update(column.length.astype("<i8").tobytes())
                for _, values in column.blocks():
                    digest.update(values.astype("<f4" if name == WEIGHTS else "<i4").tobytes())
        if self.labels is not None:
            digest.update(f"labels {self.labels.dtype.kind} {self.labels.shape}".encode())
            digest.update(self.labels.astype(self.labels.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()

    def vocabulary(self, size: int) -> np.ndarray:
        """[U] int64 rising: the token ids that occur, of 0..size - 1."""
        seen = np.zeros(size, dtype=bool)
        for _, values in self._tokens["input_ids"].blocks():
            seen[values] = True
        return np.flatnonzero(seen)

    def row(self, number: int) -> np.ndarray:
        """Token ids of one row, as a view."""
        return self._tokens["input_ids"].rows([number])[0]

    def pack(self, rows: np.ndarray | Sequence[int]) -> PackedBatch:
        """The rows with these numbers as one packed batch on the CPU; `sample_ids` are the row numbers."""
        chosen = np.asarray(rows, dtype=np.int64)
        alone = self.choices == 1
        index = chosen if alone else (chosen[:, None] * self.choices + np.arange(self.choices)).ravel()
        found = {name: column.rows(index) for name, column in self._tokens.items()}
        batch = pack(
            found["input_ids"],
            token_type_ids=found.get("token_type_ids"),
            labels=None if self.labels is None or not alone else self.labels[index],
            token_labels=found.get("labels"),
            sample_ids=index.tolist() if alone else None,
            words=found.get("word_ids"),
        )
        if WEIGHTS in found:
            batch = weigh(batch, found[WEIGHTS])
        if "target" in found:
            batch = replace(batch, target=pack_target(found["target"], index.tolist()))
        if alone:
            return batch
        import torch

        labels = None if self.labels is None else torch.from_numpy(self.labels[chosen])
        return replace(batch, choices=self.choices, labels=labels, sample_ids=tuple(chosen.tolist()))

    def check(
        self, vocab_size: int, max_positions: int, num_labels: int | None = None, *, token_types: int | None = None,
        split: str | None = None,
    ) -> None:  # fmt: skip
        """Raise DataError, naming the first row, for what a model of these sizes cannot take.

        `token_types` is the number of segments that the model knows; `num_labels` its outputs (1: labels are numbers to
        predict, so any value is allowed). Done on the host before the first step, because a device only answers with an
        assertion that names nothing. One pass over the tokens.
        """
        name = self.split if split is None else split
        of = f" of {name!r}" if name else ""
        strangers = "the tokenizer and the model are not of the same checkpoint; load both by the same name"
        for key, what, ignored in (("input_ids", "", None), ("target", "the target of ", IGNORED_LABEL)):
            if (column := self._tokens.get(key)) is None:
                continue
            long = column.length > max_positions
            if (at := first(long)) is not None:
                found = f"{what}row {at // self.choices}{of} has {column.length[at]} tokens, the model takes {max_positions}"
                how = f"tokenize with truncation=True, max_length={max_positions} ({int(long.sum())} such row(s))"
                raise DataError(f"{found}: {how}")
            if odd := column.first_outside(0, vocab_size, ignored):
                found = f"token id {odd[1]} in {what}row {odd[0] // self.choices}{of}"
                raise DataError(f"{found} is outside the model's vocabulary of {vocab_size}: {strangers}")
        if (weights := self._tokens.get(WEIGHTS)) is not None and (odd := weights.first_outside(0, np.inf)):
            raise DataError(f"weight {odd[1]} in row {odd[0]}{of} is no number from 0 on; mend the column 'weights'")
        types = self._tokens.get("token_type_ids")
        if token_types is not None and types is not None and (odd := types.first_outside(0, token_types)):
            found = f"token_type_ids {odd[1]} in row {odd[0] // self.choices}{of} is outside 0..{token_types - 1}"
            raise DataError(f"{found}: {strangers}, or remove the column token_type_ids")
        if num_labels is not None:
            self._check_labels(num_labels, of)

    def _check_labels(self, num_labels: int, of: str) -> None:
        allowed = f"outside 0..{num_labels - 1}"
        advice = "pass num_labels= to from_pretrained, or mend the row"
        tags, labels = self._tokens.get("labels"), self.labels
        if tags is not None and (odd := tags.first_outside(0, num_labels, ignored=IGNORED_LABEL)):
            found = f"label {odd[1]} in row {odd[0]}{of} is {allowed}"
            raise DataError(f"{found} (and not {IGNORED_LABEL}, ignored): {advice}")
        if labels is None:
            return
        if labels.ndim == 2:
            if (count := labels.shape[1]) != num_labels:
                how = f"pass num_labels={count} to from_pretrained (with one label per token, say that it is token classification)"
                raise DataError(f"each row{of} has {count} labels, the model gives {num_labels}: {how}")
        elif num_labels > 1 and labels.dtype.kind == "f":
            found = f"label {labels[0]:g} in row 0{of} is a decimal number, but the model has {num_labels} labels"
            how = "pass num_labels=1 for regression, or make them classes, dataset.cast_column(name, datasets.Value('int64'))"
            raise DataError(f"{found}: {how}")
        elif num_labels > 1 and (row := first((labels < 0) | (labels >= num_labels))) is not None:
            named = f" ({num_labels} labels: {listing(self.label_names)})" if self.label_names else ""
            raise DataError(f"label {labels[row]} in row {row}{of} is {allowed}{named}: {advice}")


def pack_target(rows: Sequence[np.ndarray], sample_ids: Sequence[int] | None = None) -> PackedBatch:
    """B rows of label ids as the `target` of a batch: `labels` [T'] unshifted, and as `input_ids` the same with 0 for -100."""
    target = pack(rows, sample_ids=sample_ids)
    return replace(target, labels=target.input_ids, input_ids=target.input_ids.clamp_min(0))


def weigh(batch: PackedBatch, rows: Sequence[np.ndarray]) -> PackedBatch:
    """The batch with `weights` [T] float32, given as B rows in the caller's order."""
    import torch

    flat = np.concatenate([rows[i] for i in batch.order])
    return replace(batch, weights=torch.from_numpy(flat.astype(np.float32)))


def token_columns(
    dataset: Any, of: str
) -> tuple[dict[str, pa.ChunkedArray], np.ndarray | None, int, dict[str, list[str]]]:
    """(Arrow columns by name, row numbers behind an indices mapping or None, rows, class names by column).

    Raises DataError for what is no data set with at least one row and a column `input_ids`.
    """
    if wrong := _no_data_set(dataset):
        raise DataError(wrong)
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        kind = f"a {type(dataset).__name__}, which has no length or no numbered rows"
        raise DataError(f"the data set{of} is {kind}: load it without streaming=True, or pass a list of dictionaries")
    if len(dataset) == 0:
        raise DataError(f"the data set{of} has no rows: look at the filter or at the file that it comes from")
    table: Any = getattr(dataset, "data", None)
    form = getattr(dataset, "format", None)
    mapping, classes = None, {}
    if not hasattr(table, "column_names") or not isinstance(form, Mapping) or form.get("type") == "custom":
        columns = _from_rows(dataset, of)  # custom is set_transform: rows come into being when they are read
    else:
        visible = table.column_names if form.get("output_all_columns") else form.get("columns") or []
        columns = {name: table.column(name) for name in table.column_names if name in visible}
        if (indices := getattr(dataset, "_indices", None)) is not None:
            mapping = indices.column(0).to_numpy().astype(np.int64)
        for name, feature in dataset.features.items():
            if names := getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None):
                classes[name] = list(names)
    if "input_ids" not in columns:
        how = "dataset.map(lambda batch: tokenizer(batch['text'], truncation=True), batched=True)"
        there = listing(columns) or "none"
        raise DataError(f"the data set{of} has no column 'input_ids' (its columns: {there}): tokenize it first, {how}")
    return columns, mapping, len(dataset), classes


def _no_data_set(given: Any) -> str:
    """What is wrong with things that are easily taken for a data set; empty for others."""
    if isinstance(given, TokenStore):
        return "this is a token store already: use it as it is"
    if isinstance(given, Mapping) and "input_ids" in given:
        how = "make it a data set, datasets.Dataset.from_dict({**tokens, 'label': labels})"
        return f"this is a dictionary of token columns: {how}"
    if isinstance(given, Mapping):
        return f"one data set is needed, this is a dictionary of {listing(given)}: pass one of them, as in datasets['train']"
    if hasattr(given, "iloc"):
        return "this is a data frame: make it a data set, datasets.Dataset.from_pandas(frame), and tokenize it"
    return ""


def _from_rows(rows: Any, of: str) -> dict[str, pa.ChunkedArray]:
    """The fields that the store uses, as Arrow columns, from rows that are dictionaries (or plain objects)."""
    import pyarrow as pa

    features: list[Mapping[str, Any]] = []
    for i in range(len(rows)):
        feature = rows[i]
        if not isinstance(feature, Mapping):
            if not hasattr(feature, "__dict__"):
                raise DataError(f"row {i}{of} is a {type(feature).__name__}, a dictionary with 'input_ids' is needed")
            feature = vars(feature)
        features.append(feature)
    columns: dict[str, pa.ChunkedArray] = {}
    for name in features[0]:
        if name not in (*TOKEN_FIELDS, *LABEL_FIELDS, *SPAN_FIELDS, "word_ids", WEIGHTS):
            columns[name] = pa.chunked_array([pa.nulls(0)])  # only its name is reported
            continue
        try:
            columns[name] = pa.chunked_array([pa.array([_plain(f[name]) for f in features])])
        except KeyError:
            missing = next(i for i, f in enumerate(features) if name not in f)
            raise DataError(f"row {missing}{of} has no {name!r}, row 0 has: give every row the same columns") from None
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError) as error:
            why = f"not all of one kind ({str(error).splitlines()[0]})"
            raise DataError(f"the values of {name!r}{of} are {why}: give plain numbers or flat lists") from None
    return columns


def _plain(value: Any) -> Any:
    """What Arrow reads: numpy arrays for tensors, a Python number for an array without dimensions."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value


def without_padding(columns: dict[str, Column]) -> dict[str, Column]:
    """Token columns, `input_ids` and others, without the tokens whose `attention_mask` is 0, and without that column.

    Padding at the ends of rows costs nothing, the views get shorter; a mask with holes makes a copy of the columns.
    """
    mask = columns.get("attention_mask")
    columns = {n: c for n, c in columns.items() if c is not mask}
    if mask is None or all(f.all() for f in mask.flats):
        return columns
    begin, end, count = _flagged(mask, [flat != 0 for flat in mask.flats])
    whole = np.array_equal(end - begin, count)
    return {n: c.narrow(begin, count) if whole else c.compact(mask) for n, c in columns.items()}


def _flagged(column: Column, flags: list[np.ndarray]) -> np.ndarray:
    """[3, N] int64 by one flag for each element of the flat arrays: where a row's first flag is, where its last one ends, how many it has."""
    found = np.zeros((3, len(column.start)), np.int64)
    for number, flag in enumerate(flags):
        rows = np.arange(len(column.start)) if column.chunk is None else np.flatnonzero(column.chunk == number)
        on = np.flatnonzero(flag)
        low = np.searchsorted(on, column.start[rows])
        high = np.searchsorted(on, column.start[rows] + column.length[rows])
        rows, low, high = rows[high > low], low[high > low], high[high > low]
        start = column.start[rows]
        found[:, rows] = on[low] - start, on[high - 1] + 1 - start, high - low
    return found


def _targets(array: pa.ChunkedArray, name: str, mapping: np.ndarray | None, of: str) -> Column:
    """Label rows of their own lengths, without the -100 at their ends."""
    missing = array.is_null().to_numpy()
    empty = missing if mapping is None else missing[mapping]
    if not empty.any():
        column = column_of(array, name, mapping, of)
        length = _flagged(column, [flat != IGNORED_LABEL for flat in column.flats])[1]
        empty = length == 0
    if (row := first(empty)) is not None:
        found = f"row {row}{of} has a target without text (nothing in {name!r}, {int(empty.sum())} such row(s))"
        raise DataError(f"{found}: give it one, or remove it, dataset.filter(lambda row: row[{name!r}])")
    return column.narrow(np.zeros_like(length), length)


def _one_sequence_per_row(
    columns: dict[str, pa.ChunkedArray], mapping: np.ndarray | None, of: str
) -> tuple[dict[str, pa.ChunkedArray], None, int]:
    """Token columns of lists of lists as one sequence per row, rows in order, and how many sequences a row has."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = {n: c if mapping is None else c.take(pa.array(mapping)) for n, c in columns.items()}
    counts = pc.list_value_length(columns["input_ids"]).to_numpy() if nested(columns["input_ids"].type) else np.zeros(1)
    row = first(counts != counts[0])
    if row is not None or counts[0] < 1:
        row = row or 0
        needed = "multiple choice needs 'input_ids' with a list of token lists per row, as many in each"
        raise DataError(f"row {row}{of} has {int(counts[row])} choices, row 0 has {int(counts[0])}: {needed}")
    lists = {n for n in columns if n in TOKEN_FIELDS and nested(columns[n].type)}
    return {n: pc.list_flatten(c) if n in lists else c for n, c in columns.items()}, None, int(counts[0])


def _labels(
    array: pa.ChunkedArray, name: str, mapping: np.ndarray | None, token_counts: np.ndarray, names: list[str] | None, of: str
) -> tuple[np.ndarray | None, list[str] | None]:  # fmt: skip
    """([N] int64, [N] float32 or [N, C] float32 or None, names of the classes or None) of a label column."""
    import pyarrow as pa

    kind = array.type
    if mapping is not None and not pa.types.is_nested(kind):
        array = array.take(pa.array(mapping))
    if array.null_count == len(array):
        say_once(f"column {name!r}{of} is empty in every row: the data set counts as unlabelled")
        return None, names
    if is_list(kind):
        return _several_labels(column_of(array, name, mapping, of, decimals=True), name, token_counts, of), names
    if array.null_count:
        row = first(array.is_null().to_numpy())
        how = f"give it one, or remove it, dataset.filter(lambda row: row[{name!r}] is not None)"
        raise DataError(f"row {row}{of} has no label (null in {name!r}, {array.null_count} such row(s)): {how}")
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _numbered(array.to_pylist(), names, of)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        whole = array.to_numpy().astype(np.int64)
        if (whole == -1).all():
            say_once(f"every label{of} is -1, the mark of a hidden answer: the data set counts as unlabelled")
            return None, names
        return whole, names
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _finite(array.to_numpy(), name, of), names
    raise DataError(f"column {name!r}{of} holds {kind}, labels are numbers, strings or lists of numbers")


def _several_labels(column: Column, name: str, token_counts: np.ndarray, of: str) -> np.ndarray:
    """[N, C] float32 of rows that are lists of numbers."""
    width = int(column.length[0])
    if (row := first(column.length != width)) is not None:
        if np.array_equal(column.length, token_counts):
            how = "this is token classification, use a model for that, AutoModelForTokenClassification"
            raise DataError(f"column {name!r}{of} has one label per token, one per row is needed: {how}")
        how = "give every row as many (0 or 1 for each label)"
        raise DataError(f"row {row}{of} has {column.length[row]} labels, row 0 has {width}: {how}")
    if width == 0:
        raise DataError(f"row 0{of} has an empty list of labels in {name!r}: give 0 or 1 for each label")
    return _finite(np.concatenate([v for _, v in column.blocks()]).reshape(-1, width), name, of)


def _numbered(texts: list[str], names: list[str] | None, of: str) -> tuple[np.ndarray, list[str]]:
    """([N] int64, names) of labels that are strings: their places in `names`, or in sorted order."""
    if names is None:
        names = sorted(set(texts))
        numbered = listing(f"{i} = {n}" for i, n in enumerate(names))
        say_once(f"labels{of} are strings and become numbers in sorted order: {numbered}")
    places = {n: i for i, n in enumerate(names)}
    for row, text in enumerate(texts):
        if text not in places:
            wrong = f"label {text!r} in row {row}{of} is none of: {listing(names)}"
            raise DataError(f"{wrong}; mend the row or pass all label names")
    return np.array([places[text] for text in texts], dtype=np.int64), names


def _finite(values: np.ndarray, name: str, of: str) -> np.ndarray:
    """The same as float32."""
    values = values.astype(np.float32)
    if (row := first(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))) is not None:
        raise DataError(f"the label in row {row}{of} is not a finite number ({name!r}: {values[row]}): mend the row")
    return values
