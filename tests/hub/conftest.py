"""A real server in a process of its own, and clients that nobody has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hubs import Server


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
    """Let `huggingface_hub` in this process reach the server, with an empty cache; large files go by LFS."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)  # which asks the internet, and waits for it
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.delenv("HF_TOKEN", raising=False)
