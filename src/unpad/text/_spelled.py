"""Vocabularies whose ids no single Rust model has: Marian's (two SentencePiece models share a vocab.json) and CTRL's (`th@@ e`).

Inside, each Rust model has an entry for every id, spelled so that text can match it only where the published tokenizer
does, and after these the hidden ones: pieces that take part in splitting but have no id, so that they stand for the unknown token.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer
from tokenizers.models import BPE, Unigram

from unpad.errors import ArgumentError, CheckpointError, listing, nearest
from unpad.text import _sentencepiece
from unpad.text._sentencepiece import NORMAL, USER_DEFINED


class Spelled:
    """Such a vocabulary, with the methods of a `tokenizers.Tokenizer` that unpad calls; ids are the published ones."""

    model = None

    def __init__(self, sides: dict[str, RustTokenizer], files: dict[str, bytes], unknown: str):
        self.sides = sides
        """One tokenizer for the texts that a model reads ("source") and, with Marian, one for those that it writes ("target")."""
        self.files = files
        """The files that it was read from, by name; saving writes them back."""
        self.unknown = unknown
        self.side = "source"
        self.ids: dict[str, int] = json.loads(files["vocab.json"])
        self.names = {i: token for token, i in self.ids.items()}
        self.hidden = sides["source"].get_vocab_size(with_added_tokens=False) - len(self.ids)
        self.codes = _codes(self.ids)

    def __getstate__(self) -> dict[str, Any]:
        for rust in self.sides.values():
            rust.no_truncation()
            rust.no_padding()
        return {"files": self.files, "unknown": self.unknown, "sides": {k: r.to_str() for k, r in self.sides.items()}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        sides = {side: RustTokenizer.from_str(text) for side, text in state["sides"].items()}
        self.__init__(sides, state["files"], state["unknown"])  # type: ignore[misc]

    def __getattr__(self, name: str) -> Any:
        if "sides" not in self.__dict__:  # while it is being unpickled
            raise AttributeError(name)
        return getattr(self.sides[self.side], name)

    @property
    def post_processor(self) -> Any:
        return self.sides["source"].post_processor

    @post_processor.setter
    def post_processor(self, template: Any) -> None:
        for rust in self.sides.values():
            rust.post_processor = template

    def _outer(self, i: int) -> int:
        size = len(self.ids)
        return i if i < size else self.ids[self.unknown] if i < size + self.hidden else i - self.hidden

    def _inner(self, i: int) -> int:
        return i if i < len(self.ids) else i + self.hidden

    def token_to_id(self, token: str) -> int | None:
        if token in self.ids:
            return self.ids[token]
        return next((i for i, t in self.get_added_tokens_decoder().items() if t.content == token), None)

    def id_to_token(self, i: int) -> str | None:
        return self.names[i] if i in self.names else self.sides["source"].id_to_token(self._inner(i))

    def get_vocab(self, with_added_tokens: bool = True) -> dict[str, int]:
        added = {t.content: i for i, t in self.get_added_tokens_decoder().items()} if with_added_tokens else {}
        return {**self.ids, **added}

    def get_vocab_size(self, with_added_tokens: bool = True) -> int:
        return self.sides["source"].get_vocab_size(with_added_tokens) - self.hidden

    def get_added_tokens_decoder(self) -> dict[int, AddedToken]:
        return {self._outer(i): token for i, token in self.sides["source"].get_added_tokens_decoder().items()}

    def add_tokens(self, tokens: list[Any], add: str = "add_tokens") -> int:
        for token in map(str, (getattr(t, "content", t) for t in tokens)):
            inside = [rust.token_to_id(token) for rust in self.sides.values()]
            if len(set(inside)) > 1 or (inside[0] is not None and self.token_to_id(token) is None):
                raise ArgumentError(f"{token!r:.60} cannot be added: it is in the vocabulary already; choose another")
        return max(getattr(rust, add)(tokens) for rust in self.sides.values())

    def add_special_tokens(self, tokens: list[Any]) -> int:
        return self.add_tokens(tokens, "add_special_tokens")

    def enable_padding(self, **options: Any) -> None:
        self.sides[self.side].enable_padding(**{**options, "pad_id": self._inner(options["pad_id"])})

    def encode_batch(self, rows: list[Any], **options: Any) -> list[Any]:
        for i, row in enumerate(rows if self.codes else ()):
            code = row[: row.find("<<") + 2] if isinstance(row, str) and row.startswith(">>") else ""
            if code and " " not in code and code not in self.ids:
                found, like = f"row {i} begins with the language code {code!r}", nearest(code, self.codes)
                raise ArgumentError(f"{found}, which this model does not know{like}; known are {listing(self.codes)}")
        return self.sides[self.side].encode_batch(rows, **options)

    def ids_of(self, encodings: Sequence[Any]) -> list[list[int]]:
        """Ids of the encodings that `encode_batch` gave; a piece that one side does not know may have an id all the same."""
        size, unknown = len(self.ids), self.ids[self.unknown]
        rows = [[i if i < size else self._outer(i) for i in e.ids] for e in encodings]
        for row, e in zip(rows, encodings, strict=True):
            if unknown in row:
                row[:] = [self.ids.get(t, i) if i == unknown else i for i, t in zip(row, e.tokens, strict=True)]
        return rows

    def spelled(self, tokens: Sequence[str]) -> list[str]:
        """Tokens of an encoding as vocab.json spells them."""
        if "target" in self.sides:
            return list(tokens)
        added = {token.content for token in self.get_added_tokens_decoder().values()}
        return [t if t in added else t[:-4] if t.endswith("</w>") else f"{t}@@" for t in tokens]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        added = self.get_added_tokens_decoder()
        skipped = {i for i, token in added.items() if token.special} if skip_special_tokens else set()
        tokens = [self.id_to_token(i) or self.unknown for i in ids if i not in skipped]
        if "target" not in self.sides:
            return " ".join(tokens).replace("@@ ", "").strip()
        special = {token.content for token in added.values() if token.special}
        parts = [f"{token} " if token in special else token.replace("▁", " ") for token in tokens]
        after = [False, *(token in special for token in tokens)]
        return "".join(p.removeprefix(" ") if a else p for p, a in zip(parts, after, strict=False)).strip()

    def decode_batch(self, rows: Sequence[Sequence[int]], skip_special_tokens: bool = False) -> list[str]:
        return [self.decode(row, skip_special_tokens) for row in rows]


def _codes(tokens: Iterable[str]) -> list[str]:
    """The language codes among tokens."""
    return [token for token in tokens if token.startswith(">>") and token.endswith("<<")]


def read_beside(path: Path, *names: str) -> tuple[dict[str, int], str, dict[str, bytes]]:
    """Ids of a vocab.json, text of the merges.txt beside it (if that is among `names`), and all files as they are.

    CheckpointError for files that cannot be read, and for a vocab.json that is no dictionary of ids.
    """
    files, ids, merges = {}, {}, ""
    for name in ("vocab.json", *names):
        file = path.with_name(name)
        try:
            files[name] = file.read_bytes()
            if name == "vocab.json":
                ids = json.loads(files[name])
            elif name == "merges.txt":
                merges = files[name].decode()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            how = (
                f"copy vocab.json and {', '.join(names)}, which belong together, or give a folder with a tokenizer.json"
            )
            raise CheckpointError(f"{str(file)!r} cannot be read ({why}); {how}") from error
    if not isinstance(ids, dict) or not all(type(i) is int and i >= 0 for i in ids.values()):
        raise CheckpointError(f"{str(path)!r} is no dictionary of tokens and their ids; copy it again")
    return ids, merges, files


def _check_gaps(path: Path, ids: dict[str, int]) -> None:
    if sorted(ids.values()) != list(range(len(ids))):
        last = len(ids) - 1
        raise CheckpointError(f"{str(path)!r} does not give each id from 0 to {last} one token; copy it again")


def marian(path: Path, separate: bool, special: set[str], unknown: str) -> Spelled:
    """Read vocab.json, source.spm and target.spm; raises CheckpointError when one is missing or no such file."""
    if separate:
        raise CheckpointError(f"{str(path)!r}: separate_vocabs=True (two vocabularies) is not supported")
    ids, _, files = read_beside(path, "source.spm", "target.spm")
    _check_gaps(path, ids)
    models = {side: _sentencepiece.read(path.with_name(f"{side}.spm")) for side in ("source", "target")}
    pieces = {s: {p.text: p.score for p in m.pieces if p.type in (NORMAL, USER_DEFINED)} for s, m in models.items()}
    hidden = (pieces["source"].keys() | pieces["target"].keys()) - ids.keys()
    whole = [*sorted(ids, key=ids.__getitem__), *sorted(hidden)]
    codes = _codes(ids)
    kept, sides = special.union(codes), {}
    for side, model in models.items():
        scores = pieces[side]
        # No word holds a space, so that an entry of the other side alone is never matched.
        entries = [(t if t in scores or t in kept else f" {t}", scores.get(t, 0.0)) for t in whole]
        sides[side] = rust = RustTokenizer(Unigram(entries, ids[unknown], False))
        if model.charsmap:
            rust.normalizer = normalizers.Precompiled(model.charsmap)
        metaspace = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
        rust.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(" ", "removed"), metaspace])
        rust.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
        rust.add_tokens([AddedToken(code, normalized=False, special=False) for code in codes])
    return Spelled(sides, files, unknown)


def ctrl(path: Path, unknown: str) -> Spelled:
    """Read vocab.json, where `@@` ends what goes on, and merges.txt, where `</w>` ends a word."""
    ids, text, files = read_beside(path, "merges.txt")
    _check_gaps(path, ids)
    # As the reference reads them: split at any white space, and of two equal merges the later counts.
    ranks = {pair: i for i, line in enumerate(text.split("\n")[1:-1]) if len(pair := tuple(line.split())) == 2}
    merges: list[Any] = sorted(ranks, key=ranks.__getitem__)
    ends = {token: token[:-2] if token.endswith("@@") else f"{token}</w>" for token in ids.keys() - {unknown}}
    vocabulary = {ends.get(token, token): i for token, i in ids.items()}
    for pair in merges:
        for piece in (*pair, "".join(pair)):
            vocabulary.setdefault(piece, len(vocabulary))
    rust = RustTokenizer(BPE(vocabulary, merges, unk_token=unknown, end_of_word_suffix="</w>"))
    rust.pre_tokenizer = pre_tokenizers.Split(Regex(r"\S+\n?"), "removed", invert=True)
    rust.decoder = decoders.BPEDecoder(suffix="</w>")
    return Spelled({"source": rust}, files, unknown)
