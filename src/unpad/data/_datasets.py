"""What is left to the `datasets` library: the Hub, files too large for memory, and data sets that it saved.

Its failures, which come as long chains of exceptions, are told in one line.
"""

from __future__ import annotations

import ast
import dataclasses
import glob
import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unpad.data._find import ending, one_line
from unpad.errors import ArgumentError, DataError, UnpadError, listing, nearest
from unpad.hub.pull import is_full, why_not
from unpad.notices import say_once

if TYPE_CHECKING:
    from datasets import DatasetDict

_UNREACHABLE = {
    "ConnectionError", "ConnectError", "OfflineModeIsEnabled", "LocalEntryNotFoundError", "TimeoutException",
}  # fmt: skip
_PARQUET = "refs/convert/parquet"
"""Branch where the Hub keeps copies of data sets in Parquet, a folder for each configuration."""
_HASHED = re.compile(r"-[0-9a-f]{16}$")
"""How a folder of the library's cache ends when it holds a configuration with other files or options."""


def is_saved(folder: str) -> bool:
    """Whether `save_to_disk` wrote the folder."""
    here = os.listdir(folder)
    return "dataset_dict.json" in here or {"state.json", "dataset_info.json"} <= set(here)


def from_disk(folder: str) -> DatasetDict:
    """What `save_to_disk` wrote; raises DataError when it is broken or has an empty split."""
    from datasets import DatasetDict, load_from_disk

    full = os.path.abspath(folder)
    try:
        found = load_from_disk(folder)
    except Exception as error:
        raise DataError(f"the saved data set {full} cannot be read ({one_line(error)}); save it again.") from None
    dataset = found if isinstance(found, DatasetDict) else DatasetDict({str(found.split or "train"): found})
    for split, part in dataset.items():
        if len(part) == 0:
            raise DataError(f"split {split!r} of {full} has no rows; save it again with some.")
    return dataset


def from_cache(kind: str, plan: dict[str, list[str]], split: Any, options: dict[str, Any]) -> Any:
    """The planned files of one format, converted once into the cache of the library and memory-mapped from there."""
    files = [f for chosen in plan.values() for f in chosen]
    if kind == "csv":
        options = {"keep_default_na": False, **options}  # "" and "NA" stay text
        if all(ending(f) == ".tsv" for f in files):
            options = {"delimiter": "\t", **options}
    try:
        return _load(kind, None, plan, split, options)
    except Exception as error:
        wrong = isinstance(error, TypeError) or "unexpected keyword" in str(error)
        told = f"{listing(files, 3)} cannot be read as {kind} ({one_line(error.__cause__ or error)})"
        raise (ArgumentError if wrong else DataError)(f"{told}; check the file and the options.") from error


def from_addresses(kind: str, data_files: Any, split: Any, options: dict[str, Any], name: str | None = None) -> Any:
    """Files of one format of the library that are named by their addresses in the network."""
    try:
        return _load(kind, name, data_files, split, options)
    except Exception as error:
        raise _hub_error(error, kind, name) from error


def from_hub(
    path: str, name: str | None, data_files: Any, split: Any, hub: dict[str, Any], options: dict[str, Any]
) -> Any:
    """A data set of the Hub through `datasets`, or out of its cache where the Hub does not answer.

    `hub` are `revision`, `token`, `local_files_only` and `force_download`; `options` go to `datasets`, but for those that only a
    builder script could have meant (`lang1="en", lang2="fr"`): they name a configuration. Raises DataError or ArgumentError.
    """
    from datasets import packaged_modules

    local, force = hub.pop("local_files_only", False), hub.pop("force_download", False)
    known = {**hub, **({"download_mode": "force_redownload"} if force else {})}
    if path in packaged_modules._PACKAGED_DATASETS_MODULES or "://" in path:
        return from_addresses(path, data_files, split, {**options, **known}, name)
    odd = {} if name else {key: value for key, value in options.items() if key not in _library() | _formats()}
    mine = {key: value for key, value in options.items() if key not in odd}
    path, files, problem = _found(path, hub, local)
    if problem is not None:
        whole = data_files is None and mine.keys() <= _library() - {"data_dir", "features"}
        if whole and not force:
            found = _cached(path, name or odd, split, hub, mine, problem)
            found = _parquet_copy(path, name or odd, split, hub, mine, online=False) if found is None else found
            if found is not None:
                return found
        # otherwise the library may have it, but it forgets which revision that was
        sure = whole or hub.get("revision") is not None
        if local or (sure and (_folder(path, options).is_dir() or not _is_offline(problem))):
            reason = why_not(problem, path, "dataset", {**hub, "local_files_only": local})
            raise DataError(f"data set {_title(path, name)!r}: {reason}") from None
    try:
        if f"{path.rpartition('/')[2]}.py" in files and data_files is None:
            return _parquet_copy(path, name or odd, split, hub, mine)
        if files and odd:
            import datasets

            there = datasets.get_dataset_config_names(path, **hub)
            return _load(path, _configuration(path, odd, there), data_files, split, {**mine, **known})
        return _load(path, name, data_files, split, {**options, **known})
    except UnpadError:
        raise
    except Exception as error:
        if files and data_files is not None and "Couldn't find cache" in str(error):  # its last resort, not the reason
            raise DataError(f"{path!r} has none of data_files={data_files!r:.60}; it has: {listing(files)}.") from error
        raise _hub_error(error, path, name, hub) from error


def _load(path: str, name: str | None, data_files: Any, split: Any, options: dict[str, Any]) -> Any:
    import datasets

    with _few_words():
        return datasets.load_dataset(path, name, data_files=data_files, split=split, **options)


def _found(path: str, hub: Mapping[str, Any], local: bool) -> tuple[str, list[str], Exception | None]:
    """A data set's id with its owner (`imdb` has one, too) and its files on the Hub, or why they are not known."""
    import datasets
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        if local or datasets.config.HF_HUB_OFFLINE:
            raise OfflineModeIsEnabled
        info = HfApi(token=hub.get("token")).dataset_info(path, revision=hub.get("revision"), timeout=10)
        return info.id, [file.rfilename for file in info.siblings or ()], None
    except Exception as error:
        there = [] if "/" in path else sorted(Path(constants.HF_HUB_CACHE).glob(f"datasets--*--{glob.escape(path)}"))
        owners = [folder.name.split("--")[1] for folder in there]
        if len(owners) > 1:
            wrong = f"{path!r} may be one of {listing(f'{owner}/{path}' for owner in owners)} in the cache"
            raise DataError(f"{wrong}, and the Hub was not asked; give it with its owner.") from None
        return f"{owners[0]}/{path}" if owners else path, [], error


def _cached(
    path: str, asked: Any, split: Any, hub: Mapping[str, Any], options: Mapping[str, Any], problem: Exception
) -> Any:
    """A data set that the library's cache holds whole, at the revision that is asked for; None where it does not."""
    from datasets.packaged_modules.cache.cache import Cache
    from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError, RevisionNotFoundError

    root = _folder(path, options)
    there = sorted(p.name for p in root.iterdir() if p.is_dir() and not _HASHED.search(p.name)) if root.is_dir() else []
    wrong = (RevisionNotFoundError, LocalTokenNotFoundError, HFValidationError)
    if not there or isinstance(problem, wrong) or (isinstance(asked, str) and asked not in there):
        return None
    name = _configuration(path, asked, there, "in the cache")
    files = sorted((root / name).glob("*/*/dataset_info.json"), key=lambda file: file.stat().st_mtime)
    versions, revision = [file.parent for file in files], hub.get("revision")
    commit = _commit(path, revision or "main")
    chosen = [folder for folder in versions if folder.name == commit] or ([] if revision else versions)
    if not chosen:
        return None
    last = chosen[-1]
    why = "offline mode is on" if _is_offline(problem) else f"the Hub did not give it ({type(problem).__name__})"
    say_once(f"data set {_title(path, name)!r} comes out of the cache, at commit {last.name[:8]}: {why}")
    try:
        builder = Cache(
            cache_dir=str(root.parent), repo_id=path, dataset_name=path.rpartition("/")[2], config_name=name,
            version=last.parent.name, hash=last.name,
        )  # fmt: skip
        return builder.as_streaming_dataset(split) if options.get("streaming") else builder.as_dataset(split)
    except Exception as error:
        raise _hub_error(error, path, asked if isinstance(asked, str) else None) from error


def _folder(path: str, options: Mapping[str, Any]) -> Path:
    """Where the library keeps the configurations of a data set."""
    import datasets

    owner, _, last = path.rpartition("/")
    cache = Path(options.get("cache_dir") or datasets.config.HF_DATASETS_CACHE).expanduser()
    return cache / "___".join([*([owner] if owner else []), datasets.naming.camelcase_to_snakecase(last)])


def _is_offline(problem: Exception) -> bool:
    return type(problem).__name__ == "OfflineModeIsEnabled"


def _commit(path: str, revision: str) -> str | None:
    """The commit that a revision of a data set was when the Hub was last asked."""
    from huggingface_hub import constants

    if re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    file = Path(constants.HF_HUB_CACHE, f"datasets--{path.replace('/', '--')}", "refs", revision)
    return file.read_text().strip() if file.is_file() else None


def _parquet_copy(
    path: str, asked: Any, split: Any, hub: Mapping[str, Any], options: dict[str, Any], online: bool = True
) -> Any:
    """The copy in Parquet that the Hub makes of data sets that are scripts; offline None where it is not in the cache."""
    from huggingface_hub import HfApi, constants, snapshot_download

    script = f"{path!r} is a script ({path.rpartition('/')[2]}.py), which is never run"
    copied = hub.get("revision") in (None, "main")
    commit, files = _commit(path, _PARQUET), []
    if not online:
        snapshot = Path(constants.HF_HUB_CACHE, f"datasets--{path.replace('/', '--')}", "snapshots", commit or "none")
        files = [f.relative_to(snapshot).as_posix() for f in snapshot.glob("*/*/*.parquet")]
        if not files or not copied or (isinstance(asked, str) and not any(f.startswith(f"{asked}/") for f in files)):
            return None
    elif copied:
        try:
            files = HfApi(token=hub.get("token")).list_repo_files(path, repo_type="dataset", revision=_PARQUET)
        except Exception:  # most often there is no such branch
            files = []
    there = sorted({file.split("/")[0] for file in files if file.endswith(".parquet")})
    if not there:
        how = "download its files and load these, or look for a copy of it in Parquet"
        raise DataError(f"{script}, and the Hub has no copy in Parquet for this call; {how}.")
    name = _configuration(path, asked, there)
    whole = snapshot_download(
        path, repo_type="dataset", revision=_PARQUET, token=hub.get("token"), local_files_only=not online,
        allow_patterns=f"{glob.escape(name)}/*.parquet",
    )  # fmt: skip
    say_once(f"{script}: the Hub's copy in Parquet is loaded, configuration {name!r}")
    plan: dict[str, list[str]] = {}
    for file in sorted(Path(whole, name).glob("*/*.parquet")):
        plan.setdefault(file.parent.name.removeprefix("partial-"), []).append(str(file))
        if file.parent.name.startswith("partial-"):
            say_once(f"of {path!r}, the Hub has copied only a part of {file.parent.name.removeprefix('partial-')!r}")
    return from_cache("parquet", plan, split, options)


def _configuration(path: str, asked: str | Mapping[str, Any] | None, there: Sequence[str], where: str = "") -> str:
    """The configuration of this name, of these values of a builder script in either order, or (nothing asked) the only one there is."""
    values: list[Any] = list(asked.values()) if isinstance(asked, Mapping) else [asked] if asked else []
    wanted = ["-".join(map(str, values)), "-".join(map(str, reversed(values)))]
    found = next((name for name in wanted if name in there), None)
    if not values:
        found = "default" if "default" in there else there[0] if len(there) == 1 else None
    if found is not None:
        return found
    given = ", ".join(f"{key}={value!r}" for key, value in asked.items()) if isinstance(asked, Mapping) else wanted[0]
    told = f"no configuration {given!r}" if isinstance(asked, str) else f"no configuration of {given}"
    told = f"{told}{nearest(wanted[0], there)}" if values else "several configurations, name one"
    raise DataError(f"{path!r} has {told}; there are{f' {where}' if where else ''}: {listing(there, 40)}.")


def _library() -> set[str]:
    """What `datasets.load_dataset` itself takes."""
    from datasets import load

    known = inspect.signature(load.load_dataset).parameters.values()
    return {parameter.name for parameter in known if parameter.kind != parameter.VAR_KEYWORD}


def _formats() -> set[str]:
    """What one of the library's file formats takes, such as `sep` of csv."""
    from datasets import BuilderConfig, packaged_modules

    assert packaged_modules
    kinds = (BuilderConfig, *BuilderConfig.__subclasses__())
    return {field.name for kind in kinds for field in dataclasses.fields(kind)}


@contextmanager
def _few_words() -> Iterator[None]:
    """No progress bars of the library in files and pipes, where each state of one would be a line."""
    import datasets

    if sys.stderr.isatty() or "ipykernel" in sys.modules or datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


def _title(path: str, name: str | None) -> str:
    return f"{path}/{name}" if name else path


def _hub_error(error: Exception, path: str, name: str | None, hub: Mapping[str, Any] | None = None) -> UnpadError:
    text, whole = one_line(error), " ".join(str(error).split())
    title = _title(path, name)
    unknown = re.search(r'Unknown split "([^"]*)"\. Should be one of (.*?)\.?$', text)
    if unknown:
        return DataError(f"{title!r} has no split {unknown.group(1)!r}; the data has: {unknown.group(2)}.")
    configurations = re.search(r"(?:available configs|Available): (\[[^\]]*\])", whole)
    if configurations:
        there = ast.literal_eval(configurations[1])
        told = f"no configuration {name!r}{nearest(name, there)}" if name else "several configurations, name one"
        return DataError(f"{path!r} has {told}; there are: {listing(there, 40)}.")
    kinds: set[str] = set()
    link: BaseException | None = error
    for _ in range(10):
        if link is not None:
            kinds |= {kind.__name__ for kind in type(link).__mro__}
            link = link.__cause__ or link.__context__
    if "HfHubHTTPError" in kinds or is_full(error):
        return DataError(f"data set {title!r}: {why_not(error, path, 'dataset', hub or {})}")
    switches = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
    offline = next((v for v in switches if os.environ.get(v, "").upper() in ("1", "ON", "YES", "TRUE")), None)
    if offline or kinds & _UNREACHABLE:
        why = f"{offline} is set" if offline else "the network is down or the Hub does not answer"
        near = nearest(path, os.listdir("."))
        found = f"{title!r} was not found in the cache, and {why}; {os.path.abspath(path)} does not exist either{near}"
        how = "unset it" if offline else "connect once"
        return DataError(f"{found}; {how} to download, or pass a local path, or 'helpdesk'.")
    if kinds & {"EmptyDatasetError", "DataFilesNotFoundError"}:
        how = "check the id, data_files= and data_dir="
        return DataError(f"{title!r} holds no files of data that can be read (csv, jsonl, parquet, text, ...); {how}.")
    if "DatasetNotFoundError" in kinds:
        how = "check the spelling, or run `unpad login` if it is private"
        return DataError(f"{title!r} is no file or folder here and no data set on the Hub that you can see; {how}.")
    if isinstance(error, TypeError):
        return ArgumentError(f"{title!r} cannot be loaded with these options ({text}); check their names.")
    return DataError(f"{title!r} cannot be loaded from the Hub ({text}); check the id, configuration and files.")
