"""Erasing: deletes rows so that their words are not left in the file either.

Who may ask for it, and what keeps rows from being deleted, is not decided here. Copies that
somebody else has made of the file, such as backups, are not known here.
"""

import sqlite3
from collections.abc import Callable

from pullcord.run.record import MAX_NAMED, Erased, RunFilter
from pullcord.run.scope import Reach
from pullcord.stores.sqlite.reading import where
from pullcord.stores.sqlite.schema import ENDED, TOMBSTONE
from pullcord.stores.sqlite.writer import Writer

_ROWS = 64
"""Runs that are deleted in one transaction, which other askers wait for."""

OnGone = Callable[[int, int], None]
"""Called with how many runs are gone that counted towards the bounds, and with their bytes."""


def erase(
    writer: Writer, on_gone: OnGone, reach: Reach, matching: RunFilter, *, validate_only: bool
) -> Erased:
    """As the port says. What was deleted is overwritten, in the file and in its -wal."""
    meant, values = where(reach, matching)
    states = [ENDED, TOMBSTONE] if matching == RunFilter() else [ENDED]
    found = writer.ask(lambda db: _look(db, meant, values, states))
    if validate_only or not (found.runs or found.cancels):
        return found
    left = True
    while left:
        left = writer.ask(lambda db: _delete_some(db, on_gone, meant, values, states))
    writer.post(_overwrite, alone=True)
    writer.ask(lambda db: None)  # behind that
    return found


def _look(db: sqlite3.Connection, meant: str, values: list[str], states: list[int]) -> Erased:
    counts = dict(
        db.execute(f"select state, count(*) from run where true{meant} group by state", values)
    )
    live = db.execute(
        f"select run_id from run where state in (1, 2){meant} order by id limit ?",
        (*values, MAX_NAMED),
    ).fetchall()
    runs, cancels = (counts.get(state, 0) if state in states else 0 for state in (ENDED, TOMBSTONE))
    return Erased(runs, cancels, tuple(run_id for (run_id,) in live))


def _delete_some(
    db: sqlite3.Connection, on_gone: OnGone, meant: str, values: list[str], states: list[int]
) -> bool:
    """Whether there may be more."""
    of_state = ", ".join(map(str, states))
    db.execute("pragma secure_delete = on").fetchall()
    try:
        rows = db.execute(
            "select id, state = 3 and expire_time > 0, coalesce(nbytes, 0), tenant, owner, run_id"
            " from run"
            f" where state in ({of_state}){meant} limit ?",
            (*values, _ROWS),
        ).fetchall()
        for id, counted, nbytes, *key in rows:
            db.execute("delete from event where run = ?", (id,))
            db.execute("delete from notice where tenant = ? and owner = ? and run_id = ?", key)
            db.execute("delete from run where id = ?", (id,))
            if counted:
                on_gone(1, nbytes)
    finally:
        db.execute("pragma secure_delete = off").fetchall()
    return len(rows) == _ROWS


def _overwrite(db: sqlite3.Connection) -> None:
    db.execute("pragma incremental_vacuum").fetchall()
    db.execute("pragma wal_checkpoint(truncate)").fetchall()
