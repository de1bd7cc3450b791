"""Mistral (Jiang et al., 2023, arXiv:2310.06825): Llama whose attention may look back only so many tokens."""

from unpad.families import llama
from unpad.families._family import SPANS, Family

FAMILY = Family(
    model_type="mistral",
    prefix="Mistral",
    fields={**llama.FIELDS, "head_dim": "head_size", "sliding_window": "sliding_window"},
    defaults={
        **llama.DEFAULTS,
        "ffn_width": 14336,
        "kv_heads": 8,
        "max_positions": 4096 * 32,
        "sliding_window": 4096,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    base_prefix="model.",
    keys=llama.KEYS,
    heads={**llama.HEADS, "question-answering": SPANS},
    copies=llama.COPIES,
    dropped=llama.DROPPED,
)
