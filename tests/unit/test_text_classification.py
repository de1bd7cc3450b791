"""The text classification task: columns are found or asked for, labels become the right numbers, nothing happens in silence."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

import unpad
from unpad.core.losses import PROBLEM_TYPES
from unpad.models import auto
from unpad.tasks import ALIASES, TASKS, Columns, Reader, Task, task, task_of
from unpad.tasks import text_classification as module
from unpad.text.tokenizer import Tokenizer

CLASSIFY = task("text-classification")


@pytest.fixture(scope="module")
def tokenizer(minilm: str) -> Tokenizer:
    return unpad.AutoTokenizer.from_pretrained(minilm)


def table(*texts: str, **others: Any) -> Dataset:
    """Two rows with the named columns of texts and other columns by name."""
    return Dataset.from_dict({**{name: [f"{name} a", f"{name} b"] for name in texts}, **others})


def prepared(tokenizer: Tokenizer, labels: dict[str, Any], feature: Any = None, **options: Any) -> Any:
    """What `prepare` makes of splits with these labels."""
    splits = {}
    for split, values in labels.items():
        rows = {"text": [f"text {i}" for i in range(len(values))], "label": values}
        features = None if feature is None else Features({"text": Value("string"), "label": feature})
        splits[split] = Dataset.from_dict(rows, features=features)
    return CLASSIFY.prepare(DatasetDict(splits), tokenizer, Columns("text", None, "label"), **options)


def said(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records)


# ---- the table ----


def test_every_task_in_the_table_is_whole_and_every_alias_leads_to_one() -> None:
    for name in TASKS:
        found = task(name)
        assert isinstance(found, Task)
        assert found.name == name
        assert found.head == "base" or task_of(found.head).head == found.head  # several tasks may share a head
        assert hasattr(auto, found.auto_class)
    for alias, name in ALIASES.items():
        assert task(alias) is task(name)
    assert task_of("base") is None


@pytest.mark.parametrize("name", ["sentiment-analysys", "", None, 3])
def test_an_unknown_task_is_refused_and_the_nearest_is_named(name: Any) -> None:
    with pytest.raises(unpad.ArgumentError, match="there is no task") as error:
        task(name)
    assert "\n" not in str(error.value)
    assert name != "sentiment-analysys" or "did you mean 'sentiment-analysis'" in str(error.value)


# ---- columns ----


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (table("sentence1", "sentence2", label=[0, 1], idx=[0, 1]), ("sentence1", "sentence2", "label")),
        (table("premise", "hypothesis", label=[0, 1]), ("premise", "hypothesis", "label")),
        (table("question1", "question2", is_duplicate=[0, 1]), ("question1", "question2", "is_duplicate")),
        (table("question", "sentence", label=[0, 1]), ("question", "sentence", "label")),
        (table("text", "text_pair", labels=[0, 1]), ("text", "text_pair", "labels")),
        (table("text", "question", "subject", topic=[0, 1]), ("text", None, "topic")),
        (table("Review", Stars=[1, 5]), ("Review", None, "Stars")),
        (table("sentence", label=["a", "b"]), ("sentence", None, "label")),
        (table("utterance", idx=[0, 1]), ("utterance", None, None)),
        (table("utterance", category=["x", "y"]), ("utterance", None, "category")),
        (
            table("utterance", mood=[0, 1]).cast_column("mood", ClassLabel(names=["calm", "cross"])),
            ("utterance", None, "mood"),
        ),
    ],
)
def test_known_columns_are_found(data: Dataset, expected: tuple[str, str | None, str | None]) -> None:
    assert CLASSIFY.columns(data) == Columns(*expected)
    assert CLASSIFY.columns(DatasetDict({"train": data, "test": data})) == Columns(*expected)
    assert CLASSIFY.columns(data, labelled=False) == Columns(*expected[:2])


def test_helpdesk_needs_no_column_names() -> None:
    assert CLASSIFY.columns(unpad.load_dataset("helpdesk")) == Columns("text", None, "topic")
    assert CLASSIFY.columns(unpad.load_dataset("helpdesk", "pairs")) == Columns("sentence1", "sentence2", "label")


def test_names_that_are_given_win() -> None:
    data = table("sentence1", "sentence2", "note", label=[0, 1], score=[0.5, 1.0])
    assert CLASSIFY.columns(data, text="sentence1") == Columns("sentence1", None, "label")
    assert CLASSIFY.columns(data, text="note", text_pair="sentence1", label="score") == Columns(
        "note", "sentence1", "score"
    )
    assert CLASSIFY.columns(data, text_pair="sentence2") == Columns("sentence1", "sentence2", "label")


@pytest.mark.parametrize(
    ("data", "options", "parts"),
    [
        (table("review", "comment", label=[0, 1]), {}, ["text could be review or comment", "text="]),
        (table("one", "two", label=[0, 1]), {}, ["text could be one or two", "text="]),
        (table("sentence1", "sentence2", "premise", "hypothesis"), {}, ["sentence1 with sentence2", "text_pair="]),
        (table(label=[0, 1], idx=[0, 1]), {}, ["no column looks like the text", "text=", "label, idx"]),
        (table("text", topic=[0, 1], stars=[1, 5]), {}, ["label could be topic or stars", "label="]),
        (table("text", idx=[0, 1]), {"labelled": True}, ["no column looks like the label", "label=", "text, idx"]),
        (table("text", label=[0, 1]), {"text": "txt"}, ["no column 'txt' for text=", "did you mean 'text'"]),
        (table("text", label=[0, 1]), {"label": "lable"}, ["no column 'lable' for label=", "did you mean 'label'"]),
        (table("text", label=[0, 1]), {"text": "text", "text_pair": "text"}, ["named for two things"]),
        (DatasetDict(), {}, ["no splits"]),
        ([{"text": "a"}], {}, ["load_dataset"]),
    ],
)  # fmt: skip
def test_unclear_or_missing_columns_are_refused_with_the_option_to_use(
    data: Any, options: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(unpad.DataError) as error:
        CLASSIFY.columns(data, **options)
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


# ---- labels ----


def test_class_labels_keep_their_ids_and_carry_their_names(tokenizer: Tokenizer) -> None:
    found = prepared(tokenizer, {"train": [2, 0, 2], "test": [-1, -1]}, ClassLabel(names=["x", "y", "z"]))
    assert found.data["train"]["labels"] == [2, 0, 2]
    assert found.data["train"].features["labels"].names == found.label_names == ["x", "y", "z"]
    assert "labels" not in found.data["test"].column_names
    assert found.model_options == {"id2label": {0: "x", 1: "y", 2: "z"}, "problem_type": "single_label_classification"}


@pytest.mark.parametrize(
    ("labels", "expected", "names", "count", "kind"),
    [
        ([0, 1, 2, 0], [0, 1, 2, 0], None, 3, "single_label_classification"),
        ([0, 0], [0, 0], None, 2, "single_label_classification"),
        ([5, 1, 4], [2, 0, 1], ["1", "4", "5"], 3, "single_label_classification"),
        ([10, 9, 10], [1, 0, 1], ["9", "10"], 2, "single_label_classification"),
        (["no", "yes", "no"], [0, 1, 0], ["no", "yes"], 2, "single_label_classification"),
        ([True, False, True], [1, 0, 1], ["False", "True"], 2, "single_label_classification"),
        ([0.5, 4.0, 3.8], [0.5, 4.0, 3.8], None, 1, "regression"),
        ([[1, 0, 1], [0, 0, 0]], [[1, 0, 1], [0, 0, 0]], None, 3, "multi_label_classification"),
        ([[1.0, 0.0], [0.5, 0.0]], [[1, 0], [0.5, 0]], None, 2, "multi_label_classification"),
        ([[2, 0], [], [1]], [[1, 0, 1], [0, 0, 0], [0, 1, 0]], None, 3, "multi_label_classification"),
        ([["b", "a"], [], ["c"]], [[1, 1, 0], [0, 0, 0], [0, 0, 1]], ["a", "b", "c"], 3, "multi_label_classification"),
        ([[1.5, -2.0], [0.0, 3.0]], [[1.5, -2], [0, 3]], None, 2, "regression"),
    ],
)  # fmt: skip
def test_labels_of_every_kind_become_numbers(
    tokenizer: Tokenizer, labels: list[Any], expected: list[Any], names: Any, count: int, kind: str
) -> None:
    found = prepared(tokenizer, {"train": labels})
    np.testing.assert_allclose(np.array(found.data["train"]["labels"]), np.array(expected), rtol=1e-6)
    assert (found.label_names, found.num_labels, found.problem_type) == (names, count, kind)
    store = unpad.TokenStore.from_dataset(found.data["train"])
    np.testing.assert_allclose(store.labels, np.array(expected), rtol=1e-6)
    assert store.label_names == (names if kind.startswith("single") else None)


def test_lists_of_named_classes_become_switches(tokenizer: Tokenizer) -> None:
    found = prepared(tokenizer, {"train": [[0], [0, 2]]}, List(ClassLabel(names=["x", "y", "z"])))
    assert found.data["train"]["labels"] == [[1, 0, 0], [1, 0, 1]]
    assert found.label_names == ["x", "y", "z"]


def test_splits_share_one_numbering_and_hidden_labels_are_left_out(tokenizer: Tokenizer) -> None:
    found = prepared(
        tokenizer, {"train": ["b", "a", "c"], "validation": ["c", "b"], "test": [None, None]}, Value("string")
    )
    assert found.data["validation"]["labels"] == [2, 1]
    assert found.data["test"].column_names == ["input_ids"]
    whole = prepared(tokenizer, {"train": [3, 7], "validation": [7]})
    assert whole.data["validation"]["labels"] == [1]


def test_a_trained_model_judges_new_data_by_label_names(tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    swapped = prepared(
        tokenizer, {"test": [0, 1, 1]}, ClassLabel(names=["positive", "negative"]), label_names=["NEGATIVE", "POSITIVE"]
    )
    assert swapped.data["test"]["labels"] == [1, 0, 0]
    assert swapped.label_names == ["NEGATIVE", "POSITIVE"]
    assert "matched by name" in said(caplog)
    texts = prepared(tokenizer, {"test": ["c", "a"]}, label_names=["a", "b", "c"])
    assert texts.data["test"]["labels"] == [2, 0]
    numbers = prepared(tokenizer, {"test": [5, 1]}, label_names=["1", "3", "5"])
    assert numbers.data["test"]["labels"] == [2, 0]
    generic = prepared(tokenizer, {"test": [1, 1]}, label_names=["LABEL_0", "LABEL_1", "LABEL_2"])
    assert (generic.data["test"]["labels"], generic.num_labels) == ([1, 1], 3)
    several = prepared(tokenizer, {"test": [["b"], ["a", "c"]]}, label_names=["c", "b", "a"])
    assert several.data["test"]["labels"] == [[0, 1, 0], [1, 0, 1]]
    classes = List(ClassLabel(names=["a", "b", "c"]))
    several = prepared(tokenizer, {"test": [[1], [0, 2, 2]]}, classes, label_names=["b", "c", "a"])
    assert several.data["test"]["labels"] == [[1, 0, 0], [0, 1, 1]]


def test_splits_whose_classes_have_other_names_are_refused(tokenizer: Tokenizer) -> None:
    parts = {
        split: Dataset.from_dict({"text": ["a"], "label": [0]}).cast_column("label", ClassLabel(names=names))
        for split, names in (("train", ["a", "b"]), ("test", ["b", "a"]))
    }
    with pytest.raises(unpad.DataError, match=r"a, b in 'train' but b, a in 'test'"):
        CLASSIFY.prepare(DatasetDict(parts), tokenizer, Columns("text", None, "label"))


@pytest.mark.parametrize(
    ("labels", "feature", "options", "parts"),
    [
        ({"train": [0, -1, 1]}, None, {}, ["label -1 in row 1 of 'train'"]),
        ({"train": [0, 3, 1]}, ClassLabel(names=["a", "b", "c", "d"]), {"label_names": ["a", "b"]}, ["'c'", "unknown to the model"]),
        ({"train": ["a", None]}, None, {}, ["row 1 of 'train' has no label"]),
        ({"train": ["a", "a"]}, None, {}, ["all labels in 'label' are 'a'"]),
        ({"train": ["a", "b"], "test": ["a", "zz"]}, None, {}, ["'zz' in row 1", "test"]),
        ({"train": ["a", "b"], "test": [0, 1]}, None, {}, ["different kinds", "train", "test"]),
        ({"train": [0.5, float("nan")]}, None, {}, ["row 1 of 'train' is nan"]),
        ({"train": [[1.0, 0.0], [1.0]]}, None, {}, ["row 1 of 'train' has 1 numbers"]),
        ({"train": [[1, 0], [1, None]]}, None, {}, ["row 1 of 'train' has an empty value"]),
        ({"train": [[2, 0], [1, -3]]}, None, {}, ["-3"]),
        ({"test": ["a", "d"]}, None, {"label_names": ["a", "b"]}, ["label 'd' in row 1 of 'test'"]),
        ({"test": [0, 7]}, None, {"label_names": ["LABEL_0", "LABEL_1"]}, ["label 7 in row 1 of 'test'", "0..1"]),
        ({"test": [{"x": 1}, {"x": 2}]}, None, {}, ["label="]),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_used_are_named_by_row(
    tokenizer: Tokenizer, labels: dict[str, Any], feature: Any, options: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(unpad.DataError) as error:
        prepared(tokenizer, labels, feature, **options)
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


# ---- texts ----


@settings(deadline=None, max_examples=25)
@given(
    rows=st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30)), min_size=1, max_size=12),
    pairs=st.booleans(), block=st.integers(1, 5), limit=st.integers(4, 20),
)  # fmt: skip
def test_prepared_tokens_are_those_of_the_tokenizer_row_by_row(
    minilm: str, rows: list[tuple[str, str]], pairs: bool, block: int, limit: int
) -> None:
    """Empty and odd texts included, whatever the block; one flat Arrow column instead of a dictionary per row."""
    tokenizer = unpad.AutoTokenizer.from_pretrained(minilm)
    clean = [(a.encode("utf-8", "ignore").decode(), b.encode("utf-8", "ignore").decode()) for a, b in rows]
    data = Dataset.from_dict({"text": [a for a, _ in clean], "text_pair": [b for _, b in clean]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unpad.tasks._task.BLOCK", block)
        found = CLASSIFY.prepare(data, tokenizer, Columns("text", "text_pair" if pairs else None), max_length=limit)
    part = found.data["train"]
    for i, (a, b) in enumerate(clean):
        expected = tokenizer(a, b if pairs else None, truncation=True, max_length=limit)
        assert part[i]["input_ids"] == expected["input_ids"]
        assert part[i].get("token_type_ids", [0] * len(expected["input_ids"])) == expected["token_type_ids"]
    assert found.truncation.texts == len(rows)


def test_only_what_a_model_reads_is_left_and_the_rest_is_said(
    tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    data = unpad.load_dataset("helpdesk", "pairs")
    found = CLASSIFY.prepare(data, tokenizer, CLASSIFY.columns(data), max_length=16)
    assert {split: len(part) for split, part in found.data.items()} == {
        split: len(part) for split, part in data.items()
    }
    assert found.data["train"].column_names == ["input_ids", "token_type_ids", "labels"]
    assert found.data["train"]["labels"] == data["train"]["label"][:]
    assert "not used: idx" in said(caplog)
    assert f"{found.truncation.truncated} of 2200 texts were truncated" in said(caplog)
    assert found.truncation.truncated > 2000


@pytest.mark.parametrize(
    ("columns", "parts"),
    [
        ({"text": ["a", None]}, ["row 1 of 'train' has no text in 'text'"]),
        ({"text": ["a", "b"], "text_pair": [None, "b"]}, ["row 0 of 'train' has no text in 'text_pair'"]),
        ({"text": [1, 2]}, ["holds int64, not texts"]),
        ({"text": []}, ["has no rows"]),
        ({"txt": ["a"]}, ["no column 'text'", "did you mean 'txt'"]),
    ],
)
def test_what_is_no_text_is_named_by_row(tokenizer: Tokenizer, columns: dict[str, Any], parts: list[str]) -> None:
    wanted = Columns("text", "text_pair" if "text_pair" in columns else None)
    with pytest.raises(unpad.DataError) as error:
        CLASSIFY.prepare(DatasetDict({"train": Dataset.from_dict(columns)}), tokenizer, wanted)
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


def test_a_selection_of_rows_is_prepared_as_it_stands(tokenizer: Tokenizer) -> None:
    data = Dataset.from_dict({"text": [f"text {i}" for i in range(9)], "label": list("abcabcabc")})
    chosen = data.select([7, 1, 5]).with_format("torch", columns=["label"])
    found = CLASSIFY.prepare(chosen, tokenizer, Columns("text", None, "label")).data["train"]
    assert found["labels"] == [0, 0, 1]
    assert [tokenizer.decode(ids, skip_special_tokens=True) for ids in found["input_ids"]] == [
        "text 7",
        "text 1",
        "text 5",
    ]


def test_a_model_learns_from_what_was_prepared(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """The whole way: names of the data stand in the model, the loss is the right one, figures are streamed."""
    config = unpad.BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    for labels, keys in (
        (["up", "down", "left"] * 4, {"eval_accuracy", "eval_f1_macro"}),
        (["up", "down"] * 6, {"eval_accuracy", "eval_f1"}),
        ([0.5, 1.5, 2.5] * 4, {"eval_pearson", "eval_spearmanr", "eval_mse"}),
        ([[1.0, 0.0], [0.0, 1.0]] * 6, {"eval_f1_micro", "eval_f1_macro"}),
    ):
        found = prepared(tokenizer, {"train": labels})
        model = unpad.BertForSequenceClassification(config.replace(**found.model_options))
        arguments = unpad.TrainingArguments(output_dir=str(tmp_path / str(len(keys))), use_cpu=True, disable_tqdm=True)
        trainer = unpad.Trainer(model, arguments, compute_metrics=CLASSIFY.metrics(model.config))
        figures = trainer.evaluate(found.data["train"])
        assert keys <= set(figures)
        assert np.isfinite(figures["eval_loss"])
        if found.label_names:
            assert list(model.config.id2label.values()) == found.label_names


# ---- answers and figures ----


def answer_config(count: int, kind: str | None = None) -> Any:
    return SimpleNamespace(num_labels=count, problem_type=kind, id2label={i: f"L{i}" for i in range(count)})


@settings(deadline=None)
@given(
    values=st.integers(1, 6).flatmap(
        lambda c: st.lists(st.lists(st.floats(-5, 5, width=32), min_size=c, max_size=c), max_size=5)
    ),
    top_k=st.none() | st.integers(1, 8),
    function=st.sampled_from([None, "softmax", "sigmoid", "none", "NONE"]),
    kind=st.sampled_from([None, *PROBLEM_TYPES]),
)
def test_labels_are_ranked_by_their_score(
    values: list[Any], top_k: int | None, function: str | None, kind: str | None
) -> None:
    count = len(values[0]) if values else 3
    logits = torch.tensor(values, dtype=torch.float32).reshape(-1, count)
    config = answer_config(count, kind)
    options = CLASSIFY.checked({"function_to_apply": function})
    whole = CLASSIFY.answers(logits, None, config, {**options, "top_k": None})
    for row, answer in zip(values, whole, strict=True):
        assert sorted(a["label"] for a in answer) == sorted(config.id2label.values())
        scores = [a["score"] for a in answer]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] == max(scores) and row[int(answer[0]["label"][1:])] == pytest.approx(max(row), abs=1e-5)
    assert CLASSIFY.answers(logits, None, config, {**options, "top_k": top_k}) == [a[:top_k] for a in whole]
    assert CLASSIFY.answers(logits, None, config, options) == [a[0] for a in whole]


@pytest.mark.parametrize(
    ("count", "kind"),
    [(2, None), (4, None), (2, "single_label_classification"), (3, "multi_label_classification"), (1, "regression"), (1, None), (2, "regression")],
)  # fmt: skip
def test_figures_equal_those_of_scikit_learn_however_the_batches_fall(count: int, kind: str | None) -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(57, count)).astype(np.float32))
    judge = CLASSIFY.metrics(answer_config(count, kind))
    outputs = logits.numpy()
    if kind == "multi_label_classification":
        true = (rng.random((57, count)) > 0.5).astype(np.float32)
        chosen = (torch.sigmoid(logits) > 0.5).long().numpy()
        expected = {f"f1_{a}": sk.f1_score(true, chosen, average=a) for a in ("micro", "macro")}
    elif kind == "regression" or count == 1:
        true = (
            rng.normal(size=(57, count)).astype(np.float32).squeeze(-1) if count == 1 else rng.normal(size=(57, count))
        )
        expected = {"mse": sk.mean_squared_error(true, outputs if count > 1 else outputs[:, 0])}
        if count == 1:
            ranks = [np.argsort(np.argsort(v)) for v in (true, outputs[:, 0])]
            expected |= {"pearson": np.corrcoef(true, outputs[:, 0])[0, 1], "spearmanr": np.corrcoef(*ranks)[0, 1]}
    else:
        true, chosen = rng.integers(0, count, 57), outputs.argmax(1)
        expected = {"accuracy": sk.accuracy_score(true, chosen)}
        expected["f1" if count == 2 else "f1_macro"] = sk.f1_score(
            true, chosen, average="binary" if count == 2 else "macro"
        )
    for size in (57, 5, 1):
        for start in range(0, 57, size):
            part = slice(start, start + size)
            judge.add_batch(predictions=judge.reduce(logits[part]).numpy(), references=true[part])
        found = judge.compute()
        assert found == pytest.approx(expected, abs=1e-6)
        assert set(found) == set(expected)
    with pytest.raises(unpad.DataError):
        judge.compute()
    judge.add_batch(predictions=judge.reduce(logits).numpy(), references=true)
    judge.reset()
    with pytest.raises(unpad.DataError):
        judge.compute()


def test_mixed_inputs_keep_their_places_and_types(tokenizer: Tokenizer) -> None:
    inputs = ["one", ("two", "three four"), {"text": "five"}, {"text": "six", "text_pair": ""}, ""]
    found = CLASSIFY.encode(inputs, Reader(tokenizer, 512), {})
    calls = [("one", None), ("two", "three four"), ("five", None), ("six", ""), ("", None)]
    for i, (a, b) in enumerate(calls):
        expected = tokenizer(a, b)
        span = slice(int(found.ends[i] - found.lengths[i]), int(found.ends[i]))
        assert found.input_ids[span].tolist() == expected["input_ids"]
        assert found.token_type_ids is not None
        assert found.token_type_ids[span].tolist() == expected["token_type_ids"]
    batch = found.pack(np.array([4, 1, 3]))
    assert batch.sample_ids == (1, 3, 4)


def test_cut_texts_and_pairs_in_one_list_are_told_by_their_places(minilm: str) -> None:
    tokenizer = unpad.AutoTokenizer.from_pretrained(minilm)
    long = "word " * 20
    found = module.TASK.encode(["ok", ("ok", long), long, ("a", "b"), (long, "b")], Reader(tokenizer, 8), {})
    assert sorted(found.cut.tolist()) == [1, 2, 4]
    assert not len(module.TASK.encode(["ok", ("a", "b")], Reader(tokenizer, 8), {}).cut)
