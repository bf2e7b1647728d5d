"""HTTP/2 and HTTP/1.1 over TLS, by hypercorn: a browser watches any number of runs and still has a
connection for the stop button.

Certificates are read again when their files change, for new connections. Signals are the process's.
What is served is in `app`.
"""

import asyncio
import logging
import socket
import ssl

from hypercorn.config import Config

from pullcord.identity.changes import Changes
from pullcord.transports.http.app import App
from pullcord.transports.http.options import HttpOptions
from pullcord.transports.http.secure_reading import Connections
from pullcord.transports.tls import TlsFiles, check

_log = logging.getLogger("pullcord.http")
_LOOK = 1.0
"""Seconds between two looks at the certificate's files."""
_BACKLOG = 2048
_STREAMS = 1000
"""Requests that one connection has open at a time; its client keeps further ones waiting."""


class SecureServer:
    """Serves an application on one socket."""

    def __init__(
        self, app: App, opened: socket.socket, options: HttpOptions, files: TlsFiles
    ) -> None:
        """Raises TlsError."""
        check(files)
        self._socket = opened
        self._files = files
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.set_alpn_protocols(["h2", "http/1.1"])
        self._context.load_cert_chain(files.certificate, files.key)
        self._config = _Config(self._context)
        self._config.errorlog = self._config.accesslog = None
        self._config.include_server_header = self._config.include_date_header = False
        self._config.keep_alive_timeout = options.max_idle
        self._config.keep_alive_max_requests = 2**31
        self._handshake = options.header_time
        self._config.h2_max_concurrent_streams = _STREAMS
        self._config.h2_max_header_list_size = options.max_header
        self._config.h11_max_incomplete_size = options.max_header
        self._connections = Connections(app, self._config, options)
        self._server: asyncio.Server | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serves."""
        self._server = await asyncio.start_server(
            self._connections.serve,
            sock=self._socket,
            backlog=_BACKLOG,
            ssl=self._context,
            ssl_handshake_timeout=self._handshake,
        )
        self._watching = asyncio.create_task(self._watch_files())

    async def stop(self, grace: float) -> None:
        """Refuses new requests now, and ends those under way after `grace` seconds."""
        if self._server is None or self._watching is None:
            return
        self._watching.cancel()
        self._server.close()
        await self._connections.end(max(0.1, grace))
        await asyncio.gather(self._watching, return_exceptions=True)

    async def _watch_files(self) -> None:
        files = self._files
        changes = Changes([files.certificate, files.key])
        while True:
            await asyncio.sleep(_LOOK)
            if not changes.seen():
                continue
            try:
                check(files)
                self._context.load_cert_chain(files.certificate, files.key)
            except (OSError, ValueError) as error:
                _log.error("the certificate is not read again, the last one stands: %s", error)
            else:
                _log.info("%s was read again, for new connections", files.certificate)


class _Config(Config):
    """Has a context of ours, which stays the same when its certificate is read again."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        self._context = context

    @property
    def ssl_enabled(self) -> bool:
        """Always."""
        return True

    def create_ssl_context(self) -> ssl.SSLContext:
        """The one that was given."""
        return self._context
