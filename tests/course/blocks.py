"""The code blocks of the documents that specify the project, and what a block asks of a library.

The documents are not part of the project; where they lie beside it, `documents` finds them. A block is known by its document and
number: fenced blocks and notebook cells, counted from 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "seeds"
_FENCE = re.compile(r"```[ ]*(\w*)[ ]*\n(.*?)```", re.DOTALL)
_CELL = re.compile(r"^In \[\w+\]:\n(.*?)(?=^In \[|^\* |^##|\Z)", re.DOTALL | re.MULTILINE)
_CALL = re.compile(r"([A-Za-z_]\w*)\(")
_KEYWORD = re.compile(r"[(,]\s*([A-Za-z_]\w*)=(?!=)")
_DEFINED = re.compile(r"^\s*(?:def|class)\s+(\w+)|^\s*(\w+)\s*=(?!=)", re.MULTILINE)
_TEXT = re.compile(r"('''|\"\"\").*?\1|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"|#[^\n]*", re.DOTALL)
PRINTED = {
    "Dataset", "DatasetDict", "Value", "ClassLabel", "Sequence", "tensor", "Size", "dict_keys", "AggregateScore", "Score",
    "TrainOutput", "low=", "mid=", "high=", "precision=", "recall=", "fmeasure=",
    "dtype=", "feature=", "num_classes=", "names=", "names_file=", "id=", "length=",
}  # fmt: skip
"""Names that the documents show in what a block prints."""


@dataclass(frozen=True)
class Block:
    """A block of a document."""

    document: int
    number: int
    language: str
    text: str

    @property
    def asks(self) -> set[str]:
        """Names of functions and methods that it calls, and of keywords that it gives (`name=`)."""
        return asks(self.text)


def asks(text: str) -> set[str]:
    """What code asks of a library, found without a parser: blocks also hold output, and have lost indentation."""
    bare = _TEXT.sub("''", text)
    calls = {m[1] for m in _CALL.finditer(bare)}
    return calls | {m[1] + "=" for m in _KEYWORD.finditer(bare)}


def defined(text: str) -> set[str]:
    """Names that code defines itself."""
    return {m[1] or m[2] for m in _DEFINED.finditer(text)}


def is_output(text: str) -> bool:
    """Whether a block holds nothing that is done: no assignment, import, definition, `print`."""
    bare = _TEXT.sub("''", text)
    return not re.search(r"^\s*(?:[\w\[\]\"'., ]+=(?!=)|import |from |def |class |for |print\()", bare, re.MULTILINE)


def documents(folder: Path = FOLDER) -> list[list[Block]]:
    """The blocks of each document, in its order; an empty list where the documents are not here."""
    found = []
    for number, path in enumerate(sorted(folder.glob("*.txt"))):
        text = path.read_text(encoding="utf-8")
        fenced = [(m[1], m[2]) for m in _FENCE.finditer(text)]
        blocks = fenced or [("python", m[1]) for m in _CELL.finditer(text)]
        found.append([Block(number, i, language, body) for i, (language, body) in enumerate(blocks, 1)])
    return found
