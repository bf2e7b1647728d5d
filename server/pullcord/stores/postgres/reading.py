"""What is read of ended runs: one, its events, pages of many, and a session's history.

Nothing is changed here. All is read from the primary, where it was written.
"""

from typing import Any

import asyncpg

from pullcord.engine.log.log import EventLog
from pullcord.engine.log.record import Record
from pullcord.engine.ports import Age, EndedRun, Scope, StoreSize
from pullcord.run.record import Run, RunFilter
from pullcord.run.scope import Reach
from pullcord.stores.fold import ended_log
from pullcord.stores.postgres import statements as sql
from pullcord.stores.postgres.admitting import find
from pullcord.stores.postgres.connections import Connection
from pullcord.stores.postgres.core import ENDED, STATES, Core, ended_in, labels_json, run_in
from pullcord.stores.rows import EventRow, record_of

_AGE = "r.create_time, r.run_id, r.tenant, r.owner"
_EVENTS = 10_000
"""Events that are read at a time."""


class Reading:
    """The verbs of one store that only read."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def find(self, scope: Scope, run_id: str) -> EndedRun | None:
        """As the port says."""
        return await self._core.control.ask(lambda connection: find(connection, scope, run_id))

    async def log(self, scope: Scope, run_id: str) -> tuple[EndedRun, EventLog] | None:
        """As the port says."""

        async def read(connection: Connection) -> tuple[EndedRun, EventLog] | None:
            row = await connection.fetchrow(sql.FIND, scope.tenant, scope.owner, run_id)
            if row is None:
                return None
            records = await events(connection, row["id"], 0)
            ended = ended_in(row)
            if not records or records[-1].sequence != ended.run.last_sequence:
                return None  # it expired while it was read
            return ended, ended_log(ended, records)

        return await self._core.control.ask(read)

    async def owners(self, reach: Reach, run_id: str) -> list[Scope]:
        """As the port says."""
        rows = await self._core.control.ask(
            lambda connection: connection.fetch(sql.OWNERS, run_id, *reach)
        )
        return [Scope(row["tenant"], row["owner"]) for row in rows]

    async def page(
        self, reach: Reach, matching: RunFilter, before: Age | None, size: int
    ) -> list[Run]:
        """As the port says; the runs without their output."""
        states = [STATES[s] for s in matching.states if STATES[s] >= ENDED]
        if matching.states and not states:
            return []
        where = Where(reach, matching, before)
        where.add("r.expire_time > clock_timestamp()")
        where.add(
            "r.state >= 5" if not states else "r.state = any($)", *([states] if states else [])
        )
        rows = await self._fetch(f"select r.record from run r {where.text(size)}", where)
        return [run_in(row) for row in rows]

    async def history(
        self, scope: Scope, session_id: str, user_id: str, runnable: str, limit: int
    ) -> list[Run]:
        """As the port says."""
        rows = await self._core.control.ask(
            lambda connection: connection.fetch(
                sql.HISTORY, scope.tenant, scope.owner, session_id, user_id, runnable, limit
            )
        )
        return [run_in(row, row["output"]) for row in reversed(rows)]

    async def size(self) -> StoreSize:
        """As the port says, of all replicas together."""
        row = await self._core.control.ask(lambda connection: connection.fetchrow(sql.SIZE))
        assert row is not None
        return StoreSize(row["live"], row["tombstones"], row["ended"], int(row["bytes"]))

    async def _fetch(self, statement: str, where: "Where") -> list[Any]:
        return await self._core.control.ask(
            lambda connection: connection.fetch(statement, *where.values)
        )


class Where:
    """The conditions of a list, the newest first."""

    def __init__(self, reach: Reach, matching: RunFilter, before: Age | None) -> None:
        self.values: list[Any] = []
        self._conditions: list[str] = []
        fields = [(name, getattr(reach, name)) for name in ("tenant", "owner")]
        names = ("session_id", "user_id", "runnable", "parent_run_id")
        fields += [(name, getattr(matching, name)) for name in names]
        for name, value in fields:
            if value:
                self.add(f"r.{name} = $", value)
        if matching.labels:
            self.add("r.labels @> $::text::jsonb", labels_json(matching.labels))
        if before is not None:
            self.add(f"({_AGE}) < ($, $, $, $)", *before)

    def add(self, condition: str, *values: Any) -> None:
        """One more condition; each `$` is one of the values."""
        for value in values:
            self.values.append(value)
            condition = condition.replace("$", f"\0{len(self.values)}", 1)
        self._conditions.append(condition.replace("\0", "$"))

    def conditions(self) -> str:
        """The part of a select from `run r` that says which rows."""
        return f"where {' and '.join(self._conditions or ['true'])}"

    def text(self, size: int) -> str:
        """The rest of a select from `run r`, for at most `size` rows."""
        return (
            f"{self.conditions()}"
            " order by r.create_time desc, r.run_id desc, r.tenant desc, r.owner desc"
            f" limit {size:d}"
        )


async def events(connection: Connection, id: int, after: int) -> list[Record]:
    """The stored events of a run after a number; those of a newer release are not known here."""
    found: list[Record] = []
    while True:
        rows = await connection.fetch(sql.EVENTS, id, after, _EVENTS)
        found += [record for row in rows if (record := record_in(row)) is not None]
        if len(rows) < _EVENTS:
            return found
        after = rows[-1]["seq"]


def record_in(row: asyncpg.Record) -> Record | None:
    """A stored event; None: it is of a newer release."""
    return record_of(EventRow(row["seq"], row["seq"] - row["prev"], row["data"], row["lengths"]))
