"""Qwen3 (Yang et al., 2025, arXiv:2505.09388): Llama with norms on the queries and keys of each head."""

from unpad.families import llama, qwen2
from unpad.families._family import Family, rename

FAMILY = Family(
    model_type="qwen3",
    prefix="Qwen3",
    fields={**qwen2.FIELDS, "head_dim": "head_size", "attention_bias": "attention_bias"},
    defaults={**qwen2.DEFAULTS, "head_size": 128, "qk_norm": True},
    only={"use_sliding_window": (False,)},
    base_prefix="model.",
    keys=[
        *llama.KEYS,
        rename("layers.{i}.self_attn.q_norm", "transformer.blocks.{i}.q_norm"),
        rename("layers.{i}.self_attn.k_norm", "transformer.blocks.{i}.k_norm"),
    ],
    heads=llama.HEADS,
    copies=llama.COPIES,
    dropped=llama.DROPPED,
)
