"""Training for multiple choice follows the same path as `transformers.Trainer`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from datasets import Dataset
from trajectory import assert_same_path, both_losses

from unpad import AutoTokenizer
from unpad.data.collators import DataCollatorForMultipleChoice
from unpad.tasks.multiple_choice import TASK

ROWS = 36  # several epochs, and a short last batch in every one
THINGS = ("dog", "cat", "car", "tree", "house", "river", "song", "cake")


def test_50_steps_have_the_losses_of_transformers_trainer(minilm: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(ROWS):
        words, right = rng.permutation(THINGS)[:3].tolist(), int(rng.integers(3))
        endings = {f"ending{i}": f"{word}" + " again" * int(rng.integers(4)) for i, word in enumerate(words)}
        rows.append({"sent1": f"Here is a {words[right]}.", "sent2": "I see the", **endings, "label": right})
    data, tokenizer = Dataset.from_list(rows), AutoTokenizer.from_pretrained(minilm)
    prepared = TASK.prepare(data, tokenizer, TASK.columns(data)).data["train"]
    losses, expected = both_losses(
        "AutoModelForMultipleChoice", minilm, prepared, tmp_path, tokenizer=tokenizer,
        collator=DataCollatorForMultipleChoice(tokenizer), their_collator=DataCollatorForMultipleChoice(tokenizer),
    )  # fmt: skip
    assert_same_path(losses, expected)
