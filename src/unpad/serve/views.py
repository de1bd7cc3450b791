"""Repositories, trees and commits as the JSON that Hub clients read."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime, timezone
from typing import Any

import yaml

from unpad.serve.store import Commit, Entry, Repo, Tree
from unpad.tasks import TASKS


def pointer(sha256: str, size: int) -> bytes:
    """The small file that stands for a large one in git (Git LFS specification, version 1)."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def git_oid(data: bytes) -> str:
    """The SHA-1 by which git knows a content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def moment(seconds: float) -> str:
    """Seconds since 1970 as the Hub writes a time."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


LONGEST_CARD = 256 << 10
"""Bytes at the beginning of a README in which its metadata must stand; reading YAML is slow."""


class _Loader(yaml.SafeLoader):
    """YAML without aliases, by which a few lines can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed here")
        return super().compose_node(parent, index)


def front_matter(readme: str) -> Any:
    """The YAML between the first two lines `---` of a README; None without. Raises yaml.YAMLError, ValueError or
    RecursionError for what is no YAML."""
    found = card_parts(readme[:LONGEST_CARD])[0]
    return None if found is None else yaml.load(found, _Loader)


def card_parts(readme: str) -> tuple[str | None, str]:
    """The YAML between the first two lines `---` of a README, None without, and the text behind it."""
    parts = re.split(r"^---[ \t]*\r?$", readme, maxsplit=2, flags=re.M)
    return (parts[1], parts[2]) if len(parts) == 3 and not parts[0].strip() else (None, readme)


def card(readme: bytes) -> dict[str, Any]:
    """The metadata of a model card or a data set card as JSON can say them; empty where there are none."""
    try:
        found = front_matter(readme.decode(errors="replace"))
        plain = json.dumps(found, default=str, skipkeys=True, ensure_ascii=False)
        plain.encode()
        found = json.loads(plain, parse_constant=lambda _: None)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def task(card: dict[str, Any]) -> str | None:
    """The task that a card names, where it is one of this library."""
    found = card.get("pipeline_tag")
    return found if isinstance(found, str) and found in TASKS else None


def tags(kind: str, card: dict[str, Any]) -> list[str]:
    """What a card says, as the tags by which lists are filtered: `fill-mask`, `license:mit`, `dataset:glue`. Languages
    of data sets are `language:en`, those of models `en`."""
    found: list[Any] = []
    plain = ("tags", "library_name", "pipeline_tag", "language") if kind == "model" else ("tags",)
    named = {"license": "license", "datasets": "dataset", "base_model": "base_model"}
    if kind == "dataset":
        named = {key: key for key in ("license", "language", "task_categories", "task_ids", "size_categories")}
    for key in (*plain, *named):
        values = card.get(key)
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, str):
                found.append(f"{named[key]}:{value}" if key in named else str(value))
    return list(dict.fromkeys(found))


def repository(
    repo: Repo, head: Commit, card: dict[str, Any], tree: Tree | None = None, blobs: bool = False
) -> dict[str, Any]:
    """A repository at one commit; with its files when `tree` is given, and their sizes and hashes with `blobs`."""
    owner = repo.name.split("/")[0]
    shown: dict[str, Any] = {
        "_id": f"{repo.id:024x}", "id": repo.name, "author": owner, "sha": head.oid, "private": bool(repo.private),
        "createdAt": moment(repo.created), "lastModified": moment(head.created),
        "gated": False, "disabled": False, "downloads": 0, "likes": 0, "tags": tags(repo.kind, card),
        "cardData": card,
    }  # fmt: skip
    if repo.kind == "model":
        shown["modelId"] = repo.name
        shown |= {key: card[key] for key in ("pipeline_tag", "library_name") if isinstance(card.get(key), str)}
    if tree is not None:
        shown["siblings"] = [{"rfilename": path, **(_blob(entry) if blobs else {})} for path, entry in tree.items()]
    return shown


def _blob(entry: Entry) -> dict[str, Any]:
    shown: dict[str, Any] = {"size": entry.size, "blobId": entry.oid}
    if entry.large:
        size = len(pointer(entry.sha256, entry.size))
        shown["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": size}
    return shown


def file(path: str, entry: Entry) -> dict[str, Any]:
    """A file of a tree."""
    shown = {"type": "file", "path": path, "size": entry.size, "oid": entry.oid}
    if entry.large:
        size = len(pointer(entry.sha256, entry.size))
        shown["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": size}
    return shown


def folder(path: str, tree: Tree) -> dict[str, Any]:
    """A folder of a tree; its hash is one over the paths and hashes of what is inside."""
    inside = "".join(f"{name}\0{entry.oid}\n" for name, entry in tree.items() if name.startswith(f"{path}/"))
    return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(inside.encode()).hexdigest()}


def listing(tree: Tree, below: str, recursive: bool) -> list[dict[str, Any]] | None:
    """Files and folders below a folder ("" for all), by path; None when there is no such folder."""
    start = f"{below}/" if below else ""
    inside = {path: entry for path, entry in tree.items() if path.startswith(start)}
    if below and not inside:
        return None
    folders: set[str] = set()
    for path in inside:
        ends = [i for i in range(len(start), len(path)) if path[i] == "/"]
        folders.update(path[:end] for end in (ends if recursive else ends[:1]))
    shown = [folder(path, inside) for path in folders]
    shown += [file(path, entry) for path, entry in inside.items() if recursive or "/" not in path[len(start) :]]
    return sorted(shown, key=lambda item: item["path"])


def commit(made: Commit) -> dict[str, Any]:
    """A commit of a history."""
    return {
        "id": made.oid, "title": made.title, "message": made.message, "date": moment(made.created),
        "authors": [{"user": made.author}], "parents": [made.parent] if made.parent else [],
    }  # fmt: skip
