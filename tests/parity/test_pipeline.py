"""`unpad.pipeline` answers what `transformers.pipeline` answers: the same shapes, labels and scores, on random small models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unpad
from unpad.pipelines import _pipeline

TEXTS = [
    "I've been waiting for this my whole life.", "I hate this so much!", "", "ok", "Ünïcødé — 你好, мир 🙂", "a b c " * 30,
]  # fmt: skip
PAIR = {"text": "How do I cancel?", "text_pair": "Cancelling my plan, how?"}
CONFIGS: dict[str, dict[str, Any]] = {
    "two labels": {"id2label": {0: "NEGATIVE", 1: "POSITIVE"}, "label2id": {"NEGATIVE": 0, "POSITIVE": 1}},
    "five labels": {"num_labels": 5},
    "single label by problem_type": {"num_labels": 3, "problem_type": "single_label_classification"},
    "several labels": {"num_labels": 4, "problem_type": "multi_label_classification"},
    "regression": {"num_labels": 1, "problem_type": "regression"},
    "one output": {"num_labels": 1},
    "several numbers": {"num_labels": 3, "problem_type": "regression"},
}


@pytest.fixture(scope="module")
def folders(minilm: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A random small model and a real tokenizer for each configuration, as `transformers` saves them."""
    out = {}
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    for i, (name, labels) in enumerate(CONFIGS.items()):
        torch.manual_seed(i)
        config = transformers.BertConfig(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
            max_position_embeddings=512, initializer_range=0.2, **labels,
        )  # fmt: skip
        folder = tmp_path_factory.mktemp("model")
        transformers.BertForSequenceClassification(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        out[name] = str(folder)
    return out


def both(folder: str, **options: Any) -> tuple[Any, Any]:
    theirs = transformers.pipeline("text-classification", model=folder, device="cpu", **options)
    return unpad.pipeline("text-classification", model=folder, precision="fp32", device="cpu", **options), theirs


def same(ours: Any, theirs: Any) -> None:
    """Equal shapes, labels and order; scores within 1e-5."""
    assert type(ours) is type(theirs)
    if isinstance(ours, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            same(a, b)
    else:
        assert list(ours) == list(theirs) == ["label", "score"]
        assert type(ours["score"]) is float
        assert ours["label"] == theirs["label"]
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_answers_equal_those_of_transformers_for_every_kind_of_model(folders: dict[str, str], name: str) -> None:
    ours, theirs = both(folders[name])
    for options in ({}, {"top_k": 1}, {"top_k": 2}, {"top_k": None}, {"top_k": 99}):
        for inputs in (TEXTS[0], TEXTS, TEXTS[:1], PAIR, [PAIR, *TEXTS[:2]], [PAIR]):
            same(ours(inputs, **options), theirs(inputs, **options))
    for function in ("softmax", "sigmoid", "none"):
        same(ours(TEXTS, function_to_apply=function), theirs(TEXTS, function_to_apply=function))
        same(
            ours(TEXTS[0], function_to_apply=function, top_k=None),
            theirs(TEXTS[0], function_to_apply=function, top_k=None),
        )


@pytest.mark.parametrize("options", [{"top_k": 1}, {"top_k": None}, {"top_k": 2, "function_to_apply": "sigmoid"}])
def test_options_of_the_pipeline_hold_for_its_calls_and_yield_to_theirs(
    folders: dict[str, str], options: dict[str, Any]
) -> None:
    ours, theirs = both(folders["five labels"], **options)
    for inputs in (TEXTS[0], TEXTS, PAIR):
        same(ours(inputs), theirs(inputs))
        same(ours(inputs, top_k=3), theirs(inputs, top_k=3))
        same(ours(inputs, function_to_apply=None), theirs(inputs, function_to_apply=None))


def test_long_texts_are_cut_as_transformers_cuts_them(folders: dict[str, str]) -> None:
    ours, theirs = both(folders["five labels"])
    long = ["word " * 2000, "short", {"text": "one " * 600, "text_pair": "two " * 400}]
    same(ours(long, top_k=None), [theirs(x, top_k=None, truncation=True, max_length=512) for x in long])
    same(ours(TEXTS, truncation=True, max_length=8), theirs(TEXTS, truncation=True, max_length=8))


def test_a_generator_gives_the_same_answers_as_in_transformers(folders: dict[str, str]) -> None:
    ours, theirs = both(folders["two labels"])
    same(list(ours(t for t in TEXTS)), list(theirs(t for t in TEXTS)))


@pytest.fixture(scope="module")
def small(folders: dict[str, str]) -> Any:
    return unpad.pipeline(model=folders["five labels"], precision="fp32", device="cpu", top_k=None)


words = st.lists(st.sampled_from(["good", "bad", "the", "Quillpad", "!", "é", "你"]), max_size=40).map(" ".join)
inputs = st.one_of(words, st.tuples(words, words), st.fixed_dictionaries({"text": words, "text_pair": words}))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_=st.lists(inputs, max_size=25), budget=st.integers(1, 300), window=st.integers(1, 10))
def test_batching_never_changes_an_answer_or_its_place(
    small: Any, monkeypatch: pytest.MonkeyPatch, given_: list[Any], budget: int, window: int
) -> None:
    """A list equals its inputs one by one, whatever the token budget and the window, as a list and as a stream."""
    alone = [small(one, top_k=5) for one in given_]
    monkeypatch.setattr(small, "max_tokens", budget)
    monkeypatch.setattr(_pipeline, "WINDOW", window)
    for found in (small(given_), list(small(iter(given_)))):
        assert len(found) == len(alone)
        for a, b in zip(found, alone, strict=True):
            scores = {x["label"]: x["score"] for x in b}
            assert [x["score"] for x in a] == sorted((x["score"] for x in a), reverse=True)
            assert {x["label"] for x in a} == set(scores)
            np.testing.assert_allclose([x["score"] for x in a], [scores[x["label"]] for x in a], atol=1e-5)


def test_a_data_set_and_its_column_are_answered_in_order(small: Any) -> None:
    rows = {"text": [*TEXTS, *TEXTS[::-1]], "idx": list(range(2 * len(TEXTS)))}
    data = unpad.load_dataset({"test": rows}, split="test")
    expected = small(rows["text"])
    for many in (data, data["text"], data.select(range(len(data))).with_format("numpy"), data.to_iterable_dataset()):
        found = small(many)
        assert iter(found) is found, "answers come as they are read"
        for a, b in zip(found, expected, strict=True):
            same(a, b)
    pairs = unpad.load_dataset({"sentence1": TEXTS, "sentence2": TEXTS[::-1], "label": [0] * len(TEXTS)}, split="train")
    same(list(small(pairs)), small(list(zip(TEXTS, TEXTS[::-1], strict=True))))
    same(small(np.array(TEXTS)), small(TEXTS))
    assert next(small(iter(["text"])))[0]["score"] == small(["text"])[0][0]["score"]


def test_a_stream_is_read_only_as_far_as_it_is_consumed(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pipeline, "WINDOW", 3)
    read = []

    def endless() -> Any:
        while True:
            read.append(len(read))
            yield f"text {len(read)}"

    stream = small(endless())
    assert read == []
    next(stream), next(stream)
    assert len(read) == 3


def test_truncated_inputs_are_counted_in_one_line(small: Any, caplog: pytest.LogCaptureFixture) -> None:
    def lines(run: Any) -> list[str]:
        caplog.clear()
        run()
        return [r.getMessage() for r in caplog.records if "cut" in r.getMessage()]

    inputs = ["word " * 1000, "fine", "word " * 700, ""]
    found = lines(lambda: small(inputs))
    assert len(found) == 1
    assert "2 of 4 inputs (50.0%) were longer than 512 tokens" in found[0]
    assert lines(lambda: list(small(iter(inputs)))) == found
    assert len(lines(lambda: small(inputs[0]))) == 1
    assert lines(lambda: small(["fine", "too"])) == []


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        (["fine", None], "input 1 is None"), (["fine", 3.5], "input 1 is 3.5 (float)"), (None, "input 0 is None"),
        ([float("nan")], "input 0 is nan"), ([("a", None)], "second text of input 0 is None"), (b"x", "decode"),
        ([{"txt": "a"}], "has the key 'txt'"), ([{}], "no key 'text'"), (("a",), "pair as (a, b)"), ([["a", "b"]], "pair as (a, b)"),
        (["a", "\ud800"], "half of a character"),
    ],
)  # fmt: skip
def test_what_is_no_text_is_named_in_one_line(small: Any, wrong: Any, part: str) -> None:
    with pytest.raises(unpad.DataError) as error:
        small(wrong)
    assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_the_row_of_a_stream_is_named_by_its_place_in_the_whole_stream(
    small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pipeline, "WINDOW", 3)
    stream = small(iter(["a", "b", "c", "d", None]))
    assert [next(stream) for _ in range(3)]
    with pytest.raises(unpad.DataError, match="input 4 is None"):
        next(stream)


def test_nothing_in_gives_nothing_out_and_empty_texts_are_answered(small: Any) -> None:
    assert small([]) == []
    assert list(small(iter([]))) == []
    assert len(small([""])) == 1


def test_a_model_that_is_being_trained_answers_without_dropout_and_stays_in_training(folders: dict[str, str]) -> None:
    model = unpad.AutoModelForSequenceClassification.from_pretrained(folders["five labels"])
    pipe = unpad.pipeline("text-classification", model=model, precision="fp32")
    expected = pipe(TEXTS)
    model.train()
    assert pipe(TEXTS) == expected
    assert model.training


def test_task_and_tokenizer_are_found_from_the_model(folders: dict[str, str]) -> None:
    folder = folders["two labels"]
    expected = unpad.pipeline("sentiment-analysis", model=folder)(TEXTS)
    model = unpad.AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = unpad.AutoTokenizer.from_pretrained(folder)
    for pipe in (
        unpad.pipeline(model=folder), unpad.pipeline(model=Path(folder)), unpad.pipeline(model=model),
        unpad.pipeline(model=model, tokenizer=tokenizer), unpad.pipeline(model=folder, tokenizer=folder, device=-1),
    ):  # fmt: skip
        assert pipe.task == "text-classification"
        assert pipe(TEXTS, batch_size=2) == expected


def test_what_cannot_be_built_is_refused_in_one_line(folders: dict[str, str], minilm: str, tmp_path: Path) -> None:
    folder = folders["two labels"]
    model = unpad.AutoModelForSequenceClassification.from_pretrained(folder)
    model.save_pretrained(tmp_path)  # without a tokenizer
    fresh = unpad.AutoModelForSequenceClassification.from_config(model.config)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"task": "sentiment"}, "there is no task 'sentiment'"),
        ({"task": "text-clasification"}, "did you mean 'text-classification'"),
        ({}, "needs a task or a model"),
        ({"task": "sentiment-analysis"}, "pass model="),
        ({"model": str(tmp_path)}, "pass tokenizer="),
        ({"model": fresh}, "pass tokenizer="),
        ({"model": minilm}, "tells no task"),
        ({"model": unpad.AutoModel.from_pretrained(minilm)}, "no head"),
        ({"task": "text-classification", "model": unpad.AutoModel.from_pretrained(minilm)}, "cannot do"),
        ({"model": torch.nn.Linear(1, 1)}, "Linear"),
        ({"model": 7}, "model is a int"),
        ({"model": folder, "tokenizer": 7}, "tokenizer is a int"),
        ({"model": folder, "topk": 2}, "did you mean 'top_k'"),
        ({"model": folder, "top_k": 0}, "top_k=0"),
        ({"model": folder, "function_to_apply": "sofmax"}, "did you mean 'softmax'"),
        ({"model": folder, "max_tokens": 0}, "max_tokens=0"),
        ({"model": folder, "device": "gpu"}, "device='gpu'"),
        ({"model": folder, "device": 99}, "device=99"),
        ({"model": folder, "precision": "fp8"}, "precision='fp8'"),
        ({"model": folder, "trust_remote_code": True}, "trust_remote_code"),
    ]
    for arguments, part in cases:
        with pytest.raises(unpad.UnpadError) as error:
            unpad.pipeline(**arguments)
        assert part in str(error.value), arguments
        assert "\n" not in str(error.value)
    pipe = unpad.pipeline(model=folder)
    for options, part in (({"max_length": 513}, "1..512"), ({"top_k": -1}, "top_k=-1"), ({"batchsize": 8}, "no option 'batchsize'")):  # fmt: skip
        with pytest.raises(unpad.ArgumentError, match=part):
            pipe(iter(["refused before anything is read"]), **options)
    with pytest.raises(unpad.DataError, match="input 1 has 702 tokens"):
        pipe(["fine", "word " * 700], truncation=False)
    with pytest.raises(unpad.DataError, match="one split"):
        pipe(unpad.load_dataset("helpdesk"))


def test_a_tokenizer_of_another_checkpoint_is_refused_on_the_host(folders: dict[str, str]) -> None:
    tokenizer = unpad.AutoTokenizer.from_pretrained(folders["two labels"])
    tokenizer.add_tokens(["quillpadish"])
    pipe = unpad.pipeline(model=folders["two labels"], tokenizer=tokenizer)
    assert pipe("known words")
    with pytest.raises(unpad.DataError, match="not of the same checkpoint"):
        pipe("a quillpadish word")


def test_a_head_that_was_never_trained_is_said(minilm: str, caplog: pytest.LogCaptureFixture) -> None:
    unpad.pipeline("text-classification", model=minilm)
    assert any("mean nothing" in r.getMessage() for r in caplog.records)
