"""Training state on disk without pickle: any tree of tensors and plain values as one safetensors and one JSON file.

Optimizer, schedule, scaler and generator states are trees of dictionaries, lists, tuples, tensors and scalars. Tensors go to
`<name>.safetensors` under their path, the rest to `<name>.json` with a marker where a tensor was. Numbers survive exactly:
JSON carries Python's shortest representation of a float, which reads back to the same bits.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unpad.errors import CheckpointError


def write_tree(folder: Path, name: str, tree: Any) -> None:
    """Write `tree` as `folder/name.json` and, when it has tensors, `folder/name.safetensors`."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    plain = _encode(tree, "", tensors)
    if tensors:
        save_file(tensors, str(folder / f"{name}.safetensors"))
    (folder / f"{name}.json").write_text(json.dumps(plain), encoding="utf-8")


def read_tree(folder: Path, name: str) -> Any:
    """The tree that `write_tree` wrote. Raises CheckpointError when it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        plain = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        file = folder / f"{name}.safetensors"
        return _decode(plain, load_file(str(file)) if file.is_file() else {})
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder / name}.json cannot be read ({error}); continue from an earlier checkpoint"
        ) from None


def _encode(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        value = value.detach().contiguous().cpu()
        path = _free(path, tensors)
        shared = any(other.data_ptr() == value.data_ptr() for other in tensors.values()) if value.numel() else False
        tensors[path] = value.clone() if shared else value  # safetensors takes each memory once
        return {"tensor": path}
    if isinstance(value, np.ndarray):
        path = _free(path, tensors)
        plain = value
        if value.dtype.kind != "f":
            plain = value.view(np.int64) if value.dtype == np.uint64 else value.astype(np.int64)
        tensors[path] = torch.from_numpy(np.ascontiguousarray(plain))
        return {"array": path, "dtype": str(value.dtype)}
    if isinstance(value, dict):
        if wrong := next((key for key in value if not isinstance(key, (str, int, float, bool, type(None)))), None):
            raise CheckpointError(f"the state at {path or '/'} has the key {wrong!r}; use texts and numbers as keys")
        return {"items": [[key, _encode(item, f"{path}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_encode(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    what = f"the state at {path or '/'} is a {type(value).__name__}, which cannot be saved"
    raise CheckpointError(f"{what}; use numbers, texts, lists, dictionaries and tensors")


def _free(path: str, tensors: dict[str, Tensor]) -> str:
    """A name that is not taken: the keys 1 and "1", or "a/b" and "a" above "b", make the same path."""
    while path in tensors:
        path += "'"
    return path


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "array" in value:
        array = tensors[value["array"]].numpy()
        return array.view(np.uint64) if value["dtype"] == "uint64" else array.astype(value["dtype"])
    if "items" in value:
        return {key: _decode(item, tensors) for key, item in value["items"]}
    if "tuple" in value:
        return tuple(_decode(item, tensors) for item in value["tuple"])
    return [_decode(item, tensors) for item in value["list"]]


def random_state() -> dict[str, Any]:
    """The states of every generator that a training step may draw from."""
    state: dict[str, Any] = {"torch": torch.get_rng_state(), "python": random.getstate()}
    state["numpy"] = np.random.get_state()
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Set every generator to a state from `random_state`."""
    torch.set_rng_state(state["torch"])
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def set_seed(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
