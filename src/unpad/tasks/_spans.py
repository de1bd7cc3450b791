"""Answers as spans of tokens: contexts cut into windows, where an answer lies in each, and the best spans by scores.

E examples (a question and its context), F windows of them, C tokens of contexts, K candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from unpad.tasks._columns import dataset_of, lists_of
from unpad.tasks._task import Features

if TYPE_CHECKING:
    from unpad.text.tokenizer import Tokenizer

Gold = list[tuple[str, Any]]
"""The right answers to a question and the characters where they start; empty where there is no answer."""
BLOCK = 1000
"""Examples per call of the tokenizer: a bound for the memory of what the call returns."""


@dataclass(frozen=True)
class Windows:
    """What F windows show of their contexts; those of an example stand together."""

    example: np.ndarray
    """[F] int64 rising: the example that each is of."""
    first: np.ndarray
    """[F] int64: its first token that is of the context."""
    counts: np.ndarray
    """[F] int64: its tokens of the context."""
    offsets: np.ndarray
    """[C, 2] int32: characters of these tokens in the context, one window after the other."""
    contexts: list[str]
    """Those of the E examples."""

    @cached_property
    def starts(self) -> np.ndarray:
        """[F] int64: where each begins in `offsets` (some place there where it shows nothing)."""
        return np.minimum(np.cumsum(self.counts) - self.counts, len(self.offsets) - 1)

    def characters(self, rows: Any, first: Any, last: Any) -> tuple[Any, Any]:
        """Where spans of tokens, counted from the first of the context in their window, begin and end in the context."""
        at = self.starts[rows]
        return self.offsets[at + first, 0], self.offsets[at + last, 1]

    def positions(self, gold: list[Gold]) -> np.ndarray:
        """[F, 2] int64: first and last token of the example's first answer; (0, 0) where the window does not show all of it, or there is none."""
        row = np.repeat(np.arange(len(self.example)), self.counts)
        firsts = [answers[0] if answers else ("", -1) for answers in gold]
        begin = np.array([at for _, at in firsts])[self.example]
        end = begin + np.array([len(text) for text, _ in firsts])[self.example]
        begun = np.bincount(row, self.offsets[:, 0] <= begin[row], len(begin)).astype(np.int64)
        ended = np.bincount(row, self.offsets[:, 1] < end[row], len(begin)).astype(np.int64)
        inside = (begun > 0) & (ended < self.counts)
        found = np.stack([self.first + begun - 1, self.first + ended], 1)
        return np.where(inside[:, None], found, 0)


def cut(
    tokenizer: Tokenizer, questions: list[str], contexts: list[str], window: int, stride: int, whole_words: bool = False
) -> tuple[Features, Windows]:  # fmt: skip
    """Windows of at most `window` tokens, of which neighbours share `stride`; with `whole_words` the offsets of a token are its word's."""
    typed = "token_type_ids" in tokenizer.model_input_names
    ids, types, offsets = [], [], []
    lengths, example, first, counts = [], [], [], []  # type: Any, Any, Any, Any
    for begin in range(0, len(questions), BLOCK):
        rows = tokenizer(
            questions[begin : begin + BLOCK], contexts[begin : begin + BLOCK], truncation="only_second", max_length=window,
            stride=stride, return_overflowing_tokens=True, return_attention_mask=False, return_token_type_ids=typed,
        )  # fmt: skip
        sizes = [len(row) for row in rows["input_ids"]]
        ids.append(_flat(rows["input_ids"], sum(sizes)))
        if typed:
            types.append(_flat(rows["token_type_ids"], sum(sizes)))
        lengths += sizes
        example += [begin + i for i in rows["overflow_to_sample_mapping"]]
        for encoding in rows.encodings or []:
            of = encoding.sequence_ids
            size = of.count(1)
            at = of.index(1) if size else 0
            spans = _flat(encoding.offsets[at : at + size], 2 * size).astype(np.int32).reshape(-1, 2)
            offsets.append(_of_words(spans, encoding.word_ids[at : at + size]) if whole_words else spans)
            first.append(at)
            counts.append(size)
    kinds = np.concatenate(types) if any(t.any() for t in types) else None
    lengths, example, first, counts = (np.array(v, np.int64) for v in (lengths, example, first, counts))
    windows = Windows(example, first, counts, np.concatenate(offsets), contexts)
    return Features(np.concatenate(ids), kinds, lengths), windows


def dataset(features: Features, windows: Windows, gold: list[Gold] | None, split: str) -> Any:
    """The windows, and the answers in them, as rows of a data set, from flat arrays."""
    flat = {"input_ids": features.input_ids.astype(np.int32)}
    if features.token_type_ids is not None:
        flat["token_type_ids"] = features.token_type_ids.astype(np.int8)
    table = {name: lists_of(values, features.ends) for name, values in flat.items()}
    if gold is not None:
        table["start_positions"], table["end_positions"] = windows.positions(gold).T
    return dataset_of(table, split)


def _flat(rows: Any, size: int) -> np.ndarray:
    return np.fromiter(chain.from_iterable(rows), np.int64, size)


def _of_words(offsets: np.ndarray, words: list[int | None]) -> np.ndarray:
    """Offsets [C, 2] of tokens as those of their words; a token without a word stands alone."""
    if not len(offsets):
        return offsets
    number = np.array([-1 - i if word is None else word for i, word in enumerate(words)])
    new = np.concatenate([[True], number[1:] != number[:-1]])
    begins = np.flatnonzero(new)
    ends = np.concatenate([begins[1:], [len(number)]]) - 1
    return np.stack([offsets[begins, 0], offsets[ends, 1]], 1)[np.cumsum(new) - 1]


def probabilities(found: Sequence[np.ndarray], windows: Windows, rows: np.ndarray) -> np.ndarray:
    """[F, 1 + C, 2] chances of starts and ends in the windows `rows`, for the first token and those of the context, of logits [S, 2]."""
    logits = np.full((len(rows), 1 + max(1, windows.counts[rows].max()), 2), -np.inf, np.float32)
    for place, row in enumerate(rows):
        first, count = windows.first[row], windows.counts[row]
        logits[place, 0] = found[row][0]
        logits[place, 1 : 1 + count] = found[row][first : first + count]
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def best_spans(start_FC: np.ndarray, end_FC: np.ndarray, most: int, longest: int) -> tuple[np.ndarray, ...]:
    """(first tokens, last tokens, scores) [F, K] of the `most` best spans of at most `longest` tokens, best first.

    A score is the product of the chances of start and end; of equal ones the earlier span goes first. Only the band of possible spans is
    computed, [F, C, longest], not every pair of tokens.
    """
    width = min(longest, start_FC.shape[1])
    after = np.pad(end_FC, ((0, 0), (0, width - 1)))
    band = start_FC[:, :, None] * np.lib.stride_tricks.sliding_window_view(after, width, axis=1)
    scores = band.reshape(len(band), -1)
    place = scores.argmax(1)[:, None] if most == 1 else np.argsort(-scores, 1, kind="stable")[:, :most]
    begin, more = np.divmod(place, width)
    return begin, begin + more, np.take_along_axis(scores, place, 1)
