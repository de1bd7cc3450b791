"""A run of an encoder-decoder that is stopped continues and ends bit for bit, generated texts of its evaluations included."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_resume import same_run

import unpad


def trainer(folder: Path) -> unpad.Seq2SeqTrainer:
    """Dropout, accumulation, label smoothing, a token budget, and evaluations that generate and choose the best weights."""
    unpad.set_seed(7)
    config = unpad.AutoConfig.for_model(
        "t5", vocab_size=50, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0
    )  # fmt: skip
    rng = np.random.default_rng(0)
    texts = [rng.integers(2, 50, size=int(rng.integers(2, 12))).tolist() for _ in range(60)]
    data = [{"input_ids": [*t, 1], "labels": [*t[::-1], 1]} for t in texts]
    args = unpad.Seq2SeqTrainingArguments(
        str(folder), max_steps=9, max_tokens_per_batch=120, gradient_accumulation_steps=2, save_steps=1, eval_strategy="steps", eval_steps=2,
        learning_rate=1e-2, label_smoothing_factor=0.1, predict_with_generate=True, load_best_model_at_end=True, metric_for_best_model="same",
        logging_steps=1, disable_tqdm=True, draw_curves=False, precision="fp32",
    )  # fmt: skip

    def same(found: Any) -> dict[str, float]:
        width = min(found.predictions.shape[1] - 1, found.label_ids.shape[1])
        return {"same": float((found.predictions[:, 1 : width + 1] == found.label_ids[:, :width]).mean())}

    model = unpad.AutoModelForSeq2SeqLM.from_config(config)
    return unpad.Seq2SeqTrainer(model, args, train_dataset=data[:50], eval_dataset=data[50:], compute_metrics=same)


@pytest.mark.parametrize("step", [1, 4, 8])
def test_a_run_continued_from_any_step_ends_the_same(tmp_path: Path, step: int) -> None:
    torch.set_num_threads(1)
    folders = tmp_path / "whole", tmp_path / "part"
    for folder in folders:
        if folder.name == "part":
            folder.mkdir()
            for kept in range(1, step + 1):
                shutil.copytree(folders[0] / f"checkpoint-{kept}", folder / f"checkpoint-{kept}")
        run = trainer(folder)
        run.train(resume_from_checkpoint=folder.name == "part")
        run.save_model()
    same_run(*folders, 9)
