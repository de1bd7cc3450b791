"""Answers of the models that a Hub holds: `POST /models/<id>`, as clients of the field's inference API ask.

One answer is computed at a time, and the models used last stay in memory: it is for trying models out, not for load.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unpad.errors import UnpadError
from unpad.serve.refusals import Refused
from unpad.serve.store import Repo, Store
from unpad.tasks import TASKS

OpenPipeline = Callable[..., Any]
"""`pipeline(model=folder, task=...)`; passed in, because pipelines stand on the floor of the server."""

LONGEST_INPUT = 100_000
"""Characters of one request."""
_FILES = (".json", ".txt", ".model", ".spm", ".safetensors")
_OPTIONS = {
    "aggregation_strategy", "candidate_labels", "do_sample", "function_to_apply", "handle_impossible_answer", "hypothesis_template",
    "max_answer_len", "max_length", "max_new_tokens", "min_length", "multi_label", "num_beams", "num_return_sequences",
    "repetition_penalty", "return_full_text", "seed", "src_lang", "stop", "targets", "temperature", "tgt_lang", "top_k", "top_p",
}  # fmt: skip
_MOST_TOKENS, _MOST_BEAMS = 512, 8


class Inference:
    """The models of a Hub as pipelines."""

    def __init__(self, store: Store, open_pipeline: OpenPipeline, most: int = 2) -> None:
        self._store, self._open, self._most = store, open_pipeline, most
        self._lock = threading.Lock()
        self._loaded: OrderedDict[tuple[int, str, str | None], tuple[Any, tempfile.TemporaryDirectory[str]]] = (
            OrderedDict()
        )

    def answer(self, repo: Repo, oid: str, asked: Mapping[str, Any], task: object) -> Any:
        """The model's answer to `{"inputs": ..., "parameters": {...}}`, as its pipeline gives it; `task` is what its card says.

        Refused with 400 for what the pipeline refuses, with its line, and 413 for inputs that are too long.
        """
        inputs = asked.get("inputs")
        options = {k: v for k, v in (asked.get("parameters") or {}).items() if v is not None}
        if unknown := set(options) - _OPTIONS:
            raise Refused(
                400, f"parameters {sorted(unknown)} are not taken here; there are: {', '.join(sorted(_OPTIONS))}"
            )
        if _size(inputs) > LONGEST_INPUT:
            raise Refused(413, f"inputs have more than {LONGEST_INPUT} characters; send fewer or shorter texts")
        for name, most in (("max_new_tokens", _MOST_TOKENS), ("max_length", _MOST_TOKENS), ("num_beams", _MOST_BEAMS),
                           ("num_return_sequences", _MOST_BEAMS)):  # fmt: skip
            if isinstance(options.get(name), int) and options[name] > most:
                raise Refused(400, f"{name}={options[name]} is more than this server computes; give at most {most}")
        with self._lock:
            try:
                found = self._pipeline(repo, oid, task if task in TASKS else None)
                if found.task == "text-classification":
                    # clients of the API expect the scores of all labels, in a list of one for the one text
                    options.setdefault("top_k", None)
                    answers = found([inputs] if isinstance(inputs, str) else inputs, **options)
                    return answers
                if isinstance(inputs, Mapping):
                    return (
                        found(**inputs, **options)
                        if found.task == "question-answering"
                        else found(dict(inputs), **options)
                    )
                return found(inputs, **options)
            except UnpadError as error:
                raise Refused(400, " ".join(str(error).split())) from None

    def _pipeline(self, repo: Repo, oid: str, task: str | None) -> Any:
        key = (repo.id, oid, task)
        if key not in self._loaded:
            folder = tempfile.TemporaryDirectory(prefix="unpad-hub-")
            for path, entry in self._store.tree(repo, oid).items():
                if "/" not in path and path.endswith(_FILES):
                    with (
                        self._store.contents.opened(entry.sha256) as fd,
                        open(fd, "rb", closefd=False) as source,
                        open(Path(folder.name) / path, "wb") as target,
                    ):
                        shutil.copyfileobj(source, target, 1 << 20)
            self._loaded[key] = (self._open(task=task, model=folder.name), folder)
            while len(self._loaded) > self._most:
                self._loaded.popitem(last=False)[1][1].cleanup()
        self._loaded.move_to_end(key)
        return self._loaded[key][0]


def _size(inputs: Any) -> int:
    """Characters of everything in a tree of plain values."""
    if isinstance(inputs, Mapping):
        return sum(_size(value) for value in inputs.values())
    if isinstance(inputs, list):
        return sum(map(_size, inputs)) + len(inputs)
    return len(str(inputs))
