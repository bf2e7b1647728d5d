"""The reading of requests from connections: uvicorn's, with bounds that it lacks.

Headers that are too large, or that do not come, close their connection. Bodies are bounded in
`messages`.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pullcord.transports.http.options import HttpOptions


class Protocol(HttpToolsProtocol):
    """One connection."""

    options = HttpOptions()

    @classmethod
    def of(cls, options: HttpOptions) -> type["Protocol"]:
        """The protocol with these options: uvicorn makes its objects itself."""
        return type("Protocol", (cls,), {"options": options})

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unread = 0
        """Bytes since the last request's headers were whole, while a next one's are not."""
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Headers must come from now on."""
        super().connection_made(transport)
        if len(self.connections) > self.options.max_connections:
            transport.abort()
            return
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is lost: no more data comes."""
        self._headers_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes have come."""
        if self._patience is not None:
            self._unread += len(data)
            if self._unread > self.options.max_header + 65536:
                self.transport.abort()
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._wait_for_headers()

    def on_headers_complete(self) -> None:
        """A request's headers are whole."""
        self._headers_came()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.options.max_header:
            self.send_400_response("The headers are too large.")
            return
        super().on_headers_complete()

    def _wait_for_headers(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(self.options.header_time, self._close)

    def _headers_came(self) -> None:
        self._unread = 0
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _close(self) -> None:
        self._patience = None
        if not self.transport.is_closing():
            self.transport.close()
