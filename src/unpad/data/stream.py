"""A corpus that is read as it comes: rows of token ids, or packed batches, in an order that a saved position finds again.

Nothing but one window of documents is held. Which rows follow is a function of the settings and of (epoch, document, offset),
so that a run goes on exactly where it stopped. T tokens.
"""

from __future__ import annotations

import inspect
import io
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from unpad.batch import PackedBatch, pack
from unpad.data._find import ending, missing
from unpad.data.chunks import BLOCK, LEAST_CHUNK, check_size, cut_documents
from unpad.data.sampler import key_of, permute
from unpad.errors import ArgumentError, CheckpointError, DataError, listing, nearest
from unpad.notices import say

ENDINGS = (".txt", ".jsonl", ".ndjson")
"""Files with a document in each line (also compressed), of which a stream can be made."""


class TokenStream:
    """Rows of at most `block_size` tokens from a `source` of texts; iterating goes on from the present place to the end of the epoch.

    `source`: a list or another iterable of texts or of dictionaries with the column `text`, a `datasets.IterableDataset`, or a
    folder (or file) of .txt and .jsonl, also compressed, with a document in each line. Documents are cut as by
    `documents_to_rows`, with the end token of `tokenizer`, and are tokenized in a thread, one block ahead. Each `buffer`
    consecutive documents (and the files of a folder) are shuffled anew in each epoch as `seed` says; buffer=1 keeps the source's own
    order. Going on at a place reads, but does not tokenize, the documents before it. Raises ArgumentError for sizes out of range,
    DataError for a source that can be read only once, and for documents that are no texts.
    """

    def __init__(
        self, source: Any = None, tokenizer: Any = None, block_size: Any = None, *, seed: int = 0, buffer: int = 1000, text: str = "text",
        across: bool = False, **unknown: Any,
    ) -> None:  # fmt: skip
        known = [name for name in inspect.signature(TokenStream).parameters if name != "unknown"]
        for name in unknown:
            like = nearest(name, known)
            raise ArgumentError(f"TokenStream has no argument {name!r}{like}; it takes {listing(known)}")
        if not callable(tokenizer):
            kind = type(tokenizer).__name__
            raise ArgumentError(f"tokenizer is a {kind}; give one from AutoTokenizer.from_pretrained")
        if isinstance(buffer, bool) or not isinstance(buffer, int) or buffer < 1:
            raise ArgumentError(f"buffer={buffer!r} must be a number of documents, 1 (the source's order) or more")
        check_size(block_size)
        self._files = _files(os.fspath(source)) if isinstance(source, (str, os.PathLike)) else None
        once = isinstance(source, (set, frozenset)) or not hasattr(source, "__iter__") or iter(source) is source
        if self._files is None and once:
            found = f"the source of a stream is a {type(source).__name__}"
            raise DataError(f"{found}, which cannot be read again; give a list, a data set or a folder")
        self._source, self._tokenizer, self._text = source, tokenizer, text
        self._settings: dict[str, Any] = {"seed": seed, "buffer": buffer, "block_size": block_size, "across": across}
        self._place = (0, 0, 0)  # epoch, document in its order, tokens of that which are used

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """Features with `input_ids`, int64 arrays, up to the end of the epoch."""
        for row, _, after in self._rows():
            self._place = after
            yield {"input_ids": row}
        self._place = (self._place[0] + 1, 0, 0)

    def batches(self, max_tokens: int) -> Iterator[PackedBatch]:
        """The same rows as packed batches of at most `max_tokens` tokens, in their order.

        `labels` [T] are the ids, unshifted, `sample_ids` the numbers of the documents. A single row may be longer.
        """
        held: list[tuple[np.ndarray, int]] = []
        room, last = max_tokens, self._place
        for row, document, after in self._rows():
            if held and len(row) > room:
                self._place = last
                yield _for_next_token(held)
                held, room = [], max_tokens
            held.append((row, document))
            room, last = room - len(row), after
        self._place = (last[0] + 1, 0, 0)
        if held:
            yield _for_next_token(held)

    def state_dict(self) -> dict[str, Any]:
        """The place behind the last row or batch that was handed out, and the settings that the order depends on."""
        epoch, document, offset = self._place
        return {"epoch": epoch, "document": document, "offset": offset, **self._settings}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on at a place that `state_dict` gave. Raises CheckpointError where the settings are others."""
        for name, value in self._settings.items():
            if state[name] != value:
                saved = f"the stream was saved with {name}={state[name]!r}"
                raise CheckpointError(f"{saved}, this one has {value!r}; make it as it was")
        self._place = (state["epoch"], state["document"], state["offset"])

    def _rows(self) -> Iterator[tuple[np.ndarray, int, tuple[int, int, int]]]:
        """Each row to the end of the epoch, with the number of the document that it ends in and the place behind it."""
        epoch, document, used = self._place
        lost, rows, end = [0], 0, self._tokenizer.eos_token_id
        size, across, documents = (
            self._settings["block_size"],
            self._settings["across"],
            self._documents(epoch, document),
        )
        for row, number, after in cut_documents(documents, size, end, across, LEAST_CHUNK, lost, used=used):
            rows += 1
            yield row, number, (epoch, *after)
        if not rows and document == used == 0:
            raise DataError("the source of the stream has no text for a single row; look at its files or texts")
        if sum(lost):
            say(f"epoch {epoch} of the stream: {sum(lost):,} tokens, too few for a row, are left out")

    def _documents(self, epoch: int, document: int) -> Iterator[tuple[int, np.ndarray]]:
        """(Number, ids) of the documents from number `document` on; the next block is tokenized meanwhile."""
        blocks = self._blocks(epoch, document)
        with ThreadPoolExecutor(1) as worker:
            ahead = worker.submit(next, blocks, None)
            while (block := ahead.result()) is not None:
                ahead = worker.submit(next, blocks, None)
                for number, ids in enumerate(block[1], start=block[0]):
                    yield number, np.asarray(ids, dtype=np.int64)

    def _blocks(self, epoch: int, document: int) -> Iterator[tuple[int, list[list[int]]]]:
        """(Number of the first document, ids of each) of some documents at a time, in the order of the epoch."""
        size = self._settings["buffer"] if self._settings["buffer"] > 1 else BLOCK
        window, place = divmod(document, size)
        texts = self._texts(epoch, window * size)
        while some := self._shuffled(list(islice(texts, size)), f"{epoch}|{window}"):
            for first in range(place, len(some), BLOCK):
                found = self._tokenizer(some[first : first + BLOCK], truncation=False, max_length=BLOCK)
                yield window * size + first, found["input_ids"]
            window, place = window + 1, 0

    def _shuffled(self, items: list[str], name: str) -> list[str]:
        if not items or self._settings["buffer"] == 1:
            return items
        key = key_of(f"{self._settings['seed']}|{name}|stream")
        return [items[i] for i in permute(np.arange(len(items)), len(items), key)]

    def _texts(self, epoch: int, first: int) -> Iterator[str]:
        """The texts of the source from number `first` on, its files in the order of the epoch."""
        source = self._source
        if self._files is not None:
            source = _lines(self._shuffled(self._files, f"{epoch}|files"))
        elif hasattr(source, "set_epoch"):
            source.set_epoch(epoch)  # a skip() of its own would change the order of its shards
        for number, item in enumerate(islice(source, first, None), start=first):
            where, item = item if self._files is not None else (f"document {number} of the stream", item)
            text = item.get(self._text) if isinstance(item, Mapping) else item
            if not isinstance(text, str):
                how = "name the column of texts with text="
                raise DataError(f"{where} is {item!r:.60}, without a text in {self._text!r}; {how}")
            yield text


def _for_next_token(held: list[tuple[np.ndarray, int]]) -> PackedBatch:
    batch = pack([row for row, _ in held], sample_ids=[document for _, document in held])
    return replace(batch, labels=batch.input_ids)


def _files(source: str) -> list[str]:
    """The files of a folder and its subfolders that a stream can read, by name; or the one file."""
    root = Path(source).expanduser()
    if not root.exists():
        raise missing(str(root))
    found = [root] if root.is_file() else sorted(f for f in root.rglob("*") if f.is_file())
    files = [str(f) for f in found if ending(f.name) in ENDINGS]
    if not files:
        needed = f"it needs files ending in {listing(ENDINGS)}, or with .gz"
        raise DataError(f"{root.absolute()} holds nothing to stream; {needed}")
    return files


def _lines(files: list[str]) -> Iterator[tuple[str, Any]]:
    """(Where it stands, what it holds) of all lines that are not blank."""
    import pyarrow as pa

    for file in files:
        plain = ending(file) == ".txt"
        with pa.input_stream(file, compression="detect") as stream:
            try:
                for number, line in enumerate(io.TextIOWrapper(stream, encoding="utf-8-sig", newline="\n"), start=1):
                    if not line.isspace():
                        yield f"line {number} of {file}", line.rstrip("\r\n") if plain else json.loads(line)
            except UnicodeDecodeError:
                raise DataError(f"{file} is not UTF-8 text; save it as UTF-8") from None
            except json.JSONDecodeError as error:
                wrong = f"not valid JSON ({error.msg}): {line!r:.60}"
                raise DataError(f"line {number} of {file} is {wrong}; mend it") from None
