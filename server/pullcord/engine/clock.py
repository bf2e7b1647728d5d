"""Time: what it is, and calling back later. One thread for all timers of an engine.

Timers have a thread of their own because a deadline must fire whatever a run does to its thread
or its event loop. Callbacks are ours, quick, and never an author's code.
"""

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

_log = logging.getLogger("pullcord.clock")

_COMPACT_AT = 128
"""Timers, cancelled ones included, from which on the cancelled ones are taken out."""


class Timer(Protocol):
    """A call that will come."""

    def cancel(self) -> None:
        """It does not come any more, unless it is under way. May be called more than once."""


class Clock(Protocol):
    """Tells the time, and calls back at later times; `pullcord.testing` has one moved by hand."""

    def time(self) -> float:
        """Seconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds on a scale that never goes back."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Calls back once, `delay` seconds from now, in a thread of the clock's."""

    def pending(self) -> int:
        """The number of timers that will fire unless they are cancelled."""

    def close(self) -> None:
        """No timer fires after this."""


class _Entry:
    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ThreadClock:
    """The real clock. Its thread starts with the first timer."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._heap: list[tuple[float, int, _Entry]] = []
        self._ids = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._compact_at = _COMPACT_AT

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds on time.monotonic's scale."""
        return time.monotonic()

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Calls back once, in the clock's thread."""
        entry = _Entry(time.monotonic() + delay, callback)
        with self._condition:
            if self._closed:
                entry.cancel()
                return entry
            heapq.heappush(self._heap, (entry.when, next(self._ids), entry))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="pullcord-clock", daemon=True
                )
                self._thread.start()
            elif self._heap[0][2] is entry:
                self._condition.notify()
            if len(self._heap) >= self._compact_at:
                self._compact()
        return entry

    def pending(self) -> int:
        """The number of timers that will fire unless they are cancelled."""
        with self._condition:
            return sum(item[2].callback is not None for item in self._heap)

    def close(self) -> None:
        """Ends the thread; no timer fires after this."""
        with self._condition:
            self._closed = True
            self._heap.clear()
            self._condition.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _compact(self) -> None:
        # Cancelled entries stay in the heap until due; long timeouts of short runs would pile up.
        self._heap = [item for item in self._heap if item[2].callback is not None]
        heapq.heapify(self._heap)
        self._compact_at = max(_COMPACT_AT, 2 * len(self._heap))

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._closed:
                    wait = self._heap[0][0] - time.monotonic() if self._heap else None
                    if wait is not None and wait <= 0:
                        break
                    self._condition.wait(wait)
                if self._closed:
                    return
                entry = heapq.heappop(self._heap)[2]
            callback = entry.callback
            if callback is None:
                continue
            entry.cancel()  # who keeps a timer that has fired does not keep what it called
            try:
                callback()
            except Exception:
                _log.exception("a timer's callback raised; the other timers go on")
            del entry, callback  # or this thread, waiting, would keep the last run alive
