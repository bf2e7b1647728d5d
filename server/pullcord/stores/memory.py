"""The rows of one process, in its memory: tombstones, live runs and ended runs.

Nothing here survives the process, and nothing here calls a run: a row says what was agreed, and the
engine does what follows.

1. A key is in at most one of the three tables, and every verb moves it in one step under one lock.
2. An expired row counts as absent, also before the sweep has deleted it.
3. One timer is armed while anything can expire, for the time the next row does.
"""

import heapq
import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from pullcord.engine.clock import Clock, Timer
from pullcord.engine.log.log import EventLog
from pullcord.engine.options import EngineOptions
from pullcord.engine.paging import age
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
from pullcord.engine.shares import HOURS, check_early, hour_of
from pullcord.engine.sharing import Asked
from pullcord.run.cancel import Cancellation
from pullcord.run.errors import RunExists, ServerBusy
from pullcord.run.plain import UnreadData
from pullcord.run.record import MAX_NAMED, Erased, Run, RunFilter, RunSpec
from pullcord.run.scope import Reach
from pullcord.run.state import RunState
from pullcord.stores.memory_notices import MemoryNotices

_SWEEP = 16
"""Rows that one call of the timer deletes. A log can take milliseconds to free, and the clock has
other timers."""

Key = tuple[str, str, str]
"""Tenant, owner, and run_id or session_id."""

T = TypeVar("T")


@dataclass(slots=True)
class _Tombstone:
    request: CancelRequest
    expires: float  # monotonic


@dataclass(slots=True)
class _Live:
    spec: RunSpec
    tombstone: _Tombstone | None
    stop: CancelRequest | None
    is_root: bool


@dataclass(frozen=True, slots=True)
class _Ended:
    ended: EndedRun
    log: EventLog
    nbytes: int


class MemoryStore:
    """A RunStore of this process alone. When it is full, the runs that ended first go first."""

    blocking = False
    durable = False
    sharing = None

    def __init__(self, clock: Clock, options: EngineOptions) -> None:
        self._clock = clock
        self._options = options
        self._lock = threading.RLock()  # a finalizer may end a run within any step
        self._tombstones: OrderedDict[Key, _Tombstone] = OrderedDict()
        self._live: dict[Key, _Live] = {}
        self._ended: OrderedDict[Key, _Ended] = OrderedDict()
        self._sessions: dict[Key, dict[str, None]] = {}  # ended runs, in the order they ended
        self._bytes = 0
        self._early: Counter[str] = Counter()  # tombstones, by tenant
        self._spent: dict[int, dict[str, tuple[int, float]]] = {}  # by hour and tenant
        self._timer: Timer | None = None
        self.notices = MemoryNotices(clock)
        self.swept = 0
        self._due = 0.0  # when it fires, on the monotonic scale

    # --- one transaction each

    def admit(
        self, scope: Scope, spec: RunSpec, terms: Terms = DEFAULT_TERMS
    ) -> Admitted | AlreadyLive | EndedRun:
        """Makes a live row, or returns what the row is already."""
        key = _key(scope, spec.run_id)
        with self._lock:
            if (row := self._find(key)) is not None:
                return _same(row.ended.spec, spec, row.ended)
            if (live := self._live.get(key)) is not None:
                return _same(live.spec, spec, AlreadyLive())
            if terms.share is not None:
                roots = [k[:2] for k, row in self._live.items() if row.is_root]
                of_tenant = sum(tenant == scope.tenant for tenant, _ in roots)
                terms.share.check(roots.count((scope.tenant, scope.owner)), of_tenant)
            tombstone = self._find_tombstone(key)
            stop = tombstone.request if tombstone is not None else None
            self._unbury(key)
            if key in self._ended:  # expired
                self._forget(key)
            self._live[key] = _Live(spec, tombstone, stop, not terms.parent_run_id)
        return Admitted(stop.cancellation if stop is not None else None)

    def withdraw(self, scope: Scope, run_id: str) -> None:
        """Deletes the live row of a run that was refused."""
        key = _key(scope, run_id)
        with self._lock:
            live = self._live.pop(key, None)
            if live is not None and live.tombstone is not None:
                self._tombstones[key] = live.tombstone
                self._early[key[0]] += 1
                self._tombstones.move_to_end(key, last=False)  # it is an old one
                self._arm()

    def recover(self, on_lost: OnLost = unheard) -> Sequence[Waiting]:
        """Nothing: no run here has outlived its process."""
        return ()

    def begin(self, scope: Scope, run_id: str) -> CancelRequest | None:
        """The stop that came meanwhile."""
        with self._lock:
            live = self._live.get(_key(scope, run_id))
            return None if live is None else live.stop

    def go_on(self, scope: Scope, run_id: str, asked: Asked) -> bool:
        """Not needed here, where the live run itself hears one decision: whether it may."""
        with self._lock:
            live = self._live.get(_key(scope, run_id))
            return live is not None and live.stop is None

    def write(self, entries: Sequence[Entry]) -> list[Written | None]:
        """Not called: what live runs make is in this memory already."""
        return [None for _ in entries]

    def finish(self, ends: Sequence[Finish]) -> list[Cancellation | None]:
        """Keeps ended runs; returns the stops that stand against an end."""
        with self._lock:
            answers = [self._finish(end) for end in ends]
            forgotten = self._make_room()
            self._arm()
        del forgotten  # logs are freed after the lock is released
        return answers

    def _finish(self, end: Finish) -> Cancellation | None:
        run = end.ended.run
        key = _key(end.scope, run.run_id)
        if self._find(key) is not None:
            return None
        live = self._live.get(key)
        if live is not None and live.stop is not None and run.state is not RunState.CANCELLED:
            return live.stop.cancellation
        self._live.pop(key, None)
        self._unbury(key)
        self._spend(run)
        if key in self._ended:  # expired
            self._forget(key)
        row = _Ended(end.ended, end.log, _size(end))
        self._ended[key] = row
        self._bytes += row.nbytes
        if run.session_id:
            self._sessions.setdefault(_key(end.scope, run.session_id), {})[run.run_id] = None
        self.notices.ended(end.scope, run)
        return None

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
        key = _key(scope, run_id)
        with self._lock:
            if (row := self._find(key)) is not None:
                return row.ended
            if (live := self._live.get(key)) is not None:
                live.stop = live.stop.hastened_by(request) if live.stop is not None else request
                return Recorded(live.stop, before_start=False)
            tombstone = self._find_tombstone(key)
            if tombstone is None:
                if not before_start:
                    return None
                tombstone = self._bury(key, request, most_early)
            else:
                tombstone.request = tombstone.request.hastened_by(request)
            return Recorded(tombstone.request, before_start=True)

    def _bury(self, key: Key, request: CancelRequest, most_early: int | None) -> _Tombstone:
        now, limit = self._clock.monotonic(), self._options.max_tombstones
        if key in self._ended:  # expired
            self._forget(key)
        while self._tombstones and next(iter(self._tombstones.values())).expires <= now:
            self._unbury(next(iter(self._tombstones)))
        if len(self._tombstones) >= limit:
            raise ServerBusy(f"{limit} cancels wait for runs that have not come")
        if most_early is not None and self._early[key[0]] >= most_early:
            first = next(row for k, row in self._tombstones.items() if k[0] == key[0])
            check_early(self._early[key[0]], most_early, first.expires - now)
        tombstone = _Tombstone(request, now + self._options.tombstone_ttl)
        self._tombstones[key] = tombstone
        self._early[key[0]] += 1
        self._arm()
        return tombstone

    def _unbury(self, key: Key) -> None:
        if self._tombstones.pop(key, None) is not None:
            self._early[key[0]] -= 1
            if not self._early[key[0]]:
                del self._early[key[0]]

    def _spend(self, run: Run) -> None:
        """What a run has used counts for its tenant, with what its children have."""
        usage = run.usage
        if run.parent_run_id or not (usage.total_tokens or usage.cost):
            return
        hour = hour_of(self._clock.time())
        if hour not in self._spent:
            for old in [other for other in self._spent if other <= hour - HOURS]:
                del self._spent[old]
        tenants = self._spent.setdefault(hour, {})
        tokens, cost = tenants.get(run.tenant, (0, 0.0))
        tenants[run.tenant] = tokens + usage.total_tokens, cost + (usage.cost or 0.0)

    # --- reading

    def find(self, scope: Scope, run_id: str) -> EndedRun | None:
        """The ended run of this run_id."""
        with self._lock:
            row = self._find(_key(scope, run_id))
        return None if row is None else row.ended

    def log(self, scope: Scope, run_id: str) -> tuple[EndedRun, EventLog] | None:
        """The same with its events."""
        with self._lock:
            row = self._find(_key(scope, run_id))
        return None if row is None else (row.ended, row.log)

    def owners(self, reach: Reach, run_id: str) -> list[Scope]:
        """The scopes within reach that have a run of this id."""
        with self._lock:
            ended = [key for key in self._ended if key[2] == run_id and self._find(key)]
            found = {*ended, *(key for key in self._live if key[2] == run_id)}
        return [scope for key in found if reach.covers(scope := Scope(*key[:2]))]

    def page(self, reach: Reach, matching: RunFilter, before: Age | None, size: int) -> list[Run]:
        """At most `size` ended runs within reach that match, the newest first."""
        with self._lock:
            rows = list(self._ended.items())
        now = self._clock.time()
        runs = (row.ended.run for key, row in rows if reach.covers(Scope(*key[:2])))
        return heapq.nlargest(
            size,
            (
                run
                for run in runs
                if run.expire_time > now
                and (before is None or age(run) < before)
                and matching.matches(run)
            ),
            key=age,
        )

    def history(
        self, scope: Scope, session_id: str, user_id: str, runnable: str, limit: int
    ) -> list[Run]:
        """The last `limit` runs of one runnable in a user's session, in the order they ended."""
        with self._lock:
            run_ids = list(self._sessions.get(_key(scope, session_id), ()))
            rows = [self._find(_key(scope, run_id)) for run_id in run_ids]
        runs = [row.ended.run for row in rows if row is not None]
        return [run for run in runs if (run.user_id, run.runnable) == (user_id, runnable)][-limit:]

    def erase(self, reach: Reach, matching: RunFilter, *, validate_only: bool) -> Erased:
        """Deletes ended runs, and the cancels that wait if no session or user is named."""
        with self._lock:
            ended = [
                key
                for key, row in self._ended.items()
                if reach.covers(Scope(*key[:2])) and matching.matches(row.ended.run)
            ]
            cancels: list[Key] = []
            if matching == RunFilter():
                cancels = [key for key in self._tombstones if reach.covers(Scope(*key[:2]))]
            live = (
                key[2]
                for key, row in self._live.items()
                if reach.covers(Scope(*key[:2])) and _is_meant(row.spec, matching)
            )
            erased = Erased(len(ended), len(cancels), tuple(islice(live, MAX_NAMED)))
            forgotten = [] if validate_only else [self._forget(key) for key in ended]
            if not validate_only:
                self.notices.erased(set(ended))
            for key in () if validate_only else cancels:
                self._unbury(key)
        del forgotten  # logs are freed after the lock is released
        return erased

    def size(self) -> StoreSize:
        """What the store holds, expired rows not counted."""
        with self._lock:
            ended = [row for key in self._ended if (row := self._find(key)) is not None]
            tombstones = sum(self._find_tombstone(key) is not None for key in self._tombstones)
            nbytes = sum(row.nbytes for row in ended)
            return StoreSize(len(self._live), tombstones, len(ended), nbytes)

    def spent(self, tenant: str) -> Spent:
        """What the tenant's ended runs have used in the last hours."""
        with self._lock:
            since = hour_of(self._clock.time()) - HOURS
            found = {h: by[tenant] for h, by in self._spent.items() if h > since and tenant in by}
        tokens, cost = (sum(values) for values in zip((0, 0.0), *found.values(), strict=True))
        return Spent(int(tokens), cost, min(found, default=None))

    def stored_bytes(self, tenant: str) -> int:
        """Memory that the tenant's ended runs take."""
        with self._lock:
            keys = [key for key in self._ended if key[0] == tenant]
            return sum(row.nbytes for key in keys if (row := self._find(key)) is not None)

    def close(self) -> None:
        """Nothing is open."""

    # --- expiry and room: under the lock

    def _find(self, key: Key) -> _Ended | None:
        row = self._ended.get(key)
        expired = row is not None and row.ended.run.expire_time <= self._clock.time()
        return None if expired else row

    def _find_tombstone(self, key: Key) -> _Tombstone | None:
        tombstone = self._tombstones.get(key)
        expired = tombstone is not None and tombstone.expires <= self._clock.monotonic()
        return None if expired else tombstone

    def _make_room(self) -> list[_Ended]:
        """Forgets the runs that ended first, until the others are within the bounds."""
        max_runs, max_bytes = self._options.max_finished_runs, self._options.max_finished_bytes
        forgotten = []
        while self._ended and (len(self._ended) > max_runs or self._bytes > max_bytes):
            forgotten.append(self._forget(next(iter(self._ended))))
        self.swept += len(forgotten)
        return forgotten

    def _forget(self, key: Key) -> _Ended:
        row = self._ended.pop(key)
        self._bytes -= row.nbytes
        run = row.ended.run
        if run.session_id:
            session = (*key[:2], run.session_id)
            self._sessions[session].pop(run.run_id)
            if not self._sessions[session]:
                del self._sessions[session]
        return row

    def _sweep(self) -> None:
        """Deletes some expired rows. Those that ended late wait for the ones before them."""
        forgotten = []
        with self._lock:
            self._timer = None
            for _ in range(_SWEEP):
                key = next(iter(self._ended), None)
                if key is None or self._find(key) is not None:
                    break
                forgotten.append(self._forget(key))
            for _ in range(_SWEEP):
                key = next(iter(self._tombstones), None)
                if key is None or self._find_tombstone(key) is not None:
                    break
                self._unbury(key)
                self.swept += 1
            self.swept += len(forgotten)
            self._arm()
        del forgotten  # logs are freed after the lock is released

    def _arm(self) -> None:
        """Sees to it that the sweep comes when the next row expires."""
        now = self._clock.monotonic()
        waits = []
        if self._ended:
            first = next(iter(self._ended.values()))
            waits.append(first.ended.run.expire_time - self._clock.time())
        if self._tombstones:
            waits.append(next(iter(self._tombstones.values())).expires - now)
        if not waits:
            return
        wait = max(0.0, min(waits))
        if self._timer is not None:
            if self._due <= now + wait:
                return
            self._timer.cancel()
        self._due = now + wait
        self._timer = self._clock.call_later(wait, self._sweep)


def _key(scope: Scope, name: str) -> Key:
    return scope.tenant, scope.owner, name


def _is_meant(spec: RunSpec, matching: RunFilter) -> bool:
    return matching.session_id in ("", spec.session_id) and matching.user_id in ("", spec.user_id)


def _same(existing: RunSpec, asked: RunSpec, answer: T) -> T:
    if existing != asked:
        raise RunExists(asked.run_id)
    return answer


def _size(end: Finish) -> int:
    """Bytes it takes, roughly; the caller's data as their JSON text would."""
    run, spec = end.ended.run, end.ended.spec
    calls = sum(len(call.arguments) + len(call.result) + 200 for call in run.tool_calls)
    data = sum(
        d.nbytes if isinstance(d, UnreadData) else len(repr(d))
        for d in (run.output_data, spec.input_data)
        if d is not None
    )
    said = (*spec.parts, *(part for message in spec.messages for part in message.parts))
    parts = sum(part.size + 200 for part in said)
    return end.log.nbytes + len(run.output) + len(spec.input) + calls + data + parts + 2048
