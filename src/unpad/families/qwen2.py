"""Qwen2 (Yang et al., 2024, arXiv:2407.10671): Llama with biases on queries, keys and values."""

from dataclasses import replace

from unpad.families import llama
from unpad.families._family import same

# What Qwen3 has in common with it.
FIELDS = {**llama.FIELDS, **same("layer_types")}
DEFAULTS = {**llama.DEFAULTS, "vocab_size": 151936, "ffn_width": 22016, "kv_heads": 32, "max_positions": 32768}

FAMILY = replace(
    llama.FAMILY,
    model_type="qwen2",
    prefix="Qwen2",
    fields=FIELDS,
    defaults={**DEFAULTS, "qkv_bias": True},
    only={"use_sliding_window": (False,)},
)
