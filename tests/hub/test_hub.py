"""What the server keeps: every byte and every commit, under parallel clients, kills, and requests that mean harm."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hubs import Server, ask, commit, large, make, upload_address


def api(server: Server) -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=server.url, token=False)


def titles(server: Server, name: str) -> list[str]:
    return [c["title"] for c in json.loads(ask(server, "GET", f"/api/models/team/{name}/commits/main")[2])]


def everything(folder: Path) -> dict[str, bytes]:
    """Path -> content of all files, but for those of the database, which a server may write at any time."""
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file() and not p.name.startswith("hub.sqlite")}


# ---- reading


def test_a_large_file_goes_by_lfs_and_its_ranges_are_its_bytes(hub: Server, online: None, tmp_path: Path) -> None:
    from huggingface_hub import hf_hub_download, hf_hub_url
    from huggingface_hub.file_download import http_get

    data = os.urandom(3 << 20)
    api(hub).create_repo("team/ranges")
    api(hub).upload_file(path_or_fileobj=data, path_in_repo="a/w.safetensors", repo_id="team/ranges")
    info = api(hub).get_paths_info("team/ranges", "a/w.safetensors")[0]
    assert info.lfs.size == len(data)
    path = hf_hub_url("team/ranges", "a/w.safetensors", endpoint=hub.url).removeprefix(hub.url)
    status, headers, body = ask(hub, "HEAD", path)
    assert (status, body, headers["content-length"]) == (200, b"", str(len(data)))
    assert headers["etag"] == headers["x-linked-etag"] == f'"{info.lfs.sha256}"'
    assert headers["x-repo-commit"] == api(hub).model_info("team/ranges").sha
    end = len(data)
    spans = {"bytes=0-9": (0, 10), "bytes=5-": (5, end), "bytes=-7": (end - 7, end), "bytes=100-99999999": (100, end)}
    for asked, (start, stop) in spans.items():
        status, headers, body = ask(hub, "GET", path, Range=asked)
        assert (status, body) == (206, data[start:stop])
        assert headers["content-range"] == f"bytes {start}-{stop - 1}/{end}"
    assert ask(hub, "GET", path, Range=f"bytes={len(data)}-")[0] == 416
    assert ask(hub, "GET", path, Range="bytes=0-9", If_Range='"other"')[2] == data
    assert ask(hub, "GET", path, If_None_Match=headers["etag"])[0] == 304
    got = hf_hub_download("team/ranges", "a/w.safetensors", endpoint=hub.url, local_dir=tmp_path / "there", token=False)
    assert Path(got).read_bytes() == data
    with open(tmp_path / "half", "w+b") as file:  # what a broken download left
        file.write(data[: 1 << 20])
        http_get(hub.url + path, file, resume_size=1 << 20, expected_size=len(data))
    assert (tmp_path / "half").read_bytes() == data


def test_the_api_of_repositories(hub: Server, online: None, tmp_path: Path) -> None:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, errors, snapshot_download

    client = api(hub)
    url = client.create_repo("team/whole", repo_type="dataset")
    assert (url.repo_id, url.repo_type) == ("team/whole", "dataset")
    client.create_repo("team/whole", repo_type="dataset", exist_ok=True)
    here: dict[str, Any] = {"repo_id": "team/whole", "repo_type": "dataset"}
    for name in ("a.txt", "b/c d.txt", "b/ü.txt", "b/e/f.txt"):
        (tmp_path / "up" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / name).write_text(name)
    first = client.upload_folder(folder_path=tmp_path / "up", **here).oid
    assert client.list_repo_files(**here) == ["a.txt", "b/c d.txt", "b/e/f.txt", "b/ü.txt"]
    assert sorted(f.path for f in client.list_repo_tree(path_in_repo="b", **here)) == ["b/c d.txt", "b/e", "b/ü.txt"]
    client.create_tag(tag="v1", **here)
    client.create_branch(branch="try/this", **here)
    operations = [CommitOperationDelete("b/e/"), CommitOperationAdd("b/c d.txt", b"new")]
    client.create_commit(operations=operations, commit_message="fewer", revision="try/this", **here)
    assert client.list_repo_files(revision="try/this", **here) == ["a.txt", "b/c d.txt", "b/ü.txt"]
    old = Path(snapshot_download(revision="v1", endpoint=hub.url, token=False, **here))
    assert (old.name, (old / "b/c d.txt").read_text(), (old / "b/ü.txt").read_text()) == (first, "b/c d.txt", "b/ü.txt")
    new = Path(snapshot_download(revision="try/this", endpoint=hub.url, token=False, **here))
    assert (new / "b/c d.txt").read_text() == "new" and not (new / "b/e").exists()
    assert (
        client.upload_file(path_or_fileobj=b"a.txt", path_in_repo="a.txt", **here).oid == first
    )  # nothing new: no commit
    refs = client.list_repo_refs(**here)
    assert {r.name for r in refs.branches} == {"main", "try/this"} and [r.target_commit for r in refs.tags] == [first]
    client.delete_tag(tag="v1", **here)
    with pytest.raises(errors.RevisionNotFoundError):
        client.dataset_info("team/whole", revision="v1")
    with pytest.raises(errors.EntryNotFoundError):
        client.hf_hub_download(filename="none", **here)
    with pytest.raises(errors.EntryNotFoundError):
        client.delete_file("none", **here)
    assert [d.id for d in client.list_datasets(search="WHOLE")] == ["team/whole"] and not list(
        client.list_datasets(author="x")
    )
    client.delete_repo(**here)
    with pytest.raises(errors.RepositoryNotFoundError):
        client.dataset_info("team/whole")


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


def test_20_parallel_commits_are_20_commits(hub: Server, online: None) -> None:
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


def test_after_kills_among_commits_none_that_was_acknowledged_is_missing(serve: Callable[..., Server]) -> None:
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
        tree = {
            f["path"]: f["size"]
            for f in json.loads(ask(server, "GET", "/api/models/team/often/tree/main?recursive=true")[2])
        }
        assert set(acknowledged) <= set(tree) and len(tree) <= len(acknowledged) + round_ + 1
        assert len(titles(server, "often")) == len(tree) + 1
        for name in tree:
            assert len(ask(server, "GET", f"/team/often/resolve/main/{name}")[2]) == 5000


# ---- harm

BAD_PATHS = [
    "../x", "/etc/x", "a/../../x", "a//b", "./a", "a/.", "", "a\\..\\b", "a\0b", "a\nb", ".git/config", "C:/x", "\ud800", "x" * 300, None, 3,
]  # fmt: skip


@pytest.mark.parametrize("path", BAD_PATHS, ids=lambda p: repr(p)[:20])
def test_a_path_that_leads_elsewhere_is_refused_and_nothing_is_written(hub: Server, path: Any) -> None:
    name = f"paths{BAD_PATHS.index(path)}"
    head = make(hub, name, a=b"x")
    before = everything(hub.folder.parent)
    assert commit(hub, name, {}, {"key": "file", "value": {"path": path, "content": "aGk="}})[0] == 400
    assert commit(hub, name, {}, {"key": "lfsFile", "value": {"path": path, "oid": "0" * 64, "size": 1}})[0] == 400
    files: dict[str, object] = {"files": [{"path": path, "size": 1, "sample": ""}]}
    assert ask(hub, "POST", f"/api/models/team/{name}/preupload/main", files)[0] == 400
    assert json.loads(ask(hub, "GET", f"/api/models/team/{name}")[2])["sha"] == head
    assert everything(hub.folder.parent) == before


@pytest.mark.parametrize(
    "path", ["../../hub.sqlite", "..%2f..%2fhub.sqlite", "%2e%2e/%2e%2e/hub.sqlite", "%00", "%ff", "a%2f..%2fa"]
)
def test_no_address_leads_to_a_file_that_no_commit_names(hub: Server, path: str) -> None:
    ask(hub, "POST", "/api/repos/create", {"organization": "team", "name": "closed"})
    assert ask(hub, "GET", f"/team/closed/resolve/main/{path}")[0] in (400, 404)


@pytest.mark.parametrize(
    "name", ["..", ".", "", "a/b", "a b", "é", "a\0", "-a", "a.git", "x" * 97, "a..b", "%2e%2e", None, 5, ["a"]]
)
def test_an_odd_id_is_no_repository(hub: Server, name: Any) -> None:
    before = everything(hub.folder.parent)
    assert ask(hub, "POST", "/api/repos/create", {"organization": "team", "name": name})[0] == 400
    assert ask(hub, "POST", "/api/repos/create", {"organization": name or "..", "name": "b"})[0] == 400
    assert everything(hub.folder.parent) == before


def test_bodies_that_are_wrong_are_refused(hub: Server) -> None:
    head = make(hub, "bodies", a=b"x")
    at = "/api/models/team/bodies"
    assert ask(hub, "POST", "/api/repos/create", b"[" * (5 << 20))[0] == 413
    assert ask(hub, "POST", "/api/repos/create", b"{}", Content_Length="99999999999")[0] == 413
    assert ask(hub, "POST", "/api/repos/create", b"[" * 100_000)[0] == 400
    assert ask(hub, "POST", "/api/repos/create", b'"text"')[0] == 400
    assert ask(hub, "POST", f"{at}/commit/main", b"not json\n")[0] == 400
    assert ask(hub, "POST", f"{at}/commit/main", b"")[0] == 400
    assert commit(hub, "bodies", {"big": bytes(3 << 20)})[0] == 413  # larger than what may stand inside a commit
    assert commit(hub, "bodies", {}, {"key": "file", "value": {"path": "b", "content": "no base64!"}})[0] == 400
    assert commit(hub, "bodies", {"a/b": b"a is a file"})[0] == 400
    assert commit(hub, "bodies", {}, {"key": "deletedFile", "value": {"path": "none"}})[0] == 404
    assert ask(hub, "POST", f"{at}/commit/none", b"")[0] == 404
    assert ask(hub, "DELETE", f"{at}/branch/main")[0] == 403
    assert ask(hub, "GET", f"/api/models?limit={'9' * 5000}")[0] == ask(hub, "GET", "/api/models?filter=x")[0] == 400
    assert ask(hub, "PATCH", at)[0] == 405 and ask(hub, "GET", "/api/spaces/a/b")[0] == 404
    assert json.loads(ask(hub, "GET", at)[2])["sha"] == head


def test_uploads_with_other_bytes_than_announced_are_not_kept(hub: Server) -> None:
    make(hub, "wrong")
    data = os.urandom(1 << 20)
    address = upload_address(hub, "wrong", data) or ""
    before = everything(hub.folder)
    assert ask(hub, "PUT", address, data[:-1])[0] == 400
    assert ask(hub, "PUT", address, data[:-1] + bytes([data[-1] ^ 1]))[0] == 400
    assert ask(hub, "PUT", address, data + b"x")[0] == 413
    forged = address[:-1] + ("0" if address[-1] != "0" else "1")
    assert ask(hub, "PUT", forged, data)[0] == 403
    assert ask(hub, "PUT", address[:-1] + "%C3%BC", data)[0] == 403
    assert ask(hub, "PUT", address.replace(f"/{len(data)}/", "/5/"), data[:5])[0] == 403
    with socket.create_connection(("127.0.0.1", hub.port)) as half:
        half.sendall(
            f"PUT {address} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data[:1000]
        )
    assert commit(hub, "wrong", {}, large("w", data))[0] == 400
    assert upload_address(hub, "wrong", data)
    assert everything(hub.folder) == before


def test_an_open_server_is_for_programs_on_its_machine_only(hub: Server) -> None:
    assert ask(hub, "GET", "/api/models", Origin="https://example.org")[0] == 403
    assert ask(hub, "GET", "/api/models", Host="example.org")[0] == 403
    assert ask(hub, "GET", "/api/models")[0] == 200


def test_links_in_the_folder_are_not_followed(serve: Callable[..., Server], tmp_path: Path) -> None:
    from unpad.errors import ArgumentError
    from unpad.serve.server import open_store

    secret = tmp_path / "secret"
    secret.write_bytes(b"not yours")
    server = serve()
    make(server, "links", a=b"x" * 9)
    content = next((server.folder / "contents").iterdir())
    content.unlink()
    content.symlink_to(secret)
    status, _, body = ask(server, "GET", "/team/links/resolve/main/a")
    assert status == 500 and b"not yours" not in body
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("contents", "incoming", "hub.sqlite"):
        folder = tmp_path / f"with-{name}"
        folder.mkdir()
        (folder / name).symlink_to(outside / "db" if name == "hub.sqlite" else outside)
        with pytest.raises(ArgumentError):
            open_store(folder)
    assert not list(outside.iterdir())


@pytest.mark.parametrize("options", [["--host", "0.0.0.0"], ["--port", "70000"], ["--lfs_from_mb", "0"]])
def test_a_server_that_would_be_unsafe_or_cannot_be_does_not_start(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from unpad.cli.__main__ import main

    assert main(["hub", "serve", str(tmp_path / "hub"), *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_is_served_once(hub: Server, capsys: pytest.CaptureFixture[str]) -> None:
    from unpad.cli.__main__ import main

    assert main(["hub", "serve", str(hub.folder), "--port", "0"]) == 2
    assert "already" in capsys.readouterr().err
