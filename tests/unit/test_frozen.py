"""`freeze="base"`: the head trains on vectors that are computed once, and ends where training with a frozen base ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_tiny import rows
from torch import nn

import unpad
from unpad import Trainer, TrainingArguments, set_seed
from unpad.core.transformer import Transformer

SMALL = {
    "vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 32, "initializer_range": 0.2,
}  # fmt: skip
CALM = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
HEADS = ("SequenceClassification", "TokenClassification", "MultipleChoice", "QuestionAnswering")


def data(head: str, count: int = 30, seed: int = 0) -> list[dict[str, Any]]:
    rng, plain = np.random.default_rng(seed), rows(count, seed)
    if head == "SequenceClassification":
        return plain
    ids = [row["input_ids"] for row in plain]
    if head == "TokenClassification":
        return [{"input_ids": row, "labels": [token % 2 for token in row]} for row in ids]
    if head == "QuestionAnswering":
        return [{"input_ids": row, "start_positions": 0, "end_positions": len(row) - 1} for row in ids]
    choices = [[rng.integers(3, 97, size=int(n)).tolist() for n in rng.integers(2, 20, size=3)] for _ in ids]
    return [{"input_ids": some, "labels": int(rng.integers(3))} for some in choices]


def model(head: str = HEADS[0], seed: int = 0, **changes: Any) -> Any:
    set_seed(seed)
    return getattr(unpad, f"AutoModelFor{head}").from_config(unpad.BertConfig(**{**SMALL, **changes}))


def trainer(folder: Path, net: Any, train: Any, **changes: Any) -> Trainer:
    base = {
        "disable_tqdm": True, "draw_curves": False, "save_strategy": "no", "precision": "fp32", "max_steps": 12,
        "learning_rate": 1e-2, "per_device_train_batch_size": 4, "use_cpu": True,
    }  # fmt: skip
    return Trainer(net, TrainingArguments(str(folder), **{**base, **changes}), train_dataset=train, eval_dataset=train)


class BaseInEvaluationMode(unpad.TrainerCallback):
    def on_train_begin(self, *args: Any, model: Any, **details: Any) -> None:
        plain = model.train
        model.train = lambda mode=True: (plain(mode), model.transformer.eval())[0]


def close(one: nn.Module, two: nn.Module, tolerance: float = 1e-5) -> None:
    for (name, a), b in zip(one.named_parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance, msg=lambda m, name=name: f"{name}: {m}")


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sequences that went through a base, one number per batch."""
    seen: list[int] = []
    plain = Transformer.forward

    def forward(self: Transformer, batch: Any, *rows: Any) -> Any:
        seen.append(len(batch))
        return plain(self, batch, *rows)

    monkeypatch.setattr(Transformer, "forward", forward)
    return seen


@pytest.mark.parametrize("head", HEADS)
def test_the_head_ends_where_training_with_a_frozen_base_ends(head: str, tmp_path: Path) -> None:
    start = model(head, **CALM)
    known, plain = model(head, **CALM), model(head, **CALM)
    plain.transformer.requires_grad_(False)
    one = trainer(tmp_path / "known", known, data(head), freeze="base")
    two = trainer(tmp_path / "plain", plain, data(head))
    two.callbacks.append(BaseInEvaluationMode())
    assert one.train().training_loss == pytest.approx(two.train().training_loss, abs=1e-5)
    if head in ("MultipleChoice", "QuestionAnswering"):
        # their bias shifts all answers alike: its gradient is rounding alone, and AdamW makes full steps of that
        known.head.classifier.bias.data = plain.head.classifier.bias.data
    close(known, plain)
    close(known.transformer, start.transformer, 0)
    assert not torch.equal(known.head.classifier.weight, start.head.classifier.weight)
    assert one.evaluate()["eval_loss"] == pytest.approx(two.evaluate()["eval_loss"], abs=1e-5)


def test_each_text_goes_through_the_base_once(tmp_path: Path, forwards: list[int]) -> None:
    train = data(HEADS[0])
    run = trainer(tmp_path, model(), train, freeze="base", max_steps=40, eval_strategy="steps", eval_steps=10)
    run.train()
    assert sum(forwards) == 2 * len(train), "once for training, once for evaluation"


def test_the_base_is_in_evaluation_mode_and_the_head_drops_out(tmp_path: Path, forwards: list[int]) -> None:
    for name in ("one", "two"):
        net = model(hidden_dropout_prob=0.5, classifier_dropout=0.0)
        trainer(tmp_path / name, net, data(HEADS[0]), freeze="base", seed=1 + len(name)).train()
    vectors = [np.load(next((tmp_path / name / "vectors").glob("train-*"))) for name in ("one", "two")]
    np.testing.assert_array_equal(*vectors)
    losses = [
        trainer(tmp_path / "one", model(classifier_dropout=p), data(HEADS[0]), freeze="base", max_steps=1)
        .train()
        .training_loss
        for p in (0.0, 0.9)
    ]
    assert losses[0] != pytest.approx(losses[1], abs=1e-4)


def test_a_second_run_reads_the_vectors_of_the_first(tmp_path: Path, forwards: list[int]) -> None:
    trainer(tmp_path, model(), data(HEADS[0]), freeze="base").train()
    forwards.clear()
    trainer(tmp_path, model(), data(HEADS[0]), freeze="base", learning_rate=1e-3).train()
    assert not forwards


@pytest.mark.parametrize("what", ["data", "model", "file"])
def test_edited_data_another_model_or_a_damaged_file_compute_anew(
    what: str, tmp_path: Path, forwards: list[int]
) -> None:
    trainer(tmp_path, model(), data(HEADS[0]), freeze="base").train()
    before = list((tmp_path / "vectors").iterdir())
    train, net = data(HEADS[0]), model()
    if what == "data":
        train[7]["input_ids"][0] = 96
    elif what == "model":
        with torch.no_grad():
            net.transformer.blocks[1].down.bias[3] += 1e-3
    else:
        before[0].write_bytes(before[0].read_bytes()[:-40])
    forwards.clear()
    trainer(tmp_path, net, train, freeze="base").train()
    assert sum(forwards) == len(train)
    assert len(list((tmp_path / "vectors").iterdir())) == 1, "vectors of what is gone are removed"


def test_more_layers_of_the_same_weights_compute_anew(tmp_path: Path, forwards: list[int]) -> None:
    for layers in (2, 3):
        forwards.clear()
        config = unpad.AlbertConfig(**{**SMALL, "embedding_size": 16, "num_hidden_layers": layers})
        set_seed(0)
        net = unpad.AutoModelForSequenceClassification.from_config(config)
        trainer(tmp_path, net, data(HEADS[0]), freeze="base").train()
        assert sum(forwards) == 30


def test_weights_that_change_between_evaluations_are_noticed(tmp_path: Path) -> None:
    run = trainer(tmp_path, model(), data(HEADS[0]), freeze="base")
    before = run.evaluate()["eval_loss"]
    with torch.no_grad():
        run.model.transformer.blocks[0].up.weight.mul_(1.5)
    after = run.evaluate()["eval_loss"]
    fresh = trainer(tmp_path / "plain", run.model, data(HEADS[0])).evaluate()["eval_loss"]
    assert after == pytest.approx(fresh, abs=1e-6) and after != pytest.approx(before, abs=1e-6)


def test_a_resumed_run_ends_bit_for_bit_like_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, cut, again = model(), model(), model(seed=5)
    shared = {"freeze": "base", "save_strategy": "steps", "save_steps": 6}
    trainer(tmp_path / "whole", whole, data(HEADS[0]), **shared).train()

    class Stop(unpad.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **details: Any) -> None:
            control.should_training_stop = state.global_step == 7

    first = trainer(tmp_path / "cut", cut, data(HEADS[0]), **shared)
    first.callbacks.append(Stop())
    first.train()
    trainer(tmp_path / "cut", again, data(HEADS[0]), **shared).train(resume_from_checkpoint=True)
    close(again, whole, 0)


def test_other_data_than_the_evaluation_set_is_answered_by_the_model_itself(tmp_path: Path) -> None:
    run = trainer(tmp_path, model(), data(HEADS[0]), freeze="base")
    other = data(HEADS[0], 9, seed=3)
    found = run.predict(other).predictions
    alone = [run.model(torch.tensor([row["input_ids"]])).logits[0].detach().numpy() for row in other]
    np.testing.assert_allclose(found, np.stack(alone), atol=1e-5)
    assert not (tmp_path / "vectors").exists()


def test_bf16_computes_and_learns_too(tmp_path: Path) -> None:
    one = trainer(tmp_path, model(), data(HEADS[0]), freeze="base", precision="bf16", max_steps=3)
    assert np.isfinite(one.train().training_loss)


def test_parameters_that_a_caller_froze_stay_as_they_are(tmp_path: Path) -> None:
    start, net = model(), model()
    for p in net.transformer.parameters():
        p.requires_grad = False
    trainer(tmp_path, net, data(HEADS[0])).train()
    close(net.transformer, start.transformer, 0)
    assert not torch.equal(net.head.classifier.weight, start.head.classifier.weight)
    assert not (tmp_path / "vectors").exists()
