"""In a notebook a run is one output, replaced as it goes on: a bar and the table of its history. `show` is a data set as a table."""

from __future__ import annotations

import html
import re
import sys
import types
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_tiny import trainer

from unpad import ArgumentError, DataError, show
from unpad.train import notebook
from unpad.train.notebook import in_notebook, table
from unpad.train.state import TrainerState


class Output:
    """What `IPython.display.display` gives back: keeps everything that the cell was told to show."""

    def __init__(self, data: dict[str, str]) -> None:
        self.shown = [data]

    def update(self, data: dict[str, str], raw: bool = False) -> None:
        assert raw
        self.shown.append(data)


def ipython(monkeypatch: pytest.MonkeyPatch, shell: Any) -> list[Output]:
    """Pretend that IPython runs with this shell; the outputs that its cells got."""
    outputs: list[Output] = []

    def display(data: dict[str, str], raw: bool = False, display_id: bool = False) -> Output:
        assert raw and display_id
        outputs.append(Output(data))
        return outputs[-1]

    package, module = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    package.get_ipython = lambda: shell  # type: ignore[attr-defined]
    module.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return outputs


def shell(name: str, config: dict[str, Any]) -> Any:
    return type(name, (), {"config": config})()


def cells(data: dict[str, str]) -> list[list[str]]:
    """The table of an output, read from its HTML."""
    rows = re.findall("<tr.*?</tr>", data["text/html"])
    return [[html.unescape(cell) for cell in re.findall("<t[hd]>(.*?)</t[hd]>", row)] for row in rows]


@pytest.mark.parametrize(
    ("running", "expected"),
    [
        (None, False),
        (shell("ZMQInteractiveShell", {}), True),
        (shell("Shell", {"IPKernelApp": {}}), True),
        (shell("TerminalInteractiveShell", {"TerminalIPythonApp": {}}), False),
    ],
)
def test_only_the_kernel_of_a_notebook_is_a_notebook(
    monkeypatch: pytest.MonkeyPatch, running: Any, expected: bool
) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
    ipython(monkeypatch, running)
    assert in_notebook() is expected


def test_a_run_is_one_output_whose_table_is_the_history(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    outputs = ipython(monkeypatch, shell("ZMQInteractiveShell", {}))
    run = trainer(str(tmp_path), 6, disable_tqdm=False)
    run.train()
    [output] = outputs
    headings, *rows = cells(output.shown[-1])
    assert headings == ["Step", "Training Loss", "Validation Loss", "Accuracy"]
    assert [row[0] for row in rows] == ["3", "6"]
    for row, record in zip(rows, [r for r in run.state.log_history if "eval_loss" in r], strict=True):
        assert row[2:] == [f"{record['eval_loss']:.6f}", f"{record['eval_accuracy']:.6f}"]
    assert "value='6' max='6'" in output.shown[-1]["text/html"] and "[6/6 " in output.shown[-1]["text/plain"]
    seen = [len(cells(data)) for data in output.shown]
    assert seen[0] == 0 and seen == sorted(seen), "rows come one by one"


def test_a_run_that_continues_shows_its_earlier_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trainer(str(tmp_path), 8, load_best_model_at_end=False, max_steps=8).train()
    (tmp_path / "checkpoint-8").rename(tmp_path / "gone")
    outputs = ipython(monkeypatch, shell("ZMQInteractiveShell", {}))
    trainer(str(tmp_path), 8, load_best_model_at_end=False, disable_tqdm=False).train(resume_from_checkpoint=True)
    assert [row[0] for row in cells(outputs[0].shown[0])[1:]] == ["3", "6"]


def test_a_terminal_keeps_its_bar(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = ipython(monkeypatch, None)
    trainer(str(tmp_path), 3, disable_tqdm=False).train()
    shown = capsys.readouterr()
    assert not outputs and "3/3" in shown.err
    assert re.search(r"step 3: eval_loss \d\.\d{4}  eval_accuracy \d\.\d{4}", shown.out + shown.err)


def test_epochs_with_evaluations_give_the_table_that_people_know() -> None:
    history = [
        {"epoch": 1.0, "step": 459, "eval_loss": 0.557327, "eval_accuracy": 0.806373, "eval_f1": 0.872375, "eval_runtime": 4.0},
        {"epoch": 1.09, "step": 500, "loss": 0.5527, "grad_norm": 1.0, "learning_rate": 3e-5},
        {"epoch": 2.0, "step": 918, "eval_loss": 0.45804, "eval_accuracy": 0.862745, "eval_f1": 0.903448, "eval_samples_per_second": 9.0},
        {"epoch": 2.0, "step": 918, "train_loss": 0.5, "train_runtime": 1.0},
    ]  # fmt: skip
    assert table(history, "epoch") == [
        {"Epoch": 1, "Training Loss": "No log", "Validation Loss": 0.557327, "Accuracy": 0.806373, "F1": 0.872375},
        {"Epoch": 2, "Training Loss": 0.5527, "Validation Loss": 0.45804, "Accuracy": 0.862745, "F1": 0.903448},
    ]


@given(st.lists(st.tuples(st.integers(1, 9), st.floats(0, 9))))
def test_without_evaluations_each_logged_loss_is_a_row(logged: list[tuple[int, float]]) -> None:
    history = [{"step": step, "epoch": 0.1, "loss": loss} for step, loss in logged]
    assert table(history) == [{"Step": step, "Training Loss": loss} for step, loss in logged]


def test_names_of_metrics_are_text_and_long_tables_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = ipython(monkeypatch, None)
    history = [{"step": n, "epoch": 1.0, "eval_loss": 1.0, "eval_<b>x_y": n} for n in range(notebook.MOST_ROWS + 7)]
    arguments = types.SimpleNamespace(eval_strategy="steps", max_steps=9, num_train_epochs=3.0)
    notebook.NotebookView(arguments, TrainerState(max_steps=9, log_history=history))  # type: ignore[arg-type]
    data = outputs[0].shown[0]
    assert "<b>" not in data["text/html"] and cells(data)[0][-1] == "<b>x Y"
    assert len(cells(data)) == notebook.MOST_ROWS + 1 and cells(data)[-1][0] == str(len(history) - 1)
    assert "7 earlier rows" in data["text/html"]


# ---- data sets


def tagged() -> datasets.Dataset:
    names = datasets.ClassLabel(names=["not_equivalent", "equivalent"])
    kinds = datasets.Features({"text": datasets.Value("string"), "label": names, "tags": datasets.Sequence(names)})
    rows = {"text": ["x" * 200, "short", "third"], "label": [1, 0, -1], "tags": [[0, 1], [], [1]]}
    return datasets.Dataset.from_dict(rows, features=kinds)


@pytest.mark.parametrize("form", [None, "torch", "numpy", "pandas", "stream"])
def test_show_names_labels_and_shortens_texts_whatever_the_format(form: str | None) -> None:
    data = tagged()
    frame = show(data.to_iterable_dataset() if form == "stream" else data.with_format(form), width=20)
    assert list(frame.columns) == ["text", "label", "label_name", "tags", "tags_name"]
    assert frame["text"].tolist() == ["x" * 19 + "…", "short", "third"]
    assert frame["label"].tolist() == [1, 0, -1]
    assert [None if pd.isna(name) else name for name in frame["label_name"]] == ["equivalent", "not_equivalent", None]
    assert frame["tags_name"].tolist() == [["not_equivalent", "equivalent"], [], ["equivalent"]]
    assert len(show(data, rows=2)) == 2


def test_show_refuses_what_is_no_split_in_one_line() -> None:
    data = tagged()
    with pytest.raises(DataError, match=r"this has train, test; pass one of them, as in data\['train'\]"):
        show(datasets.DatasetDict({"train": data, "test": data}))
    with pytest.raises(DataError, match=r"not a list"):
        show([1, 2])
    with pytest.raises(ArgumentError, match="rows=0"):
        show(data, rows=0)


def test_a_split_is_a_frame_in_the_ways_that_people_write() -> None:
    data = tagged()
    for frame in (pd.DataFrame(data), data.to_pandas(), data.with_format("pandas")[:]):
        assert frame["text"].tolist() == data["text"][:] and frame["label"].tolist() == [1, 0, -1]
