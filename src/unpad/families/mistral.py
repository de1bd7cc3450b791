"""Mistral (Jiang et al., 2023, arXiv:2310.06825): Llama whose attention may look back only so many tokens."""

from dataclasses import replace

from unpad.families import llama
from unpad.families._family import SPANS, same

FAMILY = replace(
    llama.FAMILY,
    model_type="mistral",
    prefix="Mistral",
    fields={**llama.FIELDS, **same("sliding_window"), "head_dim": "head_size"},
    defaults={
        **llama.FAMILY.defaults,
        "ffn_width": 14336,
        "kv_heads": 8,
        "max_positions": 4096 * 32,
        "sliding_window": 4096,
    },
    heads={**llama.FAMILY.heads, "question-answering": SPANS},
)
