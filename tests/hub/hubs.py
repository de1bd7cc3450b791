"""The server as a process, and a process that is its client."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import os
import sqlite3
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path
from typing import Any

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

    def check(self) -> None:
        """Every content has its name's SHA-256, every file of every commit has its content, nothing half is left."""
        contents = {p.name: p.read_bytes() for p in (self.folder / "contents").iterdir()}
        assert {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()} == {n: n for n in contents}
        with contextlib.closing(sqlite3.connect(self.folder / "hub.sqlite")) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            for (tree,) in db.execute("SELECT tree FROM commits").fetchall():
                for sha256, size, *_ in json.loads(zlib.decompress(tree)).values():
                    assert len(contents[sha256]) == size
        assert [p.name for p in (self.folder / "incoming").iterdir() if not p.name.startswith("xet-")] == []


def everything(folder: Path) -> dict[str, bytes]:
    """Path -> content of all files, but for those of the database, which a server may write at any time."""
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file() and not p.name.startswith("hub.sqlite")}


def api(server: Server) -> Any:
    """A client in this process; for the fixture `online`."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=server.url, token=False)


def titles(server: Server, name: str) -> list[str]:
    """Titles of the commits of `team/<name>`, the newest first."""
    return [c["title"] for c in json.loads(ask(server, "GET", f"/api/models/team/{name}/commits/main")[2])]


def run_client(server: Server, script: str, home: Path, **env: str) -> str:
    """Run `script` in a process that knows HF_ENDPOINT, and nothing else of the server; returns what it printed."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    kept |= {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": str(ROOT / "src"),
        "UNPAD_QUIET": "1",
        **env,
    }
    code = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(code, capture_output=True, text=True, env=kept, cwd=home, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def ask(
    server: Server, method: str, path: str, body: bytes | dict[str, object] | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Send exactly this request; status, headers by lower-case name, and body of the answer. `_` in names of headers stands for `-`."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    try:
        connection.request(method, path, data, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def make(server: Server, name: str, **files: bytes) -> str:
    """A model `team/<name>`, new or not, with these files, each in a commit of its own; returns the last commit."""
    status, _, _ = ask(server, "POST", "/api/repos/create", {"organization": "team", "name": name})
    assert status in (200, 409)
    head = ""
    for path, data in files.items():
        head = json.loads(commit(server, name, {path: data})[2])["commitOid"]
    return head


def commit(
    server: Server, name: str, files: dict[str, bytes], *more: object, **header: str
) -> tuple[int, dict[str, str], bytes]:
    """Commit files to `team/<name>` as clients do; `more` are further operations."""
    lines: list[object] = [{"key": "header", "value": {"summary": "files", "description": "", **header}}]
    for path, data in files.items():
        value = {"path": path, "content": base64.b64encode(data).decode(), "encoding": "base64"}
        lines.append({"key": "file", "value": value})
    body = b"".join(json.dumps(line).encode() + b"\n" for line in [*lines, *more])
    return ask(server, "POST", f"/api/models/team/{name}/commit/main", body)


def upload_address(server: Server, name: str, data: bytes) -> str | None:
    """Where the server wants `data` to be put; None when it has it."""
    item = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data)}
    body: dict[str, object] = {"operation": "upload", "transfers": ["basic"], "objects": [item]}
    answer = json.loads(ask(server, "POST", f"/team/{name}.git/info/lfs/objects/batch", body)[2])["objects"][0]
    return answer["actions"]["upload"]["href"].removeprefix(server.url) if "actions" in answer else None


def large(path: str, data: bytes) -> dict[str, object]:
    """The operation that puts an uploaded content at a path."""
    oid = hashlib.sha256(data).hexdigest()
    return {"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": oid, "size": len(data)}}
