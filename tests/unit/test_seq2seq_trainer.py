"""Training and judging what writes: encoder-decoders, causal language models, streams. Models are tiny and random."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import unpad
from unpad import ArgumentError, DataError, Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer, TrainingArguments
from unpad.batch import pack
from unpad.data.terms import loss_terms
from unpad.tasks._task import Judge

WORDS = 41
QUIET: dict[str, Any] = {
    "disable_tqdm": True,
    "draw_curves": False,
    "precision": "fp32",
    "save_strategy": "no",
    "use_cpu": True,
}
Rows = list[dict[str, list[int]]]


def rows(count: int, seed: int = 0, labelled: bool = True) -> Rows:
    """Texts and their reversals, each with the end token 2."""
    rng = np.random.default_rng(seed)
    texts = [rng.integers(4, WORDS, size=int(rng.integers(2, 9))).tolist() for _ in range(count)]
    return [{"input_ids": [*t, 2], **({"labels": [*t[::-1], 2]} if labelled else {})} for t in texts]


def writer(**changes: Any) -> Any:
    """A Marian-shaped encoder-decoder."""
    torch.manual_seed(0)
    shape = {
        "vocab_size": WORDS, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 24, "pad_token_id": 0,
        "eos_token_id": 2, "decoder_start_token_id": 0, "forced_eos_token_id": None, "init_std": 0.3,
    }  # fmt: skip
    return unpad.AutoModelForSeq2SeqLM.from_config(unpad.AutoConfig.for_model("marian", **{**shape, **changes}))


def gpt2(**changes: Any) -> Any:
    torch.manual_seed(0)
    shape = {
        "vocab_size": WORDS,
        "n_embd": 16,
        "n_layer": 1,
        "n_head": 2,
        "n_positions": 16,
        "bos_token_id": 2,
        "eos_token_id": 2,
    }
    return unpad.AutoModelForCausalLM.from_config(unpad.AutoConfig.for_model("gpt2", **{**shape, **changes}))


class Letters:
    """A tokenizer with one token per letter; as much of one as streams and collators ask for."""

    eos_token_id, pad_token_id, padding_side = 2, 0, "right"

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[4 + ord(c) % 30 for c in text] for text in texts]}


def padded(some: Rows, side: str = "right") -> dict[str, torch.Tensor]:
    """A batch the Hugging Face way, by a collator that cannot pack."""

    def grid(values: list[list[int]], fill: int) -> torch.Tensor:
        width = max(map(len, values))
        right = [v + [fill] * (width - len(v)) for v in values]
        return torch.tensor(right if side == "right" else [[fill] * (width - len(v)) + v for v in values])

    ids = [row["input_ids"] for row in some]
    batch = {"input_ids": grid(ids, 0), "attention_mask": grid([[1] * len(i) for i in ids], 0)}
    return batch | ({"labels": grid([row["labels"] for row in some], -100)} if "labels" in some[0] else {})


class Kept(Judge):
    """Keeps what it is given and counts exact answers."""

    generates = True

    def __init__(self) -> None:
        super().__init__([])
        self.seen: list[Any] = []

    def add_batch(self, *, predictions: Any, references: Any, rows: Any = None) -> None:
        self.seen.append((predictions, references, rows))

    def compute(self) -> dict[str, float]:
        predictions, references, _ = self.seen[-1]
        return {"exact": float(np.mean([np.array_equal(p, r) for p, r in zip(predictions, references, strict=True)]))}


def losses_of(trainer: Trainer) -> list[float]:
    """The loss of every step of a training."""
    found: list[float] = []

    class Record(unpad.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            found.append(float(kwargs["loss"]))

    trainer.callbacks.append(Record())
    trainer.train()
    return found


# ---- judging generated texts


def test_predictions_are_what_generate_gives_for_each_row_alone(tmp_path: Path) -> None:
    model, data = writer(), rows(11)
    args = Seq2SeqTrainingArguments(str(tmp_path), predict_with_generate=True, eval_max_tokens=64, **QUIET)
    trainer = Seq2SeqTrainer(model, args)
    for asked in ({"max_new_tokens": 7}, {"max_length": 6, "num_beams": 3}):
        found = trainer.predict(data, **asked)
        assert found.metrics["test_loss"] > 0
        lengths = [len(model.generate(torch.tensor([row["input_ids"]]), **asked)[0]) - 1 for row in data]
        assert found.metrics["test_gen_len"] == pytest.approx(np.mean(lengths)), "new tokens, without the start token"
        for row, ids, labels in zip(data, found.predictions, found.label_ids, strict=True):
            alone = model.generate(torch.tensor([row["input_ids"]]), **asked)[0].tolist()
            assert ids.tolist() == alone + [0] * (len(ids) - len(alone))
            assert labels.tolist() == row["labels"] + [-100] * (len(labels) - len(row["labels"]))


def test_a_function_gets_ids_behind_the_start_token_and_labels_with_padding(tmp_path: Path) -> None:
    seen: list[Any] = []

    def figures(found: Any) -> dict[str, float]:
        seen.append((found.predictions, found.label_ids))
        return {"size": float(found.predictions.shape[1])}

    args = Seq2SeqTrainingArguments(
        str(tmp_path), predict_with_generate=True, generation_max_length=5, generation_num_beams=2, **QUIET
    )
    trainer = Seq2SeqTrainer(writer(), args, eval_dataset=rows(9), compute_metrics=figures)
    metrics = trainer.evaluate()
    ((ids, labels),) = seen
    assert (ids[:, 0] == 0).all() and ids.shape[1] <= 5 and metrics["eval_size"] == ids.shape[1]
    assert {tuple(row[row != -100]) for row in labels} == {tuple(row["labels"]) for row in rows(9)}
    trainer.evaluate(max_length=8, metric_key_prefix="long")
    assert 5 < seen[-1][0].shape[1] <= 8


def test_a_streaming_judge_makes_the_plain_trainer_generate(tmp_path: Path) -> None:
    judge, data = Kept(), rows(12)
    model = writer()
    model.generation_config.max_new_tokens = 6
    metrics = Trainer(
        model, TrainingArguments(str(tmp_path), **QUIET), eval_dataset=data, compute_metrics=judge
    ).evaluate()
    ((texts, references, numbers),) = judge.seen
    assert metrics["eval_exact"] == 0.0 and "eval_loss" in metrics and numbers.tolist() == list(range(12))
    assert [r.tolist() for r in references] == [row["labels"] for row in data]
    alone = [model.generate(torch.tensor([row["input_ids"]]))[0, 1:].tolist() for row in data]
    assert [t.tolist() for t in texts] == alone


def test_a_collator_that_pads_gives_the_same_figures_and_texts(tmp_path: Path) -> None:
    args = Seq2SeqTrainingArguments(str(tmp_path), predict_with_generate=True, generation_max_length=7, **QUIET)
    ours = Seq2SeqTrainer(writer(), args).predict(rows(19))
    theirs = Seq2SeqTrainer(writer(), args, padded).predict(rows(19))
    assert np.array_equal(ours.predictions, theirs.predictions) and np.array_equal(ours.label_ids, theirs.label_ids)
    assert ours.metrics["test_loss"] == pytest.approx(theirs.metrics["test_loss"], abs=1e-5)


def test_rows_without_targets_are_answered_and_not_judged(tmp_path: Path) -> None:
    args = Seq2SeqTrainingArguments(str(tmp_path), predict_with_generate=True, generation_max_length=6, **QUIET)
    found = Seq2SeqTrainer(writer(), args).predict(rows(5, labelled=False))
    assert len(found.predictions) == 5 and found.label_ids is None and "test_loss" not in found.metrics


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (gpt2, {"predict_with_generate": True}, "GPT2LMHeadModel does not answer a text with another"),
        (writer, {"freeze": "base"}, "freeze='base' does not work with MarianMTModel"),
        (writer, {"label_smoothing_factor": 1.0}, "label_smoothing_factor=1.0 must lie in 0 <= x < 1"),
        (writer, {"predict_with_generat": True}, "Seq2SeqTrainingArguments has no argument 'predict_with_generat'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(make: Any, options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError) as error:
        Seq2SeqTrainer(make(), Seq2SeqTrainingArguments(str(tmp_path), **QUIET, **options))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_setting_of_generation_names_the_nearest(tmp_path: Path) -> None:
    trainer = Seq2SeqTrainer(writer(), Seq2SeqTrainingArguments(str(tmp_path), predict_with_generate=True, **QUIET))
    with pytest.raises(ArgumentError, match="num_beams"):
        trainer.evaluate(rows(3), num_beam=2)


# ---- training


def test_the_longest_target_is_stored_as_the_length_of_texts(tmp_path: Path) -> None:
    data = rows(30)
    trainer = Trainer(writer(), TrainingArguments(str(tmp_path), max_steps=1, **QUIET), train_dataset=data)
    trainer.train()
    trainer.save_model()
    longest = max(len(row["labels"]) for row in data)
    assert json.loads((tmp_path / "generation_config.json").read_text())["max_new_tokens"] == longest
    chosen = writer()
    chosen.generation_config.max_length = 4
    Trainer(chosen, TrainingArguments(str(tmp_path), max_steps=1, **QUIET), train_dataset=data).train()
    assert chosen.generation_config.max_new_tokens is None, "what a person has chosen stays"


@pytest.mark.parametrize("make", [writer, gpt2])
def test_accumulated_steps_are_those_of_the_whole_batch(make: Any, tmp_path: Path) -> None:
    """Although micro-batches differ in their numbers of labels: the loss is divided by those of the global batch."""
    both = []
    for size, windows in ((8, 1), (2, 4)):
        model = make(dropout=0.0) if make is writer else make(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
        args = TrainingArguments(
            str(tmp_path), per_device_train_batch_size=size, gradient_accumulation_steps=windows, max_steps=6, learning_rate=1e-2, **QUIET
        )  # fmt: skip
        data = rows(40) if make is writer else [{"input_ids": row["input_ids"]} for row in rows(40)]
        both.append(losses_of(Trainer(model, args, train_dataset=data)))
    np.testing.assert_allclose(both[0], both[1], atol=1e-4)


@pytest.mark.parametrize("make", [writer, gpt2])
def test_a_collator_that_pads_trains_the_same(make: Any, tmp_path: Path) -> None:
    """Steps are of all rows of the data, which the two ways put together in different orders."""
    both = []
    for collator in (None, padded):
        model = make(dropout=0.0) if make is writer else make(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
        args = TrainingArguments(
            str(tmp_path), per_device_train_batch_size=10, gradient_accumulation_steps=4, max_steps=6, learning_rate=1e-2, **QUIET
        )  # fmt: skip
        data = rows(40) if make is writer else [{**row, "labels": row["input_ids"]} for row in rows(40, labelled=False)]
        both.append(losses_of(Trainer(model, args, collator, train_dataset=data)))
    np.testing.assert_allclose(both[0], both[1], atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=1, max_size=6), min_size=1, max_size=5
    ),
    st.sampled_from(["right", "left"]),
)  # fmt: skip
def test_the_loss_is_divided_by_what_is_asked(texts: list[list[tuple[int, bool]]], side: str) -> None:
    """A causal language model is not asked for the first token of a row, nor for those that are -100."""
    ids = [np.array([word for word, _ in text]) for text in texts]
    labels = [np.array([word if asked else -100 for word, asked in text]) for text in texts]
    wanted = sum(int((row[1:] != -100).sum()) for row in labels)
    assert loss_terms(pack(ids, token_labels=labels), len(ids), shifted=True) == wanted
    some = [{"input_ids": i.tolist(), "labels": row.tolist()} for i, row in zip(ids, labels, strict=True)]
    assert loss_terms(padded(some, side), len(ids), shifted=True) == wanted
    output = gpt2()(pack(ids, token_labels=labels))
    assert int(output.loss_count) == wanted


def test_a_causal_model_learns_from_ids_alone_and_reports_perplexity(tmp_path: Path) -> None:
    data = [{"input_ids": row["input_ids"]} for row in rows(40)]
    trainer = Trainer(
        gpt2(), TrainingArguments(str(tmp_path), max_steps=1, **QUIET), train_dataset=data, eval_dataset=data
    )
    trainer.train()
    metrics = trainer.evaluate()
    logits = [trainer.model(torch.tensor([row["input_ids"]])).logits[0] for row in data]
    sums = [torch.nn.functional.cross_entropy(z[:-1], torch.tensor(r["input_ids"][1:]), reduction="sum") for z, r in zip(logits, data, strict=True)]  # fmt: skip
    expected = float(torch.stack(sums).sum().detach()) / sum(len(row["input_ids"]) - 1 for row in data)
    assert metrics["eval_loss"] == pytest.approx(expected, abs=1e-5)
    assert metrics["eval_perplexity"] == pytest.approx(np.exp(expected), rel=1e-4)


def test_smoothing_is_refused_where_nothing_would_be_smoothed(tmp_path: Path) -> None:
    args = TrainingArguments(str(tmp_path), max_steps=1, label_smoothing_factor=0.1, **QUIET)
    with pytest.raises(ArgumentError, match=r"label_smoothing_factor=0\.1 needs a model"):
        Trainer(writer(), args, padded, train_dataset=rows(4)).train()


def test_smoothing_ends_with_the_training(tmp_path: Path) -> None:
    args = TrainingArguments(str(tmp_path), max_steps=1, label_smoothing_factor=0.1, **QUIET)
    trainer = Trainer(writer(), args, train_dataset=rows(4))
    trainer.train()
    assert trainer.model.label_smoothing == 0.0


def test_a_target_without_text_is_one_line(tmp_path: Path) -> None:
    data = [*rows(3), {"input_ids": [5, 2], "labels": []}]
    with pytest.raises(DataError, match="row 3 of 'train' has a target without text"):
        Trainer(writer(), TrainingArguments(str(tmp_path), **QUIET), train_dataset=data).train()


# ---- streams


def stream(**changes: Any) -> unpad.TokenStream:
    texts = [f"text number {i} of a long corpus"[: 8 + i % 20] for i in range(30)]
    return unpad.TokenStream(texts, Letters(), **{"block_size": 12, "buffer": 7, "seed": 1, **changes})


def streaming(folder: Path, **changes: Any) -> Trainer:
    options = {
        "max_steps": 14,
        "gradient_accumulation_steps": 2,
        "per_device_train_batch_size": 3,
        "save_strategy": "steps",
        "save_steps": 1,
    }
    args = TrainingArguments(str(folder), **{**QUIET, "learning_rate": 1e-2, **options, **changes})
    return Trainer(gpt2(), args, train_dataset=stream())


def test_a_stream_is_trained_on_for_several_of_its_epochs(tmp_path: Path) -> None:
    trainer = streaming(tmp_path)
    losses = losses_of(trainer)
    assert len(losses) == 14 and losses[-1] < losses[0]
    assert trainer.state.epoch == 1.0 and trainer.state.stream["epoch"] >= 1
    corpus, taken = stream(), list[int]()
    while len(taken) < 2 * 14:  # a stream goes on with its next epoch
        taken += [batch.tokens for batch in corpus.batches(36)]
    assert trainer.state.tokens == sum(taken[: 2 * 14])


@pytest.mark.parametrize("step", [1, 6, 13])
def test_a_run_on_a_stream_continues_where_it_stopped(tmp_path: Path, step: int) -> None:
    whole = streaming(tmp_path / "whole")
    whole.train()
    part = streaming(tmp_path / "whole")  # a new process would make all of this anew
    part.train(resume_from_checkpoint=tmp_path / "whole" / f"checkpoint-{step}")
    assert part.state.stream == whole.state.stream and part.state.tokens == whole.state.tokens
    for (name, a), b in zip(whole.model.state_dict().items(), part.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("changes", "made", "said"),
    [
        ({"max_steps": -1}, {}, "a stream does not know its length; set max_steps"),
        ({}, {"block_size": 17}, "block_size=17 is too long for a model of 16 tokens"),
    ],
)
def test_a_stream_that_cannot_be_trained_on_is_one_line(changes: Any, made: Any, said: str, tmp_path: Path) -> None:
    trainer = streaming(tmp_path, **changes)
    trainer.train_dataset = stream(**made)
    with pytest.raises(ArgumentError, match=said):
        trainer.train()


def test_an_id_in_a_stream_that_no_table_holds_is_named(tmp_path: Path) -> None:
    trainer = streaming(tmp_path)
    trainer.train_dataset = unpad.TokenStream(["a" * 9], type("Odd", (Letters,), {"__call__": lambda s, t, **_: {"input_ids": [[99] * 9 for _ in t]}})(), 8)  # fmt: skip
    with pytest.raises(DataError, match="token id 99 in document 0 of the stream"):
        trainer.train()


def test_texts_of_one_token_teach_nothing_and_that_is_one_line(tmp_path: Path) -> None:
    trainer = Trainer(gpt2(), TrainingArguments(str(tmp_path), **QUIET), train_dataset=[{"input_ids": [5]}] * 4)
    with pytest.raises(DataError, match="no row of the training data has two tokens"):
        trainer.train()


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_no_weight_is_named(wrong: float, tmp_path: Path) -> None:
    data = [{"input_ids": [5, 6], "weights": [1.0, 1.0]}, {"input_ids": [5, 6, 7], "weights": [1.0, wrong, 1.0]}]
    with pytest.raises(DataError, match=f"weight {wrong} in row 1 of 'train' is no number from 0 on"):
        Trainer(gpt2(), TrainingArguments(str(tmp_path), **QUIET), train_dataset=data).train()


def test_an_evaluation_before_training_is_no_earlier_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = rows(8)
    trainer = Trainer(
        writer(), TrainingArguments(str(tmp_path), **QUIET, max_steps=1), train_dataset=data, eval_dataset=data
    )
    trainer.evaluate()
    caplog.set_level("INFO", logger="unpad")
    trainer.train()
    assert "of a run or an evaluation: moved to" in caplog.text and "resume_from_checkpoint" not in caplog.text
    assert not list(tmp_path.glob("checkpoint-*"))
