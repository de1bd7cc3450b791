"""Requests that mean harm, or are broken: refused with the right status, nothing written, the server goes on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pytest
from hubs import Server, ask, commit, everything, large, make, upload_address
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.fixture(autouse=True)
def alive(hub: Server) -> Iterator[None]:
    """After each test the server of the file answers, and nothing stands beside its folder."""
    yield
    assert ask(hub, "GET", "/api/models")[0] == 200
    assert [p.name for p in hub.folder.parent.iterdir()] == ["hub"]


def raw(server: Server, data: bytes) -> bytes:
    """Send exactly these bytes, and all that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        answer = b""
        with contextlib.suppress(ConnectionError):  # closed while it was still sending: a refusal, too
            connection.sendall(data)
            while block := connection.recv(1 << 16):
                answer += block
        return answer


BAD_PATHS = [
    "../x", "/etc/x", "a/../../x", "a//b", "./a", "a/.", "", "a\\..\\b", "a\0b", "a\nb", ".git/config", "a/.GIT", "C:/x",
    "\ud800", "x" * 300, "a/" * 600 + "b", None, 3, "nul", "a/COM1.txt", "\u2025/x", "a/\uff0e\uff0e/b", "a\u202eb", "a\u3000b", "a\u200bb",
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
    assert ask(hub, "GET", f"/api/models?limit={'9' * 5000}")[0] == ask(hub, "GET", "/api/models?gated=true")[0] == 400
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
    pieces = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (data, data[:9])) + b"0\r\n\r\n"
    head = f"PUT {address} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert raw(hub, head.encode() + pieces).startswith(b"HTTP/1.1 413 ")  # nothing said how long it would be
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
    from unpad.serve.server import serve as run

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
    for name in ("contents", "incoming", "hub.sqlite", "lock"):
        folder = tmp_path / f"with-{name}"
        folder.mkdir()
        (folder / name).symlink_to(outside / name if "." in name or name == "lock" else outside)
        with pytest.raises(ArgumentError):
            run(folder, "127.0.0.1", 0, 1 << 20, 60, print)
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


# ---- who may what


def concrete(pattern: str, name: str) -> str:
    """An address of a route that names the model `team/<name>`."""
    for group, value in {
        "kinds": "models", "owner": "team", "name": name, "revision": "main", "path": "a", "sha256": "0" * 64, "size": "1",
        "ends": "9999999999", "signature": "0" * 64, "session": "0" * 32, "xorb": "0" * 64,
    }.items():  # fmt: skip
        pattern = re.sub(rf"\(\?P<{group}>(?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)\??", value, pattern)
    pattern = re.sub(r"^/models(?=team)", "/", re.sub(r"\(\?:(.*?)\)\??", r"\1", pattern)).replace("\\", "")
    return pattern


def test_every_address_asks_for_a_token_of_the_right_scope(serve: Callable[..., Server], tmp_path: Path) -> None:
    from unpad.serve.app import ROUTES
    from unpad.serve.server import open_store

    server = serve()
    make(server, "guarded", a=b"x")
    store = open_store(tmp_path / "hub")
    tokens = {scope: store.add_token(scope, scope) for scope in ("read", "write")}
    short = store.add_token("short", "write", days=1)
    with store._transaction() as db:
        db.execute("UPDATE tokens SET ends = 1 WHERE name = 'short'")
    wrong = [
        "", "Bearer", "Bearer hf_x", f"Bearer {short}", f"Basic {tokens['write']}", tokens["write"], f"Bearer {'x' * 9999}", "Bearer é",
        f"Bearer {tokens['write'][:-1]}", f"Bearer {tokens['write']}x", f"Bearer {store.token.__name__}' OR 1=1 --",
    ]  # fmt: skip
    before = everything(server.folder)
    assert {name for method, _, name, scope in ROUTES if method != "GET" and scope == "read"} == {
        "validate_yaml",
        "paths_info",
        "infer",
    }
    seen = set()
    for method, pattern, name, scope in ROUTES:
        address = concrete(pattern.pattern, "guarded")
        assert pattern.fullmatch(address), (pattern.pattern, address)
        seen.add(scope)
        if scope == "signed":
            assert ask(server, method, address, b"")[0] == 403
            assert ask(server, method, address, b"", Authorization=f"Bearer {tokens['write']}")[0] == 403
            continue
        for header in wrong:
            assert ask(server, method, address, b"", Authorization=header)[0] == 401, (method, address, header)
        if scope == "write":
            assert ask(server, method, address, b"", Authorization=f"Bearer {tokens['read']}")[0] == 403, name
    assert seen == {"read", "write", "signed"} and everything(server.folder) == before
    for method, path, body in [("GET", "/api/models/team/guarded", None), ("POST", "/api/repos/create", {"name": "b"})]:
        assert ask(server, method, path, body, Authorization=f"Bearer {tokens['write']}")[0] == 200  # type: ignore[arg-type]


def test_a_server_does_not_open_when_its_last_token_ends(serve: Callable[..., Server], tmp_path: Path) -> None:
    from unpad.serve.server import open_store

    server, store = serve(), open_store(tmp_path / "hub")
    assert ask(server, "GET", "/api/models")[0] == 200
    token = store.add_token("anna", "write", days=1)
    assert ask(server, "GET", "/api/models", Authorization=f"Bearer {token}")[0] == 200
    with store._transaction() as db:
        db.execute("UPDATE tokens SET ends = 1")
    assert (
        ask(server, "GET", "/api/models", Authorization=f"Bearer {token}")[0]
        == ask(server, "GET", "/api/models")[0]
        == 401
    )


# ---- anything at all

NASTY = [
    "..", ".", "%2e%2e", "%2e%2e%2f%2e%2e%2fhub.sqlite", "a%00b", "%ff%fe", "%0d%0aSet-Cookie:x", "~", "*", "a b", "é", "main", "team",
    "x" * 3000, "-1", "9" * 40, "{}", "refs%2fheads%2fmain", "contents", "hub.sqlite", "' OR 1=1 --", "\ud800", "🤗", "tree", "HEAD^",
]  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(NASTY) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    "type", "organization", "name", "fromRepo", "toRepo", "visibility", "private", "message", "startingPoint", "tag", "content", "files",
    "objects", "operation", "paths", "key", "value", "path", "oid", "size", "summary", "parentCommit", "encoding",
]  # fmt: skip
BODIES = st.binary(max_size=60) | st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=5).map(
    lambda body: json.dumps(body).encode()
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_request_breaks_the_server_or_changes_what_it_does_not_name(hub: Server, data: st.DataObject) -> None:
    from unpad.serve.app import ROUTES

    make(hub, "bystander")
    head = ask(hub, "GET", "/api/models/team/bystander")[2]
    method, pattern, *_ = data.draw(st.sampled_from(ROUTES))
    parts = concrete(pattern.pattern, "fuzzed").split("/")
    for i in data.draw(st.sets(st.integers(1, len(parts) - 1), max_size=3)):
        if parts[i] not in ("api", "repos", "create", "delete", "move"):
            parts[i] = quote(data.draw(st.sampled_from(NASTY)), safe="%", errors="replace")
    query = data.draw(
        st.sampled_from(
            [
                "",
                "?limit=-1",
                "?cursor=inf_9",
                "?recursive=true",
                "?cursor=" + "0" * 40 + "-9",
                "?filter=%00",
                "?cursor=1.2.3_4",
                "?sort=x&limit=0",
            ]
        )
    )
    method = data.draw(st.sampled_from([method, method, "GET", "HEAD", "PUT", "DELETE"]))
    kind = data.draw(st.sampled_from(["application/json", "application/x-www-form-urlencoded", "\xff"]))
    status, _, body = ask(hub, method, "/".join(parts) + query, data.draw(BODIES), Content_Type=kind)
    assert 200 <= status < 500, (status, body)
    assert ask(hub, "GET", "/api/models/team/bystander")[2] == head


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from(["key", "value"]), VALUES) | VALUES, max_size=4))
def test_no_commit_of_anything_is_half_done(hub: Server, lines: list[Any]) -> None:
    make(hub, "anything")
    before = json.loads(ask(hub, "GET", "/api/models/team/anything")[2])["sha"]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    assert ask(hub, "POST", "/api/models/team/anything/commit/main", body)[0] in (400, 404, 413)
    assert json.loads(ask(hub, "GET", "/api/models/team/anything")[2])["sha"] == before


RANGES = {
    "bytes=-0": 416, "bytes=9-": 416, "bytes=99999999999999999999-": 200, "bytes=9-8": 200, "bytes=--1": 200, "bytes=-1-2": 200,
    "bytes=0-1,3-4": 200, "bytes=a-b": 200, "bytes=": 200, "bytes=-": 200, "items=0-1": 200, "bytes=0-0": 206, "bytes=-99": 206,
    "bytes=8-99999999": 206, "bytes=\xb2-": 200, "x" * 5000: 200,
}  # fmt: skip


@pytest.mark.parametrize("asked", RANGES, ids=lambda r: repr(r)[:20])
def test_a_range_that_is_none_gives_the_whole_file_or_416(hub: Server, asked: str) -> None:
    make(hub, "ranges9", a=b"123456789")
    for method in ("GET", "HEAD"):
        status, headers, body = ask(hub, method, "/team/ranges9/resolve/main/a", Range=asked)
        assert status == RANGES[asked]
        if method == "GET" and status == 200:
            assert body == b"123456789"
        if status == 206:
            start, stop = map(int, headers["content-range"].split()[1].split("/")[0].split("-"))
            assert int(headers["content-length"]) == stop - start + 1
            assert body == (b"" if method == "HEAD" else b"123456789"[start : stop + 1])


OBJECTS: list[Any] = [
    None, 5, {}, {"oid": "0" * 64}, {"oid": "0" * 63, "size": 1}, {"oid": "A" * 64, "size": 1}, {"oid": "../" * 21 + "x", "size": 1},
    {"oid": "0" * 64, "size": -1}, {"oid": "0" * 64, "size": True}, {"oid": "0" * 64, "size": 1 << 60}, {"oid": "0" * 64, "size": "1"},
]  # fmt: skip


@pytest.mark.parametrize("item", OBJECTS, ids=lambda o: repr(o)[:30])
def test_an_object_without_a_hash_or_a_size_gets_no_address(hub: Server, item: Any) -> None:
    make(hub, "objects")
    body: dict[str, object] = {"operation": "upload", "objects": [item]}
    assert ask(hub, "POST", "/team/objects.git/info/lfs/objects/batch", body)[0] == 400


# ---- HTTP itself

LINES = b"Host: 127.0.0.1\r\nConnection: close\r\n"
NAME = b'{"name": "smuggled"}'
HIDDEN = b"POST /api/repos/create HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 20\r\n\r\n" + NAME
BROKEN = {
    "two lengths": b"POST /api/repos/create HTTP/1.1\r\n"
    + LINES
    + b"Content-Length: 0\r\nContent-Length: 9\r\n\r\n"
    + HIDDEN,
    "length and chunks": b"POST /api/repos/create HTTP/1.1\r\n"
    + LINES
    + b"Content-Length: 20\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n"
    + NAME
    + b"\r\n0\r\n\r\n",
    "odd coding": b"POST /api/repos/create HTTP/1.1\r\n" + LINES + b"Transfer-Encoding: xchunked\r\n\r\n" + HIDDEN,
    "two codings": b"POST /api/repos/create HTTP/1.1\r\n"
    + LINES
    + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
    + HIDDEN,
    "signed length": b"POST /api/repos/create HTTP/1.1\r\n" + LINES + b"Content-Length: +9\r\n\r\n" + HIDDEN,
    "list of lengths": b"POST /api/repos/create HTTP/1.1\r\n" + LINES + b"Content-Length: 0, 9\r\n\r\n" + HIDDEN,
    "space before colon": b"POST /api/repos/create HTTP/1.1\r\n" + LINES + b"Content-Length : 9\r\n\r\n" + HIDDEN,
    "bad chunk size": b"POST /api/repos/create HTTP/1.1\r\n"
    + LINES
    + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n"
    + HIDDEN,
    "huge chunk size": b"POST /api/repos/create HTTP/1.1\r\n"
    + LINES
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + b"f" * 40
    + b"\r\n"
    + HIDDEN,
    "huge header": b"GET /api/models HTTP/1.1\r\n" + LINES + b"X: " + b"x" * 300_000 + b"\r\n\r\n",
    "many headers": b"GET /api/models HTTP/1.1\r\n" + LINES + b"X: y\r\n" * 50_000 + b"\r\n",
    "huge address": b"GET /" + b"x" * 300_000 + b" HTTP/1.1\r\n" + LINES + b"\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n",
    "byte 0 in a header": b"GET /api/models HTTP/1.1\r\n" + LINES + b"X: a\0b\r\n\r\n",
    "no host": b"GET /api/models HTTP/1.1\r\nConnection: close\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_http_is_refused_and_hides_no_second_request(hub: Server, name: str) -> None:
    before = ask(hub, "GET", "/api/models?search=smuggled")[2]
    answer = raw(hub, BROKEN[name])
    assert re.match(rb"HTTP/1.1 (4\d\d|501) ", answer) or answer == b"", answer[:300]
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert ask(hub, "GET", "/api/models?search=smuggled")[2] == before == b"[]"


def test_no_name_breaks_out_of_a_header(hub: Server) -> None:
    ask(hub, "POST", "/api/repos/create", {"organization": "team", "name": "split"})
    for path in ("a%0d%0aSet-Cookie:x=1", "a%0aX-Evil:1", "%e5%98%8a%e5%98%8dSet-Cookie:x=1"):
        status, headers, _ = ask(hub, "GET", f"/team/split/resolve/main/{path}")
        assert status == 404 and not {"set-cookie", "x-evil"} & set(headers)


def test_clients_that_stall_are_left(serve: Callable[..., Server]) -> None:
    server = serve("--timeout", "1")
    make(server, "slow")
    halves = {
        b"GET /api/mod": b"",
        b"POST /api/repos/create HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\n{": b"HTTP/1.1 408 ",
        b"POST /api/models/team/slow/commit/main HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\n{": b"HTTP/1.1 408 ",
    }
    open_ = []
    for half in halves:
        open_.append(socket.create_connection(("127.0.0.1", server.port), timeout=20))
        open_[-1].sendall(half)
    for connection, expected in zip(open_, halves.values(), strict=True):
        answer = b""
        while block := connection.recv(1 << 16):  # until the server closes
            answer += block
        assert answer.startswith(expected) and bool(answer) == bool(expected)
        connection.close()
    assert ask(server, "GET", "/api/models")[0] == 200


# ---- Xet


def packed(chunks: list[tuple[bytes, int]]) -> bytes:
    """A xorb of chunks, each with how it is compressed: 0, 1 or 2."""
    xorb = b""
    for data, scheme in chunks:
        grouped = b"".join(data[i::4] for i in range(4)) if scheme == 2 else data
        stored = pa.Codec("lz4").compress(grouped, asbytes=True) if scheme else data
        xorb += b"\0" + len(stored).to_bytes(3, "little") + bytes([scheme]) + len(data).to_bytes(3, "little") + stored
    return xorb


def swapped(name: str) -> bytes:
    return b"".join(bytes.fromhex(name[i : i + 16])[::-1] for i in range(0, 64, 16))


def listed(xorb: str, files: dict[str, list[tuple[int, int, int]]]) -> bytes:
    """A shard: SHA-256 -> (bytes, first chunk, end) of each segment."""
    shard = b"HFRepoMetaData".ljust(32, b"\0") + struct.pack("<QQ", 2, 0)
    for sha256, segments in files.items():
        shard += struct.pack("<32sIIQ", b"f" * 32, 1 << 30, len(segments), 0)
        shard += b"".join(struct.pack("<32sIIII", swapped(xorb), 0, *segment) for segment in segments)
        shard += swapped(sha256) + bytes(16)
    return shard + b"\xff" * 32 + bytes(16)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 2)), min_size=1, max_size=4), st.data())
def test_of_a_damaged_xet_upload_nothing_wrong_is_kept(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[tuple[bytes, int]], data: st.DataObject
) -> None:
    import hashlib

    from unpad.serve.files import Arrival, Contents
    from unpad.serve.refusals import Refused
    from unpad.serve.xet import Uploads

    folder = tmp_path_factory.mktemp("xet")
    contents = Contents(folder)
    uploads = Uploads(contents)
    session, name = uploads.open(), "ab" * 32
    whole = b"".join(chunk for chunk, _ in chunks)
    sha256 = hashlib.sha256(whole).hexdigest()
    sent = {"xorb": packed(chunks), "shard": listed(name, {sha256: [(len(whole), 0, len(chunks))]})}
    harmed = data.draw(st.sampled_from(["", "xorb", "shard"]))
    if harmed:
        at = data.draw(st.integers(0, len(sent[harmed]) - 1))
        cut = data.draw(st.booleans())
        byte = bytes([sent[harmed][at] ^ data.draw(st.integers(1, 255))])
        sent[harmed] = sent[harmed][:at] + (b"" if cut else byte + sent[harmed][at + 1 :])
    with Arrival(contents, len(sent["xorb"])) as arrival:
        arrival.write(sent["xorb"])
        uploads.add(session, name, arrival)
    try:
        uploads.build(session, sent["shard"])
    except Refused as refused:
        assert harmed and refused.status in (400, 413)
    kept = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (folder / "contents").iterdir()}
    assert all(name == digest for name, digest in kept.items()) and (harmed or sha256 in kept)
    assert [p.name for p in (folder / "incoming").iterdir()] == [f"xet-{session}-{name}"]
    for fd in (contents._whole, contents._arriving):
        os.close(fd)


def test_what_an_upload_by_xet_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    from unpad.serve import xet
    from unpad.serve.files import Arrival, Contents

    monkeypatch.setattr(xet, "_IDLE", 0.05)
    contents = Contents(tmp_path)
    uploads = xet.Uploads(contents)
    for _ in range(2):
        with Arrival(contents, 1) as arrival:
            arrival.write(b"x")
            uploads.add(uploads.open(), "ab" * 32, arrival)
        for _ in range(400):
            if not list((tmp_path / "incoming").iterdir()):
                break
            time.sleep(0.05)
        assert not list((tmp_path / "incoming").iterdir())


def test_xet_addresses_of_others_and_xorbs_of_others_are_of_no_use(hub: Server) -> None:
    make(hub, "xet")
    places = [json.loads(ask(hub, "GET", "/api/models/team/xet/xet-write-token/main")[2])["casUrl"] for _ in range(2)]
    mine, other = (place.removeprefix(hub.url) for place in places)
    data = np.arange(999).tobytes()
    import hashlib

    sha256, xorb = hashlib.sha256(data).hexdigest(), "cd" * 32
    shard = listed(xorb, {sha256: [(len(data), 0, 1)]})
    before = everything(hub.folder)
    assert ask(hub, "POST", f"{mine[:-1]}{'0' if mine[-1] != '0' else '1'}/v1/shards", shard)[0] == 403
    assert ask(hub, "POST", f"{mine}/v1/xorbs/default/..%2f..%2fx", b"x")[0] == 404
    assert ask(hub, "POST", f"{mine}/v1/xorbs/default/{xorb}", b"", Content_Length=str(1 << 40))[0] == 413
    assert everything(hub.folder) == before
    assert ask(hub, "POST", f"{mine}/v1/xorbs/default/{xorb}", packed([(data, 2)]))[0] == 200
    assert ask(hub, "POST", f"{other}/v1/shards", shard)[0] == 400
    assert ask(hub, "POST", f"{mine}/v1/shards", listed(xorb, {sha256: [(1 << 31, 0, 1 << 31)]}))[0] == 400
    assert commit(hub, "xet", {}, large("w", data))[0] == 400
    assert ask(hub, "POST", f"{mine}/v1/shards", shard)[0] == 200
    assert commit(hub, "xet", {}, large("w", data))[0] == 200
    assert ask(hub, "GET", "/team/xet/resolve/main/w")[2] == data
