"""A random small BERT for masked language modelling with a small vocabulary of its own: what takes seconds with 30,000 words takes none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

import unpad


def small_mlm(minilm: str, folder: Path, words: int = 600, **changes: Any) -> str:
    """The folder, with model and tokenizer as `transformers` saves them."""
    texts = unpad.load_dataset("helpdesk/pairs")["train"]["sentence1"][:400]
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm).train_new_from_iterator([texts], words)
    torch.manual_seed(0)
    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "initializer_range": 0.2,
    }
    config = transformers.BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **{**shape, **changes})
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    tokenizer.model_max_length = config.max_position_embeddings
    tokenizer.save_pretrained(folder)
    return str(folder)
