"""Entity figures equal the package `seqeval`, in whatever batches the sentences come and however wrong the tags are."""

from __future__ import annotations

import logging
import math
import warnings

import numpy as np
import pytest
import seqeval.metrics as oracle
import seqeval.scheme
from hypothesis import given, settings
from hypothesis import strategies as st

from unpad import notices
from unpad.errors import ArgumentError, DataError
from unpad.metrics import entity_spans, load_metric
from unpad.metrics.seqeval import SCHEMES

KINDS = ("PER", "LOC", "WORK-OF-ART", "")
"""The last one, a bare prefix, only with prefixes that the forgiving reading knows: else the oracle runs over sentences."""
MARKED = {"IOB2": "B", "IOE2": "E", "IOBES": "BES", "BILOU": "BLU"}
"""Prefixes that let the oracle detect a scheme when all of them occur."""


def spell(prefix, kind, suffix):
    """A tag, with the prefix in front or behind; `O` has no type."""
    if prefix == "O" or not kind:
        return prefix
    return f"{kind}-{prefix}" if suffix else f"{prefix}-{kind}"


@st.composite
def tagged(draw, prefixes="OBIES", suffix=False, first=()):
    """(predictions, references): up to 6 sentences of random tags that agree about half of the time."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    known = KINDS if set(prefixes) <= set("OBIES") or first else KINDS[:3]
    kinds = rng.permutation(known)[: draw(st.integers(1, len(known)))]
    share_o = draw(st.floats(0, 0.9))

    def tags(size):
        marks = np.where(rng.random(size) < share_o, "O", rng.choice(list(prefixes), size))
        return [spell(str(p), str(k), suffix) for p, k in zip(marks, rng.choice(kinds, size), strict=True)]

    references = [tags(n) for n in draw(st.lists(st.integers(0, 12), min_size=1, max_size=6))]
    references.append([spell(p, "PER", suffix) for p in first] or tags(3))
    keep = draw(st.floats(0, 1))
    predictions = [
        [r if rng.random() < keep else p for r, p in zip(row, tags(len(row)), strict=True)] for row in references
    ]
    return predictions, references


def figures_of_seqeval(predictions, references, **options):
    """The figures of the package, under the names that metrics of the field give them."""
    if options.get("scheme"):
        options["scheme"] = getattr(seqeval.scheme, options["scheme"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = oracle.classification_report(references, predictions, output_dict=True, **options)
    overall = report.pop("micro avg")
    names = {"precision": "precision", "recall": "recall", "f1": "f1-score", "number": "support"}
    want = {kind: {n: float(row[v]) for n, v in names.items()} for kind, row in report.items() if " avg" not in kind}
    want |= {f"overall_{n}": float(overall[v]) for n, v in names.items() if n != "number"}
    return want | {"overall_accuracy": oracle.accuracy_score(references, predictions)}


def assert_equal(got, want):
    assert list(got) == list(want)
    for name, value in want.items():
        assert got[name] == pytest.approx(value, rel=1e-12), name


def in_batches(predictions, references, cut):
    metric = load_metric("seqeval")
    for part in (slice(0, cut), slice(cut, None)):
        metric.add_batch(predictions=predictions[part], references=references[part])
    return metric


@settings(max_examples=250)
@given(
    st.data(), st.sampled_from(["OBI", "OI", "OIE", "OBIES", "OBILU"]), st.booleans(), st.sampled_from([0, 1, "warn"])
)
def test_figures_in_any_batches_are_those_of_seqeval(data, prefixes, suffix, zero_division):
    predictions, references = data.draw(tagged(prefixes, suffix))
    options = {"suffix": suffix, "zero_division": zero_division}
    metric = in_batches(predictions, references, data.draw(st.integers(0, len(references))))
    assert_equal(metric.compute(**options), figures_of_seqeval(predictions, references, **options))


@settings(max_examples=400)
@given(st.data(), st.sampled_from(sorted(SCHEMES)), st.booleans(), st.sampled_from([0, 1]))
def test_strict_figures_are_those_of_seqeval(data, scheme, suffix, zero_division):
    predictions, references = data.draw(tagged(SCHEMES[scheme][0], suffix))
    options = {"mode": "strict", "scheme": scheme, "suffix": suffix, "zero_division": zero_division}
    metric = in_batches(predictions, references, data.draw(st.integers(0, len(references))))
    assert_equal(metric.compute(**options), figures_of_seqeval(predictions, references, **options))


@given(st.data(), st.sampled_from(sorted(MARKED)))
def test_strict_mode_finds_the_scheme_that_seqeval_finds(data, scheme):
    predictions, references = data.draw(tagged(SCHEMES[scheme][0], first=MARKED[scheme]))
    got = load_metric("seqeval").compute(predictions=predictions, references=references, mode="strict")
    assert_equal(got, figures_of_seqeval(predictions, references, mode="strict"))


@given(tagged("OBIES"))
def test_spans_are_those_of_seqeval(pair):
    for tags in pair[0]:
        want = [(kind, start, end + 1) for kind, start, end in oracle.sequence_labeling.get_entities(tags)]
        assert entity_spans(tags) == want


def test_spans_say_where_entities_are():
    tags = ["B-PER", "I-PER", "O", "I-LOC", "B-LOC", "I-PER"]
    assert entity_spans(tags) == [("PER", 0, 2), ("LOC", 3, 4), ("LOC", 4, 5), ("PER", 5, 6)]
    assert entity_spans(tags, "IOB2") == [("PER", 0, 2), ("LOC", 4, 5)]
    assert entity_spans(["PER-B", "PER-I"], "IOB2", suffix=True) == [("PER", 0, 2)]
    assert entity_spans([]) == []


def test_memory_depends_on_the_variety_of_entities_not_on_the_number_of_sentences():
    metric = load_metric("seqeval")
    for n in range(50):
        tags = ["O"] * n + ["B-PER", "I-PER"] + ["O"] * (50 - n)
        metric.add_batch(predictions=[tags, tags], references=[tags, ["O"] * 52])
    assert len(metric.state.pairs) == 2
    assert metric.compute()["PER"] == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "number": 50}


def test_figures_are_plain_numbers_and_sentences_may_be_arrays():
    got = load_metric("seqeval").compute(predictions=[np.array(["B-PER", "O"])], references=[("B-PER", "O")])
    assert [type(v) for v in got["PER"].values()] == [float, float, float, int]
    assert got["overall_f1"] == got["overall_accuracy"] == 1.0
    assert math.isnan(load_metric("seqeval").compute(predictions=[[]], references=[[]])["overall_accuracy"])


@pytest.mark.parametrize(
    ("predictions", "references", "options", "words"),
    [
        ([["O", "O"]], [["O"]], {}, "sentence 0 of the batch has 2 predicted tags but 1 reference tags"),
        ([["O"]], [["O"], ["O"]], {}, "1 predictions but 2 references"),
        (["O", "O"], ["O", "O"], {}, "sentence 0 of the predictions is 'O'"),
        ("O", [["O"]], {}, "sentence 0 of the predictions is 'O'"),
        ([["O"]], None, {}, "sentence 0 of the references is None"),
        ([["O"]], [[1]], {}, r"holds 1, no name .* label_names\[1\]"),
        ([["O"]], [[""]], {}, "holds '', no name"),
        ([["O"]], [["O"]], {"mode": "strct"}, "mode='strct' is unknown"),
        ([["O"]], [["O"]], {"zero_division": 2}, "zero_division=2"),
        ([["B-A"]], [["B-A"]], {"mode": "strict", "scheme": "IOB3"}, "did you mean 'IOB"),
        ([["B-A"]], [["I-A"]], {"mode": "strict"}, r"references \(I\) do not tell the scheme"),
        ([["O"]], [["O"]], {"mode": "strict"}, r"only O.* do not tell the scheme"),
        ([["B-A"]], [["E-A"]], {"mode": "strict"}, "tag 'B-A' has none of the prefixes I, O, E of scheme IOE2"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_one_line(predictions, references, options, words):
    metric = load_metric("seqeval")
    with pytest.raises((DataError, ArgumentError), match=words) as caught:
        metric.compute(predictions=predictions, references=references, **options)
    assert "\n" not in str(caught.value)
    assert metric.examples == 0


def test_zero_divisions_and_odd_tags_are_said_once(caplog, monkeypatch):
    monkeypatch.setattr(notices, "_said", set())
    monkeypatch.setattr(notices.logger, "propagate", True)
    with caplog.at_level(logging.INFO, logger="unpad"):
        for _ in range(2):
            load_metric("seqeval").compute(predictions=[["NOUN", "O"]], references=[["NOUN", "B-PER"]])
    assert ["divides by zero" in r.message for r in caplog.records] == [False, True]
    assert "'NOUN'" in caplog.records[0].message
