"""Multiple choice: columns and labels of every common layout, collating, training, and ranked answers."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st

import unpad
from unpad.cli.__main__ import main
from unpad.data.collators import DataCollatorForMultipleChoice
from unpad.tasks.multiple_choice import TASK

THINGS = ("dog", "cat", "car", "tree", "house", "river", "song", "cake")


def swag(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows in the layout of SWAG whose right ending names the thing of the first sentence."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        words = rng.permutation(THINGS)[:4].tolist()
        right = int(rng.integers(4))
        rows.append(
            {"video-id": "x", "sent1": f"Here is a {words[right]}.", "sent2": "Someone sees the", "label": right}
            | {f"ending{i}": f"{word} and stops." for i, word in enumerate(words)}
        )
    return rows


@pytest.fixture(scope="module")
def tokenizer(minilm: str) -> Any:
    return unpad.AutoTokenizer.from_pretrained(minilm)


@pytest.fixture(scope="module")
def tiny(minilm: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random small model with a real tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = unpad.BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    unpad.AutoModelForMultipleChoice.from_config(config).save_pretrained(folder)
    unpad.AutoTokenizer.from_pretrained(minilm).save_pretrained(folder)
    return str(folder)


LAYOUTS: dict[str, tuple[dict[str, Any], tuple[str, str | None, str, tuple[str, ...]], int]] = {
    "SWAG": (swag(1)[0], ("sent1", "sent2", "label", tuple(f"ending{i}" for i in range(4))), swag(1)[0]["label"]),
    "a list and a letter": (
        {"question": "2 + 2?", "choices": ["3", "4"], "answer": "B"}, ("question", None, "answer", ("choices",)), 1,
    ),
    "an article, options, a letter (RACE)": (
        {"article": "It rains.", "question": "Is it dry?", "options": ["no", "yes"], "answer": "A"},
        ("article", "question", "answer", ("options",)), 0,
    ),
    "keys beside the choices (ARC)": (
        {"id": "1", "question": "Who?", "choices": {"text": ["me", "you"], "label": ["1", "2"]}, "answerKey": "2"},
        ("question", None, "answerKey", ("choices",)), 1,
    ),
    "endings and a number as text (HellaSwag)": (
        {"ctx": "He runs", "endings": ["home.", "a car.", "up."], "label": "2"}, ("ctx", None, "label", ("endings",)), 2,
    ),
    "numbered from 1 (WinoGrande)": (
        {"sentence": "_ fell.", "option1": "Ann", "option2": "Bob", "answer": "2"},
        ("sentence", None, "answer", ("option1", "option2")), 1,
    ),
    "two columns and a number (COPA)": (
        {"premise": "It fell.", "question": "cause", "choice1": "Pushed.", "choice2": "Held.", "label": 0},
        ("premise", "question", "label", ("choice1", "choice2")), 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_columns_and_labels_of_common_data_sets_are_found(name: str, tokenizer: Any) -> None:
    row, (text, pair, label, more), place = LAYOUTS[name]
    data = Dataset.from_list([row])
    columns = TASK.columns(data, labelled=True)
    assert (columns.text, columns.text_pair, columns.label, columns.more) == (text, pair, label, more)
    prepared = TASK.prepare(data, tokenizer, columns).data["train"]
    assert prepared["labels"] == [place]
    assert len(prepared["input_ids"][0]) == len(TASK.row_input(row, columns)["choices"])


def test_each_choice_is_read_after_its_prompt_as_the_field_does_it(tokenizer: Any) -> None:
    rows = swag(7)
    data = Dataset.from_list(rows)
    found = TASK.prepare(data, tokenizer, TASK.columns(data)).data["train"]
    for row, ids, types in zip(rows, found["input_ids"], found["token_type_ids"], strict=True):
        expected = tokenizer([row["sent1"]] * 4, [f"{row['sent2']} {row[f'ending{i}']}" for i in range(4)])
        assert ids == expected["input_ids"] and types == expected["token_type_ids"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(2, 5))
def test_a_split_is_prepared_alike_in_blocks_of_any_size(tokenizer: Any, labels: list[int], block: int) -> None:
    rows = [
        {"question": f"q {i}", "choices": ["a", "b " * label, "c", "d"], "label": label}
        for i, label in enumerate(labels)
    ]
    data = Dataset.from_list(rows)
    columns = TASK.columns(data)
    with pytest.MonkeyPatch.context() as patch:
        whole = TASK.prepare(data, tokenizer, columns).data["train"]
        patch.setattr("unpad.tasks._task.BLOCK", block)
        assert TASK.prepare(data, tokenizer, columns).data["train"].to_list() == whole.to_list()


def test_hidden_labels_make_an_unlabelled_split(tokenizer: Any) -> None:
    row = {"question": "q", "choices": ["a", "b"]}
    for hidden in (-1, None, ""):
        data = Dataset.from_list([{**row, "label": hidden}, {**row, "label": hidden}])
        assert "labels" not in TASK.prepare(data, tokenizer, TASK.columns(data)).data["train"].column_names


def test_packed_and_padded_batches_give_the_same_answers(tiny: str, tokenizer: Any) -> None:
    data = Dataset.from_list(swag(5))
    rows = TASK.prepare(data, tokenizer, TASK.columns(data)).data["train"].to_list()
    collator = DataCollatorForMultipleChoice(tokenizer)
    padded = collator(rows)
    assert padded["input_ids"].shape[:2] == (5, 4) and padded["labels"].shape == (5,)
    model = unpad.AutoModelForMultipleChoice.from_pretrained(tiny)
    one, two = model(**padded), model(collator.pack(rows))
    torch.testing.assert_close(one.logits, two.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one.loss, two.loss, atol=1e-5, rtol=1e-5)
    arrays = DataCollatorForMultipleChoice(tokenizer, return_tensors="np", pad_to_multiple_of=8)(rows)
    assert arrays["input_ids"].shape[2] % 8 == 0 and isinstance(arrays["labels"], np.ndarray)


def test_the_choices_of_an_input_are_ranked_by_probability(tiny: str) -> None:
    pipe = unpad.pipeline("multiple-choice", tiny, precision="fp32")
    asked = {"prompt": "Here is a dog.", "choices": ["a dog", "a cat runs far away", "a car"]}
    answer = pipe(asked)
    assert sorted(a["index"] for a in answer) == [0, 1, 2]
    assert [asked["choices"][a["index"]] for a in answer] == [a["choice"] for a in answer]
    scores = [a["score"] for a in answer]
    assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1)
    tokens = pipe.tokenizer([asked["prompt"]] * 3, asked["choices"], padding=True, return_tensors="pt")
    expected = pipe.model(**{n: v[None] for n, v in tokens.items()}).logits.softmax(-1)[0].tolist()
    assert [s for _, s in sorted((a["index"], a["score"]) for a in answer)] == pytest.approx(expected, abs=1e-5)
    assert pipe(asked, top_k=1) == answer[:1]


def test_inputs_with_different_numbers_of_choices_keep_their_order(tiny: str) -> None:
    pipe = unpad.pipeline("multiple-choice", tiny, precision="fp32", max_tokens=40)
    inputs = [
        {"context": "It rains.", "prompt": "So the", "choices": [f"thing {n}" * (n + 1) for n in range(size)]}
        for size in (2, 5, 3)
    ]
    together = pipe(inputs)
    assert list(map(len, together)) == [2, 5, 3]
    for asked, answer in zip(inputs, together, strict=True):
        alone = pipe(asked)
        assert [a["choice"] for a in alone] == [a["choice"] for a in answer]
        assert [a["score"] for a in alone] == pytest.approx([a["score"] for a in answer], abs=1e-5)


def test_a_model_learns_to_choose_from_the_command_line(
    minilm: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for split, rows in (("train", swag(32)), ("validation", swag(12, 1))):
        Dataset.from_list(rows).to_parquet(tmp_path / f"{split}.parquet")
    out = str(tmp_path / "run")
    line = ["train", "swag", "--data", str(tmp_path), "--model", minilm, "--output_dir", out, "--learning_rate", "5e-4"]
    assert (
        main([*line, "--num_train_epochs", "2", "--disable_tqdm", "--draw_curves", "false", "--save_strategy", "no"])
        == 0
    )
    shown = capfd.readouterr().out
    assert "accuracy" in shown and "truth: " in shown
    pipe = unpad.pipeline("multiple-choice", out)
    data = unpad.load_dataset(str(tmp_path))["validation"]
    right = [answer[0]["index"] for answer in pipe(data)]
    assert np.mean(np.array(right) == data["label"]) > 0.6
    assert main(["evaluate", "--model", out]) == 0
    assert "accuracy" in capfd.readouterr().out
    assert main(["predict", "--model", out, "--data", str(tmp_path / "validation.parquet")]) == 0
    lines = capfd.readouterr().out.splitlines()
    asked = re.search(r"unpad predict --model .*", shown)
    assert asked is not None and main(shlex.split(asked[0])[1:]) == 0, (
        "the command that training shows works as it stands"
    )
    assert '"choice"' in capfd.readouterr().out
    assert len(lines) == 12 and all('"choice"' in one for one in lines)


def test_all_splits_are_prepared(tokenizer: Any) -> None:
    raw = DatasetDict({"train": Dataset.from_list(swag(3)), "test": Dataset.from_list(swag(2)).remove_columns("label")})
    prepared = TASK.prepare(raw, tokenizer, TASK.columns(raw, labelled=True))
    assert {name: part.column_names for name, part in prepared.data.items()} == {
        "train": ["input_ids", "token_type_ids", "labels"], "test": ["input_ids", "token_type_ids"],
    }  # fmt: skip
    assert prepared.model_options == {}


def test_inputs_that_are_cut_are_counted_once_however_many_choices_they_have(tiny: str, caplog: Any) -> None:
    pipe = unpad.pipeline("multiple-choice", tiny, device="cpu", precision="fp32")
    long = "word " * 100
    pipe([{"prompt": "a", "choices": ["b", long, long]}, {"prompt": "a", "choices": ["b", "c"]}])
    assert "1 of 2 inputs (50.0%) were longer than 64 tokens" in caplog.text
    caplog.clear()
    pipe({"prompt": long, "choices": ["b", "c"]})
    assert "1 of 1 inputs (100.0%) were longer than 64 tokens" in caplog.text
