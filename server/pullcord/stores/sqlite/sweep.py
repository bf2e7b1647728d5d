"""Deletes expired rows in the background, a few at a time.

One timer is armed while anything can expire. Lookups check the time as well, so it does not matter
when the sweep comes.
"""

import sqlite3
import threading
from collections.abc import Callable

from pullcord.engine.clock import Clock, Timer
from pullcord.stores.sqlite.writer import Writer

_ROWS, _EVENTS = 16, 2000
"""What one transaction deletes: others wait for it."""
_EVERY = 1.0
"""Seconds between two sweeps, at least."""
_AGAIN = 30.0
"""Seconds until a sweep that failed is tried again."""
_PAGES = 256
"""Pages of the file that are given back to the system after a step."""


class Sweep:
    """Deletes expired rows of one file."""

    def __init__(self, clock: Clock, on_gone: Callable[[int, int], None]) -> None:
        """`on_gone` is called in the writing thread with how many ended runs are gone that had
        expired by themselves, and with the bytes that they took."""
        self._clock = clock
        self._on_gone = on_gone
        self._lock = threading.Lock()
        self._writer: Writer | None = None
        self._timer: Timer | None = None
        self._due = 0.0
        self._last = float("-inf")
        self._sweeping = False
        self.swept = 0
        """Rows that were deleted."""

    def begin(self, writer: Writer) -> None:
        """Looks what has expired while nobody had the file."""
        self._writer = writer
        self._start()

    def close(self) -> None:
        """No sweep begins any more."""
        with self._lock:
            self._writer = None
            if self._timer is not None:
                self._timer.cancel()

    def expires(self, when: float) -> None:
        """A row expires then."""
        with self._lock:
            if self._writer is None or self._sweeping:
                return  # it looks by itself, once it has swept
            due = max(when, self._last + _EVERY)
            if self._timer is not None:
                if self._due <= due:
                    return
                self._timer.cancel()
            self._due = due
            self._timer = self._clock.call_later(max(0.0, due - self._clock.time()), self._start)
            late = self._clock.time() >= due  # the clock may have gone on before it had the timer
            if late:
                self._timer.cancel()
        if late:
            self._start()

    def _start(self) -> None:
        with self._lock:
            writer, self._timer = self._writer, None
            if writer is None or self._sweeping:
                return
            self._sweeping = True
        writer.post(self._step)

    def _step(self, db: sqlite3.Connection) -> None:
        try:
            self._delete_some(db)
        except sqlite3.Error:
            with self._lock:
                self._sweeping = False
            self.expires(self._clock.time() + _AGAIN)
            raise

    def _delete_some(self, db: sqlite3.Connection) -> None:
        writer = self._writer
        if writer is None:
            return
        now = self._clock.time()
        rows = db.execute(
            "select id, state = 3 and expire_time > 0, nbytes from run where expire_time <= ?"
            " order by expire_time limit ?",
            (now, _ROWS),
        ).fetchall()
        left = _EVENTS
        for run, counted, nbytes in rows:
            gone = db.execute(
                "delete from event where run = ?1 and sequence in"
                " (select sequence from event where run = ?1 limit ?2)",
                (run, left),
            ).rowcount
            left -= gone
            if left <= 0:
                break
            db.execute("delete from run where id = ?", (run,))
            self.swept += 1
            if counted:
                self._on_gone(1, nbytes)
        if rows:
            writer.post(_give_back, alone=True)
            writer.post(self._step)
            return
        writer.post(_truncate, alone=True)
        (first,) = db.execute(
            "select min(expire_time) from run where expire_time is not null"
        ).fetchone()
        with self._lock:
            self._sweeping = False
            self._last = now
        if first is not None:
            self.expires(first)


def _give_back(db: sqlite3.Connection) -> None:
    db.execute(f"pragma incremental_vacuum({_PAGES})").fetchall()


def _truncate(db: sqlite3.Connection) -> None:
    db.execute("pragma wal_checkpoint(truncate)").fetchall()
