"""Token by token with a cache a decoder says what it says of the whole sequence at once, whatever becomes of its rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import close
from torch import Tensor

from unpad import AutoConfig, AutoModelForCausalLM
from unpad.core import cache

SMALL = {"vocab_size": 101, "width": 32, "layers": 2, "heads": 4, "ffn_width": 48, "max_positions": 40}
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "openai-gpt": {"ffn_width": None},
    "ctrl": {},
    "llama": {"kv_heads": 1, "global_theta": 50.0, "sliding_window": 4},
    "mistral": {"kv_heads": 2, "sliding_window": 1, "tied": True},
    "qwen2": {"kv_heads": 2},
    "qwen3": {"kv_heads": 2, "head_size": 6},
}
MODELS: dict[str, Any] = {}


def model_of(name: str) -> Any:
    """A random small model, made once."""
    if name not in MODELS:
        torch.manual_seed(0)
        MODELS[name] = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **{**SMALL, **CONFIGS[name]}))
        for parameter in MODELS[name].parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return MODELS[name]


def at_once(model: Any, rows: list[list[int]]) -> Tensor:
    """What comes after each row, each computed alone: [R, V]."""
    return torch.cat([model(input_ids=torch.tensor([row])).logits[:, -1] for row in rows])


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("name", CONFIGS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_session_says_what_the_whole_sequence_says(name: str, use_cache: bool, data: st.DataObject) -> None:
    model = model_of(name)
    ids = st.integers(0, 100)
    rows = data.draw(st.lists(st.lists(ids, min_size=1, max_size=12), min_size=1, max_size=5))
    with torch.inference_mode():
        session = model.session([np.array(row) for row in rows], use_cache=use_cache)
        close(session.first(), at_once(model, rows), 1e-5)
        for _ in range(data.draw(st.integers(1, 6))):
            place = st.integers(0, len(rows) - 1)
            kept = data.draw(st.one_of(st.just(list(range(len(rows)))), st.lists(place, min_size=1, max_size=7)))
            session.keep(torch.tensor(kept))  # as they are, fewer, in another order, several times
            tokens = data.draw(st.lists(ids, min_size=len(kept), max_size=len(kept)))
            rows = [[*rows[i], token] for i, token in zip(kept, tokens, strict=True)]
            close(session.advance(torch.tensor(tokens)), at_once(model, rows), 1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_cache_grows_past_the_room_it_was_made_with(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "ROOM", 2)
    model, rows = model_of(name), [[5, 6, 7], [8]]
    with torch.inference_mode():
        session = model.session([np.array(row) for row in rows])
        session.first()
        for token in range(20, 40):
            rows = [[*row, token + i] for i, row in enumerate(rows)]
            logits = session.advance(torch.tensor([token, token + 1]))
            if token == 30:
                session.keep(torch.tensor([1, 0]))
                rows = rows[::-1]
        close(logits, at_once(model, rows), 1e-5)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_in_bf16_a_session_writes_what_it_writes_in_fp32(name: str) -> None:
    model, rows = model_of(name), [[3, 4, 5, 6], [9, 8]]
    with torch.inference_mode():
        plain = model.session([np.array(row) for row in rows])
        expected = [plain.first(), plain.advance(torch.tensor([7, 11]))]
        with torch.autocast("cpu", torch.bfloat16):  # rows are appended to matrices there
            session = model.session([np.array(row) for row in rows])
            for found, wanted in zip([session.first(), session.advance(torch.tensor([7, 11]))], expected, strict=True):
                assert found.dtype == torch.float32
                close(found, wanted, 0.15)
