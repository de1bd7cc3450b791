"""Sources and targets travel together, padded the Hugging Face way or packed, and nothing is computed on padding."""

from __future__ import annotations

from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from unpad.data.collators import (
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification,
    PackingCollator,
)
from unpad.data.sampler import BatchSampler
from unpad.data.tokens import TokenStore
from unpad.errors import DataError

datasets.disable_progress_bars()
SMALL = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
         "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "vocab_size": 600, "max_position_embeddings": 64}  # fmt: skip


@pytest.fixture(scope="module", params=["right", "left"])
def tokenizer(request, minilm):
    return transformers.AutoTokenizer.from_pretrained(minilm, padding_side=request.param)


@pytest.fixture(scope="module")
def models():
    """An encoder-decoder of each rule: behind a start token, and (mBART) behind the target's own last token."""
    marian = transformers.MarianConfig(**SMALL, pad_token_id=0, decoder_start_token_id=7, eos_token_id=2)
    mbart = transformers.MBartConfig(**SMALL, pad_token_id=1)
    return {"marian": transformers.MarianMTModel(marian), "mbart": transformers.MBartForConditionalGeneration(mbart)}


def pairs(draw, most=5):
    ids = st.lists(st.integers(3, 500), min_size=1, max_size=9)
    rows = draw(st.lists(st.tuples(ids, ids), min_size=1, max_size=most))
    return [{"input_ids": a, "attention_mask": [1] * len(a), "labels": b} for a, b in rows]


def per_row(batch, values):
    """Values [T] of a packed batch as a list per row, in the caller's order."""
    rows = dict(zip(batch.order, values.split(list(batch.lengths)), strict=True))
    return [rows[i].tolist() for i in range(len(batch))]


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_padded_batches_equal_those_of_transformers(tokenizer, models, data):
    rows = pairs(data.draw)
    options = data.draw(
        st.sampled_from(
            [{}, {"pad_to_multiple_of": 4}, {"padding": "max_length", "max_length": 12}, {"label_pad_token_id": -1}]
        )
    )
    model = models.get(data.draw(st.sampled_from(["marian", "mbart", "none"])))
    expected = transformers.DataCollatorForSeq2Seq(tokenizer, model=model, **options)([dict(r) for r in rows])
    found = DataCollatorForSeq2Seq(tokenizer, model, **options)(rows)
    assert set(found) == set(expected)
    for name in expected:
        assert found[name].dtype == expected[name].dtype
        assert found[name].tolist() == expected[name].tolist(), name


def test_a_model_without_a_rule_of_its_own_starts_targets_by_its_configuration(minilm):
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    rows = [{"input_ids": [5, 6], "labels": [8, 9]}, {"input_ids": [5], "labels": [4]}]
    model = SimpleNamespace(config=SimpleNamespace(decoder_start_token_id=7, pad_token_id=0))
    for kind in ("pt", "np"):
        batch = DataCollatorForSeq2Seq(tokenizer, model=model, return_tensors=kind)(rows)
        assert batch["decoder_input_ids"].tolist() == [[7, 8], [7, 4]]
    # the documentation of transformers passes a checkpoint's name for the model
    assert "decoder_input_ids" not in DataCollatorForSeq2Seq(tokenizer, model="t5-small")(rows)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_packed_batch_holds_the_padded_one_without_padding(tokenizer, data):
    rows = pairs(data.draw)
    collator = DataCollatorForSeq2Seq(tokenizer)
    padded, batch = collator(rows), collator.pack(rows)
    store = TokenStore.from_dataset(datasets.Dataset.from_list(rows), labels_of="target")
    for packed in (batch, store.pack(range(len(rows)))):
        real = padded["attention_mask"].bool()
        assert per_row(packed, packed.input_ids) == [
            r[m].tolist() for r, m in zip(padded["input_ids"], real, strict=True)
        ]
        target = packed.target
        assert per_row(target, target.labels) == [row[row != -100].tolist() for row in padded["labels"]]
        assert torch.equal(target.input_ids, target.labels)
        assert packed.labels is None
        assert packed.tokens + target.tokens == sum(len(r["input_ids"]) + len(r["labels"]) for r in rows)
    assert target.sample_ids == target.order


def test_labels_that_were_padded_before_cost_nothing_and_keep_what_is_ignored_inside():
    rows = [{"input_ids": [5], "labels": [8, -100, 9, -100, -100]}, {"input_ids": [5], "labels": [4, 3, 2, 1, 7]}]
    parts = [datasets.Dataset.from_list([row]) for row in rows]
    for data in (rows, datasets.Dataset.from_list(rows), datasets.concatenate_datasets(parts)):
        store = TokenStore.from_dataset(data, labels_of="target")
        assert store.target_lengths.tolist() == [3, 5]
        target = store.pack([0]).target
        assert target.labels.tolist() == [8, -100, 9]
        assert target.input_ids.tolist() == [8, 0, 9]
    assert DataCollatorForSeq2Seq(None).pack(rows[:1]).target.labels.tolist() == [8, -100, 9]


def test_a_token_budget_counts_sources_and_targets():
    rng = np.random.default_rng(0)
    rows = [{"input_ids": [5] * int(a), "labels": [6] * int(b)} for a, b in rng.integers(1, 30, (60, 2))]
    store = TokenStore.from_dataset(rows, labels_of="target")
    assert store.lengths.tolist() == [len(r["input_ids"]) + len(r["labels"]) for r in rows]
    assert store.tokens == sum(store.lengths)
    assert store.longest_target == max(len(r["labels"]) for r in rows)
    sampler = BatchSampler(len(store), None, seed=0, lengths=store.lengths, max_tokens=100)
    for chosen in sampler.epoch(0):
        batch = store.pack(chosen)
        assert batch.tokens + batch.target.tokens <= 100


def test_the_store_without_targets_has_none():
    store = TokenStore.from_dataset([{"input_ids": [5, 6]}], labels_of="target")
    assert (store.has_labels, store.longest_target, store.pack([0]).target) == (False, None, None)


@pytest.mark.parametrize("empty", [None, [], [-100, -100]])
def test_a_target_without_text_is_one_clear_line(empty):
    rows = [{"input_ids": [5], "labels": [4]}, {"input_ids": [6], "labels": empty}]
    with pytest.raises(DataError, match=r"row 1 of 'train' has a target without text .*filter"):
        TokenStore.from_dataset(datasets.Dataset.from_list(rows), labels_of="target", split="train")
    turned = datasets.Dataset.from_list(rows).select([1, 0])
    with pytest.raises(DataError, match="row 0 has a target without text"):
        TokenStore.from_dataset(turned, labels_of="target")
    with pytest.raises(DataError, match="feature 1 of the batch has a target without text"):
        DataCollatorForSeq2Seq(None).pack(rows)


def test_a_target_that_is_still_text_is_one_clear_line():
    with pytest.raises(DataError, match="'labels' holds string, a list of numbers per row is needed"):
        TokenStore.from_dataset([{"input_ids": [5], "labels": "Hallo"}], labels_of="target")


def test_targets_that_the_model_cannot_make_are_named_with_their_row():
    rows = [{"input_ids": [5], "labels": [4, 5, -100, 1]}, {"input_ids": [6], "labels": [4, 99]}]
    store = TokenStore.from_dataset(rows, labels_of="target")
    store.check(100, 4)
    with pytest.raises(DataError, match="token id 99 in the target of row 1 is outside the model's vocabulary of 99"):
        store.check(99, 4)
    with pytest.raises(DataError, match="the target of row 0 has 4 tokens, the model takes 3"):
        store.check(100, 3)


def test_a_target_longer_than_the_asked_padding_is_one_clear_line(minilm):
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    with pytest.raises(DataError, match="a target has 5 tokens, max_length is 4"):
        DataCollatorForSeq2Seq(tokenizer, padding="max_length", max_length=4)([{"input_ids": [5], "labels": [3] * 5}])


def test_the_fingerprint_changes_with_targets_and_weights():
    def digits(labels_of, **columns):
        return TokenStore.from_dataset([{"input_ids": [5, 6], **columns}], labels_of=labels_of).fingerprint

    found = [digits("target", labels=[4, 3]), digits("target", labels=[4, 2]), digits("token", labels=[4, 3])]
    found += [digits("token"), digits("token", weights=[1.0, 2.0]), digits("token", weights=[1.0, 2.5])]
    assert len(set(found)) == len(found)


# ---- models of the next token


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_batches_for_the_next_token_equal_those_of_transformers(tokenizer, data):
    """Labels are the ids; without a pad token among the texts this is what transformers does."""
    rows = [{"input_ids": r["input_ids"]} for r in pairs(data.draw)]
    expected = transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False)([dict(r) for r in rows])
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    found = collator(rows)
    assert {n: found[n].tolist() for n in expected} == {n: v.tolist() for n, v in expected.items()}
    packed = collator.pack(rows)
    assert torch.equal(packed.labels, packed.input_ids)
    assert per_row(packed, packed.labels) == [r["input_ids"] for r in rows]


def test_an_end_of_text_that_is_also_the_pad_token_is_learned(minilm):
    """transformers ignores every pad token; models then never learn to stop."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    tokenizer.pad_token = "[SEP]"
    end = tokenizer.pad_token_id
    batch = DataCollatorForLanguageModeling(tokenizer, mlm=False)([{"input_ids": [5, 6, end]}, {"input_ids": [7, end]}])
    assert batch["labels"].tolist() == [[5, 6, end], [7, end, -100]]


@pytest.mark.parametrize("as_data_set", [True, False])
def test_weights_travel_with_their_tokens(tokenizer, as_data_set):
    rng = np.random.default_rng(1)
    rows = []
    for n in (3, 7, 5):
        ids = rng.integers(3, 500, n).tolist()
        padding = [0] * 2 if as_data_set else []
        mask = [1] * n + [0] * len(padding)
        rows.append(
            {
                "input_ids": ids + padding,
                "attention_mask": mask,
                "weights": [i / 500 for i in ids] + [9.0] * len(padding),
            }
        )
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    if as_data_set:
        store = TokenStore.from_dataset(datasets.Dataset.from_list(rows), labels_of="token")
        assert "weights" in store.kept
        batches = [collator.mask(store.pack([2, 0, 1]), seed=0)]
    else:
        labelled = [{**r, "labels": r["input_ids"]} for r in rows]
        batches = [collator.pack(rows), PackingCollator(token_labels=True)(labelled)]
        padded = collator(rows)
        assert torch.allclose(padded["weights"], padded["input_ids"] / 500)
        assert padded["weights"].dtype == torch.float32
    for batch in batches:
        assert batch.weights.dtype == torch.float32
        assert torch.allclose(batch.weights, batch.input_ids / 500)
        assert batch.tokens == 15


def test_a_column_named_weights_of_other_tasks_is_only_a_column():
    rows = [{"input_ids": [5, 6], "label": 1, "weights": "2 kg"}]
    store = TokenStore.from_dataset(datasets.Dataset.from_list(rows))
    assert store.dropped == ["weights"]
    assert store.pack([0]).weights is None


def test_weights_that_do_not_fit_their_tokens_are_one_clear_line(tokenizer):
    rows = [{"input_ids": [5, 6], "weights": [1.0]}]
    with pytest.raises(DataError, match="row 0 has 2 input_ids but 1 weights"):
        TokenStore.from_dataset(rows, labels_of="token")
    with pytest.raises(DataError, match="feature 0 of the batch has 2 input_ids but 1 weights"):
        DataCollatorForLanguageModeling(tokenizer, mlm=False)(rows)
    assert "weights" not in DataCollatorForTokenClassification(tokenizer).fields
