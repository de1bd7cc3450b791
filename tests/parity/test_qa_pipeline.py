"""`pipeline("question-answering")` answers as `transformers` does on the same model: spans, scores, windows, words.

The oracle reads one window after the other, padded by nothing, with the tokenizer, the model and the scoring of `transformers`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.pipelines.document_question_answering import select_starts_ends

import unpad
from unpad.tasks._spans import best_spans

CONTEXT = (
    "The Panthers' defence gave up just 308 points, ranking sixth, and led the league in interceptions with 24. "
    "Kawann Short led the team in sacks — eleven — while Thomas Davis, 32, came back from three torn ligaments."
)
QUESTIONS = ["How many points did the defence surrender?", "Who had eleven sacks?", "Wer?"]


def _oracle(folder: str, question: str, context: str, **options: Any) -> list[dict[str, Any]]:
    """The ranked answers; a span that several windows show (or several pieces of one word) counts once."""
    chosen = {"top_k": 1, "handle_impossible_answer": False, "max_answer_len": 15, "doc_stride": 128, "max_seq_len": 384} | options  # fmt: skip
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    encoded = tokenizer(
        question, context, truncation="only_second", max_length=chosen["max_seq_len"], stride=chosen["doc_stride"],
        return_overflowing_tokens=True,
    )  # fmt: skip
    best: dict[tuple[int, int], float] = {}
    nothing = 1e6
    for window, encoding in enumerate(encoded.encodings):
        inputs = {n: torch.tensor([encoded[n][window]]) for n in tokenizer.model_input_names}
        with torch.no_grad():
            output = model(**inputs)
        hidden = [of != 1 for of in encoding.sequence_ids]
        hidden[0] = False
        firsts, lasts, scores, nothing = select_starts_ends(
            output.start_logits.numpy(), output.end_logits.numpy(), np.array(hidden)[None].astype(int), np.ones((1, len(hidden)), int),
            nothing, 400, chosen["handle_impossible_answer"], chosen["max_answer_len"],
        )  # fmt: skip
        for first, last, score in zip(firsts, lasts, scores, strict=True):
            if score > 0:  # 0: the first token, and ends before starts
                words = encoding.token_to_word(int(first)), encoding.token_to_word(int(last))
                span = encoding.word_to_chars(words[0], 1)[0], encoding.word_to_chars(words[1], 1)[1]
                best[span] = max(best.get(span, 0.0), float(score))
    found: list[dict[str, Any]] = [
        {"score": s, "start": a, "end": b, "answer": context[a:b]} for (a, b), s in best.items()
    ]
    if chosen["handle_impossible_answer"]:
        found.append({"score": nothing, "start": 0, "end": 0, "answer": ""})
    return sorted(found, key=lambda answer: -answer["score"])[: chosen["top_k"]]


def _same(ours: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert [list(a) for a in ours] == [["score", "start", "end", "answer"]] * len(expected)
    for a, b in zip(ours, expected, strict=True):
        assert {n: a[n] for n in ("start", "end", "answer")} == {n: b[n] for n in ("start", "end", "answer")}
        assert a["score"] == pytest.approx(b["score"], rel=1e-4, abs=1e-9)
        assert [type(value) for value in a.values()] == [float, int, int, str]


@pytest.fixture(scope="module")
def folders(minilm: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A random small BERT and a MiniLM of two layers, whose random heads are sharp enough to prefer some spans clearly."""
    tokenizer, out = transformers.AutoTokenizer.from_pretrained(minilm), {}
    torch.manual_seed(1)
    small = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=512, initializer_range=0.3,
    )  # fmt: skip
    models = {
        "small": transformers.BertForQuestionAnswering(small),
        "minilm": transformers.BertForQuestionAnswering.from_pretrained(minilm, num_hidden_layers=2),
    }
    for name, model in models.items():
        torch.nn.init.normal_(model.qa_outputs.weight, std=0.4)
        out[name] = str(tmp_path_factory.mktemp(name))
        model.save_pretrained(out[name])
        tokenizer.save_pretrained(out[name])
    return out


def _pipe(folder: str, **options: Any) -> Any:
    return unpad.pipeline("question-answering", model=folder, precision="fp32", device="cpu", **options)


@pytest.mark.parametrize("name", ["small", "minilm"])
@pytest.mark.parametrize(
    "options",
    [
        {}, {"top_k": 5}, {"top_k": 3, "handle_impossible_answer": True}, {"handle_impossible_answer": True, "max_answer_len": 1},
        {"top_k": 4, "max_seq_len": 40, "doc_stride": 8}, {"max_seq_len": 32, "doc_stride": 0, "max_answer_len": 3},
    ],
)  # fmt: skip
def test_answers_equal_those_of_transformers(folders: dict[str, str], name: str, options: dict[str, Any]) -> None:
    pipe, folder = _pipe(folders[name]), folders[name]
    for question in QUESTIONS:
        found = pipe(question=question, context=CONTEXT, **options)
        assert isinstance(found, list) == (options.get("top_k", 1) > 1)
        _same(found if isinstance(found, list) else [found], _oracle(folder, question, CONTEXT, **options))


def test_answers_from_real_contexts_of_any_length_equal_those_of_transformers(
    folders: dict[str, str], real_data: Path
) -> None:
    for language, rows in (("en", range(0, 1190, 300)), ("de", range(40, 1190, 500))):
        data = unpad.load_dataset(str(real_data / "xquad" / f"{language}.parquet"))["train"].select(rows)
        contexts = [*data["context"][:-1], " ".join(data["context"])]  # the last is longer than the model
        pairs = [{"question": q, "context": c} for q, c in zip(data["question"], contexts, strict=True)]
        found = _pipe(folders["minilm"])(pairs, top_k=2)
        for pair, answers in zip(pairs, found, strict=True):
            _same(answers, _oracle(folders["minilm"], **pair, top_k=2))
            assert all(pair["context"][a["start"] : a["end"]] == a["answer"] for a in answers)


def test_every_way_to_ask_gives_the_same_answers(folders: dict[str, str]) -> None:
    pipe = _pipe(folders["small"])
    alone = [pipe(question=q, context=CONTEXT) for q in QUESTIONS]
    assert all(isinstance(answer, dict) for answer in alone)
    rows = [{"question": q, "context": CONTEXT} for q in QUESTIONS]
    assert pipe(rows[0]) == pipe((QUESTIONS[0], CONTEXT)) == pipe(QUESTIONS[0], context=CONTEXT) == alone[0]
    contexts = [CONTEXT] * len(rows)
    many = [
        pipe(rows), pipe([tuple(row.values()) for row in rows]), pipe(question=QUESTIONS, context=CONTEXT),
        pipe(question=QUESTIONS, context=contexts), pipe({"question": QUESTIONS, "context": contexts}), list(pipe(iter(rows))),
        list(pipe(unpad.load_dataset(rows)["train"])),
    ]  # fmt: skip
    for found in many:
        for a, b in zip(found, alone, strict=True):
            assert {**a, "score": 0} == {**b, "score": 0}
            assert a["score"] == pytest.approx(b["score"], rel=1e-4)
    assert pipe([]) == []


def test_options_of_the_pipeline_hold_for_its_calls(folders: dict[str, str]) -> None:
    pipe = _pipe(folders["small"], top_k=3, max_answer_len=2)
    assert len(pipe(question=QUESTIONS[0], context=CONTEXT)) == 3
    assert isinstance(pipe(question=QUESTIONS[0], context=CONTEXT, top_k=1), dict)


def test_long_questions_are_cut_and_that_is_said(folders: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    pipe = _pipe(folders["small"])
    long = pipe(question="Who " * 100, context=CONTEXT)
    assert any("1 of 1 questions were longer than max_question_len=64" in r.getMessage() for r in caplog.records)  # fmt: skip
    short = pipe(question=("Who " * 64).strip(), context=CONTEXT)
    assert {**long, "score": 0} == {**short, "score": 0}


def test_a_context_without_a_single_token_has_no_answer(folders: dict[str, str]) -> None:
    found = _pipe(folders["small"])([(QUESTIONS[0], "\u200d"), (QUESTIONS[1], CONTEXT)])
    assert found[0] == {"score": 0.0, "start": 0, "end": 0, "answer": ""}
    assert found[1]["answer"]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 14), st.integers(1, 30))
def test_the_best_spans_are_those_of_a_search_over_all_pairs(seed: int, tokens: int, longest: int, most: int) -> None:
    chances = np.random.default_rng(seed).random((2, 3, tokens)).astype(np.float32)
    firsts, lasts, scores = best_spans(chances[0], chances[1], most, longest)
    for row in range(3):
        every = [
            (-chances[0, row, a] * chances[1, row, b], a, b)
            for a in range(tokens)
            for b in range(a, min(a + longest, tokens))
        ]
        expected = sorted(every)[:most]
        found = list(zip(-scores[row], firsts[row], lasts[row], strict=True))[: len(expected)]
        assert found == expected
