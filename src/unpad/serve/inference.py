"""Answers of the models that a Hub holds: `POST /models/<id>`, as clients of the field's inference API ask.

One answer is computed at a time, and the models used last stay in memory: it is for trying models out, not for load.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from unpad.errors import UnpadError
from unpad.generate.settings import GenerationConfig
from unpad.serve.refusals import Refused
from unpad.serve.store import Repo, Store

OpenPipeline = Callable[..., Any]
"""`pipeline(model=folder, task=...)`; passed in, because pipelines stand on the floor of the server."""

LONGEST_INPUT = 100_000
"""Characters of one request."""
MOST_VALUES = 200
"""Texts, labels and other values of one request."""
MOST_WAITING = 16
"""Requests that wait for their turn; those after them are told to try again."""
_FILES = (".json", ".txt", ".model", ".spm", ".safetensors")
_OPTIONS = {
    "aggregation_strategy", "candidate_labels", "clean_up_tokenization_spaces", "do_sample", "doc_stride", "function_to_apply",
    "handle_impossible_answer", "hypothesis_template", "ignore_labels", "max_answer_len", "max_length", "max_new_tokens",
    "max_question_len", "max_seq_len", "min_length", "multi_label", "num_beams", "num_return_sequences", "repetition_penalty",
    "return_full_text", "seed", "src_lang", "stop", "stride", "targets", "temperature", "tgt_lang", "top_k", "top_p", "truncation",
}  # fmt: skip
_MOST = {"max_new_tokens": 512, "max_length": 512, "num_beams": 8, "num_return_sequences": 8}
_BESIDE = {"inputs", "parameters", "options"}  # `options` are about caches and queues of other servers


class Inference:
    """The models of a Hub as pipelines."""

    def __init__(self, store: Store, open_pipeline: OpenPipeline, most: int = 2) -> None:
        self._store, self._open, self._most = store, open_pipeline, most
        self._turn, self._asking = asyncio.Lock(), 0
        self._loaded: OrderedDict[int, tuple[str, Any]] = OrderedDict()  # repository -> commit, pipeline

    async def answer(self, repo: Repo, oid: str, asked: Mapping[str, Any], task: str | None) -> Response:
        """The model's answer to `{"inputs": ..., "parameters": {...}}`, as its pipeline gives it or, where that
        differs, as clients of the API read it; `task` is the one that its card names.

        Refused with 400 for what the pipeline refuses, with its line, 413 for inputs that are too long, and 503 while too many wait.
        """
        inputs, options = _question(asked)
        if self._asking > MOST_WAITING:
            raise Refused(503, f"{MOST_WAITING} requests wait for an answer already; try again later")
        self._asking += 1
        try:
            async with self._turn:  # those who wait hold no thread, which all other requests need
                return await run_in_threadpool(self._compute, repo, oid, inputs, options, task)
        finally:
            self._asking -= 1

    def _compute(self, repo: Repo, oid: str, inputs: Any, options: dict[str, Any], task: str | None) -> Response:
        try:
            found = self._pipeline(repo, oid, task)
            if found.task == "text-classification":
                # clients of the API expect the scores of all labels, in a list of one for the one text
                options.setdefault("top_k", None)
                inputs = [inputs] if isinstance(inputs, str) else inputs
            answer = found(inputs, **options)
            if found.task == "zero-shot-classification" and isinstance(answer, dict):
                # they expect labels and scores in pairs
                pairs = zip(answer["labels"], answer["scores"], strict=True)
                answer = [{"label": label, "score": score} for label, score in pairs]
        except UnpadError as error:
            raise Refused(400, str(error)) from None
        try:
            return JSONResponse(answer)
        except ValueError:
            raise Refused(400, f"{repo.name} answers with numbers that are not finite; train it again") from None

    def _pipeline(self, repo: Repo, oid: str, task: str | None) -> Any:
        """The pipeline of a commit, which takes the place of that of another commit; nothing stays on the disk."""
        if self._loaded.get(repo.id, ("",))[0] != oid:
            self._loaded.pop(repo.id, None)
            while len(self._loaded) >= self._most:
                self._loaded.popitem(last=False)
            with tempfile.TemporaryDirectory(prefix="unpad-hub-") as folder:
                for path, entry in self._store.tree(repo, oid).items():
                    if "/" not in path and path.endswith(_FILES):
                        with (
                            self._store.contents.opened(entry.sha256) as fd,
                            open(fd, "rb", closefd=False) as source,
                            open(Path(folder) / path, "wb") as target,
                        ):
                            shutil.copyfileobj(source, target, 1 << 20)
                try:
                    found = self._open(task=task, model=folder)
                except UnpadError as error:
                    raise Refused(400, str(error).replace(folder, repo.name)) from None
                except (RuntimeError, MemoryError) as error:  # sizes and depths that fit no memory
                    raise Refused(400, f"{repo.name} cannot be opened here ({error})".replace(folder, "")) from None
            _check(repo, found)
            self._loaded[repo.id] = oid, found
        self._loaded.move_to_end(repo.id)
        return self._loaded[repo.id][1]


def _question(asked: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Inputs and options of a request. Refused with 400 for what is not taken here, with 413 for what is too much."""
    options = _object(asked, "parameters")
    options |= _object(options, "generate_parameters")  # as clients send them for translations and summaries
    # some clients put parameters beside the inputs
    options |= {name: value for name, value in asked.items() if name not in _BESIDE and value not in (None, False)}
    options = {k: v for k, v in options.items() if v is not None and k != "generate_parameters"}
    if unknown := set(options) - _OPTIONS:
        raise Refused(400, f"parameters {sorted(unknown)} are not taken here; there are: {', '.join(sorted(_OPTIONS))}")
    letters = count = 0
    left = [asked.get("inputs"), options]
    while left:
        value = left.pop()
        if isinstance(value, (Mapping, list)):
            left.extend(value.values() if isinstance(value, Mapping) else value)
        else:
            letters, count = letters + len(str(value)), count + 1
            if isinstance(value, str) and not value.isascii() and value != value.encode(errors="replace").decode():
                raise Refused(400, "the texts are not valid Unicode")
    if letters > LONGEST_INPUT or count > MOST_VALUES:
        raise Refused(
            413, f"a request has at most {LONGEST_INPUT} characters in {MOST_VALUES} texts; send fewer or shorter ones"
        )
    for name, most in _MOST.items():
        if isinstance(options.get(name), (int, float)) and options[name] > most:
            raise Refused(400, f"{name}={options[name]} is more than this server computes; give at most {most}")
    if "stop" in options:
        options["stop_strings"] = options.pop("stop")
    return asked.get("inputs"), options


def _check(repo: Repo, found: Any) -> None:
    """Hold what the files of a model ask for to what a request may ask for. Refused with 400 for too many beams or texts."""
    settings = found.model.generation_config
    if settings is None:
        return
    for own in (settings, GenerationConfig.from_model_config(found.model.config, found.task)):
        for name in ("num_beams", "num_return_sequences"):
            value = getattr(own, name)
            if isinstance(value, int) and value > _MOST[name]:
                raise Refused(400, f"{repo.name} asks for {name}={value}; this server computes at most {_MOST[name]}")
    for name in ("max_new_tokens", "max_length"):
        value = getattr(settings, name)
        if isinstance(value, int) and value > _MOST[name]:
            setattr(settings, name, _MOST[name])


def _object(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = values.get(name)
    if value is not None and not isinstance(value, dict):
        raise Refused(400, f"{name} must be a JSON object, not {type(value).__name__}")
    return dict(value or {})
