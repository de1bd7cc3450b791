"""Qwen3 (Yang et al., 2025, arXiv:2505.09388): Llama with norms on the queries and keys of each head."""

from dataclasses import replace

from unpad.families import qwen2
from unpad.families._family import rename, same

FAMILY = replace(
    qwen2.FAMILY,
    model_type="qwen3",
    prefix="Qwen3",
    fields={**qwen2.FIELDS, **same("attention_bias"), "head_dim": "head_size"},
    defaults={**qwen2.DEFAULTS, "head_size": 128, "qk_norm": True},
    keys=[
        *qwen2.FAMILY.keys,
        rename("layers.{i}.self_attn.q_norm", "transformer.blocks.{i}.q_norm"),
        rename("layers.{i}.self_attn.k_norm", "transformer.blocks.{i}.k_norm"),
    ],
)
