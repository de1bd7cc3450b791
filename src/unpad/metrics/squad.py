"""Exact match and F1 of answers to questions, as SQuAD 1.1 and 2.0 define them (Rajpurkar et al., 2016 and 2018).

Texts are compared in lower case without punctuation, articles and extra white space, and of several gold answers
the best counts. All figures are percentages.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from unpad.errors import DataError
from unpad.metrics._metric import Accumulator, Metric, check_lengths

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
EXACT, F1, ANSWERABLE, ANSWERED, NO_ANSWER = range(5)
"""Rows of `Answers.table`."""


class Answers(Accumulator):
    """Five numbers per question (40 bytes), from which every figure follows; the texts are not kept."""

    unanswerable: ClassVar[bool] = False
    """Questions may have no answer; then an empty text is the right one."""

    def __init__(self) -> None:
        self.batches: list[np.ndarray] = []

    def add(self, predictions: Any, references: Any) -> None:
        """Take one batch of `{"id", "prediction_text"}` and `{"id", "answers": {"text": [...]}}`, in any order."""
        found, gold = _by_id(predictions, "predictions"), _by_id(references, "references")
        check_lengths(len(found), len(gold))
        for key in found.keys() - gold.keys():
            raise DataError(f"prediction {key!r} has no reference of the same id. Add both in one batch.")
        rows = [self._row(key, row, gold[key]) for key, row in found.items()]
        self.batches.append(np.array(rows, dtype=np.float64).reshape(-1, 5).T)
        self.examples += len(rows)

    def _row(self, key: Any, prediction: Mapping[str, Any], reference: Mapping[str, Any]) -> tuple[float, ...]:
        text, answers = prediction.get("prediction_text"), reference.get("answers")
        texts = [a["text"] for a in answers] if isinstance(answers, list) else (answers or {}).get("text")
        if not isinstance(text, str) or texts is None:
            raise DataError(
                f"question {key!r} needs a text 'prediction_text' in its prediction and 'answers': {{'text': [...]}} "
                f"in its reference, but has {text!r:.40} and {answers!r:.40}."
            )
        gold = [words(t) for t in texts]
        if self.unanswerable:
            gold = [g for g in gold if g] or [[]]
        elif not gold:
            raise DataError(f"question {key!r} has no gold answer. Use the metric 'squad_v2', or leave it out.")
        said = words(text)
        f1 = max(_overlap(said, g) if said and g else float(self.unanswerable and said == g) for g in gold)
        doubt = prediction.get("no_answer_probability")
        return (said in gold, f1, len(texts) > 0, text != "", np.nan if doubt is None else float(doubt))

    @property
    def table(self) -> np.ndarray:
        """`[5, B]` in the order of the predictions; `NO_ANSWER` is NaN where no probability was given."""
        return np.concatenate(self.batches, 1)


class AnswersOrNone(Answers):
    """The same for questions that may have no answer."""

    unanswerable = True


class Squad(Metric):
    """Exact match and F1 where every question has an answer."""

    name = "squad"
    accumulator = Answers

    def result(self, state: Answers) -> dict[str, Any]:
        """`{"exact_match", "f1"}`."""
        exact, f1 = 100 * state.table[: F1 + 1].mean(1)
        return {"exact_match": float(exact), "f1": float(f1)}


class SquadV2(Metric):
    """Exact match and F1 where questions may have no answer."""

    name = "squad_v2"
    accumulator = AnswersOrNone

    def result(self, state: Answers, *, no_answer_threshold: float = 1.0) -> dict[str, Any]:
        """`{"exact", "f1", "total"}`, the same of answerable (`HasAns_`) and other (`NoAns_`) questions, where there are any.

        A `no_answer_probability` above `no_answer_threshold` counts as an empty answer. Where all predictions have
        one, `best_exact`, `best_f1` and their `_thresh` are the figures of the best thresholds.
        """
        table = state.table
        answerable = table[ANSWERABLE] == 1
        scores = np.where(table[NO_ANSWER] > no_answer_threshold, ~answerable, table[: F1 + 1])
        figures: dict[str, Any] = {}
        for prefix, of in (("", answerable | True), ("HasAns_", answerable), ("NoAns_", ~answerable)):
            if of.any():
                exact, f1 = 100 * scores[:, of].mean(1)
                figures |= {f"{prefix}exact": float(exact), f"{prefix}f1": float(f1), f"{prefix}total": int(of.sum())}
        if not np.isnan(table[NO_ANSWER]).any():
            for name, row in (("exact", EXACT), ("f1", F1)):
                figures[f"best_{name}"], figures[f"best_{name}_thresh"] = _best(table, row)
        return figures


def words(text: str) -> list[str]:
    """The words of an answer that are compared."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _overlap(said: list[str], gold: list[str]) -> float:
    same = (Counter(said) & Counter(gold)).total()
    precision, recall = same / len(said), same / len(gold)
    return 2 * precision * recall / (precision + recall) if same else 0.0


def _best(table: np.ndarray, row: int) -> tuple[float, float]:
    """(Best figure, threshold): answering nothing, then one question after the other by rising probability."""
    by_doubt = table[:, np.argsort(table[NO_ANSWER], kind="stable")]
    gain = np.where(by_doubt[ANSWERABLE] == 1, by_doubt[row], -by_doubt[ANSWERED])
    totals = np.cumsum([(table[ANSWERABLE] == 0).sum(), *gain])
    best = int(totals.argmax())
    return float(100 * totals[best] / len(gain)), float(by_doubt[NO_ANSWER, best - 1]) if best else 0.0


def _by_id(rows: Any, what: str) -> dict[Any, Mapping[str, Any]]:
    found: dict[Any, Mapping[str, Any]] = {}
    for i, row in enumerate([] if rows is None else rows):
        if not isinstance(row, Mapping) or "id" not in row:
            raise DataError(f"{what} must be dictionaries with an 'id', but number {i} is {row!r:.40}.")
        if row["id"] in found:
            raise DataError(f"{what} hold the id {row['id']!r} twice. Each question is judged once.")
        found[row["id"]] = row
    return found
