"""Exact match and F1 of answers equal the official definition, restated here in the plainest form."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unpad.errors import ArgumentError, DataError
from unpad.metrics import load_metric
from unpad.metrics.squad import words

WORDS = [
    "the",
    "The",
    "a",
    "an",
    "cat",
    "cats",
    "Cat!",
    "sat",
    "on",
    "mat.",
    "ana",
    "«x»",
    "é",
    "-",
    "U.S.",
    "the-cat",
    "\n",
]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join)


@st.composite
def questions(draw, answerable=False):
    """(predictions in an order of their own, references) of up to 12 questions; probabilities have ties."""
    size = draw(st.integers(1, 12))
    gold = [draw(st.lists(TEXTS, min_size=int(answerable or draw(st.booleans())), max_size=3)) for _ in range(size)]
    predictions = [
        {
            "id": f"q{i}",
            "prediction_text": draw(st.sampled_from(gold[i]) if gold[i] and draw(st.booleans()) else TEXTS),
            "no_answer_probability": draw(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0])),
        }
        for i in range(size)
    ]
    references = [{"id": f"q{i}", "answers": {"text": g, "answer_start": [0] * len(g)}} for i, g in enumerate(gold)]
    return draw(st.permutations(predictions)), references


def plain(text):
    """Lower case, no ASCII punctuation, no articles, single spaces."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def overlap(text, gold, empty):
    """F1 of the bags of words; `empty(both)` decides when one of them has no words."""
    ours, theirs = plain(text).split(), plain(gold).split()
    if not ours or not theirs:
        return empty(ours == theirs)
    rest, same = list(theirs), 0
    for word in ours:
        if word in rest:
            rest.remove(word)
            same += 1
    return 0.0 if not same else 2 * (same / len(ours)) * (same / len(theirs)) / (same / len(ours) + same / len(theirs))


def official_1(predictions, references):
    said = {p["id"]: p["prediction_text"] for p in predictions}
    pairs = [(said[r["id"]], r["answers"]["text"]) for r in references]
    exact = [max(plain(text) == plain(g) for g in gold) for text, gold in pairs]
    f1 = [max(overlap(text, g, lambda both: 0.0) for g in gold) for text, gold in pairs]
    return {"exact_match": 100 * sum(exact) / len(pairs), "f1": 100 * sum(f1) / len(pairs)}


def official_2(predictions, references, threshold):
    said = {p["id"]: p["prediction_text"] for p in predictions}
    doubt = {p["id"]: p["no_answer_probability"] for p in predictions}
    gold = {r["id"]: [g for g in r["answers"]["text"] if plain(g)] or [""] for r in references}
    answerable = {r["id"]: bool(r["answers"]["text"]) for r in references}
    raw = {
        "exact": {q: float(max(plain(said[q]) == plain(g) for g in gold[q])) for q in gold},
        "f1": {q: max(overlap(said[q], g, float) for g in gold[q]) for q in gold},
    }
    want = {}
    for prefix, of in (
        ("", list(gold)),
        ("HasAns_", [q for q in gold if answerable[q]]),
        ("NoAns_", [q for q in gold if not answerable[q]]),
    ):
        for name, scores in raw.items() if of else ():
            kept = [scores[q] if doubt[q] <= threshold else float(not answerable[q]) for q in of]
            want[prefix + name] = 100 * sum(kept) / len(of)
        if of:
            want[prefix + "total"] = len(of)
    for name, scores in raw.items():
        now = best = sum(not a for a in answerable.values())
        at = 0.0
        for q in sorted(doubt, key=doubt.__getitem__):
            now += scores[q] if answerable[q] else -bool(said[q])
            if now > best:
                best, at = now, doubt[q]
        want[f"best_{name}"], want[f"best_{name}_thresh"] = 100 * best / len(gold), at
    return want


def in_batches(name, predictions, references, cut):
    """Two batches of the same questions on both sides, whatever the order of each side."""
    metric = load_metric(name)
    first = {p["id"] for p in predictions[:cut]}
    metric.add_batch(predictions=predictions[:cut], references=[r for r in references if r["id"] in first])
    metric.add_batch(predictions=predictions[cut:], references=[r for r in references if r["id"] not in first])
    return metric


@settings(max_examples=200)
@given(questions(answerable=True), st.integers(0, 12))
def test_figures_are_those_of_the_official_definition(pair, cut):
    assert in_batches("squad", *pair, cut).compute() == pytest.approx(official_1(*pair), rel=1e-12)


@settings(max_examples=300)
@given(questions(), st.integers(0, 12), st.sampled_from([0.0, 0.3, 0.9, 1.0]))
def test_figures_with_unanswerable_questions_are_those_of_the_official_definition(pair, cut, threshold):
    got = in_batches("squad_v2", *pair, cut).compute(no_answer_threshold=threshold)
    assert got == pytest.approx(official_2(*pair, threshold), rel=1e-12)


@given(questions())
def test_without_probabilities_there_are_no_thresholds_and_all_else_is_the_same(pair):
    predictions, references = pair
    bare = [{k: p[k] for k in ("id", "prediction_text")} for p in predictions]
    got = load_metric("squad_v2").compute(predictions=bare, references=references)
    want = official_2(predictions, references, threshold=1.0)
    assert got == pytest.approx({k: v for k, v in want.items() if "best" not in k}, rel=1e-12)


@given(TEXTS)
def test_words_are_those_of_the_official_normalisation(text):
    assert " ".join(words(text)) == plain(text)


def test_the_examples_of_the_metric_card():
    predictions = [{"prediction_text": "1976", "id": "x", "no_answer_probability": 0.0}]
    references = [{"answers": {"answer_start": [97], "text": ["1976"]}, "id": "x"}]
    got = load_metric("squad").compute(predictions=predictions, references=references)
    assert got == {"exact_match": 100.0, "f1": 100.0}
    got = load_metric("squad_v2").compute(predictions=predictions, references=references)
    assert got == {
        "exact": 100.0, "f1": 100.0, "total": 1, "HasAns_exact": 100.0, "HasAns_f1": 100.0, "HasAns_total": 1,
        "best_exact": 100.0, "best_exact_thresh": 0.0, "best_f1": 100.0, "best_f1_thresh": 0.0,
    }  # fmt: skip
    assert {type(v) for v in got.values()} == {float, int}


def test_answers_may_be_a_list_of_dictionaries_as_in_the_files_of_squad():
    rows = [{"id": 0, "answers": [{"text": "a cat", "answer_start": 3}, {"text": "dogs", "answer_start": 9}]}]
    got = load_metric("squad").compute(predictions=[{"id": 0, "prediction_text": "Cat."}], references=rows)
    assert got == {"exact_match": 100.0, "f1": 100.0}


PREDICTION, REFERENCE = {"id": "q", "prediction_text": "x"}, {"id": "q", "answers": {"text": ["x"]}}


@pytest.mark.parametrize(
    ("name", "predictions", "references", "options", "words"),
    [
        ("squad", [PREDICTION], [], {}, "1 predictions but 0 references"),
        ("squad", [PREDICTION], None, {}, "1 predictions but 0 references"),
        ("squad", [PREDICTION], [{**REFERENCE, "id": "r"}], {}, "prediction 'q' has no reference of the same id"),
        ("squad", [PREDICTION] * 2, [REFERENCE] * 2, {}, "predictions hold the id 'q' twice"),
        ("squad", ["x"], [REFERENCE], {}, "dictionaries with an 'id', but number 0 is 'x'"),
        ("squad", [{"id": "q", "text": "x"}], [REFERENCE], {}, "needs a text 'prediction_text'"),
        ("squad", [PREDICTION], [{"id": "q"}], {}, r"'answers': \{'text'.*None"),
        (
            "squad",
            [PREDICTION],
            [{"id": "q", "answers": {"text": []}}],
            {},
            "no gold answer. Use the metric 'squad_v2'",
        ),
        ("squad", [PREDICTION], [REFERENCE], {"no_answer_threshold": 0.5}, "no argument 'no_answer_threshold'"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_one_line(name, predictions, references, options, words):
    metric = load_metric(name)
    with pytest.raises((DataError, ArgumentError), match=words) as caught:
        metric.compute(predictions=predictions, references=references, **options)
    assert "\n" not in str(caught.value)
    assert metric.examples == 0
