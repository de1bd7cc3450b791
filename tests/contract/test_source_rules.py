"""Rules for every source file: it says what it is for, stays readable in one sitting, and needs no peer and no pickle."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src" / "unpad"
FILES = sorted(SRC.rglob("*.py"))
FORBIDDEN = {"transformers", "accelerate", "evaluate", "pickle", "cloudpickle", "dill", "nltk"}
"""Peers are oracles of the tests, never the engine; pickles run code."""
LONGEST = 600
HOMELESS = {"utils", "util", "helpers", "common", "misc"}


def modules(tree: ast.AST) -> list[tuple[int, str]]:
    """(line, module) of every import in `tree`, also by `import_module("...")` and `__import__("...")`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.append((node.lineno, node.module or ""))
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                found.append((node.lineno, node.args[0].value))
    return found


def forbidden(tree: ast.AST) -> list[tuple[int, str]]:
    return [(line, name) for line, name in modules(tree) if name.split(".")[0] in FORBIDDEN]


def unsafe_loads(tree: ast.AST) -> list[int]:
    """Lines of `torch.load(...)` without `weights_only=True`."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            safe = any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
            lines += [] if safe else [node.lineno]
    return lines


def test_no_file_imports_a_peer_or_a_pickle() -> None:
    found = [
        f"{f.relative_to(SRC)}:{line}: {name}"
        for f in FILES
        for line, name in forbidden(ast.parse(f.read_text("utf-8")))
    ]
    assert not found, "\n".join(found)


def test_a_pickle_of_weights_is_only_read_as_plain_tensors() -> None:
    found = [f"{f.relative_to(SRC)}:{line}" for f in FILES for line in unsafe_loads(ast.parse(f.read_text("utf-8")))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("def f():\n    import transformers.models\n", 1),
        ("from evaluate import load\nimport pickle\n", 2),
        ("import importlib\nimportlib.import_module('accelerate')\n", 1),
        ("from unpad.train.evaluate import evaluate\nname = 'transformers'\n", 0),
    ],
)
def test_the_check_sees_imports_and_nothing_else(code: str, count: int) -> None:
    assert len(forbidden(ast.parse(code))) == count


def test_the_check_sees_a_load_that_would_run_code() -> None:
    assert unsafe_loads(
        ast.parse("torch.load(p)\ntorch.load(p, weights_only=False)\ntorch.load(p, weights_only=True)")
    ) == [1, 2]


def test_no_file_is_longer_than_one_sitting() -> None:
    sizes = {f.relative_to(SRC).as_posix(): len(f.read_text("utf-8").splitlines()) for f in FILES}
    assert not {name: size for name, size in sizes.items() if size > LONGEST}


def test_every_file_opens_with_what_it_is_for() -> None:
    silent = [f.relative_to(SRC).as_posix() for f in FILES if not ast.get_docstring(ast.parse(f.read_text("utf-8")))]
    assert not silent


def test_no_file_is_a_drawer_for_everything() -> None:
    assert not [f for f in FILES if f.stem.strip("_") in HOMELESS]
