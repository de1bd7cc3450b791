"""What a process no longer uses goes back to the system."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unpad.engine import memory


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.skipif(memory._glibc() is None, reason="another C library than glibc")
def test_the_holes_between_what_stays_are_given_back() -> None:
    blocks = [np.ones(8_000) for _ in range(2_000)]  # 128 MB in blocks that the heap holds itself
    stays = blocks[::100]
    before = resident()
    del blocks
    memory.give_back()
    assert before - resident() > 100e6
    assert all((block == 1).all() for block in stays)


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    memory.keep()
    memory.give_back()
