"""The losses of our Trainer and of `transformers.Trainer` over the same batches, from the same weights, without dropout.

For every task whose models train without padding: theirs gets our batches (after masking, if there is any) padded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset

import unpad
from unpad.batch import PackedBatch

STEPS = 50
CALM = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
"""What makes two runs of a BERT comparable."""


def padded(batch: PackedBatch) -> dict[str, torch.Tensor]:
    """What the `transformers` model takes for the same rows: [B, S] (multiple choice: [B, choices, S]) and the labels."""
    types = torch.zeros_like(batch.input_ids) if batch.token_type_ids is None else batch.token_type_ids
    tokens = {"input_ids": batch.input_ids, "token_type_ids": types, "attention_mask": torch.ones_like(types)}
    out = {name: batch.pad(values) for name, values in tokens.items()}
    if batch.target is not None:
        del out["token_type_ids"]
        assert batch.target.labels is not None
        return out | {"labels": batch.target.pad(batch.target.labels, fill=-100)}
    labels = batch.labels
    assert labels is not None
    if batch.choices > 1:
        shape = (len(batch) // batch.choices, batch.choices, -1)
        return {name: values.view(shape) for name, values in out.items()} | {"labels": labels}
    if len(labels) != len(batch):
        return out | {"labels": batch.pad(labels, fill=-100)}
    labels = batch.restore(labels)
    if labels.dim() == 2 and not labels.is_floating_point():
        return out | {"start_positions": labels[:, 0], "end_positions": labels[:, 1]}
    return out | {"labels": labels}


def both_losses(
    auto_class: str, model: str, data: Dataset, folder: Path, *, tokenizer: Any = None, collator: Any = None,
    their_collator: Callable[[list[Any]], Any] | None = None, steps: int = STEPS, accumulation: int = 1, layers: int = 2,
    settings: dict[str, Any] | None = None, **options: Any,
) -> tuple[list[float], list[float]]:  # fmt: skip
    """(our losses, theirs) of `steps` optimizer steps on `data`, our tokenized features, with an evaluation after every epoch of ours.

    `auto_class` ("AutoModelForTokenClassification") has the same name on both sides. `model` is a folder of a BERT, of which `layers` are
    taken, or of any calm model with `layers=0`; `options` (num_labels=, ...) go to `from_pretrained`, `settings` to both arguments. `collator` is ours. `their_collator` makes their batches of the
    features themselves; without it they are ours, padded. Theirs takes the global batch whole: accumulating, it
    does not divide the loss of a model that accepts loss keywords. Question answering: their softmax over positions includes
    padding, ours does not, so the losses are equal only for rows of equal length.
    """
    shared: dict[str, Any] = {
        "max_steps": steps, "learning_rate": 5e-5, "weight_decay": 0.01, "warmup_steps": 5, "save_strategy": "no", "disable_tqdm": True,
        "use_cpu": True, "seed": 3, **(settings or {}),
    }  # fmt: skip
    torch.manual_seed(0)
    ours_class, start = getattr(unpad, auto_class), folder / "start"
    shape = {"num_hidden_layers": layers, **CALM} if layers else {}
    ours_class.from_pretrained(model, **shape, **options).save_pretrained(start)

    losses: list[float] = []

    class Record(unpad.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            losses.append(float(kwargs["loss"]))

    arguments = unpad.TrainingArguments(
        str(folder / "ours"), precision="fp32", draw_curves=False, gradient_accumulation_steps=accumulation, eval_strategy="epoch", **shared
    )  # fmt: skip
    ours = unpad.Trainer(
        ours_class.from_pretrained(start), arguments, collator, train_dataset=data, eval_dataset=data,
        processing_class=tokenizer, callbacks=[Record],
    )  # fmt: skip
    feed = ours._feed()

    def batch(step: int) -> Any:
        rows = np.concatenate(feed.rows_of(step))
        if their_collator is not None:
            return their_collator([data[int(row)] for row in rows])
        found = padded(feed._make(rows, feed.place(step)[0])[0])
        if auto_class == "AutoModelForCausalLM":
            del found["token_type_ids"]  # a GPT-2 takes them for words
        return found

    batches = [batch(step) for step in range(steps)]
    ours.train()

    expected: list[float] = []

    class Theirs(transformers.Trainer):
        def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            loss = super().training_step(*args, **kwargs)
            expected.append(float(loss))
            return loss

        def get_train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(batches, batch_size=None)  # type: ignore[arg-type]

    theirs = getattr(transformers, auto_class).from_pretrained(start)
    if (
        getattr(theirs, "loss_type", "") is None
    ):  # of a GPT-2 they count the first labels of rows, too, which nothing asks for
        theirs.loss_type = "ForCausalLM"
    Theirs(
        theirs, transformers.TrainingArguments(str(folder / "theirs"), report_to=[], **shared), train_dataset=data
    ).train()
    return losses, expected


def assert_same_path(losses: list[float], expected: list[float]) -> None:
    """Every loss within 1e-4 of theirs, and something was learned on the way."""
    np.testing.assert_allclose(losses, expected, atol=1e-4)
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 1e-2, "the model did learn something on the way"
