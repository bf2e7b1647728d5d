"""The rows as the writing thread changes them, one step each, within its transaction.

Which steps make a verb is the store's business.

1. Only the writing thread calls, so that what is remembered of live rows is what they are; after a
   transaction that was rolled back, it is forgotten.
2. The file belongs to one process: every incarnation but the own one is dead.
3. What ended runs take is counted, not looked up; the sweep and the bounds keep the count.
"""

import json
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pullcord.engine.clock import Clock
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import (
    Admitted,
    AlreadyLive,
    CancelRequest,
    EndedRun,
    Recorded,
    Scope,
    Terms,
)
from pullcord.engine.shares import hour_of
from pullcord.run.errors import RunExists, ServerBusy
from pullcord.run.record import RunSpec
from pullcord.stores.rows import spec_of, stop_of, stored_run
from pullcord.stores.sqlite.schema import BEGUN, ENDED, TOMBSTONE, WAITS
from pullcord.stores.sqlite.shares import (
    check_early_cancels,
    check_share,
    forget_old,
    spend,
)
from pullcord.stores.sqlite.stored import Stored, stop_columns

RESERVED = 256
"""Numbers that a new run may show before it has asked for more."""

Key = tuple[str, str, str]
"""Tenant, owner and run_id."""


@dataclass(slots=True)
class LiveRow:
    """A live row of this process, as it is remembered."""

    id: int
    last: int
    reserved: int
    stop: CancelRequest | None
    decided: tuple[int, str] = (0, "")
    """The number of the question that was decided last, and the digest of the decisions."""


class Rows:
    """The rows of one file. `find` and `ended` also serve those who read."""

    def __init__(self, clock: Clock, options: EngineOptions, db: sqlite3.Connection) -> None:
        self._clock = clock
        self._options = options
        self.live: dict[Key, LiveRow] = {}
        """Live rows of this process, as far as they were asked about."""
        self.expiring: list[float] = []
        """When rows expire that the transaction has made or changed."""
        self._hour = 0
        self._kept = self._bytes = self._numbered = self._tombstones = 0
        begun = "insert into incarnation(begin_time) values (?)"
        self.me = db.execute(begun, (clock.time(),)).lastrowid
        """The incarnation of this process."""
        self.count(db)

    def find(self, db: sqlite3.Connection, key: Key, columns: str) -> tuple[Any, ...] | None:
        """The id, state and columns of a row, unless it has expired."""
        found: tuple[Any, ...] | None = db.execute(
            f"select expire_time, id, state, {columns} from run"
            " where tenant = ? and owner = ? and run_id = ?",
            key,
        ).fetchone()
        if found is None or (found[0] is not None and found[0] <= self._clock.time()):
            return None
        return found[1:]

    def clear(self, db: sqlite3.Connection, key: Key) -> None:
        """Deletes a row that has expired, so that another takes its place."""
        gone = db.execute(
            "delete from run where tenant = ? and owner = ? and run_id = ?"
            " returning id, state, expire_time, nbytes",
            key,
        ).fetchone()
        if gone is not None:
            id, state, expire_time, nbytes = gone
            db.execute("delete from event where run = ?", (id,))
            if state == ENDED and expire_time > 0:
                self._kept -= 1
                self._bytes -= nbytes

    def mine(self, db: sqlite3.Connection, key: Key) -> LiveRow | None:
        """A live row of this process."""
        if (known := self.live.get(key)) is not None:
            return known
        found = db.execute(
            "select id, base_sequence, reserved, stop, grace from run where tenant = ?"
            " and owner = ? and run_id = ? and incarnation = ? and state in (1, 2)",
            (*key, self.me),
        ).fetchone()
        if found is None:
            return None
        id, base, reserved, stop, grace = found
        (last,) = db.execute("select max(sequence) from event where run = ?", (id,)).fetchone()
        request = None if stop is None else stop_of(stop, grace)
        self.live[key] = row = LiveRow(id, last or base, reserved, request)
        return row

    def ended(self, db: sqlite3.Connection, id: int) -> EndedRun:
        """The ended run of a row."""
        spec, run, deliver_time, decided = db.execute(
            "select spec, run, deliver_time, decided from run where id = ?", (id,)
        ).fetchone()
        return EndedRun(spec_of(spec), stored_run(run), deliver_time, decided)

    def admit(
        self,
        db: sqlite3.Connection,
        scope: Scope,
        spec: RunSpec,
        terms: Terms,
        digest: bytes,
        data: bytes,
    ) -> Admitted | AlreadyLive | EndedRun:
        """Makes a live row, or returns what the row is already."""
        key = (*scope, spec.run_id)
        row = self.find(db, key, "digest, expire_time, stop, grace")
        stop, expires = None, None
        if row is not None:
            run, state, standing, expires, stopped, grace = row
            if state != TOMBSTONE:
                if standing != digest:
                    raise RunExists(spec.run_id)
                return AlreadyLive() if state != ENDED else self.ended(db, run)
            stop = stop_of(stopped, grace)
        if terms.share is not None:
            check_share(db, scope, terms.share)
        self.clear(db, key)  # a tombstone that the run takes with it, or a row that has expired
        cursor = db.execute(
            "insert into run(tenant, owner, run_id, state, incarnation, digest, spec, policy,"
            " deadline, parent_run_id, stop, grace, stop_expire_time, reserved, create_time,"
            " session_id, user_id) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *key,
                BEGUN if terms.begins else WAITS,
                self.me,
                digest,
                data,
                terms.policy,
                terms.deadline,
                terms.parent_run_id,
                *stop_columns(stop),
                expires,
                RESERVED,
                self._clock.time(),
                spec.session_id,
                spec.user_id,
            ),
        )
        assert cursor.lastrowid is not None
        self.live[key] = LiveRow(cursor.lastrowid, 0, RESERVED, stop)
        return Admitted(None if stop is None else stop.cancellation, RESERVED)

    def bury(
        self,
        db: sqlite3.Connection,
        key: Key,
        request: CancelRequest,
        most_early: int | None = None,
    ) -> Recorded:
        """Makes a tombstone."""
        now, limit = self._clock.time(), self._options.max_tombstones
        if self._tombstones >= limit:
            self._tombstones = self.count_tombstones(db)
        if self._tombstones >= limit:
            raise ServerBusy(f"{limit} cancels wait for runs that have not come")
        check_early_cancels(db, key[0], most_early, now)
        self._tombstones += 1
        expires = now + self._options.tombstone_ttl
        self.clear(db, key)
        db.execute(
            "insert into run(tenant, owner, run_id, state, stop, grace, create_time, expire_time)"
            " values (?, ?, ?, ?, ?, ?, ?, ?)",
            (*key, TOMBSTONE, *stop_columns(request), now, expires),
        )
        self.expiring.append(expires)
        return Recorded(request, before_start=True)

    def insert_ended(self, db: sqlite3.Connection, key: Key, stored: Stored) -> int:
        """Makes a row for a run that nobody has admitted; its id."""
        self.clear(db, key)
        cursor = db.execute(
            "insert into run(tenant, owner, run_id, state, digest, spec, create_time)"
            " values (?, ?, ?, ?, ?, ?, ?)",
            (*key, ENDED, stored.digest, stored.spec, stored.create_time),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def end(self, db: sqlite3.Connection, id: int, stored: Stored, ended: EndedRun) -> None:
        """Makes a row that of an ended run."""
        run = ended.run
        self._numbered += 1
        db.execute(
            "update run set state = ?, incarnation = null, digest = ?, spec = ?, base = null,"
            " continuation = null, paused = null, base_sequence = 0, create_time = ?,"
            " expire_time = ?, run = ?, run_state = ?,"
            " runnable = ?, session_id = ?, user_id = ?, labels = ?, deliver_time = ?,"
            " decided = ?, ended = ?, nbytes = ?, parent_run_id = ? where id = ?",
            (
                ENDED,
                stored.digest,
                stored.spec,
                stored.create_time,
                run.expire_time,
                stored.run,
                run.state,
                run.runnable,
                run.session_id,
                run.user_id,
                json.dumps(dict(run.labels)),
                ended.deliver_time,
                ended.decided,
                self._numbered,
                stored.nbytes,
                run.parent_run_id,
                id,
            ),
        )
        self._kept += 1
        self._bytes += stored.nbytes
        self.expiring.append(run.expire_time)
        hour = hour_of(self._clock.time())
        spend(db, run, hour)
        if hour != self._hour:
            self._hour = hour
            forget_old(db, hour)

    def make_room(self, db: sqlite3.Connection) -> None:
        """Lets the runs that ended first expire, until the others are within the bounds."""
        max_runs, max_bytes = self._options.max_finished_runs, self._options.max_finished_bytes
        while self._kept and (self._kept > max_runs or self._bytes > max_bytes):
            first = db.execute(
                "update run set expire_time = 0 where id = (select id from run where state = 3"
                " and expire_time > 0 order by ended limit 1) returning nbytes"
            ).fetchone()
            if first is None:
                self.count(db)
                return
            self._kept -= 1
            self._bytes -= first[0]
            self.expiring.append(0.0)

    def count(self, db: sqlite3.Connection) -> None:
        """Counts what the bounds are about."""
        kept = (
            "select count(*), coalesce(sum(nbytes), 0) from run where state = 3 and expire_time > 0"
        )
        self._kept, self._bytes = db.execute(kept).fetchone()
        last = "select coalesce(max(ended), 0) from run where state = 3"
        (self._numbered,) = db.execute(last).fetchone()
        self._tombstones = self.count_tombstones(db)

    def count_tombstones(self, db: sqlite3.Connection) -> int:
        """Cancels that wait for a run."""
        waiting = "select count(*) from run where state = 0 and expire_time > ?"
        (count,) = db.execute(waiting, (self._clock.time(),)).fetchone()
        return int(count)

    def gone(self, count: int, nbytes: int) -> None:
        """So many ended runs were swept, which took so many bytes."""
        self._kept -= count
        self._bytes -= nbytes

    def rolled_back(self, db: sqlite3.Connection) -> None:
        """What was remembered may not be so."""
        self.live.clear()
        self.expiring.clear()
        with suppress(sqlite3.Error):  # the next job finds out as well
            self.count(db)
