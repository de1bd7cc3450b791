"""Collators give the Hugging Face batch, or the same batch without padding. `transformers` is the oracle."""

from __future__ import annotations

import logging

import datasets
import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from unpad import notices
from unpad.batch import from_padded
from unpad.data.collators import DataCollatorWithPadding, PackingCollator, default_data_collator
from unpad.data.tokens import TokenStore
from unpad.errors import ArgumentError, DataError

TEXTS = [
    ("Where is my parcel?", "It left on Monday."),
    ("Refund", "please, for the blue lamp"),
    ("Hello", "Hi"),
]


@pytest.fixture(scope="module")
def tokenizer(minilm):
    return transformers.AutoTokenizer.from_pretrained(minilm)


@pytest.fixture(scope="module")
def features(tokenizer):
    """Tokenized pairs of unequal length, with labels."""
    return [{**tokenizer(a, b), "label": i % 2} for i, (a, b) in enumerate(TEXTS)]


@pytest.fixture
def said(caplog, monkeypatch):
    monkeypatch.setattr(notices, "_said", set())
    caplog.set_level(logging.INFO, logger="unpad")
    return lambda: "\n".join(r.getMessage() for r in caplog.records)


def assert_same(ours, theirs):
    """Equal keys, types and values."""
    assert set(ours) == set(theirs)
    for name in theirs:
        assert type(ours[name]) is type(theirs[name]), name
        assert ours[name].dtype == theirs[name].dtype, name
        assert ours[name].tolist() == theirs[name].tolist(), name


def as_tensors(feature):
    return {name: torch.tensor(value) for name, value in feature.items()}


def as_arrays(feature):
    return {name: np.array(value) for name, value in feature.items()}


@pytest.mark.parametrize("make", [dict, as_tensors, as_arrays])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": "longest"},
        {"padding": "max_length", "max_length": 40},
        {"pad_to_multiple_of": 8},
        {"return_tensors": "np"},
    ],
)
def test_padded_batches_equal_those_of_transformers(tokenizer, features, make, options):
    ours = DataCollatorWithPadding(tokenizer, **options)([make(f) for f in features])
    assert_same(ours, transformers.DataCollatorWithPadding(tokenizer, **options)(features))


def test_the_padded_batch_can_be_moved_and_read_like_that_of_transformers(tokenizer, features):
    batch = DataCollatorWithPadding(tokenizer=tokenizer)(features).to("cpu")
    assert {k: list(v.shape) for k, v in batch.items()}["labels"] == [3]
    assert batch.input_ids.shape == batch["attention_mask"].shape


def test_a_dictionary_of_columns_is_the_same_batch(tokenizer, features):
    columns = {name: [f[name] for f in features] for name in features[0]}
    assert_same(DataCollatorWithPadding(tokenizer)(columns), DataCollatorWithPadding(tokenizer)(features))
    ours, theirs = PackingCollator()(columns), PackingCollator()(features)
    assert ours.input_ids.tolist() == theirs.input_ids.tolist()
    assert ours.labels.tolist() == theirs.labels.tolist()


def test_text_columns_are_left_out_and_that_is_said_once(tokenizer, features, said):
    texts = [{**f, "sentence": "a text", "words": ["a", "text"]} for f in features]
    for _ in range(2):
        assert_same(DataCollatorWithPadding(tokenizer)(texts), DataCollatorWithPadding(tokenizer)(features))
    assert said() == "text columns are left out of batches: sentence, words"
    assert PackingCollator()(texts).input_ids.tolist() == PackingCollator()(features).input_ids.tolist()


def test_columns_of_numbers_pass_through_padding_as_in_transformers(tokenizer, features):
    numbered = [{**f, "idx": i} for i, f in enumerate(features)]
    assert_same(
        DataCollatorWithPadding(tokenizer)(numbered),
        transformers.DataCollatorWithPadding(tokenizer)(numbered),
    )


@pytest.mark.parametrize("name", ["label", "label_ids", "labels"])
@pytest.mark.parametrize("values", [[1, 0, 2], [0.5, 1.0, 2.5], [[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]])
def test_labels_get_one_name_and_the_same_type_as_in_transformers(tokenizer, features, name, values):
    labelled = [{"input_ids": f["input_ids"], name: v} for f, v in zip(features, values, strict=True)]
    batch = DataCollatorWithPadding(tokenizer)(labelled)
    assert_same(batch, transformers.DataCollatorWithPadding(tokenizer)(labelled))
    packed = PackingCollator()(labelled)
    assert packed.restore(packed.labels).tolist() == batch["labels"].tolist()
    assert packed.labels.dtype == batch["labels"].dtype


def test_the_collator_leaves_the_state_of_the_tokenizer_alone(tokenizer, features):
    tokenizer.deprecation_warnings["Asking-to-pad-a-fast-tokenizer"] = False
    DataCollatorWithPadding(tokenizer)(features)
    assert tokenizer.deprecation_warnings["Asking-to-pad-a-fast-tokenizer"] is False


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_a_packed_batch_is_the_padded_batch_without_padding(tokenizer, data):
    """Tokens, segments, positions, labels and order, whatever the lengths and the form of the features."""
    rows = []
    for _ in range(data.draw(st.integers(1, 6))):
        n = data.draw(st.integers(1, 9))
        numbers = st.lists(st.integers(1, 500), min_size=n, max_size=n)
        types = [0] * (n // 2) + [data.draw(st.integers(0, 1))] * (n - n // 2)
        rows.append(
            {
                "input_ids": data.draw(numbers),
                "token_type_ids": types,
                "attention_mask": [1] * n,
                "label": n % 3,
            }
        )
    collator = DataCollatorWithPadding(tokenizer)
    padded = collator(rows)
    expected, _ = from_padded(
        padded["input_ids"], padded["attention_mask"], padded["token_type_ids"], labels=padded["labels"]
    )
    make = data.draw(st.sampled_from([dict, as_tensors, as_arrays]))
    again = [
        {k: v[i] for k, v in padded.items() if k != "labels"} | {"label": padded["labels"][i]}
        for i in range(len(rows))
    ]
    for batch in (
        collator.pack([make(r) for r in rows]),
        PackingCollator()(rows),
        PackingCollator()(again),
        PackingCollator()(padded),
    ):
        assert batch.lengths == expected.lengths
        assert batch.order == expected.order
        assert batch.input_ids.tolist() == expected.input_ids.tolist()
        assert batch.position_ids.tolist() == expected.position_ids.tolist()
        assert batch.cu_seqlens.tolist() == expected.cu_seqlens.tolist()
        assert batch.labels.tolist() == expected.labels.tolist()
        if batch.token_type_ids is None:
            assert not expected.token_type_ids.any()
        else:
            assert batch.token_type_ids.tolist() == expected.token_type_ids.tolist()


def test_the_collator_and_the_store_pack_the_same_batch(features):
    store = TokenStore.from_dataset(datasets.Dataset.from_list(features)).pack([2, 0, 1])
    batch = PackingCollator()([features[i] for i in (2, 0, 1)])
    for name in ("input_ids", "position_ids", "cu_seqlens", "token_type_ids", "labels"):
        ours, theirs = getattr(batch, name), getattr(store, name)
        assert ours.dtype == theirs.dtype
        assert ours.tolist() == theirs.tolist()
    assert batch.order == store.order


def test_labels_of_tokens_lose_their_padding_with_their_tokens():
    rows = [
        {"input_ids": [1, 2, 0], "attention_mask": [1, 1, 0], "labels": [5, 6, -100]},
        {"input_ids": [3, 4, 5], "attention_mask": [1, 1, 1], "labels": [7, -100, 9]},
    ]
    batch = PackingCollator(token_labels=True)(rows)
    assert batch.input_ids.tolist() == [3, 4, 5, 1, 2]
    assert batch.labels.tolist() == [7, -100, 9, 5, 6]


def test_features_without_labels_are_a_batch_without_labels(tokenizer, features):
    for rows in ([{**f, "label": None} for f in features], [{"input_ids": f["input_ids"]} for f in features]):
        assert PackingCollator()(rows).labels is None
        assert "labels" not in DataCollatorWithPadding(tokenizer)(rows)


@pytest.mark.parametrize("tensors", ["pt", "np"])
@pytest.mark.parametrize(
    "rows",
    [
        [{"label": 1, "x": [1, 2], "text": "a"}, {"label": 0, "x": [3, 4], "text": "b"}],
        [{"label": 0.5, "x": [1.5]}, {"label": 2.0, "x": [2.5]}],
        [{"label": True, "x": 1}, {"label": False, "x": 2}],
        [{"label_ids": [1, 0], "x": None}, {"label_ids": [0, 1], "x": None}],
        [{"label_ids": [1.0, 0.0]}, {"label_ids": [0.0, 1.0]}],
        [{"label": None, "labels": [1, 2]}, {"label": None, "labels": [2, 1]}],
        [{"x": np.array([1, 2], dtype=np.int32)}, {"x": np.array([3, 4], dtype=np.int32)}],
        [{"label": np.int64(1), "x": np.array([0.5])}, {"label": np.int64(0), "x": np.array([0.25])}],
    ],
)
def test_the_default_collator_equals_that_of_transformers(rows, tensors):
    assert_same(default_data_collator(rows, tensors), transformers.default_data_collator(rows, tensors))


def test_the_default_collator_takes_tensors_as_transformers_does():
    rows = [
        {"label": torch.tensor(1), "label_ids": None, "x": torch.tensor([0.5])},
        {"label": torch.tensor(0), "label_ids": None, "x": torch.tensor([1.5])},
    ]
    assert_same(default_data_collator(rows), transformers.default_data_collator(rows))


def test_collators_declare_the_columns_that_they_use(tokenizer):
    for collator in (DataCollatorWithPadding(tokenizer), PackingCollator()):
        assert set(collator.fields) == {
            "input_ids",
            "token_type_ids",
            "attention_mask",
            "label",
            "labels",
            "label_ids",
        }


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "needs at least one feature"),
        ({}, "needs at least one feature"),
        ([{"sentence": "a"}], r"no 'input_ids' \(they have: sentence\): tokenize first"),
        ([{"input_ids": [1], "label": "spam"}], r"'label' holds text \('spam'\): number the classes"),
        (
            [{"input_ids": [1], "label": 1}, {"input_ids": [1], "label": None}],
            "feature 1 of the batch has no label",
        ),
        (
            [{"input_ids": [1]}, {"input_ids": [1], "label": 1}],
            "feature 1 .* and feature 0 differ in the columns label",
        ),
        ({"input_ids": [[1], [2]], "label": [1]}, "different numbers of rows: input_ids: 2, label: 1"),
    ],
)
def test_bad_features_are_one_clear_line(tokenizer, rows, message):
    for collator in (DataCollatorWithPadding(tokenizer), PackingCollator()):
        with pytest.raises(DataError, match=message) as error:
            collator(rows)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"input_ids": [1]}, {"input_ids": []}], "feature 1 of the batch has no tokens"),
        ([{"input_ids": [1], "attention_mask": [0]}], "feature 0 of the batch has no tokens"),
        ([{"input_ids": [1], "attention_mask": [1, 1]}], "1 input_ids but 2 attention_mask"),
        ([{"input_ids": [[1, 2]]}], r"shape \[1, 2\], a flat list of whole numbers"),
        ([{"input_ids": [0.5]}], "input_ids of feature 0 of the batch is float64"),
        (
            [{"input_ids": [1], "label": [1]}, {"input_ids": [1], "label": [1, 2]}],
            "feature 1 of the batch has 2 labels",
        ),
    ],
)
def test_features_that_cannot_be_packed_are_one_clear_line(rows, message):
    with pytest.raises(DataError, match=message):
        PackingCollator()(rows)


def test_rows_of_unequal_length_point_to_the_padding_collator():
    with pytest.raises(
        DataError, match=r"'input_ids' has rows of different lengths \(2, 1\): use DataCollatorWithPadding"
    ):
        default_data_collator([{"input_ids": [1, 2]}, {"input_ids": [1]}])
    with pytest.raises(ArgumentError, match="return_tensors='tf' is unknown"):
        default_data_collator([{"x": 1}], return_tensors="tf")
