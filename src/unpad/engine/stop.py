"""Being asked to stop: SIGTERM and SIGUSR1 let the loop finish its step and save before the process ends."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from unpad.errors import EXIT_CONTINUE

SIGNALS = ("SIGTERM", "SIGUSR1")


class Stopped(SystemExit):
    """The run was asked to stop and has saved its state; started again it goes on. Ends the process with `EXIT_CONTINUE`."""

    def __init__(self, code: int = EXIT_CONTINUE) -> None:
        super().__init__(code)


class StopRequest:
    """While this context is open, a stop signal is remembered in `asked` instead of ending the process, however often it comes."""

    def __init__(self) -> None:
        self.asked: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        self.asked = None
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in SIGNALS if hasattr(signal, name)):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = signal.Signals(number).name
