"""The architecture families, one file of facts each, loaded when first asked for."""

from __future__ import annotations

from importlib import import_module

from unpad.errors import CheckpointError, nearest
from unpad.families._family import Family

FAMILIES = {
    "bert": "unpad.families.bert",
    "distilbert": "unpad.families.distilbert",
    "roberta": "unpad.families.roberta",
    "xlm-roberta": "unpad.families.xlm_roberta",
    "albert": "unpad.families.albert",
    "electra": "unpad.families.electra",
    "deberta-v2": "unpad.families.deberta_v2",
    "modernbert": "unpad.families.modernbert",
    "gpt2": "unpad.families.gpt2",
    "openai-gpt": "unpad.families.openai_gpt",
    "ctrl": "unpad.families.ctrl",
    "transfo-xl": "unpad.families.transfo_xl",
    "llama": "unpad.families.llama",
    "mistral": "unpad.families.mistral",
    "qwen2": "unpad.families.qwen2",
    "qwen3": "unpad.families.qwen3",
    "bart": "unpad.families.bart",
    "mbart": "unpad.families.mbart",
    "marian": "unpad.families.marian",
    "t5": "unpad.families.t5",
    "mt5": "unpad.families.mt5",
}


def family(model_type: str, where: str = "config.json") -> Family:
    """The family of a `model_type`; CheckpointError names the supported ones."""
    if model_type not in FAMILIES:
        raise CheckpointError(
            f"{where}: model_type {model_type!r} is not supported{nearest(str(model_type), FAMILIES)}; "
            f"supported: {', '.join(FAMILIES)}"
        )
    return import_module(FAMILIES[model_type]).FAMILY


__all__ = ["FAMILIES", "Family", "family"]
