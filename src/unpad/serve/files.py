"""Contents by their SHA-256 in one flat folder. A file has its name only when it is whole and on the disk.

Everything is opened relative to the folder's descriptor and without following links, so that nothing is read or
written elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from unpad.errors import ArgumentError
from unpad.serve.refusals import Refused

_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
BLOCK = 1 << 20


def open_folder(path: Path) -> int:
    """A descriptor of the folder, which is made when it is missing; ArgumentError when it is a link or no folder."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        return os.open(path, _DIRECTORY)
    except OSError as error:
        raise ArgumentError(
            f"{path} cannot be used ({error.strerror}): it must be a folder and no symbolic link; choose another folder"
        ) from None


class Contents:
    """The contents that a Hub holds, in `folder/contents`, and those that are arriving, in `folder/incoming`."""

    def __init__(self, folder: Path) -> None:
        self._whole, self._arriving = open_folder(folder / "contents"), open_folder(folder / "incoming")

    def clear_arriving(self) -> None:
        """Remove what uploads left that never ended. Only the process that owns the folder may call it."""
        for name in os.listdir(self._arriving):
            os.unlink(name, dir_fd=self._arriving)

    def names(self) -> list[str]:
        """The names in `contents`."""
        return os.listdir(self._whole)

    def remove(self, sha256: str) -> int:
        """Remove a content that nothing needs; returns its bytes. Only the process that owns the folder may call it."""
        size = os.stat(sha256, dir_fd=self._whole, follow_symlinks=False).st_size
        os.unlink(sha256, dir_fd=self._whole)
        return size

    def open_parked(self, name: str) -> int:
        """A descriptor to read what an `Arrival` parked; OSError when it is not here or is a link."""
        return os.open(name, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0), dir_fd=self._arriving)

    def remove_parked(self, start: str) -> None:
        """Remove what was parked under names that begin with `start`."""
        for name in os.listdir(self._arriving):
            if name.startswith(start):
                os.unlink(name, dir_fd=self._arriving)

    def size(self, sha256: str) -> int | None:
        """Bytes of a content; None when it is not here."""
        try:
            with self.opened(sha256) as fd:
                return os.fstat(fd).st_size
        except OSError:
            return None

    @contextlib.contextmanager
    def opened(self, sha256: str) -> Iterator[int]:
        """A descriptor to read the content from; OSError when it is not here or is a link."""
        fd = self.open(sha256)
        try:
            yield fd
        finally:
            os.close(fd)

    def open(self, sha256: str) -> int:
        """A descriptor to read the content from, for the caller to close; OSError when it is not here or is a link."""
        return os.open(sha256, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0), dir_fd=self._whole)

    def add(self, data: bytes) -> str:
        """Keep `data` and return its SHA-256. Its name is on the disk after `sync`."""
        sha256 = hashlib.sha256(data).hexdigest()
        if self.size(sha256) != len(data):
            with Arrival(self, len(data)) as arrival:
                arrival.write(data)
                arrival.keep(sha256)
        return sha256

    def sync(self) -> None:
        """Put the names of everything that was kept on the disk."""
        os.fsync(self._whole)


class Arrival:
    """One content that is arriving: `write` its bytes, then `keep` or `park` it; without that, leaving the block
    removes it."""

    def __init__(self, contents: Contents, size: int) -> None:
        self._contents, self._size = contents, size
        self._name, self._digest, self._received = secrets.token_hex(16), hashlib.sha256(), 0

    def __enter__(self) -> Arrival:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        self._fd = os.open(self._name, flags, 0o600, dir_fd=self._contents._arriving)
        return self

    def write(self, data: bytes) -> None:
        """Take the next bytes; Refused with 413 when they are more than was said."""
        self._received += len(data)
        if self._received > self._size:
            raise Refused(413, f"more than the {self._size} bytes that were announced")
        self._digest.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def keep(self, sha256: str) -> None:
        """Make the content visible under its name; Refused with 400 when size or hash are not those that were said."""
        if self._received != self._size:
            raise Refused(400, f"{self._received} bytes arrived instead of {self._size}; send the file again")
        if self._digest.hexdigest() != sha256:
            raise Refused(400, f"the bytes do not have the SHA-256 {sha256}; send the file again")
        os.fsync(self._fd)
        os.rename(self._name, sha256, src_dir_fd=self._contents._arriving, dst_dir_fd=self._contents._whole)

    def park(self, name: str) -> None:
        """Leave what arrived under `name` in the folder of arrivals, where the next start of the server removes it."""
        if self._received != self._size:
            raise Refused(400, f"{self._received} bytes arrived instead of {self._size}; send the file again")
        os.rename(self._name, name, src_dir_fd=self._contents._arriving, dst_dir_fd=self._contents._arriving)

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._contents._arriving)
