"""A decoder that keeps keys and values says, token by token, what it says of the whole text at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import close

from unpad import AutoConfig, AutoModelForSeq2SeqLM
from unpad.batch import pack

BART = {"vocab_size": 61, "d_model": 16, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 24,
        "decoder_attention_heads": 4, "decoder_ffn_dim": 20, "max_position_embeddings": 64, "pad_token_id": 1}  # fmt: skip
T5 = {"vocab_size": 61, "d_model": 16, "d_kv": 6, "d_ff": 20, "num_layers": 2, "num_heads": 2, "relative_attention_num_buckets": 8,
      "relative_attention_max_distance": 10, "feed_forward_proj": "gated-gelu"}  # fmt: skip
SMALL = {"bart": BART, "mbart": BART, "marian": {**BART, "decoder_start_token_id": 1}, "t5": T5}


def model_of(name: str) -> Any:
    """A random model whose every part matters."""
    torch.manual_seed(0)
    model = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(name, **SMALL[name]))
    for key, p in model.named_parameters():
        torch.nn.init.normal_(p.data, mean=1.0 if "norm" in key and key.endswith("weight") else 0.0, std=0.3)
    return model


MODELS = {name: model_of(name) for name in SMALL}


def at_once(model: Any, rows: list[np.ndarray], sources: list[np.ndarray]) -> torch.Tensor:
    """What comes after each text, from all of it in one call without a session."""
    target = pack(rows)
    target = replace(target, asked=target.cu_seqlens[1:].long() - 1)
    return target.restore(model(replace(pack(sources), target=target)).logits)


def follow(model: Any, use_cache: bool, prompts: list[np.ndarray], sources: list[np.ndarray], plan: list[Any]) -> None:
    """`plan`: a seed for one more token, or places of the rows to keep."""
    rows, read = list(prompts), list(sources)
    session = model.session(prompts, pack(sources), use_cache=use_cache)
    close(session.first(), at_once(model, rows, read), 1e-4)
    for step in plan:
        if isinstance(step, int):
            tokens = np.random.default_rng(step).integers(0, 61, len(rows))
            rows = [np.append(row, token) for row, token in zip(rows, tokens, strict=True)]
            close(session.advance(torch.from_numpy(tokens)), at_once(model, rows, read), 1e-4)
        else:
            kept = [int(place * len(rows)) for place in step]
            rows, read = [rows[i] for i in kept], [read[i] for i in kept]
            session.keep(torch.tensor(kept))


def texts(lengths: list[int], seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(2, 61, n) for n in lengths]


PLACES = st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=6)
PLANS = st.lists(st.integers(0, 9) | PLACES, max_size=7)
"""Rows are repeated, put into another order and left out; sources leave with their last row."""


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("name", SMALL)
@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9)), min_size=1, max_size=5),
    plan=PLANS,
    seed=st.integers(0, 99),
)
@torch.no_grad()
def test_generation_step_by_step_equals_the_whole_text_at_once(
    name: str, use_cache: bool, lengths: list[tuple[int, int]], plan: list[Any], seed: int
) -> None:
    prompts, sources = texts([a for a, _ in lengths], seed), texts([b for _, b in lengths], seed + 100)
    follow(MODELS[name], use_cache, prompts, sources, plan)


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_a_long_text_and_beams_that_finish_one_by_one_stay_exact(name: str) -> None:
    beams = [0.0, 0.0, 0.4, 0.4, 0.8, 0.8]  # two of each of three sources
    plan = [1, beams, *range(2, 36), [0.5, 0.34, 0.9], 40, 41, [0.4, 0.7, 0.4, 0.7], 42, [0.99], 43, 44]
    follow(MODELS[name], True, texts([1, 3, 1], 1), texts([9, 4, 6], 2), plan)
