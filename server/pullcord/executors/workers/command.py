"""Launchers whose workers are anywhere and connect back, and the one that starts them by a command
of the operator's.

The command runs as long as its worker, and `pullcord worker` in it connects back. A worker is gone
once its session is over, by its end or by that of its lease, or its command has ended.
"""

import contextlib
import logging
import os
import selectors
import shlex
import shutil
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

from pullcord.executors.workers.guardian import Guardian
from pullcord.executors.workers.process import ROOT, Process, start_process
from pullcord.executors.workers.reception import Opened, Reception
from pullcord.link.greeting import CONNECT, SECRET, Ticket
from pullcord.link.relay import Ended, Pace, Relay
from pullcord.link.session import SessionTorn
from pullcord.run.killed import KilledProcess
from pullcord.run.resources import Resources

_log = logging.getLogger("pullcord.workers")

CPU, MEMORY, GPU = "PULLCORD_WORKER_CPU", "PULLCORD_WORKER_MEMORY", "PULLCORD_WORKER_GPU"
"""The variables with the room that the worker's runs need; empty: nothing in particular."""

_REST = 2.0
"""Seconds that the link of a command that has ended has for what is still on its way; and those
that a command has to end after its link, until it is killed."""


class LinkObserver(Protocol):
    """Receives what operators count of links. Quick, in any thread, and never raises."""

    def link_returned(self, pid: int, seconds: float) -> None:
        """A worker has continued its session, after so many seconds in which nothing came."""

    def lease_lost(self, pid: int) -> None:
        """A worker was without a link until its lease was over."""


class Begun(Protocol):
    """What stands for a worker elsewhere, such as the command that has started it: as a Worker, but
    its socket is the other end of what the link is brought to."""

    @property
    def pid(self) -> int:
        """As of a Worker."""

    @property
    def sock(self) -> socket.socket:
        """The socket that it was given."""

    @property
    def stdout(self) -> int:
        """As of a Worker."""

    @property
    def stderr(self) -> int:
        """As of a Worker."""

    @property
    def exit_fd(self) -> int:
        """Readable once it has ended."""

    def kill(self) -> list[KilledProcess]:
        """As of a Worker."""

    def died(self) -> str:
        """As of a Worker."""

    def bury(self) -> None:
        """As of a Worker."""

    def close(self) -> None:
        """As of a Worker."""


class LinkedWorker:
    """A worker behind a link, and what stands for it, such as the command that started it."""

    def __init__(self, theirs: socket.socket, pace: Pace, observer: LinkObserver) -> None:
        """`theirs` is the other end of its socket; it begins with `begin`."""
        self._theirs = theirs
        self._observer = observer
        self._pace = pace
        self._relay = Relay(theirs, pace, returned=self._returned)
        self._kills, self._kill = os.pipe()
        self.exit_fd, self.ends = os.pipe()
        self._connected = self._killed = False
        self._how = ""

    def begin(self, process: Begun, then: Callable[[], None]) -> None:
        """It has been started; `then` is called when the worker is gone."""
        self._process = process
        self.pid, self.sock = process.pid, process.sock
        self.stdout, self.stderr = process.stdout, process.stderr
        threading.Thread(
            target=self._follow, args=(then,), name="pullcord-command", daemon=True
        ).start()

    @property
    def connected(self) -> Opened:
        """Takes each connection that it opens."""
        return self._relay.doorstep.hand_in

    @property
    def has_come(self) -> bool:
        """Whether it has opened its link."""
        return self._connected

    @property
    def is_cut(self) -> bool:
        """Whether it was there, and may be out of reach now."""
        return self._connected and self._relay.is_cut

    @property
    def stops_at_once(self) -> bool:
        """Never: it ends by the cut of its link, and what it has said may be on the way."""
        return False

    def _returned(self, seconds: float) -> None:
        self._observer.link_returned(self.pid, seconds)

    def _follow(self, then: Callable[[], None]) -> None:
        ended = None
        try:
            if self._comes():
                ended = self._relay.run({self._process.exit_fd: _REST, self._kills: 0.0})
        except SessionTorn as error:
            self._how = "sent what cannot be read"
            _log.error("the link of worker %d is torn: %s", self.pid, error)
        except Exception:
            _log.exception("the link of worker %d has failed", self.pid)
        then()
        self._relay.close()
        self._theirs.close()
        if ended is Ended.UNTIL and not self._killed and self._relay.silent > self._pace.lease / 2:
            ended = Ended.LEASE  # as its own clock has it, by which it has ended
        if ended is Ended.LEASE:
            self._how = f"lost its link for {self._pace.lease:g} s"
            self._observer.lease_lost(self.pid)
        if ended is Ended.LEASE or not _is_readable(self._process.exit_fd, _REST):
            if self._connected:
                self._how = self._how or "lost its link"
            self._process.kill()
        _is_readable(self._process.exit_fd, None)
        os.close(self.ends)

    def _comes(self) -> bool:
        """Whether it connects, before its command ends."""
        door = self._relay.doorstep
        _is_readable(door.fd, None, self._process.exit_fd, self._kills)
        self._connected = not door.is_empty
        return self._connected

    def resident(self) -> int:
        """Not known: it is elsewhere."""
        return 0

    def processor_time(self) -> float:
        """Not known: it is elsewhere."""
        return 0.0

    def kill(self) -> list[KilledProcess]:
        """Kills the command, and cuts the link, by which the worker ends. Names nothing."""
        self._killed = True
        self._process.kill()
        with contextlib.suppress(OSError):
            os.write(self._kill, b"!")
        return []

    def died(self) -> str:
        """Once its command has ended: how."""
        words = self._process.died()
        if words and self._how:
            return self._how
        if not words or self._connected or ":" in words:  # which says why
            return words
        return f"{words}, before it connected"

    def bury(self) -> None:
        """Reaps the command, and kills what it left here."""
        self._process.bury()

    def close(self) -> None:
        """Closes what is open of it."""
        self._process.close()
        self.discard()

    def discard(self) -> None:
        """Closes what it has beside its command."""
        self._relay.doorstep.close()
        for fd in (self.exit_fd, self._kills, self._kill):
            os.close(fd)


class LinkedLauncher:
    """Has workers that connect back. How one is started, a subclass says."""

    may_wait = False

    def __init__(self, listen: str, lease: float, observer: LinkObserver) -> None:
        """`listen` is host:port. `lease` is for how many seconds a worker without its link goes
        on."""
        self._pace = Pace(lease)
        self._observer = observer
        host, _, port = listen.rpartition(":")
        self._listen = (host.strip("[]"), int(port))
        self.guardian = Guardian(ROOT)
        """Ends what was started here, should this process be killed."""
        self._reception: Reception | None = None

    def open(self) -> None:
        """Listens for workers. Raises OSError; MissingExtra."""
        self._reception = Reception(*self._listen, self._pace.lease)
        self.guardian.open()
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

    def begin(self, ours: socket.socket, ticket: Ticket, resources: Resources | None) -> Begun:
        """Starts what will connect with this ticket. Raises OSError, and `ours` is closed then."""
        raise NotImplementedError

    def start(self, resources: Resources | None = None) -> LinkedWorker:
        """Starts a worker, which connects when it is ready to."""
        assert self._reception is not None
        ours, theirs = socket.socketpair()
        worker = LinkedWorker(theirs, self._pace, self._observer)
        ticket = self._reception.expect(worker.connected)
        try:
            process = self.begin(ours, ticket, resources)
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
        self.guardian.close()


class CommandLauncher(LinkedLauncher):
    """Starts a command for each worker."""

    def __init__(self, command: str, listen: str, lease: float, observer: LinkObserver) -> None:
        """`command` is split as a shell does, and run without one. The rest is as above."""
        super().__init__(listen, lease, observer)
        self._command = shlex.split(command)

    def open(self) -> None:
        """Listens for workers. Raises OSError, also if there is no such command; MissingExtra."""
        if shutil.which(self._command[0]) is None:
            raise FileNotFoundError(
                f"PULLCORD_WORKER_COMMAND: there is no command {self._command[0]!r} here"
            )
        super().open()

    def check(self, resources: Resources) -> None:
        """What there is, the command knows: it finds the resources in its environment."""

    def begin(self, ours: socket.socket, ticket: Ticket, resources: Resources | None) -> Process:
        """Starts the command."""
        return start_process(
            self.guardian,
            self._command,
            ours,
            pass_fds=(),
            variables={CONNECT: self.address, SECRET: str(ticket)} | _variables(resources),
        )


def _variables(resources: Resources | None) -> dict[str, str]:
    """What the command finds of them. Empty ones, so that none comes from the environment here."""
    found: dict[str, int | float | None] = {CPU: None, MEMORY: None, GPU: None}
    if resources is not None:
        found |= {CPU: resources.cpu, MEMORY: resources.memory_bytes, GPU: resources.gpu}
    return {name: "" if value is None else _plain(value) for name, value in found.items()}


def _plain(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _is_readable(fd: int, timeout: float | None, *others: int) -> bool:
    """Waits for one of these descriptors; whether one was readable in time."""
    with selectors.DefaultSelector() as selector:
        for each in (fd, *others):
            selector.register(each, selectors.EVENT_READ)
        return bool(selector.select(timeout))
