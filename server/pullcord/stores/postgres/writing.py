"""Writes what live runs make, and how they end, to the tables.

Writes and ends of one process come one after the other; a large write is made of parts. Which
events there are is the engine's business.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import asyncpg

from pullcord.engine.log.record import Record
from pullcord.engine.ports import EndedRun, Entry, Finish, Written
from pullcord.run.cancel import Cancellation
from pullcord.run.errors import StoreUnavailable
from pullcord.run.record import Run
from pullcord.run.state import RunState
from pullcord.stores.postgres import statements as sql
from pullcord.stores.postgres.admitting import find
from pullcord.stores.postgres.connections import Connection
from pullcord.stores.postgres.core import (
    CANCELLED,
    ENDED,
    STATES,
    Core,
    Key,
    Own,
    key_of,
    labels_json,
    spec_columns,
    stop_in,
)
from pullcord.stores.postgres.shares import used_columns
from pullcord.stores.rows import event_row, pause_columns, run_bytes, spec_bytes

_TRIES = 10
_PARTS, _PART = 4, 250
"""Parts that a large write is made of, at most, and the runs of one, at least."""

_First = tuple[int | None, bytes | None, bytes | None]
"""The number of a run's first record, unless that is its last; data; lengths."""
_NO_RECORD: _First = (None, None, None)
_Answers = dict[Key, Cancellation | EndedRun | None]
EventColumns = tuple[int, int, int, bytes, bytes | None]
"""The run's id, the numbers before the first and of the last event, data, lengths."""


@dataclass(slots=True)
class _Writing:
    entry: Entry
    own: Own


@dataclass(slots=True)
class _Ending:
    end: Finish
    key: Key
    after: int
    """The number of the last event that the store has."""
    id: int = 0


class Writing:
    """The verbs of one store that write for the runs of this process."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._one = asyncio.Lock()
        """A write and an end of one run must not wait for each other's rows."""

    # --- what live runs have made

    async def write(self, entries: Sequence[Entry]) -> list[Written | None]:
        """As the port says. Many runs are written in parts, each in a transaction: while the server
        writes one, the next is made ready here."""
        append = self._core.append
        async with self._one:
            if not entries:
                await append.ask(self._look)
            size = max(_PART, -(-len(entries) // _PARTS))
            parts = [entries[n : n + size] for n in range(0, len(entries), size)]
            answers = await asyncio.gather(
                *(append.ask(partial(self._write, entries=part)) for part in parts),
                return_exceptions=True,  # or the others would still be at work
            )
        written: list[Written | None] = []
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            written += answer
        return written

    async def _write(
        self, connection: Connection, entries: Sequence[Entry]
    ) -> list[Written | None]:
        own_runs = self._core.own
        known: dict[int, _Writing] = {}
        ids: list[int] = []
        for entry in entries:
            own = own_runs.get(key_of(entry.scope, entry.spec.run_id))
            if own is None:
                own = await self._own(connection, entry)
            ids.append(0 if own is None else own.id)
            if own is not None:
                known[own.id] = _Writing(entry, own)
        for id, writing in known.items():
            if writing.entry.base is not None:
                base, after = run_bytes(writing.entry.base), writing.entry.after
                await connection.execute(sql.REBASE, self._core.incarnation, id, base, after)
        rows = {row["id"]: row for row in await self._append(connection, known)}
        if missing := [id for id in known if id not in rows]:
            standing = await connection.fetch(sql.STANDING, self._core.incarnation, missing)
            rows |= {row["id"]: row for row in standing}
            rest = {row["id"]: _rest(known[row["id"]], row["last_seq"]) for row in standing}
            again = {id: writing for id, writing in rest.items() if writing is not None}
            rows |= {row["id"]: row for row in await self._append(connection, again)}
        for id, row in rows.items():
            known[id].own.reserved = row["reserved"]
        return [_written(rows.get(id)) for id in ids]

    async def _look(self, connection: Connection) -> None:
        """Raises StoreUnavailable if this process could write nothing now."""
        if await connection.fetchval(f"with {sql.FENCE} select 1 from f", self._core.incarnation):
            return
        raise StoreUnavailable("this replica was taken for dead, and has not come back yet")

    async def _own(self, connection: Connection, entry: Entry) -> Own | None:
        core, key = self._core, key_of(entry.scope, entry.spec.run_id)
        own = None
        if (terms := entry.opens) is not None:
            id = await connection.fetchval(
                sql.OPEN,
                core.incarnation,
                *spec_columns(entry.scope, entry.spec, terms.parent_run_id),
                entry.records[0].create_time if entry.records else 0.0,
                terms.policy,
                terms.deadline,
            )
            if id is not None:
                own = core.own[key] = Own(id, 0)
        if own is None:
            row = await connection.fetchrow(sql.MINE, *key, core.incarnation)
            if row is not None:
                own = core.own[key] = Own(row["id"], row["reserved"])
        return own

    async def _append(
        self, connection: Connection, known: dict[int, _Writing]
    ) -> list[asyncpg.Record]:
        runs: list[tuple[object, ...]] = []
        more: list[EventColumns] = []
        lazy = all(w.entry.reserve <= w.own.reserved for w in known.values())
        for id, writing in known.items():
            entry = writing.entry
            last, first = entry.after, _NO_RECORD
            if entry.records:
                last = entry.records[-1].sequence
                row = event_row(entry.spec.run_id, entry.records[0])
                first = None if row.sequence == last else row.sequence, row.data, row.lengths
                more += [_event(id, entry.spec.run_id, record) for record in entry.records[1:]]
            reserve = None if lazy else entry.reserve
            runs.append((id, entry.after, last, reserve, *_standing(entry), *first))
        if not runs:
            return []
        fence = sql.LAZY_FENCE if lazy else sql.FENCE
        return await connection.fetch(
            sql.APPEND.format(fence=fence),
            self._core.incarnation,
            *map(_column, zip(*runs, strict=True)),
            *_columns(more),
        )

    # --- how they end

    async def finish(self, ends: Sequence[Finish]) -> list[Cancellation | EndedRun | None]:
        """As the port says."""
        async with self._one:
            return await self._core.append.ask(lambda connection: self._finish(connection, ends))

    async def _finish(
        self, connection: Connection, ends: Sequence[Finish]
    ) -> list[Cancellation | EndedRun | None]:
        core = self._core
        answers: _Answers = {}
        waiting: list[_Ending] = []
        for end in ends:
            key = key_of(end.scope, end.ended.run.run_id)
            own = core.own.get(key)
            waiting.append(_Ending(end, key, end.after, own.id if own else 0))
        keys = [ending.key for ending in waiting]
        for _ in range(_TRIES):
            done = await self._end(connection, [ending for ending in waiting if ending.id])
            waiting = [ending for ending in waiting if ending.id not in done]
            waiting = [
                ending for ending in waiting if not await self._settle(connection, ending, answers)
            ]
            if not waiting:
                break
        else:
            raise StoreUnavailable(f"run {waiting[0].key[2]!r} changed too often to be ended")
        for key in keys:
            if answers.get(key) is None:
                core.own.pop(key, None)
        return [answers.get(key) for key in keys]

    async def _settle(
        self,
        connection: Connection,
        ending: _Ending,
        answers: _Answers,
    ) -> bool:
        """Looks why a run was not ended; whether that was all there is to do."""
        row = await connection.fetchrow(sql.ROW, *ending.key)
        if row is None or row["state"] == 0:
            return await self._end_missing(connection, ending)
        if row["state"] >= ENDED:
            if row["incarnation"] != self._core.incarnation:
                answers[ending.key] = await find(connection, ending.end.scope, ending.key[2])
            return True
        if row["incarnation"] != self._core.incarnation:
            raise StoreUnavailable(f"run {ending.key[2]!r} is about to be ended by others")
        stop = stop_in(row)
        if stop is not None and ending.end.ended.run.state is not RunState.CANCELLED:
            answers[ending.key] = stop.cancellation
            return True
        ending.id, ending.after = row["id"], row["last_seq"]
        return False

    async def _end(self, connection: Connection, endings: list[_Ending]) -> set[int]:
        runs, events = [], []
        for ending in endings:
            rows, after = _left(ending.id, ending.end, ending.after)
            if after > ending.after:  # some of what is missing is no longer kept
                base = run_bytes(ending.end.ended.run)
                await connection.execute(sql.REBASE, self._core.incarnation, ending.id, base, after)
            ended = ending.end.ended
            state = STATES[ended.run.state]
            runs.append((ending.id, after, ended.run.last_sequence, state, *_record(ending.end)))
            events += rows
        if not runs:
            return set()
        found = await connection.fetch(
            sql.END,
            self._core.incarnation,
            *map(list, zip(*runs, strict=True)),
            *_columns(events),
        )
        return {row["id"] for row in found}

    async def _end_missing(self, connection: Connection, ending: _Ending) -> bool:
        end = ending.end
        run, spec = end.ended.run, end.ended.spec
        rows, _ = _left(0, end, 0)
        row = await connection.fetchrow(
            sql.END_MISSING,
            self._core.incarnation,
            *spec_columns(end.scope, spec, "")[:5],
            run.session_id,
            run.user_id,
            run.runnable,
            run.parent_run_id,
            labels_json(run.labels),
            run.create_time,
            STATES[run.state],
            run.last_sequence,
            *_record(end)[:4],
            _record(end)[5],
            _record(end)[4],
            *_record(end)[6:],
            *_columns(rows)[1:],
        )
        return row is not None


def _rest(writing: _Writing, last: int) -> _Writing | None:
    """What is left to write where the store has more than its owner knew; None: nothing, or it has
    less, and the owner must say more."""
    entry = writing.entry
    if last < entry.after or not entry.records or entry.records[-1].sequence <= last:
        return None
    records = [record for record in entry.records if record.sequence > last]
    if records[0].sequence - records[0].count < last:
        records[0] = records[0].after(last)
    return _Writing(entry._replace(records=records, after=last, base=None), writing.own)


def _written(row: asyncpg.Record | None) -> Written | None:
    if row is None:
        return None
    return Written(row["last_seq"], row["reserved"], stop_in(row))


_Standing = tuple[int | None, int | None, bytes | None, bytes | None]


def _standing(entry: Entry) -> _Standing:
    """The state that this leaves a run in, and its pause; None: as it was."""
    columns = pause_columns(entry)
    if columns is None:
        return None, None, None, None
    return STATES[RunState.PAUSED if columns.is_asked else RunState.RUNNING], *columns[:3]


def _event(id: int, run_id: str, record: Record) -> EventColumns:
    row = event_row(run_id, record)
    return id, row.sequence - row.count, row.sequence, row.data, row.lengths


def _columns(events: list[EventColumns]) -> list[Sequence[object] | None]:
    return [_column(column) for column in zip(*events, strict=True)] or [[]] * 5


def _column(values: Sequence[object]) -> Sequence[object] | None:
    """An array; none for one of nulls, each of which would be looked at."""
    return None if values[-1] is None and not any(v is not None for v in values) else values


def _left(id: int, end: Finish, after: int) -> tuple[list[EventColumns], int]:
    """The events that the store does not have, and the number of the one before them."""
    records = end.log.records(after)
    if records[0].sequence - records[0].count < after:
        records[0] = records[0].after(after)
    run_id = end.ended.run.run_id
    return [_event(id, run_id, r) for r in records], records[0].sequence - records[0].count


def record_columns(run: Run) -> tuple[bytes, bytes]:
    """An ended run without its output, and that."""
    return run_bytes(replace(run, output="")), run.output.encode(errors="surrogatepass")


def _record(end: Finish) -> tuple[bytes, bytes, float, str, float, int, int, float]:
    """The run without its output, its output, delivered, decided, seconds to keep, size, used."""
    ended = end.ended
    run = ended.run
    record, output = record_columns(run)
    keep = max(0.0, run.expire_time - run.end_time)
    nbytes = end.log.nbytes + len(output) + len(record) + len(spec_bytes(ended.spec)) + 2048
    used = used_columns(run)
    return record, output, ended.deliver_time, ended.decided, keep, nbytes, *used


assert CANCELLED == 6, "statements name it by its number"
