"""Training a model for question answering follows the path of `transformers.Trainer`."""

from __future__ import annotations

from pathlib import Path

import pytest
from trajectory import assert_same_path, both_losses

from unpad import AutoTokenizer, load_dataset
from unpad.tasks.question_answering import TASK

ROWS, WINDOW = 84, 32  # several epochs with an evaluation after each, and a short last batch in every epoch


def test_50_steps_have_the_losses_of_transformers_trainer(
    request: pytest.FixtureRequest, minilm: str, tmp_path: Path
) -> None:
    """Only full windows are taken, since the softmax of `transformers` runs over padding, too."""
    try:
        folder: Path = request.getfixturevalue("real_data")
        raw = load_dataset(str(folder / "policyqa" / "train.parquet"))["train"].select(range(200))
    except pytest.skip.Exception:
        raw = load_dataset("helpdesk/questions")["train"].select(range(200))
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    prepared = TASK.prepare(raw, tokenizer, TASK.columns(raw), max_length=WINDOW, stride=6)
    full = [i for i, ids in enumerate(prepared.data["train"]["input_ids"]) if len(ids) == WINDOW]
    data = prepared.data["train"].select(full[:ROWS])
    assert len(data) == ROWS and any(data["start_positions"])
    losses, expected = both_losses(
        "AutoModelForQuestionAnswering", minilm, data, tmp_path, tokenizer=tokenizer, layers=1
    )
    assert_same_path(losses, expected)
