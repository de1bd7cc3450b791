"""Text while it is being generated: a streamer gets the prompt's tokens, then one token after the other, then the end."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Queue
from typing import Any

_CJK = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2CEAF), (0x2F800, 0x2FA1F))
"""Code points of Chinese characters, which stand without spaces."""


class TextStreamer:
    """Prints one text word by word: what the next token cannot change, up to a space, a line's end or a Chinese character.

    `decode` are options of the tokenizer's `decode`, such as `skip_special_tokens=True`; `skip_prompt` leaves the prompt out.
    """

    def __init__(self, tokenizer: Any, skip_prompt: bool = False, **decode: Any) -> None:
        self.tokenizer, self.skip_prompt, self.decode = tokenizer, skip_prompt, decode
        self._ids, self._shown, self._prompt_next = list[int](), 0, True

    def put(self, value: Any) -> None:
        """Take the next tokens, an int64 tensor [n] or [1, n]; the first call brings the prompt."""
        prompt, self._prompt_next = self._prompt_next, False
        if prompt and self.skip_prompt:
            return
        self._ids += value.reshape(-1).tolist()
        text = self.tokenizer.decode(self._ids, **self.decode)
        whole = text.endswith("\n") or (text and any(low <= ord(text[-1]) <= high for low, high in _CJK))
        until = len(text) if whole else max(text.rfind(" ") + 1, self._shown)
        part, self._shown = text[self._shown : until], until
        if text.endswith("\n"):  # nothing before a line's end can change any more
            self._ids, self._shown = [], 0
        self.on_finalized_text(part)

    def end(self) -> None:
        """Show what is left."""
        rest = self.tokenizer.decode(self._ids, **self.decode)[self._shown :] if self._ids else ""
        self._ids, self._shown, self._prompt_next = [], 0, True
        self.on_finalized_text(rest, stream_end=True)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Show a piece of text; override it to show it elsewhere."""
        print(text, flush=True, end="\n" if stream_end else "")


class TextIteratorStreamer(TextStreamer):
    """An iterator over the pieces of text, for another thread; `timeout`: seconds until `queue.Empty` is raised, None: never."""

    def __init__(self, tokenizer: Any, skip_prompt: bool = False, timeout: float | None = None, **decode: Any) -> None:
        super().__init__(tokenizer, skip_prompt, **decode)
        self.timeout = timeout
        self._pieces: Queue[str | None] = Queue()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Put the piece where the iterator finds it."""
        self._pieces.put(text)
        if stream_end:
            self._pieces.put(None)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if (piece := self._pieces.get(timeout=self.timeout)) is None:
            raise StopIteration
        return piece
