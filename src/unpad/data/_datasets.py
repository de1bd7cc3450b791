"""What is left to the `datasets` library: the Hub, files too large for memory, and data sets that it saved.

Its failures, which come as long chains of exceptions, are told in one line.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from unpad.data._find import ending
from unpad.data._read import one_line
from unpad.errors import ArgumentError, DataError, UnpadError, listing, nearest

if TYPE_CHECKING:
    from datasets import DatasetDict

_UNREACHABLE = {
    "ConnectionError",
    "ConnectError",
    "OfflineModeIsEnabled",
    "LocalEntryNotFoundError",
    "TimeoutException",
}


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


def from_hub(path: str, name: str | None, data_files: Any, split: Any, options: dict[str, Any]) -> Any:
    """`datasets.load_dataset` as it is; raises DataError or ArgumentError."""
    try:
        return _load(path, name, data_files, split, options)
    except Exception as error:
        raise _hub_error(error, path, name) from error


def _load(path: str, name: str | None, data_files: Any, split: Any, options: dict[str, Any]) -> Any:
    import datasets

    return datasets.load_dataset(path, name, data_files=data_files, split=split, **options)


def _hub_error(error: Exception, path: str, name: str | None) -> UnpadError:
    text = one_line(error)
    title = f"{path}/{name}" if name else path
    unknown = re.search(r'Unknown split "([^"]*)"\. Should be one of (.*?)\.?$', text)
    if unknown:
        return DataError(f"{title!r} has no split {unknown.group(1)!r}; the data has: {unknown.group(2)}.")
    kinds: set[str] = set()
    link: BaseException | None = error
    for _ in range(10):
        if link is not None:
            kinds |= {kind.__name__ for kind in type(link).__mro__}
            link = link.__cause__ or link.__context__
    switches = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
    offline = next((v for v in switches if os.environ.get(v, "").upper() in ("1", "ON", "YES", "TRUE")), None)
    if offline or kinds & _UNREACHABLE:
        why = f"{offline} is set" if offline else "the network is down or the Hub does not answer"
        near = nearest(path, os.listdir("."))
        found = f"{title!r} was not found in the cache, and {why}; {os.path.abspath(path)} does not exist either{near}"
        how = "unset it" if offline else "connect once"
        return DataError(f"{found}; {how} to download, or pass a local path, or 'helpdesk'.")
    if "DatasetNotFoundError" in kinds:
        how = "check the spelling, or sign in with `hf auth login` if it is private"
        return DataError(f"{title!r} is no file or folder here and no data set on the Hub that you can see; {how}.")
    if isinstance(error, TypeError):
        return ArgumentError(f"{title!r} cannot be loaded with these options ({text}); check their names.")
    return DataError(
        f"{title!r} cannot be loaded from the Hub ({text}); check the id, the configuration and the files."
    )
