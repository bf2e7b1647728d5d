"""The registry of cancels in one process: who owns which run, and the cancels that came too early.

One lock guards both, so that a cancel and the run it is meant for cannot miss each other. What a
cancel does to a run is the run's own business.
"""

import threading
from collections import OrderedDict

from pullcord.engine.clock import Clock
from pullcord.engine.ports import CancelRequest, Deliver
from pullcord.run.cancel import Cancellation, CancelOutcome
from pullcord.run.errors import ServerBusy
from pullcord.run.record import Receipt


class MemoryRegistry:
    """A CancelRegistry of this process alone."""

    blocking = False

    def __init__(self, clock: Clock, tombstone_ttl: float, max_tombstones: int) -> None:
        self._clock = clock
        self._ttl = tombstone_ttl
        self._limit = max_tombstones
        self._lock = threading.Lock()
        self._owners: dict[str, Deliver] = {}
        self._tombstones: OrderedDict[str, tuple[float, Cancellation]] = OrderedDict()

    def claim(self, run_id: str, deliver: Deliver) -> Cancellation | None:
        """From now on this run's cancels go to `deliver`; returns one that came before its run."""
        with self._lock:
            self._expire()
            self._owners[run_id] = deliver
            tombstone = self._tombstones.pop(run_id, None)
        return tombstone[1] if tombstone else None

    def release(self, run_id: str) -> None:
        """The run has ended, and its store has it."""
        with self._lock:
            self._owners.pop(run_id, None)

    def request(self, run_id: str, request: CancelRequest) -> Receipt | None:
        """Delivers; the run's receipt, or None where nobody claims the run."""
        with self._lock:
            deliver = self._owners.get(run_id)
        return None if deliver is None else deliver(request)

    def record(self, run_id: str, request: CancelRequest) -> Receipt:
        """Delivers, or else keeps the cancel for the run to come; the first one kept stands."""
        with self._lock:
            self._expire()
            deliver = self._owners.get(run_id)
            if deliver is None:
                if run_id not in self._tombstones:
                    if len(self._tombstones) >= self._limit:
                        raise ServerBusy(f"{self._limit} cancels wait for runs that have not come")
                    self._tombstones[run_id] = (
                        self._clock.monotonic() + self._ttl,
                        request.cancellation,
                    )
                standing = self._tombstones[run_id][1]
                return Receipt(CancelOutcome.RECORDED, accept_time=standing.accept_time)
        return deliver(request)

    def __len__(self) -> int:
        """Claims and tombstones together."""
        with self._lock:
            self._expire()
            return len(self._owners) + len(self._tombstones)

    def _expire(self) -> None:
        now = self._clock.monotonic()
        while self._tombstones:
            run_id, (expires, _) = next(iter(self._tombstones.items()))
            if expires > now:
                return
            del self._tombstones[run_id]
