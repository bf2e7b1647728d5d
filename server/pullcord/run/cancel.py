"""Defines a cancel, and the token that carries it into a run's code.

The token is the one mechanism that stops a run: everything that can stop one sets it, everything
that can be stopped listens to it. Whether a run is cancelled, the engine decides.
"""

import itertools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from pullcord.run.errors import RunCancelledError

_log = logging.getLogger("pullcord.cancel")


Aside = Callable[[Callable[[], None]], None]
"""Calls a function in some other thread."""


class CancelMode(StrEnum):
    """The mode of a stop."""

    GRACEFUL = "graceful"
    """Interrupt models at once; let a tool call in flight finish, within the grace period."""
    IMMEDIATE = "immediate"
    """Interrupt everything at once."""


class CancelCause(StrEnum):
    """Why a run was stopped."""

    USER = "user"
    DEADLINE = "deadline"
    BUDGET = "budget"
    DISCONNECT = "disconnect"
    PARENT = "parent"
    SUPERSEDED = "superseded"
    SHUTDOWN = "shutdown"
    LOST = "lost"


class StopStage(StrEnum):
    """The last stage that a stop needed to end the run's code. In the order of severity."""

    ASK = "ask"
    """The token is set, and async code is cancelled where it awaits, unless it is critical."""
    INTERRUPT = "interrupt"
    """Critical parts are interrupted too, and sync code by an exception in its thread."""
    KILL = "kill"
    """The process that the run had for itself is killed."""
    ABANDON = "abandon"
    """The run ends without its code, which may still be at work."""


class CancelOutcome(StrEnum):
    """The state of a cancel when it was answered."""

    REQUESTED = "requested"
    """The run is stopping."""
    STOPPED = "stopped"
    """It has ended CANCELLED, by this request or an earlier one."""
    RECORDED = "recorded"
    """The run has not started yet; when it does, it ends CANCELLED without doing anything."""
    ALREADY_FINISHED = "already_finished"
    """It had completed or failed before; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Cancellation:
    """A stop that was accepted. The first one's cause, actor and reason stand."""

    cause: CancelCause = CancelCause.USER
    actor: str = ""
    reason: str = ""
    mode: CancelMode = CancelMode.GRACEFUL
    limit: str = ""
    """The limit that was reached, with cause BUDGET: a field of Limits, or one of the engine's own,
    `output_bytes`, `max_pending` or `max_pause`."""
    accept_time: float = 0.0
    """Seconds since the epoch."""
    claimed_actor: str = ""
    """The name that a verified actor claims, which nobody has checked; empty: none."""

    def hastened(self) -> "Cancellation":
        """The same stop, now IMMEDIATE."""
        return replace(self, mode=CancelMode.IMMEDIATE)

    def for_child(self) -> "Cancellation":
        """The same stop for a child run: cause PARENT, everything else unchanged."""
        return replace(self, cause=CancelCause.PARENT)


ELSEWHERE = Cancellation(
    CancelCause.SHUTDOWN, reason="the run goes on elsewhere", mode=CancelMode.IMMEDIATE
)
"""Delivered to code whose run waits on without it. The run itself is not stopped."""


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """A cancel as it is requested."""

    cancellation: Cancellation
    grace_period: float | None = None
    """Seconds; None: the engine's default."""

    def hastened_by(self, later: "CancelRequest") -> "CancelRequest":
        """The first one stands; a later one can only hasten it."""
        graces = [g for g in (self.grace_period, later.grace_period) if g is not None]
        cancellation = self.cancellation
        if later.cancellation.mode is CancelMode.IMMEDIATE:
            cancellation = cancellation.hastened()
        return CancelRequest(cancellation, min(graces, default=None))


class CancelToken:
    """Tells a run's code, in any thread, that it must stop.

    Tokens form a tree: cancelling one cancels its children, also those made later. It is set
    once; after that it can only be hastened from GRACEFUL to IMMEDIATE. Reading `cancelled` costs
    one attribute, so a tight loop can afford it.
    """

    __slots__ = (
        "_callbacks",
        "_cancellation",
        "_children",
        "_detach",
        "_event",
        "_ids",
        "_lock",
        "cancelled",
        "deadline",
    )

    def __init__(self, deadline: float | None = None) -> None:
        self.cancelled = False
        """Whether the run must stop. Once set, it stays set."""
        self.deadline = deadline
        """When the run will be stopped for lack of time, on time.monotonic's scale; None: never."""
        self._cancellation: Cancellation | None = None
        self._callbacks: dict[int, Callable[[Cancellation], None]] = {}
        self._children: set[CancelToken] = set()
        self._ids = itertools.count()
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._detach: Callable[[], None] | None = None

    @property
    def cancellation(self) -> Cancellation | None:
        """The stop that stands, if there is one."""
        return self._cancellation

    @property
    def cause(self) -> CancelCause | None:
        """Why the run must stop."""
        return self._cancellation.cause if self._cancellation else None

    @property
    def actor(self) -> str | None:
        """The actor that asked."""
        return self._cancellation.actor if self._cancellation else None

    @property
    def reason(self) -> str | None:
        """The asker's own words."""
        return self._cancellation.reason if self._cancellation else None

    @property
    def mode(self) -> CancelMode | None:
        """The mode of the stop."""
        return self._cancellation.mode if self._cancellation else None

    def time_remaining(self) -> float | None:
        """Seconds until the run will be stopped for lack of time, at least 0; None: it will not."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def wait(self, timeout: float | None = None) -> bool:
        """Blocks this thread until the run must stop, or for `timeout` seconds; True if it must."""
        return self._event.wait(timeout)

    def raise_if_cancelled(self) -> None:
        """Raises RunCancelledError if the run must stop."""
        if self.cancelled:
            raise RunCancelledError(self.reason or f"cancelled: {self.cause}")

    def cancel(self, cancellation: Cancellation, aside: Aside | None = None) -> bool:
        """Sets the token, or hastens it; True if that changed it.

        Child tokens are set before this returns. Callbacks run in this thread, unless `aside` runs
        them in another, for a canceller that must not wait for an author's code.
        """
        with self._lock:
            standing = self._cancellation
            if standing is None:
                self._cancellation = cancellation
            elif cancellation.mode is CancelMode.IMMEDIATE and standing.mode is CancelMode.GRACEFUL:
                self._cancellation = standing.hastened()
            else:
                return False
            standing = self._cancellation
            self.cancelled = True
            callbacks, children = list(self._callbacks.values()), list(self._children)
        self._event.set()
        for child in children:
            child.cancel(standing.for_child(), aside)
        if callbacks and aside is not None:
            aside(lambda: _call_all(callbacks, standing))
        else:
            _call_all(callbacks, standing)
        return True

    def on_cancel(self, callback: Callable[[Cancellation], None]) -> Callable[[], None]:
        """Calls back when the token is set, and again if it is hastened.

        Returns a function that unsubscribes.

        If the token is set already, the callback is called at once, in this thread. Otherwise it is
        called in one of a few threads that all runs share: it must be quick. One that still runs
        when the run's code has ended delays the run's end for a moment; it is then interrupted,
        and reported if it ignores that. Exceptions that it raises are logged.
        """
        with self._lock:
            key = next(self._ids)
            self._callbacks[key] = callback
            standing = self._cancellation
        if standing is not None:
            _call(callback, standing)
        return lambda: self._forget(key)

    def child(self) -> "CancelToken":
        """A token for a child run; it is cancelled with this one, cause PARENT, or before."""
        child = CancelToken(self.deadline)
        child._detach = lambda: self._leave(child)
        with self._lock:
            self._children.add(child)
            standing = self._cancellation
        if standing is not None:
            child.cancel(standing.for_child())
        return child

    def detach(self) -> None:
        """Leaves the tree: the code that used this token has ended."""
        if self._detach is not None:
            self._detach()
            self._detach = None

    def _forget(self, key: int) -> None:
        with self._lock:
            self._callbacks.pop(key, None)

    def _leave(self, child: "CancelToken") -> None:
        with self._lock:
            self._children.discard(child)


def _call_all(callbacks: list[Callable[[Cancellation], None]], cancellation: Cancellation) -> None:
    for callback in callbacks:
        _call(callback, cancellation)


def _call(callback: Callable[[Cancellation], None], cancellation: Cancellation) -> None:
    try:
        callback(cancellation)
    except (Exception, SystemExit, KeyboardInterrupt):
        _log.exception("a cancel callback raised; the others were still called")
