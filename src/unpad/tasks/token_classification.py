"""Token classification: a tag for every word of a text (named entities, parts of speech, chunks).

B windows, the sequences that the model reads (long texts have several, which overlap); T tokens of all windows; N tokens of the
texts, each in the window that answers for it; C tags. Data sets are read by `_tags`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from unpad.batch import within
from unpad.errors import ArgumentError, DataError, listing, nearest
from unpad.notices import say
from unpad.tasks import _tags
from unpad.tasks._columns import check_named, not_found, one_of, say_lost, say_read, splits_of
from unpad.tasks._task import Columns, Example, Features, Judge, Prepared, Reader, Task, no_text

if TYPE_CHECKING:
    from torch import Tensor

    from unpad.batch import PackedBatch
    from unpad.config import ModelConfig
    from unpad.text.tokenizer import Tokenizer

WORDS, TEXTS = ("tokens", "words"), ("text", "sentence", "content")
"""Names by which data sets call the words of a text, and whole texts (which a pipeline reads)."""
TAGS = ("ner_tags", "tags", "labels", "pos_tags", "chunk_tags")
"""Names by which data sets call the tags of words."""
STRATEGIES = ("none", "simple", "first", "average", "max")
_JOINED = ("Lu", "Ll", "Lt", "Lm", "Nd")
"""Unicode categories of letters that make words between spaces, and of digits."""


@dataclass(frozen=True)
class Tokens:
    """The N tokens of texts in their order. Words that were given apart make a text joined by spaces."""

    texts: list[str]
    tokenizer: Tokenizer
    at: np.ndarray
    """[N] int64: place of each among the T."""
    text: np.ndarray
    """[N] int64 rising: number of its text."""
    index: np.ndarray
    """[N] int64: its place in its text, special tokens counted."""
    spans: np.ndarray
    """[N, 2] int64: first character, and the one after the last."""
    word: np.ndarray
    """[N] int64: number of its word in the text, as the tokenizer or the caller has split it; -1 for none."""
    given: np.ndarray
    """[N] bool: the caller has split the text into words."""

    def names(self, ids: np.ndarray, chosen: np.ndarray) -> list[str]:
        """Tokens as texts; an unknown one as the characters that it stands for."""
        named: list[str] = self.tokenizer.convert_ids_to_tokens(ids[self.at[chosen]].tolist())
        for i, n in enumerate(chosen):
            if named[i] == self.tokenizer.unk_token:
                named[i] = self.texts[self.text[n]][slice(*self.spans[n])]
        return named

    def word_starts(self) -> np.ndarray:
        """[N] bool: the token begins a word.

        Words are those of the tokenizer, but letters and digits that touch are never apart, and punctuation around a word is never a
        part of it; so byte-level and SentencePiece vocabularies come to the words that WordPiece has. Given words stay as they are.
        """
        places = zip(self.text.tolist(), self.spans.tolist(), strict=True)
        kinds = [[unicodedata.category(c) for c in self.texts[i][a:b]] or [""] for i, (a, b) in places]
        joins = np.array([[k[0] in _JOINED, k[-1] in _JOINED] for k in kinds])
        starts = _tags.changes(self.text, self.word) | (self.word < 0)
        touching = joins[1:, 0] & joins[:-1, 1] & (self.spans[1:, 0] == self.spans[:-1, 1]) & ~self.given[1:]
        starts[1:] &= ~touching | (self.text[1:] != self.text[:-1])
        group, number = np.cumsum(starts) - 1, np.arange(len(starts))
        solid = self.given | np.array([any(kind[:1] not in "PZ" for kind in k) for k in kinds])
        first, last = np.full(len(group), len(group)), np.full(len(group), -1)
        np.minimum.at(first, group[solid], number[solid])
        np.maximum.at(last, group[solid], number[solid])
        outside = (last[group] >= 0) & ((number < first[group]) | (number > last[group]))
        return starts | outside | (number == first[group])


class TokenClassification(Task):
    """See `Task`. The text is the column of words, the label that of their tags."""

    name = "token-classification"
    head = "token-classification"
    auto_class = "AutoModelForTokenClassification"
    default_model = "dbmdz/bert-large-cased-finetuned-conll03-english"
    default_data = "helpdesk/entities"
    options = ("aggregation_strategy", "ignore_labels", "stride")
    settings = ("label_all_tokens",)
    words, pairs = True, False
    readable: ClassVar[Mapping[str, Any]] = {"aggregation_strategy": "first"}

    # ---- data sets ----

    def columns(
        self, dataset: Any, text: str | None = None, text_pair: str | None = None, label: str | None = None, labelled: bool | None = None
    ) -> Columns:  # fmt: skip
        """The columns of words and tags, found by `WORDS` and `TAGS` where not given; data without tags may have whole texts.
        Raises DataError, with the columns that there are, for one that is missing."""
        if text_pair is not None:
            raise ArgumentError(f"{self.name} reads one text, no pairs; leave text_pair={text_pair!r} out")
        there, found = list(one_of(dataset).column_names), {"text": text, "label": label}
        check_named(found, there)
        known = {"text": WORDS if labelled else WORDS + TEXTS, "label": () if labelled is False else TAGS}
        for key, what in (("text", "words (a list in each row)"), ("label", "tags (a list in each row)")):
            found[key] = found[key] or next((n for n in known[key] if n in there), None)
            if found[key] is None and (key == "text" or labelled):
                raise not_found(what, f"{key}=", there)
        if found["text"] == found["label"]:
            raise DataError(f"column {found['text']!r} is named for words and for tags; these are different columns of: {listing(there, 40)}")  # fmt: skip
        return Columns(str(found["text"]), None, found["label"])

    def prepare(
        self, raw: Any, tokenizer: Tokenizer, columns: Columns, max_length: int | None = None, label_names: Sequence[str] | None = None,
        *, label_all_tokens: bool = False, **settings: Any,
    ) -> Prepared:  # fmt: skip
        """Tokenize the words of a `DatasetDict` (or a `Dataset`) and give their tokens `labels`.

        The first token of a word has its tag. The later ones have -100, which no loss counts; with `label_all_tokens` they have the
        I- tag where it is a B- tag, else the same. Tags are class labels, numbers from 0 (-100: not to be learned) or texts,
        numbered `O` first, then by type. `label_names` are those of a trained model, by which tags are matched. What is longer
        than `max_length` tokens is cut and counted. Raises DataError, naming the row, for what cannot be used.
        """
        from datasets import DatasetDict

        splits = splits_of(raw)
        words = {split: _tags.read_words(part, columns.text, split) for split, part in splits.items()}
        tagged = {split: part for split, part in splits.items() if columns.label in part.column_names}
        tags, names = _tags.read_tags(tagged, words, str(columns.label), label_names)
        count = len(names) if names else max((max(int(v.max()) + 1, 2) for v in tags.values()), default=None)
        later = _tags.later_tags(names, count) if label_all_tokens and count else None
        if (limit := max_length or tokenizer.model_max_length) <= tokenizer.num_special_tokens_to_add():
            raise _no_room(limit, tokenizer)
        before, done, learned = tokenizer.truncation_report(), {}, 0
        for split, lists in words.items():
            done[split], firsts = _tags.tokenized(tokenizer, lists, tags.get(split), later, max_length)
            learned += firsts
        lost = say_lost(before, tokenizer, max_length)
        if (silent := sum(len(lists.flat) for lists in words.values()) - learned) and not lost.truncated:
            say(f"{silent} words have no tokens (empty, or of characters that the tokenizer leaves out): their tags are not learned")  # fmt: skip
        answer = f", the tags are {columns.label!r}" if columns.label else ""
        say_read(self.name, f"{columns.text!r}{answer}", splits, columns.used)
        return Prepared(DatasetDict(done), columns, lost, names, count)

    # ---- pipelines ----

    def inputs(self, inputs: Any, options: dict[str, Any]) -> Any:
        """With `is_split_into_words=True` a list of words is one text, answered as a list of one, as in `transformers`."""
        alone = isinstance(inputs, list) and all(isinstance(word, str) for word in inputs)
        return [inputs] if options.pop("is_split_into_words", False) and alone else inputs

    def checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        out = {name: value for name, value in options.items() if value is not None}
        if "aggregation_strategy" in out:
            given = out["aggregation_strategy"]
            out["aggregation_strategy"] = str(getattr(given, "value", given)).lower()
            if out["aggregation_strategy"] not in STRATEGIES:
                raise ArgumentError(f"aggregation_strategy={given!r} is unknown{nearest(str(given), STRATEGIES)}; allowed: {', '.join(STRATEGIES)}")  # fmt: skip
        if isinstance(out.get("ignore_labels", []), str):
            raise ArgumentError(f"ignore_labels={out['ignore_labels']!r} is a text; give a list, [{out['ignore_labels']!r}]")  # fmt: skip
        if not isinstance(out.get("ignore_labels", []), (list, tuple, set, frozenset)):
            raise ArgumentError(f"ignore_labels={out['ignore_labels']!r:.60} must be a list of tags, such as ['O']")
        return out

    def encode(self, inputs: Sequence[Any], reader: Reader, options: Mapping[str, Any]) -> Features:
        """Windows of texts, lists of words and `{"tokens": words}`; neighbours share `stride` tokens (default: a quarter of a window)."""
        items = [_item(item, reader.name(i)) for i, item in enumerate(inputs)]
        tokenizer, limit = reader.tokenizer, reader.limit
        if limit <= tokenizer.num_special_tokens_to_add():
            raise _no_room(limit, tokenizer)
        stride = options.get("stride", (limit - tokenizer.num_special_tokens_to_add()) // 4)
        windows, owners, done = [], [], 0
        for given, run in groupby(items, lambda item: isinstance(item, list)):
            texts = list(run)
            rows = tokenizer(texts, truncation=True, max_length=limit, stride=stride, return_overflowing_tokens=True, is_split_into_words=given)  # fmt: skip
            windows += rows.encodings or []
            owners += [done + i for i in rows["overflow_to_sample_mapping"]]
            done += len(texts)
        lengths, owner = np.array([len(w) for w in windows]), np.array(owners)
        content = _flat(w.special_tokens_mask for w in windows) == 0
        of = np.repeat(np.arange(len(windows)), lengths)
        sizes = np.bincount(of, content, len(windows)).astype(np.int64)
        begin = np.zeros_like(sizes)  # tokens of the text before the window
        way = -1 if tokenizer.truncation_side == "left" else 1  # in which direction windows follow each other
        for a, b in pairwise(np.searchsorted(owner, np.arange(len(items) + 1)).tolist()):
            new = (sizes[a:b] - stride)[::way]
            begin[a:b] = (np.cumsum(new) - new)[::way]
        at = np.flatnonzero(content)
        text, index = owner[of[at]], within(lengths)[at] + begin[of[at]]
        if len(windows) > len(items):  # a token is answered by the window in which it stands most central
            place = within(sizes)
            order = np.lexsort((-np.minimum(place, sizes[of[at]] - 1 - place), index, text))
            order = order[_tags.changes(text[order], index[order])]
            at, text, index = at[order], text[order], index[order]
        spans = _flat(chain.from_iterable(w.offsets for w in windows)).reshape(-1, 2)[at]
        word = _flat([-1 if n is None else n for n in w.word_ids] for w in windows)[at]
        apart = np.array([isinstance(item, list) for item in items])
        for number in np.flatnonzero(apart):  # offsets in words become offsets in the joined text
            steps = np.array([len(w) + 1 for w in items[number]], np.int64)
            own = slice(*np.searchsorted(text, [number, number + 1]))
            spans[own] += (np.cumsum(steps) - steps)[word[own], None]
        joined = [" ".join(item) if isinstance(item, list) else item for item in items]
        notes = Tokens(joined, tokenizer, at, text, index, spans, word, apart[text])
        return Features(_flat(w.ids for w in windows), None, lengths, notes)

    def reduce(self, output: Any, batch: PackedBatch, options: Mapping[str, Any]) -> Tensor:
        return output["logits"].float().softmax(-1)

    def answers(
        self, found: Sequence[np.ndarray], features: Features, config: ModelConfig, options: Mapping[str, Any]
    ) -> list[Any]:
        """For each text its tokens whose tag is not in `ignore_labels`, as `{"entity", "score", "index", "word", "start", "end"}`.

        All strategies but "none" join neighbours of one type to `{"entity_group", "score", "word", "start", "end"}`, where a B- tag
        begins anew: "simple" joins tokens; the others words, whose tag is that of their "first" token, of the one that is most
        sure ("max"), or the best one on "average". Scores are probabilities, of a group their mean.
        """
        strategy, ignored = options.get("aggregation_strategy", "none"), options.get("ignore_labels", ["O"])
        tokens: Tokens = features.notes
        out: list[list[dict[str, Any]]] = [[] for _ in tokens.texts]
        if not len(tokens.at):
            return out
        names = np.array(list(config.id2label.values()), object)
        chances = np.concatenate(found)[tokens.at]
        begins = np.arange(len(chances))
        if strategy not in ("none", "simple"):
            begins = np.flatnonzero(tokens.word_starts())
            chances = _tags.per_word(chances, begins, strategy)
        best, scores = chances.argmax(1), chances.max(1).astype(np.float64)
        if strategy == "none":
            shown = np.flatnonzero(~np.isin(names[best], ignored))
            for n, word in zip(shown.tolist(), tokens.names(features.input_ids, shown), strict=True):
                span = tokens.spans[n].tolist()
                out[tokens.text[n]].append({"entity": names[best[n]], "score": float(scores[n]), "index": int(tokens.index[n]), "word": word, "start": span[0], "end": span[1]})  # fmt: skip
            return out
        groups = np.flatnonzero(_tags.group_starts(names, best) | _tags.changes(tokens.text[begins]))
        means = np.add.reduceat(scores, groups) / np.diff([*groups, len(best)])
        ends = np.append(begins, len(tokens.at))[np.append(groups[1:], len(best))]
        decoder = tokens.tokenizer.backend_tokenizer.decoder
        for group, score, a, b in zip(names[best[groups]], means.tolist(), begins[groups], ends, strict=True):
            kind = group.split("-", 1)[-1]
            if kind in ignored:
                continue
            text = tokens.texts[tokens.text[a]]
            start, end = int(tokens.spans[a, 0]), int(tokens.spans[b - 1, 1])
            pieces = tokens.names(features.input_ids, np.arange(a, b))
            word = decoder.decode(pieces) if decoder else " ".join(pieces)
            if strategy != "simple":  # some tokenizers count the space before a word to it
                start, word = end - len(text[start:end].lstrip()), word.strip()
            if end > start or strategy == "simple":  # white space is no word
                out[tokens.text[a]].append({"entity_group": kind, "score": score, "word": word, "start": start, "end": end})  # fmt: skip
        return out

    def metrics(self, config: ModelConfig, notes: Any = None) -> Judge:
        """`precision`, `recall`, `f1` of entities, `accuracy` of tags and `f1_PER`, ... of each type; `accuracy` and `f1_macro` of tags
        that have no prefixes."""
        return _tags.TagFigures(list(config.id2label.values()))

    def row_input(self, row: Mapping[str, Any], columns: Columns) -> Any:
        return row[columns.text]

    def example(self, row: Mapping[str, Any], answer: Any, columns: Columns, prepared: Prepared) -> Example:
        words, tags, names = row[columns.text], row.get(str(columns.label)), prepared.label_names
        text = " ".join(words)
        found = [f"{text[one['start'] : one['end']]} ({one['entity_group']})" for one in answer]
        if tags is None or names is None:
            return Example([text], ", ".join(found) or "nothing")
        tags = [tag if isinstance(tag, str) else "O" if tag < 0 else names[tag] for tag in tags]
        starts = np.flatnonzero(_tags.group_starts(np.array(tags, object), np.arange(len(tags)))).tolist()
        true = [f"{' '.join(words[a:b])} ({tags[a].split('-', 1)[-1]})" for a, b in pairwise([*starts, len(tags)]) if tags[a] != "O"]  # fmt: skip
        return Example([text], ", ".join(found) or "nothing", ", ".join(true) or "nothing")


TASK = TokenClassification()


def _item(item: Any, where: str) -> str | list[str]:
    """A text, or its words."""
    if isinstance(item, Mapping):
        key = next((name for name in (*WORDS, *TEXTS) if name in item), None)
        if key is None:
            raise DataError(f"{where} has no key 'tokens' (its keys: {listing(item) or 'none'}); give a text, or {{'tokens': words}}")  # fmt: skip
        item = item[key]
    if isinstance(item, str) or (isinstance(item, list) and all(isinstance(word, str) for word in item)):
        return item
    raise no_text(where, item, "give a text, or a list of words as {'tokens': words}")


def _no_room(limit: int, tokenizer: Tokenizer) -> ArgumentError:
    few = tokenizer.num_special_tokens_to_add()
    return ArgumentError(f"max_length={limit} leaves no room for a word beside the {few} special tokens; give more")


def _flat(lists: Iterable[Iterable[Any]]) -> np.ndarray:
    return np.fromiter(chain.from_iterable(lists), np.int64)
