"""The house stands on floors: imports point down only, lazy ones inside functions and names in tables included."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import unpad

SRC = Path(__file__).resolve().parents[2] / "src" / "unpad"

FLOORS: dict[str, int] = {
    "compat": 0, "config": 0, "errors": 0, "batch": 0, "notices": 0, "hub": 0,
    "text": 1, "data": 1,
    "core": 2,
    "families": 3, "metrics": 3,
    "tasks": 4, "evaluate": 4,
    "checkpoint": 5, "generate": 5,
    "models": 6, "engine": 6,
    "train": 7,
    "pipelines": 8, "serve": 8,
    "cli": 9,
}  # fmt: skip
"""File or folder below src/unpad -> its floor. What is not in this table has no place in the house."""

_MODULE_NAME = re.compile(r"unpad(?:\.\w+)+(?::\w+)?")


def imports(file: Path, root: Path) -> Iterator[tuple[int, str]]:
    """(line, module of the package) for every import in `file`, wherever it stands, and for module names in strings."""
    package = ["unpad", *file.relative_to(root).parts[:-1]]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, node.module] if node.module else start)
            for alias in node.names:
                public = unpad.PUBLIC.get(alias.name) if base == "unpad" else None
                yield node.lineno, public or (f"{base}.{alias.name}" if base == "unpad" else base)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _MODULE_NAME.fullmatch(node.value):
            yield node.lineno, node.value.split(":")[0]


def wrong_edges(root: Path) -> list[str]:
    """Every import below `root` that does not point down, as `file:line: what`."""
    found = []
    for file in sorted(root.rglob("*.py")):
        place = file.relative_to(root).as_posix()
        here = place.split("/")[0].removesuffix(".py")
        if place == "__init__.py":  # the table of public names points everywhere, and nothing else is imported there
            continue
        for line, module in imports(file, root):
            parts = module.split(".")
            if parts[0] != "unpad" or module in ("unpad", "unpad.__version__"):
                continue
            there = parts[1]
            if here not in FLOORS or there not in FLOORS:
                found.append(f"{place}:{line}: {here if here not in FLOORS else there} has no floor")
                continue
            same_folder = here == there or (FLOORS[here] == FLOORS[there] == 0)  # floor 0 is one folder
            if not same_folder and FLOORS[there] >= FLOORS[here]:
                way = "up" if FLOORS[there] > FLOORS[here] else "sideways"
                found.append(
                    f"{place}:{line}: {here} ({FLOORS[here]}) imports {way} from {there} ({FLOORS[there]}): {module}"
                )
    return found


def test_imports_point_down_only() -> None:
    assert not (wrong := wrong_edges(SRC)), "\n".join(wrong)


def test_every_file_and_folder_has_a_floor_and_every_floor_exists() -> None:
    there = {
        p.name.removesuffix(".py") for p in SRC.iterdir() if p.suffix == ".py" or (p.is_dir() and list(p.glob("*.py")))
    }
    assert there - {"__init__"} == set(FLOORS)


@pytest.mark.parametrize(
    ("file", "code", "said"),
    [
        ("core/a.py", "def f():\n    from unpad.train.trainer import Trainer\n", "core/a.py:2: core (2) imports up from train (7)"),
        ("text/a.py", "import unpad.data.load\n", "text/a.py:1: text (1) imports sideways from data (1)"),
        ("engine/a.py", "from ..models import auto\n", "engine/a.py:1: engine (6) imports sideways from models (6)"),
        ("errors.py", "from unpad import Trainer\n", "errors.py:1: errors (0) imports up from train (7)"),
        ("data/a.py", "TABLE = {\n 'x': 'unpad.metrics.glue:glue'}\n", "data/a.py:2: data (1) imports up from metrics (3)"),
        ("misc.py", "import unpad.errors\n", "misc.py:1: misc has no floor"),
        ("cli/a.py", "from unpad import __version__\nfrom unpad.train import state\nfrom . import b\nimport torch\n", None),
        ("config.py", "from unpad.errors import ArgumentError\n", None),
    ],
)  # fmt: skip
def test_an_edge_that_does_not_point_down_is_named_with_its_line(
    tmp_path: Path, file: str, code: str, said: str | None
) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(code)
    found = wrong_edges(tmp_path)
    assert found == [] if said is None else [line for line in found if line.startswith(said)]
