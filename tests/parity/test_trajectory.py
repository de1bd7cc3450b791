"""Training follows the same path as `transformers.Trainer`: published results of a recipe carry over."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers
from datasets import Dataset
from trajectory import STEPS, assert_same_path, both_losses

from unpad import AutoTokenizer, load_dataset

ROWS = 84  # several epochs with an evaluation after each, and a short last batch in every epoch


def _pairs(request: pytest.FixtureRequest) -> Dataset:
    """MRPC where it is present, the bundled pairs elsewhere."""
    try:
        folder: Path = request.getfixturevalue("real_data")
        return load_dataset(str(folder / "mrpc" / "train.parquet"))["train"].select(range(ROWS))
    except pytest.skip.Exception:
        return load_dataset("helpdesk/pairs")["train"].select(range(ROWS))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_50_steps_have_the_losses_of_transformers_trainer(
    accumulation: int, request: pytest.FixtureRequest, minilm: str, tmp_path: Path
) -> None:
    raw = _pairs(request)
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    encoded = tokenizer(list(raw["sentence1"]), list(raw["sentence2"]), truncation=True, max_length=48)
    data = Dataset.from_dict({**dict(encoded), "labels": list(raw["label"])})
    theirs = transformers.DataCollatorWithPadding(transformers.AutoTokenizer.from_pretrained(minilm))
    losses, expected = both_losses(
        "AutoModelForSequenceClassification", minilm, data, tmp_path, tokenizer=tokenizer, their_collator=theirs,
        steps=STEPS // accumulation, accumulation=accumulation, layers=6, num_labels=2,
    )  # fmt: skip
    assert_same_path(losses, expected)
