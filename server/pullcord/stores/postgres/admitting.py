"""Rows that come and go: admission and what takes it back, and stops, also before their runs.

What live runs make is not written here.
"""

import asyncio
import json
import secrets

import asyncpg

from pullcord.engine.ports import (
    Admitted,
    AlreadyLive,
    CancelRequest,
    EndedRun,
    NotYet,
    Recorded,
    Scope,
    Share,
    Terms,
)
from pullcord.run.cancel import CancelCause, Cancellation
from pullcord.run.errors import RunExists, ServerBusy, SessionBusy, StoreUnavailable
from pullcord.run.record import RunSpec, SessionPolicy
from pullcord.stores.postgres import shares
from pullcord.stores.postgres import statements as sql
from pullcord.stores.postgres.connections import Connection
from pullcord.stores.postgres.core import (
    ENDED,
    RESERVED,
    Core,
    Own,
    ended_in,
    key_of,
    spec_columns,
    stop_columns,
    stop_in,
)
from pullcord.stores.rows import digest_of

_TRIES = 10
"""Looks at a row that others change at the same time."""

_GONE = Cancellation(CancelCause.LOST, reason="its replica was taken for dead")


class Admitting:
    """The verbs of one store that make rows live, and record stops."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._counting = asyncio.Semaphore(1)
        """One start at a time waits for those of other processes to be counted, so that stops find
        a connection."""

    async def admit(
        self, scope: Scope, spec: RunSpec, terms: Terms, create_time: float
    ) -> Admitted | AlreadyLive | EndedRun:
        """As the port says."""
        claim = secrets.randbits(62)

        async def admit(connection: Connection) -> Admitted | AlreadyLive | EndedRun:
            return await self._admit(connection, scope, spec, terms, claim, create_time)

        if terms.share is None:
            return await self._core.control.ask(admit)
        async with self._counting:
            return await self._core.control.ask(admit)

    async def _admit(
        self,
        connection: Connection,
        scope: Scope,
        spec: RunSpec,
        terms: Terms,
        claim: int,
        create_time: float,
    ) -> Admitted | AlreadyLive | EndedRun:
        core = self._core
        for _ in range(_TRIES):
            row = await self._insert(
                connection,
                scope,
                spec,
                terms.share,
                core.incarnation,
                *spec_columns(scope, spec, terms.parent_run_id),
                create_time,
                claim,
                terms.begins,
                terms.policy,
                terms.deadline,
                spec.session_policy or "",
                bool(spec.session_id),
                RESERVED,
            )
            if row is not None:
                core.own[key_of(scope, spec.run_id)] = Own(row["id"], row["reserved"])
                stop = stop_in(row)
                cancellation = stop.cancellation if stop else None
                return Admitted(cancellation, row["reserved"], row["place"] or 0)
            there = await connection.fetchrow(sql.ROW, scope.tenant, scope.owner, spec.run_id)
            if there is None or there["state"] == 0:
                await self._must_live(connection)
                continue
            if there["digest"] != digest_of(spec):
                raise RunExists(spec.run_id)
            if there["state"] < ENDED:
                return AlreadyLive()
            found = await find(connection, scope, spec.run_id)
            if found is not None:
                return found
        raise StoreUnavailable(f"run {spec.run_id!r} changed too often to be started")

    async def _insert(
        self,
        connection: Connection,
        scope: Scope,
        spec: RunSpec,
        share: Share | None,
        *values: object,
    ) -> asyncpg.Record | None:
        """Makes the row. A run of a session takes its place while no other one does: the place
        that is later is seen later. Where runs are counted, they are while no other one comes."""
        if not spec.session_id and share is None:
            return await connection.fetchrow(sql.ADMIT, *values)
        session = (scope.tenant, scope.owner, spec.session_id, spec.user_id)
        async with connection.transaction():
            if share is not None:
                await shares.lock(connection, scope)
            if spec.session_id:
                await connection.execute(sql.SESSION_LOCK, json.dumps(session))
                if spec.session_policy is SessionPolicy.REJECT:
                    first = await connection.fetchval(sql.IN_SESSION, *session, spec.run_id)
                    if first is not None:
                        raise SessionBusy(spec.session_id, first)
            row = await connection.fetchrow(sql.ADMIT, *values)
            if row is not None and share is not None:
                await shares.check_share(connection, scope, share)  # or the row is taken back
            return row

    async def withdraw(self, scope: Scope, run_id: str) -> None:
        """As the port says."""
        core = self._core
        await core.control.ask(
            lambda connection: connection.execute(
                sql.WITHDRAW, core.incarnation, scope.tenant, scope.owner, run_id
            )
        )
        core.own.pop(key_of(scope, run_id), None)

    async def begin(self, scope: Scope, run_id: str, now: float) -> CancelRequest | NotYet | None:
        """As the port says. A run that is not this process's must not begin: it is answered a stop
        with cause LOST."""
        return await self._core.control.ask(
            lambda connection: self._begin(connection, scope, run_id, now)
        )

    async def _begin(
        self, connection: Connection, scope: Scope, run_id: str, now: float
    ) -> CancelRequest | NotYet | None:
        core, key = self._core, key_of(scope, run_id)
        if await connection.fetchrow(sql.BEGIN, core.incarnation, *key, now) is not None:
            return None
        row = await connection.fetchrow(sql.ROW, *key)
        stop = None
        if row is not None and row["incarnation"] == core.incarnation:
            stop = stop_in(row)
            if stop is None and row["state"] < ENDED:
                return NotYet()
        return stop or CancelRequest(_GONE)

    # --- stops

    async def request_stop(
        self,
        scope: Scope,
        run_id: str,
        request: CancelRequest,
        *,
        before_start: bool,
        most_early: int | None = None,
    ) -> Recorded | EndedRun | None:
        """As the port says."""
        return await self._core.control.ask(
            lambda connection: self._request_stop(
                connection,
                scope,
                run_id,
                request,
                before_start=before_start,
                most_early=most_early,
            )
        )

    async def _request_stop(
        self,
        connection: Connection,
        scope: Scope,
        run_id: str,
        request: CancelRequest,
        *,
        before_start: bool,
        most_early: int | None,
    ) -> Recorded | EndedRun | None:
        options, key = self._core.options, key_of(scope, run_id)
        columns = stop_columns(request)
        for _ in range(_TRIES):
            row = await connection.fetchrow(sql.STOP, *key, *columns)
            if row is not None:
                return _recorded(row)
            found = await find(connection, scope, run_id)
            if found is not None:
                return found
            if await connection.fetchrow(sql.ROW, *key) is not None:
                continue  # it came, or ended, meanwhile
            if not before_start:
                return None
            await shares.check_early_cancels(connection, scope, most_early)
            buried = await connection.fetchrow(
                sql.BURY, *key, *columns, options.tombstone_ttl, options.max_tombstones
            )
            if buried is not None:
                if buried["prior"] is not None:
                    await connection.execute(sql.FORGET_EVENTS, buried["prior"])
                return Recorded(request, before_start=True)
            size = await connection.fetchrow(sql.SIZE)
            if size is not None and size["tombstones"] >= options.max_tombstones:
                limit = options.max_tombstones
                raise ServerBusy(f"{limit} cancels wait for runs that have not come")
        raise StoreUnavailable(f"run {run_id!r} changed too often to be stopped")

    # --- inside

    async def _must_live(self, connection: Connection) -> None:
        incarnation = self._core.incarnation
        if not await connection.fetchval(
            "select alive from replica where incarnation = $1", incarnation
        ):
            raise StoreUnavailable("this replica was taken for dead, and has not come back yet")


def _recorded(row: asyncpg.Record) -> Recorded:
    stop = stop_in(row)
    assert stop is not None
    return Recorded(stop, before_start=row["state"] == 0)


async def find(connection: Connection, scope: Scope, run_id: str) -> EndedRun | None:
    """The ended run of this run_id."""
    row = await connection.fetchrow(sql.FIND, scope.tenant, scope.owner, run_id)
    return None if row is None else ended_in(row)
