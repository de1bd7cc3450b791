"""Connections that do not wait for ever: one on which no request begins is closed after a while."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def connection(timeout: float) -> type[H11Protocol]:
    """The class of connections that are closed after `timeout` to twice as many seconds without a whole head of a
    request, between requests too. Bodies are the business of the application."""

    class Connection(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._look(object())

        def _look(self, before: Any) -> None:
            if self.transport.is_closing():
                return
            if self.cycle is before and (self.cycle is None or self.cycle.response_complete):
                self.transport.close()
                return
            self.loop.call_later(timeout, self._look, self.cycle)

    return Connection
