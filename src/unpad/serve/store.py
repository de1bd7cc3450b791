"""Repositories, commits, branches, tags and access tokens of a Hub: one SQLite file beside the contents.

A commit is one row: its parent, who and when, and the whole tree as compressed JSON (path -> `Entry`). One
transaction inserts it and
moves its branch, after the contents of its files are on the disk. So a kill leaves the last commit that was
acknowledged.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from unpad.errors import ArgumentError
from unpad.serve import names
from unpad.serve.files import Contents, open_folder
from unpad.serve.refusals import Refused

SCOPES = ("read", "write")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS repos (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL COLLATE NOCASE, private INTEGER NOT NULL, created
    REAL NOT NULL,
    UNIQUE (kind, name));
CREATE TABLE IF NOT EXISTS commits (
    repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE, oid TEXT NOT NULL, parent TEXT, title TEXT NOT NULL,
    message TEXT NOT NULL, author TEXT NOT NULL, created REAL NOT NULL, tree BLOB NOT NULL, PRIMARY KEY (repo, oid));
CREATE TABLE IF NOT EXISTS refs (
    repo INTEGER NOT NULL REFERENCES repos ON DELETE CASCADE, kind TEXT NOT NULL, name TEXT NOT NULL, oid TEXT NOT NULL,
    PRIMARY KEY (repo, kind, name));
CREATE TABLE IF NOT EXISTS tokens (name TEXT PRIMARY KEY COLLATE NOCASE, sha256 TEXT NOT NULL UNIQUE, scope TEXT NOT
NULL, ends REAL);
"""


class Entry(NamedTuple):
    """A file of a tree."""

    sha256: str
    size: int
    oid: str
    """SHA-1 that git would give it; for a large file, that of its LFS pointer."""
    large: bool
    """Whether it came by LFS."""

    @property
    def etag(self) -> str:
        """What clients name it by in their caches."""
        return self.sha256 if self.large else self.oid


Tree = dict[str, Entry]


class Repo(NamedTuple):
    """A repository; `kind` is "model" or "dataset"."""

    id: int
    kind: str
    name: str
    private: bool
    created: float


class Commit(NamedTuple):
    """A commit without its tree; `created` in seconds since 1970."""

    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    created: float


class Change(NamedTuple):
    """One operation of a commit: "add" `path` with `entry`, "delete" a file or "delete_folder"."""

    what: str
    path: str
    entry: Entry | None = None


class Store:
    """Everything that a Hub's folder holds. Methods may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        """Open `folder`, which is made when it is missing; ArgumentError when it cannot hold a Hub."""
        os.close(open_folder(folder))
        self._file = folder / "hub.sqlite"
        if any((folder / f"hub.sqlite{end}").is_symlink() for end in ("", "-wal", "-shm")):
            raise ArgumentError(
                f"{self._file} is a symbolic link; a Hub writes into its folder only: put the file itself there"
            )
        self.contents = Contents(folder)
        self._lock = threading.Lock()
        try:
            self._writer = self._connect()
            self._writer.executescript("PRAGMA journal_mode = WAL;" + _SCHEMA)
            if "ends" not in {row[1] for row in self._writer.execute("PRAGMA table_info(tokens)")}:
                self._writer.execute("ALTER TABLE tokens ADD COLUMN ends REAL")  # a folder of an older version
        except sqlite3.Error as error:
            raise ArgumentError(f"{self._file} is not the database of a Hub ({error}); choose another folder") from None
        self._tree = lru_cache(64)(self._read_tree)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, timeout=60, isolation_level=None, check_same_thread=False)
        connection.executescript("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
        return connection

    def _rows(self, query: str, *values: Any) -> list[Any]:
        with contextlib.closing(self._connect()) as connection:
            return connection.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    # ---- repositories

    def create(self, kind: str, name: str, private: bool, author: str) -> Repo:
        """A new repository with a first, empty commit on `main`; Refused with 409 when there is one."""
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM repos WHERE kind = ? AND name = ?", (kind, name)).fetchone():
                raise Refused(409, f"the {kind} {name} exists already")
            cursor = db.execute(
                "INSERT INTO repos (kind, name, private, created) VALUES (?, ?, ?, ?)",
                (kind, name, private, time.time()),
            )
            repo = int(cursor.lastrowid or 0)
            oid = _insert(db, repo, None, "initial commit", "", author, {})
            db.execute("INSERT INTO refs VALUES (?, 'branch', 'main', ?)", (repo, oid))
        return self.repo(kind, name)

    def repo(self, kind: str, name: str) -> Repo:
        """The repository; Refused with 404 when there is none."""
        found = self.find(kind, name)
        if found is None:
            raise Refused(404, f"there is no {kind} {name}", "RepoNotFound")
        return found

    def find(self, kind: str, name: str) -> Repo | None:
        """The repository; None when there is none."""
        found = self._rows("SELECT id, kind, name, private, created FROM repos WHERE kind = ? AND name = ?", kind, name)
        return Repo(*found[0]) if found else None

    def repos(self, kind: str) -> list[tuple[Repo, Commit]]:
        """All repositories of a kind, each with the newest commit of `main`, in no order."""
        query = """SELECT r.id, r.kind, r.name, r.private, r.created,
            c.oid, c.parent, c.title, c.message, c.author, c.created FROM repos r
            JOIN refs ON refs.repo = r.id AND refs.kind = 'branch' AND refs.name = 'main'
            JOIN commits c ON c.repo = r.id AND c.oid = refs.oid WHERE r.kind = ?"""
        return [(Repo(*row[:5]), Commit(*row[5:])) for row in self._rows(query, kind)]

    def move(self, repo: Repo, name: str) -> None:
        """Give a repository another id; Refused with 409 when that is taken."""
        try:
            with self._transaction() as db:
                db.execute("UPDATE repos SET name = ? WHERE id = ?", (name, repo.id))
        except sqlite3.IntegrityError:
            raise Refused(409, f"the {repo.kind} {name} exists already") from None

    def set_private(self, repo: Repo, private: bool) -> None:
        """Mark a repository as private or public."""
        with self._transaction() as db:
            db.execute("UPDATE repos SET private = ? WHERE id = ?", (private, repo.id))

    def delete(self, repo: Repo) -> None:
        """Forget a repository with all its commits; contents stay until `prune`, for others may share them."""
        with self._transaction() as db:
            db.execute("DELETE FROM repos WHERE id = ?", (repo.id,))

    # ---- revisions

    def resolve(self, repo: Repo, revision: str) -> str:
        """The commit that a branch, a tag or a commit's own hash names; Refused with 404 when there is none."""
        revision = revision.removeprefix("refs/heads/")
        query = "SELECT oid FROM refs WHERE repo = ? AND name = ? ORDER BY kind"
        found = self._rows(query, repo.id, revision)
        if not found and names.OID.fullmatch(revision):
            found = self._rows("SELECT oid FROM commits WHERE repo = ? AND oid = ?", repo.id, revision)
        if not found:
            raise Refused(404, f"{repo.name} has no revision {revision!r:.100}", "RevisionNotFound")
        return str(found[0][0])

    def refs(self, repo: Repo) -> list[tuple[str, str, str]]:
        """(kind, name, commit) of all branches and tags; kind is "branch" or "tag"."""
        return self._rows("SELECT kind, name, oid FROM refs WHERE repo = ? ORDER BY kind, name", repo.id)

    def add_ref(self, repo: Repo, kind: str, name: str, oid: str) -> None:
        """A new branch or tag at a commit; Refused with 409 when there is one of the name."""
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM refs WHERE repo = ? AND name = ?", (repo.id, name)).fetchone():
                raise Refused(409, f"{repo.name} has a branch or tag {name} already")
            db.execute("INSERT INTO refs VALUES (?, ?, ?, ?)", (repo.id, kind, name, oid))

    def delete_ref(self, repo: Repo, kind: str, name: str) -> None:
        """Remove a branch or tag; Refused when there is none (404) or it is `main` (403)."""
        if kind == "branch" and name == "main":
            raise Refused(403, "the branch main cannot be deleted")
        with self._transaction() as db:
            if not db.execute(
                "DELETE FROM refs WHERE repo = ? AND kind = ? AND name = ?", (repo.id, kind, name)
            ).rowcount:
                raise Refused(404, f"{repo.name} has no {kind} {name!r:.100}", "RevisionNotFound")

    def tree(self, repo: Repo, oid: str) -> Tree:
        """Path -> file of a commit, by path. Shared with other callers: not to be changed."""
        return self._tree(repo.id, oid)

    def _read_tree(self, repo: int, oid: str) -> Tree:
        found = self._rows("SELECT tree FROM commits WHERE repo = ? AND oid = ?", repo, oid)
        if not found:
            raise Refused(404, f"there is no commit {oid}", "RevisionNotFound")
        return _unpacked(found[0][0])

    def history(self, repo: Repo, oid: str, most: int | None = None) -> list[Commit]:
        """The commit and those before it, the newest first."""
        query = """WITH RECURSIVE past (oid, depth) AS (
            VALUES (?, 0) UNION ALL SELECT commits.parent, depth + 1 FROM past JOIN commits ON commits.oid = past.oid
            WHERE commits.repo = ? AND commits.parent IS NOT NULL AND depth + 1 < ?)
            SELECT c.oid, c.parent, c.title, c.message, c.author, c.created FROM past JOIN commits c ON c.oid = past.oid
            WHERE c.repo = ? ORDER BY depth"""
        return [Commit(*row) for row in self._rows(query, oid, repo.id, most or 1 << 40, repo.id)]

    def commit(
        self,
        repo: Repo,
        branch: str,
        changes: Iterable[Change],
        title: str,
        message: str,
        author: str,
        parent: str | None,
    ) -> str:
        """Put a commit on `branch` and return its hash, when everything it needs is on the disk.

        Refused: 404 for an unknown branch, or a file to delete that is not there; 412 when `parent` (a hash or its
        beginning) is
        given and the branch is elsewhere; 400 when a path would be a file and a folder.
        """
        self.contents.sync()
        with self._transaction() as db:
            query = "SELECT oid FROM refs WHERE repo = ? AND kind = 'branch' AND name = ?"
            head = db.execute(query, (repo.id, branch.removeprefix("refs/heads/"))).fetchone()
            if head is None:
                raise Refused(404, f"{repo.name} has no branch {branch!r:.100} to commit to", "RevisionNotFound")
            if parent is not None and not head[0].startswith(parent):
                raise Refused(
                    412,
                    f"the branch {branch} is at {head[0]}, not at {parent}; look at the newer commits and try again",
                )
            stored = db.execute("SELECT tree FROM commits WHERE repo = ? AND oid = ?", (repo.id, head[0])).fetchone()
            tree = _changed(_unpacked(stored[0]), changes)
            oid = _insert(db, repo.id, head[0], title, message, author, tree)
            where = (oid, repo.id, branch.removeprefix("refs/heads/"))
            db.execute("UPDATE refs SET oid = ? WHERE repo = ? AND kind = 'branch' AND name = ?", where)
        return oid

    def squash(self, repo: Repo, branch: str, title: str, author: str) -> str:
        """Put one commit with the files of `branch` in the place of its history, and return its hash."""
        with self._transaction() as db:
            query = "SELECT c.tree FROM refs JOIN commits c ON c.repo = refs.repo AND c.oid = refs.oid"
            where = " WHERE refs.repo = ? AND refs.kind = 'branch' AND refs.name = ?"
            head = db.execute(query + where, (repo.id, branch)).fetchone()
            if head is None:
                raise Refused(404, f"{repo.name} has no branch {branch!r:.100}", "RevisionNotFound")
            oid = _insert(db, repo.id, None, title, "", author, _unpacked(head[0]))
            where = "UPDATE refs SET oid = ? WHERE repo = ? AND kind = 'branch' AND name = ?"
            db.execute(where, (oid, repo.id, branch))
        return oid

    def prune(self) -> tuple[int, int]:
        """Remove the commits that no branch or tag leads to and the contents that no commit needs; returns how many
        contents, and their bytes. Only the process that owns the folder may call it."""
        with self._transaction() as db:
            db.execute("""WITH RECURSIVE past (repo, oid) AS (
                SELECT repo, oid FROM refs UNION SELECT c.repo, c.parent FROM past JOIN commits c
                ON c.repo = past.repo AND c.oid = past.oid WHERE c.parent IS NOT NULL)
                DELETE FROM commits WHERE (repo, oid) NOT IN (SELECT repo, oid FROM past)""")
            needed = set[str]()
            for (packed,) in db.execute("SELECT tree FROM commits"):
                needed.update(entry.sha256 for entry in _unpacked(packed).values())
        self._writer.executescript("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")
        self.contents.clear_arriving()
        here = [name for name in self.contents.names() if names.SHA256.fullmatch(name)]
        freed = [self.contents.remove(name) for name in here if name not in needed]
        return len(freed), sum(freed)

    # ---- tokens

    def add_token(self, name: str, scope: str, days: int = 0) -> str:
        """A new access token, of which only the hash is kept; it ends after `days` (0: never). ArgumentError for a bad
        name, scope or number of days, or a name that is taken."""
        if not names.is_name(name):
            raise ArgumentError(f"name={name!r:.100}: the name of a token is letters, digits, '-', '_' and '.'")
        if scope not in SCOPES:
            raise ArgumentError(f"scope={scope!r:.100} is not one of {', '.join(SCOPES)}")
        if not 0 <= days <= 36500:
            raise ArgumentError(f"days={days} is not 0 (no end) to 36500")
        token, ends = "hf_" + secrets.token_urlsafe(32), time.time() + days * 86400 if days else None
        try:
            with self._transaction() as db:
                db.execute("INSERT INTO tokens VALUES (?, ?, ?, ?)", (name, _hash(token), scope, ends))
        except sqlite3.IntegrityError:
            raise ArgumentError(f"there is a token {name!r} already; choose another --name") from None
        return token

    def remove_token(self, name: str) -> None:
        """Take a token back, from the next request on; ArgumentError when there is none of that name."""
        with self._transaction() as db:
            if not db.execute("DELETE FROM tokens WHERE name = ?", (name,)).rowcount:
                raise ArgumentError(f"there is no token {name!r:.100}")

    def has_tokens(self) -> bool:
        """Whether requests need a token; one that has ended counts, so that no server opens by the passing of time."""
        return bool(self._rows("SELECT 1 FROM tokens LIMIT 1"))

    def token(self, token: str) -> tuple[str, str] | None:
        """(name, scope) of an access token; None when it is none of ours, or has ended."""
        query = "SELECT name, scope FROM tokens WHERE sha256 = ? AND (ends IS NULL OR ends > ?)"
        found = self._rows(query, _hash(token), time.time())
        return (found[0][0], found[0][1]) if found else None


def _insert(
    db: sqlite3.Connection, repo: int, parent: str | None, title: str, message: str, author: str, tree: Tree
) -> str:
    packed = zlib.compress(json.dumps(tree).encode(), 1)
    # a time and a random part: two commits of the same content on the same parent are two commits
    told = json.dumps([repo, parent, title, message, author, time.time(), secrets.token_hex(8)]).encode()
    oid = hashlib.sha1(told + packed).hexdigest()
    db.execute(
        "INSERT INTO commits VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (repo, oid, parent, title, message, author, time.time(), packed),
    )
    return oid


def _unpacked(packed: bytes) -> Tree:
    return {path: Entry(*entry) for path, entry in json.loads(zlib.decompress(packed)).items()}


def _changed(tree: Tree, changes: Iterable[Change]) -> Tree:
    added = []
    for what, path, entry in changes:
        if what == "add":
            assert entry is not None
            tree[path] = entry
            added.append(path)
        elif what == "delete":
            if tree.pop(path, None) is None:
                raise Refused(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        else:
            inside = [name for name in tree if name.startswith(f"{path}/")]
            if not inside:
                raise Refused(404, f"there is no folder {path}", "EntryNotFound")
            for name in inside:
                del tree[name]
    folders = {path[:i] for path in tree for i, letter in enumerate(path) if letter == "/"} if added else set()
    if both := sorted(folders & tree.keys()):
        raise Refused(400, f"{both[0]!r} cannot be a file and a folder")
    return dict(sorted(tree.items()))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
