"""The same cells for today's libraries: `translate` turns imports from unpad into imports from the modules that the documents name."""

from __future__ import annotations

import ast

MODULES = {
    "evaluate": "",
    "Accelerator": "accelerate",
    "notebook_launcher": "accelerate",
    "skip_first_batches": "accelerate",
    "Dataset": "datasets",
    "DatasetDict": "datasets",
    "concatenate_datasets": "datasets",
    "load_dataset": "datasets",
    "load_metric": "datasets",
    "Repository": "huggingface_hub",
    "create_repo": "huggingface_hub",
    "get_full_repo_name": "huggingface_hub",
    "login": "huggingface_hub",
    "logout": "huggingface_hub",
    "notebook_login": "huggingface_hub",
    "whoami": "huggingface_hub",
}
"""Name that a cell takes from unpad -> module that the documents take it from; "": it is a module itself.

All other names are from transformers.
"""
OTHERS = "transformers"


def translate(code: str) -> str:
    """Code with its imports from unpad translated, line for line; ValueError where another library has no counterpart."""
    lines = code.splitlines()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import) and any(name.name.split(".")[0] == "unpad" for name in node.names):
            raise ValueError(f"{ast.unparse(node)}: only `from unpad import ...` can be translated")
        if not isinstance(node, ast.ImportFrom) or (node.module or "").split(".")[0] != "unpad":
            continue
        if node.module != "unpad":
            raise ValueError(f"{ast.unparse(node)}: only `from unpad import ...` can be translated")
        first, last = node.lineno - 1, node.end_lineno or node.lineno
        lines[first:last] = [" " * node.col_offset + _imports(node.names)] + [""] * (last - first - 1)
    return "\n".join(lines) + "\n"


def _imports(names: list[ast.alias]) -> str:
    """The names imported from where they are, in one line."""
    modules: dict[str, list[str]] = {}
    for name in names:
        modules.setdefault(MODULES.get(name.name, OTHERS), []).append(ast.unparse(name))
    return "; ".join(
        f"{f'from {module} ' if module else ''}import {', '.join(found)}" for module, found in modules.items()
    )
