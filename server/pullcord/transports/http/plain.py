"""Plaintext HTTP/1.1, by uvicorn: the quickest of the servers, on the loop that is running.

Signals are the process's. What is served is in `app`.
"""

import asyncio
import contextlib
import logging
import socket
from typing import Any

import uvicorn

from pullcord.transports.http.app import App
from pullcord.transports.http.options import HttpOptions
from pullcord.transports.http.reading import Protocol


class PlainServer:
    """Serves an application on one socket."""

    def __init__(self, app: App, opened: socket.socket, options: HttpOptions) -> None:
        self._socket = opened
        # It would write a line for each bad request that anybody sends.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        config = uvicorn.Config(
            app,
            http=Protocol.of(options),
            loop="none",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=round(options.max_idle),
        )
        self._server = _Server(config)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serves."""
        self._serving = asyncio.create_task(self._server.serve([self._socket]))
        await self._server.ready.wait()

    async def stop(self, grace: float) -> None:
        """Refuses new requests now, and ends those under way after `grace` seconds."""
        if self._serving is not None:
            self._server.config.timeout_graceful_shutdown = max(1, round(grace))
            self._server.should_exit = True
            await self._serving


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
