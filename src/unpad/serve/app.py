"""The server: the part of the Hub's HTTP protocol that its Python clients use to read, create and change repositories.

A handler answers one route; it runs in a thread, and so may wait for the disk. Those that may wait for long, for the pieces of a
large body or for a model, hold no thread meanwhile.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import errno
import hmac
import os
import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import yaml
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from unpad.serve import answers, names, pages, views, xet
from unpad.serve.files import BLOCK, Arrival
from unpad.serve.inference import Inference, OpenPipeline
from unpad.serve.refusals import Refused
from unpad.serve.requests import Call, json_object, text
from unpad.serve.store import Change, Commit, Entry, Repo, Store, Tree

_LONGEST_JSON = 4 << 20  # bytes; 256 files with samples, as clients announce them, are well below
_LONGEST_COMMIT = 4 << 30  # bytes of all small files of one commit, in base64
_MOST_CHANGES = 100_000
_UPLOAD_TIME = 24 * 3600  # seconds for which a client may use an address that it was given to upload to
_LIST_PARAMETERS = {
    "search", "author", "filter", "pipeline_tag", "sort", "direction", "limit", "cursor", "full", "expand", "config",
    "cardData",
}  # fmt: skip
_LOOPBACK = {"localhost", "127.0.0.1", "[::1]"}


class Hub:
    """An ASGI application that serves one `Store`."""

    def __init__(
        self, store: Store, lfs_from: int, loopback: bool, open_pipeline: OpenPipeline, timeout: float = 60
    ) -> None:
        """`lfs_from`: bytes from which on a file is uploaded on its own, not inside the commit; `loopback`: no other
        machine gets in; `open_pipeline` opens a model to try it out; `timeout`: seconds after which a client that sends
        nothing is left (ten times as many for one that takes nothing)."""
        self.store, self.lfs_from, self.loopback, self.timeout = store, lfs_from, loopback, timeout
        self._key = secrets.token_bytes(32)
        self._waiting: dict[str, Callable[[Call], Any]] = {
            "commit": self.commit, "upload": self.upload, "xorb": self.xorb, "shard": self.shard, "infer": self.infer,
        }  # fmt: skip
        self._xet = xet.Uploads(store.contents)
        self._inference = Inference(store, open_pipeline)
        self._card = lru_cache(4096)(self._read_card)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"a Hub speaks HTTP, not {scope['type']}")

        async def received() -> Message:
            return await asyncio.wait_for(receive(), self.timeout)

        async def sent(message: Message) -> None:
            await asyncio.wait_for(send(message), self.timeout * 10)

        request = Request(scope, received)
        try:
            answer = await self._answer(request)
        except Refused as refused:
            answer = answers.refusal(refused)
        except asyncio.TimeoutError:
            answer = answers.refusal(Refused(408, f"nothing was sent for {self.timeout:g} seconds; send it again"))
        except ClientDisconnect:
            answer = answers.refusal(Refused(400, "the body ended too early"))
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            answer = answers.refusal(Refused(507 if full else 500, f"the server's disk refuses: {error.strerror}"))
        except sqlite3.OperationalError as error:
            answer = answers.refusal(Refused(503, f"the server's database refuses: {error}"))
        with contextlib.suppress(asyncio.TimeoutError, ClientDisconnect):
            await answer(scope, receive, sent)

    async def _answer(self, request: Request) -> Response:
        if {"content-length", "transfer-encoding"} <= set(request.headers):
            raise Refused(400, "a body has a Content-Length or a Transfer-Encoding, not both")
        method = "GET" if request.method == "HEAD" else request.method
        path = request.scope.get("raw_path", b"").decode("ascii", "replace").partition("?")[0]
        there = False
        for allowed, pattern, name, scope in ROUTES:
            if found := pattern.fullmatch(path):
                there = True
                if method == allowed:
                    who = await run_in_threadpool(self._who, request, scope)
                    call = Call(request, found.groupdict(), who)
                    if name in self._waiting:
                        return await self._waiting[name](call)
                    if method != "GET":
                        await call.read(_LONGEST_JSON)
                    return await run_in_threadpool(getattr(self, name), call)
        if there:
            raise Refused(405, f"{request.method} is not possible here")
        raise Refused(404, f"there is nothing at {path:.200}")

    def _who(self, request: Request, scope: str) -> str:
        """The name of the sender, who may do what needs `scope`; Refused with 401 or 403."""
        if scope == "signed":  # the address itself is the permission
            return ""
        if self._is_open():
            # no web page that somebody opens on this machine may reach an open server through the browser
            # but those of this server, in which nothing foreign runs
            here = request.headers.get("host", "")
            host = here.rpartition(":")[0] or here
            if host.lower() not in _LOOPBACK or request.headers.get("origin", f"http://{here}") != f"http://{here}":
                raise Refused(403, "without tokens this server is for programs on its own machine only")
            return names.SHARED
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if not token:
            raise Refused(401, "a token is needed: set HF_TOKEN", "")
        known = self.store.token(token.strip()) if kind.lower() == "bearer" else None
        if known is None:
            raise Refused(
                401, "Invalid credentials in Authorization header: the token is none of this server, or has ended"
            )
        if scope == "write" and known[1] != "write":
            raise Refused(403, f"the token {known[0]!r} may only read; this needs one with --scope write")
        return known[0]

    def _is_open(self) -> bool:
        return self.loopback and not self.store.has_tokens()

    # ---- who, which, what

    def whoami(self, call: Call) -> Response:
        role = "write"
        if not self._is_open():
            known = self.store.token(call.request.headers["authorization"].partition(" ")[2].strip())
            role = known[1] if known else "read"
        token = {"displayName": call.who, "role": role}
        return JSONResponse({
            "type": "user", "id": call.who, "name": call.who, "fullname": call.who, "email": None, "isPro": False,
            "orgs": [], "auth": {"type": "access_token", "accessToken": token},
        })  # fmt: skip

    def repos(self, call: Call) -> Response:
        asked = call.request.query_params
        if unknown := set(asked) - _LIST_PARAMETERS:
            known = "search, author, filter (tags), pipeline_tag and sort"
            raise Refused(400, f"this Hub lists by {known}, not by {', '.join(sorted(unknown))}")
        search, author = asked.get("search", "").lower(), asked.get("author", "").lower()
        wanted, task = {tag.lower() for tag in asked.getlist("filter")}, asked.get("pipeline_tag")
        limit, cursor = asked.get("limit", str(answers.PAGE)), asked.get("cursor", "inf_0")
        if not re.fullmatch("[0-9]{1,10}", limit) or not (
            after := re.fullmatch(r"(inf|[0-9]{1,12}(?:[.][0-9]{1,12})?)_([0-9]{1,18})", cursor)
        ):
            raise Refused(400, f"limit={limit!r:.50} is no number, or cursor={cursor!r:.50} is none of this server")
        by_change = asked.get("sort") in ("lastModified", "last_modified")

        def place(found: tuple[Repo, Commit]) -> tuple[float, int]:
            return found[1].created if by_change else found[0].created, found[0].id

        page: list[Any] = []
        end = last = (float(after[1]), int(after[2]))
        size = min(int(limit), answers.PAGE)
        for repo, head in sorted(self.store.repos(call.kind), key=place, reverse=True):
            name = repo.name.lower()
            if place((repo, head)) >= last or search not in name or author not in ("", name.split("/")[0]):
                continue
            card = self._card(repo, head.oid)
            tags = {tag.lower() for tag in views.tags(repo.kind, card)}
            if wanted <= tags and task in (None, card.get("pipeline_tag")):
                if len(page) >= size:
                    return JSONResponse(page, headers=answers.next_page(call, f"{end[0]}_{end[1]}"))
                page.append(views.repository(repo, head, card))
                end = place((repo, head))
        return JSONResponse(page)

    def _read_card(self, repo: Repo, oid: str) -> dict[str, Any]:
        return views.card(self._readme(repo, oid))

    def _readme(self, repo: Repo, oid: str) -> bytes:
        entry = self.store.tree(repo, oid).get("README.md")
        if entry is None:
            return b""
        with os.fdopen(self.store.contents.open(entry.sha256), "rb") as file:
            return file.read(views.LONGEST_CARD)

    def _at(self, call: Call) -> tuple[Repo, str, Tree]:
        """The repository, commit and tree that the address names."""
        repo = call.repo(self.store)
        oid = self.store.resolve(repo, answers.cursor(call)[0] or call.part("revision") or "main")
        return repo, oid, self.store.tree(repo, oid)

    def info(self, call: Call) -> Response:
        repo, oid, tree = self._at(call)
        blobs = call.request.query_params.get("blobs", "").lower() in ("true", "1")
        head, card = self.store.history(repo, oid, 1)[0], self._card(repo, oid)
        return JSONResponse(views.repository(repo, head, card, tree, blobs))

    def auth_check(self, call: Call) -> Response:
        call.repo(self.store)
        return JSONResponse({})

    def tree(self, call: Call) -> Response:
        _, oid, tree = self._at(call)
        below = call.part("path").strip("/")
        recursive = call.request.query_params.get("recursive", "").lower() in ("true", "1")
        found = views.listing(tree, below, recursive)
        if found is None:
            raise Refused(404, f"there is no folder {below!r:.200}", "EntryNotFound", oid)
        return answers.page(call, oid, found)

    def paths_info(self, call: Call) -> Response:
        tree = self._at(call)[2]
        found = []
        for path in call.form("paths"):
            if path in tree:
                found.append(views.file(path, tree[path]))
            elif any(name.startswith(f"{path}/") for name in tree):
                found.append(views.folder(path, tree))
        return JSONResponse(found)

    def refs(self, call: Call) -> Response:
        shown: dict[str, list[Any]] = {"branches": [], "tags": [], "converts": [], "pullRequests": []}
        for kind, name, oid in self.store.refs(call.repo(self.store)):
            group, ref = ("branches", "heads") if kind == "branch" else ("tags", "tags")
            shown[group].append({"name": name, "ref": f"refs/{ref}/{name}", "targetCommit": oid})
        return JSONResponse(shown)

    def commits(self, call: Call) -> Response:
        repo = call.repo(self.store)
        oid = self.store.resolve(repo, answers.cursor(call)[0] or call.part("revision"))
        return answers.page(call, oid, [views.commit(made) for made in self.store.history(repo, oid)])

    # ---- in a browser

    def home(self, call: Call) -> Response:
        found = {}
        for kind in ("model", "dataset"):
            repos = sorted(self.store.repos(kind), key=lambda pair: pair[0].name)
            # reading cards is slow, and a page lists no more than these
            cards = [self._card(repo, head.oid) if i < pages.MOST_ROWS else {} for i, (repo, head) in enumerate(repos)]
            found[kind] = [(repo.name, card) for (repo, _), card in zip(repos, cards, strict=True)]
        return pages.home(found["model"], found["dataset"])

    def page(self, call: Call) -> Response:
        repo, oid, tree = self._at(call)
        files = {path: entry.size for path, entry in tree.items()}
        text = views.card_parts(self._readme(repo, oid).decode(errors="replace"))[1]
        commit = oid if call.part("revision") else None
        return pages.repository(repo.kind, repo.name, self._card(repo, oid), text, files, commit)

    async def infer(self, call: Call) -> Response:
        await call.read(_LONGEST_JSON)
        repo, oid, _ = await run_in_threadpool(self._at, call)
        card = await run_in_threadpool(self._card, repo, oid)
        return await self._inference.answer(repo, oid, call.json(), views.task(card))

    # ---- reading files

    def resolve(self, call: Call) -> Response:
        _, oid, tree = self._at(call)
        path = call.part("path")
        entry = tree.get(path)
        if entry is None:
            raise Refused(404, f"there is no file {path!r:.200}", "EntryNotFound", oid)
        etag = f'"{entry.etag}"'
        headers = {
            "ETag": etag, "X-Repo-Commit": oid, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream",
            "X-Content-Type-Options": "nosniff",
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(path.split('/')[-1])}",
        }  # fmt: skip
        if entry.large:
            headers |= {"X-Linked-Etag": etag, "X-Linked-Size": str(entry.size)}
        asked = call.request.headers
        if asked.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        span = answers.span(asked.get("range", ""), entry.size) if asked.get("if-range", etag) == etag else None
        if span is not None and span[0] >= span[1]:
            headers["Content-Range"] = f"bytes */{entry.size}"
            return Response(status_code=416, headers=headers)
        start, stop = span or (0, entry.size)
        headers["Content-Length"] = str(stop - start)
        if span:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{entry.size}"
        status = 206 if span else 200
        if call.request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        return StreamingResponse(self._blocks(entry, start, stop), status, headers)

    def _blocks(self, entry: Entry, start: int, stop: int) -> Iterator[bytes]:
        # not in the generator: what is missing is a status, and a client that leaves at once leaves nothing open
        opened = os.fdopen(self.store.contents.open(entry.sha256), "rb", buffering=0)

        def read() -> Iterator[bytes]:
            with opened as file:
                file.seek(start)
                left = stop - start
                while left and (block := file.read(min(BLOCK, left))):
                    left -= len(block)
                    yield block

        return read()

    # ---- changing repositories

    def create(self, call: Call) -> Response:
        asked = call.json()
        kind = asked.get("type") or "model"
        if kind not in ("model", "dataset"):
            raise Refused(400, f"this Hub holds models and data sets, no {kind!r:.50}")
        name = names.repo_name(asked.get("organization") or call.who, asked.get("name"))
        private = asked.get("private") is True or asked.get("visibility") == "private"
        base = str(call.request.base_url) + ("datasets/" if kind == "dataset" else "")
        try:
            repo = self.store.create(kind, name, private, call.who)
        except Refused as refused:
            return JSONResponse({"error": refused.text, "url": base + name}, refused.status)
        return JSONResponse({"url": base + repo.name, "id": repo.name, "name": repo.name})

    def delete(self, call: Call) -> Response:
        asked = call.json()
        name = names.repo_name(asked.get("organization") or call.who, asked.get("name"))
        self.store.delete(self.store.repo("dataset" if asked.get("type") == "dataset" else "model", name))
        return Response()

    def move(self, call: Call) -> Response:
        asked = call.json()
        old, new = (text(asked.get(key), key, 200).partition("/")[::2] for key in ("fromRepo", "toRepo"))
        repo = self.store.repo("dataset" if asked.get("type") == "dataset" else "model", names.repo_name(*old))
        self.store.move(repo, names.repo_name(*new))
        return Response()

    def settings(self, call: Call) -> Response:
        repo, asked = call.repo(self.store), call.json()
        wanted = asked.get("visibility", "private" if asked.get("private") is True else "public")
        if wanted not in ("private", "public") or not asked or set(asked) - {"visibility", "private"}:
            raise Refused(400, "of a repository's settings this Hub has only visibility: private or public")
        self.store.set_private(repo, wanted == "private")
        return JSONResponse({"visibility": wanted, "private": wanted == "private"})

    def squash(self, call: Call) -> Response:
        title = text(call.json().get("message") or "Squash the history", "message", 2000)
        oid = self.store.squash(call.repo(self.store), call.part("revision"), title, call.who)
        return JSONResponse({"commitOid": oid})

    def add_branch(self, call: Call) -> Response:
        repo, start = call.repo(self.store), call.json().get("startingPoint") or "main"
        name = names.ref_name(call.part("revision"))
        self.store.add_ref(repo, "branch", name, self.store.resolve(repo, text(start, "startingPoint")))
        return Response(status_code=201)

    def add_tag(self, call: Call) -> Response:
        repo, name = call.repo(self.store), names.ref_name(call.json().get("tag"))
        self.store.add_ref(repo, "tag", name, self.store.resolve(repo, call.part("revision")))
        return Response(status_code=201)

    def delete_branch(self, call: Call) -> Response:
        self.store.delete_ref(call.repo(self.store), "branch", call.part("revision"))
        return Response()

    def delete_tag(self, call: Call) -> Response:
        self.store.delete_ref(call.repo(self.store), "tag", call.part("revision"))
        return Response()

    # ---- committing

    def validate_yaml(self, call: Call) -> Response:
        try:
            views.front_matter(text(call.json().get("content", ""), "content", _LONGEST_JSON))
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            told = " ".join(str(error).split()).encode(errors="backslashreplace").decode()
            return JSONResponse({"errors": [{"message": told}], "warnings": []}, 400)
        return JSONResponse({"errors": [], "warnings": []})

    def preupload(self, call: Call) -> Response:
        tree, shown = self._at(call)[2], []
        files = call.json().get("files")
        for asked in files if isinstance(files, list) else []:
            path, size = (asked.get("path"), asked.get("size")) if isinstance(asked, dict) else (None, None)
            if type(size) is not int or size < 0:
                raise Refused(400, "each file needs a path and a size in bytes")
            # `datasets` removes its parquet files before it commits: they must have been uploaded by then
            large = size >= self.lfs_from or (size > 0 and str(path).endswith(".parquet"))
            entry = tree.get(names.file_path(path))
            same = entry is not None and entry.large == large
            mode = "lfs" if large else "regular"
            oid = entry.etag if entry is not None and same else None
            shown.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return JSONResponse({"files": shown})

    def lfs_batch(self, call: Call) -> Response:
        call.repo(self.store)
        asked = call.json()
        objects = asked.get("objects")
        if asked.get("operation") != "upload" or not isinstance(objects, list):
            raise Refused(400, "only the operation upload is possible here")
        return JSONResponse({"transfer": "basic", "objects": [self._lfs_object(call, item) for item in objects]})

    def _lfs_object(self, call: Call, item: Any) -> dict[str, Any]:
        sha256, size = _sized(item)
        if self.store.contents.size(sha256) == size:
            return {"oid": sha256, "size": size}
        ends = int(time.time()) + _UPLOAD_TIME
        href = f"{call.request.base_url}lfs/{sha256}/{size}/{ends}/{self._sign(sha256, str(size), str(ends))}"
        return {"oid": sha256, "size": size, "authenticated": True, "actions": {"upload": {"href": href}}}

    def _sign(self, *parts: str) -> str:
        return hmac.digest(self._key, "/".join(parts).encode(), "sha256").hex()

    async def upload(self, call: Call) -> Response:
        sha256, size, ends = (call.part(name) for name in ("sha256", "size", "ends"))
        given = call.part("signature").encode()
        if not hmac.compare_digest(self._sign(sha256, size, ends).encode(), given) or int(ends) < time.time():
            raise Refused(
                403, "this address to upload to was not given by this server, or is too old; ask for a new one"
            )
        call.length(int(size))
        with Arrival(self.store.contents, int(size)) as arrival:
            await self._receive(call, arrival)
            await run_in_threadpool(arrival.keep, sha256)
        return Response()

    def xet_token(self, call: Call) -> Response:
        call.repo(self.store)
        # an address of its own for each upload: clients remember what an address holds, this server only for a while
        session, ends = self._xet.open(), int(time.time()) + _UPLOAD_TIME
        place = f"{call.request.base_url}xet/{session}/{ends}/{self._sign('xet', session, str(ends))}"
        headers = {"X-Xet-Cas-Url": place, "X-Xet-Access-Token": session, "X-Xet-Token-Expiration": str(ends)}
        return JSONResponse({"casUrl": place, "accessToken": session, "exp": ends}, headers=headers)

    def _session(self, call: Call) -> str:
        session, ends = call.part("session"), call.part("ends")
        given = call.part("signature").encode()
        if not hmac.compare_digest(self._sign("xet", session, ends).encode(), given) or int(ends) < time.time():
            raise Refused(403, "this address to upload to was not given by this server, or is too old; begin again")
        self._xet.use(session)
        return session

    async def xorb(self, call: Call) -> Response:
        session, size = self._session(call), call.length(xet.LONGEST_XORB)
        with Arrival(self.store.contents, size) as arrival:
            await self._receive(call, arrival)
            await run_in_threadpool(self._xet.add, session, call.part("xorb"), arrival)
        return JSONResponse({"was_inserted": True})

    async def shard(self, call: Call) -> Response:
        session = self._session(call)
        await call.read(xet.LONGEST_SHARD)
        await run_in_threadpool(self._xet.build, session, call.body)
        return JSONResponse({"result": 1})

    async def _receive(self, call: Call, arrival: Arrival) -> None:
        block = bytearray()
        async for chunk in call.request.stream():
            block += chunk
            if len(block) >= BLOCK:
                await run_in_threadpool(arrival.write, bytes(block))
                block.clear()
        await run_in_threadpool(arrival.write, bytes(block))

    async def commit(self, call: Call) -> Response:
        call.length(_LONGEST_COMMIT)
        repo = await run_in_threadpool(call.repo, self.store)
        branch = call.part("revision")
        await run_in_threadpool(self.store.resolve, repo, branch)  # before anything is received for nothing
        if call.request.query_params.get("create_pr") == "1":
            raise Refused(400, "this Hub has no pull requests; commit to a branch")
        header: dict[str, Any] = {}
        changes: list[Change] = []
        async for line in _lines(call.request, self.lfs_from * 4 // 3 + (64 << 10)):
            await run_in_threadpool(self._take, line, header, changes)
        if not header:
            raise Refused(400, "a commit begins with a header")
        asked = (header["title"], header["message"], call.who or "unknown", header["parent"])
        oid = await run_in_threadpool(self.store.commit, repo, branch, changes, *asked)
        place = f"{call.request.base_url}{'datasets/' if repo.kind == 'dataset' else ''}{repo.name}/commit/{oid}"
        return JSONResponse({"success": True, "commitOid": oid, "commitUrl": place, "hookOutput": ""})

    def _take(self, line: bytes, header: dict[str, Any], changes: list[Change]) -> None:
        """Take a line of a commit: the header into `header`, all else into `changes`, its content to the disk."""
        item = json_object(line)
        key, value = item.get("key"), item.get("value")
        if not isinstance(value, dict) or (key == "header") == bool(header):
            raise Refused(400, "a commit is one header and then operations, each with a key and a value")
        if len(changes) >= _MOST_CHANGES:
            raise Refused(413, f"a commit has at most {_MOST_CHANGES} operations")
        if key == "header":
            header["title"] = text(value.get("summary"), "summary", 2000)
            header["message"] = text(value.get("description") or "", "description")
            parent = value.get("parentCommit")
            if parent is not None and not re.fullmatch(r"[0-9a-f]{7,40}", str(parent)):
                raise Refused(400, f"parentCommit={parent!r:.60} is no commit")
            header["parent"] = parent
        elif key == "file":
            path = names.file_path(value.get("path"))
            try:
                data = base64.b64decode(value.get("content", ""), validate=True)
            except (binascii.Error, ValueError, TypeError):
                raise Refused(400, f"the content of {path!r:.200} is not base64") from None
            entry = Entry(self.store.contents.add(data), len(data), views.git_oid(data), False)
            changes.append(Change("add", path, entry))
        elif key == "lfsFile":
            path = names.file_path(value.get("path"))
            sha256 = str(value.get("oid"))
            size = self.store.contents.size(sha256) if names.SHA256.fullmatch(sha256) else None
            if size is None or value.get("size", size) != size:
                raise Refused(
                    400, f"the content of {path!r:.200} was not uploaded, or has another size; upload it first"
                )
            changes.append(Change("add", path, Entry(sha256, size, views.git_oid(views.pointer(sha256, size)), True)))
        elif key == "deletedFile":
            changes.append(Change("delete", names.file_path(value.get("path"))))
        elif key == "deletedFolder":
            changes.append(Change("delete_folder", names.file_path(str(value.get("path")).rstrip("/"))))
        else:
            raise Refused(400, f"there is no operation {key!r:.50}")


async def _lines(request: Request, longest: int) -> Any:
    """The lines of a body, one at a time; Refused with 413 when one is longer than `longest` or all are too long."""
    rest, total = bytearray(), 0
    async for chunk in request.stream():
        searched, total = len(rest), total + len(chunk)
        rest += chunk
        while (end := rest.find(b"\n", searched)) >= 0:
            line = bytes(rest[:end])
            del rest[: end + 1]
            searched = 0
            if line.strip():
                yield line
        if len(rest) > longest or total > _LONGEST_COMMIT:
            raise Refused(413, "a file is too large to be sent inside a commit; upload it by LFS first")
    if rest.strip():
        yield bytes(rest)


def _sized(item: Any) -> tuple[str, int]:
    sha256, size = (item.get("oid"), item.get("size")) if isinstance(item, dict) else (None, None)
    if (
        not isinstance(sha256, str)
        or not names.SHA256.fullmatch(sha256)
        or type(size) is not int
        or not 0 <= size < 1 << 50
    ):
        raise Refused(400, "an object has a SHA-256 as oid and a size in bytes")
    return sha256, size


def _route(method: str, path: str, name: str, scope: str = "read") -> tuple[str, re.Pattern[str], str, str]:
    path = path.replace("{repo}", "(?P<kinds>models|datasets)/{id}")
    path = path.replace("{id}", f"(?:{{owner}}/)?(?P<name>(?!(?:{'|'.join(names.ACTIONS)})(?:/|$))[^/]+?)")
    path = path.replace("{file}", "(?P<path>.+)").replace("{folder}", "(?:/(?P<path>.*))?")
    return method, re.compile(re.sub(r"\{([a-z]\w*)\}", r"(?P<\1>[^/]+)", path)), name, scope


ROUTES = [
    _route("GET", "/", "home"),
    _route("POST", "/models/{id}", "infer"),
    _route("GET", "/api/whoami-v2", "whoami"),
    _route("POST", "/api/validate-yaml", "validate_yaml"),
    _route("POST", "/api/repos/create", "create", "write"),
    _route("DELETE", "/api/repos/delete", "delete", "write"),
    _route("POST", "/api/repos/move", "move", "write"),
    _route("GET", "/api/(?P<kinds>models|datasets)", "repos"),
    _route("GET", "/api/{repo}", "info"),
    _route("GET", "/api/{repo}/auth-check", "auth_check"),
    _route("PUT", "/api/{repo}/settings", "settings", "write"),
    _route("POST", "/api/{repo}/super-squash/{revision}", "squash", "write"),
    _route("GET", "/api/{repo}/revision/{revision}", "info"),
    _route("GET", "/api/{repo}/tree/{revision}{folder}", "tree"),
    _route("POST", "/api/{repo}/paths-info/{revision}", "paths_info"),
    _route("GET", "/api/{repo}/refs", "refs"),
    _route("GET", "/api/{repo}/commits/{revision}", "commits"),
    _route("POST", "/api/{repo}/branch/{revision}", "add_branch", "write"),
    _route("DELETE", "/api/{repo}/branch/{revision}", "delete_branch", "write"),
    _route("POST", "/api/{repo}/tag/{revision}", "add_tag", "write"),
    _route("DELETE", "/api/{repo}/tag/{revision}", "delete_tag", "write"),
    _route("POST", "/api/{repo}/preupload/{revision}", "preupload", "write"),
    _route("POST", "/api/{repo}/commit/{revision}", "commit", "write"),
    _route("GET", "/api/{repo}/xet-write-token/{revision}", "xet_token", "write"),
    _route("GET", "/(?P<kinds>datasets/)?{id}/resolve/{revision}/{file}", "resolve"),
    _route("POST", r"/(?P<kinds>datasets/)?{id}\.git/info/lfs/objects/batch", "lfs_batch", "write"),
    _route("PUT", "/lfs/{sha256}/{size}/{ends}/{signature}", "upload", "signed"),
    _route("POST", "/xet/{session}/{ends}/{signature}/v1/xorbs/default/(?P<xorb>[0-9a-f]{64})", "xorb", "signed"),
    _route("POST", "/xet/{session}/{ends}/{signature}/v1/shards", "shard", "signed"),
    _route("GET", "/(?P<kinds>datasets/)?{id}", "page"),
    _route("GET", "/(?P<kinds>datasets/)?{id}/commit/{revision}", "page"),
]
"""Method, address, method of `Hub`, and the scope that it needs. Other addresses are 404, other methods 405."""
