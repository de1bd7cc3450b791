"""The words of texts and their tags, from columns of lists: checked, numbered, given to the tokens of the words, and judged.

A column of lists is a flat array of the values of all rows [W], and how many each row has [R].
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from unpad.batch import IGNORED_LABEL
from unpad.errors import DataError, listing, nearest
from unpad.metrics import load_metric
from unpad.notices import say
from unpad.tasks._columns import is_text, lists_of
from unpad.tasks._labels import _aligned, _names_of, whole_column
from unpad.tasks._task import Judge, Part

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

    from unpad.text.tokenizer import Tokenizer

BLOCK = 20_000
"""Rows per call of the tokenizer: a bound for the memory of what the call returns."""


MOST = 10_000
"""Tags that numbers without names may stand for; beyond it a number is a slip."""


@dataclass(frozen=True)
class Lists:
    """A column of lists of one split."""

    flat: pa.Array
    """[W]"""
    lengths: np.ndarray
    """[R] int64"""
    split: str
    column: str

    def row(self, place: Any) -> int:
        """The row that the value at `place` of the flat array is in."""
        return int(np.searchsorted(np.cumsum(self.lengths), place, side="right"))


def read_lists(part: Any, column: str, split: str, what: str) -> Lists:
    """A column whose rows are lists of `what`. Raises DataError for other columns, for rows without a list, and for gaps."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array = whole_column(part, column, split)
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        raise DataError(f"column {column!r} of {split!r} holds {array.type}; {what} are a list in each row; name another column")  # fmt: skip
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    found = Lists(array.flatten(), lengths, split, column)
    if found.flat.null_count:
        row = found.row(int(np.argmax(found.flat.is_null().to_numpy(zero_copy_only=False))))
        raise DataError(f"row {row} of {split!r} has an empty value (null) among its {what} in {column!r}; fill it in or filter the row out")  # fmt: skip
    if not lengths.all():
        raise DataError(
            f"row {int(lengths.argmin())} of {split!r} has no {what} in {column!r} ({int((lengths == 0).sum())} such row(s)); "
            f"filter it out: dataset.filter(lambda row: row[{column!r}])"
        )
    return found


def read_words(part: Any, column: str, split: str) -> Lists:
    """A column of lists of words."""
    found = read_lists(part, column, split, "words")
    if not is_text(found.flat.type):
        raise DataError(f"column {column!r} of {split!r} holds lists of {found.flat.type}, not of words; name another one with text=")  # fmt: skip
    return found


def read_tags(
    splits: Mapping[str, Any], words: Mapping[str, Lists], column: str, given: Sequence[str] | None
) -> tuple[dict[str, np.ndarray], list[str] | None]:
    """([W] int64 ids by split, names or None where tags are numbers without names); `given` are the names of a trained model."""
    import pyarrow as pa

    tags = {split: read_lists(part, column, split, "tags") for split, part in splits.items()}
    for split, found in tags.items():
        unequal = found.lengths != words[split].lengths
        if unequal.any():
            row = int(unequal.argmax())
            raise DataError(
                f"row {row} of {split!r} has {words[split].lengths[row]} words in {words[split].column!r} but {found.lengths[row]} tags "
                f"in {column!r} ({int(unequal.sum())} such row(s)); give every word one tag"
            )
    kinds = {split: str(found.flat.type) for split, found in tags.items()}
    texts = [is_text(found.flat.type) for found in tags.values()]
    if any(texts) and not all(texts):
        said = listing(f"{kind} in {split!r}" for split, kind in kinds.items())
        raise DataError(f"the tags in {column!r} are of different kinds: {said}; make them the same in all splits")
    if tags and all(texts):
        ids, spelt = _from_texts(tags, column, given)
        _refuse_one(spelt, column)
        return ids, spelt
    for split, found in tags.items():
        if not pa.types.is_integer(found.flat.type):
            raise DataError(f"column {column!r} of {split!r} holds lists of {kinds[split]}; tags are texts or whole numbers; name another one with label=")  # fmt: skip
    names = _names_of(dict(splits), column) if splits else None
    move = _aligned(names, list(given), column) if names and given else None
    numbers = {split: found.flat.to_numpy(zero_copy_only=False).astype(np.int64) for split, found in tags.items()}
    known = len(names or given or ())
    why = f"outside 0..{known - 1} ({known} tags: {listing(names or given or ())})"
    if numbers and not known:  # the highest number that is learned says how many there are
        learned = numbers["train" if "train" in numbers else next(iter(numbers))]
        known = min(max(int(learned.max()) + 1, 2), MOST)
        why = f"above {known - 1}, the highest that is learned (or can be, of numbers without names); to have it, make the column ClassLabels"
    ids = {}
    for split, found in tags.items():
        values = numbers[split]
        wrong = (values != IGNORED_LABEL) & ((values < 0) | (values >= known))
        if wrong.any():
            at = int(wrong.argmax())
            odd = why if names or given or values[at] >= 0 else "negative"
            raise DataError(f"tag {values[at]} in row {found.row(at)} of {split!r} ({column!r}) is {odd}; mend the row or filter it out")  # fmt: skip
        if given is None and (values == IGNORED_LABEL).all() and split in ("train", *splits)[: 1 + (len(splits) == 1)]:
            raise DataError(f"all tags in {column!r} of {split!r} are {IGNORED_LABEL}, which are not learned; give tags from 0")  # fmt: skip
        ids[split] = values if move is None else np.where(values < 0, values, move[values])
    _refuse_one(names if given is None else None, column)
    if ids and not names and not given:
        say(f"tags in {column!r} are numbers without names: entities cannot be told from them; make the column ClassLabels, or texts")  # fmt: skip
    return ids, list(given) if given else names


def _refuse_one(names: Sequence[str] | None, column: str) -> None:
    """A single tag is refused: nothing could be told apart by it."""
    if names is not None and len(names) < 2:
        raise DataError(f"all tags in {column!r} are {names[0]!r}; a model needs two different ones to learn from")


def _from_texts(
    tags: Mapping[str, Lists], column: str, given: Sequence[str] | None
) -> tuple[dict[str, np.ndarray], list[str]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    seen = {split: set(pc.unique(found.flat).to_pylist()) for split, found in tags.items()}
    learned = seen["train" if "train" in seen else next(iter(seen))]
    if given is None:
        names = sorted(set().union(*seen.values()), key=lambda tag: (tag != "O", tag[tag[1:2] == "-" and 2 :], tag))  # fmt: skip
        say(f"tags in {column!r} are texts, numbered: {listing(names)}")
        if missed := [name for name in names if name not in learned]:
            say(f"tags that no training row has, and that cannot be learned: {listing(missed)}")
    else:
        names = list(given)
    ids = {}
    for split, found in tags.items():
        places = pc.index_in(found.flat, pa.array(names, found.flat.type))
        if places.null_count:
            at = int(np.argmax(places.is_null().to_numpy(zero_copy_only=False)))
            tag = found.flat[at].as_py()
            raise DataError(
                f"tag {tag!r} in row {found.row(at)} of {split!r} ({column!r}) is unknown to the model{nearest(tag, names)}; "
                f"its tags are: {listing(names)}"
            )
        ids[split] = places.to_numpy(zero_copy_only=False).astype(np.int64)
    return ids, names


def changes(*columns: np.ndarray) -> np.ndarray:
    """[N] bool: the place is the first one, or differs from the one before in any of the columns [N]."""
    return np.concatenate([[True], np.any([c[1:] != c[:-1] for c in columns], axis=0)])


def group_starts(names: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """[N] bool: a tag, given by its number in `names` [C], that begins an entity (or a stretch outside of any).

    As `transformers` joins them: neighbours of one type belong together, but a B- tag begins anew.
    """
    _, kinds = np.unique([name[2:] if name[:2] in ("B-", "I-") else name for name in names], return_inverse=True)
    return changes(kinds[tags]) | np.array([name[:2] == "B-" for name in names])[tags]


def later_tags(names: Sequence[str] | None, count: int) -> np.ndarray:
    """[C] int64: for each tag that of the later tokens of its word, I-PER for B-PER, itself where there is none such."""
    place = {name: i for i, name in enumerate(names or ())}
    inside = {i: place.get(f"I-{name[2:]}", i) for name, i in place.items() if name.startswith("B-")}
    return np.array([inside.get(i, i) for i in range(count)])


def tokenized(
    tokenizer: Tokenizer, words: Lists, tags: np.ndarray | None, later: np.ndarray | None, max_length: int | None
) -> tuple[Any, int]:
    """A split as a data set of `input_ids` and `labels`, and how many words have a token in it.

    The first token of a word has its tag; the others the one that `later` [C] tells, or -100 without it.
    """
    import pyarrow as pa
    from datasets import Dataset, NamedSplit

    ends = np.cumsum(words.lengths)
    rows, offsets = lists_of(words.flat, ends), np.concatenate([[0], ends])
    ids: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    lengths: list[int] = []
    learned = 0
    for begin in range(0, len(rows), BLOCK):
        found = tokenizer(
            rows.slice(begin, BLOCK).to_pylist(), is_split_into_words=True, truncation=True, max_length=max_length,
            return_attention_mask=False, return_token_type_ids=False,
        )  # fmt: skip
        sizes = [len(row) for row in found["input_ids"]]
        numbers = ([-1 if n is None else n for n in encoding.word_ids] for encoding in found.encodings or [])
        word = np.fromiter(chain.from_iterable(numbers), np.int64, sum(sizes))
        word[word >= 0] += np.repeat(offsets[begin : begin + len(sizes)], sizes)[word >= 0]
        first = (word >= 0) & changes(word)
        learned += int(first.sum())
        if tags is not None:
            label = np.where(first, tags[word], IGNORED_LABEL)
            if later is not None:
                rest = (word >= 0) & ~first & (tags[word] >= 0)
                label[rest] = later[tags[word[rest]]]
            labels.append(label)
        ids.append(np.fromiter(chain.from_iterable(found["input_ids"]), np.int32, sum(sizes)))
        lengths += sizes
    columns = {"input_ids": ids, **({"labels": labels} if labels else {})}
    table = {name: lists_of(np.concatenate(parts), np.cumsum(lengths)) for name, parts in columns.items()}
    return Dataset(pa.table(table), split=NamedSplit(words.split)), learned


def per_word(chances: np.ndarray, begins: np.ndarray, strategy: str) -> np.ndarray:
    """[words, C] of [N, C]; `begins` are the first tokens of words."""
    if strategy == "first":
        return chances[begins]
    sizes = np.diff([*begins, len(chances)])
    if strategy == "average":
        return np.add.reduceat(chances, begins) / sizes[:, None]
    return chances[np.lexsort((-chances.max(1), np.repeat(np.arange(len(begins)), sizes)))[begins]]


class TagFigures(Judge):
    """Counts what the tags of labelled tokens spell; tokens with the label -100 do not count."""

    def __init__(self, names: list[str]) -> None:
        self.names = np.array(names, object)
        prefixed = [name for name in names if re.match(r"[BIESLU]-.", name)]
        self.entities = bool(prefixed) and all(name in prefixed or name == "O" for name in names)
        self.rules = {"mode": "strict", "scheme": "BILOU"} if {name[0] for name in prefixed} & {"L", "U"} else {}
        if not self.entities:
            super().__init__([Part("accuracy", load_metric("accuracy"), "accuracy"), Part("f1_macro", load_metric("f1"), "f1", {"average": "macro"})])  # fmt: skip
            return
        metric = load_metric("seqeval")
        kinds = sorted({name[2:] for name in prefixed})
        overall = [Part(name, metric, f"overall_{name}") for name in ("precision", "recall", "f1", "accuracy")]
        super().__init__([*overall, *(Part(f"f1_{kind}", metric, kind) for kind in kinds)])

    def reduce(self, logits: Tensor) -> Tensor:
        """[B, S] int64 tags."""
        return logits.argmax(-1)

    def add_batch(self, *, predictions: Any, references: Any) -> None:
        told = references != IGNORED_LABEL
        if self.entities:
            ends = np.cumsum(told.sum(1))[:-1]
            found, true = (np.split(self.names[tags[told]], ends) for tags in (predictions, references))
            self.parts[0].metric.add_batch(predictions=found, references=true)
        elif told.any():
            super().add_batch(predictions=predictions[told], references=references[told])

    def compute(self) -> dict[str, float]:
        if not self.entities:
            return super().compute()
        found = self.parts[0].metric.compute(zero_division=0, **self.rules)
        there = [part for part in self.parts if part.figure in found]  # a type may occur in no row
        return {part.key: found[part.figure]["f1"] if part.key.startswith("f1_") else found[part.figure] for part in there}  # fmt: skip
