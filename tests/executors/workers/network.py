"""What stands between workers and their server in tests: it passes everything on until it is cut.

It knows no Pullcord. A cut is either heard by both ends, or by none: a partition.
"""

import socket
import threading
from contextlib import suppress


class Network:
    """A way through 127.0.0.1."""

    def __init__(self) -> None:
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.target: int = free.getsockname()[1]
        """Where the server must listen."""
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._swallowed: set[socket.socket] = set()
        self._refuses = self._swallows = False
        self.connections = 0
        """How many have been made."""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._sock.accept()
                with self._lock:
                    if self._refuses:
                        here.close()
                        continue
                    try:
                        there = socket.create_connection(("127.0.0.1", self.target))
                    except OSError:
                        here.close()
                        continue
                    self.connections += 1
                    self._open += [here, there]
                    if self._swallows:
                        self._swallowed |= {here, there}
                for one, other in ((here, there), (there, here)):
                    threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                if one not in self._swallowed:
                    other.sendall(data)
        for sock in (one, other):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def cut(self, *, for_good: bool = False) -> None:
        """Ends every connection that there is; `for_good`: further ones, too, until `restore`."""
        with self._lock:
            self._refuses = for_good
            for sock in self._open:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def swallow(self) -> None:
        """Whatever the connections say from now on is lost, and nobody is told; so with further
        ones, until `restore`."""
        with self._lock:
            self._swallows = True
            self._swallowed |= set(self._open)

    def restore(self) -> None:
        """Passes further connections on again."""
        self._refuses = self._swallows = False

    def close(self) -> None:
        self.restore()
        self.cut(for_good=True)
        for sock in (self._sock, *self._open):
            sock.close()
