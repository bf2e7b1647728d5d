"""The launcher whose workers are started by a command of the operator's, and are anywhere.

The command runs as long as its worker, and `pullcord worker` in it connects back. A worker is gone
once its link is cut or its command has ended; there is no coming back.
"""

import contextlib
import logging
import os
import selectors
import shlex
import shutil
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial

from pullcord.executors.processes import kill_tree
from pullcord.executors.workers.guardian import Guardian
from pullcord.executors.workers.process import ROOT, Process, start_process
from pullcord.executors.workers.reception import Reception
from pullcord.link.greeting import CONNECT, SECRET
from pullcord.link.relay import relay
from pullcord.run.killed import KilledProcess

_log = logging.getLogger("pullcord.workers")

_REST = 2.0
"""Seconds that the link of a command that has ended has for what is still on its way; and those
that a command has to end after its link, until it is killed."""


class CommandWorker:
    """A worker behind a link, and the command that started it."""

    def __init__(self, theirs: socket.socket) -> None:
        """`theirs` is the other end of its socket; its command begins with `begin`."""
        self._theirs = theirs
        self._link: ssl.SSLSocket | None = None
        self._wakes, self._wake = os.pipe()
        self._kills, self._kill = os.pipe()
        self.exit_fd, self.ends = os.pipe()
        self._lock = threading.Lock()
        self._connected = self._done = self._lost = False

    def begin(self, process: Process, then: Callable[[], None]) -> None:
        """Its command has been started; `then` is called when the worker is gone."""
        self._process = process
        self.pid, self.sock = process.pid, process.sock
        self.stdout, self.stderr = process.stdout, process.stderr
        threading.Thread(
            target=self._follow, args=(then,), name="pullcord-command", daemon=True
        ).start()

    def connected(self, link: ssl.SSLSocket) -> None:
        """It has opened its link."""
        with self._lock:
            if self._done:
                link.close()
                return
            self._link = link
            self._connected = True
            os.write(self._wake, b"!")

    def _follow(self, then: Callable[[], None]) -> None:
        try:
            if self._comes():
                assert self._link is not None
                relay(self._link, self._theirs, {self._process.exit_fd: _REST, self._kills: 0.0})
        except Exception:
            _log.exception("the link of worker %d has failed", self.pid)
        with self._lock:
            self._done = True
            if self._link is not None:
                self._link.close()
        self._theirs.close()
        if not _is_readable(self._process.exit_fd, _REST):
            self._lost = self._connected
            kill_tree(self.pid)
        _is_readable(self._process.exit_fd, None)
        then()
        os.close(self.ends)

    def _comes(self) -> bool:
        """Whether it connects, before its command ends."""
        _is_readable(self._wakes, None, self._process.exit_fd, self._kills)
        with self._lock:
            self._done = self._link is None
        return not self._done

    def resident(self) -> int:
        """Not known: it is elsewhere."""
        return 0

    def processor_time(self) -> float:
        """Not known: it is elsewhere."""
        return 0.0

    def kill(self) -> list[KilledProcess]:
        """Kills the command, and cuts the link, by which the worker ends. Names nothing."""
        kill_tree(self.pid)
        with contextlib.suppress(OSError):
            os.write(self._kill, b"!")
        return []

    def died(self) -> str:
        """Once its command has ended: how."""
        words = self._process.died()
        if words and self._lost:
            return "lost its link"
        return words if self._connected or not words else f"{words}, before it connected"

    def bury(self) -> None:
        """Reaps the command, and kills what it left here."""
        self._process.bury()

    def close(self) -> None:
        """Closes what is open of it."""
        self._process.close()
        self.discard()

    def discard(self) -> None:
        """Closes what it has beside its command."""
        for fd in (self.exit_fd, self._wakes, self._wake, self._kills, self._kill):
            os.close(fd)


class CommandLauncher:
    """Starts a command for each worker."""

    def __init__(self, command: str, listen: str) -> None:
        """`command` is split as a shell does, and run without one. `listen` is host:port."""
        self._command = shlex.split(command)
        host, _, port = listen.rpartition(":")
        self._listen = (host.strip("[]"), int(port))
        self._guardian = Guardian(ROOT)
        self._reception: Reception | None = None

    def open(self) -> None:
        """Listens for workers. Raises OSError, also if there is no such command; MissingExtra."""
        if shutil.which(self._command[0]) is None:
            raise FileNotFoundError(
                f"PULLCORD_WORKER_COMMAND: there is no command {self._command[0]!r} here"
            )
        self._reception = Reception(*self._listen)
        self._guardian.open()
        _log.info("workers connect to %s", self.address)

    @property
    def address(self) -> str:
        """What workers connect to: where this listens, or this machine's name if that is
        everywhere."""
        assert self._reception is not None
        host, port = self._reception.host, self._reception.port
        if host in ("0.0.0.0", "::"):
            host = socket.gethostname()
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def start(self) -> CommandWorker:
        """Starts the command; its worker connects when it is ready to."""
        assert self._reception is not None
        ours, theirs = socket.socketpair()
        worker = CommandWorker(theirs)
        ticket = self._reception.expect(worker.connected)
        try:
            process = start_process(
                self._guardian,
                self._command,
                ours,
                pass_fds=(),
                variables={CONNECT: self.address, SECRET: str(ticket)},
            )
        except BaseException:
            self._reception.forget(ticket)
            theirs.close()
            worker.discard()
            os.close(worker.ends)
            raise
        worker.begin(process, partial(self._reception.forget, ticket))
        return worker

    def close(self) -> None:
        """Nobody can connect any more."""
        if self._reception is not None:
            self._reception.close()
        self._guardian.close()


def _is_readable(fd: int, timeout: float | None, *others: int) -> bool:
    """Waits for one of these descriptors; whether one was readable in time."""
    with selectors.DefaultSelector() as selector:
        for each in (fd, *others):
            selector.register(each, selectors.EVENT_READ)
        return bool(selector.select(timeout))
