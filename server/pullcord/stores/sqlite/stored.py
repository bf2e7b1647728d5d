"""The form that runs and events have in the tables. Which rows there are is not known here."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from pullcord.engine.log.record import Record
from pullcord.engine.ports import CancelRequest, Finish
from pullcord.stores.rows import (
    EventRow,
    digest_of,
    event_row,
    record_of,
    run_bytes,
    spec_bytes,
    stop_bytes,
    stored_run,
)

_OVERHEAD = 2048
"""Bytes that an ended run takes beside its events, its spec and its result, roughly."""
_ROWS = 64
"""Events that one statement inserts. Each statement lets other threads have the interpreter once,
which may take as long as they like to compute."""


class Stored:
    """An ended run as it is stored, made ready in the thread that asks."""

    def __init__(self, end: Finish) -> None:
        ended = end.ended
        self._end = end
        self.spec = spec_bytes(ended.spec)
        self.digest = digest_of(ended.spec)
        self.run = run_bytes(ended.run)
        self.create_time = stored_run(self.run).create_time  # as lists show it, and sort by it
        self.nbytes = end.log.nbytes + len(self.run) + len(self.spec) + _OVERHEAD
        self._rows = self._after(end.after)

    def events(self, last: int) -> list[EventRow]:
        """The events that come after one that the store has."""
        if last < self._end.after:
            return self._after(last)
        return [row for row in self._rows if row.sequence > last]

    def _after(self, last: int) -> list[EventRow]:
        return [event_row(self._end.ended.run.run_id, r) for r in self._end.log.records(last)]


def stop_columns(stop: CancelRequest | None) -> tuple[bytes | None, float | None]:
    """A stop and its grace period."""
    return (None, None) if stop is None else (stop_bytes(stop), stop.grace_period)


def records_of(db: sqlite3.Connection, run: int) -> list[Record]:
    """The events of a run, in order; those of a newer release are left out."""
    rows = db.execute(
        "select sequence, count, data, lengths from event where run = ? order by sequence", (run,)
    )
    records = (record_of(EventRow(*row)) for row in rows)
    return [record for record in records if record is not None]


def insert_events(db: sqlite3.Connection, rows: Sequence[tuple[int, EventRow]]) -> None:
    """Adds events, each to the run with this id."""
    whole = len(rows) - len(rows) % _ROWS
    for start in range(0, whole, _ROWS):
        db.execute(_INSERT_MANY, _values(rows[start : start + _ROWS]))
    for run, event in rows[whole:]:
        db.execute(_INSERT, (run, *event))


def _values(rows: Iterable[tuple[int, EventRow]]) -> list[Any]:
    values: list[Any] = []
    for run, event in rows:
        values += (run, *event)
    return values


_INSERT = "insert into event values (?, ?, ?, ?, ?)"
_INSERT_MANY = _INSERT + ", (?, ?, ?, ?, ?)" * (_ROWS - 1)
