"""A small real training run in a process of its own, for tests that kill it: `python run_tiny.py OUTPUT_DIR STEPS`."""

from __future__ import annotations

import sys

import numpy as np
import torch

from unpad import (
    AutoModelForSequenceClassification,
    BertConfig,
    EarlyStoppingCallback,
    Trainer,
    TrainingArguments,
    load_metric,
    set_seed,
)

WORDS = 97


def rows(count: int, seed: int) -> list[dict]:
    """Rows whose label depends on their tokens, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        ids = rng.integers(3, WORDS, size=int(rng.integers(2, 24))).tolist()
        out.append({"input_ids": ids, "labels": int(sum(ids) % 3 == 0)})
    return out


def trainer(folder: str, steps: int, **changes: object) -> Trainer:
    """The run: dropout, accumulation, warm-up, evaluation, early stopping and best model, all of which must survive."""
    torch.set_num_threads(1)
    set_seed(7)
    config = BertConfig(
        vocab_size=WORDS,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    model = AutoModelForSequenceClassification.from_config(config)
    metric = load_metric("accuracy")
    settings = {
        "max_steps": steps, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "save_steps": 2, "eval_strategy": "steps",
        "eval_steps": 3, "logging_steps": 2, "learning_rate": 1e-3, "warmup_steps": 3, "load_best_model_at_end": True, "save_total_limit": 2,
        "disable_tqdm": True, "draw_curves": False, "precision": "fp32",
    }  # fmt: skip
    return Trainer(
        model, TrainingArguments(folder, **{**settings, **changes}), train_dataset=rows(50, 0), eval_dataset=rows(20, 1),
        compute_metrics=lambda p: metric.compute(predictions=p[0].argmax(-1), references=p[1]),
        callbacks=[EarlyStoppingCallback(early_stopping_patience=100)],
    )  # fmt: skip


if __name__ == "__main__":
    run = trainer(sys.argv[1], int(sys.argv[2]))
    run.train(resume_from_checkpoint=True)
    run.save_model()
    print("finished", flush=True)
