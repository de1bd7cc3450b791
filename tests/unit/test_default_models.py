"""What a pipeline loads when nobody names a model: one model per task, got from the Hub like any other, and said."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import unpad
from unpad.notices import _said
from unpad.tasks import ALIASES, TASKS, task

DEFAULTS = {
    "text-classification": "distilbert-base-uncased-finetuned-sst-2-english",
    "token-classification": "dbmdz/bert-large-cased-finetuned-conll03-english",
    "fill-mask": "distilroberta-base",
    "question-answering": "distilbert-base-cased-distilled-squad",
    "multiple-choice": "bert-base-uncased",
    "zero-shot-classification": "facebook/bart-large-mnli",
    "feature-extraction": "distilbert-base-cased",
    "text2text-generation": "t5-base",
    "translation": "t5-base",
    "summarization": "sshleifer/distilbart-cnn-12-6",
    "text-generation": "gpt2",
}
SENTIMENT = DEFAULTS["text-classification"]


def test_every_task_has_the_default_of_the_field() -> None:
    assert {name: task(name).default_model for name in TASKS} == DEFAULTS


def test_defaults_are_those_of_transformers_where_it_still_has_one_of_a_supported_architecture() -> None:
    from transformers.pipelines import SUPPORTED_TASKS

    known: dict[str, Any] = SUPPORTED_TASKS
    theirs = {name: known[name]["default"]["model"] for name in DEFAULTS if name in known}
    theirs.pop("text-generation")  # a chat model of three billion weights, since version 5
    for name, (model, _) in theirs.items():
        assert model.split("/")[-1] == DEFAULTS[name].split("/")[-1]
    assert len(theirs) >= 5


@pytest.fixture
def cache(tmp_path: Path, minilm: str) -> Path:
    """A cache of the Hub in which only the default for sentiment is, at two revisions with labels of their own."""
    repo = tmp_path / f"models--{SENTIMENT}"
    for number, (revision, labels) in enumerate({"main": ("NEGATIVE", "POSITIVE"), "stars": ("bad", "good")}.items()):
        commit = f"{number:040x}"
        config = unpad.DistilBertConfig(dim=32, n_layers=1, n_heads=2, hidden_dim=64, id2label=dict(enumerate(labels)))
        model = unpad.DistilBertForSequenceClassification(config)
        model.save_pretrained(repo / "snapshots" / commit)
        unpad.AutoTokenizer.from_pretrained(minilm).save_pretrained(repo / "snapshots" / commit)
        (repo / "refs").mkdir(exist_ok=True)
        (repo / "refs" / revision).write_text(commit)
    return tmp_path


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Nothing was said yet."""
    _said.clear()


@pytest.mark.parametrize("name", [name for name, of in ALIASES.items() if of == "text-classification"])
def test_the_default_is_loaded_and_said_once_with_its_revision(
    name: str, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "unpad"):
        first = unpad.pipeline(name, cache_dir=str(cache))
        unpad.pipeline(name, cache_dir=str(cache))
    said = [line for line in caplog.messages if "no model was named" in line]
    assert said == [f"no model was named: text-classification takes {SENTIMENT} (revision main); pass model= to choose"]
    assert first.model.name_or_path == SENTIMENT
    assert first("I hate this so much!")[0]["label"] in ("NEGATIVE", "POSITIVE")


def test_a_revision_of_the_default_can_be_asked_for(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "unpad"):
        pipe = unpad.pipeline("sentiment-analysis", cache_dir=str(cache), revision="stars")
    assert pipe.model.config.id2label == {0: "bad", 1: "good"}
    assert f"{SENTIMENT} (revision stars)" in caplog.text


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_default_that_cannot_be_had_is_one_line_that_says_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(unpad.UnpadError) as caught:
        unpad.pipeline(name, cache_dir=str(tmp_path))
    text = str(caught.value)
    assert "\n" not in text and repr(DEFAULTS[name]) in text
    assert text.endswith(f"this is the default for {name}, pass model= to choose another")
