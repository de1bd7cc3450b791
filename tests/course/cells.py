"""Course files and how they run: cell after cell in one namespace, as in a notebook.

A course file stands for one document. Its cells begin with a line `# %% 7 code` (block 7 of the document), or with

    # %% 8 output       what block 8 shows was printed by the block before it: the cell holds checks alone
    # %% 9 shell        block 9 is for a shell; the cell does the same, or says why there is nothing to do
    # %% given          names that the document takes as given
    # %% shorter        rows that were counted are cut, so that the course takes a minute instead of a day

In a code cell, what stands below a line `# check` is ours: assertions on what the block gave. There `_` is the value of the block's
last expression and `printed` what it printed. Run as a script, it writes one JSON line per cell:

    HF_ENDPOINT=http://127.0.0.1:8090 python tests/course/cells.py tests/course/document_1.py
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MARK = re.compile(
    r"^# %% (?:(?P<number>\d+) (?P<kind>code|output|shell)|(?P<other>given|shorter))[^\n]*\n", re.MULTILINE
)
_CHECK = re.compile(r"^# check\n", re.MULTILINE)


@dataclass(frozen=True)
class Cell:
    """A cell of a course file; `number` is that of the document's block, or 0."""

    number: int
    kind: str
    code: str
    check: str
    line: int


def read(path: Path) -> list[Cell]:
    """The cells of a course file."""
    text = path.read_text(encoding="utf-8")
    marks = list(_MARK.finditer(text))
    cells = []
    for mark, following in zip(marks, [*marks[1:], None], strict=False):
        body = text[mark.end() : following.start() if following else len(text)]
        split = _CHECK.search(body)
        code, check = (body[: split.start()], body[split.end() :]) if split else (body, "")
        kind = mark["kind"] or mark["other"]
        if kind == "output":
            code, check = "", code + check
        cells.append(Cell(int(mark["number"] or 0), kind, code, check, text.count("\n", 0, mark.end()) + 1))
    return cells


def run(path: Path, imports: Any = None) -> Iterator[dict[str, Any]]:
    """Run a course file; yields for each cell its number, kind, whether it passed, the error and the seconds.

    `imports` translates the code before it runs (other libraries for the same blocks); None leaves it.
    """
    space: dict[str, Any] = {"__name__": "__course__", "_": None, "printed": ""}
    for cell in read(path):
        started, error = time.perf_counter(), ""
        try:
            if cell.code.strip():
                code = imports(cell.code) if imports else cell.code
                space["_"], space["printed"] = _like_a_notebook(
                    code, space, f"{path.name}, block {cell.number}, line {cell.line}"
                )
            if cell.check.strip():
                exec(
                    compile("\n" * (cell.line - 1) + cell.check, f"{path.name} (check of {cell.number})", "exec"), space
                )
        except BaseException as problem:
            if isinstance(problem, KeyboardInterrupt):
                raise
            last = traceback.extract_tb(problem.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            error = f"{type(problem).__name__}: {str(problem)[:600]} ({where}) {_failed(cell, problem)}"
        yield {
            "number": cell.number,
            "kind": cell.kind,
            "passed": not error,
            "error": error,
            "seconds": round(time.perf_counter() - started, 2),
        }


def _failed(cell: Cell, problem: BaseException) -> str:
    """The assertion that failed, if one did."""
    if not isinstance(problem, AssertionError):
        return ""
    for frame in traceback.extract_tb(problem.__traceback__):
        if "(check of" in frame.filename and frame.lineno:
            lines = ("\n" * (cell.line - 1) + cell.check).splitlines()
            return lines[frame.lineno - 1].strip()
    return ""


def _like_a_notebook(code: str, space: dict[str, Any], name: str) -> tuple[Any, str]:
    """Run code; the value of its last expression, and what it printed."""
    tree = ast.parse(code, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    out = io.StringIO()
    value = None
    with contextlib.redirect_stdout(out):
        exec(compile(tree, name, "exec"), space)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), name, "eval"), space)
    return value, out.getvalue()


if __name__ == "__main__":
    translate = None
    if "--peers" in sys.argv:
        sys.argv.remove("--peers")
        from peers import translate  # type: ignore[no-redef]
    for result in run(Path(sys.argv[1]), translate):
        print(json.dumps(result), flush=True)
