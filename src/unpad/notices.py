"""One plain line for everything that happens without being asked: silence is never an answer.

Notices go through the logger `unpad` to standard error. `UNPAD_QUIET=1` (or the logger's level) silences them.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any


class _StandardError(logging.StreamHandler):
    """Writes to what `sys.stderr` is at that moment: notebooks and test runners put another stream there, and close it later."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


logger = logging.getLogger("unpad")
if not logger.handlers:
    _handler = _StandardError()
    _handler.setFormatter(logging.Formatter("unpad: %(message)s"))
    logger.addHandler(_handler)
    _others = os.environ.get("RANK", "0") != "0"  # of several processes, the main one speaks
    logger.setLevel(logging.WARNING if _others or os.environ.get("UNPAD_QUIET") == "1" else logging.INFO)

_said: set[str] = set()


def quiet() -> None:
    """Leave notices to another process, the main one of a run."""
    logger.setLevel(logging.WARNING)


def say(text: str) -> None:
    """Say one line."""
    logger.info(text)


def say_once(text: str, key: str | None = None) -> None:
    """Say one line once per process; `key` names the fact when the text itself varies."""
    key = key or text
    if key not in _said:
        _said.add(key)
        logger.info(text)
