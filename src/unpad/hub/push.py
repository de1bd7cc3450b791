"""Sending folders to a Hub: at once, or in the background while work goes on. One call is one commit.

The Hub is that of `huggingface_hub`: its endpoint, its token, its offline mode.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unpad.errors import ArgumentError, HubError, listing
from unpad.hub.account import Token, is_hugging_face, refusals
from unpad.notices import say, say_once

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

TRAINING_FILES = (
    "checkpoint-*/", ".checkpoint-*", "earlier-*/", "vectors/", "*.lock", "training_state.*",
    "optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "rng_state*.pth",
)  # fmt: skip
"""Patterns of what a training run keeps for itself, and `push_folder` leaves out unless it is told other ones."""

_NEVER = (".cache/", "*/.cache/", ".git/", "*/.git/", ".unpad-upload-*", ".*.part", "*/.*.part")
_TRIES = 4  # commits, when others commit to the same branch at the same moment


def push_folder(
    folder: str | os.PathLike[str], repo_id: str, *, commit_message: str = "Upload with unpad",
    commit_description: str | None = None, repo_type: str = "model", private: bool | None = None, token: Token = None,
    revision: str | None = None, create_pr: bool = False, ignore_patterns: Sequence[str] | str | None = TRAINING_FILES,
    delete: Iterable[str] = (), use_auth_token: Token = None,
) -> CommitInfo:  # fmt: skip
    """Send the files of a folder as one commit, and wait until the Hub has it.

    Args:
        folder: its files, and those of its folders, replace files of the same path; others stay as they are.
        repo_id: `owner/name`, or `name` for the owner of the token; created when it is missing.
        private: for a repository that is created. One that exists and is public is refused with `private=True`.
        revision: a branch, created from the default one when it is missing.
        ignore_patterns: paths to leave out; `()` sends checkpoints and training states, too.
        delete: paths in the repository that the commit removes.

    Returns the commit (`commit_url`, `oid`, `repo_url`); where nothing has changed, the last one. Raises HubError.
    """
    token = use_auth_token if token is None else token
    paths = files_of(folder, ignore_patterns)
    gone = [path for path in delete if path not in paths]
    if not paths and not gone:
        raise _empty(folder, repo_id)
    full = create(repo_id, repo_type, private, token)
    return commit(
        paths, gone, full, message=commit_message, description=commit_description, repo_type=repo_type, token=token,
        revision=revision, create_pr=create_pr,
    )  # fmt: skip


def _empty(folder: str | os.PathLike[str], repo_id: str) -> HubError:
    return HubError(f"{os.fspath(folder)!r} has no files to send to {repo_id}; save something into it first")


def push_saved(save: Callable[[Path], Any], repo_id: str, **options: Any) -> CommitInfo:
    """Send what `save` writes into an empty folder; `options` go to `push_folder`."""
    with tempfile.TemporaryDirectory(prefix="unpad-") as folder:
        save(Path(folder))
        return push_folder(folder, repo_id, **options)


def push_tokenizer(
    tokenizer: Any, repo_id: str, *, commit_message: str = "Upload tokenizer", **options: Any
) -> CommitInfo:
    """Send what `save_pretrained` writes to a repository of the Hub, made when it is missing; returns the commit.

    `options` are those of `push_folder`: private, token, revision, ... Raises HubError.
    """
    return push_saved(tokenizer.save_pretrained, repo_id, commit_message=commit_message, **options)


def also_push(
    saved: Any, push_to_hub: bool, repo_id: str | None, folder: str | os.PathLike[str], options: dict[str, Any]
) -> None:
    """The end of `save_pretrained(folder, push_to_hub=True, repo_id=...)`; without `push_to_hub` there are no `options`."""
    if push_to_hub:
        saved.push_to_hub(repo_id or Path(folder).resolve().name, **options)
    elif options:
        raise ArgumentError(f"save_pretrained has no argument {next(iter(options))!r} without push_to_hub=True")


def check_rights(
    repo_id: str, *, token: Token = None, private: bool | None = None, repo_type: str = "model",
    use_auth_token: Token = None,
) -> str:  # fmt: skip
    """Find out whether this token may write to `repo_id`, before there is much to lose; returns the id with its owner.

    Creates the repository when it is missing, and asks for the permission to add a file, which is not sent. Raises HubError.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    token = use_auth_token if token is None else token
    full = create(repo_id, repo_type, private, token)
    with refusals(f"nothing can be sent to {full!r}", full, token):
        probe = CommitOperationAdd("config.json", b"{}\n")  # small text: asked about, not uploaded
        HfApi(token=token).preupload_lfs_files(full, [probe], repo_type=repo_type)
    return full


def files_of(
    folder: str | os.PathLike[str], ignore_patterns: Sequence[str] | str | None = TRAINING_FILES
) -> dict[str, Path]:
    """Path in the repository -> file, for all that is sent of a folder. Raises HubError when there is no such folder."""
    from huggingface_hub.utils import filter_repo_objects

    root = Path(folder).expanduser()
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise HubError(f"{os.fspath(folder)!r} {what}; give the folder that is to be sent")
    ignored = [ignore_patterns] if isinstance(ignore_patterns, str) else list(ignore_patterns or ())
    found = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
    found = {name: found[name] for name in filter_repo_objects(found, ignore_patterns=list(_NEVER))}
    kept = set(filter_repo_objects(found, ignore_patterns=ignored))
    left = [name for name in found if name not in kept]
    if left and ignore_patterns is TRAINING_FILES:
        say_once(f"{root}: {listing(left, 2)} not sent; ignore_patterns=() sends everything", f"not sent {root}")
    return {name: path for name, path in found.items() if name in kept}


def create(repo_id: str, repo_type: str, private: bool | None, token: Token) -> str:
    """Make sure that the repository exists and that this token may write; returns its full id."""
    from huggingface_hub import HfApi

    if not isinstance(repo_id, str) or repo_type not in ("model", "dataset", "space"):
        raise HubError(f"repo_id={repo_id!r:.100}, repo_type={repo_type!r:.50}: a text, and model, dataset or space")
    api = HfApi(token=token)
    with refusals(f"{repo_id!r:.200} cannot be made or found on the Hub", repo_id, token):
        full = str(api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True).repo_id)
        if private and api.repo_info(full, repo_type=repo_type).private is False:
            how = "private=True cannot change that: do so on the Hub, or choose another id"
            raise HubError(f"{full!r} exists and is public; {how}")
    return full


def commit(
    paths: dict[str, Path], gone: Iterable[str], repo_id: str, *, message: str, description: str | None = None,
    repo_type: str = "model", token: Token = None, revision: str | None = None, create_pr: bool = False,
    parent: str | None = None,
) -> CommitInfo:  # fmt: skip
    """Add or replace the files `paths` and remove those at `gone`, where they are, in one commit.

    With `parent`, it is refused when that is not the newest commit.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(token=token)
    with refusals(f"sending to {repo_id!r} failed", repo_id, token), plain_uploads():
        if revision not in (None, "main") and not create_pr and not str(revision).startswith("refs/"):
            api.create_branch(repo_id, branch=revision, repo_type=repo_type, exist_ok=True)
        gone = list(gone)
        there = api.get_paths_info(repo_id, gone, revision=revision, repo_type=repo_type) if gone else []
        changes: list[Any] = [CommitOperationDelete(found.path, is_folder=False) for found in there]
        changes += [CommitOperationAdd(name, path) for name, path in paths.items()]
        for left in reversed(range(_TRIES)):
            try:
                return api.create_commit(
                    repo_id, changes, commit_message=message, commit_description=description, repo_type=repo_type,
                    revision=revision, create_pr=create_pr, parent_commit=parent,
                )  # fmt: skip
            except HfHubHTTPError as error:
                if error.response.status_code != 412 or parent or not left:
                    raise
                time.sleep(0.5 * 2 ** (_TRIES - 1 - left))
    raise AssertionError("the last try returns or raises")


class _PlainUploads:
    """How many uploads need Xet storage switched off, and what the switch was before the first of them."""

    lock = threading.Lock()
    users = 0
    before = False


@contextmanager
def plain_uploads() -> Iterator[None]:
    """Inside, large files go by LFS instead of Xet storage, unless the endpoint is huggingface.co.

    `huggingface_hub` never asks whether a Hub has Xet storage; its own switch is a constant of the whole process.
    """
    from huggingface_hub import constants

    if is_hugging_face(constants.ENDPOINT):
        yield
        return
    state = _PlainUploads
    with state.lock:
        state.users += 1
        if state.users == 1:
            state.before, constants.HF_HUB_DISABLE_XET = constants.HF_HUB_DISABLE_XET, True
    try:
        yield
    finally:
        with state.lock:
            state.users -= 1
            if not state.users:
                constants.HF_HUB_DISABLE_XET = state.before


class Upload:
    """A folder as it was when it was put, and what became of sending it."""

    def __init__(
        self, repo_id: str, snapshot: Path, linked: dict[Path, tuple[int, int]], send: Callable[[], CommitInfo]
    ) -> None:
        self.repo_id, self.snapshot, self.linked, self.send = repo_id, snapshot, linked, send
        self.commit: CommitInfo | None = None
        self.error: Exception | None = None
        self.replaced = False
        self.ended = threading.Event()

    @property
    def is_done(self) -> bool:
        """Whether it is sent, has failed, or was replaced by a newer one."""
        return self.ended.is_set()

    @property
    def status(self) -> int:
        """0 when it was sent (or replaced by a newer one), 1 when it failed, -1 while it goes on."""
        return -1 if not self.is_done else int(self.failed)

    @property
    def failed(self) -> bool:
        """Whether it could not be sent."""
        return self.error is not None

    def run(self) -> None:
        """Send it; never raises."""
        try:
            self._refuse_changed()
            with _no_bars():
                made = self.send()
            self._refuse_changed()  # while they were sent
            self.commit = made
        except Exception as error:
            self.error = error
        self.close()

    def _refuse_changed(self) -> None:
        if any(_stamp(path) != stamp for path, stamp in self.linked.items()):
            what = "weights were written to in place after they were put"
            raise HubError(f"{what}, so {self.repo_id!r} has none or mixed ones; push again")

    def close(self) -> None:
        """Remove the snapshot and let go those who wait."""
        shutil.rmtree(self.snapshot, ignore_errors=True)
        self.ended.set()


class Uploads:
    """Folders that are sent in the background, one after the other, in order.

    A process that ends first sends what was put; Ctrl-C leaves it. What fails is said in one line, and `wait` raises it when it
    was the last. Takes what `push_folder` takes.
    """

    def __init__(
        self, repo_id: str, token: Token = None, revision: str | None = None, *, private: bool | None = None,
        repo_type: str = "model", send: Callable[..., CommitInfo] = push_folder,
    ) -> None:  # fmt: skip
        self.repo_id, self._push = repo_id, send
        self._options = {"token": token, "revision": revision, "private": private, "repo_type": repo_type}
        self._waiting: list[Upload] = []
        self._last: Upload | None = None
        self._said: set[str] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.left = False
        """Whether the process may end before everything is sent."""

    def put(
        self, folder: str | os.PathLike[str], commit_message: str = "Upload with unpad", keep_only_newest: bool = True,
        files: dict[str, Path] | None = None, **options: Any,
    ) -> Upload:  # fmt: skip
        """Take the folder as it is now, and send it when those before it are sent; returns at once.

        With `keep_only_newest` it replaces one that still waits. `files` (path in the repository -> file) stand for those of the
        folder. `options` go to `push_folder`. The folder may be changed
        afterwards, except that `.safetensors` files, which are linked and not copied, may be replaced but not written to in
        place. Raises HubError when there is no such folder, nothing in it, or no room.
        """
        paths = files_of(folder) if files is None else files
        if not paths and not options:
            raise _empty(folder, self.repo_id)
        snapshot, linked = _snapshot(paths, Path(folder).expanduser().resolve())
        options = {**self._options, **options, "commit_message": commit_message, "ignore_patterns": ()}
        upload = Upload(self.repo_id, snapshot, linked, partial(self._push, snapshot, self.repo_id, **options))
        with self._lock:
            if keep_only_newest and self._waiting:
                self._waiting[-1].replaced = True
                self._waiting.pop().close()
            self._waiting.append(upload)
            self._last = upload
            if self._thread is None:
                _wait_at_exit(self)
                self._thread = threading.Thread(target=self._send, name=f"unpad sends {self.repo_id}", daemon=True)
                self._thread.start()
        return upload

    @property
    def done(self) -> bool:
        """Whether all that was put is sent or has failed, or nobody waits for it."""
        return self.left or self._last is None or self._last.is_done

    def wait(self) -> CommitInfo | None:
        """Wait for all that was put; returns the last commit, None when nothing was put. Raises its HubError when it failed."""
        last = self._last
        if last is None:
            return None
        last.ended.wait()
        if last.error is not None:
            raise last.error
        return last.commit if not last.replaced else self.wait()

    def _send(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                upload = self._waiting.pop(0)
            upload.run()
            if upload.error is not None and (told := str(upload.error)) not in self._said:
                self._said.add(told)
                say(" ".join(told.split()))


_at_exit: list[Uploads] = []


def _wait_at_exit(uploads: Uploads) -> None:
    """Let the process end only when these are sent."""
    if not _at_exit:
        # before thread pools, by which files are sent, are closed: what is registered last goes first; atexit comes after all
        import concurrent.futures.thread  # noqa: F401

        register = getattr(threading, "_register_atexit", atexit.register)
        register(_finish)
    if uploads not in _at_exit:
        _at_exit.append(uploads)


def _finish() -> None:
    open_ = [uploads for uploads in _at_exit if not uploads.done]
    try:
        for uploads in open_:
            say(f"waiting until {uploads.repo_id} has everything (Ctrl-C leaves)")
            while not uploads.done:
                time.sleep(0.05)
    except KeyboardInterrupt:
        say(f"left before everything was sent to {', '.join(uploads.repo_id for uploads in open_ if not uploads.done)}")


def _snapshot(paths: dict[str, Path], folder: Path) -> tuple[Path, dict[Path, tuple[int, int]]]:
    """A copy of these files in a temporary folder beside `folder`, and what is linked in it, with its stamp.

    Weights are linked: they are large, and are written anew under another name and moved into place. All else is copied.
    """
    try:
        for old in folder.parent.glob(".unpad-upload-*"):  # of a process that was killed
            if old.stat().st_mtime < time.time() - 24 * 3600:
                shutil.rmtree(old, ignore_errors=True)
        near = folder.parent if os.access(folder.parent, os.W_OK) else None
        snapshot = Path(tempfile.mkdtemp(prefix=".unpad-upload-", dir=near))
    except OSError as error:
        raise HubError(f"no temporary folder can be made beside {str(folder)!r} ({error.strerror})") from None
    linked = {}
    try:
        for name, path in paths.items():
            target = snapshot / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".safetensors" and _linked(path, target):
                linked[target] = _stamp(target)
            else:
                shutil.copy2(path, target)
    except OSError as error:
        shutil.rmtree(snapshot, ignore_errors=True)
        what = f"{error.filename!r} cannot be copied to be sent ({error.strerror})"
        raise HubError(f"{what}; make room, or check rights") from None
    return snapshot, linked


def _linked(path: Path, target: Path) -> bool:
    try:
        os.link(path.resolve(), target)
    except OSError:  # another disk, or a file system without links
        return False
    return True


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@contextmanager
def _no_bars() -> Iterator[None]:
    """Without the progress bars of `huggingface_hub`, which would stand in those of a training."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
