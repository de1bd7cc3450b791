"""`pipeline("fill-mask")` answers what that of `transformers` answers: the same words, sequences, shapes and scores."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_mlm import small_mlm

import unpad
from unpad.models.model import Model

TEXTS = [
    "I want to [MASK] my order.",
    "[MASK]",
    "The lamp is [MASK] and [MASK] !",
    "my order [MASK] Ünïcødé 你好",
    "where is [MASK]? " * 3,
]


@pytest.fixture(scope="module")
def both(minilm: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = small_mlm(minilm, tmp_path_factory.mktemp("model"))
    ours = unpad.pipeline("fill-mask", model=folder, precision="fp32", device="cpu")
    return ours, transformers.pipeline("fill-mask", model=folder, device="cpu")


def same(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    if isinstance(ours, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            same(a, b)
    else:
        assert list(ours) == list(theirs) == ["score", "token", "token_str", "sequence"]
        assert [type(v) for v in ours.values()] == [type(v) for v in theirs.values()]
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-6)
        assert {**ours, "score": 0} == {**theirs, "score": 0}


@pytest.mark.parametrize("options", [{}, {"top_k": 1}, {"top_k": 17}, {"top_k": None}, {"targets": "order"},
    {"targets": ["order", "lamp", "my", "order"], "top_k": 2}, {"targets": ["the", "quillpadish", "my"], "top_k": 9}])  # fmt: skip
def test_answers_equal_those_of_transformers(both: tuple[Any, Any], options: dict[str, Any]) -> None:
    ours, theirs = both
    same(ours(TEXTS, **options), theirs(TEXTS, **options))
    for text in TEXTS:
        same(ours(text, **options), theirs(text, **options))


def test_more_guesses_than_words_are_all_words(both: tuple[Any, Any]) -> None:
    ours, _ = both
    found = ours("my [MASK]", top_k=10**6)
    assert sorted(guess["token"] for guess in found) == list(range(ours.model.config.vocab_size))
    assert sum(guess["score"] for guess in found) == pytest.approx(1, abs=1e-5)


def test_one_text_gives_its_guesses_and_a_list_gives_a_list(both: tuple[Any, Any]) -> None:
    ours, _ = both
    alone, twice = ours("my [MASK]"), ours("my [MASK] is [MASK]")
    assert [type(guess) for guess in alone] == [dict] * 5
    assert [[type(guess) for guess in mask] for mask in twice] == [[dict] * 5] * 2
    assert ours(["my [MASK]"]) == [alone]
    assert list(ours(text for text in TEXTS)) == ours(TEXTS)
    assert ours([]) == []


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, len(TEXTS) - 1), max_size=12), st.integers(1, 60))
def test_batching_never_changes_a_guess(both: tuple[Any, Any], chosen: list[int], budget: int) -> None:
    ours, _ = both
    alone = [ours(TEXTS[i]) for i in chosen]
    before, ours.max_tokens = ours.max_tokens, budget
    found = ours([TEXTS[i] for i in chosen])
    ours.max_tokens = before
    same(found, alone)


def test_only_masks_are_read_out_and_only_guesses_leave_the_device(
    both: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = both
    rows, plain = [], Model.forward

    def forward(self: Model, *args: Any, **kwargs: Any) -> Any:
        output = plain(self, *args, **kwargs)
        rows.append(output.logits.shape[0])
        return output

    monkeypatch.setattr(Model, "forward", forward)
    ours(TEXTS)
    assert sum(rows) == sum(text.count("[MASK]") for text in TEXTS)
    output = {"logits": torch.randn(3, 600)}
    assert ours._task.reduce(output, None, {"top_k": 4}).shape == (3, 2, 4)


def test_a_model_in_training_guesses_without_dropout(both: tuple[Any, Any]) -> None:
    ours, _ = both
    expected = ours(TEXTS)
    ours.model.train()
    assert ours(TEXTS) == expected
    assert ours.model.training
    ours.model.eval()
