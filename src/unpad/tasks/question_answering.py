"""Extractive question answering: the answer to a question is a piece of its context, or (as in SQuAD 2.0) is not there.

Long contexts are read in windows that overlap; `_spans` cuts them and finds the best spans. B windows, S tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from unpad.errors import ArgumentError, DataError, listing
from unpad.metrics import load_metric
from unpad.notices import say
from unpad.tasks._columns import check_named, one_of, spent, splits_of, whole_column
from unpad.tasks._spans import Gold, Windows, best_spans, cut, dataset, probabilities
from unpad.tasks._task import Columns, Example, Features, Judge, Part, Prepared, Reader, Task

if TYPE_CHECKING:
    from torch import Tensor

    from unpad.config import ModelConfig
    from unpad.text.tokenizer import Tokenizer

NAMES = {
    "text": ("question", "query"), "text_pair": ("context", "passage", "paragraph", "document", "article", "text"),
    "label": ("answers", "answer", "answer_text"),
}  # fmt: skip
"""Names by which data sets call the question, the context and the answers."""
START, IMPOSSIBLE = "answer_start", "handle_impossible_answer"
N_BEST, LONGEST = 20, 30
"""Evaluation: starts and ends that are looked at in each window, and tokens of the longest answer."""
FIGURES = {"squad": ("exact_match", "f1"), "squad_v2": ("exact", "f1", "HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_f1")}  # fmt: skip
OPTIONS = {"top_k": 1, "max_answer_len": 15, "doc_stride": 128, "max_seq_len": 384, "max_question_len": 64}
"""Options of a pipeline that are numbers, as `transformers` has them, and their defaults."""
TOGETHER = 64  # windows whose spans a pipeline scores at once: a bound for memory


class QuestionAnswering(Task):
    """See `Task`. The text is the question, the second text its context, the label its answers."""

    name = "question-answering"
    head = "question-answering"
    auto_class = "AutoModelForQuestionAnswering"
    default_model = "distilbert-base-cased-distilled-squad"
    default_data = "helpdesk/questions"
    options = (*OPTIONS, IMPOSSIBLE)
    settings = ("stride", "bad_answers")
    classes = one_to_one = False

    def columns(
        self, dataset: Any, text: str | None = None, text_pair: str | None = None, label: str | None = None, labelled: bool | None = None
    ) -> Columns:  # fmt: skip
        """The columns to read, those that are not given found by `NAMES`. Raises DataError where one is missing."""
        there, found = list(one_of(dataset).column_names), {"text": text, "text_pair": text_pair, "label": label}
        check_named(found, there, "question, context and answers")
        for key, name in list(found.items()):
            free = [n for n in NAMES[key] if n in there and n not in found.values()]
            found[key] = name or next(iter(free), None)
            if found[key] is None and (key != "label" or labelled):
                raise DataError(f"no column is called {NAMES[key][0]!r} or alike; name it with {key}=; the columns are: {listing(there, 40)}")  # fmt: skip
        answers = None if labelled is False else found["label"]
        return Columns(str(found["text"]), found["text_pair"], answers, (START,) * bool(answers and START in there))  # fmt: skip

    def prepare(
        self, raw: Any, tokenizer: Tokenizer, columns: Columns, max_length: int | None = None, label_names: Sequence[str] | None = None,
        stride: int | None = None, bad_answers: str = "error", **settings: Any,
    ) -> Prepared:  # fmt: skip
        """Windows of at most `max_length` tokens (default: 384, or what the tokenizer takes) with `start_positions` and `end_positions`.

        Answers are `{"text": [...], "answer_start": [...]}` (none: there is no answer, and the span is the first token), or a text with
        a column `answer_start`; the first answer is learned. `stride`: tokens that two windows share (default: 128, or a quarter
        of a short window). `bad_answers`: "drop" leaves out rows whose answer is not where it should be. Raises DataError.
        """
        from datasets import DatasetDict

        if bad_answers not in ("error", "drop"):
            raise ArgumentError(f"bad_answers={bad_answers!r} is unknown; allowed: 'error', 'drop'")
        window = max_length or min(OPTIONS["max_seq_len"], tokenizer.model_max_length)
        stride = min(OPTIONS["doc_stride"], window // 4) if stride is None else stride
        splits, before, done, notes = splits_of(raw), tokenizer.truncation_report(), {}, {}
        for split, part in splits.items():
            questions, contexts = _texts(part, columns.text, "question", split), _texts(part, str(columns.text_pair), "context", split)  # fmt: skip
            gold, kept = None, list(range(len(questions)))
            if columns.label in part.column_names:
                starts = whole_column(part, START, split).to_pylist() if columns.more else [None] * len(part)
                gold = list(map(_pairs, whole_column(part, str(columns.label), split).to_pylist(), starts))
                kept = _good(gold, contexts, split, bad_answers == "drop")
                gold = [gold[row] for row in kept]
            elif columns.label is not None:
                say(f"{split}: there is no column {columns.label!r}, so its answers are not judged")
            questions, contexts = ([texts[row] for row in kept] for texts in (questions, contexts))
            _fitting(tokenizer, questions, [f"row {row} of {split!r}" for row in kept], window, stride, "stride")  # fmt: skip
            features, windows = cut(tokenizer, questions, contexts, window, stride)
            notes[split], done[split] = (windows, gold), dataset(features, windows, gold, split)
            say(f"{split}: {len(kept)} questions make {len(features)} windows of at most {window} tokens (stride {stride})")  # fmt: skip
        return Prepared(DatasetDict(done), columns, spent(before, tokenizer), notes=notes)  # fmt: skip

    def inputs(self, inputs: Any, options: dict[str, Any]) -> Any:
        """`question=` and `context=` (texts, or lists of which each question has its own context or all have the same) as pairs."""
        keys = {"question", "context"}
        given = inputs if isinstance(inputs, Mapping) else {k: options.pop(k) for k in keys & {*options}}
        if not keys & {*given}:
            return inputs
        question, context = given.get("question", None if given is inputs else inputs), given.get("context")
        if not isinstance(question, (list, tuple)):
            return question, context
        every = context if isinstance(context, (list, tuple)) else [context] * len(question)
        if len(every) != len(question):
            raise DataError(f"{len(question)} questions have {len(every)} contexts; give one, or one for each question")  # fmt: skip
        return list(zip(question, every, strict=True))

    def encode(self, inputs: Sequence[Any], reader: Reader, options: Mapping[str, Any]) -> Features:
        """Windows of `(question, context)` and `{"question": ..., "context": ...}`. Raises DataError, naming the input."""
        names, limit = list(map(reader.name, range(len(inputs)))), reader.limit
        window = options.get("max_seq_len", min(OPTIONS["max_seq_len"], limit))
        stride = options.get("doc_stride", min(OPTIONS["doc_stride"], window // 2))
        questions, contexts = zip(*map(_pair, inputs, names), strict=True)
        if window > limit:
            raise ArgumentError(f"max_seq_len={window} is more than the {limit} tokens that the model takes; give less")  # fmt: skip
        most = options.get("max_question_len", OPTIONS["max_question_len"])
        short = _fitting(reader.tokenizer, questions, names, window, stride, "doc_stride", most)
        features, windows = cut(reader.tokenizer, short, list(contexts), window, stride, whole_words=True)
        return replace(features, notes=windows)

    def checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        for name, value in options.items():
            least = int(name not in ("doc_stride", IMPOSSIBLE))
            if not isinstance(value, int) or value < least or isinstance(value, bool) != (name == IMPOSSIBLE):
                what = "True or False" if name == IMPOSSIBLE else f"a whole number, {least} or more"
                raise ArgumentError(f"{name}={value!r} must be {what}")
        return dict(options)

    def answers(
        self, found: Sequence[np.ndarray], features: Features, config: ModelConfig, options: Mapping[str, Any]
    ) -> list[Any]:
        """For each input its best answer, `{"score", "start", "end", "answer"}`; with a `top_k` above 1 a list, best first.

        A score is the chance of the start times that of the end among the context's tokens and the first token of a window; of a span in
        several windows the best counts. `handle_impossible_answer` adds the empty answer, with the least score of a first token.
        """
        windows: Windows = features.notes
        most, longest = ({**OPTIONS, **options}[name] for name in ("top_k", "max_answer_len"))
        wanted = 1 if most == 1 else max(N_BEST, 2 * most)  # some fall together when they grow to whole words
        ranked: list[dict[tuple[int, int], float]] = [{} for _ in windows.contexts]
        nothing = np.ones(len(ranked), np.float32)
        for begin in range(0, len(features), TOGETHER):
            rows = np.arange(begin, min(begin + TOGETHER, len(features)))
            chances = probabilities(found, windows, rows)
            np.minimum.at(nothing, windows.example[rows], chances[:, 0].prod(1))
            first, last, score = best_spans(chances[:, 1:, 0], chances[:, 1:, 1], wanted, longest)
            i, k = np.nonzero(score)
            start, end = windows.characters(rows[i], first[i, k], last[i, k])
            for row, a, b, chance in zip(rows[i], start.tolist(), end.tolist(), score[i, k].tolist(), strict=True):  # fmt: skip
                of = ranked[windows.example[row]]
                of[a, b] = max(of.get((a, b), 0.0), chance)
        out = []
        for of, context, none in zip(ranked, windows.contexts, nothing.tolist(), strict=True):
            if options.get(IMPOSSIBLE) or not of:
                of[0, 0] = none if options.get(IMPOSSIBLE) else 0.0
            best = sorted(of.items(), key=lambda item: -item[1])[:most]
            out.append([{"score": s, "start": a, "end": b, "answer": context[a:b]} for (a, b), s in best])
        return [listed[0] for listed in out] if most == 1 else out

    def metrics(self, config: ModelConfig, notes: Any = None) -> Judge | None:
        """`exact_match` and `f1`; where questions have no answer also the figures of SQuAD 2.0. None without right answers."""
        return None if notes is None or notes[1] is None else _Figures(*notes)

    def example(self, row: Mapping[str, Any], answer: Any, columns: Columns, prepared: Prepared) -> Example:
        said, texts = answer["answer"] or "(no answer)", [row[columns.text], row[str(columns.text_pair)]]
        if columns.label is None or columns.label not in row:
            return Example(texts, said, right=True)
        right = [text for text, _ in _pairs(row[columns.label])] or ["(no answer)"]
        return Example(texts, said, right[0], said in right)


class _Figures(Judge):
    """Keeps the best span of each window and its score, never the logits. As the field does it for SQuAD, a span is a pair of the `N_BEST`
    highest starts and ends; where some questions have no answer, it must not score below the first token."""

    by_row: ClassVar[bool] = True

    def __init__(self, windows: Windows, gold: list[Gold]) -> None:
        self.windows, self.gold, self.v2 = windows, gold, not all(gold)
        metric = load_metric("squad_v2" if self.v2 else "squad")
        super().__init__([Part("exact_match" if f == "exact" else f, metric, f) for f in FIGURES[metric.name]])  # fmt: skip
        self.reset()

    def reset(self) -> None:
        size = len(self.windows.example)
        self.spans, self.scores, self.nothing = np.zeros((size, 2), np.int32), np.full(size, -np.inf), np.full(size, np.inf)  # fmt: skip

    def reduce(self, logits: Tensor) -> Tensor:
        """[B, 4 K + 1]: the K highest start and end logits, their tokens, and the sum of the first token's."""
        import torch

        ends_B2S = logits.float().transpose(1, 2)
        values, tokens = ends_B2S.topk(min(N_BEST, ends_B2S.shape[2]))
        return torch.cat([values.flatten(1), tokens.flatten(1), ends_B2S[:, :, 0].sum(1, keepdim=True)], 1)

    def add_batch(self, *, predictions: Any, references: Any, rows: Any = None) -> None:
        width, row = predictions.shape[1] // 4, np.arange(len(rows))
        starts, ends, first, last = (predictions[:, i * width : (i + 1) * width] for i in range(4))
        low, count = self.windows.first[rows, None], self.windows.counts[rows, None]
        first, last = (first - low)[:, :, None], (last - low)[:, None, :]
        possible = (first >= 0) & (first <= last) & (last < count[:, :, None]) & (last - first < LONGEST)
        scores = np.where(possible, starts[:, :, None] + ends[:, None, :], -np.inf).reshape(len(rows), -1)
        best = scores.argmax(1)
        spans = np.stack([first[row, best // width, 0], last[row, 0, best % width]], 1)
        self.spans[rows] = spans * possible.any((1, 2))[:, None]
        self.scores[rows], self.nothing[rows] = scores[row, best], predictions[:, -1]

    def compute(self) -> dict[str, float]:
        begins = np.searchsorted(self.windows.example, np.arange(len(self.gold)))
        best = np.lexsort((-self.scores, self.windows.example))[begins]  # the best window of each example
        nothing = np.minimum.reduceat(self.nothing, begins)
        empty = np.isneginf(self.scores[best]) | (self.v2 & (nothing > self.scores[best]))
        spans = zip(empty, self.windows.contexts, *self.windows.characters(best, *self.spans[best].T), strict=True)  # fmt: skip
        said = [{"id": i, "prediction_text": "" if none else of[a:b]} for i, (none, of, a, b) in enumerate(spans)]  # fmt: skip
        gold = [{"id": i, "answers": {"text": [text for text, _ in right]}} for i, right in enumerate(self.gold)]  # fmt: skip
        found = self.parts[0].metric.compute(predictions=said, references=gold)
        self.reset()
        return {part.key: found[part.figure] for part in self.parts if part.figure in found}


TASK = QuestionAnswering()


def _text(value: Any, what: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        why = "empty" if isinstance(value, str) else f"{value!r:.40} ({type(value).__name__}), not a text"
        raise DataError(f"the {what} of {where} is {why}; mend it, or leave it out")
    return value


def _texts(part: Any, column: str, what: str, split: str) -> list[str]:
    values = whole_column(part, column, split).to_pylist()
    return [_text(value, what, f"row {row} of {split!r}") for row, value in enumerate(values)]


def _pair(item: Any, where: str) -> tuple[str, str]:
    item = (item.get("question"), item.get("context")) if isinstance(item, Mapping) else item
    question, context = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
    if context is None:
        raise DataError(f"{where} has no context; give (question, context) or {{'question': ..., 'context': ...}}")  # fmt: skip
    return _text(question, "question", where), _text(context, "context", where)


def _pairs(value: Any, start: Any = None) -> Gold:
    """The answers of a row, in any layout."""
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        value = {name: [one.get(name) for one in value] for name in ("text", START) if name in value[0]}
    if isinstance(value, Mapping):  # without a text it is shown as it is, among the bad answers
        value, start = value.get("text", str(value)), value.get(START)
    texts, starts = (x if isinstance(x, list) else [x] for x in (value, start))
    return [(str(text), at) for text, at in zip_longest(texts, starts) if text not in (None, "")]


def _good(gold: list[Gold], contexts: list[str], split: str, drop: bool) -> list[int]:
    """Numbers of the rows whose answers stand in their contexts; the others are dropped, or an error."""
    right = [
        all(isinstance(at, int) and at >= 0 and context.startswith(text, at) for text, at in answers)
        for answers, context in zip(gold, contexts, strict=True)
    ]
    wrong = [row for row, fine in enumerate(right) if not fine]
    if wrong and not (drop and any(right)):
        raise DataError(
            f"an answer in row {wrong[0]} of {split!r} is not in its context where {START} says: {gold[wrong[0]]!r:.80} ({len(wrong)} of "
            f"{len(gold)} rows are so); mend them, or leave them out with bad_answers='drop'"
        )
    if wrong:
        say(f"{split}: {len(wrong)} of {len(gold)} rows are dropped: no answer where {START} says")
    return [row for row, fine in enumerate(right) if fine]


def _fitting(
    tokenizer: Tokenizer, questions: Sequence[str], names: list[str], window: int, stride: int, option: str, most: int | None = None
) -> list[str]:  # fmt: skip
    """The questions, cut to `most` tokens. Raises DataError for the first that leaves no room for its context in a window."""
    room, out = window - tokenizer.num_special_tokens_to_add(pair=True), []
    if not 0 <= stride < room:
        raise ArgumentError(f"{option}={stride} must be 0 or more and below the {room} tokens that a window of {window} holds")  # fmt: skip
    encodings = tokenizer(list(questions), add_special_tokens=False).encodings or []
    for question, encoding, name in zip(questions, encodings, names, strict=True):
        size = min(len(encoding), most or len(encoding))
        if room - size <= stride:
            raise DataError(
                f"the question of {name} has {size} tokens, which leaves {max(room - size, 0)} of a window of {window} for the context; it must "
                f"be more than {option}={stride}: shorten the question, make the window larger, or give a smaller {option}"
            )
        out.append(question if size == len(encoding) else question[: encoding.offsets[size - 1][1]])
    if cuts := sum(map(str.__ne__, out, questions)):
        say(f"{cuts} of {len(out)} questions were longer than max_question_len={most} tokens and were cut")
    return out
