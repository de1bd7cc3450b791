"""Zero-shot classification: candidate labels in any form, entailment by its name, and probabilities that add up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import unpad
from unpad.tasks import Reader

LABELS = ["sports", "politics", "a film"]
TEXTS = ["Who won the match?", "The minister resigned today after a long debate.", "I fell asleep in the cinema."]


@pytest.fixture(scope="module")
def pipe(minilm: str) -> Any:
    torch.manual_seed(0)
    config = unpad.BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48, max_position_embeddings=48,
        initializer_range=0.2, id2label={0: "contradiction", 1: "neutral", 2: "ENTAILMENT"},
    )  # fmt: skip
    model = unpad.AutoModelForSequenceClassification.from_config(config)
    return unpad.pipeline("zero-shot-classification", model, minilm, precision="fp32")


def test_one_text_gives_one_answer_and_a_list_gives_a_list(pipe: Any) -> None:
    alone = pipe(TEXTS[0], candidate_labels=LABELS)
    assert list(alone) == ["sequence", "labels", "scores"] and alone["sequence"] == TEXTS[0]
    assert sorted(alone["labels"]) == sorted(LABELS)
    assert alone["scores"] == sorted(alone["scores"], reverse=True) and sum(alone["scores"]) == pytest.approx(1)
    assert [a["sequence"] for a in pipe(TEXTS, candidate_labels=LABELS)] == TEXTS
    assert pipe([TEXTS[0]], candidate_labels=LABELS) == [alone]


def test_labels_come_as_a_list_as_text_with_commas_by_place_or_from_the_pipeline(pipe: Any) -> None:
    expected = pipe(TEXTS[0], candidate_labels=LABELS)
    assert pipe(TEXTS[0], candidate_labels="sports, politics ,a film,") == expected
    assert pipe(TEXTS[0], LABELS) == expected
    assert pipe(sequences=TEXTS[0], candidate_labels=tuple(LABELS)) == expected
    fixed = unpad.pipeline(
        "zero-shot", pipe.model, pipe.tokenizer, precision="fp32", candidate_labels=LABELS, multi_label=True
    )
    assert fixed(TEXTS[0]) == pipe(TEXTS[0], candidate_labels=LABELS, multi_label=True)
    assert fixed(TEXTS[0], multi_label=False) == expected


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(3)), st.booleans())
def test_the_order_of_labels_and_texts_never_changes_a_score(pipe: Any, order: list[int], multi: bool) -> None:
    def scores(texts: list[str], labels: list[str]) -> dict[tuple[str, str], float]:
        found = pipe(texts, candidate_labels=labels, multi_label=multi)
        return {(a["sequence"], n): s for a in found for n, s in zip(a["labels"], a["scores"], strict=True)}

    expected = scores(TEXTS, LABELS)
    found = scores([TEXTS[i] for i in order], [LABELS[i] for i in order])
    assert found == pytest.approx(expected, abs=1e-5)


def test_with_several_labels_each_is_judged_by_itself(pipe: Any) -> None:
    many = pipe(TEXTS[1], candidate_labels=LABELS, multi_label=True)
    for label, score in zip(many["labels"], many["scores"], strict=True):
        assert pipe(TEXTS[1], candidate_labels=[label])["scores"] == pytest.approx([score], abs=1e-5)


def test_a_long_text_is_cut_and_its_label_is_not(pipe: Any) -> None:
    label = "sports " * 30  # longer than what is left of the text
    features = pipe._task.encode(["word " * 100], Reader(pipe.tokenizer, 48), {"candidate_labels": [label]})
    assert features.lengths.tolist() == [48]
    text = pipe.tokenizer.decode(features.input_ids)
    assert text.count("sports") == 30 and 0 < text.count("word") < 30


def test_labels_with_braces_stand_as_they_are(pipe: Any) -> None:
    features = pipe._task.encode(["a"], Reader(pipe.tokenizer, 48), {"candidate_labels": ["{x}"]})
    assert "{ x }" in pipe.tokenizer.decode(features.input_ids)


def test_a_data_set_is_answered_row_by_row(pipe: Any) -> None:
    data = unpad.load_dataset({"text": TEXTS}, split="train")
    assert list(pipe(data, candidate_labels=LABELS)) == pipe(TEXTS, candidate_labels=LABELS)


def test_a_model_of_two_classes_works_whatever_it_calls_them(minilm: str) -> None:
    torch.manual_seed(1)
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    model = unpad.AutoModelForSequenceClassification.from_config(
        unpad.BertConfig(**small, id2label={0: "Entails", 1: "no"})
    )
    answer = unpad.pipeline("zero-shot-classification", model, minilm)(TEXTS[0], candidate_labels=LABELS)
    assert sum(answer["scores"]) == pytest.approx(1)


def test_texts_that_are_cut_are_counted_once_however_many_labels_there_are(pipe: Any, caplog: Any) -> None:
    pipe(["word " * 100, *TEXTS[1:]], candidate_labels=LABELS)
    assert "1 of 3 inputs (33.3%) were longer than 48 tokens" in caplog.text
    caplog.clear()
    list(pipe(iter(["word " * 100] * 2 + TEXTS), candidate_labels=LABELS))
    assert "2 of 5 inputs (40.0%) were longer than 48 tokens" in caplog.text
