"""Reader of SentencePiece model files (`spiece.model`, `sentencepiece.bpe.model`, `spm.model`), without protobuf.

The file is one protobuf message; read is what a tokenizer needs: pieces, kind of model, normalization. Field numbers are
those of `sentencepiece_model.proto`, which never change meaning. A `key` is a field number and a wire type in one number.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from unpad.errors import CheckpointError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = range(1, 5)
"""Types of pieces; there are two more."""
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
"""Wire types: what follows a key."""
_KINDS = {1: "Unigram", 2: "BPE"}


class Piece(NamedTuple):
    """One entry of the vocabulary; its id is its position."""

    text: str
    score: float
    type: int


class Model(NamedTuple):
    """A SentencePiece model, as far as tokenizing needs it."""

    pieces: list[Piece]
    kind: str
    """"Unigram" or "BPE"."""
    byte_fallback: bool
    """Whether characters without a piece become bytes (`<0x41>`) rather than the unknown token."""
    charsmap: bytes
    """Compiled normalization rules; empty when there are none."""

    @property
    def unknown(self) -> str:
        """Text of the unknown piece."""
        return next(piece.text for piece in self.pieces if piece.type == UNKNOWN)

    def merges(self) -> list[tuple[str, str]]:
        """Merges of a BPE model, best first: the file keeps only their results, in the order of their ranks."""
        ids = {piece.text: i for i, piece in enumerate(self.pieces)}
        found = []
        for text, _, kind in self.pieces:
            if kind == NORMAL:
                halves = ((text[:cut], text[cut:]) for cut in range(1, len(text)))
                pairs = [pair for pair in halves if pair[0] in ids and pair[1] in ids]
                found += sorted(pairs, key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        return found


def read(path: Path) -> Model:
    """The model in a file; CheckpointError names the file when it is damaged or something else."""
    try:
        return _model(path.read_bytes())
    except (OSError, ValueError, IndexError, struct.error) as error:
        how = "copy the file again, or give a folder with a tokenizer.json"
        raise CheckpointError(f"{str(path)!r} is no SentencePiece model ({error}); {how}") from error


def _model(data: bytes) -> Model:
    pieces: list[Piece] = []
    specs: dict[int, dict[int, Any]] = {_key(2, _BYTES): {}, _key(3, _BYTES): {}}
    for key, value in _fields(data):
        if key == _key(1, _BYTES):
            pieces.append(_piece(value, len(pieces)))
        elif key in specs:
            specs[key].update(_fields(value))
    trainer, normalizer = specs.values()
    if sum(piece.type == UNKNOWN for piece in pieces) != 1:
        raise ValueError(f"it has {len(pieces)} pieces and not exactly one of them is the unknown token")
    kind = trainer.get(_key(3, _VARINT), 1)
    if kind not in _KINDS:
        raise ValueError(f"its model type is {kind}; supported are 1 (Unigram) and 2 (BPE)")
    bytes_too = bool(trainer.get(_key(35, _VARINT), False))
    return Model(pieces, _KINDS[kind], bytes_too, normalizer.get(_key(2, _BYTES), b""))


def _piece(data: bytes, i: int) -> Piece:
    fields = dict(_fields(data))
    text = fields.get(_key(1, _BYTES), b"").decode()
    if not text:
        raise ValueError(f"piece {i} has no text")
    (score,) = struct.unpack("<f", fields.get(_key(2, _FOUR), b"\0\0\0\0"))
    return Piece(text, score, fields.get(_key(3, _VARINT), NORMAL))


def _key(number: int, wire: int) -> int:
    return number << 3 | wire


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """`(key, value)` of each field of a message: an integer, or the bytes of whatever else."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        wire = key & 7
        if wire == _VARINT:
            value: Any
            value, at = _varint(data, at)
        else:
            size, at = _varint(data, at) if wire == _BYTES else ({_EIGHT: 8, _FOUR: 4}.get(wire), at)
            if size is None or at + size > end:
                raise ValueError(f"it breaks off or is damaged near byte {at} of {end}")
            value, at = data[at : at + size], at + size
        yield key, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that starts at a place (7 bits a byte, lowest first), and where the next thing starts."""
    value, shift = 0, 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
