"""Runs a Hub: locks its folder, tidies up after a kill, and listens until it is told to stop."""

from __future__ import annotations

import os
from pathlib import Path

from unpad.errors import ArgumentError
from unpad.serve.store import Store


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


def serve(folder: str | Path, host: str, port: int, lfs_from: int) -> None:
    """Serve the Hub in `folder` until SIGINT or SIGTERM; `lfs_from` in bytes.

    Raises ArgumentError: a package of the extra `serve` is missing, the folder is served already, the address cannot
    be had, or it
    can be reached from other machines and there are no tokens.
    """
    try:
        import uvicorn

        from unpad.serve.app import Hub
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
            Hub(store, lfs_from, loopback), host=host, port=port, log_level="warning", lifespan="off", ws="none",
            server_header=False,
            proxy_headers=False, backlog=2048,
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

    fd = os.open(folder.expanduser().resolve() / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise ArgumentError(
            f"{folder} is served by another process already; stop that one, or choose another folder"
        ) from None
    return fd
