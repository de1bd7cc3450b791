"""Runs a Hub: locks its folder, tidies up after a kill, and listens until it is told to stop."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unpad.errors import ArgumentError
from unpad.serve.store import Store

_MOST_CONNECTIONS = 1000  # at once; further ones are answered 503, which clients take for "try again"


def open_store(folder: str | Path) -> Store:
    """The Store of `folder`, which is made when it is missing. Raises ArgumentError when it cannot be."""
    if os.name == "nt":
        raise ArgumentError("a Hub needs a file system with the calls of POSIX; run it on Linux, macOS or WSL")
    place = Path(folder).expanduser().resolve()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(f"{place} cannot be made ({error.strerror}); choose another folder") from None
    return Store(place)


def prune(folder: str | Path) -> tuple[int, int]:
    """Free what nothing in `folder` needs any longer; returns how many contents, and their bytes.

    Raises ArgumentError when the folder is served, or is none of a Hub.
    """
    if not (Path(folder).expanduser() / "hub.sqlite").exists():
        raise ArgumentError(f"{folder} is not the folder of a Hub; give the one that unpad hub serve was given")
    lock = _lock(Path(folder))
    try:
        return open_store(folder).prune()
    finally:
        os.close(lock)


def serve(
    folder: str | Path, host: str, port: int, lfs_from: int, timeout: float, open_pipeline: Callable[..., Any]
) -> None:
    """Serve the Hub in `folder` until SIGINT or SIGTERM; `lfs_from` in bytes, `timeout` in seconds; `open_pipeline` is
    called with `task=` and `model=` when a model is tried out.

    Raises ArgumentError: a package of the extra `serve` is missing, the folder is served already, the address cannot
    be had, or it can be reached from other machines and there are no tokens.
    """
    try:
        import uvicorn

        from unpad.serve.app import Hub
        from unpad.serve.connection import connection
    except ImportError as error:
        raise ArgumentError(f"the package {error.name} is not installed; run: pip install 'unpad[serve]'") from None
    store = open_store(folder)
    loopback = host in ("127.0.0.1", "::1", "localhost")
    if not loopback and not store.has_tokens():
        raise ArgumentError(
            f"host={host!r} lets other machines in, and there are no tokens; make one first: "
            f"unpad hub token {folder} --name NAME --scope write"
        )
    lock = _lock(Path(folder))
    try:
        store.contents.clear_arriving()
        config = uvicorn.Config(
            Hub(store, lfs_from, loopback, open_pipeline, timeout), host=host, port=port, log_level="warning", lifespan="off",
            ws="none", http=connection(timeout), server_header=False, proxy_headers=False, backlog=2048,
            limit_concurrency=_MOST_CONNECTIONS,
            # uvicorn's 5 seconds are those of the clients: both would let go of a connection while the other uses it
            timeout_keep_alive=int(2 * timeout),
        )  # fmt: skip
        try:
            socket = config.bind_socket()
            socket.listen(2048)  # whoever reads the line below may connect at once
        except SystemExit:
            raise ArgumentError(f"cannot listen on {host}:{port}; choose another --host or --port") from None
        shown = f"[{host}]" if ":" in host else host
        print(f"HF_ENDPOINT=http://{shown}:{socket.getsockname()[1]}", flush=True)
        uvicorn.Server(config).run(sockets=[socket])
    finally:
        os.close(lock)


def _lock(folder: Path) -> int:
    """A descriptor that keeps a second server from this folder; the system lets go of it when the process ends,
    however it does."""
    import fcntl

    place = folder.expanduser().resolve() / "lock"
    try:
        fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ArgumentError(f"{place} cannot be used ({error.strerror}): it must be a file of its own") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise ArgumentError(
            f"{folder} is served by another process already; stop that one, or choose another folder"
        ) from None
    return fd
