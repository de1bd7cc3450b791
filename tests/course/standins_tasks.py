"""Stand-ins of the chapters about tasks; see `standins`."""

from __future__ import annotations

from collections.abc import Callable

STANDINS: list[Callable[..., None]] = []
"""Functions that put a stand-in on a `Shelf`."""
