"""Repositories, trees and commits as the JSON that Hub clients read."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from typing import Any

from unpad.serve.store import Commit, Entry, Repo, Tree


def pointer(sha256: str, size: int) -> bytes:
    """The small file that stands for a large one in git (Git LFS specification, version 1)."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def git_oid(data: bytes) -> str:
    """The SHA-1 by which git knows a content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def moment(seconds: float) -> str:
    """Seconds since 1970 as the Hub writes a time."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def repository(repo: Repo, head: Commit, tree: Tree | None, blobs: bool = False) -> dict[str, Any]:
    """A repository at one commit; with its files when `tree` is given, and their sizes and hashes with `blobs`."""
    owner = repo.name.split("/")[0]
    shown: dict[str, Any] = {
        "_id": f"{repo.id:024x}", "id": repo.name, "author": owner, "sha": head.oid, "private": bool(repo.private),
        "createdAt": moment(repo.created), "lastModified": moment(head.created),
        "gated": False, "disabled": False, "downloads": 0, "likes": 0, "tags": [],
    }  # fmt: skip
    if repo.kind == "model":
        shown["modelId"] = repo.name
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
