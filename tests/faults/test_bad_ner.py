"""Words, tags and options of token classification that cannot be used: one clear line each, which names the place and the way out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import unpad
from unpad.cli.__main__ import main
from unpad.tasks import task as find_task

NER = find_task("ner")
GOOD: dict[str, Any] = {"tokens": ["EU", "rejects"], "ner_tags": ["B-ORG", "O"]}


@pytest.fixture(scope="module")
def model(minilm: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny random BERT for three tags with a real tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = unpad.AutoTokenizer.from_pretrained(minilm)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = unpad.BertConfig(
        vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        max_position_embeddings=32, id2label={0: "O", 1: "B-ORG", 2: "I-ORG"},
    )  # fmt: skip
    unpad.AutoModelForTokenClassification.from_config(config).save_pretrained(folder)
    return str(folder)


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("unpad: error: ")]
    assert len(lines) == 1 and "Traceback" not in said, said
    return lines[0]


ROWS: list[tuple[dict[str, Any], list[str]]] = [
    ({"tokens": ["EU"], "ner_tags": ["B-ORG", "O"]}, ["row 3 of 'train' has 1 words in 'tokens' but 2 tags in 'ner_tags'", "give every word one tag"]),
    ({"tokens": ["EU", "x"], "ner_tags": []}, ["row 3", "no tags", "dataset.filter"]),
    ({"tokens": [], "ner_tags": []}, ["row 3", "no words in 'tokens' (1 such row(s))", "dataset.filter"]),
    ({"tokens": None, "ner_tags": ["O"]}, ["row 3", "no words"]),
    ({"tokens": ["EU", None], "ner_tags": ["O", "O"]}, ["row 3", "empty value (null) among its words"]),
    ({"tokens": ["EU", "x"], "ner_tags": ["O", None]}, ["row 3", "empty value (null) among its tags"]),
]  # fmt: skip


@pytest.mark.parametrize(("row", "parts"), ROWS, ids=[str(r["tokens"]) + str(r["ner_tags"]) for r, _ in ROWS])
def test_a_row_that_cannot_be_used_is_named(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], row: dict[str, Any], parts: list[str]
) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in [GOOD, GOOD, GOOD, row, GOOD]))
    assert main(["train", "ner", "--model", model, "--data", str(file), "--output_dir", str(tmp_path / "r")]) == 2  # fmt: skip
    line = one_line(capsys)
    assert all(part in line for part in parts), line


COLUMNS: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({"tokens": ["EU"]}, [], ["no column looks like the tags", "--label_column", "tokens"]),
    ({"text": "EU", "ner_tags": ["O"]}, [], ["no column looks like the words", "--text_column", "text, ner_tags"]),
    (GOOD, ["--label_column", "ner_tag"], ["no column 'ner_tag'", "did you mean 'ner_tags'"]),
    (GOOD, ["--text_pair_column", "ner_tags"], ["no pairs"]),
    ({"tokens": "EU rejects", "ner_tags": ["O", "O"]}, [], ["column 'tokens'", "holds string", "a list in each row"]),
    ({"tokens": [1, 2], "ner_tags": ["O", "O"]}, [], ["lists of int64, not of words"]),
    ({"tokens": ["EU", "x"], "ner_tags": "O O"}, [], ["column 'ner_tags'", "holds string", "a list in each row"]),
    ({"tokens": ["EU", "x"], "ner_tags": [0.5, 1.0]}, [], ["lists of double", "texts or whole numbers"]),
    ({"tokens": ["EU", "x"], "ner_tags": [0, -1]}, [], ["tag -1 in row 0 of 'train'", "negative"]),
]  # fmt: skip


@pytest.mark.parametrize(("row", "words", "parts"), COLUMNS, ids=[str(i) for i in range(len(COLUMNS))])
def test_columns_that_are_no_words_or_tags_are_named(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], row: dict[str, Any], words: list[str], parts: list[str]
) -> None:  # fmt: skip
    file = tmp_path / "data.jsonl"
    file.write_text(f"{json.dumps(row)}\n" * 4)
    assert main(["train", "ner", "--model", model, "--data", str(file), "--output_dir", str(tmp_path / "r"), *words]) == 2  # fmt: skip
    line = one_line(capsys)
    assert all(part in line for part in parts), line


@pytest.mark.parametrize(
    ("tags", "parts"),
    [
        (["B-ORG", "B-GRO"], ["tag 'B-GRO' in row 1", "unknown to the model; did you mean 'B-ORG'", "O, B-ORG, I-ORG"]),
        ([1, 3], ["tag 3 in row 1", "outside 0..2 (3 tags: O, B-ORG, I-ORG)"]),
    ],
)  # fmt: skip
def test_a_tag_that_the_model_does_not_know_is_named(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], tags: list[Any], parts: list[str]
) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps({"tokens": ["EU"], "ner_tags": [tag]}) + "\n" for tag in tags))
    assert main(["evaluate", "--model", model, "--task", "ner", "--data", str(file)]) == 2
    line = one_line(capsys)
    assert all(part in line for part in parts), line


@pytest.mark.parametrize(
    ("train", "test", "part"),
    [
        ([0, 2, 1], [2, 3], "tag 3 in row 1 of 'test' ('ner_tags') is above 2, the highest that is learned"),
        ([0, 10**12, 1], [0, 0], "tag 1000000000000 in row 1 of 'train' ('ner_tags') is above 9999"),
    ],
)
def test_a_number_beyond_the_tags_is_named_where_these_have_no_names(
    model: str, train: list[int], test: list[int], part: str
) -> None:
    """It would make a model with outputs that nothing teaches, or one of a size that no memory holds."""
    tokenizer = unpad.AutoTokenizer.from_pretrained(model)
    rows = {
        split: [{"tokens": ["EU"], "ner_tags": [tag]} for tag in tags]
        for split, tags in (("test", test), ("train", train))
    }
    raw = unpad.load_dataset(rows)
    with pytest.raises(unpad.DataError) as error:
        NER.prepare(raw, tokenizer, NER.columns(raw))
    assert part in str(error.value) and "make the column ClassLabels" in str(error.value)
    rows["test"], rows["train"] = ([{"tokens": ["EU"], "ner_tags": [tag]} for tag in tags] for tags in ([0], [0, 2]))
    raw = unpad.load_dataset(rows)
    assert NER.prepare(raw, tokenizer, NER.columns(raw)).num_labels == 3


def test_class_labels_that_the_model_does_not_have_are_named(model: str) -> None:
    tokenizer = unpad.AutoTokenizer.from_pretrained(model)
    raw = unpad.load_dataset("helpdesk/entities", split="test[:3]")
    with pytest.raises(unpad.DataError, match="'B-PER' of 'ner_tags' is unknown to the model"):
        NER.prepare(raw, tokenizer, NER.columns(raw), label_names=["O", "B-ORG", "I-ORG"])


def test_splits_with_tags_of_different_kinds_are_refused(model: str) -> None:
    tokenizer = unpad.AutoTokenizer.from_pretrained(model)
    raw = unpad.load_dataset({"train": [GOOD], "test": [{**GOOD, "ner_tags": [1, 0]}]})
    with pytest.raises(unpad.DataError, match="string in 'train', int64 in 'test'"):
        NER.prepare(raw, tokenizer, NER.columns(raw))


def test_a_names_file_that_is_broken_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps(GOOD) + "\n")
    (tmp_path / "labels.json").write_text("{")
    with pytest.raises(unpad.DataError, match=r"labels\.json is no JSON"):
        unpad.load_dataset(str(tmp_path))


@pytest.mark.parametrize(
    ("inputs", "options", "parts"),
    [
        (["fine", None], {}, ["input 1 is None", "{'tokens': words}"]),
        ([{"txt": "x"}], {}, ["input 0 has no key 'tokens' (its keys: txt)"]),
        ([["a", 3]], {}, ["input 0 is ['a', 3]"]),
        (("a", "b"), {}, ["input 0 is ('a', 'b')"]),
        ("x", {"aggregation_strategy": "frist"}, ["aggregation_strategy='frist'", "did you mean 'first'", "none, simple, first, average, max"]),
        ("x", {"ignore_labels": "O"}, ["ignore_labels='O'", "['O']"]),
        ("x", {"stride": 30}, ["stride=30", "32 - 2 = 30"]),
        ("x", {"stride": -1}, ["stride=-1"]),
        ("x", {"stride": "8"}, ["stride='8' is a str"]),
        ("x", {"agregation_strategy": "first"}, ["no option 'agregation_strategy'", "did you mean 'aggregation_strategy'"]),
    ],
)  # fmt: skip
def test_what_a_pipeline_cannot_read_is_refused_in_one_line(
    model: str, inputs: Any, options: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(unpad.UnpadError) as error:
        unpad.pipeline("ner", model=model)(inputs, **options)
    assert "\n" not in str(error.value)
    assert all(part in str(error.value) for part in parts), str(error.value)


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


USELESS: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({"tokens": ["EU"], "ner_tags": ["O"]}, [], ["all tags in 'ner_tags' are 'O'", "two different ones"]),
    ({"tokens": ["EU"], "ner_tags": [-100]}, [], ["all tags", "are -100", "give tags from 0"]),
    (GOOD, ["--max_length", "2"], ["max_length=2 leaves no room", "2 special tokens"]),
    (GOOD, ["--text_column", "ner_tags"], ["column 'ner_tags' is named for words and for tags"]),
]


@pytest.mark.parametrize(("row", "words", "parts"), USELESS, ids=[str(i) for i in range(len(USELESS))])
def test_data_that_teach_nothing_are_refused(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], row: dict[str, Any], words: list[str], parts: list[str]
) -> None:  # fmt: skip
    data = write(tmp_path / "data.jsonl", *[row] * 4)
    assert main(["train", "ner", "--model", model, "--data", data, "--output_dir", str(tmp_path / "r"), *words]) == 2
    line = one_line(capsys)
    assert all(part in line for part in parts), line


def test_labels_that_are_all_hidden_are_not_judged(model: str, tmp_path: Path, capsys: Any) -> None:
    data = write(tmp_path / "hidden.jsonl", {"tokens": ["EU"], "ner_tags": [-100]})
    assert main(["evaluate", "--model", model, "--data", data, "--output_dir", str(tmp_path)]) == 2
    assert "has no labels to judge by" in one_line(capsys)


@pytest.mark.parametrize(
    ("words", "part"), [(["--text_pair", "b"], "no pairs"), (["--top_k", "3"], "top_k=3 is no option")]
)
def test_options_that_are_not_looked_at_are_refused(model: str, capsys: Any, words: list[str], part: str) -> None:
    assert main(["predict", "--model", model, "--text", "EU rejects", *words]) == 2
    assert part in one_line(capsys)


def test_a_model_of_another_task_says_that_its_answers_mean_nothing(
    model: str, minilm: str, tmp_path: Path, capsys: Any
) -> None:
    found = unpad.AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=3)
    found.save_pretrained(tmp_path)
    unpad.AutoTokenizer.from_pretrained(minilm).save_pretrained(tmp_path)
    capsys.readouterr()
    pipe = unpad.pipeline("ner", model=str(tmp_path))
    assert (
        "is a BertForSequenceClassification and was never trained for token-classification" in capsys.readouterr().err
    )
    for options, part in (({"max_length": 2}, "no room for a word"), ({"ignore_labels": 3}, "a list of tags")):
        with pytest.raises(unpad.UnpadError, match=part):
            pipe("EU rejects", **options)
    with pytest.raises(unpad.UnpadError, match="a set, which has no order"):
        pipe({"EU", "rejects"})
