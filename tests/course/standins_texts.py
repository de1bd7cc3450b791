"""Stand-ins of the chapters about text that comes out of a model; see `standins`."""

from __future__ import annotations

from collections.abc import Callable

STANDINS: list[Callable[..., None]] = []
"""Functions that put a stand-in on a `Shelf`."""
