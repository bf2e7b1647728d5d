"""The runs of other processes, and what others have recorded for the runs of this one.

All that is followed is read in a few queries at each notification. What a recorded stop or decision
does to a run is the engine's business.
"""

import asyncio
import json
import secrets
import time
import weakref
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

import asyncpg

from pullcord.engine.live.question import digest
from pullcord.engine.log.record import Record
from pullcord.engine.ports import Age, Carried, Pause, Waiting
from pullcord.engine.sharing import Asked, Ear, Key
from pullcord.run.events import TERMINAL_PAYLOADS
from pullcord.run.record import Decision, Run, RunFilter
from pullcord.run.scope import Reach, Scope
from pullcord.run.state import RunState
from pullcord.stores.fold import carried, fold, trees
from pullcord.stores.mirror import Mirror
from pullcord.stores.postgres import statements as sql
from pullcord.stores.postgres.connections import Connection
from pullcord.stores.postgres.core import ENDED, STATE_OF, STATES, Core, Own, ended_in, stop_in
from pullcord.stores.postgres.listening import Listening
from pullcord.stores.postgres.reading import Where, events, record_in
from pullcord.stores.postgres.reaping import left_of
from pullcord.stores.rows import pause_of

_WATCH_LEASE, _WATCH_EVERY = 6.0, 2.0
"""Seconds that a run counts as watched here after that was said last, and between two times."""
_CLAIM = 16
"""Runs that are taken over at a time: others may have room, too."""


class Sharing:
    """One store's share in the runs of all. Used on its loop, but for `add`."""

    def __init__(
        self,
        core: Core,
        listening: Listening,
        begin: Callable[[Callable[[], None]], None],
        reap: Callable[[], Awaitable[object]],
    ) -> None:
        """`begin` calls something on the loop, from any thread. `reap` ends the runs of the dead
        that nobody can take up."""
        self._core = core
        self._listening = listening
        self._begin = begin
        self._reap = reap
        self._ear: Ear | None = None
        self._mirrors: weakref.WeakValueDictionary[int, Mirror] = weakref.WeakValueDictionary()
        self._used: dict[int, Mirror] = {}
        self._tailing = asyncio.Lock()
        self._said_watched = 0.0
        self._watched: set[int] = set()
        self._claim = 0
        """The number of a claim whose answer has not come whole; 0: there is none."""

    async def listen(self, ear: Ear) -> None:
        """From now on this ear hears."""
        self._ear = ear
        await self._want()
        self._listening.wake()

    # --- one run of another process

    async def elsewhere(self, scope: Scope, run_id: str) -> Mirror | None:
        """As the port says."""
        return await self._core.control.ask(
            lambda connection: self._elsewhere(connection, scope, run_id)
        )

    async def _elsewhere(self, connection: Connection, scope: Scope, run_id: str) -> Mirror | None:
        row = await connection.fetchrow(sql.ELSEWHERE, scope.tenant, scope.owner, run_id)
        if row is None:
            return None
        mirror = self._mirrors.get(row["id"])
        if mirror is None or not mirror.is_used:
            records = _without_end(await events(connection, row["id"], row["base_seq"]))
            left, incarnation = left_of(row, records), row["incarnation"] or ""
            mirror = Mirror(row["id"], incarnation, left, self._core.options, self.add)
            left = replace(left, records=(), base=None)
            mirror.feed(left, incarnation, row["question"], row["decided"])
            self._mirrors[row["id"]] = mirror
        else:
            await self._tail(connection, [mirror])
        return mirror

    def add(self, mirror: Mirror) -> None:
        """This run is kept up to date from now on. Any thread."""

        def add() -> None:
            self._used[mirror.id] = mirror
            self._said_watched = 0.0
            self._listening.wake()

        self._begin(add)

    async def decide(self, scope: Scope, run_id: str, asked: Asked) -> bool:
        """As the port says."""
        mirror = await self.elsewhere(scope, run_id)
        if mirror is None or not mirror.question:
            return False
        data = decision_bytes(asked.decisions)
        row = await self._core.control.ask(
            lambda connection: connection.fetchrow(
                sql.DECIDE, mirror.id, mirror.question, data, asked.actor
            )
        )
        return row is not None and row["decision"] == data

    async def go_on(self, scope: Scope, run_id: str, asked: Asked) -> bool:
        """As the RunStore says."""
        data = decision_bytes(asked.decisions)
        return await self._core.control.ask(
            lambda connection: self._go_on(connection, scope, run_id, asked, data)
        )

    async def _go_on(
        self, connection: Connection, scope: Scope, run_id: str, asked: Asked, data: bytes
    ) -> bool:
        me, key = self._core.incarnation, (scope.tenant, scope.owner, run_id)
        by, made = asked.actor, digest(asked.decisions)
        row = await connection.fetchrow(sql.GO_ON, me, *key, data, by, asked.question, made)
        return row is not None and bool(row["mine"])

    # --- many

    async def live(
        self, reach: Reach, matching: RunFilter, before: Age | None, size: int
    ) -> list[Run]:
        """As the port says."""
        states = [STATES[s] for s in matching.states if STATES[s] < ENDED]
        if matching.states and not states:
            return []
        where = Where(reach, matching, before)
        where.add("r.state = any($)", states or [1, 2, 3, 4])
        where.add("r.incarnation is distinct from $", self._core.incarnation)
        rows = await self._core.control.ask(
            lambda connection: connection.fetch(
                f"select {sql.LEFT} from run r {where.text(size)}", *where.values
            )
        )
        return [_as_listed(row, self._core.options.max_ledger) for row in rows]

    async def claim(self, serves: Collection[str] | None) -> Sequence[Waiting]:
        """As the port says; None: all there are, of any runnable."""
        number = self._claim or secrets.randbits(62)
        waiting = await self._claim_as(number, serves)
        self._claim = 0
        return waiting

    async def _claim_as(self, number: int, serves: Collection[str] | None) -> Sequence[Waiting]:
        core = self._core
        rows = await core.control.ask(partial(self._roots, number=number, serves=serves))
        found: list[Waiting] = []
        ended: dict[Key, Run] = {}
        ids: dict[Key, int] = {}
        while rows:
            children: list[Key] = []
            for row in rows:
                one = await self._taken(row)
                if one is None:
                    continue
                found.append(one)
                ids[one.scope, one.spec.run_id] = row["id"]
                if one.carried is not None:
                    children += ((one.scope, run_id) for run_id in one.carried.pause.children)
            rows = []
            if children:
                ask = partial(self._children, number=number, keys=children)
                rows, stopped = await core.control.ask(ask)
                if len(rows) + len(stopped) < len(children):  # one may have a stop, and no end yet
                    await self._reap()
                    rows, stopped = await core.control.ask(ask)
                ended |= stopped
        waiting, lost = trees(found, ended)
        if lost or any(one.ended for root in waiting for one in root.whole()):
            await core.control.ask(partial(self._settle, ids=ids, waiting=waiting, lost=lost))
        return waiting

    async def give_back(self, keys: Collection[Key]) -> None:
        """As the port says."""
        core = self._core
        columns = [list(c) for c in zip(*((*scope, id) for scope, id in keys), strict=True)]
        if columns:
            await core.control.ask(
                lambda connection: connection.execute(sql.GIVE_BACK, core.incarnation, *columns)
            )
        for scope, run_id in keys:
            core.own.pop((*scope, run_id), None)

    async def _roots(
        self, connection: Connection, number: int, serves: Collection[str] | None
    ) -> list[asyncpg.Record]:
        """Claims runs without a parent; and has those again that a call of this number claimed."""
        me, before = self._core.incarnation, []
        if self._claim == number:
            before = await connection.fetch(sql.RECLAIM, me, number)
        self._claim = number
        names, most = (None, None) if serves is None else (list(serves), _CLAIM)
        return before + await connection.fetch(sql.CLAIM, me, names, most, number)

    async def _taken(self, row: asyncpg.Record) -> Waiting | None:
        """A run that was claimed; None: it can only be lost."""
        core, left = self._core, left_of(row, [])
        core.own[row["tenant"], row["owner"], row["run_id"]] = Own(row["id"], row["reserved"])
        one = Waiting(
            left.scope,
            left.spec,
            left.terms,
            row["reserved"],
            row["create_time"],
            row["place"] or 0,
        )
        pause = pause_of(row["question"], row["continuation"], row["paused"])
        if pause is None:
            return one
        found = await core.control.ask(partial(self._carried, row=row, pause=pause))
        return None if found is None else replace(one, carried=found)

    async def _children(
        self, connection: Connection, number: int, keys: Sequence[Key]
    ) -> tuple[list[asyncpg.Record], dict[Key, Run]]:
        """Claims the children of runs that were claimed; and those that were stopped before."""
        columns = [list(c) for c in zip(*((*scope, id) for scope, id in keys), strict=True)]
        rows = await connection.fetch(sql.CLAIM_CHILDREN, self._core.incarnation, *columns, number)
        stopped = await connection.fetch(sql.STOPPED_CHILDREN, *columns)
        ended = {
            (Scope(row["tenant"], row["owner"]), row["run_id"]): ended_in(row).run
            for row in stopped
        }
        return rows, ended

    async def _settle(
        self,
        connection: Connection,
        ids: Mapping[Key, int],
        waiting: Sequence[Waiting],
        lost: Sequence[Waiting],
    ) -> None:
        """What can only be lost is left to the reaper; what goes on at once is nobody else's."""
        me = self._core.incarnation
        for one in lost:
            await connection.execute(sql.GIVE_UP, me, ids[one.scope, one.spec.run_id])
        for root in waiting:
            tree = list(root.whole())
            if any(one.ended for one in tree):
                above = [
                    ids[one.scope, one.spec.run_id] for one in tree if one.children or one.ended
                ]
                await connection.execute(sql.MUST_GO_ON, me, above)

    async def _carried(
        self, connection: Connection, row: asyncpg.Record, pause: Pause
    ) -> Carried | None:
        records = await events(connection, row["id"], row["base_seq"])
        found = carried(left_of(row, records), pause, row["elapsed"])
        if found is None:
            await connection.execute(sql.GIVE_UP, self._core.incarnation, row["id"])
        return found

    # --- sessions

    async def ahead(self, scope: Scope, run_id: str) -> list[str]:
        """As the port says."""
        rows = await self._core.control.ask(
            lambda connection: connection.fetch(sql.AHEAD, scope.tenant, scope.owner, run_id)
        )
        return [row["run_id"] for row in rows]

    async def attend(self, scope: Scope, run_id: str) -> None:
        """As the port says."""
        await self._core.control.ask(
            lambda connection: connection.execute(
                sql.ATTEND, scope.tenant, scope.owner, run_id, _WATCH_LEASE
            )
        )

    async def is_watched(self, scope: Scope, run_id: str) -> bool:
        """As the port says."""
        row = await self._core.control.ask(
            lambda connection: connection.fetchrow(sql.WATCHED, scope.tenant, scope.owner, run_id)
        )
        return row is not None

    # --- what is new

    async def rejoin(self) -> None:
        """This process has another incarnation."""
        await self._want()
        self._listening.wake()

    async def read(self, channels: Collection[str]) -> None:
        """Reads what is new, and says so to those who wait for it. `channels` that were heard on
        say what it may be; none: anything."""
        self._used = {id: mirror for id, mirror in self._used.items() if mirror.is_used}
        await self._want()
        mirrors = list(self._used.values())
        await self._say_watched(mirrors)
        if mirrors:
            await self._core.control.ask(lambda connection: self._tail(connection, mirrors))
        if (ear := self._ear) is None:
            return
        if not channels or any(channel.startswith("pc_run_") for channel in channels):
            await self._hear(ear)
        if not channels or "pc_end" in channels:
            ear.turns()
        if not channels or "pc_queue" in channels:
            ear.queued()

    async def _want(self) -> None:
        channels = {"pc_end", "pc_queue", f"pc_run_{self._core.incarnation}"}
        channels |= {f"pc_log_{m.incarnation}" for m in self._used.values() if m.incarnation}
        await self._listening.want(channels)

    async def _say_watched(self, mirrors: list[Mirror]) -> None:
        ids = {mirror.id for mirror in mirrors if mirror.is_watched}
        now = time.monotonic()
        if not ids or (ids <= self._watched and now - self._said_watched < _WATCH_EVERY):
            self._watched &= ids
            return
        await self._core.control.ask(
            lambda connection: connection.execute(sql.WATCH, list(ids), _WATCH_LEASE)
        )
        self._watched, self._said_watched = ids, now

    async def _tail(self, connection: Connection, mirrors: list[Mirror]) -> None:
        async with self._tailing:  # or two would bring one mirror the same events
            await self._tail_all(connection, mirrors)

    async def _tail_all(self, connection: Connection, mirrors: list[Mirror]) -> None:
        # The rows first: an end that is there now has all its events in the second query.
        rows = {
            row["id"]: row
            for row in await connection.fetch(sql.TAILED, [mirror.id for mirror in mirrors])
        }
        after = {mirror.id: mirror.log.last_sequence for mirror in mirrors}
        new: dict[int, list[asyncpg.Record]] = {}
        for event in await connection.fetch(sql.TAIL, list(after), list(after.values())):
            new.setdefault(event["id"], []).append(event)
        for mirror in mirrors:
            row, found = rows.get(mirror.id), new.get(mirror.id, [])
            if row is None:
                continue  # it was withdrawn, or has expired
            records = [record for event in found if (record := record_in(event)) is not None]
            if row["state"] >= ENDED:
                if len(found) >= 256:
                    records = await events(connection, mirror.id, after[mirror.id])
                mirror.end(ended_in(row), records)
                continue
            records = _without_end(records)
            if row["base_seq"] > after[mirror.id]:
                records = [r for r in records if r.sequence > row["base_seq"]]
                left = left_of(row, records)
            else:
                left = replace(left_of(row, records), base=None)
            mirror.feed(
                left,
                row["incarnation"] or "",
                row["question"],
                row["decided"],
            )
            if len(found) >= 256:
                self._listening.wake()

    async def _hear(self, ear: Ear) -> None:
        core = self._core
        rows = await core.control.ask(
            lambda connection: connection.fetch(sql.NEWS, core.incarnation)
        )
        watched: list[Key] = []
        for row in rows:
            key = (Scope(row["tenant"], row["owner"]), row["run_id"])
            if row["watched"]:
                watched.append(key)
            if (stop := stop_in(row)) is not None:
                ear.stop(key, stop)
            if row["decision"] is not None:
                made = _decisions_of(row["decision"])
                ear.decide(key, Asked(made, row["decider"], row["question"]))
        ear.watched(watched)


def _without_end(records: list[Record]) -> list[Record]:
    """The events of a run that was live when its row was read. It may have ended since: that is
    read again, together with the row."""
    if records and isinstance(records[-1].payload, TERMINAL_PAYLOADS) and not records[-1].source:
        return records[:-1]
    return records


def _as_listed(row: asyncpg.Record, max_ledger: int) -> Run:
    """A live run without its events, as a list shows it."""
    run = fold(left_of(row, []), max_ledger)
    state = STATE_OF[row["state"]]
    cancelling = run.state is RunState.CANCELLING
    return replace(run, output="", state=run.state if cancelling else state)


def decision_bytes(decisions: Sequence[Decision]) -> bytes:
    """Decisions as they are stored: the same for the same ones, in whatever order."""
    made = sorted([d.tool_call_id, d.approved, d.answer, d.note] for d in decisions)
    return json.dumps(made).encode()


def _decisions_of(data: bytes) -> tuple[Decision, ...]:
    return tuple(Decision(*made) for made in json.loads(data))
