"""Several processes: each knows its place, and however a run ends, the launcher ends the same way and says so in one line.

The scripts of the workers are tiny and mostly without PyTorch. Where the launcher gets a signal, it runs in a fork of this process.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import unpad
from unpad import ArgumentError, TrainingError, notebook_launcher
from unpad.cli.__main__ import main
from unpad.engine.launch import launch
from unpad.errors import EXIT_CONTINUE

SRC = Path(__file__).resolve().parents[2] / "src"
HEAD = """
import json, os, pathlib, signal, sys, time
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
def there(name): return pathlib.Path(name).exists()
def touch(name): pathlib.Path(name).touch()
def wait_for(*names):
    while not all(map(there, names)): time.sleep(0.005)
"""
SAVES = """
asked = []
signal.signal(getattr(signal, sys.argv[1]), lambda *_: asked.append(1))
touch(f"ready-{rank}")
wait_for("ready-0", "ready-1")
if rank == 0: os.kill(os.getppid(), getattr(signal, sys.argv[1]))
while not asked: time.sleep(0.005)
time.sleep(0.3 * rank)
touch(f"saved-{rank}")
sys.exit(75)
"""
IGNORES = """
number = getattr(signal, sys.argv[1])
signal.signal(number, signal.SIG_IGN if rank else lambda *_: sys.exit(75))
pathlib.Path(f"pid-{rank}").write_text(str(os.getpid()))
wait_for("pid-0", "pid-1")
for _ in range(int(sys.argv[2]) if rank else 0):
    os.kill(os.getppid(), number)
    time.sleep(0.2)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and threads that the user has set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def script(text: str, name: str = "script.py") -> str:
    Path(name).write_text(HEAD + text)
    return name


def started(act: Callable[[], Any]) -> Any:
    """`act` in a fork of this process, whose exit code is what it returns."""

    def run() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
        sys.exit(act())

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def ended(process: Any) -> int:
    process.join(60)
    assert process.exitcode is not None, "the launcher did not end"
    return int(process.exitcode)


def alive(pid: str) -> bool:
    """Whether the process is there and not just waiting to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


SHOW = "pathlib.Path(f'{rank}.json').write_text(json.dumps([sys.argv[1:], dict(os.environ)]))"
OF_THE_SCRIPT = ["--nproc", "7", "a b", "", "$$x ${local_rank}", "-m", "--help", "--", "ü"]


def test_every_worker_has_its_place_and_the_arguments_as_they_were_written(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    port, interrupt = free_port(), signal.getsignal(signal.SIGINT)
    assert main(["launch", "--nproc", "2", f"--port={port}", script(SHOW), *OF_THE_SCRIPT]) == 0
    cores = len(os.sched_getaffinity(0))
    for rank in range(2):
        arguments, environment = json.loads(Path(f"{rank}.json").read_text())
        assert arguments == OF_THE_SCRIPT
        expected = {
            "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0,
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": max(1, cores // 2),
        }  # fmt: skip
        assert {name: environment[name] for name in expected} == {name: str(value) for name, value in expected.items()}
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and "OMP_NUM_THREADS" in err
    assert "OMP_NUM_THREADS" not in os.environ and signal.getsignal(signal.SIGINT) == interrupt


def test_a_module_runs_too_and_the_threads_of_the_user_stay(capfd: pytest.CaptureFixture[str]) -> None:
    script("import torch_like.deep\n" + SHOW, "show.py")
    Path("torch_like").mkdir()
    Path("torch_like/deep.py").touch()
    assert main(["launch", "--nproc=2", "-m", "show", "x"]) == 0
    arguments, environment = json.loads(Path("1.json").read_text())
    assert arguments == ["x"] and environment["OMP_NUM_THREADS"] == "1"
    assert capfd.readouterr() == ("", "")


def test_two_nodes_are_one_world() -> None:
    text, endpoint = script(SHOW), f"127.0.0.1:{free_port()}"
    nodes = [started(lambda i=i: launch(text, [], 1, 2, i, endpoint)) for i in (1, 0)]  # type: ignore[misc]
    assert [ended(node) for node in nodes] == [0, 0]
    for rank in range(2):
        environment = json.loads(Path(f"{rank}.json").read_text())[1]
        assert [environment[k] for k in ("WORLD_SIZE", "GROUP_RANK", "LOCAL_RANK")] == ["2", str(rank), "0"]


# ---- how a run ends


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("sys.exit('no such label')", 1, "rank 1 of 2 ended with exit code 1; mend what its message says"),
        ("sys.exit(2)", 2, "rank 1 of 2 ended with exit code 2; mend"),
        ("sys.exit(75)", 75, "run the same command again to go on"),
        ("os.kill(os.getpid(), 9)", 137, "rank 1 of 2 was ended by SIGKILL; the system does so when memory runs out"),
    ],
)
def test_the_launcher_ends_as_the_worker_that_failed_first(
    end: str, code: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    last = "time.sleep(0.5); touch('saved'); sys.exit(75)" if code == 75 else "time.sleep(0.02); sys.exit(1)"
    assert launch(script(f"if rank == 1:\n    touch('gone')\n    {end}\nwait_for('gone')\n{last}"), [], 2) == code
    lines = capfd.readouterr().err.splitlines()
    assert lines[:-1] == (["no such label"] if code == 1 else [])
    assert lines[-1].startswith("unpad: ") and said in lines[-1]
    assert Path("saved").exists() == (code == 75), "a worker that saves is waited for"


def test_the_terminal_shows_what_the_worker_says_and_one_line() -> None:
    text = script("if rank: sys.exit('no such label')\ntime.sleep(60)")
    command = [sys.executable, "-m", "unpad.cli", "launch", "--nproc", "2", text]
    environment = {name: value for name, value in os.environ.items() if name != "LOGLEVEL"} | {"PYTHONPATH": str(SRC)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    first, last = done.stderr.splitlines()
    assert first == "no such label" and last.startswith("unpad: rank 1 of 2 ended with exit code 1")


def test_a_worker_that_hangs_is_stopped_when_another_fails() -> None:
    text = "pathlib.Path(f'pid-{rank}').write_text(str(os.getpid()))\nwait_for('pid-0')\nif rank: sys.exit(3)\ntime.sleep(60)"
    assert launch(script(text), [], 2) == 3
    assert not alive(Path("pid-0").read_text())


@pytest.mark.parametrize(
    ("end", "code", "tries"),
    [("os.kill(os.getpid(), 9)", 137, 3), ("sys.exit(1)", 1, 3), ("sys.exit(2)", 2, 1), ("sys.exit(75)", 75, 1)],
)
def test_all_workers_start_again_but_not_after_a_mistake_or_a_request_to_stop(
    end: str, code: int, tries: int, capfd: pytest.CaptureFixture[str]
) -> None:
    text = f"""
attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
touch(f"try-{{attempt}}-{{rank}}")
wait_for(f"try-{{attempt}}-0", f"try-{{attempt}}-1")
if rank: {end}
"""
    assert launch(script(text), [], 2, max_restarts=2) == code
    assert len(list(Path().glob("try-*"))) == 2 * tries
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == tries and all("all start again (restart" in line for line in lines[:-1])
    assert ("after 2 of 2 restarts" in lines[-1]) == (tries == 3)


def test_processes_that_start_again_meet_again(capfd: pytest.CaptureFixture[str]) -> None:
    text = """
import torch, torch.distributed as dist
dist.init_process_group("gloo")
total = torch.tensor([rank + 1])
dist.all_reduce(total)
touch(f"met-{rank}")
wait_for("met-0", "met-1")
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    os.kill(os.getpid(), 9) if rank else time.sleep(60)
touch(f"sum-{total.item()}-{rank}")
dist.destroy_process_group()
"""
    assert launch(script(text), [], 2, max_restarts=1) == 0, capfd.readouterr().err
    assert sorted(p.name for p in Path().glob("sum-*")) == ["sum-3-0", "sum-3-1"]


# ---- signals


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_lets_all_workers_save(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    text = script(SAVES)
    assert ended(started(lambda: launch(text, [name], 2, max_restarts=1))) == EXIT_CONTINUE
    assert Path("saved-0").exists() and Path("saved-1").exists()
    first, last = capfd.readouterr().err.splitlines()
    assert name in first and "120 s" in first
    assert last == "unpad: all processes saved and stopped; run the same command again to go on"


@pytest.mark.parametrize(("name", "times", "patience"), [("SIGTERM", 1, 0.5), ("SIGINT", 2, 120.0)])
def test_workers_that_do_not_stop_are_killed_when_time_is_up_or_at_the_second_ctrl_c(
    name: str, times: int, patience: float, capfd: pytest.CaptureFixture[str]
) -> None:
    text = script(IGNORES)
    code = ended(started(lambda: launch(text, [name, str(times)], 2, shutdown_timeout=patience)))
    assert code == 128 + getattr(signal, name)
    assert not any(alive(Path(f"pid-{rank}").read_text()) for rank in range(2))
    assert f"stopped by {name}; not all had ended" in capfd.readouterr().err.splitlines()[-1]


def test_workers_without_a_handler_end_by_the_signal(capfd: pytest.CaptureFixture[str]) -> None:
    text = script("os.kill(os.getppid(), signal.SIGUSR1)\ntime.sleep(60)")
    assert ended(started(lambda: launch(text, [], 1))) == 128 + signal.SIGUSR1
    assert "stopped by SIGUSR1; rank 0 of 1 was ended by SIGUSR1" in capfd.readouterr().err


def test_a_signal_that_nohup_turned_off_stays_off() -> None:
    text = script("os.kill(os.getppid(), signal.SIGHUP)\ntime.sleep(0.3)")

    def run() -> int:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return launch(text)

    assert ended(started(run)) == 0


# ---- bad input


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nproc", "0", "SCRIPT"], ["nproc=0", "1 or more"]),
        (["--nproc", "-1", "SCRIPT"], ["nproc=-1", "1 or more"]),
        (["--nproc", "two", "SCRIPT"], ["nproc='two'", "a whole number"]),
        (["--nproc", "--nnodes", "2", "SCRIPT"], ["--nproc needs a value"]),
        (["--nproc", "2", "gone.py"], ["'gone.py' is not there", "-m and the name of a module"]),
        (["--nproc", "2", "."], ["'.' is a folder"]),
        (["--nproc", "2"], ["SCRIPT is missing", "unpad launch --help"]),
        (["--nproc", "2", "-m"], ["SCRIPT is missing"]),
        (["--nprocs", "2", "SCRIPT"], ["no option --nprocs", "did you mean --nproc"]),
        (["--port", "BUSY", "SCRIPT"], ["port BUSY cannot be used", "another --port, or none"]),
        (["--port", "70000", "SCRIPT"], ["port=70000", "1 to 65535"]),
        (["--nnodes", "2", "--node_rank", "2", "--rdzv_endpoint", "127.0.0.1:1", "SCRIPT"], ["node_rank=2", "0 to 1"]),
        (["--node-rank", "1", "SCRIPT"], ["node_rank=1", "0 (there is one node)"]),
        (["--nnodes", "2", "SCRIPT"], ["nnodes=2 needs rdzv_endpoint", "host:29500"]),
        (["--nnodes", "2", "--rdzv_endpoint", "localhost", "SCRIPT"], ["'localhost' has no port"]),
        (["--nnodes", "2", "--rdzv_endpoint", "localhost:http", "SCRIPT"], ["'localhost:http' has no port", "1 to 65535"]),
        (["--nnodes", "2", "--rdzv_endpoint", "127.0.0.1:BUSY", "SCRIPT"], ["port BUSY cannot", "another --rdzv_endpoint"]),
        (["--nnodes", "2", "--rdzv_endpoint", "a:1", "--port", "2", "SCRIPT"], ["port=2", "give one of them"]),
        (["--max_restarts", "-1", "SCRIPT"], ["max_restarts=-1", "0 or more"]),
        (["--shutdown_timeout", "-5", "SCRIPT"], ["shutdown_timeout=-5", "0 or more"]),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(
    words: list[str], said: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    text = script("touch('ran')")
    with socket.create_server(("127.0.0.1", 0)) as server:
        busy = str(server.getsockname()[1])
        code = main(["launch", *(word.replace("SCRIPT", text).replace("BUSY", busy) for word in words)])
    out, err = capfd.readouterr()
    assert code == 2 and out == "" and err.count("\n") == 1 and err.startswith("unpad: error: ")
    assert all(part.replace("BUSY", busy) in err for part in said), err
    assert not Path("ran").exists()


def test_a_node_that_finds_no_node_0_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("unpad.engine.launch.NODES_ARRIVE_SECONDS", -1)
    endpoint = f"127.0.0.1:{free_port()}"
    assert main(["launch", "--nnodes=2", "--node_rank=1", f"--rdzv_endpoint={endpoint}", script("touch('ran')")]) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and f"node 0 did not answer at {endpoint}" in err and "connection refused" in err


# ---- notebooks


def test_a_function_of_a_notebook_runs_in_processes_that_meet(capfd: pytest.CaptureFixture[str]) -> None:
    factor = 10  # a closure, as a cell's function is

    def cell(start: int) -> None:
        torch.distributed.init_process_group("gloo")
        total = torch.tensor([start + factor * torch.distributed.get_rank()])
        torch.distributed.all_reduce(total)
        Path(f"{os.environ['LOCAL_RANK']} of {os.environ['WORLD_SIZE']}: {total.item()}").touch()

    notebook_launcher(cell, (1,), num_processes=2)
    assert sorted(p.name for p in Path().iterdir()) == ["0 of 2: 12", "1 of 2: 12"]
    assert "RANK" not in os.environ and capfd.readouterr() == ("", "")


def test_a_notebook_that_has_computed_already_can_start_processes_that_compute() -> None:
    def compute() -> float:
        torch.set_num_threads(2)
        return torch.ones(4_000_000).mul(0.5).sum().item()  # long enough to be split between threads

    def cell() -> None:
        signal.alarm(20)  # instead of waiting forever
        Path(f"{os.environ['RANK']}: {compute():.0f}").touch()

    threads = torch.get_num_threads()
    compute()
    notebook_launcher(cell, (), 2)
    torch.set_num_threads(threads)
    assert sorted(p.name for p in Path().iterdir()) == ["0: 2000000", "1: 2000000"]


@pytest.mark.parametrize("count", [None, 1])
def test_one_process_is_this_one(count: int | None) -> None:
    called = []
    notebook_launcher(lambda *values: called.append((values, os.getpid())), (1, 2), count)
    assert called == [((1, 2), os.getpid())]


def _pid_and(act: Callable[[int], Any]) -> Callable[[], None]:
    def cell() -> None:
        rank = int(os.environ["RANK"])
        Path(f"pid-{rank}").write_text(str(os.getpid()))
        while not all(Path(f"pid-{i}").exists() and Path(f"pid-{i}").read_text() for i in range(2)):
            time.sleep(0.005)
        if rank:
            act(rank)
        time.sleep(60)

    return cell


def _no_label(rank: int) -> None:
    raise KeyError("no such label")


def _bad_argument(rank: int) -> None:
    raise unpad.DataError("row 7 has no label; add one")


@pytest.mark.parametrize(
    ("act", "said", "printed"),
    [
        (_no_label, "rank 1 of 2 ended with exit code 1", "KeyError: 'no such label'"),
        (_bad_argument, "rank 1 of 2 ended with exit code 1", "unpad: error: row 7 has no label; add one"),
        (lambda rank: sys.exit(3), "rank 1 of 2 ended with exit code 3", ""),
        (lambda rank: os.kill(os.getpid(), signal.SIGKILL), "rank 1 of 2 was ended by SIGKILL", ""),
    ],
)
def test_a_process_of_a_notebook_that_fails_is_one_error_and_stops_the_others(
    act: Callable[[int], Any], said: str, printed: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TrainingError, match=said):
        notebook_launcher(_pid_and(act), (), 2)
    assert not alive(Path("pid-0").read_text())
    err = capfd.readouterr().err
    assert err.strip().endswith(printed) and "unpad/engine/launch.py" not in err
    assert "Traceback" not in err or act is _no_label


def test_an_interrupted_cell_leaves_no_process_behind() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        notebook_launcher(_pid_and(lambda rank: os.kill(os.getppid(), signal.SIGINT)), (), 2)
    assert not any(alive(Path(f"pid-{rank}").read_text()) for rank in range(2))


def test_a_notebook_that_cannot_fork_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArgumentError, match="num_processes=0 must be 1 or more"):
        notebook_launcher(print, (), 0)
    with pytest.raises(ArgumentError, match=r"write args=\(value,\)"):
        notebook_launcher(print, 3, 2)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    notebook_launcher(lambda: None, (), 1)
    with pytest.raises(ArgumentError, match=r"cannot share the GPU .* restart the notebook's kernel"):
        notebook_launcher(print, (), 2)
