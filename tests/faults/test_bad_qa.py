"""Questions, contexts, answers and options that cannot be used: one clear line each, from Python and from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import unpad
from unpad.cli.__main__ import main
from unpad.tasks.question_answering import TASK

GOOD = {"question": "Where is it?", "context": "It is in Lisbon.", "answers": {"text": ["Lisbon"], "answer_start": [9]}}  # fmt: skip
LONG = "why " * 40


@pytest.fixture(scope="module")
def tiny(minilm: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random small model of 64 tokens with a real tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = unpad.BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48, max_position_embeddings=64
    )
    unpad.AutoModelForQuestionAnswering.from_config(config).save_pretrained(folder)
    unpad.AutoTokenizer.from_pretrained(minilm).save_pretrained(folder)
    return str(folder)


def refused(call: Any, *parts: str) -> None:
    with pytest.raises(unpad.UnpadError) as error:
        call()
    for part in parts:
        assert part in str(error.value), str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ({"question": ""}, ["the question of row 1 of 'train' is empty"]),
        ({"question": None}, ["the question of row 1 of 'train' is None"]),
        ({"context": "  "}, ["the context of row 1 of 'train' is empty"]),
        ({"context": None}, ["the context of row 1 of 'train' is None (NoneType), not a text"]),
        ({"question": LONG}, ["row 1 of 'train' has 40 tokens", "a window of 48", "stride=12"]),
        ({"answers": {"text": ["Lisbon"], "answer_start": [8]}}, ["row 1 of 'train'", "('Lisbon', 8)", "1 of 3 rows", "bad_answers='drop'"]),
        ({"answers": {"text": ["lisbon"], "answer_start": [9]}}, ["row 1 of 'train'", "'lisbon'"]),
        ({"answers": {"text": ["."], "answer_start": [-1]}}, ["row 1 of 'train'"]),
        ({"answers": {"text": ["Lisbon"], "answer_start": []}}, ["row 1 of 'train'", "None"]),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_used_is_named(minilm: str, row: dict[str, Any], parts: list[str]) -> None:
    raw = unpad.load_dataset([GOOD, {**GOOD, **row}, GOOD])["train"]
    tokenizer = unpad.AutoTokenizer.from_pretrained(minilm)
    refused(lambda: TASK.prepare(raw, tokenizer, TASK.columns(raw), max_length=48), *parts)


def test_contexts_that_are_no_texts_and_missing_columns_are_named(minilm: str) -> None:
    tokenizer = unpad.AutoTokenizer.from_pretrained(minilm)
    numbers = unpad.load_dataset([{**GOOD, "context": 7}])["train"]
    refused(lambda: TASK.prepare(numbers, tokenizer, TASK.columns(numbers)), "row 0", "is 7 (int), not a text")  # fmt: skip
    refused(lambda: TASK.columns(unpad.load_dataset([{"question": "a"}])), "'context'", "text_pair=", "question")  # fmt: skip
    refused(lambda: TASK.columns(unpad.load_dataset([GOOD]), label="answer"), "'answer'", "did you mean 'answers'")  # fmt: skip
    bare = unpad.load_dataset([{"question": "a", "context": "b"}])
    refused(lambda: TASK.columns(bare, labelled=True), "'answers'", "label=")
    refused(lambda: TASK.prepare(bare["train"].select([]), tokenizer, TASK.columns(bare)), "no rows")


def test_nothing_is_left_when_every_answer_is_elsewhere(minilm: str) -> None:
    raw = unpad.load_dataset([{**GOOD, "answers": {"text": ["Lisbon"], "answer_start": [1]}}])["train"]
    tokenizer = unpad.AutoTokenizer.from_pretrained(minilm)
    refused(lambda: TASK.prepare(raw, tokenizer, TASK.columns(raw), bad_answers="drop"), "1 of 1 rows")


def test_settings_outside_their_range_are_named(minilm: str) -> None:
    raw, tokenizer = unpad.load_dataset([GOOD])["train"], unpad.AutoTokenizer.from_pretrained(minilm)
    columns = TASK.columns(raw)
    for settings, parts in (
        ({"stride": 45}, ["stride=45", "below the 45 tokens", "window of 48"]), ({"stride": -1}, ["stride=-1"]),
        ({"stride": 42}, ["row 0", "leaves 41", "stride=42"]),
        ({"bad_answers": "skip"}, ["bad_answers='skip'", "'error', 'drop'"]),
    ):  # fmt: skip
        refused(lambda s=settings: TASK.prepare(raw, tokenizer, columns, max_length=48, **s), *parts)


@pytest.mark.parametrize(
    ("inputs", "options", "parts"),
    [
        (["Where?"], {}, ["input 0 has no context"]),
        ("Where?", {}, ["input 0 has no context"]),
        (None, {"question": "Where?"}, ["input 0 has no context"]),
        (None, {"context": "Here."}, ["the question of input 0 is None"]),
        ([("a", "b"), {"question": "Where?"}], {}, ["input 1 has no context"]),
        ([("a", "b"), ("", "b")], {}, ["the question of input 1 is empty"]),
        ([("a", "b"), ("a", " ")], {}, ["the context of input 1 is empty"]),
        ([("a", "b"), ("a", 7)], {}, ["the context of input 1 is 7 (int), not a text"]),
        (None, {"question": ["a", "b"], "context": ["c"]}, ["2 questions have 1 contexts"]),
        (("a", "b"), {"top_k": 0}, ["top_k=0"]),
        (("a", "b"), {"top_k": None}, ["top_k=None"]),
        (("a", "b"), {"top_k": True}, ["top_k=True"]),
        (("a", "b"), {"max_answer_len": 0}, ["max_answer_len=0"]),
        (("a", "b"), {"handle_impossible_answer": 1}, ["handle_impossible_answer=1", "True or False"]),
        (("a", "b"), {"topk": 2}, ["did you mean 'top_k'"]),
        (("a", "b"), {"max_seq_len": 65}, ["max_seq_len=65", "64 tokens"]),
        (("a", "b"), {"doc_stride": 61}, ["doc_stride=61", "below the 61 tokens"]),
        (("a", "b"), {"max_seq_len": 20, "doc_stride": 30}, ["doc_stride=30", "17 tokens"]),
        ([("a", "b"), (LONG, "b")], {}, ["the question of input 1 has 40 tokens", "window of 64", "doc_stride"]),
    ],
)  # fmt: skip
def test_what_a_pipeline_cannot_answer_is_named(
    tiny: str, inputs: Any, options: dict[str, Any], parts: list[str]
) -> None:
    pipe = unpad.pipeline("question-answering", model=tiny)
    refused(lambda: pipe(inputs, **options), *parts)


def test_the_command_line_says_the_same_in_one_line(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = {**GOOD, "answers": {"text": ["Lisbon"], "answer_start": [8]}}
    Path("bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [GOOD] * 7 + [wrong] + [GOOD] * 8))
    Path("odd.json").write_text(json.dumps({"version": 1, "data": [{"paragraphs": [{"qas": [{}]}]}]}))
    train = ["train", "qa", "--model", tiny, "--max_steps", "1", "--disable_tqdm", "--draw_curves", "false", "--output_dir", "run"]  # fmt: skip
    for words, part in (
        (["--data", "bad.jsonl", "--train_split", "train[:12]", "--eval_split", "train[12:]"], "row 7 of 'train'"),
        (["--data", "odd.json"], "looks like SQuAD"),
        (["--data", "helpdesk/questions", "--stride", "99"], "stride=99"),
        (["--data", "helpdesk/questions", "--label_all_tokens"], "label_all_tokens"),
    ):  # fmt: skip
        assert main([*train, *words]) == 2
        said = capsys.readouterr().err.splitlines()
        assert part in said[-1] and said[-1].startswith("unpad: error: ")
    drop = ["--data", "bad.jsonl", "--train_split", "train[:12]", "--eval_split", "train[12:]", "--bad_answers", "drop"]  # fmt: skip
    assert main([*train, *drop]) == 0
    capsys.readouterr()
    assert main(["predict", "--model", "run", "--text", "Where?"]) == 2
    assert "input 0 has no context" in capsys.readouterr().err


def test_rows_are_counted_as_in_the_file_also_where_some_are_held_out(minilm: str, tmp_path: Path, capsys: Any) -> None:
    good = {"question": "Where?", "context": "In Lyon.", "answers": {"text": ["Lyon"], "answer_start": [3]}}
    rows = [good] * 12 + [{**good, "answers": {"text": ["Paris"], "answer_start": [3]}}]
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["train", "qa", "--model", minilm, "--data", str(file), "--output_dir", str(tmp_path / "r")]) == 2
    said = capsys.readouterr().err
    assert "an answer in row 12 of 'train'" in said and "--bad_answers drop" in said, said


def test_evaluation_data_without_answers_train_and_say_so(minilm: str, tmp_path: Path, capsys: Any) -> None:
    good = {"question": "Where?", "context": "In Lyon.", "answers": {"text": ["Lyon"], "answer_start": [3]}}
    data, other = tmp_path / "data.jsonl", tmp_path / "other.jsonl"
    data.write_text(json.dumps(good) + "\n")
    other.write_text(json.dumps({"question": "Where?", "context": "In Rome."}) + "\n")
    words = [
        "--eval_data",
        str(other),
        "--output_dir",
        str(tmp_path / "r"),
        "--max_steps",
        "1",
        "--draw_curves",
        "false",
    ]
    assert main(["train", "qa", "--model", minilm, "--data", str(data), *words]) == 0
    assert "validation: there is no column 'answers', so its answers are not judged" in capsys.readouterr().err
