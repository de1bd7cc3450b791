"""An encoder-decoder follows the same path as in `transformers.Trainer`, over real pairs where they are present."""

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
    "marian": transformers.MarianConfig(
        vocab_size=WORDS, d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=96, decoder_ffn_dim=96, max_position_embeddings=64, pad_token_id=0, eos_token_id=3, decoder_start_token_id=0,
        forced_eos_token_id=None, dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, scale_embedding=True,
    ),
    "t5": transformers.T5Config(
        vocab_size=WORDS, d_model=64, d_kv=16, d_ff=96, num_layers=2, num_heads=4, pad_token_id=0, eos_token_id=3,
        decoder_start_token_id=0, dropout_rate=0.0,
    ),
}  # fmt: skip


def pairs(request: pytest.FixtureRequest, tokenizer_folder: str) -> tuple[Dataset, Any]:
    """Tokenized English captions and their German translations, and the tokenizer; where these are not present, bundled pairs of texts."""
    try:
        file: Path = request.getfixturevalue("real_data") / "multi30k" / "train.parquet"
        raw = unpad.load_dataset(str(file))["train"].select(range(110))["translation"]
        source, target = [row["en"] for row in raw], [row["de"] for row in raw]
    except pytest.skip.Exception:
        rows = unpad.load_dataset("helpdesk/pairs")["train"].select(range(110))
        source, target = list(rows["sentence1"]), list(rows["sentence2"])
    tokenizer = unpad.AutoTokenizer.from_pretrained(tokenizer_folder)
    tokenizer = tokenizer.train_new_from_iterator([source, target], WORDS)
    cut = {"truncation": True, "max_length": 40}
    tokens = {"input_ids": tokenizer(source, **cut)["input_ids"], "labels": tokenizer(target, **cut)["input_ids"]}
    return Dataset.from_dict(tokens), tokenizer


@pytest.mark.parametrize(
    ("shape", "accumulation", "settings"),
    [
        ("marian", 1, {}),
        ("marian", 2, {"lr_scheduler_type": "constant", "warmup_steps": 0}),
        ("t5", 1, {"label_smoothing_factor": 0.1, "learning_rate": 3e-4}),
    ],
)
def test_the_losses_of_fifty_steps_are_those_of_transformers(
    shape: str, accumulation: int, settings: dict[str, Any], request: pytest.FixtureRequest, minilm: str, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    model = transformers.AutoModelForSeq2SeqLM.from_config(SHAPES[shape])
    model.save_pretrained(tmp_path / "model")
    data, tokenizer = pairs(request, minilm)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, pad_token="[PAD]")
    losses, expected = both_losses(
        "AutoModelForSeq2SeqLM", str(tmp_path / "model"), data, tmp_path, layers=0,
        their_collator=transformers.DataCollatorForSeq2Seq(tokenizer, model=model), steps=STEPS // accumulation, accumulation=accumulation, settings={"learning_rate": 5e-4, **settings},
    )  # fmt: skip
    assert_same_path(losses, expected)
