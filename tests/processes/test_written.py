"""Texts that several processes write are those of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from many import many
from runs import model, rows

from unpad import Seq2SeqTrainer, Seq2SeqTrainingArguments


def written(folder: str, fsdp: str = "") -> list[Any]:
    args = Seq2SeqTrainingArguments(
        folder, max_steps=2, predict_with_generate=True, generation_max_length=8, generation_num_beams=2, precision="fp32", fsdp=fsdp,
        disable_tqdm=True, draw_curves=False, save_strategy="no", learning_rate=1e-3,
    )  # fmt: skip
    trainer = Seq2SeqTrainer(model("t5"), args, train_dataset=rows("t5", 9, 0), eval_dataset=rows("t5", 5, 1))
    trainer.train()
    found = trainer.predict(trainer.eval_dataset)
    return [found.predictions, found.label_ids, found.metrics["test_loss"]]


def both(folder: str) -> list[Any]:
    return [written(f"{folder}/ddp"), written(f"{folder}/fsdp", "full_shard")]


def test_texts_of_an_evaluation_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    alone = written(str(tmp_path / "one"))
    for result in many(2, both, str(tmp_path)):
        if isinstance(result, BaseException):
            raise result
        for predictions, labels, loss in result:
            assert np.array_equal(predictions, alone[0]) and np.array_equal(labels, alone[1])
            np.testing.assert_allclose(loss, alone[2], atol=1e-5)
