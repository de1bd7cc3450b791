"""Answers that several routes give: pages of a list, ranges of a file, refusals."""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import JSONResponse, Response

from unpad.serve.refusals import Refused
from unpad.serve.requests import Call

PAGE = 1000
"""Entries of a list in one answer; the address of the next page comes with each."""


def cursor(call: Call) -> tuple[str, int]:
    """(commit, place) at which a page of a list begins; ("", 0) where a request asks for the first."""
    asked = call.request.query_params.get("cursor", "")
    found = re.fullmatch(r"([0-9a-f]{40})-([0-9]{1,9})", asked)
    if asked and not found:
        raise Refused(400, f"cursor={asked!r:.50} is none of this server")
    return (found[1], int(found[2])) if found else ("", 0)


def page(call: Call, oid: str, items: list[Any]) -> Response:
    """A page of a list that belongs to one commit and so never changes."""
    start = cursor(call)[1]
    more = next_page(call, f"{oid}-{start + PAGE}") if len(items) > start + PAGE else {}
    return JSONResponse(items[start : start + PAGE], headers=more)


def next_page(call: Call, cursor: str) -> dict[str, str]:
    """The header that leads to the page that begins at `cursor`."""
    return {"Link": f'<{call.request.url.include_query_params(cursor=cursor)}>; rel="next"'}


def span(header: str, size: int) -> tuple[int, int] | None:
    """(start, stop) of a Range header; None where the whole is to be sent; start >= stop where nothing can be."""
    found = re.fullmatch(r"bytes=(\d{0,19})-(\d{0,19})", header.strip())
    if not found or found[1] == found[2] == "":
        return None
    if not found[1]:
        return max(0, size - int(found[2])), size if int(found[2]) else 0
    start, stop = int(found[1]), min(size, int(found[2]) + 1) if found[2] else size
    return None if found[2] and int(found[2]) < start else (start, stop)


def refusal(refused: Refused) -> Response:
    """The answer that tells a client what is wrong, in one line that no name of a file or of a repository can leave."""
    line = " ".join(refused.text.split())
    headers = {"X-Error-Message": line.encode("ascii", "backslashreplace").decode()}
    if refused.code:
        headers["X-Error-Code"] = refused.code
    if refused.commit:
        headers["X-Repo-Commit"] = refused.commit
    return JSONResponse({"error": line.encode(errors="backslashreplace").decode()}, refused.status, headers)
