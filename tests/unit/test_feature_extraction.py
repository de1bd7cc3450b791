"""Feature extraction: the vectors of tokens and texts, in the shapes and types that people ask for."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

import unpad
from unpad.cli.__main__ import main

TEXTS = ["A short text.", "Another one, which is somewhat longer than the first.", "x", "A short text again."]


@pytest.fixture(scope="module")
def pipe(minilm: str) -> Any:
    return unpad.pipeline("feature-extraction", minilm, precision="fp32", max_tokens=16)


def test_a_text_gives_nested_lists_of_its_tokens(pipe: Any) -> None:
    tokens, width = len(pipe.tokenizer(TEXTS[0])["input_ids"]), pipe.model.config.width
    found = pipe(TEXTS[0])
    assert isinstance(found, list) and np.shape(found) == (1, tokens, width)
    assert [np.shape(one) for one in pipe(TEXTS)] == [(1, len(pipe.tokenizer(t)["input_ids"]), width) for t in TEXTS]
    expected = pipe.model(**pipe.tokenizer(TEXTS[0], return_tensors="pt")).last_hidden_state.detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("pooling", "pool"), [("mean", lambda x: x[0].mean(0)), ("first", lambda x: x[0][0])])
def test_pooling_gives_one_vector_per_text_in_their_order(pipe: Any, pooling: str, pool: Any) -> None:
    found = np.array(pipe(TEXTS, pooling=pooling))
    expected = [pool(np.array(tokens)) for tokens in pipe(TEXTS)]
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-5)
    np.testing.assert_allclose(pipe(TEXTS[1], pooling=pooling), expected[1], atol=1e-5)


def test_one_token_is_its_own_mean(pipe: Any) -> None:
    (tokens,) = pipe("hello", truncation=True, max_length=3)
    assert len(tokens) == 3
    np.testing.assert_allclose(pipe("hello", pooling="mean"), np.mean(tokens, 0), atol=1e-5)


def test_tensors_and_arrays_hold_the_same_numbers(pipe: Any) -> None:
    plain = pipe(TEXTS[1])
    for asked, kind in ((True, torch.Tensor), ("pt", torch.Tensor), ("np", np.ndarray)):
        found = pipe(TEXTS[1], return_tensors=asked)
        assert isinstance(found, kind)
        np.testing.assert_array_equal(np.asarray(found), np.asarray(plain, np.float32))
    assert pipe(TEXTS[:2], return_tensors="np", pooling="mean")[0].shape == (pipe.model.config.width,)
    assert pipe(TEXTS[1], return_tensors=False, pooling=None) == plain


def test_similar_texts_have_similar_vectors(pipe: Any) -> None:
    a, b, c = (np.array(v) for v in pipe(["How are you?", "How do you do?", "Tax law of 1998"], pooling="mean"))
    cosine = lambda x, y: x @ y / np.linalg.norm(x) / np.linalg.norm(y)  # noqa: E731
    assert cosine(a, b) > cosine(a, c) + 0.2


def test_a_base_model_needs_the_name_of_the_task(pipe: Any) -> None:
    assert unpad.pipeline("feature-extraction", pipe.model, pipe.tokenizer)([]) == []
    with pytest.raises(unpad.ArgumentError, match="no head"):
        unpad.pipeline(model=pipe.model, tokenizer=pipe.tokenizer)


def test_the_command_line_writes_vectors_as_json(minilm: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--task", "feature-extraction", "--model", minilm, "--text", "hello"]) == 0
    line = json.loads(capfd.readouterr().out)
    assert line["text"] == "hello" and np.shape(line["answers"]) == (1, 3, 384)
