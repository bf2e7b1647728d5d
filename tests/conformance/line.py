"""A TCP line that can be cut: it hands bytes on between a client and the server.

It knows nothing of what the bytes say. A cut resets every connection that is open; the next ones
are taken as before.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterable
from typing import Self

_PIECE = 4096
_RESET = struct.pack("ii", 1, 0)  # close without a farewell


class Line:
    """Listens on a free port for connections to `target`; end it, or use it in `with`.

    Of the connections, the first ones break after so many bytes of the server's as `breaks` says.
    """

    def __init__(self, target: str, breaks: Iterable[int] = ()) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._breaks = iter(breaks)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self.broken = 0
        """Connections that were cut or have broken."""
        self._left = threading.Semaphore(0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, name="line", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cut(self) -> None:
        """Resets every connection that is open."""
        with self._lock:
            broken, self._open = self._open, set()
            self.broken += len(broken) // 2
        for end in broken:
            _reset(end)

    def wait_left(self, seconds: float) -> bool:
        """Waits until the near end has left one more connection by itself; False: it does not."""
        return self._left.acquire(timeout=seconds)

    def close(self) -> None:
        """Takes no more connections, and ends those that are open."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                far = socket.create_connection(self._target)
            except OSError:
                _reset(near)
                continue
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {near, far}
                room = next(self._breaks, None)
            for work, arguments in (self._bring, (near, far)), (self._pump, (far, near, room)):
                threading.Thread(target=work, args=arguments, name="line", daemon=True).start()

    def _bring(self, near: socket.socket, far: socket.socket) -> None:
        self._pump(near, far, None)
        self._left.release()

    def _pump(self, source: socket.socket, sink: socket.socket, room: int | None) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(_PIECE):
                if room is not None and len(piece) >= room:
                    sink.sendall(piece[:room])
                    break
                sink.sendall(piece)
                if room is not None:
                    room -= len(piece)
        with self._lock:
            ours = {source, sink} & self._open
            self._open -= ours
            self.broken += room is not None and len(ours) == 2
        for end in ours:
            _reset(end)


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Wakes the thread that reads it; closing alone would not.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        end.shutdown(socket.SHUT_RDWR)
    end.close()
