"""Which blocks of the documents the course covers, and whether they pass: `python tests/course/check.py` prints "N of N".

A block is covered when a cell of its number and kind exists that asks for the same functions, methods and keywords. Options:
`--list` shows every block; `--data` names the folder of real data (default: beside the project).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "hub")]

import blocks  # noqa: E402
import cells  # noqa: E402
from hubs import Server  # noqa: E402

FILES = sorted(HERE.glob("document_*.py"))
DATA = HERE.parents[2] / "shared" / "data"


def number_of(file: Path) -> int:
    """The document that a course file stands for: `document_2_translation.py` is of document 2."""
    return int(file.stem.split("_")[1])


def coverage(documents: Sequence[Sequence[blocks.Block]]) -> dict[tuple[int, int], str]:
    """(document, block) -> what is wrong with its counterpart; empty for a block that is covered."""
    found: dict[tuple[int, int], str] = {}
    for document in documents:
        course = [
            (file, cell) for file in FILES if number_of(file) == document[0].document for cell in cells.read(file)
        ]
        by_number = {cell.number: cell for _, cell in course if cell.number}
        numbers = [cell.number for _, cell in course if cell.number]
        own = blocks.defined("\n".join(block.text for block in document))
        for block in document:
            found[block.document, block.number] = _wrong(block, by_number.get(block.number), own)
        if numbers != sorted(set(numbers)):
            found[document[0].document, 0] = "the cells are not in the order of the document, or one stands twice"
        if unknown := set(numbers) - {block.number for block in document}:
            found[document[0].document, 0] = f"the document has no blocks {sorted(unknown)}"
    return found


def _wrong(block: blocks.Block, cell: cells.Cell | None, own: set[str]) -> str:
    if cell is None:
        return "no counterpart"
    if cell.kind == "shell":
        return ""
    if cell.kind == "output":
        more = block.asks - blocks.PRINTED
        calls = {name for name in more if not name.endswith("=")}
        return "" if blocks.is_output(block.text) and not calls else "listed as output, but it does something"
    missing = block.asks - blocks.asks(cell.code) - blocks.PRINTED - own - {"print"}
    return f"does not ask for {sorted(missing)}" if missing else ""


def run(file: Path, hub: Path, *options: str, python: str = sys.executable, **env: str) -> list[dict[str, Any]]:
    """Run a course file against a server on a copy of the Hub's folder, in a process and a folder of its own; `env` adds variables."""
    with tempfile.TemporaryDirectory() as home:
        shutil.copytree(hub, Path(home) / "hub")
        server = Server(Path(home) / "hub")
        (Path(home) / "work").mkdir()
        _sentence_rules(Path(home) / "nltk")
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        kept |= {
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(Path(home) / "cache"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_XET": "1",
            "NLTK_DATA": str(Path(home) / "nltk"),
            "PYTHONPATH": str(HERE.parents[1] / "src"),
            **env,
        }
        words = [python, str(HERE / "cells.py"), str(file), *options]
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, env=kept, cwd=Path(home) / "work", timeout=1800
            )
        finally:
            server.kill()
        results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"number"')]
        expected = len(cells.read(file))
        if len(results) != expected:
            results.append({"number": 0, "kind": "code", "passed": False, "error": done.stderr[-3000:], "seconds": 0})
        return results


def _sentence_rules(folder: Path) -> None:
    """What `nltk.download("punkt")` would fetch, without what it has learned: sentences end where English ones do."""
    rules = folder / "tokenizers" / "punkt_tab" / "english"
    rules.mkdir(parents=True)
    for name in ("abbrev_types.txt", "collocations.tab", "sent_starters.txt", "ortho_context.tab"):
        (rules / name).touch()


def report(
    documents: Sequence[Sequence[blocks.Block]], results: Mapping[tuple[int, int], Mapping[str, Any]]
) -> Iterable[str]:
    """Lines that say what is covered and what passes; the last is "N of N"."""
    wrong = coverage(documents)
    kinds: dict[str, int] = {}
    good = total = 0
    for document in documents:
        for block in document:
            key = block.document, block.number
            result = results.get(key)
            total += 1
            problem = wrong[key] or ("did not run" if result is None else result["error"])
            good += not problem
            kind = result["kind"] if result else "?"
            kinds[kind] = kinds.get(kind, 0) + 1
            yield f"document {block.document} block {block.number:2} {kind:6} {problem or 'passed'}"
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    yield f"{good} of {total} blocks covered and passing ({listed})"


def main() -> int:
    """Print the report; 0 when every block is covered and passes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    from standins import build

    results = {}
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder) / "hub", options.data)
        for file in FILES:
            for result in run(file, Path(folder) / "hub"):
                if result["number"] or not result["passed"]:
                    results[number_of(file), result["number"]] = result
    lines = list(report(blocks.documents(), results))
    print("\n".join(line for line in lines[:-1] if options.list or not line.endswith("passed")))
    print(lines[-1])
    return int(lines[-1].split()[0] != lines[-1].split()[2])


if __name__ == "__main__":
    sys.exit(main())
