"""The loss over a vocabulary without its logits: the numbers and gradients of PyTorch's cross entropy, in every corner of a loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from unpad.core import losses
from unpad.core.layers import RowEmbedding
from unpad.core.losses import mean, sequence_loss, vocabulary_loss
from unpad.errors import ArgumentError

V, E = 37, 6


def case(seed: int, M: int) -> tuple[Tensor, nn.Parameter, nn.Parameter, Tensor, Tensor]:
    """Vectors, table, bias, labels (some of them -100) and weights."""
    torch.manual_seed(seed)
    labels = torch.randint(-12, V, (M,))
    x, table, bias = torch.randn(M, E), torch.randn(V, E), torch.randn(V)
    return x.requires_grad_(), nn.Parameter(table), nn.Parameter(bias), labels.where(labels >= 0, -100), torch.rand(M)


def reference(x: Tensor, table: Tensor, bias: Tensor | None, labels: Tensor, weights: Any, smoothing: float) -> Tensor:
    each = F.cross_entropy(F.linear(x, table, bias), labels, label_smoothing=smoothing, reduction="none")
    return (each if weights is None else each * weights).sum() / max(int((labels != -100).sum()), 1)


def near(a: Tensor | None, b: Tensor | None, share: float = 1e-5) -> None:
    assert a is not None and b is not None
    assert (a - b).abs().max() <= share * b.abs().max() + 1e-9


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 99),
    st.integers(1, 90),
    st.sampled_from([0.0, 0.1]),
    st.booleans(),
    st.sampled_from([1.0, 0.3, 64.0]),
)
def test_numbers_and_gradients_are_those_of_cross_entropy(
    seed: int, M: int, smoothing: float, weighted: bool, scale: float
) -> None:
    """Block by block, at any scale of the loss, added up over two passes; and where nothing is asked."""
    x, table, bias, labels, weights = case(seed, M)
    given_weights = weights if weighted else None
    before, losses.BLOCK = losses.BLOCK, 20 * V
    try:
        for part in (slice(0, M // 2), slice(M // 2, M)):
            own = given_weights[part] if given_weights is not None else None
            loss = mean(*vocabulary_loss(x[part], table, bias, labels[part], None, own, smoothing))
            near(loss, reference(x[part], table, bias, labels[part], own, smoothing))
            (loss * scale).backward()
    finally:
        losses.BLOCK = before
    got = [t.grad.clone() for t in (x, table, bias)]  # type: ignore[union-attr]
    x.grad = table.grad = bias.grad = None
    for part in (slice(0, M // 2), slice(M // 2, M)):
        own = given_weights[part] if given_weights is not None else None
        (reference(x[part], table, bias, labels[part], own, smoothing) * scale).backward()
    for a, b in zip(got, (x.grad, table.grad, bias.grad), strict=True):
        near(a, b)


@pytest.mark.parametrize("frozen", range(3))
def test_what_is_frozen_gets_no_gradient_and_the_others_the_same(frozen: int) -> None:
    x, table, bias, labels, _ = case(0, 30)
    parts = (x, table, bias)
    parts[frozen].requires_grad_(False)
    mean(*vocabulary_loss(x, table, bias, labels)).backward()
    got = [part.grad for part in parts]
    assert got[frozen] is None
    x.grad = table.grad = bias.grad = None
    reference(x, table, bias, labels, None, 0.0).backward()
    for i in {0, 1, 2} - {frozen}:
        near(got[i], parts[i].grad)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_evaluation_makes_no_gradients(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would cost twice the loss itself, and the buffer that training keeps for them."""
    x, _, bias, labels, _ = case(0, 30)
    layer = RowEmbedding(V, E)
    monkeypatch.setattr(layer, "gradient_buffer", lambda: pytest.fail("a gradient is made"))
    with context():
        loss = mean(*vocabulary_loss(x, layer.weight, bias, labels, layer))
    near(loss, reference(x, layer.weight, bias, labels, None, 0.0).detach())


def test_a_second_backward_pass_is_refused_in_one_line() -> None:
    x, table, bias, labels, _ = case(0, 30)
    loss = mean(*vocabulary_loss(x, table, bias, labels))
    loss.backward(retain_graph=True)
    with pytest.raises(ArgumentError, match=r"^a loss over the vocabulary has one backward pass; call the model again"):
        loss.backward()


def test_small_gradients_outlive_fp16() -> None:
    """Of 4000 words asked at 3000 each gradient is about 1e-7: fp16 has hardly a digit there."""
    torch.manual_seed(0)
    x, table = torch.randn(4000, 8).mul_(0.1).requires_grad_(), nn.Parameter(torch.randn(3000, 8))
    labels = torch.randint(0, 30, (4000,))  # most words never come: all that they learn is small
    with torch.autocast("cpu", torch.float16):
        loss = mean(*vocabulary_loss(x, table, None, labels))
    (loss * 1024).backward()
    assert x.grad is not None and table.grad is not None
    got = x.grad / 1024, table.grad[30:] / 1024
    x.grad = table.grad = None
    reference(x, table, None, labels, None, 0.0).backward()
    assert table.grad is not None
    near(got[0], x.grad, 1e-2)
    near(got[1], table.grad[30:], 1e-2)


def test_a_row_without_a_class_counts_in_no_mean() -> None:
    logits, labels = torch.randn(5, 3), torch.tensor([0, -100, 2, 1, -100])
    total, count = sequence_loss(logits, labels, "single_label_classification")
    near(total / count, F.cross_entropy(logits, labels))
