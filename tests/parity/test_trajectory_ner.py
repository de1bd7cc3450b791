"""Fine-tuning for named entities follows the same path as `transformers.Trainer`, with the labels of the Hugging Face course."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers
from trajectory import STEPS, assert_same_path, both_losses

import unpad
from unpad.tasks import task


@pytest.mark.parametrize("accumulation", [1, 2])
def test_50_steps_of_ner_have_the_losses_of_transformers_trainer(
    accumulation: int, minilm: str, tmp_path: Path
) -> None:
    tokenizer, ner = unpad.AutoTokenizer.from_pretrained(minilm), task("ner")
    raw = unpad.load_dataset("helpdesk/entities", split="train[:84]")
    every = accumulation == 2  # one run learns the first piece of each word, the other one all of them
    prepared = ner.prepare(raw, tokenizer, ner.columns(raw, labelled=True), max_length=48, label_all_tokens=every)
    collate = transformers.DataCollatorForTokenClassification(transformers.AutoTokenizer.from_pretrained(minilm))
    losses, expected = both_losses(
        ner.auto_class, minilm, prepared.data["train"], tmp_path, tokenizer=tokenizer, their_collator=collate,
        steps=STEPS // accumulation, accumulation=accumulation, num_labels=prepared.num_labels,
    )  # fmt: skip
    assert_same_path(losses, expected)
