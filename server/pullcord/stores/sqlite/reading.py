"""Reads ended runs: one, its events, pages of many, and a session's history.

Nothing is changed here. Which connection reads is `readers`' business.
"""

import json
from weakref import WeakValueDictionary

from pullcord.engine.clock import Clock
from pullcord.engine.log.log import EventLog
from pullcord.engine.ports import Age, EndedRun, Scope
from pullcord.run.record import Run, RunFilter
from pullcord.run.scope import Reach
from pullcord.stores.fold import ended_log
from pullcord.stores.rows import stored_run
from pullcord.stores.sqlite.readers import Readers
from pullcord.stores.sqlite.schema import ENDED
from pullcord.stores.sqlite.stored import records_of
from pullcord.stores.sqlite.tables import Rows

_PAGE = 200
"""Rows that a page looks at between two transactions."""


class Reading:
    """The verbs of one store that only read. Any thread may call."""

    def __init__(self, clock: Clock, rows: Rows, readers: Readers) -> None:
        self._clock = clock
        self._rows = rows
        self._readers = readers
        self._logs: WeakValueDictionary[tuple[int, int], EventLog] = WeakValueDictionary()
        """Logs that are being read: those who read the same run share one."""

    def find(self, scope: Scope, run_id: str) -> EndedRun | None:
        """The ended run of this run_id."""
        with self._readers.reading() as db:
            row = self._rows.find(db, (*scope, run_id), "1")
            return self._rows.ended(db, row[0]) if row is not None and row[1] == ENDED else None

    def log(self, scope: Scope, run_id: str) -> tuple[EndedRun, EventLog] | None:
        """Reads an ended run with its events."""
        with self._readers.reading() as db:
            row = self._rows.find(db, (*scope, run_id), "ended")
            if row is None or row[1] != ENDED:
                return None
            id, _, numbered = row
            ended = self._rows.ended(db, id)
            log = self._logs.get((id, numbered))
            if log is None:
                log = ended_log(ended, records_of(db, id))
        return ended, self._logs.setdefault((id, numbered), log)

    def owners(self, reach: Reach, run_id: str) -> list[Scope]:
        """The scopes within reach that have a run of this id."""
        with self._readers.reading() as db:
            rows = db.execute(
                "select tenant, owner from run where run_id = ? and state <> 0"
                " and (expire_time is null or expire_time > ?)",
                (run_id, self._clock.time()),
            ).fetchall()
        return [scope for row in rows if reach.covers(scope := Scope(*row))]

    def page(self, reach: Reach, matching: RunFilter, before: Age | None, size: int) -> list[Run]:
        """At most `size` ended runs within reach that match, the newest first."""
        found: list[Run] = []
        place = before
        meant, values = where(reach, matching)
        while len(found) < size:
            after = "" if place is None else " and (create_time, run_id, tenant, owner) < (?,?,?,?)"
            with self._readers.reading() as db:
                rows = db.execute(
                    "select create_time, run_id, tenant, owner, labels, run from run"
                    f" where state = 3 and expire_time > ?{meant}{after} order by create_time desc,"
                    " run_id desc, tenant desc, owner desc limit ?",
                    (self._clock.time(), *values, *(place or ()), min(_PAGE, size)),
                ).fetchall()
            for *_, labels, run in rows:
                has = json.loads(labels) if matching.labels else {}
                if all(has.get(key) == value for key, value in matching.labels.items()):
                    found.append(stored_run(run))
            if len(rows) < min(_PAGE, size):
                break
            place = rows[-1][:4]
        return found[:size]

    def history(
        self, scope: Scope, session_id: str, user_id: str, runnable: str, limit: int
    ) -> list[Run]:
        """The last `limit` runs of one runnable in a user's session, in the order they ended."""
        with self._readers.reading() as db:
            rows = db.execute(
                "select run from run where state = 3 and session_id <> '' and tenant = ? and"
                " owner = ? and session_id = ? and user_id = ? and runnable = ? and expire_time > ?"
                " order by ended desc limit ?",
                (*scope, session_id, user_id, runnable, self._clock.time(), limit),
            ).fetchall()
        return [stored_run(run) for (run,) in reversed(rows)]


def where(reach: Reach, matching: RunFilter) -> tuple[str, list[str]]:
    """The conditions of a page, apart from labels, and their values."""
    wanted = {
        "tenant": reach.tenant,
        "owner": reach.owner,
        "session_id": matching.session_id,
        "user_id": matching.user_id,
        "runnable": matching.runnable,
        "parent_run_id": matching.parent_run_id,
    }
    given = {column: value for column, value in wanted.items() if value}
    clauses = [f" and {column} = ?" for column in given]
    values = list(given.values())
    if matching.states:
        clauses.append(f" and run_state in ({', '.join('?' * len(matching.states))})")
        values += matching.states
    return "".join(clauses), values
