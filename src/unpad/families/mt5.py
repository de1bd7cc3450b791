"""mT5 (Xue et al., 2020, arXiv:2010.11934): T5 v1.1 for many languages; the vocabulary is never scaled as it is read out."""

from unpad.families import t5
from unpad.families._family import Family

FAMILY = Family(
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
    only=t5.ONLY,
    base_prefix="",
    keys=t5.KEYS,
    heads=t5.HEADS,
    copies=t5.COPIES,
    dropped=t5.DROPPED,
)
