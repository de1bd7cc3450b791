"""Collators give the Hugging Face batch, or the same batch without padding. `transformers` is the oracle."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from unpad import notices
from unpad.batch import from_padded
from unpad.data.collators import (
    DataCollatorForLanguageModeling,
    DataCollatorForTokenClassification,
    DataCollatorForWholeWordMask,
    DataCollatorWithPadding,
    PackingCollator,
    default_data_collator,
)
from unpad.data.tokens import TokenStore
from unpad.errors import ArgumentError, DataError

TEXTS = [("Where is my parcel?", "It left on Monday."), ("Refund", "please, for the blue lamp"), ("Hello", "Hi")]


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
    assert_same(DataCollatorWithPadding(tokenizer)(numbered), transformers.DataCollatorWithPadding(tokenizer)(numbered))


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
            {"input_ids": data.draw(numbers), "token_type_ids": types, "attention_mask": [1] * n, "label": n % 3}
        )
    collator = DataCollatorWithPadding(tokenizer)
    padded = collator(rows)
    expected, _ = from_padded(
        padded["input_ids"], padded["attention_mask"], padded["token_type_ids"], labels=padded["labels"]
    )
    make = data.draw(st.sampled_from([dict, as_tensors, as_arrays]))
    again = [
        {k: v[i] for k, v in padded.items() if k != "labels"} | {"label": padded["labels"][i]} for i in range(len(rows))
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
        assert set(collator.fields) == {"input_ids", "token_type_ids", "attention_mask", "label", "labels", "label_ids"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "needs at least one feature"),
        ({}, "needs at least one feature"),
        ([{"sentence": "a"}], r"no 'input_ids' \(they have: sentence\): tokenize first"),
        ([{"input_ids": [1], "label": "spam"}], r"'label' holds text \('spam'\): number the classes"),
        ([{"input_ids": [1], "label": 1}, {"input_ids": [1], "label": None}], "feature 1 of the batch has no label"),
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


TOKEN_OPTIONS = [{}, {"padding": "max_length", "max_length": 40}, {"pad_to_multiple_of": 8}, {"label_pad_token_id": -1}, {"return_tensors": "np"}]  # fmt: skip


@pytest.fixture(scope="module")
def tagged(tokenizer):
    """Tokenized pairs with one label per token, -100 on special tokens."""
    rows = [dict(tokenizer(a, b)) for a, b in TEXTS]
    special = set(tokenizer.all_special_ids)
    return [{**r, "labels": [-100 if t in special else t % 7 for t in r["input_ids"]]} for r in rows]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("make", [dict, as_tensors, as_arrays])
@pytest.mark.parametrize("options", TOKEN_OPTIONS)
def test_labels_of_tokens_are_padded_as_in_transformers(tokenizer, tagged, options, make, side, monkeypatch):
    monkeypatch.setattr(tokenizer, "padding_side", side)
    ours = DataCollatorForTokenClassification(tokenizer, **options)([make(f) for f in tagged])
    assert_same(ours, transformers.DataCollatorForTokenClassification(tokenizer, **options)(tagged))
    unlabelled = [{k: v for k, v in f.items() if k != "labels"} for f in tagged]
    assert "labels" not in DataCollatorForTokenClassification(tokenizer, **options)(unlabelled)


def test_packed_labels_of_tokens_are_the_padded_ones_without_padding(tokenizer, tagged):
    collator = DataCollatorForTokenClassification(tokenizer)
    padded, packed = collator(tagged), collator.pack(tagged)
    for name in ("input_ids", "labels"):
        fill = {"input_ids": tokenizer.pad_token_id, "labels": -100}[name]
        assert packed.pad(getattr(packed, name), fill=fill).tolist() == padded[name].tolist()


def test_a_label_too_few_names_its_row(tokenizer, tagged):
    wrong = [tagged[0], {**tagged[1], "labels": tagged[1]["labels"][1:]}]
    for collate in (DataCollatorForTokenClassification(tokenizer), DataCollatorForTokenClassification(tokenizer).pack):
        with pytest.raises(DataError, match=r"feature 1 .* has (\d+) input_ids but \d+ labels: each token"):
            collate(wrong)


def with_words(tokenizer, texts=(*TEXTS, ("unbelievable antidisestablishmentarianism", "tokenization"))):
    batch = tokenizer([a for a, _ in texts], [b for _, b in texts])
    return [
        {"input_ids": batch["input_ids"][i], "attention_mask": batch["attention_mask"][i], "word_ids": batch.word_ids(i)}
        for i in range(len(texts))
    ]  # fmt: skip


MASKERS = [DataCollatorForLanguageModeling, DataCollatorForWholeWordMask]


@pytest.mark.parametrize("kind", MASKERS)
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("options", [{}, {"pad_to_multiple_of": 8}, {"return_tensors": "np"}])
def test_a_masked_batch_holds_the_originals_where_it_asks(tokenizer, kind, side, options, monkeypatch):
    monkeypatch.setattr(tokenizer, "padding_side", side)
    rows = with_words(tokenizer)
    plain = DataCollatorWithPadding(tokenizer, **options)([{"input_ids": r["input_ids"]} for r in rows])
    batch = kind(tokenizer, mlm_probability=0.5, **options)(rows)
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    ids, labels, before = (np.asarray(a) for a in (batch["input_ids"], batch["labels"], plain["input_ids"]))
    asked = labels != -100
    assert asked.any() and labels.shape == ids.shape
    assert not np.isin(before[asked], tokenizer.all_special_ids).any()
    assert (labels[asked] == before[asked]).all() and (ids[~asked] == before[~asked]).all()
    assert type(batch["labels"]) is type(batch["input_ids"])


@pytest.mark.parametrize("kind", MASKERS)
def test_masks_follow_the_generator_of_torch_and_are_the_same_with_and_without_padding(tokenizer, kind):
    collator, rows = kind(tokenizer, mlm_probability=0.4), with_words(tokenizer)
    state = torch.get_rng_state()
    padded, other = collator(rows), collator(rows)
    torch.set_rng_state(state)
    packed = collator.pack(rows)
    assert padded["labels"].tolist() != other["labels"].tolist()
    assert packed.pad(packed.input_ids, fill=tokenizer.pad_token_id).tolist() == padded["input_ids"].tolist()
    assert packed.pad(packed.labels, fill=-100).tolist() == padded["labels"].tolist()


@pytest.mark.parametrize("kind", MASKERS)
def test_with_a_seed_a_row_has_one_mask_in_every_batch(tokenizer, kind):
    rows, state = with_words(tokenizer), torch.get_rng_state()
    collator = kind(tokenizer, mlm_probability=0.4, seed=3)
    alone = [collator([row]) for row in rows]
    together, again = collator.pack(rows[::-1]), collator(rows)
    wide = tokenizer.pad(rows, padding="max_length", max_length=30)
    wide["word_ids"] = [r["word_ids"] + [None] * (30 - len(r["word_ids"])) for r in rows]
    for i, want in enumerate(alone):
        n = len(rows[i]["input_ids"])
        for name in ("input_ids", "labels"):
            row = want[name][0].tolist()
            assert again[name][i, :n].tolist() == row
            assert collator(dict(wide))[name][i, :n].tolist() == row
            assert together.pad(getattr(together, name))[len(rows) - 1 - i, :n].tolist() == row
    assert torch.equal(torch.get_rng_state(), state), "the masks of an evaluation draw nothing from training"
    assert kind(tokenizer, mlm_probability=0.4, seed=4)(rows)["labels"].tolist() != again["labels"].tolist()


@pytest.mark.parametrize("kind", MASKERS)
def test_a_packed_batch_is_masked_anew_in_each_epoch_and_always_alike_without_one(tokenizer, kind):
    rows, state = with_words(tokenizer), torch.get_rng_state()
    store = TokenStore.from_dataset(datasets.Dataset.from_list(rows), labels_of="token")
    collator = kind(tokenizer, mlm_probability=0.4)
    batch = store.pack([0, 1, 2, 3])
    want = collator.mask(batch, seed=3, epoch=None)
    for fixed in (
        collator.mask(batch, seed=3),
        kind(tokenizer, mlm_probability=0.4, seed=3).mask(batch, seed=9, epoch=1),
    ):
        assert fixed.input_ids.tolist() == want.input_ids.tolist()
        assert fixed.labels.tolist() == want.labels.tolist()
        assert fixed.order == batch.order and fixed.sample_ids == batch.sample_ids and fixed.words is None
    epochs = [collator.mask(batch, seed=3, epoch=e).labels.tolist() for e in (0, 0, 1)]
    assert epochs[0] == epochs[1] != epochs[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_words_are_masked_whole_with_any_tokenizer(tokenizer):
    rows = with_words(tokenizer)
    collator = DataCollatorForWholeWordMask(tokenizer, mlm_probability=0.5)
    for _ in range(10):
        for row, labels in zip(rows, collator(rows)["labels"].tolist(), strict=True):
            for a, b, x, y in zip(row["word_ids"], row["word_ids"][1:], labels, labels[1:], strict=False):
                if a == b:
                    assert (x == -100) == (y == -100)


def test_without_masking_the_labels_are_the_tokens_as_in_transformers(tokenizer, features):
    rows = [{k: v for k, v in f.items() if k != "label"} for f in features]
    want = transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False)(rows)
    assert_same(DataCollatorForLanguageModeling(tokenizer, mlm=False)(rows), want)


def test_the_column_of_special_tokens_decides_where_there_is_one(tokenizer):
    rows = [{"input_ids": [101, 2000, 100, 2001, 102], "special_tokens_mask": [1, 1, 0, 0, 1], "label": 1}]
    batch = DataCollatorForLanguageModeling(tokenizer, mlm_probability=1.0)(rows)
    assert batch["labels"].tolist() == [[-100, -100, 100, 2001, -100]]
    assert "special_tokens_mask" not in batch and "label" not in batch


def test_masks_that_cannot_be_made_are_one_clear_line(tokenizer, features):
    with pytest.raises(DataError, match=r"no column 'word_ids'.*tokens.word_ids\(i\)"):
        DataCollatorForWholeWordMask(tokenizer)([{"input_ids": [101, 2000, 102]}])
    with pytest.raises(ArgumentError, match=r"no mask token: .*mlm=False"):
        DataCollatorForLanguageModeling(SimpleNamespace(mask_token_id=None))
    for options in ({"mlm_probability": 1.5}, {"mask_replace_prob": 0.9, "random_replace_prob": 0.2}):
        with pytest.raises(ArgumentError, match="allowed are shares of 0 to 1"):
            DataCollatorForLanguageModeling(tokenizer, **options)


@pytest.mark.parametrize("mlm", [True, False])
def test_tokens_without_attention_are_never_asked_for(tokenizer, mlm):
    """Padding is known by its mask, not by its id: a tokenizer may pad with a token that texts hold too."""
    rows = [{"input_ids": [2000, 2001, 2002], "attention_mask": [1, 1, 0]}]
    batch = DataCollatorForLanguageModeling(tokenizer, mlm=mlm, mlm_probability=1.0)(rows)
    assert batch["labels"].tolist() == [[2000, 2001, -100]] and batch["input_ids"][0, 2] == 2002
