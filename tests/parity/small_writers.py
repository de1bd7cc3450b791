"""Random small models that write, with small vocabularies of their own, as `transformers` saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

import unpad

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2LMHeadModel", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "llama": ("LlamaForCausalLM", {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48,
        "max_position_embeddings": 64,
    }),
    "t5": ("T5ForConditionalGeneration", {"d_model": 32, "num_layers": 2, "num_heads": 4, "d_kv": 8, "d_ff": 48}),
    "bart": ("BartForConditionalGeneration", {
        "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 64,
    }),
    "marian": ("MarianMTModel", {
        "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
        "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 64,
    }),
}  # fmt: skip


def texts() -> list[str]:
    return list(unpad.load_dataset("helpdesk/pairs")["train"]["sentence1"][:400])


def small_writer(kind: str, folder: Path, tokenizer: str | None = None, **config: Any) -> str:
    """The folder of a model of this family; `tokenizer`: a folder, else one is trained on a few texts."""
    theirs: Any
    if tokenizer is None:
        lone = kind in ("gpt2", "llama")
        unpad.AutoTokenizer.from_iterator(
            texts(), kind="byte-bpe" if lone else "unigram", vocab_size=400, model_max_length=64
        ).save_pretrained(folder)
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
    else:
        theirs = unpad.AutoTokenizer.from_pretrained(
            tokenizer, model_max_length=64
        )  # that of transformers may need more packages
        theirs.save_pretrained(folder)
    name, shape = SHAPES[kind]
    ids = {"eos_token_id": theirs.eos_token_id, "pad_token_id": theirs.pad_token_id}
    ids["bos_token_id"] = theirs.bos_token_id if theirs.bos_token_id is not None else theirs.eos_token_id
    if kind not in ("gpt2", "llama"):
        ids["decoder_start_token_id"] = theirs.pad_token_id
        ids |= {} if kind == "t5" else {"forced_eos_token_id": None}
    torch.manual_seed(0)
    settings = getattr(transformers, name).config_class(vocab_size=len(theirs), **{**shape, **ids, **config})
    model = getattr(transformers, name)(settings)
    for parameter in model.parameters():  # wide scores: no two tokens are nearly as likely
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.generation_config.max_length = None
    model.save_pretrained(folder)
    return str(folder)
