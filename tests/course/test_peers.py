"""The cells of the course for other libraries: only imports change, line for line."""

from __future__ import annotations

import ast

import cells
import check
import peers
import pytest


def test_names_are_imported_from_where_the_documents_have_them() -> None:
    code = "import torch\nfrom unpad import (\n    AdamW,\n    evaluate,\n    load_dataset as load,\n)\n\nload(1)\n"
    moved = "from transformers import AdamW; import evaluate; from datasets import load_dataset as load"
    assert peers.translate(code).splitlines() == ["import torch", moved, "", "", "", "", "", "load(1)"]


@pytest.mark.parametrize("line", ["import unpad", "import unpad.data as data", "from unpad.metrics import rouge"])
def test_an_import_without_a_counterpart_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="can be translated"):
        peers.translate(line)


@pytest.mark.parametrize("file", check.FILES, ids=lambda file: file.stem)
def test_no_cell_of_the_course_asks_for_unpad_after_translation(file: check.Path) -> None:
    for cell in cells.read(file):
        before, after = ast.parse(cell.code), ast.parse(peers.translate(cell.code))
        kept = [
            [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call | ast.keyword)]
            for tree in (before, after)
        ]
        assert kept[0] == kept[1]
        named = [node.module for node in ast.walk(after) if isinstance(node, ast.ImportFrom)]
        assert not any((name or "").startswith("unpad") for name in named), f"line {cell.line}"
