"""`Repository`: a folder that follows a repository of a Hub, as a clone does, without git.

What the folder and the repository last had in common (the *base*: path -> hash) is kept in `.cache/unpad` in the folder. So a
change is known to be ours or theirs, and neither is lost: where both changed a file, nothing is touched, and it is said.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from unpad.errors import ArgumentError, HubError, listing
from unpad.hub.account import Token, get_full_repo_name, refusals, status_of
from unpad.hub.push import Upload, Uploads, commit, create, files_of
from unpad.notices import say_once

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

_RECORD = Path(".cache", "unpad", "clone.json")
_TRIES = 5  # when others commit to the same repository at the same moment


class Repository:
    """A folder, its repository on the Hub, and what was last the same in both."""

    def __init__(
        self, local_dir: str | os.PathLike[str], clone_from: str | None = None, repo_type: str | None = None,
        token: Token = None, git_user: str | None = None, git_email: str | None = None, revision: str | None = None,
        *, private: bool | None = None, use_auth_token: Token = None, skip_lfs_files: bool = False,
    ) -> None:  # fmt: skip
        """Get the repository `clone_from` into `local_dir`, and make it on the Hub when it is missing.

        Args:
            local_dir: missing or empty, or cloned from the same repository before; then what is new there is fetched.
            clone_from: `owner/name`, `name` for the owner of the token, or the address; None: what it was cloned from before.
            revision: the branch that is followed; made when it is missing.
            skip_lfs_files: leave the contents of large files on the Hub.

        Raises HubError: the folder holds something else, files were changed here and there, the Hub refuses.
        """
        from huggingface_hub import constants

        if git_user or git_email:
            say_once("commits bear the name of the token's owner; git_user and git_email are not used")
        self.local_dir = str(local_dir)
        self.repo_type = repo_type or "model"
        self.token = use_auth_token if token is None else token
        self._folder = Path(local_dir).expanduser().absolute()
        self._endpoint, self._revision, self._skip_large = constants.ENDPOINT, revision or "main", skip_lfs_files
        self.base: dict[str, str] = {}
        self._head = ""
        known = self._record()
        self.repo_id = self._name(clone_from, known)
        self._check_folder(known)
        self._make(private)
        if not known:
            self._remember("", {})  # a clone that is interrupted goes on the next time
        self._uploads = Uploads(self.repo_id, self.token, self._revision, repo_type=self.repo_type, send=self._send)
        self._commands: list[Upload] = []
        self.git_pull()

    def push_to_hub(
        self, commit_message: str = "Upload with unpad", blocking: bool = True, **_: Any
    ) -> str | tuple[str, Upload]:
        """Send the folder as it is now as one commit: files added, changed and deleted since the last time.

        Returns the address of the commit; with `blocking=False`, at once, that of the repository and a command with `is_done`,
        `status` (-1 running, 0 sent, 1 failed) and, in the end, `commit`. A process that ends waits for it. What a training
        keeps for itself (checkpoint folders, its state) is not sent. Raises HubError.
        """
        names = {name for name in self.base if (self._folder / name).exists()} | set(files_of(self._folder))
        upload = self._uploads.put(self._folder, commit_message, keep_only_newest=False, present=names)
        self._commands = [command for command in self._commands if not command.is_done or command.failed] + [upload]
        if not blocking:
            return self.url, upload
        upload.ended.wait()
        if upload.error is not None:
            raise upload.error
        assert upload.commit is not None
        return str(upload.commit.commit_url)

    @property
    def url(self) -> str:
        """The address of the repository."""
        kind = {"model": ""}.get(self.repo_type, f"{self.repo_type}s/")
        return f"{self._endpoint}/{kind}{self.repo_id}"

    @property
    def commands_in_progress(self) -> list[Upload]:
        """What `push_to_hub(blocking=False)` still sends."""
        return [command for command in self._commands if not command.is_done]

    @property
    def commands_failed(self) -> list[Upload]:
        """What could not be sent; `error` says why."""
        return [command for command in self._commands if command.failed]

    def wait_for_commands(self) -> None:
        """Wait until everything is sent. Raises HubError when the last of it failed."""
        self._uploads.wait()

    def git_head_hash(self) -> str:
        """The commit that the folder last got or sent."""
        return self._head

    def git_pull(self, rebase: bool = False, lfs: bool = False) -> None:
        """Fetch what others changed since the last time; files that were changed here alone stay as they are.

        Raises HubError, and touches nothing, when a file was changed here and there.
        """
        if commands := self.commands_in_progress:
            commands[-1].ended.wait()
        head, remote, large = self._remote()
        new, gone, clash = [], [], []
        for name in sorted(remote.keys() | self.base.keys()):
            theirs, before = remote.get(name), self.base.get(name)
            if theirs == before or (self._skip_large and name in large):
                continue
            ours = self._hash(name, theirs or before or "")
            if ours == theirs:
                continue
            if self._hash(name, before or "") != before:
                clash.append(name)
            elif theirs:
                new.append(name)
            else:
                gone.append(name)
        if clash:
            both = f"{self.local_dir!r} and {self.repo_id!r} both changed {listing(clash, 3)}"
            raise HubError(f"{both}; move these files away, pull, and merge them")
        self._fetch(new, head)
        for name in gone:
            (self._folder / name).unlink(missing_ok=True)
        skipped = large if self._skip_large else set()
        self._remember(head, {name: oid for name, oid in remote.items() if name not in skipped})

    # ---- the record

    def _record(self) -> dict[str, Any]:
        """What the folder was cloned from; empty when it is no clone."""
        try:
            found = json.loads((self._folder / _RECORD).read_text(encoding="utf-8"))
            self.base, self._head = dict(found["base"]), str(found["head"])
            return dict(found)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            what = f"{str(self._folder / _RECORD)!r} cannot be read ({type(error).__name__})"
            raise HubError(f"{what}; clone into another folder") from None

    def _remember(self, head: str, base: dict[str, str]) -> None:
        self._head, self.base = head, base
        path = self._folder / _RECORD
        record = {**self._followed(), "head": head, "base": base}
        part = path.with_suffix(".part")
        with refusals(f"{str(path)!r} cannot be written"):
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(record, indent=1), encoding="utf-8")
            part.replace(path)

    def _followed(self) -> dict[str, str]:
        """What the folder is a clone of."""
        return {
            "endpoint": self._endpoint, "repo_id": self.repo_id, "repo_type": self.repo_type, "revision": self._revision
        }  # fmt: skip

    def _name(self, clone_from: str | None, known: Mapping[str, Any]) -> str:
        if clone_from is None:
            if not known:
                how = "give clone_from=, the repository's id"
                raise ArgumentError(f"Repository: {self.local_dir!r} is no clone; {how}")
            return str(known["repo_id"])
        name = clone_from.removeprefix(self._endpoint).strip("/")
        if self.repo_type != "model":
            name = name.removeprefix(f"{self.repo_type}s/")
        return name if "/" in name else get_full_repo_name(name, token=self.token)

    def _check_folder(self, known: Mapping[str, Any]) -> None:
        asked = self._followed()
        other = next((key for key in asked if known and known.get(key) != asked[key]), None)
        if other:
            what = f"a clone with {other} {known.get(other)!r}, not {asked[other]!r}"
            raise HubError(f"{self.local_dir!r} is {what}; give another folder")
        if known or not self._folder.exists():
            return
        if not self._folder.is_dir() or any(path.name != ".cache" for path in self._folder.iterdir()):
            what = f"{self.local_dir!r} is not empty and no clone of {self.repo_id!r}"
            raise HubError(f"{what}; give a new folder, or move its files away")

    # ---- the Hub

    def _api(self) -> Any:
        from huggingface_hub import HfApi

        return HfApi(endpoint=self._endpoint, token=self.token)

    def _make(self, private: bool | None) -> None:
        api, kind = self._api(), {"repo_type": self.repo_type}
        with refusals(f"{self.repo_id!r} cannot be cloned", self.repo_id, self.token):
            if private or not api.repo_exists(self.repo_id, **kind):
                create(self.repo_id, self.repo_type, private, self.token)
            if self._revision != "main" and not api.revision_exists(self.repo_id, self._revision, **kind):
                api.create_branch(self.repo_id, branch=self._revision, exist_ok=True, **kind)

    def _remote(self) -> tuple[str, dict[str, str], set[str]]:
        """The newest commit, path -> hash of its files, and the paths of large ones."""
        from huggingface_hub.hf_api import RepoFile

        api = self._api()
        with refusals(f"{self.repo_id!r} cannot be read", self.repo_id, self.token):
            head = api.repo_info(self.repo_id, repo_type=self.repo_type, revision=self._revision).sha
            found = api.list_repo_tree(self.repo_id, recursive=True, repo_type=self.repo_type, revision=head)
            files = [file for file in found if isinstance(file, RepoFile)]
        for file in files:
            parts = PurePosixPath(file.path).parts
            if ".." in parts or file.path.startswith("/") or (os.sep != "/" and os.sep in file.path):
                raise HubError(f"{self.repo_id!r} has a file {file.path!r}, outside of its folder; it is not cloned")
        kept = [file for file in files if not file.path.startswith((".cache/", ".git/"))]
        hashes = {file.path: file.lfs.sha256 if file.lfs else file.blob_id for file in kept}
        return head, hashes, {file.path for file in kept if file.lfs}

    def _fetch(self, names: list[str], head: str) -> None:
        from huggingface_hub import hf_hub_download

        with refusals(f"{self.repo_id!r} cannot be cloned", self.repo_id, self.token):
            self._folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                hf_hub_download(
                    self.repo_id, name, repo_type=self.repo_type, revision=head, local_dir=self._folder,
                    endpoint=self._endpoint, token=self.token,
                )  # fmt: skip

    def _hash(self, name: str, like: str, folder: Path | None = None) -> str | None:
        """Hash of a file here, of the kind of `like`: SHA-256 for large files, that of git for others; None for no file."""
        path = (folder or self._folder) / name
        if not path.is_file():
            return None
        digest: Any = hashlib.sha256() if len(like) == 64 else hashlib.sha1(b"blob %d\0" % path.stat().st_size)
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return str(digest.hexdigest())

    def _send(self, snapshot: Path, _id: str, *, commit_message: str, present: set[str], **_: Any) -> CommitInfo:
        """Send what differs from the base; runs in the thread of the uploads, one at a time."""
        files = files_of(snapshot, ())
        for left in reversed(range(_TRIES)):
            head, remote, _large = self._remote()
            ours = {name: path for name, path in files.items() if self._differs(name, self.base.get(name), snapshot)}
            gone = [name for name in self.base if name not in present]
            clash = [
                name for name in [*ours, *gone]
                if remote.get(name) != self.base.get(name) and self._differs(name, remote.get(name), snapshot)
            ]  # fmt: skip
            if clash:
                how = "move these files away, git_pull(), and merge them"
                raise HubError(f"{self.repo_id!r} was changed by somebody else, too, in {listing(clash, 3)}; {how}")
            try:
                made = commit(
                    ours, gone, self.repo_id, message=commit_message, repo_type=self.repo_type, token=self.token,
                    revision=self._revision, parent=head,
                ) if ours or gone else self._nothing(head, commit_message)  # fmt: skip
            except HubError as error:
                if status_of(error) != 412 or not left:
                    raise
                continue
            now = self._remote()[1]
            sent = {name: now[name] for name in ours if name in now}
            self._remember(made.oid, {name: oid for name, oid in self.base.items() if name not in gone} | sent)
            return made
        raise AssertionError("the last try returns or raises")

    def _differs(self, name: str, other: str | None, snapshot: Path) -> bool:
        """Whether a file of the snapshot is another than the one with the hash `other`."""
        return self._hash(name, other or "", snapshot) != other

    def _nothing(self, head: str, message: str) -> CommitInfo:
        from huggingface_hub import CommitInfo

        return CommitInfo(
            commit_url=f"{self.url}/commit/{head}", commit_message=message, commit_description="", oid=head,
            _endpoint=self._endpoint,
        )  # fmt: skip
