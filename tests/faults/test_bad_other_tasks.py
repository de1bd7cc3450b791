"""Multiple choice, zero-shot classification, feature extraction and `freeze`: a mistake gets one line that says how to mend it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

import unpad
from unpad import Trainer, TrainingArguments, UnpadError
from unpad.cli.__main__ import main
from unpad.data.collators import DataCollatorForMultipleChoice
from unpad.tasks import task
from unpad.tasks.multiple_choice import TASK as CHOICE

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 32,
}


class World:
    """Small models and their pipelines."""

    def __init__(self, minilm: str) -> None:
        self.minilm, self.tokenizer = minilm, unpad.AutoTokenizer.from_pretrained(minilm)

    def model(self, head: str, **config: Any) -> Any:
        torch.manual_seed(0)
        made = getattr(unpad, f"AutoModel{head}").from_config(unpad.BertConfig(**SMALL, **config))
        made.name_or_path = self.minilm
        return made

    def choose(self, inputs: Any, **options: Any) -> Any:
        return unpad.pipeline("multiple-choice", self.model("ForMultipleChoice"))(inputs, **options)

    def zero(self, *names: str, text: Any = "A text.", **options: Any) -> Any:
        labels = names or ("contradiction", "entailment")
        model = self.model("ForSequenceClassification", id2label=dict(enumerate(labels)))
        return unpad.pipeline("zero-shot-classification", model)(text, **{"candidate_labels": ["a"], **options})

    def features(self, **options: Any) -> Any:
        return unpad.pipeline("feature-extraction", self.model(""))("A text.", **options)

    def prepare(self, *rows: dict[str, Any]) -> Any:
        data = Dataset.from_list(list(rows))
        return CHOICE.prepare(data, self.tokenizer, CHOICE.columns(data, labelled=True))

    def train(self, head: str, rows: Any, folder: Path, **options: Any) -> Any:
        args = TrainingArguments(str(folder), max_steps=1, disable_tqdm=True, draw_curves=False, **options)
        collator = DataCollatorForMultipleChoice(self.tokenizer) if head == "ForMultipleChoice" else None
        return Trainer(self.model(head), args, collator, train_dataset=rows).train()


@pytest.fixture(scope="module")
def world(minilm: str) -> World:
    return World(minilm)


ROW = {"question": "2 + 2?", "choices": ["3", "4"], "answer": "B"}
IDS = {"input_ids": [[5, 6], [7]], "labels": 1}

CASES: dict[str, tuple[Callable[[World, Path], Any], tuple[str, ...]]] = {
    "a label that is no choice": (lambda w, p: w.prepare(ROW, {**ROW, "answer": "C"}), ("'C'", "row 1 of 'train'", "0..1", "A, B")),
    "a number that is no choice": (lambda w, p: w.prepare({**ROW, "answer": "2"}), ("'2'", "row 0", "0..1")),
    "other numbers of choices": (lambda w, p: w.prepare(ROW, {**ROW, "choices": ["1", "2", "3"]}), ("row 1 of 'train'", "3 choices", "row 0 has 2")),
    "an empty choice": (lambda w, p: w.prepare({**ROW, "choices": ["3", None]}), ("row 0 of 'train'", "None", "text")),
    "no prompt in a row": (lambda w, p: w.prepare(ROW, {**ROW, "question": None}), ("row 1 of 'train'", "None", "fill it in")),
    "one label is missing": (lambda w, p: w.prepare(ROW, {**ROW, "answer": None}), ("row 1", "no label")),
    "no choices at all": (lambda w, p: w.prepare({"question": "a", "label": 1}), ("the choices", "question, label")),
    "no label column": (lambda w, p: w.prepare({"question": "a", "choices": ["a", "b"]}), ("the label", "label=", "question, choices")),
    "a column that is not there": (lambda w, p: CHOICE.columns(Dataset.from_list([ROW]), text="qestion"), ("'qestion'", "did you mean 'question'")),
    "flat token lists": (lambda w, p: w.train("ForMultipleChoice", [{"input_ids": [5, 6], "labels": 0}], p), ("input_ids", "token lists")),
    "unequal choices": (lambda w, p: w.train("ForMultipleChoice", [IDS, {"input_ids": [[5]], "labels": 0}], p), ("row 1", "1 choices")),
    "unequal choices to collate": (lambda w, p: DataCollatorForMultipleChoice(w.tokenizer)([IDS, {"input_ids": [[5]], "labels": 0}]), ("feature 1", "2 token lists")),
    "flat lists to collate": (lambda w, p: DataCollatorForMultipleChoice(w.tokenizer)([{"input_ids": [5, 6]}]), ("feature 0", "tokenize each choice")),
    "a label beyond the choices": (lambda w, p: w.train("ForMultipleChoice", [IDS, {**IDS, "labels": 2}], p), ("label 2", "row 1", "0..1")),
    "a text without choices": (lambda w, p: w.choose("2 + 2?"), ("input 0", "'prompt'", "'choices'")),
    "one choice": (lambda w, p: w.choose([{"prompt": "a", "choices": ["x", "y"]}, {"prompt": "a", "choices": ["x"]}]), ("input 1", "two or more")),
    "choices as one text": (lambda w, p: w.choose({"prompt": "a", "choices": "x, y"}), ("input 0", "list of two or more")),
    "a choice that is a number": (lambda w, p: w.choose({"prompt": "a", "choices": ["x", 4]}), ("input 0", "4", "text")),
    "an unknown key": (lambda w, p: w.choose({"prompt": "a", "options": ["x", "y"]}), ("input 0", "'choices'")),
    "top_k of 0": (lambda w, p: w.choose({"prompt": "a", "choices": ["x", "y"]}, top_k=0), ("top_k=0", "1 or more")),
    "no candidate labels": (lambda w, p: w.zero(candidate_labels=[]), ("candidate_labels=[]", "list of texts")),
    "candidate labels of commas": (lambda w, p: w.zero(candidate_labels=" , "), ("candidate_labels=' , '", "'a, b'")),
    "candidate labels left out": (lambda w, p: unpad.pipeline("zero-shot", w.model("ForSequenceClassification", id2label={0: "entailment", 1: "no"}))("a"), ("needs candidate_labels=",)),
    "a label that is no text": (lambda w, p: w.zero(candidate_labels=["a", None]), ("None", "texts")),
    "a template without a place": (lambda w, p: w.zero(hypothesis_template="This is it."), ("'This is it.'", "{}")),
    "a model without entailment": (lambda w, p: w.zero("LABEL_0", "LABEL_1"), ("0 among", "LABEL_0", "natural language inference")),
    "a model with two of them": (lambda w, p: w.zero("entailment", "Entails not"), ("2 among", "entailment, Entails not")),
    "a label longer than the model": (lambda w, p: w.zero(candidate_labels=["word " * 60]), ("'word word", "32 tokens", "shorten")),
    "an empty text": (lambda w, p: w.zero(text=["a", " "]), ("input 1", "not a text")),
    "no text": (lambda w, p: w.zero(text=[5]), ("input 0", "5")),
    "two inputs by place": (lambda w, p: unpad.pipeline("feature-extraction", w.model(""))("a", "b"), ("one input", "list")),
    "training zero-shot": (lambda w, p: task("zero-shot").columns(Dataset.from_list([ROW]), labelled=True), ("text-classification", "entailment")),
    "training features": (lambda w, p: task("feature-extraction").metrics(unpad.BertConfig()), ("text-classification", "no head")),
    "an unknown pooling": (lambda w, p: w.features(pooling="men"), ("'men'", "did you mean 'mean'", "first")),
    "unknown tensors": (lambda w, p: w.features(return_tensors="tf"), ("'tf'", "pt, np")),
    "something else is frozen": (lambda w, p: TrainingArguments(str(p), freeze="bas"), ("freeze='bas'", "did you mean 'base'")),
    "a frozen masked model": (lambda w, p: w.train("ForMaskedLM", [{"input_ids": [5, 6], "labels": [5, 6]}], p, freeze="base"), ("BertForMaskedLM", "requires_grad=False")),
    "a frozen model of another kind": (lambda w, p: Trainer(torch.nn.Linear(2, 2), TrainingArguments(str(p), freeze="base")), ("freeze='base'", "of your own")),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_gets_one_line_that_says_how_to_mend_it(name: str, world: World, tmp_path: Path) -> None:
    act, words = CASES[name]
    with pytest.raises(UnpadError) as raised:
        act(world, tmp_path)
    text = str(raised.value)
    assert "\n" not in text and len(text) < 400
    for word in words:
        assert word in text, text


@pytest.mark.parametrize("name", ["zero-shot-classification", "feature-extraction"])
def test_the_command_line_says_what_to_train_instead(
    name: str, minilm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", name, "--model", minilm, "--output_dir", "out"]) == 2
    shown = capfd.readouterr().err
    assert "text-classification" in shown and "Traceback" not in shown
    assert not (tmp_path / "out").exists()


def test_choices_without_keys_and_labels_that_are_no_numbers(minilm: str) -> None:
    world = World(minilm)
    row = {"question": "what", "choices": {"text": ["a", "b"], "label": None}, "answerKey": "B"}
    assert world.prepare(row).data["train"]["labels"] == [1]
    with pytest.raises(UnpadError, match="label '²' in row 0 of 'train' is no choice"):
        world.prepare({**row, "answerKey": "²"})


def test_a_split_without_the_columns_of_the_choices_is_named(minilm: str) -> None:
    from datasets import DatasetDict

    one = Dataset.from_list([{"sent1": "a", "ending0": "b", "ending1": "c", "label": 0}])
    raw = DatasetDict({"train": one, "validation": Dataset.from_list([{"other": "a", "label": 0}])})
    with pytest.raises(UnpadError, match="split 'validation' has no column 'sent1'"):
        CHOICE.prepare(raw, World(minilm).tokenizer, CHOICE.columns(raw, labelled=True))


def test_multiple_choice_resumes_with_the_line_that_is_printed(minilm: str, tmp_path: Path) -> None:
    import json

    file = tmp_path / "data.jsonl"
    row = {"sent1": "a", "ending0": "b", "ending1": "c", "label": 0}
    file.write_text((json.dumps(row) + "\n") * 4)
    start = ["train", "multiple-choice", "--output_dir", str(tmp_path / "r")]
    some = [
        "--model",
        minilm,
        "--max_steps",
        "1",
        "--save_strategy",
        "steps",
        "--save_steps",
        "1",
        "--draw_curves",
        "false",
    ]
    assert main([*start, "--data", str(file), *some]) == 0
    assert main([*start, "--resume"]) == 0
