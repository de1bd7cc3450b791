"""A run that is told to stop, or whose processes die, loses nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from many import many
from runs import trainer

from unpad import TrainerCallback
from unpad.errors import EXIT_CONTINUE

HERE = Path(__file__).parent
CLOCK = ("_runtime", "_per_second")
RUN: dict[str, Any] = {"max_steps": 6, "eval_steps": 2, "save_strategy": "steps", "save_steps": 3}


class StopWhen(TrainerCallback):
    """Sends the process a signal at a step: when the step is done, in its evaluation, or while it is saved."""

    def __init__(self, moment: str, step: int, number: int = signal.SIGTERM) -> None:
        self.moment, self.step, self.number = moment, step, number

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.now = state.global_step == self.step
        self.send("training")

    def send(self, moment: str) -> None:
        if self.moment == moment and self.now:
            os.kill(os.getpid(), self.number)


def facts(run: Any) -> tuple[dict[str, np.ndarray], list[Any]]:
    """Weights and history, without what a clock decides."""
    weights = {k: v.detach().numpy().copy() for k, v in run.model.state_dict().items()}
    return weights, [{k: v for k, v in r.items() if not k.endswith(CLOCK)} for r in run.state.log_history]


def same(a: Any, b: Any) -> None:
    assert a[1] == b[1]
    for name in a[0]:
        assert np.array_equal(a[0][name], b[0][name]), name


def finished(folder: Path | str, resume: bool = False, stop: StopWhen | None = None) -> Any:
    run = trainer("bert", folder, 0.1, **RUN)
    if stop is not None:
        run.callbacks.append(stop)
        save = run._save_model
        pack = run._store(run.eval_dataset, "eval").pack

        def in_evaluation(rows: Any) -> Any:
            stop.send("evaluation")
            return pack(rows)

        def in_saving(*args: Any, **more: Any) -> None:
            stop.send("saving")
            save(*args, **more)

        run._stores[id(run.eval_dataset)][1].pack = in_evaluation  # type: ignore[method-assign]
        run._save_model = in_saving  # type: ignore[method-assign]
    run.train(resume_from_checkpoint=resume)
    return facts(run)


@pytest.mark.parametrize(
    ("moment", "step", "number"),
    [("training", 1, signal.SIGTERM), ("training", 6, signal.SIGTERM), ("training", 4, signal.SIGUSR1), ("evaluation", 2, signal.SIGTERM),
     ("evaluation", 6, signal.SIGTERM), ("saving", 3, signal.SIGTERM)],
)  # fmt: skip
def test_a_stop_signal_saves_and_the_run_goes_on_to_the_same_end(
    moment: str, step: int, number: int, tmp_path: Path, capsys: Any
) -> None:
    whole = finished(tmp_path / "whole")
    with pytest.raises(SystemExit) as stopped:
        finished(tmp_path / "run", stop=StopWhen(moment, step, number))
    assert stopped.value.code == EXIT_CONTINUE
    assert (tmp_path / "run" / f"checkpoint-{step}").is_dir()
    assert f"saved step {step} of 6" in capsys.readouterr().err
    same(whole, finished(tmp_path / "run", resume=True))


def _stopped(folder: str, moment: str) -> Any:
    stop = StopWhen(moment, 2) if os.environ["RANK"] == "1" else None
    return finished(folder, stop=stop)


def _finished(folder: str) -> Any:
    return finished(folder, resume=True)


@pytest.mark.parametrize("moment", ["training", "evaluation"])
def test_a_signal_to_one_process_stops_all_of_them_after_the_same_step(moment: str, tmp_path: Path) -> None:
    whole = many(2, _finished, str(tmp_path / "whole"))
    left = many(2, _stopped, str(tmp_path / "run"), moment)
    assert [getattr(error, "code", error) for error in left] == [EXIT_CONTINUE] * 2
    again = many(2, _finished, str(tmp_path / "run"))
    same(whole[0], again[0])


def test_killed_workers_are_started_again_and_the_run_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    kills, steps = 10, 120
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(["src", str(HERE)]),
        "OMP_NUM_THREADS": "1",
        "UNPAD_TIMEOUT_MINUTES": "2",
    }

    def start(folder: Path) -> subprocess.Popen[bytes]:
        folder.mkdir()
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node=2",
            f"--max-restarts={kills + 2}",
        ]
        with (folder / "log").open("w") as log:
            return subprocess.Popen(
                [*command, str(HERE / "elastic.py"), str(folder), str(steps)],
                cwd=HERE.parents[1],
                env=env,
                stdout=log,
                stderr=log,
            )

    chance, ended, done = random.Random(5), set(), 0
    whole, run = start(tmp_path / "whole"), start(tmp_path / "run")
    while done < kills and run.poll() is None:
        files = [tmp_path / "run" / f"pid-{rank}" for rank in (0, 1)]
        pids = [int(text) for file in files if file.exists() and (text := file.read_text())]
        if len(pids) < 2 or set(pids) & ended:
            time.sleep(0.02)
            continue
        time.sleep(chance.random() * 0.7)
        os.kill(chance.choice(pids), signal.SIGKILL)
        ended, done = ended | set(pids), done + 1
    for process, name in ((run, "run"), (whole, "whole")):
        assert process.wait(240) == 0, (tmp_path / name / "log").read_text()[-3000:]
    assert done == kills
    assert (tmp_path / "run/run/model.safetensors").read_bytes() == (
        tmp_path / "whole/run/model.safetensors"
    ).read_bytes()
