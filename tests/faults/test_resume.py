"""Nothing is lost: a run that is stopped anywhere continues and ends bit for bit as if it had not been stopped."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_tiny import rows, trainer

from unpad import CheckpointError, TrainingError
from unpad.checkpoint.files import checkpoints, newest_valid
from unpad.engine.state import read_tree

ROOT = Path(__file__).resolve().parents[2]
TIMES = ("_runtime", "_per_second")


def history(folder: Path) -> list[dict[str, Any]]:
    """The run's records without what a clock decides."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.endswith(TIMES)} for line in lines]


def same_tree(a: Any, b: Any, path: str = "") -> None:
    assert type(a) is type(b), path
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, np.ndarray):
        assert np.array_equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            same_tree(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            same_tree(x, y, f"{path}/{i}")
    else:
        assert a == b, path


def same_run(a: Path, b: Path, step: int) -> None:
    """Weights, optimizer, schedule, generators, callbacks, position and history are equal to the last bit."""
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()
    left, right = (read_tree(folder / f"checkpoint-{step}", "training_state") for folder in (a, b))
    for tree in (left, right):
        tree["trainer"]["log_history"] = [
            {k: v for k, v in record.items() if not k.endswith(TIMES)} for record in tree["trainer"]["log_history"]
        ]
    same_tree(left, right)
    assert history(a) == history(b)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 12 steps that nothing interrupts, with every checkpoint kept."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run = trainer(str(folder), 12, save_steps=1, save_total_limit=None)
    run.train()
    run.save_model()
    return folder


@pytest.mark.parametrize("step", range(1, 12))
def test_a_run_continued_from_any_step_ends_the_same(whole: Path, tmp_path: Path, step: int) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for kept in range(1, step + 1):
        shutil.copytree(whole / f"checkpoint-{kept}", folder / f"checkpoint-{kept}")
    run = trainer(str(folder), 12, save_steps=1, save_total_limit=None)
    run.train(resume_from_checkpoint=True)
    run.save_model()
    same_run(whole, folder, 12)


def test_another_seed_gives_another_run(whole: Path, tmp_path: Path) -> None:
    run = trainer(str(tmp_path / "run"), 12, seed=43)
    run.train()
    run.save_model()
    assert (tmp_path / "run" / "model.safetensors").read_bytes() != (whole / "model.safetensors").read_bytes()


def test_a_damaged_newest_checkpoint_falls_back_and_ends_the_same(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    for step in range(9, 13):
        shutil.rmtree(folder / f"checkpoint-{step}")
    file = folder / "checkpoint-8" / "training_state.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    run = trainer(str(folder), 12, save_steps=1, save_total_limit=None)
    with caplog.at_level("INFO", logger="unpad"):
        run.train(resume_from_checkpoint=True)
    run.save_model()
    assert "checkpoint-8 is damaged" in caplog.text and "checkpoint-7 at step 7" in caplog.text
    same_run(whole, folder, 12)


def test_a_checkpoint_continues_only_its_own_run(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"learning_rate: 0\.001 there, 0\.1 here"):
        trainer(str(tmp_path), 12, learning_rate=0.1).train(resume_from_checkpoint=whole / "checkpoint-4")
    other = trainer(str(tmp_path), 12)
    other.train_dataset = rows(50, 5)
    with pytest.raises(TrainingError, match="other training data"):
        other.train(resume_from_checkpoint=whole / "checkpoint-4")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        trainer(str(tmp_path), 12).train(resume_from_checkpoint=tmp_path / "nothing")


def test_an_earlier_run_in_the_folder_is_moved_aside_not_lost(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    trainer(str(folder), 2).train()
    assert len(checkpoints(folder / "earlier-1")) == 12
    assert (folder / "earlier-1" / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert [path.name for path in checkpoints(folder)] == ["checkpoint-2"]


def test_a_run_killed_at_20_random_moments_ends_the_same(tmp_path: Path) -> None:
    """SIGKILL while training, evaluating and writing checkpoints; the run itself takes `steps` steps."""
    steps, kills = 40, 20
    script = Path(__file__).with_name("run_tiny.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "UNPAD_QUIET": "1"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def start(folder: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(script), str(folder), str(steps)], env=environment, stdout=subprocess.PIPE, text=True
        )

    reference = start(whole)
    rng = random.Random(11)
    done, seen = 0, False
    for _ in range(kills):
        process = start(killed)
        # a run that has begun shows by its history file, which is rewritten first; then kill within a few steps' time
        before = (killed / "metrics.jsonl").stat().st_mtime_ns if (killed / "metrics.jsonl").exists() else 0
        while process.poll() is None and (
            not (killed / "metrics.jsonl").exists() or (killed / "metrics.jsonl").stat().st_mtime_ns == before
        ):
            time.sleep(0.002)
        while process.poll() is None and not seen and not list(killed.glob("checkpoint-*")):
            time.sleep(0.002)  # the first kill comes after the first checkpoint, however slow the machine is
        time.sleep(rng.random() * 0.08)
        process.send_signal(signal.SIGKILL)
        finished = "finished" in process.communicate()[0]
        found = newest_valid(killed)
        done += not finished
        assert found is not None or not seen, "once a checkpoint was written there is always a valid one"
        seen = seen or found is not None
    final = start(killed)
    assert "finished" in final.communicate(timeout=120)[0]
    assert "finished" in reference.communicate(timeout=120)[0]
    assert done == kills, f"only {done} of {kills} kills came before the end; the run is too short for this machine"
    same_run(whole, killed, steps)
