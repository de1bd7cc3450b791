"""Histories are read whole or refused by line; the diagnosis follows the shape of curves, not their scale; pictures
are valid files."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unpad import notices
from unpad.errors import DataError
from unpad.train import curves
from unpad.train.curves import best_record, diagnose, draw, read_history, series, sparkline


def history(train, valid=None, points=60, evals=6, noise=0.0, seed=0, scale=1.0, metrics=(), every=10):
    """Records of a run whose losses are functions of the progress 0..1; `metrics` maps names to such functions."""
    rng = np.random.default_rng(seed)
    last = points * every
    records = []
    for i in range(1, points + 1):
        u = i / points
        loss = scale * (train(u) + noise * rng.normal())
        records.append(
            {"step": i * every, "epoch": 3 * u, "loss": loss, "learning_rate": 5e-5 * (1 - u), "grad_norm": 1.0}
        )
    for k in range(1, evals + 1 if valid else 1):
        u = k / evals
        records.append(
            {"step": round(last * u), "epoch": 3 * u, "eval_loss": scale * valid(u), "eval_runtime": 1.5}
            | {f"eval_{name}": value(u) for name, value in dict(metrics).items()}
        )
    return sorted(records, key=lambda r: (r["step"], "eval_loss" in r))


def falling(low=0.2, rate=5.0, start=0.7):
    return lambda u: low + (start - low) * math.exp(-rate * u)


def valley(bottom=0.4, at=0.4, rise=0.5):
    return lambda u: bottom + (0.3 * (at - u) if u < at else rise * (u - at))


SEEDS = st.integers(0, 2**32 - 1)
SCALES = st.sampled_from([1e-3, 1.0, 40.0, 1e6])
LENGTHS = st.integers(20, 400)


# ---------------------------------------------------------------------------------------------------- diagnosis


@given(SEEDS, SCALES, LENGTHS, st.floats(4, 12), st.floats(0.02, 0.4), st.floats(0, 0.03), st.integers(2, 15))
def test_falling_curves_with_small_noise_are_healthy(seed, scale, points, rate, low, noise, evals):
    run = history(falling(low, rate), falling(low + 0.05, rate), points, evals, noise, seed, scale)
    assert diagnose(run).verdict == "healthy"


@given(SEEDS, SCALES, LENGTHS, st.floats(0.2, 0.6), st.floats(0.4, 2), st.integers(4, 15))
def test_validation_that_turns_upwards_while_training_falls_is_overfitting(seed, scale, points, at, rise, evals):
    run = history(lambda u: 0.7 - 0.6 * u, valley(0.4, at, rise), points, evals, 0.02, seed, scale)
    found = diagnose(run)
    assert found.verdict == "overfitting"
    best = best_record(run, "eval_loss")
    assert f"at step {best['step']}" in found.evidence
    assert "load_best_model_at_end=True" in found.advice


@given(SEEDS, SCALES, LENGTHS, st.floats(0, 0.05))
def test_flat_training_loss_is_underfitting(seed, scale, points, noise):
    run = history(lambda u: 0.69 - 0.005 * u, lambda u: 0.69, points, 5, 0.69 * noise * 0.2, seed, scale)
    assert diagnose(run).verdict == "underfitting"


@given(SCALES, LENGTHS, st.integers(2, 10))
def test_a_run_that_stops_while_all_still_falls_steadily_is_underfitting(scale, points, evals):
    run = history(lambda u: 0.7 - 0.5 * u, lambda u: 0.75 - 0.5 * u, points, evals, 0.002, scale=scale)
    found = diagnose(run)
    assert found.verdict == "underfitting"
    assert "num_train_epochs" in found.advice


def test_an_early_plateau_with_poor_figures_is_underfitting_and_with_good_ones_healthy():
    plateau = falling(0.6, 12)
    for level, verdict in ((0.81, "underfitting"), (0.95, "healthy")):
        run = history(plateau, lambda u: 0.62, metrics={"accuracy": lambda u, level=level: level})
        assert diagnose(run).verdict == verdict


@given(
    st.sampled_from([math.nan, math.inf, -math.inf, None]),
    st.integers(0, 59),
    st.sampled_from(["loss", "eval_loss"]),
    LENGTHS,
)
def test_a_loss_that_is_not_finite_is_diverging_wherever_it_stands(value, at, key, points):
    run = history(falling(), falling(0.3), points)
    holders = [r for r in run if key in r]
    odd = holders[at % len(holders)]
    odd[key] = value
    found = diagnose(run)
    assert found.verdict == "diverging"
    assert f"at step {odd['step']}" in found.evidence


@given(SEEDS, SCALES, LENGTHS, st.floats(1, 30))
def test_a_loss_that_ends_well_above_its_start_is_diverging(seed, scale, points, rise):
    run = history(lambda u: 0.7 + rise * max(0, u - 0.4), None, points, noise=0.02, seed=seed, scale=scale)
    found = diagnose(run)
    assert found.verdict == "diverging"
    assert "learning_rate" in found.advice


@given(SEEDS, SCALES, LENGTHS)
def test_training_that_falls_back_to_its_start_is_diverging(seed, scale, points):
    run = history(
        lambda u: 0.7 - 0.8 * u if u < 0.5 else 0.69, falling(0.5), points, noise=0.01, seed=seed, scale=scale
    )
    found = diagnose(run)
    assert (found.verdict, "collapsed" in found.evidence) == ("diverging", True)


@given(SEEDS, SCALES, LENGTHS, st.floats(0.4, 0.9), st.floats(0, 0.1))
def test_alternating_training_losses_are_erratic(seed, scale, points, swing, noise):
    run = history(lambda u: 1.0 + swing * (-1) ** round(u * points), None, points, 1, noise, seed, scale)
    assert diagnose(run).verdict == "erratic"


@given(SEEDS, st.integers(200, 400))
def test_losses_that_scatter_as_widely_as_they_began_are_erratic_and_a_few_outliers_are_not(seed, points):
    assert diagnose(history(falling(), None, points, noise=0.9, seed=seed)).verdict == "erratic"
    run = history(falling(), None, points, noise=0.02, seed=seed)
    for record in run[7::30]:
        record["loss"] *= 5
    assert diagnose(run).verdict == "healthy"


@given(SCALES, st.integers(6, 20), st.floats(0.15, 0.8))
def test_evaluations_that_jump_up_and_down_are_erratic(scale, evals, swing):
    def valid(u):
        return 0.6 * (1 + swing * (-1) ** round(u * evals))

    run = history(falling(), valid, evals=evals, scale=scale)
    assert diagnose(run).verdict == "erratic"


def test_validation_that_worsens_though_training_stands_still_is_erratic_not_overfitting():
    run = history(lambda u: 0.7 - 0.4 * min(u, 0.3), valley(0.4, 0.3, 0.5), evals=10)
    assert diagnose(run).verdict == "erratic"


@given(SEEDS, st.floats(1e-6, 1e6), st.integers(8, 60), st.integers(0, 12), st.sampled_from([0, 0.05, 0.4]))
def test_no_verdict_depends_on_the_scale_of_the_loss(seed, scale, points, evals, noise):
    rng = np.random.default_rng(seed)
    walk, valid = np.abs(1 + np.cumsum(rng.normal(0, 0.1, 61))), np.abs(1 + np.cumsum(rng.normal(0, 0.1, 13)))
    plain, scaled = (
        history(
            lambda u: walk[round(u * points)],
            (lambda u: valid[round(u * evals)]) if evals else None,
            points,
            max(evals, 1),
            noise,
            seed,
            factor,
        )
        for factor in (1.0, scale)
    )
    assert diagnose(plain).verdict == diagnose(scaled).verdict


@settings(max_examples=200)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"step": st.integers(0, 50)},
            optional={
                key: st.one_of(st.none(), st.floats(), st.integers(-5, 5), st.just("x"))
                for key in ("loss", "eval_loss", "eval_accuracy", "eval_mse", "learning_rate", "epoch", "train_loss")
            },
        ),
        max_size=40,
    )
)
def test_any_history_gets_a_verdict_in_words(records):
    found = diagnose(records)
    assert found.paragraph.startswith(found.verdict.capitalize() + ". ")
    assert found.evidence.endswith((".", "worse.")) and found.advice.endswith(".")
    assert "\n" not in found.paragraph


def test_short_histories_say_what_is_known():
    found = diagnose([{"step": 10, "loss": 0.69}, {"step": 20, "eval_loss": 0.61}])
    assert found.verdict == "too short"
    assert "1 training loss (0.69 at step 10)" in found.evidence
    assert "0.61 at step 20" in found.evidence
    assert diagnose([]).verdict == "too short"
    few = history(lambda u: 0.7 - 0.5 * u, valley(0.4, 0.4, 0.6), points=2, evals=3, every=500)
    assert diagnose(few).verdict == "overfitting"  # three evaluations are enough


def test_a_verdict_without_validation_says_what_it_cannot_see():
    assert "overfitting cannot be seen" in diagnose(history(falling())).evidence


@pytest.mark.parametrize(("end", "words"), [(0.9, "over-confident"), (0.7, "accuracy went from 0.8")])
def test_overfitting_tells_over_confident_from_worse(end, words):
    run = history(
        lambda u: 0.7 - 0.6 * u, valley(0.4, 0.5), metrics={"accuracy": lambda u: 0.8 + (end - 0.8) * (u - 0.5) * 2}
    )
    found = diagnose(run)
    assert found.verdict == "overfitting"
    assert words in found.evidence
    assert ("metric_for_best_model='accuracy'" in found.advice) == (end > 0.8)


def test_advice_names_the_learning_rate_of_the_run():
    assert "now 4.9e-05" in diagnose(history(lambda u: 0.7 + 3 * u)).advice


def test_a_diagnosis_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        diagnose([]).verdict = "healthy"


# ------------------------------------------------------------------------------------------------------ history


def test_a_history_comes_back_as_it_was_written(tmp_path):
    records = [*history(falling(), falling(0.3)), {"step": 600, "train_runtime": 3.0, "note": "zum Schluß"}]
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in records) + "\n\n", encoding="utf-8")
    assert read_history(path) == read_history(str(tmp_path)) == records


@given(st.data())
def test_a_file_cut_at_any_byte_gives_all_whole_records(tmp_path_factory, data):
    records = [{"step": i, "loss": 0.5, "text": "é"} for i in range(4)]
    whole = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode()
    cut = data.draw(st.integers(0, len(whole)))
    path = tmp_path_factory.mktemp("cut") / "metrics.jsonl"
    path.write_bytes(whole[:cut])
    got = read_history(path)
    complete = whole[:cut].count(b"\n")
    assert got[:complete] == records[:complete]
    assert len(got) - complete in (0, 1) and got == records[: len(got)]


def test_a_torn_last_line_is_said(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(notices.logger, "propagate", True)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo')
    with caplog.at_level(logging.INFO, logger="unpad"):
        assert len(read_history(tmp_path)) == 1
    assert "line 2" in caplog.text


@pytest.mark.parametrize("broken", ['{"step": 1, "lo', "[1]", "3", "\udcff"])
def test_a_broken_line_elsewhere_is_named_by_its_number(tmp_path, broken):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n\n' + broken + '\n{"step": 2}\n', errors="surrogateescape")
    with pytest.raises(DataError, match="line 3 of") as caught:
        read_history(path)
    assert "\n" not in str(caught.value)


def test_a_missing_history_is_one_clear_line(tmp_path):
    with pytest.raises(DataError, match="cannot read the history"):
        read_history(tmp_path)


def test_of_records_of_one_step_the_last_counts():
    steps, values = series([{"step": 20, "loss": 3}, {"step": 10, "loss": 2}, {"step": 20, "loss": 1}], "loss")
    assert (steps.tolist(), values.tolist()) == ([10, 20], [2, 1])


def test_the_best_record_is_the_earliest_best_finite_one():
    run = [
        {"step": s, "eval_f1": f, "eval_loss": v}
        for s, f, v in [(1, 0.5, 2.0), (2, 0.9, 1.0), (3, 0.9, 1.0), (4, math.nan, math.nan)]
    ]
    assert best_record(run, "f1")["step"] == 2
    assert best_record(run, "eval_loss")["step"] == 2
    assert best_record(run, "f1", greater_is_better=False)["step"] == 1
    assert best_record(run, "eval_loss", greater_is_better=True)["step"] == 1
    assert best_record(run, "accuracy") is None


@given(st.lists(st.floats(), max_size=200), st.integers(1, 80))
def test_a_sparkline_fits_its_width(values, width):
    line = sparkline(values, width)
    assert len(line) == min(len(values), width)
    assert set(line) <= set("▁▂▃▄▅▆▇█·")


def test_a_sparkline_follows_its_values():
    assert sparkline(range(8)) == "▁▂▃▄▅▆▇█"
    assert sparkline([1, 1, math.nan, None]) == "▄▄··"


# ------------------------------------------------------------------------------------------------------ pictures

PICTURES = {
    "nothing": [],
    "one step": [{"step": 10, "epoch": 0.1, "loss": 0.69, "learning_rate": 5e-5}],
    "step zero": [{"step": 0, "epoch": 0, "loss": 0.69, "eval_loss": 1.0}],
    "one evaluation only": [{"step": 10, "epoch": 1.0, "eval_loss": 0.5, "eval_accuracy": 0.7}],
    "no validation": history(falling()),
    "not finite": [*history(falling()), {"step": 610, "loss": math.nan}, {"step": 620, "loss": None}],
    "all not finite": [{"step": s, "loss": math.nan, "eval_f1": math.nan} for s in (1, 2, 3)],
    "constant": history(lambda u: 0.0, lambda u: 0.0, metrics={"accuracy": lambda u: 1.0}),
    "huge": history(lambda u: 10.0 ** (6 * u), lambda u: 1.0),
    "no epochs": [{"step": s, "loss": 1 / s} for s in range(1, 30)],
    **{
        f"{n} metrics": history(falling(), valley(), metrics={f"m{i}": falling(1, 3) for i in range(n)})
        for n in (1, 2, 3, 4, 7)
    },
}


def panels(records, **options):
    """Y labels of the panels of the picture, and all texts in it."""
    figure = curves._figure(records, options.get("best_step"), options.get("best_metric"))
    texts = [t.get_text() for axis in figure.axes for t in axis.texts]
    return [axis.get_ylabel().replace("\n", " ") for axis in figure.axes], texts


@pytest.mark.parametrize("name", PICTURES)
def test_every_history_gives_valid_pictures_and_nothing_else(tmp_path, name):
    from PIL import Image

    paths = draw(PICTURES[name], tmp_path / "new" / "folder")
    assert [p.name for p in paths] == ["curves.png", "curves.svg"]
    assert sorted((tmp_path / "new" / "folder").iterdir()) == paths
    with Image.open(paths[0]) as image:
        image.load()
        assert min(image.size) > 400
    assert ET.parse(paths[1]).getroot().tag.endswith("svg")


def test_each_metric_has_its_panel_at_most_six_in_all():
    assert panels(PICTURES["2 metrics"])[0] == ["loss", "m0", "m1", "learning rate"]
    assert panels(PICTURES["7 metrics"])[0] == ["loss", "m0", "m1", "m2", "m3", "learning rate"]
    assert "m6" in panels(PICTURES["7 metrics"], best_metric="m6")[0]
    assert panels(PICTURES["no epochs"])[0] == ["loss"]


def test_the_best_step_is_marked_and_named():
    run = history(falling(), valley(0.4, 0.5), metrics={"f1": lambda u: 0.5 + 0.3 * u})
    assert panels(run)[1] == ["best: step 300\nloss 0.4"]
    assert panels(run, best_metric="f1")[1] == ["best: step 600\nf1 0.8"]
    assert panels(run, best_metric="eval_f1", best_step=400)[1] == ["best: step 400\nf1 0.7"]
    assert panels(run, best_step=123)[1] == ["best: step 123"]
    figure = curves._figure(run, 400, None)
    assert all(any(list(line.get_xdata()) == [400, 400] for line in axis.get_lines()) for axis in figure.axes)


def test_a_failed_drawing_leaves_the_earlier_picture(tmp_path, monkeypatch):
    draw(PICTURES["one step"], tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    from matplotlib.figure import Figure

    def full(self, path, **_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OSError):
        draw(PICTURES["no validation"], tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_drawing_leaves_no_global_state_and_reading_needs_no_matplotlib(tmp_path):
    code = (
        "import sys; from unpad.train import curves; curves.diagnose([]); assert 'matplotlib' not in sys.modules;"
        "import matplotlib; before = dict(matplotlib.rcParams); backend = matplotlib.get_backend(auto_select=False);"
        f"curves.draw([{{'step': 1, 'loss': 1.0}}], {str(tmp_path)!r});"
        "assert dict(matplotlib.rcParams) == before; assert 'matplotlib.pyplot' not in sys.modules;"
        "assert matplotlib.get_backend(auto_select=False) == backend"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MPLBACKEND": "pdf"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_validation_loss_that_never_moves_is_not_healthy() -> None:
    flat = [{"step": 10 * i, "epoch": i, "eval_loss": 0.701 - 0.0001 * i} for i in range(1, 5)]
    assert diagnose(flat).verdict == "underfitting"
