"""Counts the runs that take up room: from admission until none of their code is at work."""

import threading

from pullcord.run.errors import Draining, ServerBusy


class Capacity:
    """The room for runs in one engine. Any thread may call."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.RLock()  # a finalizer may end a run within any step
        self._draining = False
        self.occupied = 0
        """Runs that hold capacity: live ones, and abandoned ones still at work."""

    @property
    def is_draining(self) -> bool:
        """Whether there is room for children only."""
        return self._draining

    def drain(self) -> None:
        """There is no room from now on, except for children."""
        with self._lock:
            self._draining = True

    def take(self, *, for_child: bool) -> None:
        """Room for one more run. A child always gets it: what was admitted may do its work.

        Raises:
            Draining, ServerBusy.
        """
        with self._lock:
            if not for_child and self._draining:
                raise Draining()
            if not for_child and self.occupied >= self._limit:
                raise ServerBusy(f"{self._limit} runs are live")
            self.occupied += 1

    def release(self) -> None:
        """No code of one run is at work any more."""
        with self._lock:
            self.occupied -= 1
