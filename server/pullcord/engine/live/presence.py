"""The watchers of a run, and what its disconnect policy does once there is none.

It counts watchers and keeps the lease. How a run is stopped is the live run's business.
"""

import threading
from collections.abc import Callable
from weakref import WeakMethod

from pullcord.engine.clock import Clock, Timer
from pullcord.run.record import DisconnectPolicy


class Presence:
    """The watchers of one run. Every method may be called from any thread."""

    def __init__(
        self,
        policy: DisconnectPolicy,
        seconds: float,
        clock: Clock,
        on_alone: Callable[[str], None],
    ) -> None:
        """`seconds` is the lease; `on_alone` is called with the reason to stop, without a lock."""
        self._policy = policy
        self._seconds = seconds
        self._clock = clock
        self._on_alone = WeakMethod(on_alone)  # of the run that owns this
        self._lock = threading.Lock()
        self._over = False
        self._leases = 0
        self.watchers = 0
        """Those that follow the run now."""
        self.lease: Timer | None = None
        """Runs while nobody watches, under LEASE."""

    def come(self) -> None:
        """One more watches; while there is one, the policy rests."""
        with self._lock:
            self.watchers += 1
            self._drop_lease()

    def leave(self, *, comes_back: bool = False) -> None:
        """One less does. `comes_back`: the server made it leave, so even under CANCEL the run gets
        a lease."""
        with self._lock:
            self.watchers -= 1
            alone = self.watchers == 0 and not self._over
        if alone and self._policy is DisconnectPolicy.CANCEL and not comes_back:
            self._stop("its last watcher left")
        elif alone:
            self.start_lease(comes_back=comes_back)

    def start_lease(self, *, comes_back: bool = False) -> None:
        """Nobody watches: under LEASE, the time begins that the run may go on so."""
        with self._lock:
            rests = self.watchers or self.lease is not None or self._over
            if rests or self._policy is DisconnectPolicy.CONTINUE:
                return
            if self._policy is DisconnectPolicy.CANCEL and not comes_back:
                return
            self._leases += 1
            this = self._leases
            self.lease = self._clock.call_later(self._seconds, lambda: self._is_up(this))

    def end(self) -> None:
        """The run has ended: watchers may come and go."""
        with self._lock:
            self._over = True
            self._drop_lease()

    def _drop_lease(self) -> None:
        if self.lease is not None:
            self.lease.cancel()
            self.lease = None

    def _is_up(self, which: int) -> None:
        with self._lock:
            if self.lease is None or which != self._leases:
                return  # a watcher came while this timer fired
            self.lease = None
        self._stop("no watcher came back within the lease")

    def _stop(self, reason: str) -> None:
        if (on_alone := self._on_alone()) is not None:
            on_alone(reason)
