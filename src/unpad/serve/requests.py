"""What a handler gets: one HTTP request with its names taken apart, who sends it, and its body within limits."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs, unquote

from starlette.requests import Request

from unpad.serve import names
from unpad.serve.refusals import Refused
from unpad.serve.store import Repo, Store


class Call:
    """One request to one route."""

    def __init__(self, request: Request, found: dict[str, str | None], who: str) -> None:
        self.request, self.who = request, who
        self.body = b""
        self._found = found

    def part(self, name: str) -> str:
        """A part of the address, decoded; empty when the route allows it to be missing. Refused with 400 when it is
        no UTF-8."""
        try:
            return unquote(self._found.get(name) or "", errors="strict")
        except UnicodeDecodeError:
            raise Refused(400, "the address is not valid UTF-8") from None

    @property
    def kind(self) -> str:
        """ "model" or "dataset"."""
        return "dataset" if self.part("kinds").startswith("dataset") else "model"

    def repo(self, store: Store) -> Repo:
        """The repository that the address names; without an owner, that of the sender, or else that of `local`."""
        if self.part("owner"):
            return store.repo(self.kind, names.repo_name(self.part("owner"), self.part("name")))
        owners = dict.fromkeys((self.who, names.SHARED))
        for owner in owners:
            if found := store.find(self.kind, names.repo_name(owner, self.part("name"))):
                return found
        tried = " or ".join(f"{owner}/{self.part('name')}" for owner in owners)
        raise Refused(404, f"there is no {self.kind} {tried}, for which an id without an owner stands", "RepoNotFound")

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; Refused with 400 when it is none."""
        return json_object(self.body or b"{}")

    def form(self, name: str) -> list[str]:
        """All values of a field of a form or a JSON body."""
        if "json" in self.request.headers.get("content-type", ""):
            value = self.json().get(name, [])
            return [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, str)]
        try:
            return parse_qs(self.body.decode(), errors="strict").get(name, [])
        except ValueError:
            raise Refused(400, "the body is no form") from None

    async def read(self, limit: int) -> None:
        """Read the whole body; Refused with 413 when it is longer than `limit` bytes."""
        self.length(limit)
        body = bytearray()
        async for chunk in self.request.stream():
            body += chunk
            if len(body) > limit:
                raise Refused(413, f"the body is longer than the {limit} bytes that are allowed here")
        self.body = bytes(body)

    def length(self, limit: int) -> int:
        """Bytes of the body as the request says (0 when it does not); Refused with 413 when above `limit`."""
        length = self.request.headers.get("content-length", "0")
        if not re.fullmatch("[0-9]{1,18}", length) or int(length) > limit:
            raise Refused(413, f"the body is longer than the {limit} bytes that are allowed here")
        return int(length)


def json_object(data: bytes) -> dict[str, Any]:
    """`data` as a JSON object; Refused with 400 when it is none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not valid JSON") from None
    if not isinstance(value, dict):
        raise Refused(400, "the body is not a JSON object")
    return value


def text(value: object, what: str, longest: int = 100_000) -> str:
    """`value` when it is text that can be stored; Refused with 400 otherwise."""
    if not isinstance(value, str) or len(value) > longest:
        raise Refused(400, f"{what} must be text of at most {longest} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refused(400, f"{what} is not valid Unicode") from None
    return value
