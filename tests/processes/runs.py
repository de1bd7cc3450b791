"""Small runs of the Trainer for every family shape, to be made by one process or by several."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch

import unpad
from unpad import AutoConfig, Trainer, TrainerCallback, TrainingArguments, load_metric, set_seed
from unpad.engine.stop import Stopped

WORDS = 97
_SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("AutoModelForSequenceClassification", {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": 32,
    }),
    "llama": ("AutoModelForCausalLM", {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48,
        "max_position_embeddings": 64,
    }),
    "gpt2": ("AutoModelForCausalLM", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "t5": ("AutoModelForSeq2SeqLM", {
        "d_model": 32, "num_layers": 2, "num_heads": 4, "d_kv": 8, "d_ff": 48, "pad_token_id": 0, "decoder_start_token_id": 0,
    }),
    "deberta-v2": ("AutoModelForSequenceClassification", {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": 32,
        "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8,
    }),
    "albert": ("AutoModelForTokenClassification", {
        "hidden_size": 32, "embedding_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
        "max_position_embeddings": 32,
    }),
}  # fmt: skip


def rows(kind: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Rows of very different lengths, with the labels that the model of this family is asked for."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        ids = rng.integers(3, WORDS, size=int(rng.integers(2, 24))).tolist()
        row = {"input_ids": ids}
        if kind in ("bert", "deberta-v2"):
            row["labels"] = int(sum(ids) % 3 == 0)
        elif kind == "albert":
            row["labels"] = [i % 3 for i in ids]
        elif kind == "t5":
            row["labels"] = ids[: max(2, len(ids) // 2)]
        out.append(row)
    return out


def model(kind: str, dropout: float = 0.0) -> Any:
    """A random small model, the same in every process."""
    set_seed(7)
    name, shape = _SMALL[kind]
    config = AutoConfig.for_model(kind, vocab_size=3 * WORDS, **shape)
    if kind in ("bert", "albert", "deberta-v2"):
        config = config.replace(id2label={i: str(i) for i in range(3 if kind == "albert" else 2)})
    drops = {
        name: dropout for name, value in vars(config).items() if name.endswith("dropout") and isinstance(value, float)
    }
    return getattr(unpad, name).from_config(config.replace(**drops))


def trainer(kind: str, folder: Path | str, dropout: float = 0.0, size: int = 23, **changes: Any) -> Trainer:
    settings = {
        "max_steps": 8, "per_device_train_batch_size": 7, "learning_rate": 1e-3, "logging_steps": 1, "eval_strategy": "steps", "eval_steps": 4,
        "save_strategy": "no", "disable_tqdm": True, "draw_curves": False, "precision": "fp32", "eval_max_tokens": 60,
    }  # fmt: skip
    metric = load_metric("accuracy") if kind == "bert" else None
    return Trainer(
        model(kind, dropout), TrainingArguments(str(folder), **{**settings, **changes}), train_dataset=rows(kind, size, 0),
        eval_dataset=rows(kind, 21, 1),
        compute_metrics=metric and (lambda p: metric.compute(predictions=p[0].argmax(-1), references=p[1])),
    )  # fmt: skip


def weights(run: Trainer) -> dict[str, np.ndarray]:
    """All weights, whole."""
    whole = run.accelerator.strategy.weights(run.model)
    return {name: value.detach().numpy().copy() for name, value in whole.items()}


class StopAt(TrainerCallback):
    """Lets a run be asked to stop."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGUSR1)


def trained(
    kind: str, folder: str, resume: bool = False, dropout: float = 0.0, stop_at: int | None = None, **changes: Any
) -> dict[str, Any]:
    """Losses per step, evaluations, and final weights of a run."""
    torch.set_num_threads(1)
    run = trainer(kind, folder, dropout, **changes)
    if stop_at is not None:
        run.callbacks.append(StopAt(stop_at))
    with contextlib.suppress(Stopped):
        run.train(resume_from_checkpoint=resume)
    evaluations = [
        {k: v for k, v in r.items() if not k.endswith(("_runtime", "_per_second"))}
        for r in run.state.log_history
        if "eval_loss" in r
    ]
    return {
        "losses": [r["loss"] for r in run.state.log_history if "loss" in r],
        "norms": [r["grad_norm"] for r in run.state.log_history if "loss" in r],
        "evaluations": evaluations,
        "weights": weights(run),
        "tokens": run.state.tokens,
    }
