"""`unpad predict --model RUN`: answers for a text, lines of standard input, or a file; one JSON object per line.

Texts that a model writes stand alone on standard output, and as JSON in a file. The first answers come while later lines are
still being read. With `--output` the file appears when it is whole.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from unpad.cli._options import Command, options_of
from unpad.errors import ArgumentError, DataError, listing

WRITING = ("max_new_tokens", "num_beams", "do_sample", "temperature", "top_k", "top_p", "seed")
"""Options of models that write."""
_TOGETHER = 256
"""Lines of standard input that are answered together, when they are there."""


@dataclass
class PredictOptions:
    """Which model answers what."""

    model: str | None = None
    """Folder of a run or of a model, or a Hub id."""
    task: str | None = None
    """What the model does; null: that of the run, or told by the model's head."""
    text: str | None = None
    """The text to answer for; "-" reads standard input, one text per line (text and second text separated by a tab for pairs)."""
    text_pair: str | None = None
    """The second text, for models of pairs."""
    data: str | None = None
    """File, folder or data set with texts, instead of text."""
    data_name: str | None = None
    """Configuration of the data set, where it has several."""
    split: str | None = None
    """Split of data; null: the only one."""
    text_column: str | None = None
    """Column of the text; null: that of the run, or found by name."""
    text_pair_column: str | None = None
    """Column of the second text of a pair; null: that of the run, or found by name."""
    max_length: int | None = None
    """Longest input in tokens; null: that of the run, or what the model can hold."""
    output: str | None = None
    """File for the answers, as JSON lines; null: standard output."""
    top_k: int | None = None
    """Number of labels, words or spans per answer, best first (0: all labels; null: 1); in sampling, the likeliest tokens to draw from."""
    max_new_tokens: int | None = None
    """Tokens that are written at most; null: the model's own."""
    num_beams: int | None = None
    """Hypotheses that beam search follows; null: the model's own, or 1."""
    do_sample: bool = False
    """Draw tokens by their probability instead of taking the likeliest."""
    temperature: float | None = None
    """Divides the logits in sampling; null: 1."""
    top_p: float | None = None
    """Draw from the fewest tokens whose probabilities sum to this; null: 1."""
    seed: int | None = None
    """Of sampling; the same seed gives the same texts."""


def command() -> Command:
    about = "Let a model answer for texts. Prints what it writes, or one JSON object per text: label and score (with top_k, a list of them)."
    return Command("predict", about, {"options": options_of(PredictOptions)})


def run(argv: Sequence[str]) -> int:
    options = command().parse(argv)
    if options["model"] is None:
        raise ArgumentError("unpad predict: --model is missing; give the folder of a run, of a model, or a Hub id")
    if options["text"] is None and any(word in ("--text=null", "null") for word in argv):
        options["text"] = "null"  # the word, not the absence of one
    if (options["text"] is None) == (options["data"] is None):
        raise ArgumentError('unpad predict: give either --text "..." (or --text - for standard input) or --data FILE')
    if (options["top_k"] or 0) < 0:
        raise ArgumentError(f"unpad predict: top_k={options['top_k']} must be 1 or more, or 0 for all labels")
    if options["text_pair"] is not None and options["text"] in (None, "-"):
        how = "name a column of --data with --text_pair_column"
        raise ArgumentError(f"unpad predict: --text_pair goes with --text; {how}")
    from unpad.cli._data import asking
    from unpad.cli._run import read_config
    from unpad.pipelines import pipeline
    from unpad.tasks import task as find_task

    kept = read_config(options["model"])
    longest = kept.get("max_length") if options["max_length"] is None else options["max_length"]
    pipe = pipeline(options["task"] or kept.get("task"), model=options["model"])
    task = find_task(pipe.task)
    _refuse_unread(options, task)
    asked = {"max_length": longest}
    if task.generates:
        asked = {**asking(task, {**kept, **asked}), **_given(options)}
    elif "top_k" in task.options:
        asked["top_k"] = {None: 1, 0: None}.get(options["top_k"], options["top_k"])
    if options["text"] not in (None, "-"):
        batches: Iterable[list[dict[str, str]]] = [[_row(options["text"], options["text_pair"])]]
    elif options["text"] == "-":
        batches = _lines(sys.stdin, pairs=kept.get("text_pair_column") is not None)
    else:
        batches = _rows(options, kept, task)
    answers = _answers(pipe, task, batches, asked)
    if options["output"] is not None:
        return _write(Path(options["output"]), answers)
    for row in answers:
        for text in _written(row) if task.generates else [json.dumps(row, ensure_ascii=False)]:
            sys.stdout.write(text + "\n")
        sys.stdout.flush()
    return 0


def _refuse_unread(options: dict[str, Any], task: Any) -> None:
    """Raise ArgumentError for options that the task would not look at."""
    name, top_k, wrong = task.name, options["top_k"], ""
    if not task.generates and (given := [n for n in _given(options) if n != "top_k"]):
        wrong = f"{given[0]} is no option of {name}, whose models write no texts; leave it out"
    elif "candidate_labels" in task.options:
        wrong = f"{name} is for Python, where the labels are given: unpad.pipeline({name!r}, model=...)"
    elif options["text_pair"] is not None and not task.pairs:
        wrong = f"{name} reads one text, no pairs; leave --text_pair out"
    elif top_k not in (None, 1) and "top_k" not in task.options and not task.generates:
        wrong = f"top_k={top_k} is no option of {name}; leave it out"
    elif top_k == 0 and task.head not in ("sequence-classification", "multiple-choice") and not task.generates:
        wrong = f"top_k=0, all of them, is not possible for {name}; give a number from 1"
    if wrong:
        raise ArgumentError(f"unpad predict: {wrong}")


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of models that write, as far as they are given."""
    return {name: options[name] for name in WRITING if options[name] is not None and options[name] is not False}


def _written(row: dict[str, Any]) -> list[str]:
    """The texts in a row of `_answers`."""
    answers = row.get("answers", [row])
    return [value for answer in answers for key, value in answer.items() if key.endswith("_text")]


def _answers(
    pipe: Any, task: Any, batches: Iterable[list[dict[str, str]]], options: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """The rows with their answers. With a seed all rows draw their own numbers, whatever batch they come in."""
    from unpad.tasks import Columns

    top_k, done = options.get("top_k"), 0
    for rows in batches:
        asked_now = {**options, "seed": options["seed"] + done} if "seed" in options else options
        done += len(rows)
        pair = "text_pair" if "text_pair" in rows[0] else None
        more = tuple(name for name in rows[0] if name not in ("text", "text_pair"))
        asked = [task.row_input(row, Columns("text", pair, more=more)) for row in rows]
        found = pipe(asked, **task.readable, **asked_now)
        for row, answer in zip(rows, found, strict=True):
            if isinstance(answer, list) and len(answer) == 1 and (task.generates or top_k == 1):
                answer = answer[0]
            shown = {"answers": [_plain(one) for one in answer]} if isinstance(answer, list) else _plain(answer)
            yield {**row, **shown}


def _plain(answer: Any) -> Any:
    if isinstance(answer, list):  # one list for each mask of a text
        return [_plain(one) for one in answer]
    if not isinstance(answer, Mapping):
        return answer
    return {key: round(float(value), 6) if key == "score" else value for key, value in answer.items()}


def _row(text: Any, pair: Any = None, words: bool = False, language: str | None = None) -> dict[str, Any]:
    if isinstance(text, dict) and language in text:  # texts by language
        text = text[language]
    if words and isinstance(text, list):
        return {"text": text}
    for value in (text, pair):
        if isinstance(value, (list, dict)):
            kind = type(value).__name__
            raise DataError(f"{value!r:.60} is a {kind}, not a text; give a column of texts with --text_column")
    row = {"text": "" if text is None else str(text)}
    return row if pair is None else {**row, "text_pair": str(pair)}


def _lines(stream: TextIO, pairs: bool) -> Iterator[list[dict[str, str]]]:
    """Lines as rows: those of a file many at a time, those of a person one by one."""
    together = 1 if stream.isatty() else _TOGETHER
    rows: list[dict[str, str]] = []
    try:
        for number, line in enumerate(stream, 1):
            text, tab, pair = line.rstrip("\r\n").partition("\t" if pairs else "\n")
            if pairs and not tab:
                wrong = f"line {number} of standard input has no tab, but the model was trained on pairs"
                raise DataError(f"{wrong}; write TEXT<tab>SECOND TEXT")
            rows.append(_row(text, pair if tab else None))
            if len(rows) >= together:
                yield rows
                rows = []
    except UnicodeDecodeError as error:
        what = f"not {error.encoding} text (byte {error.object[error.start]:#04x})"
        raise DataError(f"standard input is {what}; save it as UTF-8 first") from None
    if rows:
        yield rows


def _rows(options: dict[str, Any], kept: dict[str, Any], task: Any) -> Iterator[list[dict[str, Any]]]:
    """Rows of a data set, in its order; the split is loaded and its columns are checked before the first answer."""
    from datasets import DatasetDict

    from unpad.cli._data import load_split, naming
    from unpad.cli.evaluate import columns_of
    from unpad.data.load import load_dataset

    data, split = options["data"], options["split"]
    raw: Any = load_dataset(data, options["data_name"])
    if split is None and len(raw) > 1:
        raise ArgumentError(f"unpad predict: {data!r} has several splits; give --split, one of: {listing(raw)}")
    rows = load_split(data, options["data_name"], split) if split else next(iter(raw.values()))
    chosen = columns_of(options, kept, {"": rows})
    with naming(data):
        found = task.columns(DatasetDict({"test": rows}), chosen["text"], chosen["text_pair"], labelled=False)
    names = [name for name in (found.text, found.text_pair) if name is not None]
    return _in_batches(rows, names, found.more, task.words, kept.get("source_lang"))


def _in_batches(
    rows: Any, names: list[str], more: Sequence[str], words: bool, language: str | None
) -> Iterator[list[dict[str, Any]]]:
    size = 16 * _TOGETHER  # many at a time, so that texts of similar length meet
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        texts = zip(*(part[name] for name in names), strict=True)
        found = [_row(own[0], own[1] if len(own) > 1 else None, words, language) for own in texts]
        yield [row | {name: part[name][i] for name in more} for i, row in enumerate(found)]


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    from unpad.checkpoint.files import writing_to

    if not path.name or path.is_dir():
        raise ArgumentError(f"unpad predict: output={str(path)!r} is a folder; give the name of a file for the answers")
    beside = path.with_name(f".{path.name}.tmp")
    count = 0
    try:
        with writing_to(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(beside, "w", encoding="utf-8") as file:
                for row in rows:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    count += 1
            beside.replace(path)
    finally:
        with suppress(OSError):
            beside.unlink()
    print(f"{count} answers written to {path}")
    return 0
