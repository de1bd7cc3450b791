"""How many blocks of the documents in tests/course pass here, and how many with the libraries they were written for, as these are today.

    python benchmarks/course_peers.py --python PEERS/bin/python              all documents (about ten minutes)
    python benchmarks/course_peers.py --python PEERS/bin/python document_1   one of them

PEERS is an environment with the other libraries (default: the environment that runs this); the command says what it lacks and how to make
one. Both sides run the same cells on stand-ins from the same local Hub, each document in a process of its own; there, only import lines
are translated (tests/course/peers.py). What those libraries would fetch as code, the metrics of `evaluate`, the local Hub does not have;
`--modules FOLDER` is a folder of such code that was fetched before:

    HF_MODULES_CACHE=FOLDER PEERS/bin/python -c "import evaluate; evaluate.load('glue', 'mrpc')"

A block that fails for want of what an earlier block was to give counts as failed, and the list says so.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "course")]

import cells  # noqa: E402
import check  # noqa: E402
import standins  # noqa: E402

from unpad.serve.names import SHARED  # noqa: E402
from unpad.serve.store import Change, Store  # noqa: E402

LIBRARIES = ("transformers", "datasets", "evaluate", "accelerate", "huggingface_hub")
BESIDE = ("torch", "pandas", "scikit-learn", "scipy", "seqeval", "sacrebleu", "rouge_score", "nltk", "sentencepiece")
"""What they need for the blocks, beside what pip installs with them."""
DEFAULT = ("distilbert/distilbert-base-uncased-finetuned-sst-2-english", "714eb0f")
"""Model and revision that transformers takes where a block names none."""
_UNREACHED = "not reached"


def versions(python: str) -> dict[str, str | None]:
    """Distribution -> its version in that environment; None when it is not there."""
    script = (
        "import importlib.metadata as m, json, sys\n"
        "def version(name):\n"
        "    try: return m.version(name)\n"
        "    except m.PackageNotFoundError: return None\n"
        "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    )
    done = subprocess.run([python, "-c", script, *LIBRARIES, *BESIDE], capture_output=True, text=True, check=True)
    found: dict[str, str | None] = json.loads(done.stdout)
    return found


def put_default(hub: Path) -> None:
    """The classifier of `pipeline("sentiment-analysis")` also under the name and revision by which transformers asks for it."""
    store = Store(hub)
    ours = store.repo("model", f"{SHARED}/{DEFAULT[0].rpartition('/')[2]}")
    tree = store.tree(ours, store.resolve(ours, "main"))
    theirs = store.create("model", DEFAULT[0], False, "course")
    changes = [Change("add", path, entry) for path, entry in tree.items()]
    oid = store.commit(theirs, "main", changes, "stand-in", "", "course", None)
    store.add_ref(theirs, "branch", DEFAULT[1], oid)


def given(code: str) -> set[str]:
    """Names that code gives to what follows."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).split(".")[0])
    return names


def used(cell: cells.Cell) -> set[str]:
    """Names that a cell needs from earlier ones."""

    def read(code: str) -> set[str]:
        return {n.id for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}

    own = given(cell.code) | ({"_", "printed"} if cell.code.strip() else set())
    return read(cell.code) | (read(cell.check) - own)


def failures(course: Sequence[cells.Cell], results: Sequence[dict[str, Any]]) -> Iterator[tuple[cells.Cell, str, bool]]:
    """(Cell, reason, whether it only follows from an earlier failure) for each cell that failed or was not reached.

    It follows when a name is missing that a failed cell was to give, or when it uses a name which still has an older value because the
    cell that was to give the new one failed.
    """
    lost: dict[str, str] = {}
    bound = {"_", "printed"}
    last = ""
    errors = [" ".join(result["error"].split()) for result in results]
    for cell, error in zip(course, [*errors, *[_UNREACHED] * (len(course) - len(errors))], strict=True):
        own = f"block {cell.number}" if cell.number else f"the cell in line {cell.line}"
        gives = given(cell.code) | ({"_", "printed"} if cell.code.strip() else set())
        if not error:
            lost = {name: where for name, where in lost.items() if name not in gives}
            bound |= gives
            continue
        missing = error.split("'")[1] if error.startswith("NameError: name '") else ""
        old = sorted(used(cell) & lost.keys() & bound)
        if error == _UNREACHED:
            yield cell, f"not reached: the process ended in or after {last}", True
        elif missing in lost:
            yield cell, f"needs {missing} of {lost[missing]}", True
        elif old and not missing and not error.startswith("ImportError") and "unexpected keyword" not in error:
            yield cell, f"needs {old[0]} of {lost[old[0]]} ({error})", True
        else:
            yield cell, error, False
        lost |= dict.fromkeys(gives, own)
        last = own


def main() -> int:
    """Run both sides and print what passes; 2 when the other libraries are not there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", nargs="*", help="names of course files, such as document_1 (default: all)")
    parser.add_argument(
        "--python", default=sys.executable, help="interpreter of the environment with the other libraries"
    )
    parser.add_argument(
        "--modules", type=Path, help="folder of code that the other libraries fetched (HF_MODULES_CACHE)"
    )
    parser.add_argument("--data", type=Path, default=check.DATA, help="folder of real data")
    options = parser.parse_args()
    found = versions(options.python)
    if missing := [name for name, version in found.items() if version is None]:
        print(f"{options.python} has no {', '.join(missing)}. An environment with all of it:")
        print("    python -m venv peers")
        print(f"    peers/bin/pip install {' '.join(found)}")
        print("    python benchmarks/course_peers.py --python peers/bin/python")
        return 2
    files = [file for file in check.FILES if not options.documents or file.stem in options.documents]
    env = {"HF_TOKEN": "hf_course"}  # as one who has signed in; an open Hub asks for none
    if options.modules:
        env["HF_MODULES_CACHE"] = str(options.modules.resolve())
    total, good, follow, lines = 0, {"here": 0, "there": 0}, 0, []
    with tempfile.TemporaryDirectory() as folder:
        hub = Path(folder) / "hub"
        standins.build(hub, options.data)
        put_default(hub)
        for file in files:
            course = cells.read(file)
            total += sum(cell.number > 0 for cell in course)
            runs = {
                "here": check.run(file, hub),
                "there": check.run(file, hub, "--peers", python=options.python, **env),
            }
            for side, results in runs.items():
                good[side] += sum(result["passed"] and result["number"] > 0 for result in results)
                for cell, reason, follows in failures(course, results[: len(course)]):
                    name = f"block {cell.number}" if cell.number else f"line {cell.line} ({cell.kind})"
                    lines.append(f"fails {side}: {file.stem} {name}: {reason:.200}")
                    follow += follows and side == "there" and cell.number > 0
    print("\n".join(lines))
    print(", ".join(f"{name} {found[name]}" for name in LIBRARIES))
    print(f"{good['here']} of {total} blocks pass here, {good['there']} of {total} there", end="")
    print(f" ({follow} of those that fail there only follow from an earlier failure)")
    return int(good["here"] != total)


if __name__ == "__main__":
    sys.exit(main())
