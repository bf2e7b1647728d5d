"""A worker's actor as the launcher sees it: a number, and the moment and manner of its end.

It stands where a command's process stands for other workers. What Ray does is not known here.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable

from pullcord.run.killed import KilledProcess


class Placed:
    """An actor that was asked for. Any thread may call."""

    def __init__(self, number: int, sock: socket.socket, kill: Callable[[int], None]) -> None:
        """`kill` has Ray kill it; it never waits."""
        self.pid = number
        """The number by which log lines name it: no process of this machine."""
        self.sock = sock
        sock.setblocking(False)
        self._kill = kill
        self._lock = threading.Lock()
        self._words = ""
        # What the worker writes comes by Ray's logs: these are at their end.
        self.stdout, self.stderr = _ended(), _ended()
        self.exit_fd, self._alive = os.pipe()

    def gone(self, words: str) -> None:
        """It has ended, so far as is known here; the first words stand."""
        with self._lock:
            if not self._words:
                self._words = words
                os.close(self._alive)

    def ended(self, code: int) -> None:
        """Its worker process has ended with this exit code, or by this signal."""
        if code >= 0:
            self.gone(f"ended with exit code {code}")
            return
        try:
            self.gone(f"was killed by {signal.Signals(-code).name}")
        except ValueError:
            self.gone(f"was killed by signal {-code}")

    def kill(self) -> list[KilledProcess]:
        """Has it killed, and takes it for gone: its link is cut, too, which ends it without Ray."""
        self._kill(self.pid)
        self.gone("was killed by SIGKILL")
        return []

    def died(self) -> str:
        """How it ended; empty while it lives."""
        return self._words

    def bury(self) -> None:
        """Nothing of it is here."""

    def close(self) -> None:
        """Closes its descriptors, once it is gone."""
        self.sock.close()
        for fd in (self.stdout, self.stderr, self.exit_fd):
            with contextlib.suppress(OSError):
                os.close(fd)


def _ended() -> int:
    readable, written = os.pipe()
    os.close(written)
    os.set_blocking(readable, False)
    return readable
