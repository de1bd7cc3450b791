"""The one error of the server: an HTTP status, what is wrong in one line, and the code by which clients tell 404s
apart."""

from __future__ import annotations


class Refused(Exception):  # noqa: N818 - it is an answer, most often of a status below 500
    """A request that is answered with `status` (400 and above), `text` and, where clients look for one, an
    X-Error-Code."""

    def __init__(self, status: int, text: str, code: str = "", commit: str = "") -> None:
        super().__init__(text)
        self.status, self.text, self.code, self.commit = status, text, code, commit
