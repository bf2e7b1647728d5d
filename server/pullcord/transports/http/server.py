"""The HTTP server around the application: its socket, its life, and the loop it shares with gRPC.

Signals are the process's, and runs are the engine's. What is served is in `app`.
"""

import asyncio
import contextlib
import logging
import socket
from pathlib import Path
from typing import Any

import uvicorn

from pullcord.transports.front import Front
from pullcord.transports.http.app import App
from pullcord.transports.http.options import HttpOptions
from pullcord.transports.http.reading import Protocol

_log = logging.getLogger("pullcord.http")
_BACKLOG = 2048


class HttpServer:
    """Serves one front on one address. Made, started and stopped on one loop."""

    def __init__(self, front: Front, options: HttpOptions) -> None:
        self._options = options
        self._app = App(front, options)
        self._socket: socket.socket | None = None
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    def listen(self, address: str) -> str:
        """Opens the address; returns the URL it is served at, with the port it really has.

        Raises:
            OSError: the address cannot be listened on.
        """
        try:
            self._socket = _open(address, self._options)
        except OSError as error:
            raise OSError(f"cannot listen on {address!r}: {error}") from error
        if address.startswith("unix:"):
            return address
        host, port = self._socket.getsockname()[:2]
        given = address.rpartition(":")[0]
        return f"http://{given or host}:{port}"

    async def start(self) -> None:
        """Serves."""
        assert self._socket is not None
        config = uvicorn.Config(
            self._app,
            http=Protocol.of(self._options),
            loop="none",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=round(self._options.max_idle),
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve([self._socket]))
        await self._server.ready.wait()

    async def stop(self, grace: float) -> None:
        """Refuses new requests now, and ends those under way after `grace` seconds."""
        if self._server is not None and self._serving is not None:
            self._server.config.timeout_graceful_shutdown = max(1, round(grace))
            self._server.should_exit = True
            await self._serving
        if self._socket is not None:
            self._socket.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Connections are taken from now on."""
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Signals are handled by the process that serves."""
        yield


def _open(address: str, options: HttpOptions) -> socket.socket:
    """A socket that listens. What is set here, its connections inherit."""
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        opened = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(FileNotFoundError):
            if Path(path).is_socket():
                Path(path).unlink()
        opened.bind(path)
        opened.listen(_BACKLOG)
        return opened
    host, _, port = address.rpartition(":")
    found = socket.getaddrinfo(
        host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, where = found[0]
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if options.reuse_port:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # A client that stops reading, or dies without a word, is noticed as one of gRPC's is.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, options.send_buffer)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_KEEPIDLE", options.keepalive),
            ("TCP_KEEPINTVL", max(1.0, options.keepalive_timeout / 3)),
            ("TCP_KEEPCNT", 3),
            ("TCP_NODELAY", 1),
            ("TCP_USER_TIMEOUT", 1000 * (options.keepalive + options.keepalive_timeout)),
        ):
            if hasattr(socket, name):  # which a system has differs
                opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), round(value))
        opened.bind(where)
        opened.listen(_BACKLOG)
    except BaseException:
        opened.close()
        raise
    return opened
