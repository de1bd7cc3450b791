"""A corpus as chunks: texts of any length, tokenized whole, joined and cut into pieces of equal length, so that none is truncated.

T tokens of some texts.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

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
        raise ArgumentError(
            f"chunk_size={asked!r} is outside {LEAST_CHUNK}..{longest}: the model takes at most {longest} tokens; give a number between"
        )
    return asked


def chunked(tokenizer: Any, texts: list[pa.Array], size: int, keep_last: bool, split: str) -> Any:
    """The texts of a split as a data set of chunks with `input_ids` and `word_ids`, built from flat arrays.

    Each text keeps its special tokens. The tokens at the end that do not fill a chunk are left out unless `keep_last`, or unless
    they are all there is. Word numbers are unique in their chunk, -1 on special tokens. Raises DataError where no word is.
    """
    import pyarrow as pa
    from datasets import Dataset, DatasetInfo, List, NamedSplit, Value
    from datasets import Features as Types

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
    info = DatasetInfo(features=Types({name: List(Value("int32")) for name in table}))
    arrow = pa.table({name: pa.chunked_array(chunks) for name, chunks in table.items()})
    lost = f"; the last {left} tokens, too few for one, are left out" if left else ""
    say(f"{split}: {sum(map(len, texts)):,} texts make {len(arrow):,} chunks of {size} tokens{lost}")
    return Dataset(arrow.cast(info.features.arrow_schema), info=info, split=NamedSplit(split))


def _tokens(tokenizer: Any, texts: list[str], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids [T] of whole texts and numbers [T] that tell their words apart, rising from 0; -1 for special tokens."""
    found = tokenizer(
        texts, truncation=False, max_length=size, return_attention_mask=False, return_token_type_ids=False
    ).encodings
    assert found is not None
    ids = np.fromiter(chain.from_iterable(e.ids for e in found), np.int64)
    word = np.fromiter((-1 if w is None else w for e in found for w in e.word_ids), np.int64, len(ids))
    text = np.repeat(np.arange(len(found)), [len(e) for e in found])
    begins = (word >= 0) & ((np.diff(word, prepend=-1) != 0) | (np.diff(text, prepend=-1) != 0))
    return ids, np.where(word < 0, -1, np.cumsum(begins) - 1)
