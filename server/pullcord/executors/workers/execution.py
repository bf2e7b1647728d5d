"""One run in a worker process, as the engine holds it.

It waits for a worker, is assigned to one, and is told of its death. How a worker is picked is the
pool's business; what a stop means is the engine's.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

from pullcord.engine.live.port import LivePort
from pullcord.link.values import Offer
from pullcord.run.cancel import Cancellation
from pullcord.run.port import Failure
from pullcord.run.state import IllegalTransition

if TYPE_CHECKING:
    from pullcord.executors.workers.connection import Connection
    from pullcord.executors.workers.pool import WorkerExecutor


KILL_AFTER = 0.025
"""Seconds that an isolated run has, after an interrupt, for its `finally` blocks."""


class RemoteExecution:
    """The code of one run, in a worker process or waiting for one. Any thread may call."""

    def __init__(
        self,
        pool: "WorkerExecutor",
        port: LivePort,
        offer: Offer,
        trace: dict[str, str],
        parent: "RemoteExecution | None",
    ) -> None:
        self._pool = pool
        self.port = port
        self.write = port.write
        """Adds a content delta of the run's own: the hot path."""
        self.offer = offer
        self.trace = trace
        self.parent = parent if isinstance(parent, RemoteExecution) else None
        self.number = 0
        """Of its assignment; 0: it has none."""
        self.connection: Connection | None = None
        self.assigned_at = 0.0
        """When it was given to its worker, by the monotonic clock."""
        self.reached = False
        """Whether its worker has come to it, and asked whether its code may begin."""
        self.begun = False
        """Whether the engine let its code begin: from then on it cannot move."""
        self.released = False
        """Whether its code is known to hold nothing any more."""
        self.counts = False
        """Whether it holds one of the threads that the pool counts."""
        self.ended = False
        self.rests = False
        """Whether its run waits on without it. What it still says is not heard."""
        self.is_leaving = False
        """Whether its run waits on elsewhere, and its code is being stopped."""
        self.is_abandoned = False
        """Whether its run has ended without it."""
        self.kind = pool.kind_of(offer)
        """Of the workers that it may be given to."""

    # --- what the engine calls

    @property
    def loop(self) -> None:
        """None: it is in another process."""
        return None

    def drop(self) -> bool:
        """Its worker, if it has one, finds out that it may not begin."""
        self._pool.post(self._drop)
        return False

    def stop(self, cancellation: Cancellation, grace_period: float | None) -> None:
        """Sends the stop."""
        self._pool.post(self._stop, cancellation, grace_period)

    @property
    def kill_after(self) -> float | None:
        """How long after an interrupt `kill` comes, in seconds; None: it shares its process."""
        return KILL_AFTER if self.kind.exclusive else None

    def kill(self) -> None:
        """Kills the process that the run has for itself."""
        self._pool.post(self._kill)

    def abandon(self) -> str:
        """The worker that harbours its code takes no new runs, and ends with its other runs."""
        self._pool.post(self._abandon)
        return ""

    # --- on the pool's loop

    def release(self) -> None:
        """Its code holds nothing any more."""
        if not self.released:
            self.released = True
            if self.counts:
                self._pool.count_out()
            self.port.released()

    def end(self, failure: Failure | None, left: str) -> None:
        """Its code has ended; `left` is what it has left at work, until it is released."""
        if not self.ended:
            self.ended = True
            if not left:
                self.release()
            self.port.ended(failure, left)

    def die(self, how: str) -> None:
        """The process that executed its code is dead; `how`, in words for callers. A run that waits
        for a decision may wait on without it."""
        if self.rest():
            return
        self.release()
        if not self.ended:
            self.ended = True
            self.port.died(how)

    def rest(self) -> bool:
        """Whether its run waits on without it; then it says nothing more about that."""
        if self.ended or not self.port.rest():
            return False
        self.ended = self.released = self.rests = True
        self.write = _drop
        if self.counts:
            self._pool.count_out()
        return True

    def move(self) -> bool:
        """It goes to another worker, which gets a port of its own; False if its run has ended."""
        self.connection = None
        self.number = 0
        self.reached = False
        with suppress(IllegalTransition):
            self.port = self.port.moved()
            self.write = self.port.write
            return True
        self.release()
        return False

    def _drop(self) -> None:
        if self.connection is None:
            self._pool.placing.forget(self)
            self.release()
        else:
            self.connection.drop(self)

    def _stop(self, cancellation: Cancellation, grace_period: float | None) -> None:
        if self.connection is not None:  # else it has not begun, and the engine does not let it
            self.connection.stop(self, cancellation, grace_period)

    def _kill(self) -> None:
        if self.connection is not None:
            self._pool.kill(self.connection, "it was stopped and did not end")

    def _abandon(self) -> None:
        self.is_abandoned = True
        if self.connection is not None:
            self._pool.retire(self.connection, "it harbours code that does not stop")


def _drop(text: str) -> None:
    """Nobody hears it."""
