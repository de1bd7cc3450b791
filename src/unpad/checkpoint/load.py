"""Read a Hugging Face checkpoint: plan which tensors go where, fill the model from memory-mapped files, report what did not fit.

Everything that is wrong is found and told at once, before a single weight is used. Weights are safetensors; a pickle file is
read only when there is no other, and only with `weights_only=True`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unpad.config import ModelConfig
from unpad.errors import ArgumentError, CheckpointError, listing
from unpad.families import Family, family

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLE = "pytorch_model.bin"
PICKLE_INDEX = "pytorch_model.bin.index.json"


@dataclass(frozen=True)
class LoadReport:
    """What happened to each tensor. `new`: our parameters that the files do not have (a new head)."""

    loaded: int
    new: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; CheckpointError in one line when it is missing or broken."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; a model folder holds config.json and {WEIGHTS}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path} cannot be read ({reason}); copy the file again") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}, not an object; copy the file again")
    return value


def read_config(folder: Path) -> tuple[ModelConfig, Family]:
    """The configuration of the model in `folder` and the family that it belongs to."""
    path = folder / "config.json"
    if folder.is_file():
        raise CheckpointError(
            f"{folder} is a file; a model is a folder with config.json and {WEIGHTS}: give the folder"
        )
    raw = read_json(path)
    if not raw.get("model_type"):
        raise CheckpointError(
            f"{path} names no model_type, so it is not the configuration of a model; check that {folder} is a model's folder"
        )
    kind = family(str(raw.get("model_type", "")), where=str(path))
    try:
        return kind.read_config(raw, where=str(path)), kind
    except ArgumentError as error:
        raise CheckpointError(f"{path}: {error}; copy the file again, or mend that value") from None
    except (TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} has a value of the wrong kind ({error}); copy the file again") from None


def load_weights(model: nn.Module, folder: Path, kind: Family, head: str, resize_head: bool = False) -> LoadReport:
    """Fill `model`'s parameters from the weight files in `folder`.

    Tensors are read in the parameters' dtype. With `resize_head`, head weights of another shape are treated as new; otherwise
    they raise CheckpointError, as do weights of another architecture and unreadable files.
    """
    config: ModelConfig = model.config  # type: ignore[assignment]
    with ExitStack() as files:
        named = {kind.normal_name(name): get for name, get in _tensors(folder, files)}
        found = {name: get for name, get in named.items() if not kind.is_dropped(name)}
        bare = {kind.bare(name): name for name in found}
        wanted = {kind.bare(name) for ours, _ in model.named_parameters() for name in kind.rule(ours, head, config)[1]}
        for copy, name in kind.copies_of(config.tied).items():
            there = None if kind.bare(copy) in wanted else bare.pop(kind.bare(copy), None)
            if there is not None:
                get = found.pop(there)
                if kind.bare(name) in wanted and kind.bare(name) not in bare:
                    found[name], bare[kind.bare(name)] = get, name
        loaded, new, misshapen, used = 0, list[str](), list[str](), set[str]()
        for ours, parameter in model.named_parameters():
            rule, theirs = kind.rule(ours, head, config)
            names = [there for their in theirs if (there := bare.get(kind.bare(their)))]
            if len(names) < len(theirs):
                if ours == "head.bias" and config.fixed_vocabulary_bias:
                    parameter.data.zero_()  # what a file leaves out that nothing trains
                else:
                    new.append(ours)
                continue
            used.update(names)
            try:
                whole = rule.read([found[name]() for name in names])
            except Exception as error:
                raise CheckpointError(
                    f"{folder}: the weights {names[0]} cannot be read ({error}); copy the file again"
                ) from None
            if whole.shape == parameter.shape:
                parameter.data.copy_(whole)
                loaded += 1
            else:
                sizes = f"{list(whole.shape)} in the file and {list(parameter.shape)} in the model"
                misshapen.append(f"{theirs[0]} is {sizes}")
                new.append(ours)
        report = LoadReport(loaded, tuple(new), tuple(sorted(set(found) - used)), tuple(misshapen))
    _refuse(report, folder, kind, resize_head)
    return report


def has_own_table(folder: Path, kind: Family) -> bool:
    """Whether the files hold a table that reads out the vocabulary and differs from the token embedding. They are right where
    config.json says that it is tied: `transformers` 5 writes so for every T5."""
    import torch

    with ExitStack() as files:
        found = {kind.bare(name): get for name, get in _tensors(folder, files)}
        for copy in set(kind.copies) - set(kind.copies_of(tied=False)):
            pair = [found.get(kind.bare(name)) for name in (copy, kind.copies[copy])]
            if None not in pair:
                table, tokens = (get() for get in pair if get)
                return table.shape != tokens.shape or not torch.equal(table, tokens)
    return False


def _refuse(report: LoadReport, folder: Path, kind: Family, resize_head: bool) -> None:
    base_missing = [name for name in report.new if not name.startswith("head.")]
    if report.misshapen and base_missing:  # names fit, sizes do not: the right family with another configuration
        raise CheckpointError(
            f"{folder}: {listing(report.misshapen, 3)}; config.json and weights do not belong together: copy both from the same checkpoint"
        )
    if report.loaded == 0 or len(base_missing) > report.loaded:
        raise CheckpointError(
            f"{folder}: the weights are not of a {kind.model_type} model; missing e.g. {listing(base_missing, 2)}, "
            f"found e.g. {listing(report.unexpected, 2)}; check that config.json and weights belong together"
        )
    if report.misshapen and not (resize_head and all(name.startswith("head.") for name in report.new)):
        raise CheckpointError(
            f"{folder}: {listing(report.misshapen, 3)}; pass ignore_mismatched_sizes=True to start such head weights anew, "
            "or the num_labels of the checkpoint"
        )
    if base_missing:
        raise CheckpointError(
            f"{folder}: the file lacks {listing(base_missing, 3)}; it is not a whole {kind.model_type} checkpoint: copy it again"
        )


def _tensors(folder: Path, files: ExitStack) -> Iterator[tuple[str, Any]]:
    """(name, function that reads the tensor) for each tensor of the checkpoint in `folder`."""
    for index, single in ((INDEX, WEIGHTS), (PICKLE_INDEX, PICKLE)):
        if (folder / index).is_file() or (folder / single).is_file():
            paths = _shards(folder / index) if (folder / index).is_file() else [folder / single]
            return _safetensors(paths, files) if single == WEIGHTS else _pickles(paths)
    raise CheckpointError(
        f"{folder} has no weights; expected {WEIGHTS} (or {INDEX} with its shards): copy the whole checkpoint"
    )


def _shards(index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise CheckpointError(f"{index} has no weight_map; copy the file again")
    for shard in names.values():
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise CheckpointError(
                f"{index} names {shard!r}, which is not a plain file name; the checkpoint is not trustworthy"
            )
    return [index.parent / shard for shard in sorted(set(names.values()))]


def _safetensors(paths: list[Path], files: ExitStack) -> Iterator[tuple[str, Any]]:
    from safetensors import SafetensorError, safe_open

    for path in paths:
        try:
            handle = files.enter_context(safe_open(str(path), framework="pt"))
            names = list(handle.keys())
        except FileNotFoundError:
            raise CheckpointError(f"{path} is missing, but the index names it; copy the whole checkpoint") from None
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is damaged or not a safetensors file ({error}); copy it again") from None
        for name in names:
            yield name, (lambda handle=handle, name=name: handle.get_tensor(name))


def _pickles(paths: list[Path]) -> Iterator[tuple[str, Any]]:
    import torch

    for path in paths:
        try:
            state: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:
            first = str(error).splitlines()[0]
            raise CheckpointError(f"{path} cannot be read safely ({first}); convert it to safetensors") from None
        for name, tensor in state.items():
            yield name, (lambda tensor=tensor: tensor)
