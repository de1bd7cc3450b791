"""The memory of a process: what training keeps from step to step, and what is given back to the system when it is no longer used.

Both speak to the C library where it is glibc, and do nothing where it is not.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""`M_TRIM_THRESHOLD` and `M_MMAP_THRESHOLD` of mallopt(3)."""


_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""By these a user has decided."""


def keep() -> None:
    """Let what a step frees wait for the next one: else the heap shrinks and grows with each, a fifteenth of a short step.

    It holds for the process from then on; `give_back` still empties the heap.
    """
    c = _glibc()
    if c is not None and not any(name in os.environ for name in _OWN):
        c.mallopt(_TRIM_THRESHOLD, 1 << 30)
        for most in (32, 128):  # a glibc that refuses the second stays with the first
            c.mallopt(_MMAP_THRESHOLD, most << 20)


def give_back() -> None:
    """Empty what Arrow keeps of tables that are gone, and the holes of the heap (a few milliseconds).

    Batches of ever new sizes leave holes between what stays: the heap of an evaluation grows by a third in its first minute. And a
    data set that was read and prepared leaves Arrow a hundred megabytes that nobody uses any more.
    """
    pool = getattr(sys.modules.get("pyarrow"), "default_memory_pool", None)
    if pool is not None:
        pool().release_unused()
    c = _glibc()
    if c is not None:
        c.malloc_trim(ctypes.c_size_t(0))


@cache
def _glibc() -> Any:
    """The C library; None when it is another one."""
    c = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    return c if hasattr(c, "malloc_trim") and hasattr(c, "mallopt") else None
