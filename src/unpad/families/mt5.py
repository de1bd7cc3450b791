"""mT5 (Xue et al., 2020, arXiv:2010.11934): T5 v1.1 for many languages; the vocabulary is never scaled as it is read out."""

from dataclasses import replace

from unpad.families import t5

FAMILY = replace(
    t5.FAMILY,
    model_type="mt5",
    prefix="MT5",
    fields=t5.FIELDS,
    defaults={
        **t5.DEFAULTS,
        "vocab_size": 250112,
        "ffn_width": 1024,
        "layers": 8,
        "heads": 6,
        "activation": "gelu_new",
        "gated": True,
    },
)
