"""Training follows the same path as `transformers.Trainer`: published results of a recipe carry over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset

from unpad import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    load_dataset,
)
from unpad.train.feed import packed_feed

STEPS = 50
ROWS = 84  # several epochs with an evaluation after each, and a short last batch in every epoch


def _pairs(request: pytest.FixtureRequest) -> Dataset:
    """MRPC where it is present, the bundled pairs elsewhere."""
    try:
        folder: Path = request.getfixturevalue("real_data")
        return load_dataset(str(folder / "mrpc" / "train.parquet"))["train"].select(range(ROWS))
    except pytest.skip.Exception:
        return load_dataset("helpdesk/pairs")["train"].select(range(ROWS))


# Theirs takes the global batch whole: accumulating, it does not divide the loss of a model that accepts loss keywords.
@pytest.mark.parametrize("accumulation", [1, 2])
def test_50_steps_have_the_losses_of_transformers_trainer(
    accumulation: int, request: pytest.FixtureRequest, minilm: str, tmp_path: Path
) -> None:
    raw = _pairs(request)
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    encoded = tokenizer(list(raw["sentence1"]), list(raw["sentence2"]), truncation=True, max_length=48)
    data = Dataset.from_dict({**dict(encoded), "labels": list(raw["label"])})
    steps = STEPS // accumulation
    shared: dict[str, Any] = {
        "max_steps": steps, "learning_rate": 5e-5, "weight_decay": 0.01, "warmup_steps": 5, "save_strategy": "no", "disable_tqdm": True, "use_cpu": True, "seed": 3,
    }  # fmt: skip
    calm = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_hidden_layers": 6}
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=2, **calm).save_pretrained(
        tmp_path / "start"
    )

    losses: list[float] = []

    class Record(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            losses.append(float(kwargs["loss"]))

    arguments = TrainingArguments(
        str(tmp_path / "ours"),
        precision="fp32",
        draw_curves=False,
        gradient_accumulation_steps=accumulation,
        eval_strategy="epoch",
        **shared,
    )
    ours = Trainer(
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "start"), arguments, train_dataset=data,
        eval_dataset=data, processing_class=tokenizer, callbacks=[Record],
    )  # fmt: skip
    feed = packed_feed(ours._store(data, "train"), arguments)
    batches = [np.concatenate(feed.rows_of(step)).tolist() for step in range(steps)]
    ours.train()

    expected: list[float] = []

    class Theirs(transformers.Trainer):
        def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            loss = super().training_step(*args, **kwargs)
            expected.append(float(loss))
            return loss

        def get_train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(
                self.train_dataset, batch_sampler=batches, collate_fn=self.data_collator
            )

    theirs = Theirs(
        transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "start"),
        transformers.TrainingArguments(str(tmp_path / "theirs"), report_to=[], **shared),
        train_dataset=data, data_collator=transformers.DataCollatorWithPadding(transformers.AutoTokenizer.from_pretrained(minilm)),
    )  # fmt: skip
    theirs.train()
    np.testing.assert_allclose(losses, expected, atol=1e-4)
    assert losses[-1] != pytest.approx(losses[0], abs=1e-2), "the model did learn something on the way"
