"""ROUGE of summaries (Lin, 2004), by rouge-score, the lead baseline, and the sentences that both need."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from unpad.errors import ArgumentError, DataError
from unpad.metrics._metric import Metric
from unpad.metrics.translation import Texts, as_texts
from unpad.notices import say_once


class Score(NamedTuple):
    """Figures from 0 to 1."""

    precision: float
    recall: float
    fmeasure: float


class AggregateScore(float):
    """The mean F-measure of all examples, which also has the means as `.mid` and bounds of 95% as `.low` and `.high`.

    It counts, formats and is written to JSON as the float that it is; shown as it is, it shows the three.

    The bounds come from 1,000 bootstrap samples, drawn when first asked for, by a generator of their own: always the
    same, and a training that evaluates keeps its random numbers.
    """

    table: np.ndarray
    mid: Score
    low = property(lambda self: self._bounds[0])
    high = property(lambda self: self._bounds[1])

    def __new__(cls, table: np.ndarray) -> AggregateScore:
        """`table` [B, 3] float64: the `Score` of each example."""
        score = super().__new__(cls, table[:, 2].mean())
        score.table, score.mid = table, Score(*table.mean(0).tolist())
        return score

    def __repr__(self) -> str:
        return f"AggregateScore(low={self.low}, mid={self.mid}, high={self.high})"

    def __getnewargs__(self) -> Any:  # float's own would lose the table in copies and pickles
        return (self.table,)

    @functools.cached_property
    def _bounds(self) -> tuple[Score, Score]:
        rng, rows = np.random.default_rng(0), len(self.table)
        means = [self.table[rng.integers(0, rows, rows)].mean(0) for _ in range(1000)]
        low, high = np.percentile(means, [2.5, 97.5], axis=0).tolist()
        return Score(*low), Score(*high)


class Summaries(Texts):
    """Summaries and any number of references of each, the best of which counts, for each type by itself."""

    even = False


class Rouge(Metric):
    """ROUGE. rougeLsum takes each line for a sentence: see `split_sentences`."""

    name = "rouge"
    accumulator = Summaries

    def result(
        self, state: Summaries, *, rouge_types: Sequence[str] | None = None, use_aggregator: bool = True,
        use_stemmer: bool = False, tokenizer: Callable[[str], list[str]] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """An `AggregateScore` (a float, 0 to 1) per type; without `use_aggregator` the F-measures of all examples.

        Types are rouge1 to rouge9, rougeL and rougeLsum. Words are runs of a-z and 0-9 in lower case (`use_stemmer`:
        less their English endings), or what `tokenizer` makes of a text (then `use_stemmer` means nothing).
        """
        from rouge_score.rouge_scorer import RougeScorer  # over a second
        from rouge_score.tokenizers import DefaultTokenizer

        kinds = ["rouge1", "rouge2", "rougeL", "rougeLsum"] if rouge_types is None else rouge_types
        if isinstance(kinds, str) or not all(re.fullmatch("rouge([1-9]|L|Lsum)", str(k)) for k in kinds):
            raise ArgumentError(f"rouge_types={kinds!r} must be a list of rouge1 to rouge9, rougeL, rougeLsum.")
        unread = [r for row in state.references for r in row if r.strip() and not re.search("[A-Za-z0-9]", r)]
        if unread and not tokenizer:
            what = f"{len(unread)} references have neither and score 0, e.g. {unread[0]!r:.40}"
            how = "Pass tokenizer=str.split (words between blanks) or tokenizer=list (characters)"
            say_once(f"rouge reads only a-z and 0-9: {what}. {how}.", key="unread rouge")
        # a tokenizer that is passed keeps absl from configuring the root logger, and texts are cut (and stemmed) once
        words = functools.lru_cache(4096)(tokenizer or DefaultTokenizer(use_stemmer).tokenize)
        scorer = RougeScorer(list(kinds), tokenizer=SimpleNamespace(tokenize=words))
        rows = [scorer.score_multi(r, p) for p, r in zip(state.predictions, state.references, strict=True)]
        if use_aggregator:
            return {k: AggregateScore(np.array([row[k] for row in rows], dtype=np.float64)) for k in kinds}
        return {k: [float(row[k].fmeasure) for row in rows] for k in kinds}


class PlainRouge(Rouge):
    """ROUGE as plain floats, which is what `unpad.evaluate` gives."""

    def compute(self, **given: Any) -> dict[str, Any]:
        figures = super().compute(**given)
        return {kind: float(found) if isinstance(found, AggregateScore) else found for kind, found in figures.items()}


def split_sentences(text: str, language: str = "en") -> list[str]:
    """The sentences of `text`, to be joined by newlines for rougeLsum; `language` (de, de_DE) tells abbreviations."""
    import sentencex

    if not isinstance(text, str):
        raise DataError(f"split_sentences needs one text, not {text!r:.40} ({type(text).__name__}).")
    pieces = sentencex.segment(re.split("[-_]", language)[0].lower(), text)
    return [piece.strip() for piece in pieces if piece.strip()]


def lead(text: str, sentences: int = 3, language: str = "en") -> str:
    """The first sentences of `text`, one a line: the summary that takes no model."""
    return "\n".join(split_sentences(text, language)[:sentences])


def lead_baseline(texts: Any, references: Any, metric: Metric, language: str = "en", **options: Any) -> dict[str, Any]:
    """The figures of `metric` (`options` go to its `compute`) if the first three sentences of each text sum it up."""
    leads = [lead(text, language=language) for [text] in as_texts(texts, "text")]
    return metric.compute(predictions=leads, references=references, **options)
