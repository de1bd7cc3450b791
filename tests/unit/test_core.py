"""The packed core: buckets, dropout masks, row gradients, alignment. Each is an optimisation that must not be seen in results."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unpad import ArgumentError, AutoModelForSequenceClassification, BertConfig, BertModel, DataError
from unpad.batch import from_padded, pack, plan_buckets
from unpad.core.layers import RowEmbedding
from unpad.core.noise import Noise
from unpad.engine.optim import PreparedOptimizer, gradient_norm

SMALL = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}


def small_model(**changes: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(BertConfig(**{**SMALL, **changes}))


def random_batch(lengths: list[int], seed: int = 0):
    rng = np.random.default_rng(seed)
    return pack([rng.integers(1, 60, size=n) for n in lengths], labels=rng.integers(0, 2, size=len(lengths)))


@given(st.lists(st.integers(1, 512), min_size=1, max_size=80))
def test_buckets_cover_every_sequence_once_in_order(lengths: list[int]) -> None:
    falling = sorted(lengths, reverse=True)
    buckets = plan_buckets(falling)
    assert [n for bucket in buckets for n in bucket.lengths] == falling
    assert [bucket.start for bucket in buckets] == list(np.cumsum([0, *(b.tokens for b in buckets)])[:-1])


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12))
def test_packing_keeps_every_token_and_restores_the_callers_order(lengths: list[int]) -> None:
    rows = [np.arange(n) + 100 * i for i, n in enumerate(lengths)]
    batch = pack(rows, labels=np.arange(len(rows)), sample_ids=[7 * i for i in range(len(rows))])
    assert batch.lengths == tuple(sorted(lengths, reverse=True)) and batch.tokens == sum(lengths)
    assert batch.restore(batch.labels).tolist() == list(range(len(rows)))
    assert batch.sample_ids == tuple(7 * i for i in batch.order)
    padded = batch.pad(batch.input_ids, fill=-1)
    for i, row in enumerate(rows):
        assert padded[i, : len(row)].tolist() == row.tolist() and (padded[i, len(row) :] == -1).all()


def test_a_row_that_the_mask_hides_keeps_its_first_token_and_one_mask_may_stand_for_all_rows() -> None:
    ids = torch.tensor([[5, 6], [7, 8]])
    batch, slots = from_padded(ids, torch.tensor([[0, 0], [1, 1]]))
    assert batch.lengths == (2, 1) and batch.input_ids.tolist() == [7, 8, 5] and slots.tolist() == [2, 3, 0]
    assert from_padded(ids, torch.tensor([[0, 1]]))[0].input_ids.tolist() == [6, 8]


def test_left_and_middle_padding_is_dropped_like_right_padding() -> None:
    ids = torch.tensor([[0, 0, 5, 6], [7, 0, 8, 9]])
    mask = torch.tensor([[0, 0, 1, 1], [1, 0, 1, 1]])
    batch, slots = from_padded(ids, mask)
    assert batch.restore(batch.cu_seqlens.diff()).tolist() == [2, 3]
    assert batch.input_ids.tolist() == [7, 8, 9, 5, 6] and slots.tolist() == [4, 6, 7, 2, 3]


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_drops_the_asked_share_and_keeps_the_expectation(p: float) -> None:
    """A million draws: the share lies within 5 standard errors (false alarm below 1e-6), neighbours are independent."""
    torch.manual_seed(0)
    n = 1_000_000
    mask = Noise(torch.device("cpu")).mask((n,), p, torch.empty(0))
    dropped = (mask == 0).float()
    error = (p * (1 - p) / n) ** 0.5
    assert abs(dropped.mean().item() - p) < 5 * error
    assert mask.mean().item() == pytest.approx(1, abs=5 * error / (1 - p))
    assert mask.unique().tolist() == [0.0, pytest.approx(1 / (1 - p), rel=1e-4)]
    for lag in (1, 2, 4, 384):
        both = (dropped[lag:] * dropped[:-lag]).mean().item()
        assert abs(both - p * p) < 5 * (p * p / n) ** 0.5


def test_a_seed_fixes_the_masks_and_each_forward_pass_draws_new_ones() -> None:
    def draw() -> list[torch.Tensor]:
        return [Noise(torch.device("cpu")).mask((64,), 0.5, torch.empty(0)) for _ in range(2)]

    torch.manual_seed(3)
    first = draw()
    torch.manual_seed(3)
    again = draw()
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(1, 3))
def test_row_gradients_equal_dense_gradients(lengths: list[int], passes: int) -> None:
    """Standing row gradients are the dense gradient, through accumulation, clipping norm and clearing."""
    dense, rows = small_model(), small_model()
    layer = rows.row_embeddings()[0]
    layer.train_rows()
    for step in range(2):
        for number in range(passes):
            batch = random_batch(lengths, seed=10 * step + number)
            dense(batch).loss.backward()
            rows(batch).loss.backward()
        for (name, a), b in zip(dense.named_parameters(), rows.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, msg=lambda m, name=name: f"{name}: {m}")
        expected = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in dense.parameters()]))
        torch.testing.assert_close(gradient_norm(rows.parameters(), [layer]), expected)
        dense.zero_grad()
        layer.clear_gradient()
        for p in rows.parameters():
            if p is not layer.weight:
                p.grad = None
        assert layer.weight.grad.count_nonzero() == 0


@pytest.mark.parametrize("max_norm", [0.01, 1e6, None])
def test_the_clipped_step_equals_clip_and_step(max_norm: float | None) -> None:
    ours, plain = small_model(), small_model()
    optimizers = [torch.optim.AdamW(m.parameters(), lr=1e-2, fused=True) for m in (ours, plain)]
    prepared = PreparedOptimizer(optimizers[0])
    prepared.keep_rows(ours)
    for step in range(4):
        batch = random_batch([9, 4, 4], seed=step)
        ours(batch).loss.backward()
        plain(batch).loss.backward()
        norm = prepared.clipped_step(max_norm)
        expected = torch.nn.utils.clip_grad_norm_(plain.parameters(), max_norm or float("inf"))
        torch.testing.assert_close(norm, expected)
        optimizers[1].step()
        prepared.zero_grad()
        optimizers[1].zero_grad()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_training_only_the_rows_in_use_changes_no_weight() -> None:
    """Rows trained apart against the whole table: the same weights after steps, evaluations, saves and loads in between."""
    whole, apart = (small_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train() for _ in range(2))
    used = torch.tensor(sorted({int(i) for step in range(6) for i in random_batch([9, 4, 4], seed=step).input_ids}))
    layer = apart.row_embeddings()[0]
    unused = [i for i in range(len(layer.weight)) if i not in used]
    before = layer.weight.detach().clone()
    optimizers = []
    for model, ids in ((whole, None), (apart, used)):
        optimizers.append(
            PreparedOptimizer(torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0, fused=True))
        )
        optimizers[-1].keep_rows(model, ids)
    assert layer.trained.shape[0] == len(used) < layer.num_embeddings
    for step in range(6):
        for model, optimizer in zip((whole, apart), optimizers, strict=True):
            model(random_batch([9, 4, 4], seed=step)).loss.backward()
            optimizer.clipped_step(1.0)
            optimizer.zero_grad()
        if step == 2:  # an evaluation
            every = torch.arange(layer.num_embeddings)
            assert torch.equal(whole.eval().row_embeddings()[0](every), apart.eval().row_embeddings()[0](every))
            whole.train(), apart.train()
        if step == 4:  # a checkpoint
            states = whole.state_dict(), apart.state_dict()
            assert list(states[0]) == list(states[1])
            assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    layer.release()
    for (name, a), b in zip(whole.named_parameters(), apart.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert torch.equal(layer.weight[unused], before[unused])
    assert not torch.equal(layer.weight[used], before[used])


@pytest.mark.parametrize("train", [False, True])
def test_bf16_stays_near_fp32(train: bool) -> None:
    """Autocast, the aligned rows and fp32 attention inside: logits and gradients within bf16's precision of fp32's."""
    model = small_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train(train)
    batch = random_batch([33, 20, 20, 7, 1])
    full = model(batch)
    full.loss.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        half = model(batch)
    half.loss.backward()
    assert half.logits.shape == full.logits.shape
    torch.testing.assert_close(half.logits, full.logits, atol=2e-2, rtol=2e-2)
    for name, parameter in model.named_parameters():
        scale = gradients[name].abs().max().item() + 1e-6
        assert (parameter.grad - gradients[name]).abs().max().item() < 0.08 * scale + 1e-4, name


def test_a_frozen_embedding_keeps_no_gradient() -> None:
    layer = RowEmbedding(10, 4)
    layer.train_rows()
    layer.weight.requires_grad_(False)
    assert not layer(torch.tensor([1, 2])).requires_grad


def test_models_refuse_what_they_cannot_compute_in_one_line() -> None:
    model = small_model()
    with pytest.raises(DataError, match="65 tokens is longer than the model's 64 positions"):
        model(random_batch([65]))
    with pytest.raises(ArgumentError, match="did you mean 'attention_mask'"):
        model(torch.ones(1, 2, dtype=torch.long), attention_masks=torch.ones(1, 2))
    with pytest.raises(ArgumentError, match="PackedBatch or a tensor"):
        model([1, 2, 3])
    with pytest.raises(ArgumentError, match="not a multiple"):
        BertModel(BertConfig(hidden_size=30, num_attention_heads=4))
    with pytest.raises(ArgumentError, match="did you mean 'hidden_size'"):
        BertConfig(hiden_size=30)
    with pytest.raises(ArgumentError, match="num_labels=3 but there are 2"):
        BertConfig(num_labels=3, id2label={0: "a", 1: "b"})
