"""GLUE by name: the right columns, label names, figures and split, without a word from the user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

import unpad
from unpad.cli.__main__ import main
from unpad.cli._data import load_splits
from unpad.metrics import load_metric
from unpad.tasks.glue import GLUE
from unpad.tasks.text_classification import TASK


def made_up(name: str, rows: int = 12) -> Dataset:
    """Rows with the columns and numbers of a GLUE task, as its files have them."""
    about = GLUE[name]
    texts = [c for c in (about.text, about.text_pair) if c is not None]
    labels: Any = (
        [i % len(about.label_names) for i in range(rows)] if about.label_names else [i % 9 / 2 for i in range(rows)]
    )
    return Dataset.from_dict(
        {**{c: [f"{c} {i}" for i in range(rows)] for c in texts}, "label": labels, "idx": list(range(rows))}
    )


@pytest.fixture(scope="module")
def tokenizer(minilm: str) -> Any:
    return unpad.AutoTokenizer.from_pretrained(minilm)


@pytest.mark.parametrize("name", GLUE)
def test_columns_label_names_and_figures_are_those_of_the_task(name: str, tokenizer: Any) -> None:
    about, data = GLUE[name], DatasetDict({"train": made_up(name), "validation": made_up(name)})
    columns = TASK.columns(data, labelled=True)
    assert (columns.text, columns.text_pair, columns.label) == (about.text, about.text_pair, "label")
    prepared = TASK.prepare(data, tokenizer, columns, data_name=name)
    assert prepared.label_names == (None if about.label_names is None else list(about.label_names))
    assert prepared.data["train"]["labels"] == data["train"]["label"]
    config = unpad.BertConfig().replace(**prepared.model_options)
    judge = TASK.metrics(config, prepared.notes["validation"])
    rng = np.random.default_rng(0)
    references = np.array(data["train"]["label"])
    guesses = rng.permutation(references)
    judge.add_batch(predictions=guesses, references=references)
    official = load_metric("glue", name).compute(predictions=guesses, references=references)
    assert judge.compute() == pytest.approx(official)


@pytest.mark.parametrize(("name", "number", "meaning"), [
    ("cola", 1, "acceptable"), ("sst2", 1, "positive"), ("mrpc", 1, "equivalent"), ("qqp", 1, "duplicate"), ("mnli", 0, "entailment"),
    ("mnli", 2, "contradiction"), ("ax", 1, "neutral"), ("qnli", 0, "entailment"), ("rte", 1, "not_entailment"), ("wnli", 1, "entailment"),
])  # fmt: skip
def test_numbers_mean_what_the_benchmark_means_by_them(name: str, number: int, meaning: str) -> None:
    names = GLUE[name].label_names
    assert names is not None and names[number] == meaning


def test_label_names_that_the_data_have_stay(tokenizer: Any) -> None:
    from datasets import ClassLabel

    data = made_up("mrpc").cast_column("label", ClassLabel(names=["no", "yes"]))
    prepared = TASK.prepare(data, tokenizer, TASK.columns(data), data_name="mrpc")
    assert prepared.label_names == ["no", "yes"]


def test_other_data_with_a_name_of_glue_is_not_taken_for_it(tokenizer: Any) -> None:
    data = Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]})
    prepared = TASK.prepare(data, tokenizer, TASK.columns(data), data_name="mrpc")
    assert prepared.label_names is None and not prepared.notes


def test_mnli_is_judged_on_its_matched_split(tmp_path: Path) -> None:
    for split in ("train", "validation_matched", "validation_mismatched"):
        made_up("mnli").to_parquet(tmp_path / "mnli" / f"{split}-00000-of-00001.parquet")
    splits = load_splits(str(tmp_path), "mnli", "train", None, None, 0)
    assert splits.eval_name == "validation_matched" and splits.others == ("validation_mismatched",)


@pytest.mark.parametrize(("name", "figures", "labels"), [
    ("mrpc", {"accuracy", "f1"}, ["not_equivalent", "equivalent"]), ("sst2", {"accuracy"}, ["negative", "positive"]),
])  # fmt: skip
def test_a_folder_with_the_files_and_the_name_is_all_that_training_needs(
    name: str, figures: set[str], labels: list[str], real_data: Path, minilm: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    line = [
        "train",
        "text-classification",
        "--data",
        str(real_data),
        "--data_name",
        name,
        "--model",
        minilm,
        "--freeze",
        "base",
    ]
    short = ["--train_split", "train[:32]", "--eval_split", "validation[:16]", "--max_steps", "2", "--max_length", "24"]
    assert main([*line, *short, "--output_dir", str(out), "--disable_tqdm", "--draw_curves", "false"]) == 0
    assert list(json.loads((out / "config.json").read_text())["id2label"].values()) == labels
    assert main(["evaluate", "--model", str(out), "--split", "validation[16:32]"]) == 0
    assert set(json.loads((out / "evaluation.json").read_text())["metrics"]) == {"loss", *figures}
