"""Qwen2 (Yang et al., 2024, arXiv:2407.10671): Llama with biases on queries, keys and values."""

from unpad.families import llama
from unpad.families._family import Family

FIELDS = {**llama.FIELDS, "layer_types": "layer_types"}
DEFAULTS = {**llama.DEFAULTS, "vocab_size": 151936, "ffn_width": 22016, "kv_heads": 32, "max_positions": 32768}

FAMILY = Family(
    model_type="qwen2",
    prefix="Qwen2",
    fields=FIELDS,
    defaults={**DEFAULTS, "qkv_bias": True},
    only={"use_sliding_window": (False,)},
    base_prefix="model.",
    keys=llama.KEYS,
    heads=llama.HEADS,
    copies=llama.COPIES,
    dropped=llama.DROPPED,
)
