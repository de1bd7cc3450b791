"""`unpad train` with two processes, through `unpad launch`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import unpad
from unpad.errors import EXIT_CONTINUE

ROOT = Path(__file__).resolve().parents[2]
STEPS = 12


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    made, tokenizer = unpad.from_scratch(
        "bert", unpad.load_dataset("helpdesk")["train"]["text"][:300], vocab_size=300, **shape
    )
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def command(folder: Path, model: str, *more: str, processes: int = 2) -> list[str]:
    launch = ["launch", "--nproc", str(processes), "-m", "unpad.cli"] if processes > 1 else []
    options = ["--model", model, "--output_dir", str(folder), "--max_steps", str(STEPS), "--per_device_train_batch_size", "8", "--logging_steps", "1",
               "--precision", "fp32", "--draw_curves", "false", "--disable_tqdm", "true", "--save_steps", "5", *more]  # fmt: skip
    return [
        sys.executable,
        "-m",
        "unpad.cli",
        *launch,
        "train",
        "text-classification",
        "--data",
        "helpdesk/pairs",
        *options,
    ]


ENV = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def losses(folder: Path) -> list[float]:
    return [
        r["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines() if "loss" in (r := json.loads(line))
    ]


def run(words: list[str]) -> Any:
    return subprocess.run(words, env=ENV, capture_output=True, text=True, timeout=200)


def test_two_processes_train_stop_and_go_on_from_the_command_line(model: str, tmp_path: Path) -> None:
    whole = run(command(tmp_path / "one", model, processes=1))
    assert whole.returncode == 0, whole.stderr
    both = subprocess.Popen(
        command(tmp_path / "two", model), env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    history = tmp_path / "two" / "metrics.jsonl"
    while both.poll() is None and not (history.exists() and history.read_text().count("loss") >= 2):
        time.sleep(0.01)
    both.send_signal(signal.SIGTERM)
    out, err = both.communicate(timeout=100)
    assert both.returncode in (EXIT_CONTINUE, 0), err
    assert "Traceback" not in err
    if both.returncode:
        assert err.count("asked to stop") == 1, err  # perhaps only in the evaluation after the last step
        again = run(command(tmp_path / "two", model, "--resume"))
        assert again.returncode == 0, again.stderr
        out = again.stdout
    assert out.count("next") == 1, "the main process alone reports"
    assert len(losses(tmp_path / "two")) == STEPS
    # dropout masks differ between processes, global batches do not: the first losses are near each other
    assert losses(tmp_path / "two")[0] == pytest.approx(losses(tmp_path / "one")[0], abs=0.1)


def test_a_mistake_is_said_once(tmp_path: Path) -> None:
    found = run(command(tmp_path / "run", str(tmp_path / "nowhere")))
    assert found.returncode == 2
    assert "Traceback" not in found.stderr and found.stderr.count("nowhere") == 1, found.stderr
