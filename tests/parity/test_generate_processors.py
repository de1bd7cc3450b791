"""Processors of scores: for rows of different lengths in one batch, each row gets the numbers that the peer gives it alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig as PeerConfig
from transformers import GPT2Config, GPT2LMHeadModel

from unpad.generate.processors import NONE, Rows, processors
from unpad.generate.settings import GenerationConfig, settle

V = 13
PEER = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_embd=4, n_layer=1, n_head=1, n_positions=8))
TOKENS = st.integers(0, V - 1)


@st.composite
def cases(draw: Any) -> tuple[list[np.ndarray], int, dict[str, Any], int]:
    """Rows of tokens, how many of them are new, settings, and a seed for the scores."""
    options = draw(
        st.fixed_dictionaries(
            {
                "eos_token_id": st.lists(TOKENS, min_size=1, max_size=3, unique=True),
                "max_new_tokens": st.integers(4, 6),
            },
            optional={
                "repetition_penalty": st.sampled_from([0.5, 1.0, 1.3, 3.0]),
                "no_repeat_ngram_size": st.integers(0, 4),
                "bad_words_ids": st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3), min_size=1, max_size=4),
                "suppress_tokens": st.lists(st.integers(0, 7), min_size=1, max_size=3),
                "forced_bos_token_id": st.integers(8, V - 1),
                "forced_eos_token_id": st.integers(8, V - 1),
                "do_sample": st.just(True),
                "temperature": st.sampled_from([0.3, 1.0, 2.5]),
                "top_k": st.integers(0, V + 2),
                "top_p": st.sampled_from([0.0, 0.2, 0.9, 1.0]),
                "min_p": st.sampled_from([0.0, 0.05, 0.6]),
                "num_beams": st.integers(1, 3),
                "renormalize_logits": st.booleans(),
            },
        )
    )
    options |= draw(st.sampled_from([{}, {"min_new_tokens": 3}, {"min_length": 5}, {"min_length": 2}]))
    new = draw(st.integers(0, options["max_new_tokens"] - 1))
    ids = st.integers(0, 3)  # few tokens, so that runs repeat
    rows = draw(st.lists(st.lists(ids, min_size=new + 1, max_size=new + 6), min_size=1, max_size=4))
    return [np.array(row) for row in rows], new, options, draw(st.integers(0, 2**32 - 1))


def peer_scores(ids: torch.Tensor, scores: torch.Tensor, new: int, options: dict[str, Any]) -> torch.Tensor:
    config = PeerConfig(**options)
    config.update(**PeerConfig._get_default_generation_params(), defaults_only=True)
    config.max_length = ids.shape[1] - new + options["max_new_tokens"]
    if "min_new_tokens" in options:
        config.min_length = ids.shape[1] - new + options["min_new_tokens"]
    PEER._prepare_special_tokens(config, device="cpu")
    return PEER._get_logits_processor(config, input_ids_seq_length=ids.shape[1] - new, device="cpu")(ids, scores)


@settings(max_examples=300, deadline=None)
@given(cases())
def test_each_row_of_a_ragged_batch_is_scored_as_the_peer_scores_it_alone(case: tuple) -> None:
    rows, new, options, seed = case
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), NONE)
    for number, row in enumerate(rows):
        ids[number, width - len(row) :] = torch.from_numpy(row)
    prompts = [len(row) - new for row in rows]
    s = settle(None, None, GenerationConfig(**options))
    least = [s.min_new_tokens or max(0, s.min_length - n) for n in prompts]
    state = Rows(ids, torch.tensor(least), torch.full((len(rows),), options["max_new_tokens"]), new)
    logits = torch.randn(len(rows), V, generator=torch.Generator().manual_seed(seed)) * 3
    before, scores = logits.clone(), logits
    for process in processors(s):
        scores = process(state, scores)
    assert torch.equal(logits, before)  # they are functions: what they are given stays as it is
    for number, row in enumerate(rows):
        expected = peer_scores(torch.from_numpy(row)[None], logits[number : number + 1].clone(), new, options)
        torch.testing.assert_close(scores[number : number + 1], expected, rtol=1e-6, atol=1e-6, equal_nan=True)


def test_tokens_beyond_the_vocabulary_of_the_scores_are_passed_over() -> None:
    scores = torch.randn(1, V)
    ids = torch.tensor([[V + 5, 2, V + 5, 2, V + 5]])
    s = settle(
        None, None, GenerationConfig(repetition_penalty=2.0, no_repeat_ngram_size=2, eos_token_id=V + 1, min_length=9)
    )
    state = Rows(ids, torch.tensor([4]), torch.tensor([9]))
    out = scores
    for process in processors(s):
        out = process(state, out)
    assert torch.isinf(out[0, 2])
    assert torch.equal(out[0, 3:], scores[0, 3:])
