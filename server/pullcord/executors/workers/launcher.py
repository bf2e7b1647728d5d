"""The port by which the pool gets its workers: a launcher starts them, and each can be killed and
tells when it is gone. What travels on a worker's socket, and when it is killed, is not known here.
"""

import socket
from typing import Protocol

from pullcord.run.killed import KilledProcess
from pullcord.run.resources import Resources


class CannotGive(Exception):
    """No worker of this launcher has such room; the message says what is too much."""


class Begun(Protocol):
    """What a launcher has started. The socket and the pipes do not block."""

    @property
    def pid(self) -> int:
        """The id of a process of this machine by which log lines and output name it."""

    @property
    def sock(self) -> socket.socket:
        """Frames in both directions. Of a worker elsewhere, its link is brought to the other
        end."""

    @property
    def stdout(self) -> int:
        """A pipe, what it writes there."""

    @property
    def stderr(self) -> int:
        """A pipe, what it writes there."""

    @property
    def exit_fd(self) -> int:
        """Readable once it is gone. Whatever it has said is in the socket by then."""

    def kill(self) -> list[KilledProcess]:
        """Kills it with all that it started; returns of that what is known. Never waits."""

    def died(self) -> str:
        """Once it is gone: how it ended, in words that follow "the worker process". Empty while
        that is not known yet; ask again."""

    def bury(self) -> None:
        """Frees what is left of it, aside; after `close`."""

    def close(self) -> None:
        """Closes its descriptors, once it is gone."""


class Worker(Begun, Protocol):
    """A worker, as the pool has it."""

    @property
    def has_come(self) -> bool:
        """Whether it is there. One that somebody else places may be long in coming."""

    @property
    def is_cut(self) -> bool:
        """Whether it is out of reach for now: it is given no runs, and its silence says nothing."""

    @property
    def stops_at_once(self) -> bool:
        """Whether nothing of it runs once `kill` has returned: what it has said is in the socket
        by then, though it is gone only later."""

    def resident(self) -> int:
        """Bytes of memory that it holds; 0 if that is not known."""

    def processor_time(self) -> float:
        """Seconds of processor time that it has used; 0 if that is not known."""


class Launcher(Protocol):
    """Starts workers."""

    may_wait: bool
    """Whether a worker may be long in coming, because the machines have no room for it now."""

    def open(self) -> None:
        """Makes ready to start them."""

    def check(self, resources: Resources) -> None:
        """Raises CannotGive where no worker will ever have that room. Quick."""

    def start(self, resources: Resources | None = None) -> Worker:
        """Starts one, with this room. Blocks for some milliseconds, so not on an event loop.

        Raises OSError if the system gives no more processes or descriptors.
        """

    def close(self) -> None:
        """Once all are gone: frees what it holds. May block for a moment."""
