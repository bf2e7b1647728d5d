"""What all launchers share whose workers are elsewhere and connect back. How one is started, such
as by a command or by Ray, is not known here.

A worker is gone once its session is over, by its end or by that of its lease, or once what was
begun for it has ended.
"""

import contextlib
import logging
import os
import selectors
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Protocol

from pullcord.executors.workers.guardian import Guardian
from pullcord.executors.workers.launcher import Begun
from pullcord.executors.workers.process import ROOT
from pullcord.executors.workers.reception import Opened, Reception
from pullcord.link.greeting import Ticket
from pullcord.link.lease import Pace
from pullcord.link.relay import Ended, Relay
from pullcord.link.session import SessionTorn
from pullcord.run.killed import KilledProcess
from pullcord.run.resources import Resources

_log = logging.getLogger("pullcord.workers")

_REST = 2.0
"""Seconds that the link of a command that has ended has for what is still on its way; and those
that a command has to end after its link, until it is killed."""


class LinkObserver(Protocol):
    """Receives what operators count of links. Quick, in any thread, and never raises."""

    def link_returned(self, pid: int, seconds: float) -> None:
        """A worker has continued its session, after so many seconds in which nothing came."""

    def lease_lost(self, pid: int) -> None:
        """A worker was without a link until its lease was over."""


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


class LinkedLauncher(ABC):
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

    @abstractmethod
    def check(self, resources: Resources) -> None:
        """As of a Launcher."""

    @abstractmethod
    def begin(self, ours: socket.socket, ticket: Ticket, resources: Resources | None) -> Begun:
        """Starts what will connect with this ticket. Raises OSError, and `ours` is closed then."""

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


def _is_readable(fd: int, timeout: float | None, *others: int) -> bool:
    """Waits for one of these descriptors; whether one was readable in time."""
    with selectors.DefaultSelector() as selector:
        for each in (fd, *others):
            selector.register(each, selectors.EVENT_READ)
        return bool(selector.select(timeout))
