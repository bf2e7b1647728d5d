"""The notices in the file: written by triggers, in the transaction of what they are about.

The triggers are those of the writing connection, and are there only once notices are opened: a
server that notifies nobody writes none.
"""

import sqlite3
import threading
from collections.abc import Callable, Collection
from typing import Any

from pullcord.engine.clock import Clock
from pullcord.engine.notices import KEPT, Notice, Paused
from pullcord.run.scope import Scope
from pullcord.run.state import RunState
from pullcord.stores.sqlite.readers import Readers
from pullcord.stores.sqlite.writer import Writer

_NOTE = """
insert into notice(tenant, owner, run_id, runnable, state, question, note_time, due_time)
values (new.tenant, new.owner, new.run_id, {values}, pullcord_now(), pullcord_now());
"""
# `ended` is set once, by whatever ends the run.
_ON_END = f"""
create temp trigger note_end after update of ended on main.run
when new.state = 3 and new.parent_run_id = ''
begin {_NOTE.format(values="new.runnable, new.run_state, 0")} end
"""
_ON_PAUSE = f"""
create temp trigger note_pause after update of question on main.run
when new.question > 0 and new.question <> old.question
begin {_NOTE.format(values=f"'', '{RunState.PAUSED}', new.question")} end
"""
_DUE = """
select n.number, n.tenant, n.owner, n.run_id, n.runnable, n.state, n.question, n.note_time, n.tries,
    n.question = 0 or exists (select 1 from run r where r.tenant = n.tenant and r.owner = n.owner
        and r.run_id = n.run_id and r.state in (1, 2) and r.question = n.question
        and r.stop is null)
from notice n where n.due_time <= ? order by n.due_time limit ?
"""


class FileNotices:
    """Fills `Notices`. Who has claimed what is not written: the file belongs to one process."""

    def __init__(self, clock: Clock, writer: Writer, readers: Readers) -> None:
        self._clock = clock
        self._writer = writer
        self._readers = readers
        self._lock = threading.Lock()
        self._claimed: dict[int, float] = {}
        """Until when (monotonic)."""

    def open(self, paused: Callable[[], Collection[Paused]]) -> None:
        """From now on notices are kept; those of before stand, unless they are too old."""

        def job(db: sqlite3.Connection) -> None:
            db.create_function("pullcord_now", 0, self._clock.time)
            for trigger in (_ON_END, _ON_PAUSE):
                db.execute(trigger)
            db.execute("delete from notice where note_time < ?", (self._clock.time() - KEPT,))

        self._writer.ask(job)

    def claim(self, most: int, lease: float) -> list[Notice]:
        """At most so many that are due, the oldest first."""
        now, monotonic = self._clock.time(), self._clock.monotonic()
        with self._lock:
            self._claimed = {n: until for n, until in self._claimed.items() if until > monotonic}
            with self._readers.reading() as db:
                rows = db.execute(_DUE, (now, most + len(self._claimed))).fetchall()
            free = [row for row in rows if row[0] not in self._claimed][:most]
            self._claimed |= {row[0]: monotonic + lease for row in free}
        return [_notice(row, now) for row in free]

    def settle(self, notice: Notice, again: float | None) -> None:
        """It is over, or due again."""

        def job(db: sqlite3.Connection) -> None:
            if again is None:
                db.execute("delete from notice where number = ?", (notice.number,))
            else:
                due = self._clock.time() + again
                db.execute(
                    "update notice set due_time = ?, tries = ? where number = ?",
                    (due, notice.tries + 1, notice.number),
                )

        self._writer.ask(job)
        with self._lock:
            self._claimed.pop(notice.number, None)

    def pending(self) -> int:
        """How many are not settled."""
        with self._readers.reading() as db:
            (count,) = db.execute("select count(*) from notice").fetchone()
        return int(count)


def _notice(row: tuple[Any, ...], now: float) -> Notice:
    number, tenant, owner, run_id, runnable, state, question, note_time, tries, stands = row
    return Notice(
        number,
        Scope(tenant, owner),
        run_id,
        runnable,
        RunState(state),
        question,
        note_time,
        max(0.0, now - note_time),
        tries,
        bool(stands),
    )
