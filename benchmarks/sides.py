"""What the benchmarks share: two sides in turn, medians, fresh processes, one table. Only ratios of one run mean anything."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("UNPAD_QUIET", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

STEPS, WARM = 40, 8
PRECISIONS = ("fp32", "defaults")
NAMES = ("unpad", "transformers")
Row = tuple[str, float, float, float]
"""What was measured, ours, theirs, theirs / ours (or another last column that the name tells)."""


def model_folder() -> str:
    from unpad.hub import resolve

    return str(resolve("minilm"))


def row(name: str, values: dict[str, float]) -> Row:
    return name, values["unpad"], values["transformers"], values["transformers"] / values["unpad"]


def step_clock(side: str) -> Any:
    """A callback of that side which notes the time after each step."""
    import transformers

    import unpad

    base: Any = unpad.TrainerCallback if side == "unpad" else transformers.TrainerCallback

    class Clock(base):
        reads_model = False

        def __init__(self) -> None:
            self.times: list[float] = []

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.times.append(time.perf_counter())

    return Clock()


def interleaved(run: Callable[[str], float], segments: int) -> dict[str, float]:
    """Median of `run(side)` over segments in turn."""
    seconds: dict[str, list[float]] = {side: [] for side in NAMES}
    for _ in range(segments):
        for side in NAMES:
            seconds[side].append(run(side))
    return {side: statistics.median(values) for side, values in seconds.items()}


def train_speed(name: str, make: Callable[..., Any], segments: int) -> list[Row]:
    """Milliseconds per optimizer step of `make(side, folder, precision, max_steps=)`'s trainers, the first steps left out."""
    rows = []
    for precision in PRECISIONS:
        with tempfile.TemporaryDirectory() as out:
            trainers = {side: make(side, f"{out}/{side}", precision, max_steps=STEPS + WARM) for side in NAMES}

            def segment(side: str, trainers: dict[str, Any] = trainers) -> float:
                clock, trainer = step_clock(side), trainers[side]
                if side == "unpad":
                    trainer.callbacks[:] = [clock]
                else:
                    trainer.callback_handler.callbacks[1:] = [clock]
                trainer.train()
                return (clock.times[-1] - clock.times[WARM - 1]) / (len(clock.times) - WARM) * 1e3

            rows.append(row(f"{name}, {precision}, ms", interleaved(segment, segments)))
    return rows


def child(code: str) -> dict[str, Any]:
    """Run code in a fresh interpreter; it prints one JSON line last."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


def table(rows: list[Row]) -> None:
    import torch
    import transformers

    machine = platform.processor() or platform.machine()
    print(f"\n{machine}, {os.cpu_count()} cores, torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"{'':64s}{'unpad':>10s}{'transformers':>14s}{'ratio':>8s}")
    for name, ours, theirs, ratio in rows:
        print(f"{name:64s}{ours:10.3f}{theirs:14.3f}{ratio:8.2f}")
