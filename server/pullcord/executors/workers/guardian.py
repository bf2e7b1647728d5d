"""The control side of the guard, the process that ends the workers if the control process dies.

It starts the guard, starts it again should it die, and says which workers there are. What the
guard does is in `executors.guard`.
"""

import logging
import os
import socket
import subprocess
import sys
import threading

from pullcord.executors.guard import HELD

_log = logging.getLogger("pullcord.workers")

_RETRY = 1.0
"""Seconds until a guard that has died, or could not be started, is started again."""


class Guardian:
    """The workers that must not outlive this process. Any thread may call; nothing waits."""

    def __init__(self, path: str) -> None:
        """`path` is where Python finds this package."""
        self._path = path
        self._lock = threading.Lock()
        self._workers: dict[int, str] = {}
        self._held = ""
        self._guard: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="pullcord-guardian", daemon=True)

    def open(self) -> None:
        """Starts the guard, aside."""
        self._thread.start()

    def watch(self, pid: int, mark: str) -> None:
        """A worker has begun; `mark` is in the environment of all its processes."""
        with self._lock:
            self._workers[pid] = mark
            self._say(f"{pid} {mark}")

    def forget(self, pid: int) -> None:
        """A worker has died, and is about to be reaped: its id may soon be another's."""
        with self._lock:
            if self._workers.pop(pid, None):
                self._say(f"{pid} -")

    def hold(self, ends: float) -> None:
        """The guard ends the workers also if it is not told of a later time than this, by the clock
        of leases: then this process stands still."""
        with self._lock:
            self._held = f"{HELD} {ends}"
            self._say(self._held)

    def close(self) -> None:
        """Ends the guard. Blocks until it has ended, which takes a moment."""
        self._closing.set()
        with self._lock:
            if self._sock is not None:
                self._sock.close()
                self._sock = None
        if self._thread.is_alive():
            self._thread.join()

    def _say(self, line: str) -> None:
        if self._sock is not None:
            try:
                self._sock.send(f"{line}\n".encode(), socket.MSG_DONTWAIT)
            except OSError:  # it is dead or stands still; the next one learns of all workers
                if self._guard is not None:
                    self._guard.kill()

    def _keep(self) -> None:
        """In a thread of its own: there is a guard until this is closed."""
        while not self._closing.is_set():
            try:
                guard = self._start()
            except OSError as error:
                _log.warning("the guard of the workers cannot be started: %s", error)
            else:
                guard.wait()
            self._closing.wait(_RETRY)

    def _start(self) -> "subprocess.Popen[bytes]":
        ours, theirs = socket.socketpair()
        with theirs:
            guard = subprocess.Popen(
                [sys.executable, "-SP", "-m", "pullcord.executors.guard", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": self._path},
            )
        with self._lock:
            self._guard = guard
            if self._closing.is_set():
                ours.close()  # by which it ends
                return guard
            if self._sock is not None:
                self._sock.close()
            self._sock = ours
            for pid, mark in self._workers.items():
                self._say(f"{pid} {mark}")
            if self._held:
                self._say(self._held)
        return guard
