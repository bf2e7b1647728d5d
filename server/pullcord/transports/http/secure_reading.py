"""The reading of requests over TLS: hypercorn's, with bounds that it lacks.

A connection whose headers do not come is closed, and so is one above the bound. Who is known
by a certificate is read here, too. The same over plaintext is in `reading`; which certificates are
shown and asked for is in `secure`.
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

import h11
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, RawData
from hypercorn.protocol.h11 import H11Protocol

from pullcord.transports.http.app import App
from pullcord.transports.http.messages import CERTIFICATE
from pullcord.transports.http.options import HttpOptions

_MOST = 65536
"""Bytes that are read at a time."""
_HEADERS, _CONTINUATION = 1, 9
_FRAME_HEAD = 9


class Connections:
    """The connections of one server, each of which is read by a task of its own."""

    def __init__(self, app: App, config: Config, options: HttpOptions) -> None:
        self._app = app
        self._config = config
        self._options = options
        self._context = WorkerContext(None)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Reads one connection to its end."""
        task = asyncio.current_task()
        assert task is not None
        if len(self._tasks) >= self._options.max_connections:
            writer.transport.abort()
            return
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        loop = asyncio.get_running_loop()
        app = _of_known(self._app, ids_in(writer.get_extra_info("ssl_object").getpeercert()))
        connection = _Connection(app, loop, self._config, self._context, {}, reader, writer)
        connection.patience = self._options.header_time
        await connection

    async def end(self, grace: float) -> None:
        """Closes connections without a request now, and the others after `grace` seconds."""
        await self._context.terminated.set()
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=grace)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)


def ids_in(certificate: Mapping[str, Any] | None) -> list[str]:
    """By what a certificate that TLS has verified is known: its SPIFFE id, then other URIs, then
    DNS names; never its common name."""
    names: Sequence[tuple[str, str]] = (certificate or {}).get("subjectAltName", ())
    uris = [name for kind, name in names if kind == "URI"]
    uris.sort(key=lambda uri: not uri.startswith("spiffe://"))
    return [*uris, *(name for kind, name in names if kind == "DNS")]


def _of_known(app: App, ids: Sequence[str]) -> ASGIWrapper:
    """The application, which finds the ids of a connection's certificate in each request."""

    async def served(scope: Any, receive: Any, send: Any) -> None:
        scope[CERTIFICATE] = ids
        await app(scope, receive, send)

    return ASGIWrapper(served)


class _Connection(TCPServer):
    """One connection."""

    patience = 0.0
    """Seconds that the headers of a request may take, from their first byte on."""
    _late: asyncio.TimerHandle | None = None
    _closing: asyncio.Task[None] | None = None

    async def _read_data(self) -> None:
        self._wait_for_headers()
        try:
            while not self.reader.at_eof():
                try:
                    data = await self.reader.read(_MOST)
                except (OSError, ssl.SSLError):
                    break
                await self.protocol.handle(RawData(data))
                if not _is_half_sent(self.protocol.protocol):
                    self._headers_came()
                elif self._late is None:
                    self._wait_for_headers()
            await self.protocol.handle(Closed())
        finally:
            self._headers_came()

    def _wait_for_headers(self) -> None:
        self._late = self.loop.call_later(self.patience, self._close_late)

    def _headers_came(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _close_late(self) -> None:
        self._closing = self.loop.create_task(self._initiate_server_close())


def _is_half_sent(protocol: Any) -> bool:
    """Whether a part of a request's headers is there, and the rest is not."""
    connection = protocol.connection
    if isinstance(protocol, H11Protocol):
        data, _ = connection.trailing_data
        return connection.their_state is h11.IDLE and bool(data)
    buffer = connection.incoming_buffer
    data = buffer._data
    return bool(
        buffer._headers_buffer
        or 0 < len(data) < _FRAME_HEAD
        or (data and data[3] in (_HEADERS, _CONTINUATION))
    )
