"""Uploads by Xet, the protocol by which clients with `hf_xet` send large files: received, and put together at once.

A client cuts files into chunks, sends each new chunk inside a "xorb" (some MB of chunks, compressed one by one), and
then a "shard" that lists of which chunks each file consists, and its SHA-256. A file that was put together is a content
like any other. Xorbs are only kept while their upload goes on. The formats are those of the Xet specification, version
1: https://huggingface.co/docs/xet
"""

from __future__ import annotations

import os
import secrets
import struct
import threading
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from unpad.serve.files import Arrival, Contents
from unpad.serve.refusals import Refused

LONGEST_XORB = 80 << 20  # bytes; the specification allows 64 MiB of chunks, and a footer
LONGEST_SHARD = 64 << 20
_MOST_CHUNKS = 8192  # of a xorb
_IDLE = 3600  # seconds without a request after which an upload is over
_HEADER, _MAGIC = struct.Struct("<32sQQ"), b"HFRepoMetaData"
_FILE, _SEGMENT = struct.Struct("<32sIIQ"), struct.Struct("<32sIIII")
_WITH_HASHES, _WITH_SHA256 = 1 << 31, 1 << 30  # flags of a file
_LZ4 = pa.Codec("lz4")

Chunk = tuple[int, int, int, int]
"""Where the data of a chunk begin in its xorb, their bytes, how they are compressed, and bytes without that."""
Segment = tuple[str, int, int]
"""Chunks of a file that follow one another: name of the xorb, first chunk, and the one behind the last."""


class Uploads:
    """The uploads that go on; each has a name of its own, which its client knows from the address that it got."""

    def __init__(self, contents: Contents) -> None:
        self._contents, self._lock = contents, threading.Lock()
        self._used: dict[str, float] = {}

    def open(self) -> str:
        """The name of a new upload. Its xorbs are removed an hour or two after its last request, or at the next start."""
        session = secrets.token_hex(16)
        if self.use(session) == 1:
            self._sweep_later()
        return session

    def use(self, session: str) -> int:
        """Note that a request of the upload came; returns how many uploads there are."""
        with self._lock:
            self._used[session] = time.monotonic()
            return len(self._used)

    def _sweep_later(self) -> None:
        timer = threading.Timer(_IDLE, self._sweep)
        timer.daemon = True
        timer.start()

    def _sweep(self) -> None:
        with self._lock:
            over = [name for name, used in self._used.items() if time.monotonic() - used >= _IDLE]
            for name in over:
                del self._used[name]
                self._contents.remove_parked(f"xet-{name}-")
            left = bool(self._used)
        if left:
            self._sweep_later()

    def add(self, session: str, xorb: str, arrival: Arrival) -> None:
        """Keep a xorb for the upload; Refused with 400 when fewer bytes arrived than were announced."""
        arrival.park(f"xet-{session}-{xorb}")

    def build(self, session: str, shard: bytes) -> None:
        """Put all files of a shard together, each checked by its SHA-256; Refused with 400 for what is no shard, for a
        xorb that is missing or no xorb, and for a file of another SHA-256."""
        known: dict[str, list[Chunk]] = {}
        for sha256, size, segments in _files(shard):
            if self._contents.size(sha256) == size:
                continue
            with Arrival(self._contents, size) as arrival:
                for xorb, first, end in segments:
                    try:
                        fd = self._contents.open_parked(f"xet-{session}-{xorb}")
                    except OSError:
                        raise Refused(400, f"the xorb {xorb} was not uploaded; send the file again") from None
                    try:
                        if xorb not in known:
                            known[xorb] = _chunks(fd)
                        if not first < end <= len(known[xorb]):
                            raise Refused(400, f"the xorb {xorb} has no chunks {first} to {end}")
                        for at, packed, scheme, length in known[xorb][first:end]:
                            arrival.write(_plain(os.pread(fd, packed, at), scheme, length))
                    finally:
                        os.close(fd)
                arrival.keep(sha256)
        self._contents.sync()


def _files(shard: bytes) -> Iterator[tuple[str, int, list[Segment]]]:
    """(SHA-256, bytes, segments) of each file of a shard."""
    try:
        magic, version, _ = _HEADER.unpack_from(shard, 0)
        if not magic.startswith(_MAGIC) or version != 2:
            raise Refused(400, "this is no shard of version 2")
        at = _HEADER.size
        while True:
            name, flags, count, _ = _FILE.unpack_from(shard, at)
            at += _FILE.size
            if name == b"\xff" * 32:
                return
            if count * _SEGMENT.size > len(shard) - at or not flags & _WITH_SHA256:
                raise Refused(400, "a file of the shard has no SHA-256, or more segments than the shard")
            rows = [_SEGMENT.unpack_from(shard, at + i * _SEGMENT.size) for i in range(count)]
            at += count * _SEGMENT.size * (2 if flags & _WITH_HASHES else 1)
            sha256 = _hash(_FILE.unpack_from(shard, at)[0])
            at += _FILE.size
            yield sha256, sum(row[2] for row in rows), [(_hash(row[0]), row[3], row[4]) for row in rows]
    except struct.error:
        raise Refused(400, "the shard ends too early") from None


def _hash(data: bytes) -> str:
    """A hash of 32 bytes as text: four numbers of 64 bits, each with its low byte first in the file."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", data))


def _chunks(fd: int) -> list[Chunk]:
    """The chunks of a xorb: each a header of 8 bytes, and its data, often compressed. A footer may follow."""
    at, found = 0, list[Chunk]()
    while len(found) < _MOST_CHUNKS and len(header := os.pread(fd, 8, at)) == 8 and header[0] == 0:
        packed, size = int.from_bytes(header[1:4], "little"), int.from_bytes(header[5:8], "little")
        found.append((at + 8, packed, header[4], size))
        at += 8 + packed
    return found


def _plain(data: bytes, scheme: int, size: int) -> bytes:
    """A chunk's bytes: stored (0), as an LZ4 frame (1), or that with every fourth byte next to one another (2)."""
    if scheme not in (0, 1, 2):
        raise Refused(400, f"a chunk is compressed in an unknown way ({scheme})")
    if scheme:
        try:
            data = _LZ4.decompress(data, size, asbytes=True)
        except (OSError, pa.ArrowException):
            raise Refused(400, "a chunk cannot be decompressed") from None
    if len(data) != size:
        raise Refused(400, "a chunk has another size than its header says")
    if scheme == 2:
        grouped, plain, at = np.frombuffer(data, np.uint8), np.empty(size, np.uint8), 0
        for i in range(4):
            part = plain[i::4]
            part[:] = grouped[at : at + len(part)]
            at += len(part)
        data = plain.tobytes()
    return data
