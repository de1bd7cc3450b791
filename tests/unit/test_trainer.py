"""What people do with the Trainer and the Accelerator, beyond parity and resuming."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from run_tiny import rows, trainer
from torch import nn

from unpad import (
    Accelerator,
    ArgumentError,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    BertConfig,
    CheckpointError,
    DataError,
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    TrainingError,
    default_data_collator,
    get_scheduler,
    load_metric,
    set_seed,
)
from unpad.checkpoint.files import checkpoints
from unpad.data.sampler import BatchSampler
from unpad.engine.schedules import SCHEDULES
from unpad.engine.world import World
from unpad.train.feed import Feed

SMALL = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 32,
}


def small(**changes: object) -> nn.Module:
    set_seed(0)
    return AutoModelForSequenceClassification.from_config(BertConfig(**{**SMALL, **changes}))


def quiet(folder: Path, **changes: object) -> TrainingArguments:
    base = {"disable_tqdm": True, "draw_curves": False, "save_strategy": "no", "precision": "fp32"}
    return TrainingArguments(str(folder), **{**base, **changes})


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def test_accumulated_micro_batches_train_like_one_large_batch(tmp_path: Path) -> None:
    """The loss is that of the global batch, however it is cut, although micro-batches differ in length."""
    found = []
    for size, accumulation in ((8, 1), (4, 2), (2, 4)):
        model = small(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        arguments = quiet(
            tmp_path / str(size),
            max_steps=4,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
            learning_rate=1e-3,
        )
        Trainer(model, arguments, train_dataset=rows(32, 0)).train()
        found.append(weights(model))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_evaluation_counts_every_sample_once_and_predict_keeps_the_order(tmp_path: Path) -> None:
    model, data = small(), rows(37, 3)
    run = Trainer(model, quiet(tmp_path, eval_max_tokens=64), eval_dataset=data)
    output = run.predict(data)
    assert output.predictions.shape == (37, 2) and output.label_ids.tolist() == [row["labels"] for row in data]
    alone = [model(torch.tensor([row["input_ids"]])).logits[0].detach().numpy() for row in data]
    np.testing.assert_allclose(output.predictions, np.stack(alone), atol=1e-5)
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(np.stack(alone)), torch.from_numpy(output.label_ids))
    assert run.evaluate()["eval_loss"] == pytest.approx(expected.item(), abs=1e-5)


def test_any_module_that_returns_a_loss_trains(tmp_path: Path) -> None:
    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
            logits = self.layer(x)
            return (
                {"logits": logits}
                if labels is None
                else {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}
            )

    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 3)).astype(np.float32)
    data = [{"x": row, "labels": int(row[0] > 0), "unused": 1} for row in x]
    model = Linear()
    run = Trainer(model, quiet(tmp_path, num_train_epochs=30, learning_rate=0.05, save_strategy="epoch", save_total_limit=1), train_dataset=data,
                  eval_dataset=data, compute_metrics=lambda p: {"accuracy": (p.predictions.argmax(-1) == p.label_ids).mean()})  # fmt: skip
    before = run.evaluate()
    run.train()
    after = run.evaluate()
    assert after["eval_accuracy"] > 0.95 > before["eval_accuracy"] and after["eval_loss"] < before["eval_loss"]
    resumed = Trainer(Linear(), run.args, train_dataset=data, eval_dataset=data)
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(resumed.model.layer.weight, model.layer.weight)


def test_a_custom_collator_gives_the_same_training_as_packing(tmp_path: Path) -> None:
    """Padded batches of a caller's collator and packed ones lead to the same weights (dropout 0)."""

    def collate(features: list[dict]) -> dict[str, torch.Tensor]:
        longest = max(len(f["input_ids"]) for f in features)
        ids = torch.tensor([f["input_ids"] + [0] * (longest - len(f["input_ids"])) for f in features])
        mask = torch.tensor([[1] * len(f["input_ids"]) + [0] * (longest - len(f["input_ids"])) for f in features])
        return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([f["labels"] for f in features])}

    data = rows(16, 0)
    results = []
    for collator in (None, collate):
        model = small(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        Trainer(
            model,
            quiet(tmp_path / str(collator is None), max_steps=4, per_device_train_batch_size=16, learning_rate=1e-3),
            train_dataset=data,
            data_collator=collator,
        ).train()
        results.append(weights(model))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_the_best_model_is_loaded_at_the_end_and_survives_the_limit(tmp_path: Path) -> None:
    run = trainer(str(tmp_path), 24, learning_rate=0.02, save_total_limit=1, save_strategy="no")
    result = run.train()
    evaluations = [r for r in run.state.log_history if "eval_loss" in r]
    best = min(evaluations, key=lambda r: r["eval_loss"])
    assert run.state.best_step == best["step"] and result.global_step == 24
    assert run.evaluate()["eval_loss"] == pytest.approx(best["eval_loss"], abs=1e-6)


def test_early_stopping_stops_and_remembers_across_a_resume(tmp_path: Path) -> None:
    class Worse(TrainerCallback):
        """Makes every evaluation after the first look worse."""

        def on_evaluate(self, args, state, control, **kwargs) -> None:
            kwargs["metrics"]["eval_loss"] = float(state.global_step)

    def run(steps: int) -> Trainer:
        made = trainer(
            str(tmp_path), 30, eval_steps=2, save_steps=2, load_best_model_at_end=False, save_total_limit=None
        )
        made.callbacks = [Worse(), EarlyStoppingCallback(early_stopping_patience=4)]
        return made

    first = run(30)
    assert first.train().global_step == 10
    for step in (8, 10):
        for path in checkpoints(tmp_path):
            if path.name == f"checkpoint-{step}":
                __import__("shutil").rmtree(path)
    again = run(30)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 10, "two evaluations without gain were counted before the stop, two after"


def test_a_callback_may_evaluate_and_training_goes_on_as_before(tmp_path: Path) -> None:
    class Evaluates(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs) -> None:
            run.evaluate()

    ends = []
    for callbacks in ([], [Evaluates()]):
        folder, data = tmp_path / str(len(callbacks)), rows(20, 0)
        model = small(vocab_size=400)  # of which the data use a part
        run = Trainer(model, quiet(folder, max_steps=5), train_dataset=data, eval_dataset=data, callbacks=callbacks)
        run.train()
        ends.append(weights(model))
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_a_second_run_trains_everything_and_counts_patience_anew(tmp_path: Path) -> None:
    model, data = small(vocab_size=400), rows(20, 0)
    mine = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0)
    stop = EarlyStoppingCallback()
    settings = quiet(tmp_path, max_steps=5, eval_strategy="steps", eval_steps=1, overwrite_output_dir=True)
    run = Trainer(model, settings, train_dataset=data, eval_dataset=data, callbacks=[stop], optimizers=(mine, None))
    assert [run.train().global_step, run.train().global_step] == [2, 2]
    words = model.transformer.embeddings.tokens.weight
    before = words.detach().clone()
    mine = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.0)
    run = Trainer(model, quiet(tmp_path, max_steps=1), train_dataset=data, optimizers=(mine, None))
    run.args.overwrite_output_dir = True
    for _ in range(2):
        run.train()
        assert not torch.equal(before, words), "an optimizer of the caller keeps the parameters that it was given"
        before = words.detach().clone()


def test_a_callback_finds_the_weights_whole_and_may_change_them(tmp_path: Path) -> None:
    class Looks(TrainerCallback):
        def on_step_end(self, args, state, control, model, **kwargs) -> None:
            words = model.transformer.embeddings.tokens.weight.detach()
            seen.append(words[used].clone())
            model(input_ids=torch.tensor([[398, 399]]))  # words that no row has
            if state.global_step == 2:
                words.zero_()
                model.transformer.eval()
            if state.global_step == 4:
                raise KeyboardInterrupt

    model, data, seen = small(vocab_size=400), rows(20, 0), []
    used = sorted({i for row in data for i in row["input_ids"]})
    seen.append(model.transformer.embeddings.tokens.weight.detach()[used].clone())
    run = Trainer(model, quiet(tmp_path, max_steps=6), train_dataset=data, callbacks=[Looks()])
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert all(not torch.equal(a, b) for a, b in pairwise(seen)), "each step is seen"
    assert seen[3].abs().max() < 0.01 < seen[2].abs().max(), "training goes on from what the callback has set"
    assert torch.equal(model.transformer.embeddings.tokens.weight[used], seen[-1]), (
        "an interrupted run leaves them whole"
    )


def test_word_vectors_that_a_callback_freezes_stay(tmp_path: Path) -> None:
    class Freezes(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs) -> None:
            kwargs["model"].transformer.embeddings.requires_grad_(False)

    model = small(vocab_size=400)
    before = model.transformer.embeddings.tokens.weight.detach().clone()
    Trainer(model, quiet(tmp_path, max_steps=3), train_dataset=rows(20, 0), callbacks=[Freezes()]).train()
    assert torch.equal(before, model.transformer.embeddings.tokens.weight)


def spans(*positions: int) -> list[dict]:
    """Pairs of rows for question answering: one of 8 tokens whose answer is in it, one of 5 that has its answer at the position."""
    long = {"input_ids": list(range(3, 11)), "start_positions": 1, "end_positions": 2}
    return [
        row
        for p in positions
        for row in (long, {"input_ids": [3, 4, 5, 6, 7], "start_positions": p, "end_positions": p})
    ]


def question_answering() -> nn.Module:
    set_seed(0)
    calm = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return AutoModelForQuestionAnswering.from_config(BertConfig(**SMALL, **calm))


@pytest.mark.parametrize("place", [-1, 5, 7, 400])
def test_answers_outside_of_their_row_count_in_no_loss(place: int, tmp_path: Path) -> None:
    data, losses = spans(place), []
    for some in (data, data[:1]):
        run = Trainer(question_answering(), quiet(tmp_path / str(len(some)), max_steps=1), train_dataset=some)
        losses.append(run.train().training_loss)
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    ids = torch.tensor([row["input_ids"] + [0] * (8 - len(row["input_ids"])) for row in data])
    ends = [torch.tensor([row[name] for row in data]) for name in ("start_positions", "end_positions")]
    found = question_answering().eval()(ids, (ids > 0).long(), start_positions=ends[0], end_positions=ends[1])
    assert found.loss.item() == pytest.approx(losses[1], abs=1e-5)


def test_answer_spans_train_and_evaluate_alike_with_a_collator_of_ones_own(tmp_path: Path) -> None:
    """The collator pads, and gives a column that the model does not read."""
    found = []
    data = [{**row, "idx": i} for i, row in enumerate(spans(0, 2)[::2] * 2)]
    for collator in (None, default_data_collator):
        run = Trainer(
            question_answering(), quiet(tmp_path / str(collator is None), max_steps=2), train_dataset=data, eval_dataset=data,
            data_collator=collator, compute_metrics=lambda p: {"right": float((p[0][0].argmax(-1) == p[1][0]).mean())},
        )  # fmt: skip
        loss, figures = run.train().training_loss, run.evaluate()
        found.append((loss, figures["eval_loss"], figures["eval_right"]))
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_callbacks_may_stop_a_run(tmp_path: Path) -> None:
    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs) -> None:
            control.should_training_stop = state.global_step == 3

    result = Trainer(small(), quiet(tmp_path, max_steps=50), train_dataset=rows(20, 0), callbacks=[Stop]).train()
    assert result.global_step == 3


def test_callbacks_come_and_go(tmp_path: Path) -> None:
    class Counts(TrainerCallback):
        seen = 0

        def on_step_end(self, args, state, control, **kwargs) -> None:
            self.seen += 1

    kept, gone = Counts(), Counts()
    trainer = Trainer(small(), quiet(tmp_path, max_steps=3), train_dataset=rows(20, 0), callbacks=[gone])
    trainer.add_callback(kept)
    trainer.remove_callback(gone)
    trainer.train()
    assert (kept.seen, gone.seen) == (3, 0)


def test_the_operations_of_a_run_are_six_for_each_token_and_weight_outside_embeddings(tmp_path: Path) -> None:
    model, data = small(), rows(20, 0)
    result = Trainer(model, quiet(tmp_path, num_train_epochs=2), train_dataset=data).train()
    weights = sum(p.numel() for name, p in model.named_parameters() if "embeddings" not in name or "norm" in name)
    assert result.metrics["total_flos"] == 6 * weights * 2 * sum(len(row["input_ids"]) for row in data)


def test_a_loss_that_is_not_finite_stops_and_names_the_rows(tmp_path: Path) -> None:
    model = small()
    with torch.no_grad():
        model.transformer.embeddings.tokens.weight[5] = float("nan")
    data = [{"input_ids": [3, 4], "labels": 0} for _ in range(20)]
    data[13] = {"input_ids": [3, 5], "labels": 1}
    with pytest.raises(TrainingError, match=r"the loss is nan at step \d+ \(rows .*13.* of the training data\)"):
        Trainer(
            model,
            quiet(tmp_path, per_device_train_batch_size=4, save_strategy="steps", save_steps=1),
            train_dataset=data,
        ).train()


def test_rows_are_checked_before_the_first_step(tmp_path: Path) -> None:
    data = rows(10, 0)
    data[7]["labels"] = 5
    with pytest.raises(DataError, match=r"label 5 in row 7 of 'train' is outside 0\.\.1"):
        Trainer(small(), quiet(tmp_path), train_dataset=data).train()
    data = rows(10, 0)
    data[4]["input_ids"] = [3] * 40
    with pytest.raises(DataError, match="row 4 of 'train' has 40 tokens, the model takes 32"):
        Trainer(small(), quiet(tmp_path), train_dataset=data).train()
    data[4]["input_ids"] = [400]
    with pytest.raises(DataError, match="token id 400 in row 4"):
        Trainer(small(), quiet(tmp_path), train_dataset=data).train()
    with pytest.raises(DataError, match="no rows"):
        Trainer(small(), quiet(tmp_path), train_dataset=[]).train()


def test_a_token_budget_trains_every_row_once_per_epoch(tmp_path: Path) -> None:
    seen: list[int] = []

    class Count(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs) -> None:
            self.model = kwargs["model"]
            self.model.register_forward_pre_hook(
                lambda module, given: seen.extend(given[0].sample_ids) if module.training else None
            )

    data = rows(40, 0)
    Trainer(
        small(), quiet(tmp_path, num_train_epochs=2, max_tokens_per_batch=60), train_dataset=data, callbacks=[Count]
    ).train()
    assert sorted(seen) == sorted(list(range(40)) * 2)


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 60), batch=st.integers(1, 9), accumulation=st.integers(1, 4), epochs=st.floats(0.1, 3.5))
def test_steps_cover_the_epochs_exactly(size: int, batch: int, accumulation: int, epochs: float) -> None:
    args = TrainingArguments(per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation)
    feed = Feed(
        BatchSampler(size, batch, seed=1), args, lambda rows, epoch: (None, len(rows), 0), "", size, None, World()
    )
    whole = int(epochs)
    steps = feed.total_steps(epochs)
    covered: dict[int, list[int]] = {}
    for step in range(steps):
        epoch, _ = feed.place(step)
        covered.setdefault(epoch, []).extend(int(row) for part in feed.rows_of(step) for row in part)
    for epoch in range(whole):
        assert sorted(covered[epoch]) == list(range(size))
    if epochs > whole:
        assert len(covered[whole]) >= min(size, int((epochs - whole) * size))


def test_history_is_written_as_it_happens(tmp_path: Path) -> None:
    run = trainer(str(tmp_path), 6)
    run.train()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == run.state.log_history and [r["step"] for r in lines if "loss" in r] == [2, 4, 6]
    assert {
        "eval_loss",
        "eval_accuracy",
        "eval_runtime",
        "eval_samples_per_second",
        "eval_steps_per_second",
        "epoch",
    } <= set(lines[1])


def test_arguments_take_old_spellings_and_name_the_nearest_of_unknown_ones() -> None:
    arguments = TrainingArguments("out", evaluation_strategy="epoch", per_gpu_train_batch_size=4)
    assert (arguments.eval_strategy, arguments.per_device_train_batch_size) == ("epoch", 4)
    with pytest.raises(ArgumentError, match="'learning_rat'; did you mean 'learning_rate'"):
        TrainingArguments("out", learning_rat=1e-3)
    with pytest.raises(ArgumentError, match="give only one"):
        TrainingArguments("out", evaluation_strategy="epoch", eval_strategy="no")
    with pytest.raises(ArgumentError, match="'stepz' is unknown"):
        TrainingArguments("out", save_strategy="stepz")
    with pytest.raises(ArgumentError, match="rename_column"):
        TrainingArguments("out", label_names=["topic"])
    defaults = TrainingArguments()
    assert (defaults.learning_rate, defaults.num_train_epochs, defaults.weight_decay, defaults.save_strategy) == (
        5e-5,
        3.0,
        0.0,
        "steps",
    )


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_schedules_equal_transformers(name: str) -> None:
    import transformers

    factors = []
    for module in (get_scheduler, transformers.get_scheduler):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler = module(name, optimizer=optimizer, num_warmup_steps=5, num_training_steps=30)
        found = []
        for _ in range(35):
            found.append(scheduler.get_last_lr()[0])
            optimizer.step()
            scheduler.step()
        factors.append(found)
    if name == "constant":
        factors = [f[5:] for f in factors]
    np.testing.assert_allclose(factors[0], factors[1], atol=1e-12)


def custom_loop(steps: int, accumulation: int, folder: Path | None = None, resume: bool = False) -> list[torch.Tensor]:
    """The loop of the course, as a user's script writes it."""
    accelerator = Accelerator(mixed_precision="no", gradient_accumulation_steps=accumulation, seed=5)
    model = small()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    data = rows(64, 0)
    loader = torch.utils.data.DataLoader(data, batch_size=4, collate_fn=lambda f: {
        "input_ids": nn.utils.rnn.pad_sequence([torch.tensor(r["input_ids"]) for r in f], batch_first=True),
        "attention_mask": nn.utils.rnn.pad_sequence([torch.ones(len(r["input_ids"]), dtype=torch.long) for r in f], batch_first=True),
        "labels": torch.tensor([r["labels"] for r in f])})  # fmt: skip
    scheduler = get_scheduler("linear", optimizer=optimizer, num_warmup_steps=0, num_training_steps=steps)
    model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
    model.train()
    start = steps // 2 if resume else 0
    for step, batch in enumerate(loader):  # a loader draws a seed when it starts; the state is loaded after that
        if step < start or step >= steps:
            continue
        if resume and step == start:
            accelerator.load_state(folder)
        with accelerator.accumulate(model):
            loss = model(**batch).loss
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        if folder is not None and not resume and step + 1 == steps // 2:
            accelerator.save_state(folder)
    return weights(accelerator.unwrap_model(model))


def test_a_custom_loop_continues_bit_for_bit(tmp_path: Path) -> None:
    whole = custom_loop(8, 2, tmp_path / "state")
    continued = custom_loop(8, 2, tmp_path / "state", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(whole, continued, strict=True))


def test_the_accelerator_refuses_misuse_in_one_line(tmp_path: Path) -> None:
    accelerator = Accelerator(mixed_precision="fp32")
    model = accelerator.prepare(small())
    with pytest.raises(ArgumentError, match="prepared before"):
        accelerator.prepare(model)
    with pytest.raises(ArgumentError, match="'fp23' is unknown; did you mean"):
        Accelerator(mixed_precision="fp23")
    accelerator.save_state(tmp_path / "state")
    other = Accelerator(mixed_precision="fp32")
    other.prepare(small(hidden_size=64))
    with pytest.raises(CheckpointError, match="of another model"):
        other.load_state(tmp_path / "state")
    file = tmp_path / "state" / "model_0.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        accelerator.load_state(tmp_path / "state")


def test_a_bare_metric_is_refused_with_what_to_write_instead(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"metric\.compute\(predictions="):
        Trainer(small(), quiet(tmp_path), eval_dataset=rows(4, 0), compute_metrics=load_metric("accuracy"))


def test_logits_are_reduced_before_they_are_kept(tmp_path: Path) -> None:
    """`preprocess_logits_for_metrics` decides what of the logits is kept, in the order of the data set."""
    data, model = rows(9, 0), small()
    plain = Trainer(model, quiet(tmp_path)).predict(data).predictions
    reduced = Trainer(model, quiet(tmp_path), preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1))
    assert reduced.predict(data).predictions.tolist() == plain.argmax(-1).tolist()


def test_data_that_ask_for_nothing_are_refused(tmp_path: Path) -> None:
    config = AutoConfig.for_model("gpt2", vocab_size=20, n_embd=8, n_layer=1, n_head=1, n_positions=16)
    rows = [{"input_ids": [3, 4, 5], "labels": [-100] * 3}] * 4
    with pytest.raises(DataError, match="all labels of the training data are -100"):
        Trainer(AutoModelForCausalLM.from_config(config), quiet(tmp_path), train_dataset=rows).train()


def test_answers_of_rows_that_are_padded_on_the_left_are_learned_at_their_place() -> None:
    model = AutoModelForQuestionAnswering.from_config(
        BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    ).eval()
    ids, spans = [[3, 4, 5, 6, 7], [8, 9, 10]], [[1, 2], [0, 2]]
    losses = []
    for side in ("right", "left"):
        rows, mask, ends = [], [], []
        for row, span in zip(ids, spans, strict=True):
            pad = [0] * (5 - len(row))
            rows.append(row + pad if side == "right" else pad + row)
            mask.append([1] * len(row) + pad if side == "right" else pad + [1] * len(row))
            ends.append([place + (len(pad) if side == "left" else 0) for place in span])
        start, end = torch.tensor(ends).unbind(1)
        places = torch.tensor(mask).cumsum(1).sub(1).clamp(min=0)
        found = model(
            torch.tensor(rows),
            attention_mask=torch.tensor(mask),
            position_ids=places,
            start_positions=start,
            end_positions=end,
        )
        losses.append(float(found.loss))
    assert losses[0] == pytest.approx(losses[1], abs=1e-6) and losses[0] > 0


def test_generate_of_a_prepared_model_runs_under_its_precision() -> None:
    config = AutoConfig.for_model("gpt2", vocab_size=20, n_embd=8, n_layer=1, n_head=1, n_positions=16)
    model = Accelerator("bf16").prepare(AutoModelForCausalLM.from_config(config))
    seen = []
    model.transformer.blocks[0].up.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    model.generate(torch.tensor([[3, 4]]), max_new_tokens=2)
    assert set(seen) == {torch.bfloat16}
