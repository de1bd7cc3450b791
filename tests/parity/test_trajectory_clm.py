"""A causal language model follows the same path as in `transformers.Trainer`; the data have a column of ids and no labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from datasets import Dataset
from trajectory import STEPS, assert_same_path, both_losses

import unpad

WORDS = 500
SHAPES: dict[str, Any] = {
    "gpt2": transformers.GPT2Config(
        vocab_size=WORDS, n_embd=64, n_layer=2, n_head=4, n_positions=48, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=3, eos_token_id=3,
    ),
    "llama": transformers.LlamaConfig(
        vocab_size=4 * WORDS, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=48, pad_token_id=0, bos_token_id=2, eos_token_id=3,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("shape", "accumulation"), [("gpt2", 1), ("gpt2", 2), ("llama", 1)])
def test_the_losses_of_fifty_steps_are_those_of_transformers(
    shape: str, accumulation: int, minilm: str, tmp_path: Path
) -> None:
    """Also where words outnumber those in the data, whose rows alone are then trained (the llama, not tied)."""
    torch.manual_seed(1)
    transformers.AutoModelForCausalLM.from_config(SHAPES[shape]).save_pretrained(tmp_path / "model")
    texts = unpad.load_dataset("helpdesk/tickets")["train"]["text"][:84]
    tokenizer = unpad.AutoTokenizer.from_pretrained(minilm).train_new_from_iterator([texts], WORDS)
    data = Dataset.from_dict({"input_ids": tokenizer(texts, truncation=True, max_length=48)["input_ids"]})
    plain = shape == "gpt2"
    losses, expected = both_losses(
        "AutoModelForCausalLM", str(tmp_path / "model"), data, tmp_path, layers=0, steps=STEPS // accumulation,
        accumulation=accumulation, settings={"learning_rate": 5e-4, "weight_decay": 0.01 if plain else 0.0},
    )  # fmt: skip
    assert_same_path(losses, expected)
