"""Zero-shot classification and feature extraction answer what `transformers` answers, on random small models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers

import unpad
from unpad.data.collators import DataCollatorForMultipleChoice

TEXTS = ["I've been waiting for this.", "ok", "Ünïcødé — 你好, мир 🙂", "a b c " * 20, "Who won the game last night?"]
NAMES = {
    "entailment last": ["contradiction", "neutral", "entailment"],
    "entailment first, in capitals": ["ENTAILMENT", "NEUTRAL", "CONTRADICTION"],
    "two classes": ["not_it", "Entails"],
}


def folder_of(kind: str, minilm: str, place: Any, **config: Any) -> str:
    """A random small BERT and a real tokenizer, as `transformers` saves them."""
    torch.manual_seed(len(config))
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    settings = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=512, initializer_range=0.2, **config,
    )  # fmt: skip
    getattr(transformers, kind)(settings).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return str(place)


def both(task: str, folder: str) -> tuple[Any, Any]:
    ours = unpad.pipeline(task, folder, precision="fp32", device="cpu")
    return ours, transformers.pipeline(task, folder, device="cpu")


def same(ours: Any, theirs: Any) -> None:
    """Equal shapes, texts and order of labels; scores within 1e-5."""
    assert type(ours) is type(theirs)
    if isinstance(ours, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            same(a, b)
        return
    assert list(ours) == list(theirs)
    assert (ours["sequence"], ours["labels"]) == (theirs["sequence"], theirs["labels"])
    assert ours["scores"] == pytest.approx(theirs["scores"], abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_zero_shot_answers_equal_those_of_transformers(name: str, minilm: str, tmp_path: Any) -> None:
    names = NAMES[name]
    labels = {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
    ours, theirs = both(
        "zero-shot-classification", folder_of("BertForSequenceClassification", minilm, tmp_path, **labels)
    )
    for candidates in (["sport", "politics", "a film about trains"], ["sport"], "sport, politics"):
        for options in ({}, {"multi_label": True}, {"hypothesis_template": "It is about {}!"}):
            for inputs in (TEXTS, TEXTS[0], TEXTS[:1]):
                options = {"candidate_labels": candidates, **options}
                same(ours(inputs, **options), theirs(inputs, **options))
    same(ours(TEXTS[0], ["a", "b"]), theirs(TEXTS[0], ["a", "b"]))


def test_features_equal_those_of_transformers(minilm: str, tmp_path: Any) -> None:
    ours, theirs = both("feature-extraction", folder_of("BertModel", minilm, tmp_path))
    for inputs in (TEXTS[0], [*TEXTS, ""]):
        one, two = ours(inputs), theirs(inputs)
        assert type(one) is type(two) and len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    tensor = ours(TEXTS[0], return_tensors=True)
    torch.testing.assert_close(tensor, theirs(TEXTS[0], return_tensors=True), atol=1e-5, rtol=1e-5)


def test_choices_are_collated_as_transformers_collates_them(minilm: str) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    features = []
    for row in range(4):
        tokens = tokenizer(["It rains."] * 3, [f"So {'very ' * (row + i)}wet." for i in range(3)])
        features.append({**tokens, "label": row % 3})
    expected = transformers.DataCollatorForMultipleChoice(tokenizer)([dict(f) for f in features])
    found = DataCollatorForMultipleChoice(unpad.AutoTokenizer.from_pretrained(minilm))(features)
    assert set(found) == set(expected)
    for key in expected:
        assert torch.equal(found[key], expected[key]), key
