"""Metrics equal scikit-learn and scipy, in whatever batches the predictions come, and refuse what cannot be judged."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unpad import notices
from unpad.errors import ArgumentError, DataError
from unpad.metrics import (
    METRICS,
    Kept,
    Metric,
    accuracy,
    combine,
    f1,
    load_metric,
    matthews_correlation,
    mse,
    pearsonr,
    precision,
    recall,
    spearmanr,
)
from unpad.metrics.glue import GLUE

CLOSE = {"rel": 1e-12, "abs": 1e-12, "nan_ok": True}
FIGURES = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}


@pytest.fixture(autouse=True)
def quiet_oracles():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@st.composite
def labels(draw, most_classes=6):
    """Predictions and references that agree about half of the time, with uneven classes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    classes, size = draw(st.integers(1, most_classes)), draw(st.integers(1, 60))
    names = rng.permutation(np.arange(-3, 9))[:classes]
    true = names[np.minimum(rng.geometric(0.4, size) - 1, classes - 1)]
    return np.where(rng.random(size) < 0.5, true, rng.choice(names, size)), true


@st.composite
def rows(draw):
    """Multi-label rows `[B, C]`, some of them empty."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(1, 30)), draw(st.integers(2, 5))
    return tuple((rng.random(shape) < rng.random(shape[1])).astype(int) for _ in range(2))


@st.composite
def numbers(draw, least=2):
    """Correlated numbers with ties, far from zero at times."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = draw(st.integers(least, 60))
    x = rng.normal(size=size)
    y = draw(st.sampled_from([-1, 0, 0.5, 1])) * x + rng.normal(size=size)
    digits, shift = draw(st.integers(0, 6)), draw(st.sampled_from([0, 0, 1e3]))
    return np.round(x, digits) + shift, np.round(y, digits) * 7 - shift


def in_batches(metric, predictions, references, data, weights=None):
    """Feed `metric` in batches cut at random places, empty ones included."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(predictions)), max_size=6)))
    for start, end in zip([0, *cuts], [*cuts, len(predictions)], strict=True):
        extra = {} if weights is None else {"sample_weight": weights[start:end]}
        metric.add_batch(predictions=predictions[start:end], references=references[start:end], **extra)
    return metric


@given(labels(), st.data())
def test_accuracy_in_any_batches_is_that_of_scikit_learn(pair, data):
    predictions, references = pair
    weights = np.random.default_rng(0).random(len(references)) + 0.1
    metric = load_metric("accuracy")
    for normalize in (True, False):
        want = sk.accuracy_score(references, predictions, normalize=normalize)
        got = in_batches(metric, predictions, references, data).compute(normalize=normalize)
        assert got == {"accuracy": pytest.approx(want, **CLOSE)}
        want = sk.accuracy_score(references, predictions, normalize=normalize, sample_weight=weights)
        got = in_batches(metric, predictions, references, data, weights).compute(normalize=normalize)
        assert got == {"accuracy": pytest.approx(want, **CLOSE)}


@settings(max_examples=150)
@given(
    labels(),
    st.sampled_from(sorted(FIGURES)),
    st.sampled_from(["micro", "macro", "weighted", None]),
    st.sampled_from([0, 1, math.nan]),
    st.booleans(),
    st.booleans(),
    st.data(),
)
def test_precision_recall_and_f1_in_any_batches_are_those_of_scikit_learn(
    pair, name, average, zero_division, weighted, choose, data
):
    predictions, references = pair
    options = {"average": average, "zero_division": zero_division}
    if choose:
        options["labels"] = data.draw(st.lists(st.integers(-3, 9), min_size=1, max_size=5, unique=True))
        if not set(options["labels"]) & {*predictions.tolist(), *references.tolist()}:
            options["labels"].append(int(references[0]))
    weights = np.random.default_rng(1).random(len(references)) + 0.1 if weighted else None
    want = FIGURES[name](references, predictions, sample_weight=weights, **options)
    got = in_batches(load_metric(name), predictions, references, data, weights).compute(**options)[name]
    assert got == pytest.approx(want if average else want.tolist(), **CLOSE)


@given(labels(most_classes=2), st.sampled_from(sorted(FIGURES)), st.sampled_from([0, 1]))
def test_binary_average_judges_the_positive_class(pair, name, zero_division):
    predictions, references = pair
    options = {"pos_label": int(references[0]), "zero_division": zero_division}
    want = FIGURES[name](references, predictions, average="binary", **options)
    assert load_metric(name).compute(predictions=predictions, references=references, **options) == {
        name: pytest.approx(want, **CLOSE)
    }


@given(
    rows(),
    st.sampled_from(sorted(FIGURES)),
    st.sampled_from(["micro", "macro", "weighted", "samples", None]),
    st.sampled_from([0, 1, math.nan]),
    st.booleans(),
    st.data(),
)
def test_multilabel_figures_in_any_batches_are_those_of_scikit_learn(
    pair, name, average, zero_division, weighted, data
):
    predictions, references = pair
    weights = np.random.default_rng(2).random(len(references)) + 0.1 if weighted else None
    want = FIGURES[name](references, predictions, average=average, zero_division=zero_division, sample_weight=weights)
    metric = in_batches(load_metric(name, "multilabel"), predictions, references, data, weights)
    got = metric.compute(average=average, zero_division=zero_division)[name]
    assert got == pytest.approx(want if average else want.tolist(), **CLOSE)
    assert accuracy(predictions, references) == pytest.approx(sk.accuracy_score(references, predictions), **CLOSE)
    columns = [sk.matthews_corrcoef(references[:, i], predictions[:, i]) for i in range(references.shape[1])]
    assert matthews_correlation(predictions, references, average=None) == pytest.approx(columns, **CLOSE)
    assert matthews_correlation(predictions, references) == pytest.approx(np.mean(columns), **CLOSE)


@given(labels(), st.booleans(), st.data())
def test_matthews_correlation_in_any_batches_is_that_of_scikit_learn(pair, weighted, data):
    predictions, references = pair
    weights = np.random.default_rng(3).integers(1, 5, len(references)) if weighted else None
    want = sk.matthews_corrcoef(references, predictions, sample_weight=weights)
    got = in_batches(load_metric("matthews_correlation"), predictions, references, data, weights).compute()
    assert got == {"matthews_correlation": pytest.approx(want, **CLOSE)}


@settings(max_examples=150)
@given(numbers(), st.data())
def test_correlations_in_any_batches_are_those_of_scipy(pair, data):
    predictions, references = pair
    for name, oracle in (("pearsonr", scipy.stats.pearsonr), ("spearmanr", scipy.stats.spearmanr)):
        got = in_batches(load_metric(name), predictions, references, data).compute()
        assert got == {
            name: pytest.approx(float(oracle(predictions, references)[0]), rel=1e-10, abs=1e-11, nan_ok=True)
        }


def test_pearson_stays_accurate_far_from_zero_where_plain_sums_of_squares_cancel():
    rng = np.random.default_rng(0)
    x = rng.normal(size=5000) + 1e7
    y = x + rng.normal(size=5000)
    metric = load_metric("pearsonr")
    for start in range(0, 5000, 7):
        metric.add_batch(predictions=x[start : start + 7], references=y[start : start + 7])
    assert metric.compute()["pearsonr"] == pytest.approx(scipy.stats.pearsonr(x, y)[0], rel=1e-9)


@given(numbers(), st.booleans(), st.booleans(), st.data())
def test_mean_squared_error_in_any_batches_is_that_of_scikit_learn(pair, squared, weighted, data):
    predictions, references = pair
    weights = np.random.default_rng(4).random(len(references)) + 0.1 if weighted else None
    oracle = sk.mean_squared_error if squared else sk.root_mean_squared_error
    want = oracle(references, predictions, sample_weight=weights)
    got = in_batches(load_metric("mse"), predictions, references, data, weights).compute(squared=squared)
    assert got == {"mse": pytest.approx(want, **CLOSE)}
    two = np.stack([predictions, references], 1), np.stack([references, references * 2], 1)
    for multioutput in ("uniform_average", "raw_values", [0.3, 0.7]):
        want = oracle(two[1], two[0], multioutput=multioutput)
        got = in_batches(load_metric("mse"), *two, data).compute(squared=squared, multioutput=multioutput)["mse"]
        assert got == pytest.approx(want.tolist() if multioutput == "raw_values" else want, **CLOSE)


@pytest.mark.parametrize("task", sorted(GLUE))
def test_every_glue_task_gives_its_published_figures(task):
    rng = np.random.default_rng(7)
    if task == "stsb":
        x, y = rng.normal(size=40), rng.normal(size=40)
        want = {"pearson": scipy.stats.pearsonr(x, y)[0], "spearmanr": scipy.stats.spearmanr(x, y)[0]}
    else:
        x, y = rng.integers(0, 2, 40), rng.integers(0, 2, 40)
        want = {"accuracy": sk.accuracy_score(y, x)}
        if task == "cola":
            want = {"matthews_correlation": sk.matthews_corrcoef(y, x)}
        if task in ("mrpc", "qqp"):
            want["f1"] = sk.f1_score(y, x)
    metric = load_metric("glue", task)
    for start in (0, 16, 32):
        metric.add_batch(predictions=x[start : start + 16], references=y[start : start + 16])
    got = metric.compute()
    assert got == pytest.approx(want, rel=1e-12)
    assert list(got) == list(want)
    assert all(type(value) is float for value in got.values())


@pytest.mark.parametrize("name", sorted(METRICS))
def test_every_metric_of_the_table_loads_refuses_emptiness_and_refuses_unknown_options(name):
    metric = load_metric(name, "mrpc" if name == "glue" else None)
    assert isinstance(metric, Metric)
    with pytest.raises(DataError, match="nothing to judge"):
        metric.compute()
    with pytest.raises(ArgumentError, match="no argument 'avreage'"):
        metric.compute(avreage="macro")


def test_tensors_arrays_lists_and_single_examples_give_the_same():
    predictions, references = [0, 1, 1, 0, 1], [0, 1, 0, 0, 1]
    want = {"accuracy": 0.8}
    metric = load_metric("accuracy")
    for kind in (list, tuple, np.array, torch.tensor, iter, lambda x: [torch.tensor(v) for v in x]):
        assert metric.compute(predictions=kind(predictions), references=kind(references)) == want
    for p, r in zip(predictions, references, strict=True):
        metric.add(prediction=torch.tensor(p), reference=r)
    assert metric.examples == 5
    assert metric.compute() == want
    assert accuracy(np.array(predictions, bool), torch.tensor(references)) == 0.8
    assert accuracy(["b", "c", "a"], ["b", "c", "d"]) == pytest.approx(2 / 3)
    assert f1(["yes", "no", "yes"], ["yes", "no", "no"], pos_label="yes") == pytest.approx(2 / 3)
    halves = torch.tensor([0.5, 1.0, 2.0], dtype=torch.bfloat16, requires_grad=True)
    assert mse(halves[:, None], [0.5, 1.0, 1.0]) == pytest.approx(1 / 3)
    assert pearsonr(halves, [1, 2, 4]) == pytest.approx(1.0)


def test_a_column_of_a_dataset_is_judged_as_it_is():
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"label": [0, 1, 1]})
    assert accuracy([0, 1, 0], data["label"]) == pytest.approx(2 / 3)


def test_functions_and_metrics_agree():
    predictions, references = [0, 1, 1, 0, 1, 1], [0, 1, 0, 0, 1, 0]
    for name, function in {"precision": precision, "recall": recall, "f1": f1, "accuracy": accuracy}.items():
        want = load_metric(name).compute(predictions=predictions, references=references)[name]
        assert function(predictions, references) == want
    assert spearmanr([1, 2, 3], [1, 4, 9]) == pytest.approx(1.0)


def test_compute_starts_anew():
    metric = load_metric("glue", "mrpc")
    metric.compute(predictions=[1, 1], references=[0, 0])
    assert metric.compute(predictions=[1, 0], references=[1, 0]) == {"accuracy": 1.0, "f1": 1.0}


def test_examples_given_to_compute_join_those_added_before():
    metric = load_metric("accuracy")
    metric.add_batch(predictions=[1, 1], references=[1, 1])
    assert metric.compute(predictions=[0, 0], references=[1, 1]) == {"accuracy": 0.5}


@pytest.mark.parametrize("make", [lambda: load_metric("f1"), lambda: combine(["accuracy", "f1"])])
def test_a_wrong_option_does_not_cost_the_evaluation(make):
    metric = make()
    metric.add_batch(predictions=[0, 1, 2], references=[0, 1, 1])
    with pytest.raises(ArgumentError, match=r"3 classes.*average='macro'"):
        metric.compute()
    with pytest.raises(ArgumentError):
        metric.compute(predictions=[2], references=[1])
    assert metric.examples == 3
    assert metric.compute(average="macro")["f1"] == pytest.approx(sk.f1_score([0, 1, 1], [0, 1, 2], average="macro"))


def test_a_refused_batch_leaves_no_trace():
    metric = load_metric("accuracy")
    metric.add_batch(predictions=[1], references=[1])
    with pytest.raises(DataError):
        metric.add_batch(predictions=[1, 0.5], references=[0, 0])
    assert metric.compute() == {"accuracy": 1.0}


def test_combined_metrics_share_their_input_and_prefix_equal_keys():
    both = combine({"a": "accuracy", "b": load_metric("accuracy"), "c": "recall"})
    got = both.compute(predictions=[1, 1], references=[1, 0], average="macro", normalize=False)
    assert got == {"a_accuracy": 1.0, "b_accuracy": 1.0, "recall": 0.5}
    nested = combine([load_metric("glue", "mrpc"), "precision"])
    assert set(nested.compute(predictions=[1, 0], references=[1, 1])) == {"accuracy", "f1", "precision"}
    with pytest.raises(ArgumentError, match="twice"):
        combine(["f1", "f1"])


def test_a_metric_of_texts_fits_the_base_class():
    class Exact(Metric):
        name = "exact"
        accumulator = Kept

        def result(self, state, *, ignore_case=False):
            fold = str.lower if ignore_case else str
            hits = [fold(p) in map(fold, r) for p, r in zip(state.predictions, state.references, strict=True)]
            return {"exact": sum(hits) / len(hits)}

    metric = Exact()
    metric.add_batch(predictions=["a", "B"], references=[["a", "x"], ["b"]])
    metric.add(prediction="c", reference=["c"])
    assert metric.compute(ignore_case=True) == {"exact": 1.0}
    with pytest.raises(DataError, match="1 predictions but 2 references"):
        metric.add_batch(predictions=["a"], references=["a", "b"])


REFUSED = [
    ("accuracy", [1, 2], [1], {}, "2 predictions but 1 references"),
    ("accuracy", [], [], {}, "nothing to judge"),
    ("accuracy", None, [1], {}, "references without predictions"),
    ("accuracy", [1], None, {}, "references are missing"),
    ("accuracy", [[0.1, 0.9]], [1], {}, r"argmax\(-1\)"),
    ("accuracy", [1.0, 0.0], [1, 0], {}, "predictions are floats"),
    ("accuracy", [1, 0], [1.0, 0.0], {}, "references are floats"),
    ("accuracy", [1, "a"], [1, 0], {}, "numbers in one place and texts in another"),
    ("accuracy", [1, None], [1, 0], {}, "None at position 1"),
    ("accuracy", [[1], [1, 0]], [1, 0], {}, "different lengths"),
    ("accuracy", [[3, 1]], [[2, 1]], {}, "flat list"),
    ("accuracy", [[0, 1]], [1], {}, "shape"),
    ("accuracy", [[[0, 1]]], [[[0, 1]]], {}, "shape"),
    ("accuracy", "positive", ["positive"], {}, "not one str"),
    ("accuracy", [1, 1], [1, 1], {"sample_weight": [1.0]}, "sample_weight"),
    ("f1", [0, 1, 2], [0, 1, 2], {}, "Pass average='macro'"),
    ("f1", [0, 2], [0, 2], {}, "pos_label=1"),
    ("f1", ["a", "b"], ["a", "b"], {}, "pos_label=1"),
    ("f1", [0, 1], [0, 1], {"average": "marco"}, "average='marco'"),
    ("f1", [0, 1], [0, 1], {"average": "samples"}, "multi-label"),
    ("f1", [[0, 1]], [[0, 1]], {}, "multi-label"),
    ("f1", [0, 1], [0, 1], {"zero_division": 2}, "zero_division=2"),
    ("f1", [0, 1], [0, 1], {"labels": [], "average": "macro"}, "empty"),
    ("f1", [0, 1], [0, 1], {"labels": ["a"], "average": "macro"}, "another kind"),
    ("mse", [1.0, math.nan], [1.0, 1.0], {}, "nan at position 1"),
    ("mse", [1.0], [math.inf], {}, "references hold inf"),
    ("mse", [[1.0, 2.0]], [1.0], {}, "shape"),
    ("mse", [1.0], [1.0], {"multioutput": [1, 2]}, "multioutput"),
    ("pearsonr", [[1.0, 2.0]], [[1.0, 2.0]], {}, "shape"),
    ("spearmanr", ["a"], [1.0], {}, "texts"),
]


@pytest.mark.parametrize(("name", "predictions", "references", "options", "words"), REFUSED)
def test_what_cannot_be_judged_is_refused_in_one_line(name, predictions, references, options, words):
    with pytest.raises((DataError, ArgumentError), match=words) as caught:
        load_metric(name).compute(predictions=predictions, references=references, **options)
    assert "\n" not in str(caught.value)


def test_late_changes_of_kind_are_refused():
    metric = load_metric("accuracy")
    metric.add_batch(predictions=[[0, 1]], references=[[0, 1]])
    for odd in ([1], [[0, 1, 1]]):
        with pytest.raises(DataError):
            metric.add_batch(predictions=odd, references=odd)
    with pytest.raises(ArgumentError, match="add_batch"):
        metric.compute(sample_weight=[1.0])


def test_unknown_names_are_answered_with_the_nearest():
    for call, words in (
        (lambda: load_metric("acuracy"), "did you mean 'accuracy'"),
        (lambda: load_metric("glue", "mrcp"), "did you mean 'mrpc'"),
        (lambda: load_metric("glue"), "needs the name of a task"),
        (lambda: load_metric("f1", "multilabels"), "did you mean 'multilabel'"),
        (lambda: combine([]), "no metrics"),
    ):
        with pytest.raises(ArgumentError, match=words):
            call()


def test_undefined_figures_are_said_once(caplog, monkeypatch):
    monkeypatch.setattr(notices, "_said", set())
    monkeypatch.setattr(notices.logger, "propagate", True)
    with caplog.at_level(logging.INFO, logger="unpad"):
        for _ in range(3):
            assert precision([0, 0], [1, 0]) == 0.0
            assert math.isnan(pearsonr([1.1, 1.1, 1.1], [1, 2, 3]))
            assert math.isnan(spearmanr([3.0], [1.0]))
    assert [("zero" in r.message, "not defined" in r.message) for r in caplog.records] == [(True, False), (False, True)]
    caplog.clear()
    assert precision([0, 0], [1, 0], zero_division=1) == 1.0
    assert not caplog.records


def test_constant_predictions_are_recognised_in_any_batches():
    metric = load_metric("pearsonr")
    for size in (3, 7, 11):
        metric.add_batch(predictions=[0.1] * size, references=np.arange(size))
    assert math.isnan(metric.compute()["pearsonr"])


def test_metrics_need_neither_torch_nor_scipy():
    code = (
        "import sys, unpad.metrics as m; m.load_metric('glue', 'stsb');"
        "sys.exit(bool({'torch', 'scipy', 'sklearn', 'datasets'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
