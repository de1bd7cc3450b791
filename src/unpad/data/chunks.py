"""A corpus as rows that a model can hold: texts of any length, tokenized whole and cut into pieces, so that none is truncated.

Masked models get chunks of equal length, cut from all texts joined. Models of the next token get each document, or piece of a long
one, as a row of its own: batches are packed, so short rows cost nothing and no token sees another document. T tokens of some texts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from unpad.data.columns import column_of
from unpad.data.tokens import token_columns, without_padding
from unpad.errors import ArgumentError, DataError
from unpad.notices import say

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 128
"""Tokens of a chunk, as in the Hugging Face course, where the model can hold so many."""
LEAST_CHUNK = 8
"""Shorter chunks leave nothing to guess from."""
BLOCK = 1000
"""Texts that are tokenized together: a bound for the memory that it takes."""


def chunk_size(asked: int | None, longest: int) -> int:
    """Tokens of a chunk: `asked`, or the default that fits `longest`, the most that the model holds. Raises ArgumentError."""
    if asked is None:
        return min(CHUNK, longest)
    if isinstance(asked, bool) or not isinstance(asked, int) or not LEAST_CHUNK <= asked <= longest:
        why = f"the model takes at most {longest} tokens; give a number between"
        raise ArgumentError(f"chunk_size={asked!r} is outside {LEAST_CHUNK}..{longest}: {why}")
    return asked


def chunked(tokenizer: Any, texts: list[pa.Array], size: int, keep_last: bool, split: str) -> Any:
    """The texts of a split as a data set of chunks with `input_ids` and `word_ids`, built from flat arrays.

    Each text keeps its special tokens. The tokens at the end that do not fill a chunk are left out unless `keep_last`, or unless
    they are all there is. Word numbers are unique in their chunk, -1 on special tokens. Raises DataError where no word is.
    """
    import pyarrow as pa

    table: dict[str, list[pa.Array]] = {"input_ids": [], "word_ids": []}
    rest, seen = np.empty((2, 0), np.int64), 0

    def add(tokens: np.ndarray, width: int) -> None:
        """Ids and word numbers [2, n * width] as n chunks."""
        numbers = tokens[1].reshape(-1, width)
        least = np.where(numbers < 0, seen, numbers).min(1, keepdims=True)
        numbers = np.where(numbers < 0, -1, numbers - least).ravel()
        bounds = pa.array(np.arange(0, len(numbers) + 1, width), pa.int32())
        for name, values in (("input_ids", tokens[0]), ("word_ids", numbers)):
            table[name].append(pa.ListArray.from_arrays(bounds, values.astype(np.int32)))

    for array in texts:
        for start in range(0, len(array), BLOCK):
            ids, words = _tokens(tokenizer, array.slice(start, BLOCK).to_pylist(), size)
            rest = np.concatenate([rest, [ids, np.where(words < 0, -1, words + seen)]], axis=1)
            seen += int(words.max(initial=-1)) + 1
            whole = rest.shape[1] // size * size
            if whole:
                add(rest[:, :whole], size)
            rest = rest[:, whole:].copy()
    if not seen:
        raise DataError(f"the texts of {split!r} hold no words; give a corpus with some, or another column with text=")
    left = rest.shape[1]
    if left and (keep_last or not table["input_ids"]):
        add(rest, left)
        left = 0
    lost = f"; the last {left} tokens, too few for one, are left out" if left else ""
    chunks = sum(map(len, table["input_ids"]))
    say(f"{split}: {sum(map(len, texts)):,} texts make {chunks:,} chunks of {size} tokens{lost}")
    return _dataset(table, split)


def documents_to_rows(
    tokenized: Any, block_size: int, eos_token_id: int | None, *, across: bool = False, keep_last: bool = False,
    min_length: int = LEAST_CHUNK, split: str = "train",
) -> Any:  # fmt: skip
    """Tokenized documents (a data set with `input_ids` of any length) as a data set of rows for models of the next token.

    Each document gets `eos_token_id` (where that is not None) at its end and is cut into rows of `block_size` tokens. Left out are last
    pieces below `min_length` tokens, and documents below 2, as there is nothing to predict. With `across` documents are joined and
    cut into equal rows; then the last tokens, too few for one, are left out unless `keep_last`. What is left out is said. Raises
    ArgumentError for sizes out of range, DataError where no row is left.
    """
    import pyarrow as pa

    check_size(block_size)
    of, lost = f" of {split!r}", [0]
    columns, mapping, count, _ = token_columns(tokenized, of)
    names = [n for n in ("input_ids", "attention_mask") if n in columns]
    ids = without_padding({n: column_of(columns[n], n, mapping, of) for n in names})["input_ids"]
    documents = ((i, ids.rows([i])[0]) for i in range(count))
    found = cut_documents(documents, block_size, eos_token_id, across, min_length, lost, keep_last)
    rows = [row for row, _, _ in found]
    if not rows:
        raise DataError(f"the documents{of} are too short for a row; give a longer corpus, or a smaller block_size")
    bounds = np.cumsum([0, *map(len, rows)])
    left = f"; {sum(lost):,} tokens, too few for a row, are left out" if sum(lost) else ""
    say(f"{split}: {count:,} documents make {len(rows):,} rows of at most {block_size} tokens{left}")
    values = pa.array(np.concatenate(rows), pa.int32())
    return _dataset({"input_ids": [pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), values)]}, split)


def check_size(block_size: int) -> None:
    if isinstance(block_size, bool) or not isinstance(block_size, int) or block_size < 2:
        raise ArgumentError(f"block_size={block_size!r} must be a whole number of tokens, 2 or more")


def cut_documents(
    documents: Iterable[tuple[int, np.ndarray]], size: int, end: int | None, across: bool, least: int, lost: list[int],
    keep_last: bool = False, used: int = 0,
) -> Iterator[tuple[np.ndarray, int, tuple[int, int]]]:  # fmt: skip
    """Cut (number, ids) of documents as `documents_to_rows` says: row, number of its document, (document, tokens of it) used so far.

    `used` tokens of the first document are passed over. The sizes of what is left out are added to `lost`.
    """
    rest, number, least = np.empty(0, np.int64), 0, min(max(2, least), size)
    for number, ids in documents:
        if end is not None and len(ids) and ids[-1] != end:
            ids = np.append(ids, end)
        at, used = used, 0
        while at < len(ids):
            first, piece = at == 0, ids[at : at + size - len(rest)]
            at += len(piece)
            row = np.concatenate([rest, piece]) if across else piece
            if across and len(row) < size:
                rest = row
            elif len(row) >= (2 if first else least):
                rest = rest[:0]
                yield row, number, (number, at) if at < len(ids) else (number + 1, 0)
            else:
                lost.append(len(row))
    if keep_last and len(rest) > 1:
        yield rest, number, (number + 1, 0)
    else:
        lost.append(len(rest))


def token_weights(ids: Any, keyword_ids: Collection[int], alpha: float = 1.0) -> np.ndarray:
    """[T] float32: 1 + `alpha` where an id of `ids` [T] is among `keyword_ids`, else 1; for the column `weights` of a causal model."""
    return (1 + alpha * np.isin(np.asarray(ids), list(keyword_ids))).astype(np.float32)


def _dataset(table: dict[str, list[pa.Array]], split: str) -> Any:
    """Chunks of int32 lists by column as a data set."""
    import pyarrow as pa
    from datasets import Dataset, DatasetInfo, List, NamedSplit, Value
    from datasets import Features as Types

    info = DatasetInfo(features=Types({name: List(Value("int32")) for name in table}))
    arrow = pa.table({name: pa.chunked_array(chunks) for name, chunks in table.items()})
    return Dataset(arrow.cast(info.features.arrow_schema), info=info, split=NamedSplit(split))


def _tokens(tokenizer: Any, texts: list[str], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids [T] of whole texts and numbers [T] that tell their words apart, rising from 0; -1 for special tokens."""
    plain = {"return_attention_mask": False, "return_token_type_ids": False}
    found = tokenizer(texts, truncation=False, max_length=size, **plain).encodings
    ids = np.fromiter(chain.from_iterable(e.ids for e in found), np.int64)
    word = np.fromiter((-1 if w is None else w for e in found for w in e.word_ids), np.int64, len(ids))
    text = np.repeat(np.arange(len(found)), [len(e) for e in found])
    begins = (word >= 0) & ((np.diff(word, prepend=-1) != 0) | (np.diff(text, prepend=-1) != 0))
    return ids, np.where(word < 0, -1, np.cumsum(begins) - 1)
