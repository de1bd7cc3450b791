"""Memory that runs out, and activations that are computed again: the result stays what it was."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from many import many
from runs import model, rows, trained, trainer

from unpad import Accelerator, ArgumentError, TokenStore, TokenStream, Trainer, TrainingArguments, TrainingError
from unpad.engine.strategy import recompute_activations
from unpad.models.model import Model


def limited(most: int, monkeypatch: pytest.MonkeyPatch | None = None) -> None:
    """Let models run out of memory with more rows than `most`, when they learn and when they answer."""
    plain = Model.forward

    def forward(self: Model, input_ids: Any = None, *args: Any, **more: Any) -> Any:
        if len(input_ids) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return plain(self, input_ids, *args, **more)

    if monkeypatch is None:
        Model.forward = forward  # type: ignore[method-assign]
    else:
        monkeypatch.setattr(Model, "forward", forward)


def close(one: dict[str, Any], other: dict[str, Any]) -> None:
    np.testing.assert_allclose(other["losses"], one["losses"], atol=1e-5)
    for a, b in zip(one["evaluations"], other["evaluations"], strict=True):
        assert a["eval_loss"] == pytest.approx(b["eval_loss"], abs=1e-5) and a.get("eval_accuracy") == b.get(
            "eval_accuracy"
        )
    for name, values in one["weights"].items():
        np.testing.assert_allclose(other["weights"][name], values, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("most", [3, 1])
@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_halved_micro_batches_give_the_same_run(
    kind: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = trained(kind, str(tmp_path / "whole"))
    limited(most, monkeypatch)
    close(whole, trained(kind, str(tmp_path / "halved")))
    assert caplog.text.count("micro-batches are halved") == 1


class Letters:
    """A tokenizer of letters."""

    eos_token_id = 1

    def __call__(self, texts: list[str], **options: Any) -> dict[str, Any]:
        return {"input_ids": [[ord(c) - 90 for c in text] for text in texts]}


def batch_of(kind: str, plain: Any) -> Any:
    """A batch with the labels that the model is asked for."""
    store = TokenStore.from_dataset(rows(kind, 6, 2), split="train", labels_of=plain.labels_of)
    batch = store.pack(np.arange(6))
    return replace(batch, labels=batch.input_ids) if plain.next else batch


def test_a_stream_is_halved_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(name: str) -> list[float]:
        texts = [chr(97 + i % 26) * (1 + 7 * i % 40) for i in range(57)]
        stream = TokenStream(texts, Letters(), 24, seed=1)
        training = Trainer(
            model("llama"), TrainingArguments(str(tmp_path / name), max_steps=4, logging_steps=1, disable_tqdm=True, draw_curves=False,
                                              precision="fp32", per_device_train_batch_size=5), train_dataset=stream,
        )  # fmt: skip
        training.train()
        return [r["loss"] for r in training.state.log_history if "loss" in r]

    whole = run("whole")
    limited(4, monkeypatch)
    np.testing.assert_allclose(run("halved"), whole, atol=1e-5)


def test_one_row_that_does_not_fit_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limited(0, monkeypatch)
    with pytest.raises(TrainingError, match=r"one row of .* tokens.*gradient_checkpointing=True") as error:
        trainer("bert", tmp_path).train()
    assert "\n" not in str(error.value)


def _short_of_memory(folder: str) -> Any:
    """Rank 1 cannot hold 2 rows."""
    if os.environ["RANK"] == "1":
        limited(2)
    return trained("bert", folder)


def _without_memory(folder: str) -> Any:
    """The backward pass of rank 1 fails."""

    def backward(self: Accelerator, loss: torch.Tensor) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    if os.environ["RANK"] == "1":
        Accelerator.backward_raw = backward  # type: ignore[method-assign]
    return trained("bert", folder)


def test_one_process_of_two_halves_for_itself_or_says_what_to_halve(tmp_path: Path) -> None:
    whole = trained("bert", str(tmp_path / "whole"))
    for found in many(2, _short_of_memory, str(tmp_path / "halved")):
        if isinstance(found, BaseException):
            raise found
        close(whole, found)
    zero, one = many(2, _without_memory, str(tmp_path / "failed"))
    assert isinstance(one, TrainingError) and "rank 1 is out of memory" in str(one)
    assert "halve per_device_train_batch_size" in str(one) and "the global batch stays" in str(one)
    assert isinstance(zero, RuntimeError), "it has lost its neighbour"


@pytest.mark.parametrize("kind", ["bert", "albert", "llama", "t5", "deberta-v2"])
def test_recomputed_activations_give_the_same_gradients_with_dropout(kind: str) -> None:
    plain = model(kind, dropout=0.2)
    batch = batch_of(kind, plain)
    found = []
    for recompute in (False, True):
        if recompute:
            recompute_activations(plain)
        plain.train().zero_grad()
        torch.manual_seed(3)
        plain(batch).loss.backward()
        found.append({name: p.grad.clone() for name, p in plain.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, grad in found[0].items():
        assert torch.equal(grad, found[1][name]), name


def test_recomputing_keeps_fewer_activations() -> None:
    kept = []
    for recompute in (False, True):
        small = model("bert")
        if recompute:
            recompute_activations(small)
        held = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal held
            held += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            small(batch_of("bert", small))
        kept.append(held)
    assert kept[1] < kept[0] / 2


def test_a_foreign_model_has_no_blocks_to_recompute() -> None:
    with pytest.raises(ArgumentError, match="gradient_checkpointing needs a model of this library"):
        recompute_activations(torch.nn.Linear(2, 2))
