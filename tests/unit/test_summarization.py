"""Summarization and plain text to text: columns by their names, ROUGE as rouge-score has it, and the lead of the text beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from rouge_score.rouge_scorer import RougeScorer
from small_writers import small_writer, texts

import unpad
from unpad import ArgumentError, DataError
from unpad.tasks import task
from unpad.tasks.summarization import TASK

BODIES = [
    "The lamp is broken. I want my money back. Please help. It was new.",
    "Where is my order? It is late.",
    "Thanks a lot. Bye.",
]
SUBJECTS = ["Broken lamps. Money back.", "late orders", "thank you"]
KEYS = ("rouge1", "rouge2", "rougeL", "rougeLsum")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return unpad.AutoTokenizer.from_iterator(
        [*texts(), *BODIES, *SUBJECTS], kind="unigram", vocab_size=400, model_max_length=64
    )


def data(**names: str) -> DatasetDict:
    rows = {names.get("body", "body"): BODIES, names.get("subject", "subject"): SUBJECTS}
    return DatasetDict({"train": Dataset.from_dict({"id": [0, 1, 2], **rows})})


@pytest.mark.parametrize(("body", "subject"), [("document", "summary"), ("article", "highlights"), ("email_body", "subject_line"), ("text", "headline"), ("review_body", "review_title")])  # fmt: skip
def test_columns_are_found_by_the_names_that_data_sets_give_them(body: str, subject: str) -> None:
    found = TASK.columns(data(body=body, subject=subject), labelled=True)
    assert (found.text, found.label) == (body, subject)
    assert TASK.columns(data(body=body, subject=subject), labelled=False).label is None


def test_missing_columns_are_named_with_those_there_are(tokenizer: Any) -> None:
    raw = DatasetDict({"train": Dataset.from_dict({"a": ["x"], "b": ["y"]})})
    with pytest.raises(DataError, match=r"no column looks like the text; name it with text=; the columns are: a, b"):
        TASK.columns(raw)
    with pytest.raises(DataError, match=r"no column looks like the target; name it with label=; the columns are: a, b"):
        TASK.columns(raw, text="a", labelled=True)
    with pytest.raises(DataError, match=r"there is no column 'c' for label="):
        TASK.columns(raw, text="a", label="c")
    with pytest.raises(ArgumentError, match="reads one text, no pairs"):
        TASK.columns(raw, text="a", text_pair="b")
    for kind in ("text2text-generation", "translation"):
        assert task(kind).columns(raw, text="a", label="b").used == ["a", "b"]
    with pytest.raises(DataError, match=r"column 'n' of 'train' holds int64, not texts"):
        numbers = DatasetDict({"train": Dataset.from_dict({"text": ["x"], "n": [1]})})
        TASK.prepare(numbers, tokenizer, TASK.columns(numbers, label="n"))


def test_rouge_is_that_of_rouge_score_and_the_lead_stands_beside_it(tokenizer: Any) -> None:
    raw = data()
    notes = TASK.prepare(raw, tokenizer, TASK.columns(raw)).notes["train"]
    judge = TASK.metrics(None, notes)  # type: ignore[arg-type]
    assert judge is not None and [part.key for part in judge.parts] == list(KEYS)
    said = ["The broken lamp. Money.", "an order was late", "no"]
    ids = [np.array(tokenizer(text)["input_ids"]) for text in said]
    judge.add_batch(
        predictions=ids, references=[np.array(tokenizer(text_target=t)["input_ids"]) for t in SUBJECTS], rows=[0, 1, 2]
    )
    found = judge.compute()
    scorer = RougeScorer(list(KEYS), use_stemmer=True)
    lines = ["Broken lamps.\nMoney back.", *SUBJECTS[1:]]
    read = ["The broken lamp.\nMoney.", *said[1:]]
    leads = [
        "The lamp is broken.\nI want my money back.\nPlease help.",
        "Where is my order?\nIt is late.",
        "Thanks a lot.\nBye.",
    ]
    for key in KEYS:
        mean = [
            np.mean([scorer.score(a, b)[key].fmeasure for a, b in zip(lines, of, strict=True)]) for of in (read, leads)
        ]
        assert [found[key], found[f"lead3_{key}"]] == pytest.approx([100 * m for m in mean])
    assert found["gen_len"] == np.mean([len(i) for i in ids]) and found["lead3_rouge1"] > 0
    judge.add_batch(predictions=ids[:1], references=None, rows=[0])
    assert not any(key.startswith("lead3") for key in judge.compute())  # the lead is of all rows
    judge.add_batch(predictions=ids, rows=[0, 1, 2])
    judge.reset()
    with pytest.raises(DataError):
        judge.compute()


def test_training_reads_its_prefix_and_says_what_it_cuts(tokenizer: Any, caplog: Any) -> None:
    raw = data()
    found = TASK.prepare(
        raw, tokenizer, TASK.columns(raw), prefix="summarize: ", max_source_length=8, max_target_length=3
    )
    assert (
        found.data["train"]["input_ids"][0]
        == tokenizer("summarize: " + BODIES[0], truncation=True, max_length=8)["input_ids"]
    )
    told = "\n".join(record.getMessage() for record in caplog.records)
    assert (
        "train, sources: 3 of 3 texts were truncated" in told
        and "train, targets: " in told
        and "(the limit is 3 tokens)" in told
    )
    assert "not used: id" in told
    assert found.truncation.texts == 6


def test_an_input_that_was_cut_is_said(tmp_path: Path, caplog: Any) -> None:
    pipe = unpad.pipeline(
        "summarization", small_writer("bart", tmp_path), precision="fp32", device="cpu", max_new_tokens=2
    )
    long = "the lamp is broken and I want my money back " * 20
    assert len(pipe([long, "ok"])) == 2
    assert "1 of 2 inputs (50.0%) were longer than 64 tokens and were cut" in caplog.text
    with pytest.raises(DataError, match=r"input 1 has \d+ tokens, the model takes 64; leave truncation on"):
        pipe(["ok", long], truncation=False)
    caplog.clear()
    pipe("the lamp is broken", max_source_length=4)
    assert "longer than 4 tokens" in caplog.text


def test_plain_pairs_are_judged_by_chrf(tokenizer: Any) -> None:
    pairs = task("text2text-generation")
    raw = DatasetDict({"train": Dataset.from_dict({"input": BODIES, "target": SUBJECTS})})
    judge = pairs.metrics(None, pairs.prepare(raw, tokenizer, pairs.columns(raw, labelled=True)).notes["train"])  # type: ignore[arg-type]
    assert judge is not None
    judge.add_batch(
        predictions=[np.array(tokenizer(t)["input_ids"]) for t in SUBJECTS], references=None, rows=[0, 1, 2]
    )  # type: ignore[call-arg]
    assert judge.compute()["chrf"] == pytest.approx(100)
