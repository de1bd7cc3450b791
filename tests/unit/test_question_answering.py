"""Question answering: every layout of data, windows and the answers in them, figures, training, and the command line."""

from __future__ import annotations

import collections
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import unpad
from unpad.cli.__main__ import main
from unpad.tasks.question_answering import TASK

ROWS: list[dict[str, Any]] = [
    {"id": "a", "question": "Where is it?", "context": "It is in Lisbon, near the harbour.", "answers": {"text": ["Lisbon"], "answer_start": [9]}},
    {"id": "b", "question": "Who called?", "context": "Mei Rosen called twice.", "answers": {"text": ["Mei Rosen", "Rosen"], "answer_start": [0, 4]}},
    {"id": "c", "question": "When?", "context": "Nobody knows.", "answers": {"text": [], "answer_start": []}},
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(minilm: str) -> Any:
    return unpad.AutoTokenizer.from_pretrained(minilm)


@pytest.fixture(scope="module")
def tiny(minilm: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random small model with a real tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = unpad.BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48, max_position_embeddings=128,
        initializer_range=0.2,
    )  # fmt: skip
    unpad.AutoModelForQuestionAnswering.from_config(config).save_pretrained(folder)
    unpad.AutoTokenizer.from_pretrained(minilm).save_pretrained(folder)
    return str(folder)


def prepared(rows: Any, tokenizer: Any, **settings: Any) -> Any:
    raw = rows if hasattr(rows, "column_names") else unpad.load_dataset(rows)
    return TASK.prepare(raw, tokenizer, TASK.columns(raw), **settings)


# ---- layouts


def _nested(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The JSON of SQuAD."""
    paragraphs = [
        {
            "context": row["context"],
            "qas": [
                {
                    "id": row["id"], "question": row["question"], "is_impossible": not row["answers"]["text"],
                    "answers": [{"text": t, "answer_start": a} for t, a in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)],
                }
            ],
        }
        for row in rows
    ]  # fmt: skip
    return {"version": "v2.0", "data": [{"title": "x", "paragraphs": paragraphs}]}


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    text, start = row["answers"]["text"], row["answers"]["answer_start"]
    return {"query": row["question"], "passage": row["context"], "answer": (text or [""])[0], "answer_start": (start or [None])[0]}  # fmt: skip


def test_all_layouts_give_the_same_features(tokenizer: Any, tmp_path: Path) -> None:
    expected = prepared(ROWS, tokenizer).data["train"].to_dict()
    assert expected["start_positions"][2] == expected["end_positions"][2] == 0  # no answer: the first token
    listed = [
        {**row, "answers": [{"text": t, "answer_start": a} for t, a in zip(*row["answers"].values(), strict=True)]}
        for row in ROWS
    ]  # fmt: skip
    (tmp_path / "squad.json").write_text(json.dumps(_nested(ROWS)))
    with open(tmp_path / "flat.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, _flat(ROWS[0]))
        writer.writeheader()
        writer.writerows(map(_flat, ROWS))
    for data in (
        listed,
        [_flat(row) for row in ROWS],
        unpad.load_dataset(str(tmp_path / "flat.csv")),
        unpad.load_dataset(str(tmp_path / "squad.json")),
    ):
        assert prepared(data, tokenizer).data["train"].to_dict() == expected


def test_the_bundled_questions_are_answered_by_their_contexts() -> None:
    data = unpad.load_dataset("helpdesk/questions")
    assert data["train"].column_names == ["id", "question", "context", "answers"]
    for row in data["validation"]:
        for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True):
            assert row["context"][start : start + len(text)] == text


def test_columns_are_found_by_name_and_named_ones_win() -> None:
    data = unpad.load_dataset("helpdesk")
    assert TASK.columns(data).used == ["question", "text", "answers"]
    found = TASK.columns(unpad.load_dataset([{"question": "a", "context": "b", "other": "c"}]), text="other")
    assert (found.text, found.text_pair, found.label) == ("other", "context", None)


# ---- windows


def _positions_by_steps(offsets: list[tuple[int, int]], of: list[int | None], begin: int, end: int) -> tuple[int, int]:
    """First and last token of an answer, one step at a time."""
    context = [i for i, part in enumerate(of) if part == 1]
    if not context or offsets[context[0]][0] > begin or offsets[context[-1]][1] < end:
        return 0, 0
    first = max(i for i in context if offsets[i][0] <= begin)
    last = min(i for i in context if offsets[i][1] >= end)
    return first, last


WORDS = st.lists(st.sampled_from(["a", "unbelievable", "x-y", "Ünïcødé,", "漢字", "42.5%", "harbour"]), min_size=1, max_size=60)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(WORDS, st.data())
def test_answers_are_learned_where_the_windows_show_them(tokenizer: Any, words: list[str], data: st.DataObject) -> None:
    context = " ".join(words)
    begin = data.draw(st.integers(0, len(context) - 1))
    end = data.draw(st.integers(begin + 1, len(context)))
    window, stride = data.draw(st.integers(14, 40)), data.draw(st.integers(0, 7))
    row = {"question": "x ?", "context": context, "answers": {"text": [context[begin:end]], "answer_start": [begin]}}  # fmt: skip
    if not context[begin:end].strip():
        return
    got = prepared([row], tokenizer, max_length=window, stride=stride).data["train"]
    rows = tokenizer(
        ["x ?"], [context], truncation="only_second", max_length=window, stride=stride, return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )  # fmt: skip
    assert got["input_ids"] == rows["input_ids"]
    expected = [
        _positions_by_steps(rows["offset_mapping"][i], rows.sequence_ids(i), begin, end)
        for i in range(len(rows["input_ids"]))
    ]
    assert list(zip(got["start_positions"], got["end_positions"], strict=True)) == expected


def test_rows_with_answers_elsewhere_can_be_dropped_and_that_is_said(
    tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = {**ROWS[0], "answers": {"text": ["Lisbon"], "answer_start": [8]}}
    found = prepared([ROWS[0], wrong, ROWS[1]], tokenizer, bad_answers="drop")
    assert found.data["train"].to_dict() == prepared([ROWS[0], ROWS[1]], tokenizer).data["train"].to_dict()
    assert any("1 of 3 rows are dropped" in record.getMessage() for record in caplog.records)


# ---- figures


def _figures_by_steps(
    rows: Any, found: Any, logits: list[np.ndarray], tokenizer: Any, window: int, stride: int
) -> dict[str, float]:
    """The field's way from logits to figures: loops over the best starts and ends of every window."""
    v2 = not all(row["answers"]["text"] for row in rows)
    encoded = tokenizer(
        rows["question"], rows["context"], truncation="only_second", max_length=window, stride=stride,
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    windows = collections.defaultdict(list)
    for i, example in enumerate(encoded["overflow_to_sample_mapping"]):
        windows[example].append(i)
    said, gold = [], []
    for example, row in enumerate(rows):
        spans, nothing = [], np.inf
        for i in windows[example]:
            start, end = logits[i].T
            nothing = min(nothing, start[0] + end[0])
            offsets = [
                o if s == 1 else None
                for o, s in zip(encoded["offset_mapping"][i], encoded.sequence_ids(i), strict=True)
            ]
            for a in np.argsort(start)[-1:-21:-1].tolist():
                for b in np.argsort(end)[-1:-21:-1].tolist():
                    if offsets[a] is not None and offsets[b] is not None and a <= b < a + 30:
                        spans.append((start[a] + end[b], row["context"][offsets[a][0] : offsets[b][1]]))
        score, text = max(spans, key=lambda s: s[0], default=(-np.inf, ""))
        said.append({"id": str(example), "prediction_text": "" if v2 and nothing > score else text})
        gold.append({"id": str(example), "answers": row["answers"]})
    return unpad.load_metric("squad_v2" if v2 else "squad").compute(predictions=said, references=gold)


@pytest.mark.parametrize("answerable", [True, False])
def test_figures_equal_those_of_the_plain_loops_over_all_logits(tokenizer: Any, answerable: bool) -> None:
    rows = unpad.load_dataset("helpdesk/questions")["validation"].select(range(40))
    if not answerable:
        rows = rows.map(lambda row, i: {"answers": {"text": row["answers"]["text"][: i % 2], "answer_start": row["answers"]["answer_start"][: i % 2]}}, with_indices=True)  # fmt: skip
    done = prepared(rows, tokenizer, max_length=32, stride=8)
    judge = TASK.metrics(None, done.notes["validation"])  # type: ignore[arg-type]
    assert judge is not None
    draw = np.random.default_rng(3)
    logits = []
    for row in done.data["validation"]:  # right answers are likely
        one = draw.normal(size=(len(row["input_ids"]), 2)).astype(np.float32)
        if draw.random() < 0.7:
            one[row["start_positions"], 0] += 4
            one[row["end_positions"], 1] += 4
        logits.append(one)
    assert len(logits) > 50
    order = draw.permutation(len(logits))
    for part in np.array_split(order, 7):
        longest = max(len(logits[i]) for i in part)
        batch = np.full((len(part), longest, 2), -100, np.float32)
        for place, i in enumerate(part):
            batch[place, : len(logits[i])] = logits[i]
        reduced = judge.reduce(torch.from_numpy(batch)).numpy()
        assert reduced.shape[1] <= 81, "a few numbers for each window, however long it is"
        judge.add_batch(predictions=reduced, references=None, rows=part)  # type: ignore[call-arg]
    figures = judge.compute()
    expected = _figures_by_steps(rows, done, logits, tokenizer, 32, 8)
    assert figures["exact_match"] == pytest.approx(expected["exact_match" if answerable else "exact"])
    assert 5 < figures["exact_match"] < 95
    more = {"HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_f1"}
    assert set(figures) == {"exact_match", "f1"} | (set() if answerable else more)
    for name in set(figures) - {"exact_match"}:
        assert figures[name] == pytest.approx(expected[name])


# ---- the way of the Hugging Face course


def test_features_made_by_hand_train_and_predict_as_in_the_course(tiny: str, tmp_path: Path) -> None:
    tokenizer, raw = unpad.AutoTokenizer.from_pretrained(tiny), unpad.load_dataset("helpdesk/questions")
    train, validation = raw["train"].select(range(40)), raw["validation"].select(range(20))

    def encode(examples: Any) -> Any:
        return tokenizer(
            [q.strip() for q in examples["question"]], examples["context"], max_length=48, truncation="only_second", stride=12,
            return_overflowing_tokens=True, return_offsets_mapping=True, padding="max_length",
        )  # fmt: skip

    def for_training(examples: Any) -> Any:
        inputs = encode(examples)
        offsets, samples = inputs.pop("offset_mapping"), inputs.pop("overflow_to_sample_mapping")
        ends = [(a["answer_start"][0], a["answer_start"][0] + len(a["text"][0])) for a in examples["answers"]]
        places = [_positions_by_steps(o, inputs.sequence_ids(i), *ends[samples[i]]) for i, o in enumerate(offsets)]  # fmt: skip
        inputs["start_positions"], inputs["end_positions"] = map(list, zip(*places, strict=True))
        return inputs

    def for_validation(examples: Any) -> Any:
        inputs = encode(examples)
        samples = inputs.pop("overflow_to_sample_mapping")
        inputs["example_id"] = [examples["id"][i] for i in samples]
        inputs["offset_mapping"] = [
            [list(o) if s == 1 else None for o, s in zip(row, inputs.sequence_ids(i), strict=True)]
            for i, row in enumerate(inputs["offset_mapping"])
        ]
        return inputs

    train_dataset = train.map(for_training, batched=True, remove_columns=train.column_names)
    validation_dataset = validation.map(for_validation, batched=True, remove_columns=validation.column_names)
    ours = prepared(train, tokenizer, max_length=48, stride=12).data["train"]
    assert ours["start_positions"] == train_dataset["start_positions"]
    args = unpad.TrainingArguments(
        str(tmp_path), max_steps=6, learning_rate=1e-3, disable_tqdm=True, draw_curves=False, save_strategy="no", precision="fp32",
    )  # fmt: skip
    model = unpad.AutoModelForQuestionAnswering.from_pretrained(tiny)
    trainer = unpad.Trainer(model, args, train_dataset=train_dataset, eval_dataset=validation_dataset, tokenizer=tokenizer)  # fmt: skip
    assert np.isfinite(trainer.train().training_loss)
    predictions, _, _ = trainer.predict(validation_dataset)
    start_logits, end_logits = predictions
    assert start_logits.shape == end_logits.shape and len(start_logits) == len(validation_dataset)
    lengths = [sum(mask) for mask in validation_dataset["attention_mask"]]
    logits = [np.stack([s[:n], e[:n]], 1) for s, e, n in zip(start_logits, end_logits, lengths, strict=True)]
    expected = _figures_by_steps(validation, None, logits, tokenizer, 48, 12)
    done = prepared(validation, tokenizer, max_length=48, stride=12)
    trainer.compute_metrics = TASK.metrics(model.config, done.notes["validation"])
    found = trainer.evaluate(done.data["validation"])
    assert found["eval_exact_match"] == pytest.approx(expected["exact_match"])
    assert found["eval_f1"] == pytest.approx(expected["f1"])


# ---- the command line


def test_train_evaluate_and_predict_work_on_the_bundled_questions(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--data", "helpdesk/questions", "--train_split", "train[:64]", "--eval_split", "validation[:16]", "--max_length", "48"]  # fmt: skip
    fixed = ["--model", tiny, "--max_steps", "3", "--disable_tqdm", "--draw_curves", "false", "--output_dir", "run"]  # fmt: skip
    assert main(["train", "question-answering", *words, *fixed, "--stride", "10"]) == 0
    shown = capsys.readouterr().out
    assert "exact_match" in shown and "examples" in shown
    assert main(["evaluate", "--model", "run"]) == 0
    record = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    history = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    last = next(line for line in reversed(history) if "eval_f1" in line)
    assert record["metrics"]["f1"] == pytest.approx(last["eval_f1"], abs=1e-6)
    capsys.readouterr()
    assert main(["predict", "--model", "run", "--text", "Where is it?", "--text_pair", ROWS[0]["context"]]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["answer"] == ROWS[0]["context"][answer["start"] : answer["end"]] != ""
    assert set(answer) == {"text", "text_pair", "score", "start", "end", "answer"}


def test_examples_for_people_count_any_right_answer(tokenizer: Any) -> None:
    columns = TASK.columns(unpad.load_dataset(ROWS))
    for row, said, truth, right in (
        (ROWS[1], "Rosen", "Mei Rosen", True), (ROWS[1], "called", "Mei Rosen", False), (ROWS[2], "", "(no answer)", True),
    ):  # fmt: skip
        example = TASK.example(row, {"answer": said}, columns, None)  # type: ignore[arg-type]
        assert (example.texts, example.truth, example.right) == ([row["question"], row["context"]], truth, right)  # fmt: skip


def test_the_side_on_which_a_tokenizer_pads_changes_nothing(tiny: str, tmp_path: Path) -> None:
    """Decoders' tokenizers pad left; windows, answers and scores are the same, since nothing is padded."""
    found = []
    for side in ("right", "left"):
        own = unpad.AutoTokenizer.from_pretrained(tiny, padding_side=side)
        pipe = unpad.pipeline(
            "question-answering", tiny, own, device="cpu", precision="fp32", max_seq_len=24, doc_stride=4, top_k=3
        )
        asked = [(row["question"], row["context"] * 3) for row in ROWS]
        done = prepared(ROWS, own, max_length=24, stride=4)
        trainer = unpad.Trainer(
            unpad.AutoModelForQuestionAnswering.from_pretrained(tiny), unpad.TrainingArguments(str(tmp_path), use_cpu=True, precision="fp32"),
            compute_metrics=TASK.metrics(None, done.notes["train"]), processing_class=own,
        )  # fmt: skip
        figures = trainer.evaluate(done.data["train"])
        found.append(
            (
                pipe(asked),
                done.data["train"][:],
                {k: v for k, v in figures.items() if "per_second" not in k and "runtime" not in k},
            )
        )
    assert found[0] == found[1]
