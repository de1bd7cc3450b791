"""The words of texts and their tags, from columns of lists: checked, numbered, given to the tokens of the words, and judged.

A column of lists is a flat array of the values of all rows [W], and how many each row has [R].
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from unpad.batch import IGNORED_LABEL
from unpad.errors import DataError, listing
from unpad.metrics import load_metric
from unpad.notices import say
from unpad.tasks._columns import Lists, dataset_of, gaps, is_text, lists_of, numbers_of, read_lists, whole_column
from unpad.tasks._labels import aligned, names_of
from unpad.tasks._task import Judge, Part, figure

if TYPE_CHECKING:
    from unpad.text.tokenizer import Tokenizer

BLOCK = 20_000
"""Rows per call of the tokenizer: a bound for the memory of what the call returns."""
MOST = 10_000
"""Tags that numbers without names may stand for; beyond it a number is a slip."""


def read_column(part: Any, column: str, split: str, what: str) -> Lists:
    """A column whose rows are lists of `what`. Raises DataError for other columns, for rows without a list, and for gaps."""
    import pyarrow as pa

    array = whole_column(part, column, split)
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        raise DataError(f"column {column!r} of {split!r} holds {array.type}; {what} are a list in each row; name another column")  # fmt: skip
    found = read_lists(array, column, split)
    if found.flat.null_count:
        raise DataError(f"row {found.row(gaps(found.flat))} of {split!r} has an empty value (null) among its {what} in {column!r}; fill it in or filter the row out")  # fmt: skip
    if not found.lengths.all():
        raise DataError(
            f"row {int(found.lengths.argmin())} of {split!r} has no {what} in {column!r} ({int((found.lengths == 0).sum())} such row(s)); "
            f"filter it out: dataset.filter(lambda row: row[{column!r}])"
        )
    return found


def read_words(part: Any, column: str, split: str) -> Lists:
    """A column of lists of words."""
    found = read_column(part, column, split, "words")
    if not is_text(found.flat.type):
        raise DataError(f"column {column!r} of {split!r} holds lists of {found.flat.type}, not of words; name another one with text=")  # fmt: skip
    return found


def read_tags(
    splits: Mapping[str, Any], words: Mapping[str, Lists], column: str, given: Sequence[str] | None
) -> tuple[dict[str, np.ndarray], list[str] | None]:
    """([W] int64 ids by split, names or None where tags are numbers without names); `given` are the names of a trained model."""
    import pyarrow as pa

    if not splits:
        return {}, list(given) if given else None
    tags = {split: read_column(part, column, split, "tags") for split, part in splits.items()}
    for split, found in tags.items():
        unequal = found.lengths != words[split].lengths
        if unequal.any():
            row = int(unequal.argmax())
            raise DataError(
                f"row {row} of {split!r} has {words[split].lengths[row]} words in {words[split].column!r} but {found.lengths[row]} tags "
                f"in {column!r} ({int(unequal.sum())} such row(s)); give every word one tag"
            )
    texts = [is_text(found.flat.type) for found in tags.values()]
    if any(texts) and not all(texts):
        said = listing(f"{found.flat.type} in {split!r}" for split, found in tags.items())
        raise DataError(f"the tags in {column!r} are of different kinds: {said}; make them the same in all splits")
    learned = "train" if "train" in tags else next(iter(tags))
    if all(texts):
        names: list[str] | None = list(given) if given is not None else _spelt(tags, learned, column)
        ids = {split: found.places(names or [], "tag") for split, found in tags.items()}
        _refuse_one(names, column)
        return ids, names
    for split, found in tags.items():
        if not pa.types.is_integer(found.flat.type):
            raise DataError(f"column {column!r} of {split!r} holds lists of {found.flat.type}; tags are texts or whole numbers; name another one with label=")  # fmt: skip
    names = names_of(splits, column)
    ids = {split: numbers_of(found.flat) for split, found in tags.items()}
    _check_numbers(tags, ids, names or given or (), learned)
    if given is None and (ids[learned] == IGNORED_LABEL).all():
        raise DataError(f"all tags in {column!r} of {learned!r} are {IGNORED_LABEL}, which are not learned; give tags from 0")  # fmt: skip
    if names and given:
        move = aligned(names, list(given), column)
        ids = {split: np.where(values < 0, values, move[values]) for split, values in ids.items()}
    _refuse_one(names if given is None else None, column)
    if not names and not given:
        say(f"tags in {column!r} are numbers without names: entities cannot be told from them; make the column ClassLabels, or texts")  # fmt: skip
    return ids, list(given) if given else names


def _check_numbers(
    tags: Mapping[str, Lists], ids: Mapping[str, np.ndarray], names: Sequence[str], learned: str
) -> None:
    """Raise DataError for the first number that is no tag; without names the highest one of the split `learned` says how many there are."""
    known = len(names) or min(max(int(ids[learned].max()) + 1, 2), MOST)
    why = f"above {known - 1}, the highest that is learned (or can be, of numbers without names); to have it, make the column ClassLabels"
    if names:
        why = f"outside 0..{known - 1} ({known} tags: {listing(names)})"
    for split, found in tags.items():
        wrong = (ids[split] != IGNORED_LABEL) & ((ids[split] < 0) | (ids[split] >= known))
        if wrong.any():
            tag = ids[split][wrong][0]
            odd = why if names or tag >= 0 else "negative"
            raise DataError(f"tag {tag} in row {found.row(wrong)} of {split!r} ({found.column!r}) is {odd}; mend the row or filter it out")  # fmt: skip


def _refuse_one(names: Sequence[str] | None, column: str) -> None:
    """A single tag is refused: nothing could be told apart by it."""
    if names is not None and len(names) < 2:
        raise DataError(f"all tags in {column!r} are {names[0]!r}; a model needs two different ones to learn from")


def _spelt(tags: Mapping[str, Lists], learned: str, column: str) -> list[str]:
    """The tags of all splits that are texts, `O` first, then by type."""
    import pyarrow.compute as pc

    seen = {split: set(pc.unique(found.flat).to_pylist()) for split, found in tags.items()}
    names = sorted(set().union(*seen.values()), key=lambda tag: (tag != "O", tag[tag[1:2] == "-" and 2 :], tag))
    say(f"tags in {column!r} are texts, numbered: {listing(names)}")
    if missed := [name for name in names if name not in seen[learned]]:
        say(f"tags that no training row has, and that cannot be learned: {listing(missed)}")
    return names


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
    return dataset_of(table, words.split), learned


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
            super().__init__([figure("accuracy"), figure("f1_macro", "f1", average="macro")])
            return
        metric = load_metric("seqeval")
        kinds = sorted({name[2:] for name in prefixed})
        overall = [Part(name, metric, f"overall_{name}") for name in ("precision", "recall", "f1", "accuracy")]
        super().__init__([*overall, *(Part(f"f1_{kind}", metric, kind) for kind in kinds)])

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
