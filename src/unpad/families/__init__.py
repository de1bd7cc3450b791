"""The architecture families, one file of facts each, loaded when first asked for."""

from __future__ import annotations

from importlib import import_module

from unpad.errors import CheckpointError, nearest
from unpad.families._family import HEAD_CLASSES, Family

FAMILIES = {
    "bert": "unpad.families.bert",
}


def family(model_type: str, where: str = "config.json") -> Family:
    """The family of a `model_type`; CheckpointError names the supported ones."""
    if model_type not in FAMILIES:
        raise CheckpointError(
            f"{where}: model_type {model_type!r} is not supported{nearest(str(model_type), FAMILIES)}; "
            f"supported: {', '.join(FAMILIES)}"
        )
    return import_module(FAMILIES[model_type]).FAMILY


__all__ = ["FAMILIES", "HEAD_CLASSES", "Family", "family"]
