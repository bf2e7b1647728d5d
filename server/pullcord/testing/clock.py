"""A clock that stands still until a test moves it: no thread, and never the real time."""

import heapq
import itertools
import threading
from collections.abc import Callable


class _Entry:
    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """A Clock moved by hand. Due timers fire in the thread that moves it."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._start = now
        self._now = now
        self._heap: list[tuple[float, int, _Entry]] = []
        self._ids = itertools.count()
        self._changed = threading.Condition(threading.Lock())
        self._closed = False

    def time(self) -> float:
        """Seconds since the epoch."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since this clock was made, and 1000 more, so that zero can mean "never"."""
        return self._now - self._start + 1000.0

    def call_later(self, delay: float, callback: Callable[[], None]) -> _Entry:
        """Calls back when the clock has been moved that far, also where `delay` is 0."""
        entry = _Entry(callback)
        with self._changed:
            if not self._closed:
                heapq.heappush(self._heap, (self._now + delay, next(self._ids), entry))
                self._changed.notify_all()
        return entry

    def advance(self, seconds: float = 0.0) -> int:
        """Moves the clock; calls back what comes due, in order; returns how many that were.

        A callback finds the time for which it was asked. What it asks for in turn fires too, if
        it comes due within the same move.
        """
        target = self._now + seconds
        fired = 0
        while True:
            with self._changed:
                if not self._heap or self._heap[0][0] > target:
                    self._now = max(self._now, target)
                    return fired
                when, _, entry = heapq.heappop(self._heap)
                self._now = max(self._now, when)
                callback, entry.callback = entry.callback, None
            if callback is not None:
                callback()
                fired += 1

    def timers(self) -> list[float]:
        """In how many seconds each timer is due that was not taken back."""
        with self._changed:
            return self._due()

    def pending(self) -> int:
        """The number of timers that will fire unless they are cancelled."""
        return len(self.timers())

    def wait_for_timer(self, within: float = 0.0, timeout: float = 10.0) -> None:
        """Blocks until some thread has asked for a timer that is due within so many seconds.

        Raises:
            TimeoutError: nobody did, for `timeout` real seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: any(d <= within for d in self._due()), timeout):
                raise TimeoutError(f"no timer within {within} s: {self._due()}")

    def close(self) -> None:
        """No timer fires after this."""
        with self._changed:
            self._closed = True
            self._heap.clear()

    def _due(self) -> list[float]:
        return sorted(when - self._now for when, _, e in self._heap if e.callback is not None)
