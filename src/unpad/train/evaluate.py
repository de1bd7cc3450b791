"""Evaluation and prediction as a stream: each sample exactly once, longest first, in batches of a token budget.

N samples, C outputs. What is kept of a batch is what the consumer asks for: logits for `predict`, or nothing but the counts of a
metric. Results carry the number of their sample, so that order and batching never show. Generated texts are judged after the loss.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from unpad.batch import IGNORED_LABEL, PackedBatch
from unpad.data.sampler import token_budget_batches
from unpad.data.terms import loss_terms, targets
from unpad.engine.accelerator import Accelerator
from unpad.engine.loader import move
from unpad.engine.memory import give_back
from unpad.engine.world import World
from unpad.errors import ArgumentError, DataError
from unpad.generate.loop import generate_rows
from unpad.generate.settings import GenerationConfig
from unpad.notices import say, say_once
from unpad.train.feed import accepted_by, len_of
from unpad.train.step import is_out_of_memory

_GIVE_BACK = 16
"""Batches after which freed memory is given back; a share of a percent of their time."""


class EvalPrediction(NamedTuple):
    """What `compute_metrics` receives."""

    predictions: Any
    label_ids: Any


class PredictionOutput(NamedTuple):
    """What `Trainer.predict` returns: logits in the order of the data set, labels or None, metrics.

    Logits [N, C] with labels [N]; per token [N, S, C] with labels [N, S], both -100 beyond the tokens of a row; for question answering
    tuples of starts and ends, [N, S] and [N]; for multiple choice [N, choices]; None for answers over the vocabulary. Generated texts:
    ids [N, S] behind the decoder's start token, filled up with the pad token, and labels [N, S'] filled up with -100.
    """

    predictions: Any
    label_ids: Any
    metrics: dict[str, float]


@dataclass(frozen=True)
class Answers:
    """A model's answers for one batch: the samples' numbers, logits [B, ...] on the device (None: over the vocabulary, which are
    not kept), labels, loss sum and count."""

    rows: np.ndarray
    logits: Tensor | None
    labels: Tensor | None
    loss_sum: Tensor | None
    count: int | Tensor
    spans: bool = False
    """Logits and labels hold starts and ends side by side, in their last dimension."""


def answer_packed(
    model: Any, pack: Callable[[np.ndarray], PackedBatch], lengths: np.ndarray, max_tokens: int, engine: Accelerator
) -> Iterator[list[Answers]]:  # fmt: skip
    """Answers of a native model, in batches of at most `max_tokens` tokens of similar lengths, which `pack` makes of row numbers."""

    def answer(rows: np.ndarray) -> Answers:
        batch = pack(rows).to(engine.device)
        with engine.autocast():
            output = model(batch)
        return _of_rows(model, batch, rows, output)

    return _each_batch(token_budget_batches(lengths, max_tokens), answer, engine)


def _each_batch(
    batches: Sequence[np.ndarray], answer: Callable[[np.ndarray], Answers], engine: Accelerator
) -> Iterator[list[Answers]]:
    """The answers for this process's batches, one after another; a batch that runs out of memory is answered in parts.

    All processes go through equally many batches, as a sharded model needs it: the answers to one too many are left out.
    """
    most = max((len(rows) for rows in batches), default=1)

    def parts(rows: np.ndarray) -> Iterator[Answers]:
        nonlocal most
        waiting = [rows]
        while waiting:
            rows = waiting.pop()
            if len(rows) > most:
                waiting += [rows[len(rows) // 2 :], rows[: len(rows) // 2]]
                continue
            try:
                yield answer(rows)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or len(rows) == 1 or engine.strategy.sharded:
                    raise
                what = f"out of memory with an evaluation batch of {len(rows)} rows"
                say_once(f"{what}: it is halved, and those after it", key="halved")
                most = len(rows) // 2
                waiting.append(rows)

    world = engine.world
    for number, first in enumerate(range(0, len(batches), world.size)):
        if number % _GIVE_BACK == 0:
            give_back()
        mine = first + world.rank
        found = list(parts(batches[min(mine, len(batches) - 1)]))
        yield found if mine < len(batches) else []


def _of_rows(model: Any, batch: PackedBatch, rows: np.ndarray, output: Any) -> Answers:
    """The answers for a packed batch of `rows` as one entry per row."""
    logits, labels = output.get("logits"), batch.labels
    if model.vocabulary:
        logits, labels = None, None
    elif model.labels_of in ("token", "span"):
        logits = batch.pad(logits, fill=IGNORED_LABEL)
        if labels is not None:
            labels = batch.pad(labels, fill=IGNORED_LABEL) if model.labels_of == "token" else batch.restore(labels)
    elif model.labels_of == "row":  # these stand in the order of the batch
        rows = rows[np.asarray(batch.order)]
    return Answers(rows, logits, labels, output.loss_sum, output.loss_count, model.labels_of == "span")


def answer_collated(
    model: nn.Module, dataset: Any, collator: Callable[[list[Any]], Any], size: int, engine: Accelerator
) -> Iterator[list[Answers]]:
    """Answers of any model, in batches of `size` rows through the caller's collator."""
    keep = accepted_by(model)

    def answer(rows: np.ndarray) -> Answers:
        batch = move(collator([dataset[int(row)] for row in rows]), engine.device)
        if isinstance(batch, PackedBatch):
            with engine.autocast():
                output = model(batch)
            return _of_rows(model, batch, rows, output)
        labels = targets(batch)
        with engine.autocast():
            output = model(**{k: v for k, v in batch.items() if keep is None or k in keep})
        names = ("loss", "logits") if labels is not None else ("logits",)
        fields = dict(output) if hasattr(output, "keys") else dict(zip(names, output, strict=False))
        logits = fields.get("logits")
        spans = logits is None and "start_logits" in fields
        if spans:
            logits = torch.stack([fields["start_logits"], fields["end_logits"]], -1)
        if logits is None:
            raise DataError(f"the model's output has no logits to evaluate; it has {', '.join(fields)}")
        count = loss_terms(batch, len(rows), getattr(model, "next", False) is True)
        loss = fields.get("loss")
        if loss is not None and not count:  # the mean of no label is no number
            loss = torch.zeros(())
        return Answers(rows, logits, labels, None if loss is None else loss * count, count, spans)

    total = len_of(dataset)
    return _each_batch([np.arange(i, min(i + size, total)) for i in range(0, total, size)], answer, engine)


class Written(NamedTuple):
    """What a model has written for N rows: arrays of new tokens (the end token included) and of labels (None where there are none); the
    token that the decoder starts with, and the one that fills rows up."""

    texts: list[np.ndarray]
    references: list[np.ndarray] | None
    start: int
    pad: int


def write(
    model: Any, batches: Iterable[Any], engine: Accelerator, tokenizer: Any, settings: GenerationConfig | None
) -> Written:
    """What an encoder-decoder answers to the sources in `batches`, packed or padded; the rows stand in their order."""
    sources: list[np.ndarray] = []
    references: list[np.ndarray] = []
    for batch in batches:
        if isinstance(batch, PackedBatch):
            sources += batch.rows(batch.input_ids)
            if batch.target is not None and batch.target.labels is not None:
                references += batch.target.rows(batch.target.labels)
            continue
        ids, mask, labels = batch["input_ids"], batch.get("attention_mask"), targets(batch)
        kept = torch.ones_like(ids) if mask is None else mask
        sources += [row[there != 0].numpy() for row, there in zip(ids, kept, strict=True)]
        references += [] if labels is None else [row[row != IGNORED_LABEL].numpy() for row in labels]
    world = engine.world
    mine = sources[world.rank :: world.size]
    with engine.autocast(), engine.strategy.whole(model):
        written = generate_rows(model, sources=mine, settings=settings, tokenizer=tokenizer) if mine else []
    parts = world.objects(written)
    found = [parts[row % world.size][row // world.size] for row in range(len(sources))]
    start, pad = model.config.decoder_start_token_id or 0, model.config.pad_token_id or 0
    return Written([texts[0] for texts in found], references or None, start, pad)


def learn_length(settings: GenerationConfig, longest: int, room: int) -> None:
    """Let `longest`, the tokens of the longest target in training, be how much a model writes at most where nothing says it; `room` is
    what its positions allow."""
    if settings.max_new_tokens is settings.max_length is None:
        settings.max_new_tokens = min(longest, room)
        say(f"the longest target has {longest} tokens: max_new_tokens={min(longest, room)} is stored with the model")
    elif longest > (most := settings.max_new_tokens or settings.max_length or 0):
        say(f"the longest target has {longest} tokens, but the model's generation_config lets it write {most}")


def _grid(rows: Sequence[np.ndarray], fill: int) -> np.ndarray:
    """Rows as [N, S], filled up at the right."""
    out = np.full((len(rows), max(map(len, rows))), fill, dtype=np.int64)
    for place, row in zip(out, rows, strict=True):
        place[: len(row)] = row
    return out


def streams(compute_metrics: Any) -> bool:
    """Whether it is a streaming metric, which sees reduced batches, and not a function of all logits."""
    return hasattr(compute_metrics, "reduce")


class InterruptedEvaluationError(Exception):
    """An evaluation was left because the run was asked to stop."""


class _Judged(NamedTuple):
    """What is kept of the answers for one batch, on the host."""

    rows: np.ndarray
    reduced: np.ndarray | None
    logits: np.ndarray | None
    labels: np.ndarray | None
    loss_sum: float | None
    terms: int
    spans: bool


def evaluate(
    answers: Iterator[list[Answers]], size: int, prefix: str, compute_metrics: Any, keep_logits: bool, world: World,
    written: Callable[[], Written] | None = None, stop: Callable[[], bool] = lambda: False,
) -> PredictionOutput:  # fmt: skip
    """Consume `answers` for `size` samples; where `written` is given, the texts that it makes are judged and kept in place of logits.

    `compute_metrics`: None; a function of an `EvalPrediction` with all logits; or a streaming metric (`reduce(logits)`,
    `add_batch`, `compute`) that sees one reduced batch at a time, with the samples' numbers as `rows` if its `by_row` is true; it gets
    generated texts as lists of arrays. Logits are kept only when a function or `keep_logits` asks. All processes get the answers of all,
    in the order in which one process alone would have made them. Raises InterruptedEvaluationError once `stop` is true on any process.
    """
    streaming = streams(compute_metrics)
    by_row = streaming and getattr(compute_metrics, "by_row", False)
    keep = keep_logits or (compute_metrics is not None and not streaming)
    started = time.perf_counter()
    kept: list[_Judged] = []

    def judged(answer: Answers) -> _Judged:
        there = answer.logits is not None and written is None
        judge = there and streaming and (answer.labels is not None or by_row)
        return _Judged(
            answer.rows,
            _host(compute_metrics.reduce(answer.logits)) if judge else None,
            _host(answer.logits.float()) if there and keep else None,  # type: ignore[union-attr]
            _host(answer.labels) if there else None,
            None if answer.loss_sum is None else float(answer.loss_sum),
            0 if answer.loss_sum is None else int(answer.count),
            answer.spans,
        )

    with torch.inference_mode():
        for mine in answers:
            everyone = world.objects(([judged(answer) for answer in mine], stop()))
            if any(asked for _, asked in everyone):
                raise InterruptedEvaluationError
            for found in (found for theirs, _ in everyone for found in theirs):
                if found.reduced is not None:
                    given = {"rows": found.rows} if by_row else {}
                    compute_metrics.add_batch(predictions=found.reduced, references=found.labels, **given)
                kept.append(found._replace(reduced=None, labels=None if found.logits is None else found.labels))
    texts = None if written is None else written()
    seconds = time.perf_counter() - started
    terms = sum(found.terms for found in kept)
    metrics: dict[str, float] = {"loss": sum(found.loss_sum or 0.0 for found in kept) / terms} if terms else {}
    if texts is None:
        predictions, label_ids = _kept(kept, size)
    else:
        metrics["gen_len"] = float(np.mean([len(row) for row in texts.texts]))
        predictions = _grid([np.append(texts.start, row) for row in texts.texts], texts.pad)
        label_ids = None if texts.references is None else _grid(texts.references, IGNORED_LABEL)
        if streaming and (by_row or texts.references is not None):
            compute_metrics.add_batch(predictions=texts.texts, references=texts.references, rows=np.arange(size))
    if streaming and (terms or by_row):
        metrics.update(compute_metrics.compute())
    elif compute_metrics is not None and not streaming and label_ids is not None:
        figures = compute_metrics(EvalPrediction(predictions, label_ids))
        if not isinstance(figures, Mapping):
            what = f"{figures!r:.60} ({type(figures).__name__})"
            raise ArgumentError(f"compute_metrics returned {what}; return a dictionary such as {{'accuracy': 0.9}}")
        metrics.update(figures)
    pace = {"samples_per_second": round(size / seconds, 3), "steps_per_second": round(len(kept) / seconds, 3)}
    metrics.update({"runtime": round(seconds, 4), **pace})
    named = {k if k.startswith(f"{prefix}_") else f"{prefix}_{k}": _number(v) for k, v in metrics.items()}
    return PredictionOutput(predictions, label_ids, named)


def _kept(kept: list[_Judged], size: int) -> tuple[Any, Any]:
    """All logits and all labels, in the order of the data set; None where there are none."""
    found = [part for part in kept if part.logits is not None]
    logits: Any = _in_order([(part.rows, part.logits) for part in found], size)
    labels: Any = _in_order([(part.rows, part.labels) for part in found if part.labels is not None], size)
    if kept and kept[-1].spans and logits is not None:  # starts and ends of spans, as the field passes them
        logits, labels = (
            tuple(np.moveaxis(logits, -1, 0)),
            None if labels is None else tuple(np.moveaxis(labels, -1, 0)),
        )
    return logits, labels


def _host(values: Tensor | None) -> np.ndarray | None:
    return None if values is None else values.cpu().numpy()


def _in_order(parts: list[Any], size: int) -> np.ndarray | None:
    """(rows, values) of batches as [size, ...]; rows of different lengths are filled up to the longest. None for no batch."""
    if not parts:
        return None
    if len({values.shape[1:] for _, values in parts}) > 1:  # a collator's own padding differs from batch to batch
        widest = max(values.shape[1] for _, values in parts)
        room = [[(0, 0), (0, widest - v.shape[1]), *[(0, 0)] * (v.ndim - 2)] for _, v in parts]
        parts = [(r, np.pad(v, w, constant_values=IGNORED_LABEL)) for (r, v), w in zip(parts, room, strict=True)]
    out = np.empty((size, *parts[0][1].shape[1:]), dtype=parts[0][1].dtype)
    seen = np.zeros(size, dtype=np.int64)
    for rows, values in parts:
        out[rows] = values
        seen[rows] += 1
    assert (seen == 1).all(), "every sample counts exactly once"
    return out


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, (np.generic, Tensor)) and value.ndim == 0 else value
