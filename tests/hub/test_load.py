"""What the server keeps: every byte and every commit, under many clients at once and under kills."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hubs import Server, api, ask, commit, large, make, run_client, titles, upload_address

# ---- many at once


def test_200_parallel_downloads_get_every_byte(hub: Server, online: None, tmp_path: Path) -> None:
    from huggingface_hub import hf_hub_download

    files = {f"f{i}": os.urandom(100_000 + i) for i in range(8)}
    make(hub, "many", **files)
    together = threading.Barrier(200)

    def download(i: int) -> bytes:
        together.wait(60)
        if i % 2:  # half of them each with a connection of their own
            return ask(hub, "GET", f"/team/many/resolve/main/f{i % 8}")[2]
        place = hf_hub_download("team/many", f"f{i % 8}", endpoint=hub.url, local_dir=tmp_path / str(i), token=False)
        return Path(place).read_bytes()

    with ThreadPoolExecutor(200) as pool:
        assert list(pool.map(download, range(200))) == [files[f"f{i % 8}"] for i in range(200)]


def test_20_parallel_commits_of_different_files_are_20_commits(hub: Server, online: None) -> None:
    api(hub).create_repo("team/parallel")

    def add(i: int) -> str:
        data, place = os.urandom(2 << 20 if i % 2 else 99), f"d/{i}.bin"
        done = api(hub).upload_file(
            path_or_fileobj=data, path_in_repo=place, repo_id="team/parallel", commit_message=f"c{i}"
        )
        assert ask(hub, "GET", f"/team/parallel/resolve/{done.oid}/{place}")[2] == data
        return str(done.oid)

    with ThreadPoolExecutor(20) as pool:
        made = set(pool.map(add, range(20)))
    history = json.loads(ask(hub, "GET", "/api/models/team/parallel/commits/main")[2])
    assert len(history) == 21 and {c["id"] for c in history[:-1]} == made
    assert [c["parents"] for c in history] == [[c["id"]] for c in history[1:]] + [[]]
    assert len(api(hub).list_repo_files("team/parallel")) == 20


def test_20_commits_of_the_same_file_from_4_processes_all_stand_in_the_history(hub: Server, tmp_path: Path) -> None:
    make(hub, "same")
    script = """
    import json, os, sys
    from concurrent.futures import ThreadPoolExecutor
    from huggingface_hub import HfApi
    def write(i):
        data = (f"{os.getpid()} {i} " * (200_000 if i % 2 else 1)).encode()  # half of them by Xet or LFS
        done = HfApi().upload_file(path_or_fileobj=data, path_in_repo="a/same", repo_id="team/same")
        return done.oid, data.decode()
    with ThreadPoolExecutor(5) as pool:
        print(json.dumps(list(pool.map(write, range(5)))))
    """
    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(run_client, hub, script, tmp_path, HF_HUB_DISABLE_XET=str(i % 2)) for i in range(4)]
        written = dict(pair for client in clients for pair in json.loads(client.result()))
    history = json.loads(ask(hub, "GET", "/api/models/team/same/commits/main")[2])
    assert {c["id"] for c in history[:-1]} == set(written) and len(written) == 20
    assert [c["parents"] for c in history] == [[c["id"]] for c in history[1:]] + [[]]
    for oid, text in written.items():
        assert ask(hub, "GET", f"/team/same/resolve/{oid}/a/same")[2].decode() == text
    assert ask(hub, "GET", "/team/same/resolve/main/a/same")[2].decode() == written[history[0]["id"]]
    hub.check()


def test_of_two_writers_on_the_same_parent_one_is_told_with_412(hub: Server, online: None) -> None:
    from huggingface_hub import CommitOperationAdd, errors

    head = make(hub, "conflict", a=b"0")
    results: list[int] = []

    def write(i: int) -> None:
        operation = CommitOperationAdd("a", f"new {i}".encode())
        try:
            api(hub).create_commit("team/conflict", [operation], commit_message=f"w{i}", parent_commit=head)
            results.append(200)
        except errors.HfHubHTTPError as error:
            results.append(error.response.status_code)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert sorted(results) == [200, 412, 412, 412]
    assert len(titles(hub, "conflict")) == 3


# ---- kills


def test_after_a_kill_in_an_upload_the_last_commit_stands(serve: Callable[..., Server]) -> None:
    server = serve("--lfs_from_mb", "1")
    head = make(server, "killed", a=b"first")
    data = os.urandom(2 << 20)
    address = upload_address(server, "killed", data)
    with socket.create_connection(("127.0.0.1", server.port)) as half:
        half.sendall(
            f"PUT {address} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            + data[: 3 << 19]
        )
        while not any(p.stat().st_size for p in (server.folder / "incoming").iterdir()):
            assert server.process.poll() is None
        server.kill()
    server.start()
    assert json.loads(ask(server, "GET", "/api/models/team/killed")[2])["sha"] == head
    assert not list((server.folder / "incoming").iterdir()) and upload_address(server, "killed", data)
    assert commit(server, "killed", {}, large("w", data))[0] == 400
    assert ask(server, "PUT", upload_address(server, "killed", data) or "", data)[0] == 200
    assert commit(server, "killed", {}, large("w", data))[0] == 200
    assert ask(server, "GET", "/team/killed/resolve/main/w")[2] == data


@pytest.mark.parametrize("by", ["lfs", "xet", "commit"])
def test_a_client_repeats_what_a_kill_at_any_moment_broke(
    serve: Callable[..., Server], online: None, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", by != "xet")
    monkeypatch.setenv("HF_XET_CLIENT_RETRY_BASE_DELAY", "50ms")
    server = serve("--lfs_from_mb", "1")
    size, moments = (90_000, 0.02) if by == "commit" else (6 << 20, 0.15)
    make(server, "random")
    acknowledged: dict[str, bytes] = {}
    last = ""

    def write(path: str, data: bytes) -> None:
        nonlocal last
        last = api(server).upload_file(path_or_fileobj=data, path_in_repo=path, repo_id="team/random").oid
        acknowledged[path] = data

    def attempt(round_: int, data: list[bytes]) -> None:
        for i, content in enumerate(data):
            with contextlib.suppress(Exception):  # whatever it is, it is the kill
                write(f"{round_}-{i}", content)

    for round_ in range(2):
        data = [os.urandom(size) for _ in range(3)]
        writer = threading.Thread(target=attempt, args=(round_, data))
        writer.start()
        time.sleep(random.random() * moments)  # any moment will do
        port = server.port
        server.kill()
        server.start(port)
        writer.join()
        head = json.loads(ask(server, "GET", "/api/models/team/random")[2])["sha"]
        history = [c["id"] for c in json.loads(ask(server, "GET", "/api/models/team/random/commits/main")[2])]
        assert not last or (
            last in history and history.index(last) <= 1
        )  # one more may stand, which nobody was told of
        for i in range(3):
            write(f"{round_}-{i}", data[i])
        server.check()
        for path, content in acknowledged.items():
            assert ask(server, "GET", f"/team/random/resolve/main/{path}")[2] == content
        assert head in [c["id"] for c in json.loads(ask(server, "GET", "/api/models/team/random/commits/main")[2])]


def test_after_kills_among_commits_none_that_was_acknowledged_is_missing(serve: Callable[..., Server]) -> None:
    import http.client

    server = serve()
    make(server, "often")
    acknowledged: list[str] = []
    for round_ in range(3):
        enough = threading.Event()

        def write(round_: int = round_, enough: threading.Event = enough) -> None:
            for i in range(10_000):
                try:
                    if commit(server, "often", {f"{round_}-{i}": os.urandom(5000)})[0] == 200:
                        acknowledged.append(f"{round_}-{i}")
                except (OSError, http.client.HTTPException):
                    return
                if i == 3 + round_:
                    enough.set()

        writer = threading.Thread(target=write)
        writer.start()
        assert enough.wait(60)
        server.kill()
        writer.join()
        server.start()
        listed = json.loads(ask(server, "GET", "/api/models/team/often/tree/main?recursive=true")[2])
        tree = {f["path"]: f["size"] for f in listed}
        assert set(acknowledged) <= set(tree) and len(tree) <= len(acknowledged) + round_ + 1
        assert len(titles(server, "often")) == len(tree) + 1
        server.check()
