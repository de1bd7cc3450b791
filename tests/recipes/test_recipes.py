"""Every YAML file in recipes/ is read and really trains, scaled down to two steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from unpad.cli.__main__ import main
from unpad.cli._run import read_config
from unpad.cli.train import command
from unpad.errors import ArgumentError

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
SMALL = [
    "--max_steps",
    "2",
    "--max_length",
    "32",
    "--train_split",
    "train[:48]",
    "--eval_split",
    "validation[:16]",
    "--draw_curves",
    "false",
]
LOCAL = {"nyu-mll/glue/mrpc": "mrpc", "bentrevett/multi30k": "multi30k", "aeslc": "aeslc"}
"""Data on the Hub -> the folder with the same data beside the project."""
OTHER = {"aeslc": ["--text_column", "body", "--label_column", "subject"]}
"""Columns that are called otherwise there."""
WRITTEN = ("translation", "summarization")


def data_here(recipe: dict[str, str]) -> list[str]:
    """Options that take the same data, or data of the same form, without a network."""
    if recipe["data"].startswith("helpdesk") or (ROOT / recipe["data"]).exists():
        return []
    folder = ROOT.parent / "shared" / "data" / LOCAL["/".join(filter(None, [recipe["data"], recipe.get("data_name")]))]
    if folder.is_dir():
        return ["--data", str(folder), "--data_name", "null", *OTHER.get(recipe["data"], ())]
    columns = ["--text_column", "sentence1", "--label_column", "sentence2"] if recipe["task"] in WRITTEN else []
    return ["--data", "helpdesk/pairs", "--data_name", "null", *columns]


def test_there_are_recipes() -> None:
    assert RECIPES


@pytest.mark.parametrize("file", RECIPES, ids=lambda f: f.stem)
def test_a_recipe_trains(file: Path, tmp_path: Path, minilm: str, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = yaml.safe_load(file.read_text(encoding="utf-8"))
    out = tmp_path / "run"
    small = [*SMALL, *(["--max_source_length", "32", "--max_new_tokens", "4"] if recipe["task"] in WRITTEN else [])]
    small += ["--chunk_size", "32"] if recipe["task"] == "fill-mask" else []
    assert main(["train", "--config", str(file), "--output_dir", str(out), *small, *data_here(recipe)]) == 0, (
        capsys.readouterr().err
    )
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert max(r["step"] for r in records) == 2
    figure = {
        "translation": "bleu", "summarization": "rougeLsum", "text-generation": "perplexity", "fill-mask": "perplexity",
        "question-answering": "f1",
    }  # fmt: skip
    assert any(f"eval_{figure.get(recipe['task'], 'accuracy')}" in r for r in records)
    kept = read_config(out)
    replaced = {
        "train_split",
        "eval_split",
        "max_length",
        "max_steps",
        "data",
        "data_name",
        "text_column",
        "label_column",
    }
    replaced |= {"max_source_length", "max_new_tokens", "chunk_size"}
    assert {k: v for k, v in recipe.items() if k not in replaced} == {k: kept[k] for k in recipe if k not in replaced}


@pytest.mark.parametrize("file", RECIPES, ids=lambda f: f.stem)
def test_a_recipe_says_how_it_is_run(file: Path) -> None:
    assert f"unpad train --config recipes/{file.name}" in file.read_text(encoding="utf-8")


def test_a_recipe_with_a_slip_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "slip.yaml"
    file.write_text(RECIPES[0].read_text(encoding="utf-8").replace("learning_rate", "lerning_rate"))
    with pytest.raises(ArgumentError, match="learning_rate"):
        command().parse(["--config", str(file)])
