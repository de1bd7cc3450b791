"""Write a model as a Hugging Face checkpoint: the inverse of the plan by which it was read.

`config.json`, `model.safetensors` (or shards with an index) under the family's own names. Each file appears whole or not at all.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from unpad.checkpoint.files import atomic_write, writing_to
from unpad.checkpoint.load import INDEX, WEIGHTS
from unpad.config import ModelConfig
from unpad.core.layers import RowEmbedding
from unpad.errors import ArgumentError
from unpad.families import Family

if TYPE_CHECKING:
    from torch import Tensor, nn

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def to_theirs(
    model: nn.Module, config: ModelConfig, kind: Family, head: str, weights: dict[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """The model's weights (or those given) under the family's names; stacked ones are split as views."""
    for layer in model.modules():
        if isinstance(layer, RowEmbedding):
            layer.write_back()
    out: dict[str, Tensor] = {}
    for ours, parameter in model.named_parameters():
        rule, names = kind.rule(ours, head, config)
        values = parameter if weights is None else weights[ours]
        out.update(zip(names, rule.write(values.detach(), config), strict=True))
    return out


def save_weights(
    model: nn.Module, config: ModelConfig, kind: Family, head: str, folder: Path, max_shard_size: int | str = "50GB",
    weights: dict[str, Tensor] | None = None,
) -> None:  # fmt: skip
    """Write `config.json` and the weights into `folder`. Raises CheckpointError when the disk refuses."""
    from safetensors.torch import save_file

    limit = _bytes(max_shard_size)
    theirs = {name: t.contiguous().cpu() for name, t in to_theirs(model, config, kind, head, weights).items()}
    shards: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in theirs.items():
        size = tensor.numel() * tensor.element_size()
        if shards[-1] and filled + size > limit:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor
        filled += size
    config = config.replace(architectures=(kind.class_name(head),))
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for old in [*folder.glob("model-*-of-*.safetensors"), folder / INDEX]:
            old.unlink(missing_ok=True)
        names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
        names = [WEIGHTS] if len(shards) == 1 else names
        for file, shard in zip(names, shards, strict=True):
            part = folder / f".{file}.part"
            save_file(shard, str(part), metadata={"format": "pt"})
            part.replace(folder / file)
        if len(shards) > 1:
            where = {name: file for file, shard in zip(names, shards, strict=True) for name in shard}
            total = sum(t.numel() * t.element_size() for t in theirs.values())
            atomic_write(folder / INDEX, json.dumps({"metadata": {"total_size": total}, "weight_map": where}, indent=2))
            (folder / WEIGHTS).unlink(missing_ok=True)
        atomic_write(folder / "config.json", json.dumps(config.to_dict(), indent=2) + "\n")


def _bytes(size: int | str) -> int:
    if isinstance(size, int):
        return size
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]I?B)\s*", size.upper())
    if found is None:
        how = "write a number of bytes or like '500MB', '5GB', '2GiB'"
        raise ArgumentError(f"max_shard_size={size!r} is not a size; {how}")
    return int(float(found[1]) * _UNITS[found[2]])
