"""A real server in a process of its own, and clients that nobody has changed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """`unpad hub serve` on a folder; `url` is where it listens."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options = folder, options
        self.start()

    def start(self, port: int = 0) -> None:
        words = ["hub", "serve", str(self.folder), "--port", str(port), *self.options]
        env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "unpad.cli", *words], stdout=subprocess.PIPE, text=True, env=env
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("HF_ENDPOINT="), f"the server did not start: {line!r}"
        self.url = line.strip().removeprefix("HF_ENDPOINT=")

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start a server on a folder (default: an empty one) with options of the command line."""
    started: list[Server] = []

    def start(*options: str, folder: Path = tmp_path / "hub") -> Server:
        started.append(Server(folder, *options))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An open server that the tests of a file share; files of 1 MiB and more go by LFS."""
    server = Server(tmp_path_factory.mktemp("shared") / "hub", "--lfs_from_mb", "1")
    yield server
    server.kill()


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let `huggingface_hub` in this process reach the server, with an empty cache and without Xet."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.delenv("HF_TOKEN", raising=False)


def run_client(server: Server, script: str, home: Path, **env: str) -> str:
    """Run `script` in a process that knows only HF_ENDPOINT; returns what it printed."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    kept |= {"HF_ENDPOINT": server.url, "HF_HOME": str(home), "PYTHONPATH": str(ROOT / "src"), "UNPAD_QUIET": "1", **env}
    code = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(code, capture_output=True, text=True, env=kept, cwd=home, timeout=120)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
