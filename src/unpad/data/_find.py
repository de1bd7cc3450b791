"""Which local files make which split: by the names given, or by the names of the files in a folder.

A plan is a dictionary of split to its files, in the order in which they are read; nothing is opened here.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unpad.errors import DataError, listing, nearest
from unpad.notices import say_once

FORMATS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json",
           ".parquet": "parquet", ".txt": "text"}  # fmt: skip
OPTIONS = {"csv": {"delimiter", "sep", "column_names", "encoding"}, "json": {"field", "encoding"},
           "parquet": {"columns"}, "text": {"encoding"}}  # fmt: skip
"""Format -> the options that reading it here knows."""
COMPRESSIONS = (".gz", ".bz2", ".zst")
ALLOWED = f"{', '.join(FORMATS)} (also with {', '.join(COMPRESSIONS)})"
SPLIT_NAMES = {"train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
               "dev": "validation", "test": "test", "testing": "test"}  # fmt: skip
SPLIT_NAMES |= {
    f"{split}_{kind}": f"{split}_{kind}" for split in ("validation", "test") for kind in ("matched", "mismatched")
}
NAMES_FILE = "labels.json"
"""Beside other files of a folder it holds the names of the numbers in their label columns, not rows."""
_LONGEST_FIRST = "|".join(sorted(SPLIT_NAMES, key=len, reverse=True))
_SPLIT_IN_NAME = re.compile(rf"(?:^|[-_. ])({_LONGEST_FIRST})(?=$|[-_. ])", re.IGNORECASE)
_SIDE_FILES = re.compile(
    r"[._].*|(dataset_infos?|dataset_dict|state)\.json|(readme|license|licence|notice)\b.*", re.IGNORECASE
)


def ending(file: str) -> str:
    """The ending that says the format: `.csv` for `a.csv` and `a.csv.gz`; empty when it is none of ours."""
    stem, found = os.path.splitext(file.split("?")[0].lower())
    found = os.path.splitext(stem)[1] if found in COMPRESSIONS else found
    return found if found in FORMATS else ""


def looks_like_a_path(path: str) -> bool:
    """Does a text that names nothing here mean a local file or folder, rather than an id on the Hub?"""
    if "://" in path:
        return False
    if ending(path) or path.startswith((".", "/", "~")) or path.count("/") > 1 or "\\" in path:
        return True
    # a misspelt or foreign ending, such as a.cvs or a.xlsx
    return bool(re.search(r"\.[A-Za-z]{2,7}(\.gz)?$", path)) and os.path.isdir(os.path.dirname(path) or ".")


def missing(file: str) -> DataError:
    """The error for a path that is not there, with what lies near it."""
    full = os.path.abspath(file)
    folder = os.path.dirname(full)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    if folder != os.path.dirname(full):
        return DataError(f"{full} does not exist, nor does its folder, only {folder} is there; correct the path.")
    here = sorted(os.listdir(folder))
    files = [n for n in here if ending(n) or os.path.isdir(os.path.join(folder, n))]
    hint, there = nearest(os.path.basename(full), here), f": {listing(files)}" if files else " no data files"
    return DataError(f"{full} does not exist{hint}; that folder holds{there}. Correct the path.")


def by_split(data_files: Any, folder: str = "") -> dict[str, list[str]]:
    """`data_files` as lists by split; one file or list of them is `train`. Relative names are taken from `folder`."""
    named = data_files if isinstance(data_files, Mapping) else {"train": data_files}
    lists = {str(split): list(value) if isinstance(value, (list, tuple)) else [value] for split, value in named.items()}
    return {
        split: [one if "://" in one else os.path.join(folder, os.path.expanduser(one)) for one in map(os.fspath, files)]
        for split, files in lists.items()
    }


def plan_files(named: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """The files that names and patterns stand for; raises DataError for one that stands for none."""
    plan: dict[str, list[str]] = {}
    for split, names in named.items():
        if not names:
            raise DataError(f"data_files names no file for split {split!r}; name at least one.")
        plan[split] = [file for one in names for file in _files_of(one)]
    return plan


def _files_of(name: str) -> list[str]:
    if os.path.isfile(name):
        return [name]
    if glob.has_magic(name):
        found = sorted(f for f in glob.glob(name, recursive=True) if os.path.isfile(f))
        if not found:
            raise DataError(f"no file fits the pattern {os.path.abspath(name)}; correct data_files.")
        return found
    if os.path.isdir(name):
        raise DataError(f"{os.path.abspath(name)} is a folder; name its files, or write '{name}/*'.")
    raise missing(name)


def plan_folder(folder: str, name: str | None) -> dict[str, list[str]]:
    """The files of a folder (and of its subfolders, one level down) by split; `name` picks a configuration."""
    if name is not None and os.path.isdir(os.path.join(folder, name)):
        return plan_folder(os.path.join(folder, name), None)
    full, root = os.path.abspath(folder), Path(folder)
    found = [f for pattern in ("*", "*/*") for f in sorted(root.glob(pattern)) if f.is_file()]
    files = [f for f in found if ending(f.name) and not _SIDE_FILES.fullmatch(f.name)]
    files = [f for f in files if f.name != NAMES_FILE] or files
    if name is not None:
        files = [f for f in files if re.match(re.escape(name) + r"($|[-_. ])", f.name)]
        if not files:
            there = listing(sorted(os.listdir(folder)))
            raise DataError(f"{full} has no subfolder or files for the configuration {name!r}; it holds: {there}.")
    if not files:
        raise DataError(f"{full} holds no data files; it needs files such as train.csv, ending in {ALLOWED}.")

    plan: dict[str, list[Path]] = {split: [] for split in SPLIT_NAMES.values()}
    rest: list[Path] = []
    for file in files:
        parts = file.relative_to(root).parts
        named = _SPLIT_IN_NAME.search(parts[-1]) or _SPLIT_IN_NAME.fullmatch(parts[0])
        (plan[SPLIT_NAMES[named.group(1).lower()]] if named else rest).append(file)
    if len(rest) == len(files):
        plan["train"] = [f for f in rest if f.parent == root] or rest
        if (count := len(plan["train"])) > 1:
            them = listing(f.name for f in plan["train"])
            say_once(f"no file in {full} is named by a split: all {count} make 'train': {them}")
    elif rest:
        say_once(f"left out of {full}, not named by a split: {listing(f.name for f in rest)}")
    for split, chosen in plan.items():
        if len({ending(f.name) for f in chosen}) > 1:
            them = listing(f.name for f in chosen)
            wrong = f"{full} has files of different formats for split {split!r}: {them}"
            raise DataError(f"{wrong}; keep one, or name the files with data_files=.")
    return {split: [str(f) for f in chosen] for split, chosen in plan.items() if chosen}


def one_line(error: BaseException) -> str:
    """The text of an error (or its type) for a message."""
    return " ".join(str(error).split())[:200] or type(error).__name__
