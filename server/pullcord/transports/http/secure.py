"""HTTP/2 and HTTP/1.1 over TLS, by hypercorn: a browser watches any number of runs and still has a
connection for the stop button.

Certificates and the CA of clients are read again when their files change, for new connections.
Signals are the process's.
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
        self._socket = opened
        self._files = files
        self._context = _context(files)
        self._handshake = options.header_time
        config = Config()
        config.errorlog = config.accesslog = None
        config.include_server_header = config.include_date_header = False
        config.keep_alive_timeout = options.max_idle
        config.keep_alive_max_requests = 2**31
        config.h2_max_concurrent_streams = _STREAMS
        config.h2_max_header_list_size = options.max_header
        config.h11_max_incomplete_size = options.max_header
        self._connections = Connections(app, config, options)
        self._server: asyncio.Server | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serves."""
        self._server = await self._listen(self._context)
        self._watching = asyncio.create_task(self._watch_files())

    async def stop(self, grace: float) -> None:
        """Refuses new requests now, and ends those under way after `grace` seconds."""
        if self._server is None or self._watching is None:
            return
        self._watching.cancel()
        self._server.close()
        await self._connections.end(max(0.1, grace))
        await asyncio.gather(self._watching, return_exceptions=True)

    async def _listen(self, context: ssl.SSLContext) -> asyncio.Server:
        """Takes connections with these certificates, beside the listener that does already."""
        return await asyncio.start_server(
            self._connections.serve,
            sock=self._socket.dup(),
            backlog=_BACKLOG,
            ssl=context,
            ssl_handshake_timeout=self._handshake,
        )

    async def _watch_files(self) -> None:
        files = self._files
        paths = [files.certificate, files.key, files.client_ca]
        changes = Changes([path for path in paths if path is not None])
        while True:
            await asyncio.sleep(_LOOK)
            if not changes.seen():
                continue
            try:
                context = _context(files)
            except (OSError, ValueError) as error:
                _log.error("the certificate is not read again, the last one stands: %s", error)
                continue
            # A context forgets no CA that it has read, so there is another one.
            before, self._server = self._server, await self._listen(context)
            if before is not None:
                before.close()
            _log.info("%s was read again, for new connections", files.certificate)


def _context(files: TlsFiles) -> ssl.SSLContext:
    """What a connection begins with. Raises TlsError, OSError, ValueError."""
    check(files)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.load_cert_chain(files.certificate, files.key)
    if files.client_ca is not None:  # a client without a certificate has a token, or a cookie
        context.load_verify_locations(files.client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context
