"""Attention in all its kinds: what the fast paths compute equals a plain float64 reference, in results and gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import SMALL, bert_config, close, packed, random_inputs

from unpad import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification
from unpad.core.attention import TILE, Attention, Rotation, attend, pairs_of, rotary_table
from unpad.core.disentangled import DisentangledAttention, log_bucket
from unpad.core.noise import Noise
from unpad.core.positions import rotary_frequencies
from unpad.errors import ArgumentError

HEADS, WIDTH = 4, 24
LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=10)
SEEDS = st.integers(0, 2**31)
DEBERTA = {"relative_attention": True, "pos_att_type": "p2c|c2p", "position_biased_input": False}


@settings(max_examples=60, deadline=None)
@given(
    LENGTHS,
    SEEDS,
    st.sampled_from([None, 0, 1, 3, 8, 100]),
    st.sampled_from([None, 20.0, 10_000.0]),
    st.sampled_from([1, 2, 4]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 4, 9, 128]),
)
def test_attention_of_every_kind_equals_the_reference(
    lengths: list[int], seed: int, window: int | None, theta: float | None, kv_heads: int, causal: bool, biased: bool, tile: int
) -> None:  # fmt: skip
    torch.manual_seed(seed)
    batch = packed(random_inputs(bert_config(), seed, lengths))
    how = Attention(HEADS, WIDTH // HEADS, kv_heads, causal, window)
    qkv = torch.randn(batch.tokens, (HEADS + 2 * kv_heads) * how.head_width, requires_grad=True)
    if theta is not None:
        tables = rotary_table(batch.position_ids, rotary_frequencies(how.head_width, theta))
        qkv = Rotation.apply(qkv, *tables, how).detach().requires_grad_()
    bias = torch.randn(HEADS, 30, 30, requires_grad=True) if biased else None
    slow = reference.attention(qkv, batch, how, bias)
    with mock.patch("unpad.core.attention.TILE", tile):
        _same(lambda: attend(qkv, batch, how, 0, None, bias), slow, [qkv, bias])


@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (False, 2), (True, 1)])
def test_gradients_under_dropout_are_those_of_small_differences(causal: bool, window: int | None) -> None:
    batch = packed(random_inputs(bert_config(), 0, [7, 5, 2]))
    how = Attention(2, 3, 1, causal, window)
    qkv = torch.randn(batch.tokens, 4 * 3, dtype=torch.float64, requires_grad=True)

    def dropped(x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(1)  # the same masks in each call
        return attend(x, batch, how, 0.3, Noise(x.device))

    with mock.patch("unpad.core.attention.TILE", 3):
        assert torch.autograd.gradcheck(dropped, qkv)


def test_a_window_costs_no_more_than_it_sees() -> None:
    how = Attention(2, 4, 2, window=10)
    batch = packed(random_inputs(bert_config(max_position_embeddings=1000), 0, [1000]))
    (pair,) = pairs_of(batch, torch.device("cpu"), how)
    seen = [tile.masked.numel() for tile in pair.tiles if tile.masked is not None]
    assert sum(seen) <= 1000 * (TILE + 2 * 10) < 1000 * 1000 / 5


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=8), SEEDS, st.sampled_from([2, 4])
)
def test_attention_to_other_sequences_equals_the_reference(
    lengths: list[tuple[int, int]], seed: int, kv_heads: int
) -> None:
    torch.manual_seed(seed)
    memory, batch = (packed(random_inputs(bert_config(), seed, list(side))) for side in zip(*lengths, strict=True))
    how = Attention(HEADS, WIDTH // HEADS, kv_heads)
    q = torch.randn(batch.tokens, WIDTH, requires_grad=True)
    kv = torch.randn(memory.tokens, 2 * kv_heads * how.head_width, requires_grad=True)
    slow = reference.attention(q, batch, how, None, kv, memory)
    _same(lambda: attend(q, batch, how, 0, None, None, kv, memory), slow, [q, kv])


def test_a_batch_may_attend_to_one_memory_after_another() -> None:
    """As when the same translation is scored for several sources: what was planned for one is not used for the next."""
    how, (batch, *memories) = Attention(HEADS, 6, HEADS), (
        packed(random_inputs(bert_config(), 0, lengths)) for lengths in ([3, 4, 2], [2, 9, 5], [5, 2, 9])
    )  # fmt: skip
    q = torch.randn(batch.tokens, WIDTH)
    for memory in memories:
        kv = torch.randn(memory.tokens, 2 * WIDTH)
        ours = attend(q, batch, how, 0, None, None, kv, memory)
        close(ours, reference.attention(q, batch, how, None, kv, memory), 1e-5)


def test_attention_in_float64_keeps_its_digits() -> None:
    batch, how = packed(random_inputs(bert_config(), 0, [7, 3])), Attention(HEADS, 6, HEADS)
    qkv = torch.randn(batch.tokens, 3 * WIDTH, dtype=torch.float64, requires_grad=True)
    close(attend(qkv, batch, how), reference.attention(qkv, batch, how), 1e-12)


def _same(compute: Any, slow: torch.Tensor, leaves: list[Any]) -> None:
    """Equal results and gradients with respect to `leaves`, and equal results without gradients."""
    leaves, results, weight = [leaf for leaf in leaves if leaf is not None], [], torch.randn_like(slow)
    for out in (slow, compute()):
        results.append((out, *torch.autograd.grad((out * weight).sum(), leaves, allow_unused=True)))
    for ours, theirs in zip(results[1], results[0], strict=True):
        close(ours, theirs, 1e-5)
    with torch.inference_mode():
        close(compute(), slow, 1e-5)


def test_turning_queries_and_keys_keeps_lengths_and_its_gradient_turns_back() -> None:
    torch.manual_seed(0)
    how, positions = Attention(2, 6, 1), torch.arange(9)
    qkv = torch.randn(9, 24, dtype=torch.float64, requires_grad=True)
    tables = tuple(t.double() for t in rotary_table(positions, rotary_frequencies(6, 50.0)))
    assert torch.autograd.gradcheck(lambda x: Rotation.apply(x, *tables, how), qkv)
    turned = Rotation.apply(qkv, *tables, how).view(9, 4, 2, 3)
    close(turned.pow(2).sum(2), qkv.view(9, 4, 2, 3).pow(2).sum(2), 1e-5)
    assert torch.equal(turned[:, 3], qkv.view(9, 4, 2, 3)[:, 3]), "values stay as they are"
    first = torch.view_as_complex(qkv.view(9, 4, 2, 3)[:, 0].transpose(1, 2).contiguous())
    turn = torch.polar(torch.ones(3).double(), rotary_frequencies(6, 50.0).double())
    close(torch.view_as_real(first * turn ** positions[:, None]).transpose(1, 2), turned[:, 0], 1e-5)


@settings(max_examples=30, deadline=None)
@given(
    LENGTHS,
    SEEDS,
    st.sampled_from([[], ["c2p"], ["p2c"], "p2c|c2p"]),
    st.sampled_from([{}, {"position_buckets": 4}, {"max_relative_positions": 5}, {"norm_rel_ebd": "layer_norm"}]),
    st.booleans(),
)  # fmt: skip
def test_disentangled_attention_equals_the_reference(
    lengths: list[int], seed: int, kinds: list[str] | str, changes: dict, shared: bool
) -> None:
    """A vector for each pair of tokens against the fast way: equal hidden states and gradients of every parameter."""
    torch.manual_seed(seed)
    values = {**SMALL, **DEBERTA, "pos_att_type": kinds, "share_att_key": shared, **changes}
    model = AutoModel.from_config(AutoConfig.for_model("deberta-v2", **values))
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    batch = packed(random_inputs(model.config, seed, lengths))
    results = []
    for attends in (reference.disentangled, DisentangledAttention._attend):
        model.zero_grad()
        with mock.patch.object(DisentangledAttention, "_attend", attends):
            hidden = model(batch).last_hidden_state
        hidden.pow(2).sum().backward()
        results.append((hidden, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    close(results[1][0], results[0][0], 1e-4)
    assert results[0][1].keys() == results[1][1].keys()
    for name, grad in results[1][1].items():
        scale = 1 + results[0][1][name].abs().max()
        close(grad / scale, results[0][1][name] / scale, 1e-4, name)


@settings(max_examples=15, deadline=None)
@given(LENGTHS, SEEDS, st.sampled_from(["deberta-v2", "modernbert"]))
def test_padding_and_neighbours_never_change_a_prediction(lengths: list[int], seed: int, name: str) -> None:
    torch.manual_seed(1)
    changes = {**DEBERTA, "position_buckets": 6} if name == "deberta-v2" else {"local_attention": 6}
    config = AutoConfig.for_model(name, **SMALL, **changes, pad_token_id=0, initializer_range=0.3)
    model = AutoModelForSequenceClassification.from_config(config)
    inputs = random_inputs(config, seed, lengths)
    together = model(**inputs).logits
    for row, length in enumerate(lengths):
        alone = {key: value[row : row + 1, :length] for key, value in inputs.items()}
        close(model(**alone).logits, together[row : row + 1], 1e-5)


def test_rotary_attention_depends_on_distances_only() -> None:
    torch.manual_seed(0)
    batch = packed(random_inputs(bert_config(), 0, [9, 4]))
    qkv = torch.randn(batch.tokens, 3 * WIDTH)
    how, frequencies = Attention(HEADS, WIDTH // HEADS, HEADS), rotary_frequencies(WIDTH // HEADS, 100.0)
    tables = [rotary_table(batch.position_ids + shift, frequencies) for shift in (0, 17)]
    here, there = (attend(Rotation.apply(qkv, *table, how), batch, how) for table in tables)
    close(here, there, 1e-5)


@pytest.mark.parametrize("name", ["deberta-v2", "modernbert"])
def test_dropout_and_bf16_train_both_families(name: str) -> None:
    """Every parameter that has a gradient in fp32 has a finite one under dropout and autocast, and the same seed the same loss."""
    changes = {**DEBERTA, "pooler_dropout": 0.1, "cls_dropout": 0.1} if name == "deberta-v2" else {
        "attention_dropout": 0.1, "mlp_dropout": 0.1, "embedding_dropout": 0.1, "local_attention": 4}  # fmt: skip
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **SMALL, **changes, pad_token_id=0)
    model = AutoModelForSequenceClassification.from_config(config).train()
    batch = replace(packed(random_inputs(config, 0, [30, 12, 12, 5])), labels=torch.tensor([0, 1, 0, 1]))
    losses = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(batch).loss
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == losses[1] != losses[2]
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name


def test_relative_buckets_are_exact_near_and_logarithmic_far() -> None:
    far = log_bucket(torch.arange(-40, 41), buckets=8, most=40)
    assert far[36:45].tolist() == list(range(-4, 5)) and torch.equal(far, -far.flip(0))
    assert far[-1] == far.max() == 8 and far[-2] == 7 and (far.diff() >= 0).all()


def test_a_new_modernbert_starts_from_its_published_initialisation() -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model("modernbert", hidden_size=64, num_attention_heads=4, num_hidden_layers=8, vocab_size=500,
                                  intermediate_size=96, pad_token_id=0)  # fmt: skip
    model = AutoModelForSequenceClassification.from_config(config)
    block = model.transformer.blocks[1]
    narrower = (2 * 8) ** -0.5  # of a normal distribution cut at 2 standard deviations, 0.88 of the width is left
    for weight, std in ((block.qkv, 0.02), (block.down, 0.02 * narrower), (model.head.dense, 0.02 * narrower)):
        assert weight.weight.std().item() == pytest.approx(0.88 * std, rel=0.05)
        assert weight.weight.abs().max() <= 2 * std + 1e-9
    assert model.head.classifier.weight.abs().max() <= 2 * 64**-0.5
    assert model.head.classifier.weight.std().item() == pytest.approx(0.88 * 64**-0.5, rel=0.2)


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("deberta-v2", {"conv_kernel_size": 3}, "conv_kernel_size=3 changes the computation"),
        ("deberta-v2", {"legacy": False}, "legacy=False changes the computation"),
        ("deberta-v2", {"pos_att_type": "p2p|c2p"}, "pos_att_type 'p2p' is not supported; supported: c2p, p2c"),
        ("modernbert", {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "rope_parameters.full_attention.rope_type='yarn'"),
        ("modernbert", {"layer_types": ["sliding_attention", "full_attention"]}, "layer_types .* 'full_attention' must come first"),
        ("modernbert", {"classifier_pooling": "max"}, "classifier_pooling 'max' is not supported; supported: cls, mean"),
        ("modernbert", {"classifier_activation": "silu"}, "classifier_activation='silu' changes the computation"),
    ],
)  # fmt: skip
def test_what_would_change_the_mathematics_is_refused_by_name(name: str, raw: dict, said: str) -> None:
    from unpad.families import family

    with pytest.raises(ValueError, match=said):
        family(name).read_config({"model_type": name, **raw})


def test_published_and_newer_spellings_of_modernbert_mean_the_same() -> None:
    from unpad.families import family

    older = {
        "num_hidden_layers": 5,
        "global_attn_every_n_layers": 2,
        "global_rope_theta": 500.0,
        "local_rope_theta": 20.0,
    }
    newer = {"num_hidden_layers": 5,
             "layer_types": ["full_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention"],
             "rope_parameters": {"full_attention": {"rope_theta": 500.0, "rope_type": "default"},
                                 "sliding_attention": {"rope_theta": 20.0, "rope_type": "default"}}}  # fmt: skip
    read = family("modernbert").read_config
    a, b = (read({"model_type": "modernbert", **raw}) for raw in (older, newer))
    assert [(a.window(i), a.theta(i)) for i in range(5)] == [(b.window(i), b.theta(i)) for i in range(5)]
    assert a.window(0) is None and a.window(1) == 64 and a.theta(1) == 20.0
    for config in (a, b):
        written = config.to_dict()
        for raw in (older, newer):
            for key in raw.keys() - {"rope_parameters"}:
                assert written[key] == raw[key]
        assert written["rope_parameters"]["full_attention"]["rope_theta"] == 500.0
    assert b.replace(num_hidden_layers=3).layer_types == ["full_attention", "sliding_attention", "full_attention"]
    with pytest.raises(ArgumentError, match="global_attn_every_n_layers=0 must be a whole number"):
        a.replace(global_attn_every_n_layers=0)


def test_a_new_vocabulary_head_starts_with_no_bias(tmp_path) -> None:
    """A base checkpoint has no bias for the vocabulary: it is drawn, not left as whatever stood in memory."""
    config = AutoConfig.for_model("deberta-v2", **SMALL, **DEBERTA)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    model = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert "head.bias" in model.load_report.new and model.head.bias.abs().sum() == 0
