"""Masked language modelling follows the same path as `transformers.Trainer`: same batches, same masks, the same losses."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_mlm import small_mlm
from trajectory import assert_same_path, both_losses

import unpad
from unpad.tasks import task


@pytest.mark.parametrize("whole_words", [False, True])
def test_the_losses_of_fifty_steps_are_those_of_transformers(minilm: str, tmp_path: Path, whole_words: bool) -> None:
    wide = {"hidden_size": 192, "intermediate_size": 384, "initializer_range": 0.02}
    model = small_mlm(minilm, tmp_path / "model", **wide)
    tokenizer, fill = unpad.AutoTokenizer.from_pretrained(model), task("fill-mask")
    raw = unpad.load_dataset("helpdesk/pairs")["train"].select(range(150))
    data = fill.prepare(raw, tokenizer, fill.columns(raw), chunk_size=32, keep_last=True).data["train"]
    collator = fill.collator(tokenizer, mlm_probability=0.2, whole_word_mask=whole_words)
    ours, theirs = both_losses(
        "AutoModelForMaskedLM", model, data, tmp_path, tokenizer=tokenizer, collator=collator, accumulation=2 if whole_words else 1
    )  # fmt: skip
    assert_same_path(ours, theirs)
