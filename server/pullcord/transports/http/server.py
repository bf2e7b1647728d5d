"""The HTTP server around the application: its address, and its life beside that of gRPC.

Runs are the engine's, and outlive it. What is served is in `app`, by what in `plain` and `secure`.
"""

import socket

from pullcord.transports.front import Front
from pullcord.transports.http.app import App
from pullcord.transports.http.listening import open_socket
from pullcord.transports.http.options import HttpOptions
from pullcord.transports.http.plain import PlainServer
from pullcord.transports.http.secure import SecureServer
from pullcord.transports.tls import TlsFiles


class HttpServer:
    """Serves one front on one address. Made, started and stopped on one loop."""

    def __init__(self, front: Front, options: HttpOptions) -> None:
        self._options = options
        self._app = App(front, options)
        self._socket: socket.socket | None = None
        self._server: PlainServer | SecureServer | None = None

    def listen(self, address: str, tls: TlsFiles | None = None) -> str:
        """Opens the address; returns the URL it is served at, with the port it really has.

        Raises:
            OSError: the address cannot be listened on, or a file cannot be used.
        """
        try:
            opened = self._socket = open_socket(address, self._options)
        except OSError as error:
            raise OSError(f"cannot listen on {address!r}: {error}") from error
        if tls is None:
            self._server = PlainServer(self._app, opened, self._options)
        else:
            self._server = SecureServer(self._app, opened, self._options, tls)
        if address.startswith("unix:"):
            return address
        host, port = opened.getsockname()[:2]
        return f"{'http' if tls is None else 'https'}://{address.rpartition(':')[0] or host}:{port}"

    async def start(self) -> None:
        """Serves."""
        assert self._server is not None
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Refuses new requests now, and ends those under way after `grace` seconds."""
        if self._server is not None:
            await self._server.stop(grace)
        await self._app.close()
        if self._socket is not None:
            self._socket.close()
