"""The command line: options from dataclasses, one line for every mistake, runs that can be repeated and continued."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import string
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unpad.cli import __main__ as entry
from unpad.cli._data import load_splits, slug
from unpad.cli._options import Command, options_of
from unpad.cli._run import read_config, to_yaml
from unpad.cli.doctor import examine
from unpad.cli.train import command as train_command
from unpad.errors import ArgumentError, DataError

SRC = Path(__file__).resolve().parents[2] / "src"


# ---- a model and data that are small enough to train in a moment


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a BERT checkpoint with random weights and one token per letter."""
    import torch

    from unpad import AutoTokenizer, BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny")
    letters = list(string.ascii_lowercase + string.digits + ".,!?'-")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(folder / "vocab.txt")).save_pretrained(folder)
    return str(folder)


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A folder with 40 training and 12 validation rows."""
    folder = tmp_path / "data"
    folder.mkdir()
    for split, count in (("train", 40), ("validation", 12)):
        rows = [
            {"text": f"{'bad' if i % 3 else 'fine'} thing {i}", "label": "minus" if i % 3 else "plus"}
            for i in range(count)
        ]
        write_csv(folder / f"{split}.csv", rows)
    return str(folder)


Train = Callable[..., int]


@pytest.fixture
def train(tiny: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """`unpad train` on the tiny model and data in two epochs of five steps, with further words."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> int:
        fixed = ["--model", tiny, "--data", data, "--num_train_epochs", "2", "--draw_curves", "false", "--disable_tqdm"]
        return entry.main(["train", "text-classification", *fixed, "--learning_rate", "1e-3", *words])

    return run


def weights(folder: str | Path) -> bytes:
    return (Path(folder) / "model.safetensors").read_bytes()


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The error that was shown: exactly one line, and no traceback."""
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("unpad: error: ")]
    assert len(lines) == 1 and "Traceback" not in said, said
    assert said.splitlines()[-1] == lines[0]
    return lines[0]


# ---- options


@dataclasses.dataclass
class Sample:
    """Options of every kind."""

    text: str | None = None
    """A text."""
    name: str = "plain"
    """A name."""
    rate: float = 5e-5
    """A rate."""
    steps: int | None = None
    """Steps."""
    fast: bool = False
    """Fast."""
    words: list[str] | None = None
    """Words."""


def sample() -> Command:
    return Command(
        "sample", "About.", {"options": options_of(Sample)}, {"task": "what to do"}, aliases={"old_rate": "rate"}
    )


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--rate", "3e-5"], "rate", 3e-5),
        (["--rate=-1"], "rate", -1.0),
        (["--rate", "-1"], "rate", -1.0),
        (["--old-rate", "2"], "rate", 2.0),
        (["--steps", "7"], "steps", 7),
        (["--steps", "none"], "steps", None),
        (["--fast"], "fast", True),
        (["--no-fast"], "fast", False),
        (["--fast", "yes"], "fast", True),
        (["--fast=0"], "fast", False),
        (["--words", "a,b"], "words", ["a", "b"]),
        (["--words", "a"], "words", ["a"]),
        (["--text", "- a: {b"], "text", "- a: {b"),
        (["--text", "007"], "text", "007"),
        (["--text", ""], "text", ""),
        (["--text", "--weird"], "text", "--weird"),
        (["--text", "null"], "text", None),
        (["--text", "NULL"], "text", "NULL"),
        (["--text", "~"], "text", "~"),
        (["--name", "null"], "name", "null"),
    ],
)  # fmt: skip
def test_a_flag_means_what_it_says(words: list[str], name: str, value: Any) -> None:
    assert sample().parse(["do", *words])[name] == value
    assert sample().parse([*words, "do"]) == sample().parse(["do", *words]), "the place of TASK does not matter"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["do", "--rat", "1"], "there is no option --rat; did you mean --rate?"),
        (["do", "--rate", "fast"], "rate='fast' is not a number; the default is 5e-05"),
        (["do", "--steps", "1.5"], "steps='1.5' is not a whole number or null"),
        (["do", "--fast=maybe"], "fast='maybe' is not true or false"),
        (["do", "--rate"], "--rate needs a value: a number"),
        (["do", "--rate", "--fast"], "--rate needs a value: a number"),
        (["do", "more"], "'more' is one word too many"),
        (["-x", "do"], "there is no option '-x'"),
        ([], "TASK is missing"),
        (["do", "--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)  # fmt: skip
def test_a_mistake_in_an_option_is_one_line_that_says_what_is_allowed(words: list[str], said: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        sample().parse(words)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("rat: 1\n", "there is no option 'rat'; did you mean 'rate'?"),
        ("rate: fast\n", "rate='fast' is not a number"),
        ("- rate: [\n", "is not a YAML file of options"),
        ("- rate\n", "is not a YAML file of options"),
        ("", "is not a YAML file of options"),
    ],
)
def test_a_mistake_in_a_yaml_file_names_the_file_or_the_key(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(content)
    with pytest.raises(ArgumentError) as caught:
        sample().parse(["do", "--config", str(file)])
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("first", [True, False])
def test_flags_win_over_the_yaml_file_wherever_it_stands(tmp_path: Path, first: bool) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("rate: 3e-4\nsteps: 5\ntask: other\n")
    config, flag = ["--config", str(file)], ["--rate", "1"]
    parsed = sample().parse(["do", *config, *flag] if first else ["do", *flag, *config])
    assert (parsed["rate"], parsed["steps"], parsed["task"]) == (1.0, 5, "do")
    assert sample().parse(config)["task"] == "other"


_TEXTS = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00\x85", exclude_categories=["Cs", "Cc"]), max_size=12
)


@settings(max_examples=40, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "name": _TEXTS,
            "text": st.none() | _TEXTS | st.sampled_from(["null", "NULL", "~", "#", "1", "0E0", "yes"]),
            "rate": st.floats(allow_nan=False, allow_infinity=False),
            "steps": st.none() | st.integers(-(10**6), 10**6),
            "fast": st.booleans(),
            "words": st.none() | st.lists(st.sampled_from(["a", "b c", "1"]), max_size=3),
        }
    )
)
def test_options_survive_the_way_through_a_yaml_file(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    file = tmp_path_factory.mktemp("yaml") / "run.yaml"
    file.write_text(to_yaml({"task": "do", **values}), encoding="utf-8")
    assert sample().parse(["--config", str(file)]) == {"task": "do", **values}


# ---- exit codes


def test_without_a_command_the_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in entry.COMMANDS)


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["trian"]) == 2
    assert "did you mean 'train'" in one_line(capsys)


def _raising(error: BaseException) -> Callable[[list[str]], int]:
    def dispatch(_: list[str]) -> int:
        raise error

    return dispatch


def test_a_mistake_of_the_user_is_one_line_and_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(entry, "_dispatch", _raising(DataError("row 3\nis wrong")))
    assert entry.main(["train"]) == 2
    assert capsys.readouterr().err == "unpad: error: row 3 is wrong\n"


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "_dispatch", _raising(KeyError("ours")))
    with pytest.raises(KeyError):
        entry.main(["train"])


def test_control_c_is_code_130_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(entry, "_dispatch", _raising(KeyboardInterrupt()))
    assert entry.main(["train"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error() -> None:
    code = (
        "import sys\nfrom unpad.cli import __main__ as m\n"
        "def run(_):\n    while True:\n        print('x' * 9999)\n"
        "m._dispatch = run\nsys.exit(m.main(['train']))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SRC)},
    )
    assert child.stdout is not None and child.stderr is not None
    child.stdout.read(10)
    child.stdout.close()
    assert child.wait(60) == 141
    assert child.stderr.read() == b""
    child.stderr.close()


# ---- data of a run


def test_a_tenth_is_held_out_and_said_where_there_is_no_validation_split(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_csv(tmp_path / "all.csv", [{"text": f"row {i}", "label": i % 2} for i in range(50)])
    caplog.set_level("INFO", "unpad")
    one, two, other = (load_splits(str(file), None, "train", None, None, seed) for seed in (1, 1, 2))
    kept, held = list(one.train["text"]), list(one.eval["text"])
    assert len(held) == 5 and sorted(kept + held) == sorted(f"row {i}" for i in range(50))
    assert held == list(two.eval["text"]) != list(other.eval["text"])
    assert "5 of its 50 training rows" in caplog.text and "--eval_split" in caplog.text


def test_a_test_split_is_never_taken_for_choosing_a_model() -> None:
    splits = load_splits("helpdesk/pairs", None, "train", None, None, 0)
    assert splits.eval_name == "validation" and splits.others == ("test",)


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [("helpdesk/pairs", None, "helpdesk-pairs"), ("nyu-mll/glue", "mrpc", "nyu-mll-glue-mrpc"), ("../my/Tickets v2.csv.gz", None, "tickets-v2"),
     ("/tmp/set/", None, "set")],
)  # fmt: skip
def test_a_run_is_named_after_its_data(data: str, name: str | None, expected: str) -> None:
    assert slug(data, name) == expected


# ---- train


def test_a_run_shows_its_figures_its_examples_and_how_to_go_on(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--output_dir", "out", "--draw_curves", "true") == 0
    shown = capsys.readouterr().out
    for word in ("accuracy", "loss", "diagnosis", "examples", "truth:", "unpad predict --model out", "out/curves.png"):
        assert word in shown
    assert Path("out/curves.png").stat().st_size > 5000
    assert len(read_config("out")) > 40


def test_the_kept_configuration_makes_the_same_run_bit_for_bit(train: Train) -> None:
    assert train("--output_dir", "one", "--weight_decay", "0.1", "--seed", "7") == 0
    assert entry.main(["train", "text-classification", "--config", "one/config.yaml", "--output_dir", "two"]) == 0
    assert weights("one") == weights("two")
    one, two = read_config("one"), read_config("two")
    assert {k for k in one if one[k] != two[k]} == {"output_dir"}


def test_another_seed_makes_another_run(train: Train) -> None:
    assert train("--output_dir", "one", "--seed", "1") == train("--output_dir", "two", "--seed", "2") == 0
    assert weights("one") != weights("two")


def test_a_stopped_run_continues_and_ends_like_one_that_was_not(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from unpad.train.run_folder import RunFolder

    assert train("--output_dir", "whole") == 0
    save = RunFolder.save

    def stop_after(self: RunFolder, *args: Any) -> Path:
        save(self, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "save", stop_after)
    capsys.readouterr()
    assert train("--output_dir", "cut") == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert "stopped at step 5" in said and "unpad train text-classification --output_dir cut --resume" in said
    monkeypatch.setattr(RunFolder, "save", save)
    assert entry.main(said.split("with: unpad ")[1].split()) == 0
    assert weights("cut") == weights("whole")


def test_a_folder_with_another_run_is_refused_and_kept(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--output_dir", "out") == 0
    before = weights("out")
    assert train("--output_dir", "out", "--seed", "9") == 2
    line = one_line(capsys)
    for word in ("text-classification", "seed 42", "step 10", "--resume", "--overwrite_output_dir", "--output_dir"):
        assert word in line
    assert weights("out") == before
    assert train("--output_dir", "out", "--seed", "9", "--overwrite_output_dir") == 0
    assert weights("out") != before


def test_a_run_does_not_overwrite_the_model_that_it_starts_from(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--output_dir", "out") == 0
    assert train("--model", "out", "--output_dir", "out", "--overwrite_output_dir") == 2
    assert "another --output_dir" in one_line(capsys)


def test_continuing_with_another_recipe_is_refused_and_leaves_the_run_alone(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--output_dir", "out") == 0
    kept = Path("out/config.yaml").read_text()
    assert train("--output_dir", "out", "--resume", "--learning_rate", "0.5") == 2
    assert "learning_rate" in one_line(capsys)
    assert Path("out/config.yaml").read_text() == kept


def test_a_run_with_new_labels_starts_from_the_weights_of_an_earlier_one(train: Train, tmp_path: Path) -> None:
    assert train("--output_dir", "out") == 0
    rows = [{"text": f"thing {i}", "label": "abc"[i % 3]} for i in range(30)]
    three = write_csv(tmp_path / "three.csv", rows)
    assert train("--model", "out", "--data", str(three), "--output_dir", "more", "--max_steps", "2") == 0
    assert json.loads(Path("more/config.json").read_text())["id2label"] == {"0": "a", "1": "b", "2": "c"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "nowhere.csv"], "nowhere.csv"),
        (["--data", "helpdesk/pears"], "did you mean 'pairs'"),
        (["--train_split", "trian"], "did you mean 'train'"),
        (["--eval_split", "valid"], "validation"),
        (["--text_column", "txt"], "txt"),
        (["--label_column", "labl"], "labl"),
        (["--model", "./nowhere"], "nowhere"),
        (["--learning_rate", "-1"], "learning_rate"),
        (["--eval_strategy", "epochs"], "did you mean 'epoch'"),
        (["--learning_rat", "1"], "--learning_rate"),
        (["--load_best_model_at_end", "--metric_for_best_model", "bleu"], "bleu"),
        (["--early_stopping_patience", "0"], "patience"),
    ],
)  # fmt: skip
def test_bad_input_of_training_is_one_line_and_leaves_no_run_behind(
    train: Train, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert train("--output_dir", "out", *words) == 2
    assert said in one_line(capsys)
    assert not Path("out/model.safetensors").exists()


@pytest.mark.parametrize(
    ("content", "said"), [("text,label\n", "row"), ("text\nonly texts\n", "label"), ("label\na\nb\n", "text")]
)
def test_unusable_data_are_one_line(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, said: str
) -> None:
    (tmp_path / "odd.csv").write_text(content)
    assert train("--data", str(tmp_path / "odd.csv"), "--output_dir", "out") == 2
    assert said in one_line(capsys)


def test_an_unknown_task_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["train", "text-clasification"]) == 2
    assert "text-classification" in one_line(capsys)


def test_log_lines_come_about_twenty_times_per_epoch_unless_said(train: Train, tmp_path: Path) -> None:
    big = write_csv(tmp_path / "big.csv", [{"text": f"thing {i}", "label": "ab"[i % 2]} for i in range(400)])
    assert (
        train(
            "--data", str(big), "--output_dir", "out", "--num_train_epochs", "1", "--per_device_train_batch_size", "4"
        )
        == 0
    )
    records = [json.loads(line) for line in Path("out/metrics.jsonl").read_text().splitlines()]
    assert 15 <= sum("loss" in r for r in records) <= 25
    assert train("--output_dir", "own", "--logging_steps", "5") == 0
    assert read_config("own")["logging_steps"] == 5


# ---- evaluate, predict, curves


def test_evaluate_gives_the_figures_that_training_ended_with(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--output_dir", "out") == 0
    history = Path("out/metrics.jsonl").read_text()
    final = [r for r in map(json.loads, history.splitlines()) if "eval_accuracy" in r][-1]
    assert entry.main(["evaluate", "--model", "out"]) == 0
    found = json.loads(Path("out/evaluation.json").read_text())
    assert found["metrics"]["accuracy"] == final["eval_accuracy"]
    assert found["metrics"]["loss"] == pytest.approx(final["eval_loss"], rel=1e-5)
    assert (found["split"], found["rows"]) == ("validation", 12)
    assert Path("out/metrics.jsonl").read_text() == history, "judging a model does not change its history"


def test_evaluate_judges_the_rows_that_the_run_held_out(train: Train, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "all.csv", [{"text": f"{'ab'[i % 2]} {i}", "label": "ab"[i % 2]} for i in range(60)])
    assert train("--data", str(file), "--output_dir", "out") == 0
    final = [r for r in map(json.loads, Path("out/metrics.jsonl").read_text().splitlines()) if "eval_loss" in r][-1]
    assert entry.main(["evaluate", "--model", "out"]) == 0
    found = json.loads(Path("out/evaluation.json").read_text())
    assert found["rows"] == 6 and found["metrics"]["loss"] == pytest.approx(final["eval_loss"], rel=1e-5)


def test_evaluate_numbers_labels_as_the_model_does(train: Train, tmp_path: Path, data: str) -> None:
    """A file that holds only one of the labels, in which sorting would give it another number."""
    assert train("--output_dir", "out") == 0
    rows = [{"text": "fine thing", "label": "plus"}, {"text": "fine day", "label": "plus"}]
    one, both = (
        write_csv(tmp_path / "one.csv", rows),
        write_csv(tmp_path / "both.csv", [*rows, {"text": "bad", "label": "minus"}]),
    )
    losses = []
    for file, split in ((one, "train"), (both, "train[:2]")):
        assert (
            entry.main(["evaluate", "--model", "out", "--data", str(file), "--split", split, "--output_dir", "ev"]) == 0
        )
        losses.append(json.loads(Path("ev/evaluation.json").read_text())["metrics"]["loss"])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("command", ["evaluate", "predict", "curves"])
def test_a_model_that_is_not_there_is_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = {"evaluate": ["--model", "./gone"], "predict": ["--model", "./gone", "--text", "x"], "curves": ["./gone"]}
    assert entry.main([command, *words[command]]) == 2
    assert "gone" in one_line(capsys)


def test_predictions_are_json_lines_in_the_order_of_the_texts(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train("--output_dir", "out") == 0
    texts = ["a long text with many words in it", "", "null", "Null", "short", "é ü 漢"]
    write_csv(tmp_path / "ask.csv", [{"text": text, "extra": 1} for text in texts])
    capsys.readouterr()
    assert entry.main(["predict", "--model", "out", "--data", str(tmp_path / "ask.csv")]) == 0
    of_file = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in of_file] == texts
    assert all(row["label"] in ("minus", "plus") and 0.5 <= row["score"] <= 1 for row in of_file)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(texts) + "\n"))
    assert entry.main(["predict", "--model", "out", "--text", "-"]) == 0
    of_lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["text"], row["label"]) for row in of_lines] == [(row["text"], row["label"]) for row in of_file]
    for text, expected in zip(texts, of_file, strict=True):
        assert entry.main(["predict", "--model", "out", "--text", text]) == 0
        alone = json.loads(capsys.readouterr().out)
        assert (alone["text"], alone["label"]) == (expected["text"], expected["label"])


def test_all_labels_are_given_when_asked_for(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--output_dir", "out") == 0
    capsys.readouterr()
    assert entry.main(["predict", "--model", "out", "--text", "hello", "--top_k", "0"]) == 0
    answers = json.loads(capsys.readouterr().out)["answers"]
    assert {a["label"] for a in answers} == {"minus", "plus"}
    assert sum(a["score"] for a in answers) == pytest.approx(1, abs=1e-4)


def test_answers_to_a_file_appear_whole(
    train: Train, tmp_path: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--output_dir", "out") == 0
    words = ["predict", "--model", "out", "--data", data, "--split", "validation", "--output", "new/answers.jsonl"]
    assert entry.main(words) == 0
    assert [p.name for p in Path("new").iterdir()] == ["answers.jsonl"]
    assert len(Path("new/answers.jsonl").read_text().splitlines()) == 12


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--text"),
        (["--text", "a", "--data", "b.csv"], "--text"),
        (["--data", "nowhere.csv", "--task", "text-classification"], "nowhere.csv"),
        (["--text", "a", "--top_k", "-1"], "top_k"),
        (["--text", "a", "--top_k", "x"], "top_k"),
    ],
)  # fmt: skip
def test_bad_input_of_predict_is_one_line(
    tiny: str, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert entry.main(["predict", "--model", tiny, *words]) == 2
    assert said in one_line(capsys)


def test_a_line_without_a_tab_is_named_when_the_model_takes_pairs(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"sentence1": f"a {i}", "sentence2": f"b {i}", "label": "ab"[i % 2]} for i in range(20)]
    assert train("--data", str(write_csv(tmp_path / "pairs.csv", rows)), "--output_dir", "out", "--max_steps", "2") == 0
    capsys.readouterr()
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\ttwo\n"))
    assert entry.main(["predict", "--model", "out", "--text", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["text_pair"] == "two"
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\ttwo\nalone\n"))
    assert entry.main(["predict", "--model", "out", "--text", "-"]) == 2
    assert "line 2" in one_line(capsys)


def test_curves_are_drawn_again_from_the_history_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [{"step": s, "epoch": s / 10, "loss": 1 / s, "learning_rate": 1e-4} for s in range(1, 21)]
    records += [
        {"step": s, "epoch": s / 10, "eval_loss": 0.5 + (s - 10) ** 2, "eval_f1": s / 40} for s in (5, 10, 15, 20)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    assert entry.main(["curves", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "diagnosis" in shown and "f1" in shown and "▁" in shown
    assert (tmp_path / "curves.png").exists() and (tmp_path / "curves.svg").exists()
    assert entry.main(["curves", str(tmp_path), "--metric", "blue"]) == 2
    assert "f1" in one_line(capsys)


# ---- doctor


def test_doctor_says_what_is_chosen_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    entry.main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["versions"]["unpad"] and found["versions"]["torch"]
    assert set(found["chosen"]) == {"device", "precision", "attention"}
    assert all("(" in found["chosen"][what] for what in ("precision", "attention")), "each choice comes with its reason"


def test_doctor_never_shows_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = examine()
    assert "hf_very_secret" not in json.dumps(found)
    assert found["environment"]["HF_HUB_OFFLINE"] == "1"


def test_every_option_of_train_has_a_type_that_people_can_read() -> None:
    assert all(option.allowed for option in train_command().options.values())
