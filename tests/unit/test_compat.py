"""Old spellings do what today's do, or are refused in one line that gives today's; old results have their old shapes."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import unpad
from unpad import ArgumentError, DataError, TrainingArguments, UnpadError, evaluate, load_metric, notices
from unpad.compat import ALIASES, CHANGED, GONE, IDLE, NAMES, REFUSED, modern
from unpad.text.formats import FAMILIES
from unpad.text.tokenizer import Tokenizer


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(notices, "_said", set())
    monkeypatch.setattr(notices.logger, "propagate", True)
    caplog.set_level(logging.INFO, logger="unpad")
    return caplog


@pytest.fixture(scope="module")
def tokenizer(minilm: str) -> Tokenizer:
    return unpad.AutoTokenizer.from_pretrained(minilm)


# ---- keywords


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"evaluation_strategy": "epoch"}, {"eval_strategy": "epoch"}),
        ({"evaluation_strategy": "step"}, {"eval_strategy": "steps"}),
        ({"evaluate_during_training": True}, {"eval_strategy": "steps"}),
        ({"evaluate_during_training": False}, {}),
        ({"per_gpu_train_batch_size": 3, "per_gpu_eval_batch_size": 5}, {"per_device_train_batch_size": 3, "per_device_eval_batch_size": 5}),
        ({"no_cuda": True}, {"use_cpu": True}),
        ({"optim": "adamw_hf"}, {"optim": "adamw_torch"}),
        ({"push_to_hub_model_id": "me/model", "push_to_hub_token": "t"}, {"hub_model_id": "me/model", "hub_token": "t"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [TrainingArguments, unpad.Seq2SeqTrainingArguments])
def test_an_old_argument_is_todays(kind: type[TrainingArguments], old: dict[str, Any], new: dict[str, Any]) -> None:
    assert kind("folder", **old) == kind("folder", **new)


def test_what_steers_nothing_is_accepted_and_said(said: pytest.LogCaptureFixture) -> None:
    idle = dict.fromkeys(IDLE["TrainingArguments"], "anything")
    assert TrainingArguments("folder", **idle) == TrainingArguments("folder")
    assert all(f"TrainingArguments: {name} has no effect here" in said.text for name in idle)


@pytest.mark.parametrize(("where", "name"), [(where, name) for where, table in REFUSED.items() for name in table])
def test_what_would_change_the_result_is_refused_unless_it_is_off(where: str, name: str) -> None:
    with pytest.raises(ArgumentError, match=f"{where}: {name}='on' is not"):
        modern(where, {name: "on"})
    for off in (False, None, 0, ""):
        assert modern(where, {name: off}) == {}


def test_no_old_spelling_hides_a_name_of_today() -> None:
    fields = {f.name for f in dataclasses.fields(unpad.Seq2SeqTrainingArguments)}
    assert not fields & {*IDLE["TrainingArguments"], *REFUSED["TrainingArguments"]}
    assert fields & {*CHANGED["TrainingArguments"]} == {"optim"}, "a name of today with an old value"
    for where in {*ALIASES, *CHANGED, *IDLE, *REFUSED}:
        tables = [set(table.get(where, ())) for table in (ALIASES, CHANGED, IDLE, REFUSED)]
        assert sum(map(len, tables)) == len(set().union(*tables)), f"a keyword of {where} stands in two tables"


def test_both_spellings_at_once_are_refused_whatever_their_order() -> None:
    pair = [("grouped_entities", True), ("aggregation_strategy", "max")]
    for given_in in (pair, pair[::-1]):
        with pytest.raises(ArgumentError, match="give only one of them"):
            modern("pipeline", dict(given_in))


# ---- names


def test_each_tokenizer_class_that_can_be_read_is_importable_under_its_names() -> None:
    for name in FAMILIES:
        assert getattr(unpad, name) is getattr(unpad, f"{name}Fast") is unpad.AutoTokenizer


def test_every_old_name_leads_to_a_public_one() -> None:
    assert set(NAMES.values()) <= set(unpad.PUBLIC) and not {*NAMES, *GONE} & set(unpad.PUBLIC)


@pytest.mark.parametrize("name", sorted(GONE))
def test_a_name_that_is_gone_says_what_to_write(name: str) -> None:
    with pytest.raises(ImportError, match=f"unpad has no {name}; write "):
        exec(f"from unpad import {name}")
    first = GONE[name].split("(")[0].split(",")[0]
    source = datasets if first.startswith("from datasets") else unpad
    assert hasattr(source, first.split()[-1]) or first.split(".")[0] == "evaluate" or first.startswith("eval_strategy")


def test_adamw_of_the_top_level_steps_like_pytorchs_with_its_own_defaults() -> None:
    start = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    found = unpad.AdamW([ours], no_deprecation_warning=True)
    expected = torch.optim.AdamW([theirs], lr=1e-3, eps=1e-6, weight_decay=0.0)
    assert isinstance(found, torch.optim.AdamW)
    for step in range(4):
        for parameter, optimizer in ((ours, found), (theirs, expected)):
            parameter.grad = (parameter.detach() * (step + 1)).sin() * 1e-5  # so small that eps matters
            optimizer.step()
    assert torch.equal(ours, theirs) and not torch.equal(ours, start)
    with pytest.raises(ArgumentError, match="correct_bias=False is not supported"):
        unpad.AdamW([ours], correct_bias=False)


# ---- tokenizers

TEXTS = st.lists(st.text("abc de.", max_size=30), min_size=1, max_size=4)


@settings(max_examples=30, deadline=None)
@given(TEXTS, st.integers(4, 12))
def test_older_calls_of_a_tokenizer_give_what_todays_give(tokenizer: Tokenizer, texts: list[str], most: int) -> None:
    padded = tokenizer(texts, padding="max_length", truncation=True, max_length=most)
    old = {"pad_to_max_length": True, "max_length": most}
    assert tokenizer.batch_encode_plus(texts, **old) == padded
    assert tokenizer(texts, **old, truncation_strategy="longest_first", verbose=False) == padded
    assert tokenizer(texts, pad_to_max_length=True) == tokenizer(texts, padding=True)
    assert tokenizer(texts, pad_to_max_length=False) == tokenizer(texts)
    pairs = [(text, text[::-1]) for text in texts]
    assert tokenizer.batch_encode_plus(pairs) == tokenizer(texts, [text[::-1] for text in texts])
    assert tokenizer.encode_plus(*pairs[0], return_token_type_ids=False) == tokenizer(
        *pairs[0], return_token_type_ids=False
    )
    words = [text.split() or ["a"] for text in texts]
    assert tokenizer(words, is_pretokenized=True) == tokenizer(words, is_split_into_words=True)
    both = tokenizer.prepare_seq2seq_batch(texts, tgt_texts=texts[::-1], max_length=most, max_target_length=5)
    assert both["input_ids"] == tokenizer(texts, padding=True, truncation=True, max_length=most)["input_ids"]
    assert (
        both["labels"] == tokenizer(text_target=texts[::-1], padding=True, truncation=True, max_length=5)["input_ids"]
    )


def test_an_option_that_never_was_is_named_with_the_nearest(tokenizer: Tokenizer) -> None:
    with pytest.raises(ArgumentError, match=r"no argument 'trunkation'; did you mean 'truncation'\?"):
        tokenizer("a", trunkation=True)


FORMS: dict[str, Callable[[list[Any]], Any]] = {
    "tuple": tuple,
    "column": lambda rows: datasets.Dataset.from_dict({"x": rows})["x"],
    "column of torch": lambda rows: datasets.Dataset.from_dict({"x": rows}).with_format("torch")["x"],
    "column of numpy": lambda rows: datasets.Dataset.from_dict({"x": rows}).with_format("numpy")["x"],
    "column of pandas": lambda rows: datasets.Dataset.from_dict({"x": rows}).with_format("pandas")["x"],
    "column of arrow": lambda rows: datasets.Dataset.from_dict({"x": rows}).with_format("arrow")["x"],
    "series": pd.Series,
    "objects": lambda rows: pd.Series(rows, dtype=object).to_numpy(),
    "arrow": pa.array,
    "chunks": lambda rows: pa.chunked_array([rows[:1], rows[1:]]),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_column_of_any_library_is_read_as_a_list_is(tokenizer: Tokenizer, form: str) -> None:
    first, second = ["one text", "and two", ""], ["a second", "b", "c c c"]
    make = FORMS[form]
    assert tokenizer(make(first)) == tokenizer(first)
    assert tokenizer(make(first), make(second)) == tokenizer(first, second) == tokenizer(make(first), second)
    assert tokenizer(text_target=make(first)) == tokenizer(text_target=first)
    words = [["one", "text"], ["two"], ["and", "three", "four"]]
    assert tokenizer(make(words), is_split_into_words=True) == tokenizer(words, is_split_into_words=True)


def test_arrays_of_text_and_single_texts_of_numpy_are_read(tokenizer: Tokenizer) -> None:
    texts = ["one text", "and two"]
    assert tokenizer(np.array(texts)) == tokenizer(np.array(texts, dtype=object)) == tokenizer(texts)
    assert tokenizer(np.str_("one text")) == tokenizer("one text")


class Lazy(Sequence):
    """A column whose single rows are dear: only slices may be read."""

    def __init__(self, rows: list[str]) -> None:
        self.rows, self.reads = rows, 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> Any:
        assert isinstance(key, slice), "a row was read alone"
        self.reads += 1
        return self.rows[key]

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("rows were read one by one")


def test_a_column_of_many_rows_is_read_at_once(tokenizer: Tokenizer) -> None:
    column = Lazy([f"text {i}" for i in range(25_000)])
    assert len(tokenizer(column)["input_ids"]) == 25_000 and column.reads == 1


@pytest.mark.parametrize(
    "make",
    [datasets.Dataset.from_dict, pd.DataFrame, pa.table, lambda d: datasets.Dataset.from_dict(d).to_iterable_dataset()],
)
def test_a_whole_table_is_refused_with_the_column_to_pass(tokenizer: Tokenizer, make: Callable[[Any], Any]) -> None:
    """Iterating a table gives the names of its columns, which must not be taken for its texts."""
    with pytest.raises(
        DataError, match=r"is a table with the columns sentence, label; pass one column, e.g. data\['sentence'\]"
    ):
        tokenizer(make({"sentence": ["a", "b"], "label": [0, 1]}))


# ---- pipelines


@pytest.fixture(scope="module")
def small(minilm: str) -> Callable[[str], Any]:
    def make(kind: str) -> Any:
        torch.manual_seed(0)
        config = unpad.AutoConfig.from_pretrained(
            minilm, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=3
        )
        return getattr(unpad, f"AutoModelFor{kind}").from_config(config)

    return make


@pytest.mark.parametrize(
    ("task", "kind", "text", "old", "new"),
    [
        ("ner", "TokenClassification", "Annabellina in Rotterdammerland", {"grouped_entities": True}, {"aggregation_strategy": "simple"}),
        ("ner", "TokenClassification", "Ann in Rome", {"grouped_entities": False, "ignore_subwords": False}, {}),
        ("sentiment-analysis", "SequenceClassification", "good", {"return_all_scores": False}, {}),
    ],
)  # fmt: skip
def test_old_options_of_pipelines(
    small: Callable[[str], Any], tokenizer: Tokenizer, task: str, kind: str, text: str, old: dict[str, Any], new: dict[str, Any]
) -> None:  # fmt: skip
    model = small(kind)
    expected = unpad.pipeline(task, model, tokenizer, device=-1, precision="fp32", **new)(text)
    pipe = unpad.pipeline(task, model, tokenizer, device=-1, precision="fp32")
    assert (
        unpad.pipeline(task, model, tokenizer, device=-1, precision="fp32", **old)(text)
        == expected
        == pipe(text, **old)
    )


def test_scores_of_all_labels_are_refused_with_todays_spelling(
    small: Callable[[str], Any], tokenizer: Tokenizer
) -> None:
    """Their order has changed, from that of the labels to best first: a script that counts on it must not go on silently."""
    model = small("SequenceClassification")
    with pytest.raises(ArgumentError, match="write top_k=None, which gives the scores of all labels, best first"):
        unpad.pipeline("sentiment-analysis", model, tokenizer, return_all_scores=True)
    with pytest.raises(ArgumentError, match="top_k=None"):
        unpad.pipeline("sentiment-analysis", model, tokenizer)("good", return_all_scores=True)


# ---- metrics

SUMMARY = {
    "predictions": ["I absolutely loved reading the Hunger Games"],
    "references": ["I loved reading the Hunger Games"],
}
ROUGE = {
    "rouge1": (0.86, 1.0, 0.92),
    "rouge2": (0.67, 0.8, 0.73),
    "rougeL": (0.86, 1.0, 0.92),
    "rougeLsum": (0.86, 1.0, 0.92),
}
"""Precision, recall and F-measure of `SUMMARY`."""


def test_rouge_of_load_metric_shows_low_mid_and_high_scores() -> None:
    scores = load_metric("rouge").compute(**SUMMARY, use_stemmer=True)
    shown = {kind: "Score(precision={}, recall={}, fmeasure={})".format(*figures) for kind, figures in ROUGE.items()}
    expected = "{" + ", ".join(f"'{k}': AggregateScore(low={s}, mid={s}, high={s})" for k, s in shown.items()) + "}"
    rounded = {
        kind: score.mid._replace(**{n: round(v, 2) for n, v in score.mid._asdict().items()})
        for kind, score in scores.items()
    }
    assert {kind: tuple(score) for kind, score in rounded.items()} == ROUGE
    text = repr(scores)
    for score in scores.values():
        for figure in score.mid:
            text = text.replace(f"={figure!r}", f"={round(figure, 2)}")
    assert text == expected


def test_rouge_is_a_float_besides_and_plain_from_evaluate() -> None:
    old, new = load_metric("rouge").compute(**SUMMARY), evaluate.load("rouge").compute(**SUMMARY)
    assert {type(value) for value in new.values()} == {float} and old == new
    assert json.loads(json.dumps(old)) == new
    assert np.mean(list(old.values())) == np.mean(list(new.values()))
    assert {k: round(v * 100, 2) for k, v in old.items()} == {k: round(v.mid.fmeasure * 100, 2) for k, v in old.items()}
    assert f"{old['rouge2']:.4f}" == "0.7273"
    each = evaluate.load("rouge").compute(**SUMMARY, use_aggregator=False)
    assert each == {kind: [value] for kind, value in new.items()}


def test_sacrebleu_gives_the_figures_that_are_printed_everywhere() -> None:
    result = load_metric("sacrebleu").compute(
        predictions=["This plugin lets you translate web pages between several languages automatically."],
        references=[["This plugin allows you to automatically translate web pages between several languages."]],
    )
    assert list(result)[:7] == ["score", "counts", "totals", "precisions", "bp", "sys_len", "ref_len"]
    assert result["score"] == 46.750469682990165 and result["bp"] == 0.9200444146293233
    assert (result["counts"], result["totals"]) == ([11, 6, 4, 3], [12, 11, 10, 9])
    assert result["precisions"] == pytest.approx([91.67, 54.54, 40.0, 33.33], abs=0.01)
    assert (result["sys_len"], result["ref_len"]) == (12, 13)


def test_seqeval_in_batches_of_nested_lists_gives_overall_figures() -> None:
    metric = load_metric("seqeval")
    metric.add_batch(predictions=[["B-ORG", "O", "B-MISC"]], references=[["B-ORG", "O", "B-MISC"]])
    metric.add_batch(predictions=[["B-PER", "O"]], references=[["B-PER", "I-PER"]])
    result = metric.compute()
    found = {key: result[f"overall_{key}"] for key in ("precision", "recall", "f1", "accuracy")}
    assert found == pytest.approx({"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "accuracy": 4 / 5})


@pytest.mark.parametrize("load", [load_metric, evaluate.load])
def test_glue_takes_arrays_and_what_downloads_would_take(load: Callable[..., Any]) -> None:
    metric = load("glue", "mrpc", cache_dir="x", experiment_id="y", num_process=1, process_id=0, keep_in_memory=True)
    found = metric.compute(predictions=np.array([1, 0, 1, 1]), references=np.array([1, 0, 0, 1]))
    assert found == {"accuracy": 0.75, "f1": pytest.approx(0.8)} and {type(v) for v in found.values()} == {float}


def test_combined_metrics_give_one_dictionary() -> None:
    data = {"predictions": [1, 0, 1, 1], "references": [1, 0, 0, 1]}
    assert evaluate.combine(["accuracy", "f1"]).compute(**data) == {"accuracy": 0.75, "f1": pytest.approx(0.8)}
    prefixed = evaluate.combine([evaluate.load("accuracy"), "f1"], force_prefix=True).compute(**data)
    assert prefixed == {"accuracy_accuracy": 0.75, "f1_f1": pytest.approx(0.8)}
    named = evaluate.combine({"a": "accuracy", "b": evaluate.load("accuracy")}).compute(**data)
    assert named == {"a_accuracy": 0.75, "b_accuracy": 0.75}
    assert type(evaluate.combine({"summaries": "rouge"}).compute(**SUMMARY)["rouge1"]) is float


@pytest.mark.parametrize("load", [load_metric, evaluate.load])
@pytest.mark.parametrize(
    ("given_to", "told"),
    [
        ({"path": "bleurt"}, "there is no metric 'bleurt'; there are: accuracy, "),
        ({"path": "f1", "num_process": 2, "process_id": 1}, "num_process=2 is not supported; gather first"),
        ({"path": "f1", "cachedir": "x"}, "no argument 'cachedir'"),
    ],
)
def test_metrics_that_cannot_be_had_are_refused_in_one_line(
    load: Callable[..., Any], given_to: dict[str, Any], told: str
) -> None:
    with pytest.raises(UnpadError, match=told) as error:
        load(**given_to)
    assert "\n" not in str(error.value)
    assert all(name in evaluate.list_evaluation_modules() for name in ("glue", "rouge", "seqeval", "sacrebleu"))
