"""`BatchEncoding`: what a tokenizer call returns, a dictionary that also maps between tokens, words and characters.

Token, word and character positions count from 0; spans are half open, as Python slices are.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from unpad.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from tokenizers import Encoding


class CharSpan(NamedTuple):
    """Characters `start` to `end` (exclusive) of an original text."""

    start: int
    end: int


class TokenSpan(NamedTuple):
    """Tokens `start` to `end` (exclusive) of an encoded row."""

    start: int
    end: int


def plain(value: Any) -> Any:
    """Numpy arrays, torch tensors and lists of them as Python numbers and lists; anything else as it is."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (list, tuple)) and any(hasattr(v, "tolist") for v in value):
        return [v.tolist() if hasattr(v, "tolist") else v for v in value]
    return value


def to_tensor(key: str, value: Any, kind: str) -> Any:
    """One column as a torch tensor (`kind` "pt") or numpy array ("np"); integers are int64, "pt" floats default dtype.

    Raises DataError when the rows differ in length or are not numbers.
    """
    if kind == "pt":
        import torch
    if isinstance(value, torch.Tensor if kind == "pt" else np.ndarray):
        return value
    value = plain(value)
    try:
        array = np.asarray(value)  # numpy reads nested lists several times faster than torch.tensor does
    except ValueError:
        array = np.empty(0, dtype=object)
    if array.dtype == object or (kind == "pt" and array.dtype.kind not in "iufb"):
        raise DataError(_why_no_tensor(key, value))
    if array.size == 0 and array.dtype.kind == "f":
        array = array.astype(np.int64)
    if kind == "np":
        return array
    tensor = torch.from_numpy(array)
    return tensor.to(torch.get_default_dtype()) if array.dtype == np.float64 else tensor


def _why_no_tensor(key: str, value: Any) -> str:
    rows = value if isinstance(value, (list, tuple)) else [value]
    for i, row in enumerate(rows):
        items = row if isinstance(row, (list, tuple)) else [row]
        odd = next((v for v in items if v is None or isinstance(v, (str, bytes, Mapping))), 0)
        if odd != 0:
            return f"{key!r} cannot become a tensor: row {i} holds {odd!r}, not numbers; remove the column or convert it first"
    lengths = [len(r) for r in rows if isinstance(r, (list, tuple))]
    if not lengths or len(set(lengths)) == 1 == len({isinstance(r, (list, tuple)) for r in rows}):
        return f"{key!r} cannot become a tensor: its values are nested to different depths; make every row alike"
    return (
        f"{key!r} cannot become a tensor: its rows have {min(lengths)} to {max(lengths)} values; "
        "pass padding=True (and truncation=True to bound the length), or leave return_tensors out"
    )


class BatchEncoding(UserDict):
    """A dictionary of columns (`input_ids`, `attention_mask`, ...) that remembers how each row was tokenized.

    `encodings` are the `tokenizers.Encoding` objects of the rows, or None when the columns did not come
    straight from text (after `Tokenizer.pad`, for example); then only the dictionary part is there.
    """

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        encodings: list[Encoding] | None = None,
        tensor_type: str | None = None,
        n_sequences: int | None = None,
        cut: Sequence[int] = (),
    ):
        super().__init__(data)
        self.cut = cut
        """Numbers of the rows of which truncation has lost something."""
        self.encodings = encodings
        self.n_sequences = encodings[0].n_sequences if n_sequences is None and encodings else n_sequences
        """1 for single texts, 2 for pairs, None when not known."""
        self.convert_to_tensors(tensor_type)

    def __getitem__(self, item: Any) -> Any:
        """A column by name, the `Encoding` of a row by number, or a slice of rows."""
        if isinstance(item, str):
            return self.data[item]
        if self.encodings is not None:
            return self.encodings[item]
        if isinstance(item, slice):
            return {key: value[item] for key, value in self.data.items()}
        raise KeyError(f"{item!r}: ask for a column by name ({', '.join(map(str, self.data))}) or for a slice")

    def __getattr__(self, name: str) -> Any:
        data = self.__dict__.get("data", {})  # unpickling asks for attributes before `data` is there
        if name in data:
            return data[name]
        raise AttributeError(f"BatchEncoding has no attribute or column {name!r}; columns: {', '.join(map(str, data))}")

    @property
    def is_fast(self) -> bool:
        """True when rows remember their tokens, words and characters."""
        return self.encodings is not None

    def _row(self, batch_index: int) -> Encoding:
        if not self.encodings:
            why = "it was padded, copied or built by hand"
            how = "ask the BatchEncoding that the tokenizer call returned"
            raise DataError(f"this batch does not remember its texts ({why}); {how}")
        return self.encodings[batch_index]

    def _at(self, first: int, second: int | None) -> tuple[Encoding, int]:
        """`(row, position)` from `(position)` alone, which means row 0, or `(row number, position)`."""
        return (self._row(0), first) if second is None else (self._row(first), second)

    def _token_at(self, first: int, second: int | None) -> tuple[Encoding, int]:
        row, index = self._at(first, second)
        return row, index + len(row) if index < 0 else index

    def tokens(self, batch_index: int = 0) -> list[str]:
        """The tokens of a row."""
        return self._row(batch_index).tokens

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """For each token of a row the number of its word in its text; None for special tokens and padding."""
        return self._row(batch_index).word_ids

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """For each token of a row 0 (first text), 1 (second text) or None (special tokens and padding)."""
        return self._row(batch_index).sequence_ids

    def token_to_sequence(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """Text (0 or 1) that a token comes from."""
        row, index = self._token_at(batch_or_token_index, token_index)
        return row.token_to_sequence(index)

    def token_to_word(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """Number of the word that a token is part of."""
        row, index = self._token_at(batch_or_token_index, token_index)
        return row.token_to_word(index)

    def token_to_chars(self, batch_or_token_index: int, token_index: int | None = None) -> CharSpan | None:
        """Characters of the original text that a token covers; None for special tokens."""
        row, index = self._token_at(batch_or_token_index, token_index)
        span = row.token_to_chars(index)
        return None if span is None else CharSpan(*span)

    def char_to_token(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """Token that covers a character of text `sequence_index`; None for white space and cut-off text."""
        row, index = self._at(batch_or_char_index, char_index)
        return row.char_to_token(index, sequence_index)

    def char_to_word(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """Word that covers a character of text `sequence_index`."""
        row, index = self._at(batch_or_char_index, char_index)
        return row.char_to_word(index, sequence_index)

    def word_to_tokens(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> TokenSpan | None:
        """Tokens of a word of text `sequence_index`; None when none of it is left."""
        row, index = self._at(batch_or_word_index, word_index)
        span = row.word_to_tokens(index, sequence_index)
        return None if span is None else TokenSpan(*span)

    def word_to_chars(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> CharSpan | None:
        """Characters of a word of text `sequence_index`; within the word itself for pre-split words."""
        row, index = self._at(batch_or_word_index, word_index)
        span = row.word_to_chars(index, sequence_index)
        return None if span is None else CharSpan(*span)

    def convert_to_tensors(self, tensor_type: Any = None, prepend_batch_axis: bool = False) -> BatchEncoding:
        """Turn every column into torch tensors ("pt") or numpy arrays ("np"), in place; None leaves lists."""
        kind = getattr(tensor_type, "value", tensor_type)
        if kind is None:
            return self
        if kind not in ("pt", "np"):
            raise ArgumentError(f"return_tensors={tensor_type!r} is not known; allowed are 'pt', 'np' and None")
        for key, value in self.data.items():
            self.data[key] = to_tensor(str(key), [plain(value)] if prepend_batch_axis else value, kind)
        return self

    def to(self, device: Any, *, non_blocking: bool = False) -> BatchEncoding:
        """Move every torch tensor to a device, in place; columns that are no tensors stay."""
        for key, value in self.data.items():
            if hasattr(value, "to"):
                self.data[key] = value.to(device=device, non_blocking=non_blocking)
        return self
