"""Llama (Touvron et al., 2023, arXiv:2302.13971): pre-norm decoder with rotary positions, gated feed-forward and RMS norms."""

from dataclasses import replace

from unpad.families import gpt2
from unpad.families._family import BASE, SIZES, SPANS, Family, head, rename, same, stack

# What Mistral and Qwen have in common with it.
FIELDS = {
    **same("vocab_size", "initializer_range", "attention_dropout", "classifier_dropout", "rope_scaling"),
    **same("rope_parameters", "pad_token_id", "bos_token_id", "eos_token_id"),
    **SIZES,
    "num_key_value_heads": "kv_heads",
    "hidden_act": "activation",
    "rms_norm_eps": "norm_eps",
    "tie_word_embeddings": "tied",
    "rope_theta": "global_theta",
}
DEFAULTS = {
    "vocab_size": 32000,
    "width": 4096,
    "ffn_width": 11008,
    "layers": 32,
    "heads": 32,
    "activation": "silu",
    "max_positions": 2048,
    "input_positions": False,
    "dropout": 0.0,
    "classifier_dropout": 0.1,
    "norm_eps": 1e-6,
    "tied": False,
    "global_theta": 10_000.0,
    "causal": True,
    "pre_norm": True,
    "gated": True,
    "rms_norm": True,
    "embedding_norm": False,
    "attention_bias": False,
    "ffn_bias": False,
    "vocabulary_bias": False,
}
FAMILY = Family(
    model_type="llama",
    prefix="Llama",
    fields={**FIELDS, **same("attention_bias"), "head_dim": "head_size", "mlp_bias": "ffn_bias"},
    defaults={**DEFAULTS, "bos_token_id": 1, "eos_token_id": 2},
    base_prefix="model.",
    keys=[
        rename("embed_tokens", "transformer.embeddings.tokens"),
        stack([f"layers.{{i}}.self_attn.{part}_proj" for part in "qkv"], "transformer.blocks.{i}.qkv", by_heads=True),
        rename("layers.{i}.self_attn.o_proj", "transformer.blocks.{i}.out"),
        rename("layers.{i}.input_layernorm", "transformer.blocks.{i}.attention_norm"),
        stack(["layers.{i}.mlp.gate_proj", "layers.{i}.mlp.up_proj"], "transformer.blocks.{i}.up"),
        rename("layers.{i}.mlp.down_proj", "transformer.blocks.{i}.down"),
        rename("layers.{i}.post_attention_layernorm", "transformer.blocks.{i}.ffn_norm"),
        rename("norm", "transformer.final_norm"),
    ],
    heads={
        "base": BASE,
        "causal-lm": gpt2.WORDS,
        "sequence-classification": gpt2.SCORE,
        "token-classification": head([rename("score", "head.classifier")], reads="each"),
        "question-answering": replace(SPANS, base_prefix="transformer."),
    },
    copies={"lm_head.weight": "model.embed_tokens.weight"},
    dropped=(r"(.+\.)?rotary_emb\.inv_freq",),
)
