"""The verbs of a RunStore on one file. Each that changes something is one job of the writer's.

What is done to rows is `tables`', what is read of ended ones `reading`'s; how an asker waits for
the disk is `writer`'s.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pullcord.engine.clock import Clock
from pullcord.engine.live.question import digest
from pullcord.engine.log.log import EventLog
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import (
    DEFAULT_TERMS,
    Admitted,
    Age,
    AlreadyLive,
    CancelRequest,
    EndedRun,
    Entry,
    Finish,
    OnLost,
    Recorded,
    Scope,
    Spent,
    StoreSize,
    Terms,
    Waiting,
    Written,
    unheard,
)
from pullcord.engine.shares import hour_of
from pullcord.engine.sharing import Asked
from pullcord.run.cancel import CancelCause, Cancellation
from pullcord.run.record import DisconnectPolicy, Erased, Run, RunFilter, RunSpec
from pullcord.run.scope import Reach
from pullcord.run.state import RunState
from pullcord.stores.fold import Left, carried, lost, trees
from pullcord.stores.rows import (
    EventRow,
    digest_of,
    event_row,
    pause_columns,
    pause_of,
    run_bytes,
    spec_bytes,
    spec_of,
    stop_of,
    stored_run,
)
from pullcord.stores.sqlite import shares
from pullcord.stores.sqlite.erasing import erase
from pullcord.stores.sqlite.files import Held
from pullcord.stores.sqlite.notices import FileNotices
from pullcord.stores.sqlite.readers import Readers
from pullcord.stores.sqlite.reading import Reading
from pullcord.stores.sqlite.schema import BEGUN, ENDED, TOMBSTONE, open_for_writing
from pullcord.stores.sqlite.stored import Stored, insert_events, records_of, stop_columns
from pullcord.stores.sqlite.sweep import Sweep
from pullcord.stores.sqlite.tables import Rows
from pullcord.stores.sqlite.writer import Writer

_LONG = 30.0
"""Seconds that the journal and the completer wait: their writes are large, and come again."""
_LOST_AT_ONCE = 8
"""Lost runs that are ended in one transaction, which other askers wait for."""
_CARRIED = "continuation is not null and stop is null"
"""A run that waits for a decision, and can go on anywhere if nothing came after its pause."""


class SqliteStore:
    """A RunStore in a file of SQLite's. Makes the file; one process at a time has it."""

    blocking = True
    durable = True
    sharing = None

    def __init__(self, clock: Clock, options: EngineOptions, path: Path) -> None:
        """Raises StoreRefused, in words for the operator."""
        self._clock = clock
        self._options = options
        self._held = Held(path)
        try:
            connection = open_for_writing(path)
            self._rows = Rows(clock, options, connection)
        except BaseException:
            self._held.let_go()
            raise
        self._sweep = Sweep(clock, self._rows.gone)
        self._writer = Writer(
            connection, self._committed, lambda: self._rows.rolled_back(connection)
        )
        self._readers = Readers(path)
        self._reading = Reading(clock, self._rows, self._readers)
        self.notices = FileNotices(clock, self._writer, self._readers)
        self._sweep.begin(self._writer)

    @property
    def swept(self) -> int:
        """Rows that the sweep has deleted."""
        return self._sweep.swept

    # --- live runs

    def admit(
        self, scope: Scope, spec: RunSpec, terms: Terms = DEFAULT_TERMS
    ) -> Admitted | AlreadyLive | EndedRun:
        """Makes a live row, or returns what the row is already."""
        digest, data = digest_of(spec), spec_bytes(spec)
        return self._writer.ask(lambda db: self._rows.admit(db, scope, spec, terms, digest, data))

    def withdraw(self, scope: Scope, run_id: str) -> None:
        """Deletes the live row of a run that was refused; a tombstone that it took is back."""
        key = (*scope, run_id)

        def job(db: sqlite3.Connection) -> None:
            row = self._rows.mine(db, key)
            if row is None:
                return
            del self._rows.live[key]
            db.execute("delete from event where run = ?", (row.id,))
            back = "update run set state = ?, expire_time = stop_expire_time, incarnation = null"
            where = " where id = ? and stop_expire_time is not null returning expire_time"
            expires = db.execute(back + where, (TOMBSTONE, row.id)).fetchone()
            if expires is None:
                db.execute("delete from run where id = ?", (row.id,))
            else:
                self._rows.expiring.append(expires[0])

        self._writer.ask(job)

    def begin(self, scope: Scope, run_id: str) -> CancelRequest | None:
        """Nobody takes the run over any more; the stop that came meanwhile."""
        key = (*scope, run_id)

        def job(db: sqlite3.Connection) -> CancelRequest | None:
            row = self._rows.mine(db, key)
            if row is None:
                gone = Cancellation(CancelCause.LOST, reason="the run is not here any more")
                return CancelRequest(gone)
            if row.stop is None:
                db.execute("update run set state = ? where id = ?", (BEGUN, row.id))
            return row.stop

        return self._writer.ask(job)

    def go_on(self, scope: Scope, run_id: str, asked: Asked) -> bool:
        """Nobody else decides, and no process to come takes the run up."""
        decided = (asked.question, digest(asked.decisions))

        def job(db: sqlite3.Connection) -> bool:
            row = self._rows.mine(db, (*scope, run_id))
            if row is None or row.stop is not None:
                return False
            (question,) = db.execute("select question from run where id = ?", (row.id,)).fetchone()
            if question != asked.question:
                return False
            if row.decided[0] != question:
                row.decided = decided
                db.execute(
                    "update run set continuation = null, paused = null where id = ?", (row.id,)
                )
            return row.decided == decided

        return self._writer.ask(job)

    def write(self, entries: Sequence[Entry]) -> list[Written | None]:
        """Appends what live runs have made, and reserves numbers."""
        made = [
            (entry, [event_row(entry.spec.run_id, record) for record in entry.records])
            for entry in entries
        ]

        def job(db: sqlite3.Connection) -> list[Written | None]:
            rows: list[tuple[int, EventRow]] = []
            answers = [self._write(db, entry, events, rows) for entry, events in made]
            insert_events(db, rows)
            return answers

        return self._writer.ask(job, _LONG)

    def _write(
        self,
        db: sqlite3.Connection,
        entry: Entry,
        events: list[EventRow],
        rows: list[tuple[int, EventRow]],
    ) -> Written | None:
        key = (*entry.scope, entry.spec.run_id)
        if entry.opens is not None and self._rows.find(db, key, "1") is None:
            data = spec_bytes(entry.spec)
            self._rows.admit(db, entry.scope, entry.spec, entry.opens, digest_of(entry.spec), data)
        row = self._rows.mine(db, key)
        if row is None:
            return None
        if entry.base is not None:
            db.execute("delete from event where run = ?", (row.id,))
            db.execute(
                "update run set base = ?, base_sequence = ? where id = ?",
                (run_bytes(entry.base), entry.after, row.id),
            )
            row.last = entry.after
        if entry.after <= row.last:
            for event in events:
                if event.sequence > row.last:
                    rows.append((row.id, event))
                    row.last = event.sequence
            if (pause := pause_columns(entry)) is not None:
                db.execute(
                    "update run set question = ?, continuation = ?, paused = ?, paused_at = ?"
                    " where id = ?",
                    (*pause[:3], self._clock.time(), row.id),
                )
            if entry.reserve > row.reserved:
                row.reserved = entry.reserve
                db.execute("update run set reserved = ? where id = ?", (row.reserved, row.id))
        return Written(row.last, row.reserved, row.stop)

    def request_stop(
        self,
        scope: Scope,
        run_id: str,
        request: CancelRequest,
        *,
        before_start: bool,
        most_early: int | None = None,
    ) -> Recorded | EndedRun | None:
        """Records a stop for a live run, or before a run that has not come."""
        key = (*scope, run_id)

        def job(db: sqlite3.Connection) -> Recorded | EndedRun | None:
            row = self._rows.find(db, key, "stop, grace")
            if row is None:
                if not before_start:
                    return None
                return self._rows.bury(db, key, request, most_early)
            run, state, stopped, grace = row
            if state == ENDED:
                return self._rows.ended(db, run)
            stop = request
            if stopped is not None:
                stop = stop_of(stopped, grace).hastened_by(request)
            db.execute(
                "update run set stop = ?, grace = ? where id = ?", (*stop_columns(stop), run)
            )
            if (live := self._rows.live.get(key)) is not None:
                live.stop = stop
            return Recorded(stop, before_start=state == TOMBSTONE)

        return self._writer.ask(job)

    # --- ends

    def finish(self, ends: Sequence[Finish]) -> list[Cancellation | None]:
        """Keeps ended runs; returns the stops that stand against an end."""
        made = [(end, Stored(end)) for end in ends]

        def job(db: sqlite3.Connection) -> list[Cancellation | None]:
            answers = [self._finish(db, end, stored) for end, stored in made]
            self._rows.make_room(db)
            return answers

        return self._writer.ask(job, _LONG)

    def _finish(self, db: sqlite3.Connection, end: Finish, stored: Stored) -> Cancellation | None:
        run = end.ended.run
        key = (*end.scope, run.run_id)
        found = self._rows.find(db, key, "stop, grace, base_sequence")
        last = 0
        if found is None:
            id = self._rows.insert_ended(db, key, stored)
        else:
            id, state, stopped, grace, base = found
            if state == ENDED:
                return None
            is_live = state != TOMBSTONE
            if is_live and stopped is not None and run.state is not RunState.CANCELLED:
                return stop_of(stopped, grace).cancellation
            row = self._rows.mine(db, key)
            last = 0 if row is None else row.last
            if base >= end.log.first_sequence():  # the log keeps what had to be dropped here
                db.execute("delete from event where run = ?", (id,))
                last = 0
            first = end.log.first_sequence()
            db.execute("delete from event where run = ? and sequence < ?", (id, first))
        self._rows.end(db, id, stored, end.ended)
        self._rows.live.pop(key, None)
        insert_events(db, [(id, event) for event in stored.events(last)])
        return None

    # --- after a restart

    def recover(self, on_lost: OnLost = unheard) -> Sequence[Waiting]:
        """Ends the runs of earlier processes, and takes over those that had not begun."""
        taken = self._writer.ask(self._take_over, _LONG)
        ids = {(one.scope, one.spec.run_id): id for id, one in taken}
        with self._readers.reading() as db:
            found = [self._with_pause(db, one, id) for id, one in taken]
        waiting, _ = trees(one for one in found if one is not None)
        for root in waiting:
            for one in root.whole():
                del ids[one.scope, one.spec.run_id]
        if ids:
            self._writer.ask(lambda db: _give_up(db, list(ids.values())))
        self._writer.ask(lambda db: _stop_children(db, self._rows.me), _LONG)
        while lost_now := self._lose_some():
            for run in lost_now:
                on_lost(run)
        return waiting

    def _lose_some(self) -> list[Run]:
        """Ends some runs that had begun, or that were stopped before they had."""
        with self._readers.reading() as db:
            rows = db.execute(
                "select id, tenant, owner, run_id from run where state in (1, 2) and"
                f" incarnation < ? and (state = 2 or stop is not null) and not ({_CARRIED})"
                " limit ?",
                (self._rows.me, _LOST_AT_ONCE),
            ).fetchall()
            ends = []
            for id, *key in rows:
                left = self._left(db, id, Scope(*key[:2]))
                now, options = self._clock.time(), self._options
                ended, record = lost(left, now, options)
                log = EventLog.of([*left.records, record])
                ends.append((id, ended, Stored(Finish(left.scope, ended, log)), record))

        def job(db: sqlite3.Connection) -> None:
            for id, ended, stored, record in ends:
                self._rows.end(db, id, stored, ended)
                insert_events(db, [(id, event_row(ended.run.run_id, record))])
            self._rows.make_room(db)

        if ends:
            self._writer.ask(job, _LONG)
        return [ended.run for _, ended, _, _ in ends]

    def _left(self, db: sqlite3.Connection, id: int, scope: Scope) -> Left:
        row = db.execute(
            "select spec, policy, deadline, parent_run_id, create_time, state, reserved, base,"
            " stop, grace from run where id = ?",
            (id,),
        ).fetchone()
        spec, policy, deadline, parent, create_time, state, reserved, base, stop, grace = row
        return Left(
            scope,
            spec_of(spec),
            Terms(DisconnectPolicy(policy), deadline, parent),
            create_time,
            state == BEGUN,
            reserved,
            records_of(db, id),
            stored_run(base) if base is not None else None,
            stop_of(stop, grace) if stop is not None else None,
        )

    def _with_pause(self, db: sqlite3.Connection, one: Waiting, id: int) -> Waiting | None:
        """A run that was taken over, with its pause; None: something came after that, or it is of a
        newer release."""
        row = db.execute(
            "select paused_at, question, continuation, paused from run where id = ?", (id,)
        ).fetchone()
        pause = pause_of(*row[1:])
        if pause is None:
            return one
        elapsed = self._clock.time() - row[0]
        found = carried(self._left(db, id, one.scope), pause, elapsed)
        return None if found is None else replace(one, carried=found)

    def _take_over(self, db: sqlite3.Connection) -> list[tuple[int, Waiting]]:
        rows = db.execute(
            "update run set incarnation = ?1 where incarnation < ?1 and stop is null and (state = 1"
            f" or (state = 2 and {_CARRIED})) returning id, tenant, owner, spec, policy, deadline,"
            " parent_run_id, reserved, create_time",
            (self._rows.me,),
        ).fetchall()
        return [
            (
                id,
                Waiting(
                    Scope(tenant, owner),
                    spec_of(spec),
                    Terms(DisconnectPolicy(policy), deadline, parent, begins=False),
                    reserved,
                    create_time,
                ),
            )
            for id, tenant, owner, spec, policy, deadline, parent, reserved, create_time in sorted(
                rows
            )
        ]

    # --- reading

    def find(self, scope: Scope, run_id: str) -> EndedRun | None:
        """The ended run of this run_id."""
        return self._reading.find(scope, run_id)

    def log(self, scope: Scope, run_id: str) -> tuple[EndedRun, EventLog] | None:
        """The same with its events."""
        return self._reading.log(scope, run_id)

    def owners(self, reach: Reach, run_id: str) -> list[Scope]:
        """The scopes within reach that have a run of this id."""
        return self._reading.owners(reach, run_id)

    def page(self, reach: Reach, matching: RunFilter, before: Age | None, size: int) -> list[Run]:
        """At most `size` ended runs within reach that match, the newest first."""
        return self._reading.page(reach, matching, before, size)

    def history(
        self, scope: Scope, session_id: str, user_id: str, runnable: str, limit: int
    ) -> list[Run]:
        """The last `limit` runs of one runnable in a user's session, in the order they ended."""
        return self._reading.history(scope, session_id, user_id, runnable, limit)

    def erase(self, reach: Reach, matching: RunFilter, *, validate_only: bool) -> Erased:
        """As the port says; what was deleted is overwritten in the file."""
        return erase(self._writer, self._rows.gone, reach, matching, validate_only=validate_only)

    def size(self) -> StoreSize:
        """What the store holds, expired rows not counted."""

        def job(db: sqlite3.Connection) -> StoreSize:
            (live,) = db.execute("select count(*) from run where state in (1, 2)").fetchone()
            ended, nbytes = db.execute(
                "select count(*), coalesce(sum(nbytes), 0) from run"
                " where state = 3 and expire_time > ?",
                (self._clock.time(),),
            ).fetchone()
            return StoreSize(live, self._rows.count_tombstones(db), ended, nbytes)

        return self._writer.ask(job)

    def spent(self, tenant: str) -> Spent:
        """What the tenant's ended runs have used in the last hours."""
        with self._readers.reading() as db:
            return shares.spent(db, tenant, hour_of(self._clock.time()))

    def stored_bytes(self, tenant: str) -> int:
        """Disk that the tenant's ended runs take."""
        with self._readers.reading() as db:
            return shares.stored_bytes(db, tenant, self._clock.time())

    def close(self) -> None:
        """Writes what waits, and lets go of the file."""
        self._sweep.close()
        self._readers.close()
        self._writer.close()
        self._held.let_go()

    # --- inside

    def _committed(self) -> None:
        expiring, self._rows.expiring = self._rows.expiring, []
        if expiring:
            self._sweep.expires(min(expiring))


def _stop_children(db: sqlite3.Connection, me: int | None) -> None:
    """Children of runs that were stopped are, too, where they had not heard of it."""
    while found := db.execute(
        "select c.id, p.stop, p.grace from run c join run p on p.tenant = c.tenant"
        " and p.owner = c.owner and p.run_id = c.parent_run_id where c.state in (1, 2)"
        " and c.stop is null and c.incarnation < ? and p.state in (1, 2) and p.stop is not null",
        (me,),
    ).fetchall():
        for id, *stop in found:
            stopped = stop_of(*stop)
            request = CancelRequest(stopped.cancellation.for_child(), stopped.grace_period)
            db.execute(
                "update run set stop = ?, grace = ? where id = ?", (*stop_columns(request), id)
            )


def _give_up(db: sqlite3.Connection, ids: Sequence[int]) -> None:
    """These are runs of an earlier process that can only be lost."""
    for id in ids:
        db.execute("update run set continuation = null, incarnation = 0 where id = ?", (id,))
