"""Files and folders that survive a kill, a power cut and a full disk: written beside, synced, hashed, renamed.

A checkpoint is a folder `checkpoint-<step>`. Until it is whole it is called `.checkpoint-<step>.staging`; one that is
being replaced is `.checkpoint-<step>.old`; one that is being removed is `.checkpoint-<step>.trash`. So a folder with
the plain name is always whole, and `recover` turns every state that a kill can leave into one without dotted names.
Renaming is the only step that makes something visible, and it comes after everything below it is on the disk.

One process writes to a folder at a time. Several ranks may fill one staging folder; one of them owns the context.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from unpad.errors import CheckpointError, listing
from unpad.notices import say

MANIFEST = "manifest.json"
FORMAT = 1
_BLOCK = 1 << 20  # bytes; big enough that hashing, not the system call, is what costs
_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")
_LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?:staging|old|trash)")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# ---- Everything that changes the disk goes through these few functions, so that tests can kill between any two.


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:  # a nearly full disk takes less than it was given before it refuses
        view = view[os.write(fd, view) :]


def _truncate(fd: int, size: int) -> None:
    os.ftruncate(fd, size)


def _fsync(fd: int) -> None:
    os.fsync(fd)


def _rename(source: Path, target: Path) -> None:
    os.replace(source, target)


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


def _mkdir(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)


def _rmdir(path: Path) -> None:
    path.rmdir()


# ---- Single files.


@contextlib.contextmanager
def writing_to(
    path: Path, kept: str = "files that were not written yet stay as they were", verb: str = "write"
) -> Iterator[None]:
    """Turn the system's refusal to write (full disk, no permission, ...) in the body into one CheckpointError line.

    `kept` tells what stays valid: of what writers that are not ours replace, nothing more can be said.
    """
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        if (refusal := _refusal(error)) is None:
            raise
        raise _refused(Path(path), refusal, kept, verb) from error


def atomic_write(path: Path, data: bytes | str) -> None:
    """Write `data` (text as UTF-8) to `path`, so that a reader or a kill at any moment sees the old or the new file whole.

    Raises CheckpointError when the disk refuses; the file that was there before is untouched then.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.tmp")  # a fixed name: what a kill leaves is overwritten the next time
    with writing_to(path, "the file's earlier content is unchanged"):
        try:
            _write_synced(beside, data.encode() if isinstance(data, str) else data)
            _rename(beside, path)
            _sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                _unlink(beside)
            raise


def append_line(path: Path, text: str) -> None:
    """Append one line to `path` and sync it; a torn last line that a killed process left is cut off first.

    A reader may still meet one torn last line between a kill and the next append: it is the one without a newline.
    Raises CheckpointError when the disk refuses; the lines before are untouched then.
    """
    path = Path(path)
    text = text.removesuffix("\n")
    assert "\n" not in text, "append_line takes one line"
    with writing_to(path, "the lines written before stay valid"):
        is_new = not path.exists()
        with _opened(path, os.O_RDWR | os.O_CREAT) as fd:
            whole = _whole_lines(fd)
            if whole < os.fstat(fd).st_size:
                _truncate(fd, whole)
            os.lseek(fd, whole, os.SEEK_SET)
            _write(fd, text.encode() + b"\n")
            _fsync(fd)
        if is_new:
            _sync_folder(path.parent)


def _whole_lines(fd: int) -> int:
    """Bytes up to and with the last newline. Reads one block from the end, more only while no newline is found."""
    end = os.fstat(fd).st_size
    while end > 0:
        start = max(0, end - 4096)
        os.lseek(fd, start, os.SEEK_SET)
        found = os.read(fd, end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


# ---- Folders: staged, hashed, renamed.


@contextlib.contextmanager
def staged_folder(final: Path) -> Iterator[Path]:
    """Hand out an empty staging folder; on a clean exit it becomes `final`, whole and on the disk, or nothing changes.

    `final` may exist: a `checkpoint-<step>` is replaced, and so is any other folder that holds nothing but what its
    manifest lists. On an exception in the body the staging folder is removed and `final` is as it was.

    Raises CheckpointError when `final` holds files that would be lost, and when the system refuses to write (full
    disk, no permission, ...), also where a library reports that in an exception of its own ("... (os error 28)").
    """
    final = Path(os.path.abspath(final))
    staging, old, trash = _beside(final)
    _refuse_to_lose(final)
    try:
        _settle(final)
        _mkdir(staging)
        yield staging
        _seal(staging)
        _sync_folder(final.parent)
        if final.exists():
            _rename(final, old)
        _rename(staging, final)
        _sync_folder(final.parent)
    except BaseException as error:  # Ctrl-C too: no half a checkpoint is left beside the good ones
        with contextlib.suppress(OSError):
            if old.exists() and not final.exists():
                _rename(old, final)
        with contextlib.suppress(OSError):
            _discard(staging, trash)
        if (refusal := _refusal(error)) is None:
            raise
        raise _refused(final, refusal, f"every earlier checkpoint in {final.parent} stays valid") from error
    with contextlib.suppress(OSError):  # the new one is safe; what stays of the old one goes at the next start
        _discard(old, trash)


def verify(folder: Path, hashes: bool = True) -> list[str]:
    """What is wrong with a folder that `staged_folder` made, one short phrase each; an empty list means whole.

    Sizes come first: hashes are computed (one read of everything) only when all sizes are right and `hashes` is true.
    Files that the manifest does not list are fine.
    """
    folder = Path(folder)
    try:
        files = _listed(folder)
    except FileNotFoundError:
        return [f"{MANIFEST}: missing"]
    except OSError as error:
        return [f"{MANIFEST}: cannot be read ({error.strerror})"]
    except ValueError as error:
        return [f"{MANIFEST}: {error}"]
    problems = []
    for name, (size, _) in files.items():
        try:
            if (found := (folder / name).stat().st_size) != size:
                problems.append(f"{name}: {found} bytes instead of {size}")
        except (OSError, ValueError):  # a name that no file can have is a missing file too
            problems.append(f"{name}: missing")
    if problems or not hashes:
        return problems
    for name, (_, sha256) in files.items():
        try:
            with _opened(folder / name, os.O_RDONLY) as fd:
                if _hash(fd) != sha256:
                    problems.append(f"{name}: hash differs")
        except OSError as error:
            problems.append(f"{name}: cannot be read ({error.strerror})")
    return problems


# ---- The checkpoints of a run.


def checkpoints(run: Path) -> list[Path]:
    """The folders `checkpoint-<step>` of a run, in the order of their steps; none when the run does not exist."""
    run = Path(run)
    found = [p for p in run.iterdir() if _CHECKPOINT.fullmatch(p.name) and p.is_dir()] if run.is_dir() else []
    return sorted(found, key=lambda p: (int(p.name.removeprefix("checkpoint-")), p.name))


def newest_valid(run: Path) -> Path | None:
    """The newest checkpoint without a problem, or None; says in one line each which damaged ones it passed over."""
    valid, damaged = None, dict[Path, list[str]]()
    for folder in reversed(checkpoints(run)):
        if not (problems := verify(folder)):
            valid = folder
            break
        damaged[folder] = problems
    next_step = f"going back to {valid.name}" if valid else "no valid checkpoint is left"
    for folder, problems in damaged.items():
        say(f"{folder.name} is damaged ({listing(problems, most=2)}): {next_step}")
    return valid


def recover(run: Path) -> None:
    """Finish or undo whatever a killed process was doing to folders in `run`; call it once before a run starts.

    A staged folder that is whole takes its place, any other is removed; a folder that was moved aside comes back
    when nothing took its place; what was being removed is removed. Hidden folders of other origin are left alone.
    """
    run = Path(run)
    if not run.is_dir():
        return
    names = set()
    for path in run.iterdir():
        leftover = _LEFTOVER.fullmatch(path.name)
        # a name alone proves nothing (`.vim.old`): ours is what bears a checkpoint's name or holds a manifest
        if leftover and (_CHECKPOINT.fullmatch(leftover["name"]) or (path / MANIFEST).is_file()):
            names.add(leftover["name"])
    for name in sorted(names):
        with writing_to(run / name, "nothing that was saved is lost", "tidy up"):
            _settle(run / name)


def remove_folder(path: Path) -> None:
    """Remove a folder so that no half of it is ever visible under its name; a missing folder is fine."""
    path = Path(os.path.abspath(path))
    with writing_to(path, "the other checkpoints stay valid", "remove"):
        _discard(path, _beside(path)[2])


def prune(run: Path, keep: int, protect: Collection[Path] = ()) -> list[Path]:
    """Remove all but `keep` checkpoints and return the removed ones, oldest first.

    The newest one and those in `protect` (the best one) always stay and count towards `keep`; the newest others fill
    it up. So keep=1 with an older best one leaves two, as `save_total_limit` does in Hugging Face. A checkpoint with
    a missing file or a wrong size takes no place and goes; a folder without a readable manifest may be someone
    else's and is left alone. With `keep` of 0 or less nothing is removed.
    """
    if keep <= 0:
        return []
    problems = {p: verify(p, hashes=False) for p in checkpoints(run)}
    ours = [p for p, found in problems.items() if not any(f.startswith(f"{MANIFEST}:") for f in found)]
    whole = [p for p in ours if not problems[p]]
    shielded = {os.path.abspath(p) for p in protect}
    kept = [p for p in ours if os.path.abspath(p) in shielded]
    for folder in reversed(whole):
        if folder not in kept and (len(kept) < keep or folder == whole[-1]):
            kept.append(folder)
    removed = [p for p in ours if p not in kept] if whole else []  # never the last thing that could be repaired
    for folder in removed:
        remove_folder(folder)
    return removed


# ---- How it is done.


def _beside(final: Path) -> tuple[Path, Path, Path]:
    """The staging, old and trash names of a folder: siblings, since a rename is atomic only within a file system."""
    return tuple(final.with_name(f".{final.name}.{kind}") for kind in ("staging", "old", "trash"))  # type: ignore[return-value]


def _settle(final: Path) -> None:
    """Bring one folder name out of any state that a kill left. Each step can itself be killed and repeated."""
    staging, old, trash = _beside(final)
    if not final.exists() and staging.exists() and not verify(staging):
        _rename(staging, final)  # only the last rename was missing
        _sync_folder(final.parent)
    if old.exists() and not final.exists():
        _rename(old, final)
        _sync_folder(final.parent)
    for leftover in (staging, old, trash):
        _discard(leftover, trash)


def _discard(folder: Path, trash: Path) -> None:
    """Move `folder` to the name `trash`, then remove it there. The sync between keeps a power cut from reordering."""
    if folder != trash and os.path.lexists(folder):
        _remove_tree(trash)
        _rename(folder, trash)
        _sync_folder(trash.parent)
    _remove_tree(trash)


def _remove_tree(top: Path) -> None:
    if not os.path.lexists(top):
        return
    if top.is_symlink() or not top.is_dir():
        _unlink(top)
        return
    for path in sorted(top.iterdir(), key=lambda p: p.name == MANIFEST):  # last: `recover` knows ours by it
        _remove_tree(path)
    _rmdir(top)


def _seal(folder: Path) -> None:
    """Sync and hash every file (one read each, from the page cache while it is hot), then write the manifest last."""
    files: dict[str, tuple[int, str]] = {}
    folders = [folder]
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            folders.append(path)
        elif path != folder / MANIFEST:
            # Windows syncs only what is open for writing; elsewhere a read-only file must be possible
            with _opened(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY) as fd:
                files[path.relative_to(folder).as_posix()] = (os.fstat(fd).st_size, _hash(fd))
                _fsync(fd)
    for inner in reversed(folders):
        _sync_folder(inner)
    _write_synced(folder / MANIFEST, _render(files))
    _sync_folder(folder)


def _hash(fd: int) -> str:
    digest = hashlib.sha256()
    while block := os.read(fd, _BLOCK):
        digest.update(block)
    return digest.hexdigest()


def _render(files: dict[str, tuple[int, str]]) -> bytes:
    """The one spelling of a manifest; the last key is the hash of the rest, so the manifest vouches for itself."""
    body: dict[str, object] = {
        "format": FORMAT,
        "files": {name: {"size": size, "sha256": sha256} for name, (size, sha256) in sorted(files.items())},
    }
    body["sha256"] = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return (json.dumps(body, indent=1) + "\n").encode()


def _listed(folder: Path) -> dict[str, tuple[int, str]]:
    """Name -> (bytes, sha256) from a folder's manifest; ValueError says what is wrong with it."""
    data = (folder / MANIFEST).read_bytes()
    try:
        body = json.loads(data)
        version = body["format"]
        files = {name: (entry["size"], entry["sha256"]) for name, entry in body["files"].items()}
        intact = _render(files) == data  # stricter than the hash alone: any changed byte shows
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError("damaged") from None
    if isinstance(version, int) and version > FORMAT:
        raise ValueError(f"format {version} is newer than this version of unpad reads ({FORMAT})")
    if not intact or any(".." in PurePosixPath(n).parts or PurePosixPath(n).is_absolute() for n in files):
        raise ValueError("damaged")
    return files


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)
    try:
        yield fd
    finally:
        os.close(fd)


def _write_synced(path: Path, data: bytes) -> None:
    with _opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
        _write(fd, data)
        _fsync(fd)


def _sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk (renames and new files are not, until then)."""
    if os.name == "nt":
        return  # Windows cannot sync folders; its renames are journalled
    with _opened(folder, os.O_RDONLY) as fd:
        try:
            _fsync(fd)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # network and FUSE mounts that have no such call
                raise


def _refuse_to_lose(final: Path) -> None:
    """A checkpoint's name is ours to replace; in any other folder, a file that its manifest does not list is the user's."""
    if _CHECKPOINT.fullmatch(final.name) or not os.path.lexists(final):
        return
    if not final.is_dir():
        raise CheckpointError(f"cannot write the folder {final}: a file has that name; choose another name")
    listed: set[str] = {MANIFEST}
    with contextlib.suppress(OSError, ValueError):
        listed.update(_listed(final))
    found = {path.relative_to(final).as_posix() for path in final.rglob("*") if not path.is_dir()}
    if foreign := sorted(found - listed):
        raise CheckpointError(
            f"cannot replace the folder {final}: it holds files that were not saved with it ({listing(foreign, 3)}) "
            "and would be lost; choose a new or empty folder, or move them away"
        )


def _refusal(error: BaseException | None) -> OSError | None:
    """The system's refusal behind an exception, or None. Libraries in Rust (safetensors) put its number in the text."""
    while isinstance(error, Exception):
        if isinstance(error, OSError):
            return error
        if found := re.search(r"\(os error (\d+)\)", str(error)):
            return OSError(int(found[1]), os.strerror(int(found[1])))
        error = error.__cause__
    return None


def _refused(path: Path, error: OSError, kept: str, verb: str = "write") -> CheckpointError:
    """One line: what could not be done, where, why, what stays valid, what to do next."""
    inner = Path(os.fsdecode(error.filename)).name if isinstance(error.filename, (str, bytes)) else ""
    why = (error.strerror or type(error).__name__) + (f" ({inner})" if path.name not in inner and inner else "")
    if error.errno in _FULL:
        advice = "free some space on that disk and continue from there"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = "make the folder writable or choose another one"
    else:
        advice = "check the disk and that path, then continue from there"
    return CheckpointError(f"cannot {verb} {path}: {why}; {kept}; {advice}")
