"""The RunStore in PostgreSQL: the port's verbs, for any thread, over a loop of the store's own.

A face: what each verb does is in the modules beside this one.
"""

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeVar

from pullcord.engine.clock import Clock
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
    NotYet,
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
from pullcord.engine.sharing import Asked, Ear, Key
from pullcord.run.cancel import Cancellation
from pullcord.run.errors import StoreUnavailable
from pullcord.run.record import Erased, Run, RunFilter, RunSpec
from pullcord.run.scope import Reach
from pullcord.stores.mirror import Mirror
from pullcord.stores.postgres import migrations, shares
from pullcord.stores.postgres.admitting import Admitting
from pullcord.stores.postgres.connections import (
    Address,
    Connection,
    Connections,
    require_primary,
)
from pullcord.stores.postgres.core import Core
from pullcord.stores.postgres.erasing import erase_some, look
from pullcord.stores.postgres.listening import Listening
from pullcord.stores.postgres.loop import LoopThread
from pullcord.stores.postgres.membership import LEASE, Lease, Membership
from pullcord.stores.postgres.notices import SharedNotices
from pullcord.stores.postgres.reading import Reading
from pullcord.stores.postgres.reaping import reap
from pullcord.stores.postgres.sharing import Sharing
from pullcord.stores.postgres.sweeping import sweep
from pullcord.stores.postgres.timeline import Timeline
from pullcord.stores.postgres.unserved import Unserved
from pullcord.stores.postgres.writing import Writing

T = TypeVar("T")

_APPEND = 2
"""Connections for what live runs make: the server writes over one while the next is made ready."""
_CONTROL = 3
"""Connections for all that is not a live run's writing."""
_SWEEP = 30.0
"""Seconds between two sweeps, roughly."""
_OPENING = 60.0
"""Seconds in which the tables must be there."""


_log = logging.getLogger("pullcord.store")


class PostgresStore:
    """A RunStore that any number of processes share."""

    blocking = True
    durable = True

    @property
    def sharing(self) -> "PostgresStore":
        """The store itself."""
        return self

    def __init__(
        self,
        address: Address,
        clock: Clock,
        options: EngineOptions,
        lease: Lease = LEASE,
        listens: Address | None = None,
    ) -> None:
        """Connects, and makes the tables if they are missing. `listens`: where notifications
        arrive, if they do not at `address`.

        Raises:
            StoreError: it cannot be used as it is set up.
            StoreUnavailable: it does not answer.
        """
        listens = listens or address
        incarnation = secrets.token_hex(8)
        address = address.named(f"pullcord {incarnation}")
        self._clock = clock
        self._address = address
        self._loop = LoopThread("pullcord-postgres")
        self._beats = Connections(address, 1)
        self._core = Core(
            options, incarnation, Connections(address, _CONTROL), Connections(address, _APPEND)
        )
        self._membership = Membership(self._core, self._beats, lease)
        self._admitting = Admitting(self._core)
        self._writing = Writing(self._core)
        self._reading = Reading(self._core)
        self._listening = Listening(listens.named(address.name), self._hear)
        self._sharing = Sharing(self._core, self._listening, self._loop.soon, self._reap)
        self.notices = SharedNotices(self._core, self._loop)
        self._ear: Ear | None = None
        self._unheard: list[Run] = []
        """Runs that were ended here before anybody listened."""
        self._unserved = Unserved(self._core, lease.death)
        self.swept = 0
        self._membership.on_fenced = self._fenced
        self._membership.on_unfenced = self._unfenced
        self._timeline = Timeline(self._core, self._beats, self._forgotten)
        try:
            self._loop.call(self._open(), _OPENING)
        except BaseException:
            self._loop.close()
            raise
        self._loop.begin(self._membership.keep(self._upkeep))
        self._loop.begin(self._listening.run())
        self._loop.begin(self._sweep_on())

    async def _open(self) -> None:
        connection = await self._address.connect()
        try:
            await require_primary(connection)
            await migrations.require(connection)
            await self._listening.probe(connection)
        finally:
            connection.terminate()
        await self._membership.join()

    async def _upkeep(self) -> None:
        await self._timeline.look()
        if await self._reap():
            self._listening.wake()
        await self._unserved.look()

    async def _reap(self) -> int:
        return await reap(self._core, self._lost)

    async def _hear(self, channels: Collection[str]) -> None:
        await self._sharing.read(channels)

    async def _fenced(self, before: str) -> None:
        if self._ear is not None:
            self._ear.fenced()
        await self._sharing.rejoin()

    def _unfenced(self) -> None:
        if self._ear is not None:
            self._ear.unfenced()

    def _lost(self, run: Run) -> None:
        if self._ear is not None:
            self._ear.lost(run)
        else:
            self._unheard.append(run)

    def _tell(self, on_lost: OnLost) -> None:
        early, self._unheard = self._unheard, []
        for run in early:
            on_lost(run)

    def _forgotten(self) -> None:
        if self._ear is not None:
            self._ear.forgotten()

    async def _sweep_on(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP * random.uniform(0.5, 1.5))
            try:
                self.swept += await sweep(self._core)
            except StoreUnavailable as error:
                _log.warning("%s", error)
            except Exception:
                _log.exception("the store could not be swept; it is tried again")

    # --- the port

    def admit(
        self, scope: Scope, spec: RunSpec, terms: Terms = DEFAULT_TERMS
    ) -> Admitted | AlreadyLive | EndedRun:
        """As the port says."""
        return self._loop.call(self._admitting.admit(scope, spec, terms, self._clock.time()))

    def withdraw(self, scope: Scope, run_id: str) -> None:
        """As the port says."""
        self._loop.call(self._admitting.withdraw(scope, run_id))

    def recover(self, on_lost: OnLost = unheard) -> Sequence[Waiting]:
        """As the port says; of whatever runnable. A process that takes part claims instead."""
        self._loop.call(reap(self._core, on_lost), 60.0)
        self._tell(on_lost)
        self.sweep()
        return self._loop.call(self._sharing.claim(None), 60.0)

    def begin(self, scope: Scope, run_id: str) -> CancelRequest | NotYet | None:
        """As the port says."""
        return self._loop.call(self._admitting.begin(scope, run_id, self._clock.time()))

    def go_on(self, scope: Scope, run_id: str, asked: Asked) -> bool:
        """As the port says."""
        return self._loop.call(self._sharing.go_on(scope, run_id, asked))

    def write(self, entries: Sequence[Entry]) -> list[Written | None]:
        """As the port says."""
        return self._loop.call(self._writing.write(entries))

    def finish(self, ends: Sequence[Finish]) -> list[Cancellation | EndedRun | None]:
        """As the port says."""
        return self._loop.call(self._writing.finish(ends))

    def request_stop(
        self,
        scope: Scope,
        run_id: str,
        request: CancelRequest,
        *,
        before_start: bool,
        most_early: int | None = None,
    ) -> Recorded | EndedRun | None:
        """As the port says."""
        return self._loop.call(
            self._admitting.request_stop(
                scope, run_id, request, before_start=before_start, most_early=most_early
            )
        )

    def find(self, scope: Scope, run_id: str) -> EndedRun | None:
        """As the port says."""
        return self._loop.call(self._reading.find(scope, run_id))

    def log(self, scope: Scope, run_id: str) -> tuple[EndedRun, EventLog] | None:
        """As the port says."""
        return self._loop.call(self._reading.log(scope, run_id))

    def owners(self, reach: Reach, run_id: str) -> list[Scope]:
        """As the port says."""
        return self._loop.call(self._reading.owners(reach, run_id))

    def page(self, reach: Reach, matching: RunFilter, before: Age | None, size: int) -> list[Run]:
        """As the port says; the runs without their output."""
        return self._loop.call(self._reading.page(reach, matching, before, size))

    def history(
        self, scope: Scope, session_id: str, user_id: str, runnable: str, limit: int
    ) -> list[Run]:
        """As the port says."""
        return self._loop.call(self._reading.history(scope, session_id, user_id, runnable, limit))

    def erase(self, reach: Reach, matching: RunFilter, *, validate_only: bool) -> Erased:
        """As the port says, of all processes together."""
        found = self._loop.call(look(self._core, reach, matching))
        left = not validate_only and bool(found.runs or found.cancels)
        while left:
            left = self._loop.call(erase_some(self._core, reach, matching))
        return found

    def size(self) -> StoreSize:
        """As the port says, of all processes together."""
        return self._loop.call(self._reading.size())

    def spent(self, tenant: str) -> Spent:
        """As the port says, of all processes together."""
        return self._ask(lambda connection: shares.spent(connection, tenant))

    def stored_bytes(self, tenant: str) -> int:
        """As the port says."""
        return self._ask(lambda connection: shares.stored_bytes(connection, tenant))

    def _ask(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        return self._loop.call(self._core.control.ask(work))

    # --- what processes that share it ask besides

    def listen(self, ear: Ear) -> None:
        """As `Sharing` says."""
        self._loop.call(self._listen(ear))

    async def _listen(self, ear: Ear) -> None:
        self._ear = ear
        self._tell(ear.lost)
        await self._sharing.listen(ear)

    def is_fenced(self) -> bool:
        """As `Sharing` says."""
        return self._membership.is_fenced

    def claim(self, serves: Collection[str]) -> Sequence[Waiting]:
        """As `Sharing` says."""
        return self._loop.call(self._sharing.claim(serves))

    def give_back(self, keys: Collection[Key]) -> None:
        """As `Sharing` says."""
        self._loop.call(self._sharing.give_back(keys))

    def elsewhere(self, scope: Scope, run_id: str) -> Mirror | None:
        """As `Sharing` says."""
        return self._loop.call(self._sharing.elsewhere(scope, run_id))

    def live(self, reach: Reach, matching: RunFilter, before: Age | None, size: int) -> list[Run]:
        """As `Sharing` says."""
        return self._loop.call(self._sharing.live(reach, matching, before, size))

    def attend(self, scope: Scope, run_id: str) -> None:
        """As `Sharing` says."""
        self._loop.call(self._sharing.attend(scope, run_id))

    @property
    def unserved(self) -> int:
        """As `Sharing` says."""
        return self._unserved.count

    def is_watched(self, scope: Scope, run_id: str) -> bool:
        """As `Sharing` says."""
        return self._loop.call(self._sharing.is_watched(scope, run_id))

    def decide(self, scope: Scope, run_id: str, asked: Asked) -> bool:
        """As `Sharing` says."""
        return self._loop.call(self._sharing.decide(scope, run_id, asked))

    def ahead(self, scope: Scope, run_id: str) -> list[str]:
        """As `Sharing` says."""
        return self._loop.call(self._sharing.ahead(scope, run_id))

    def sweep(self) -> int:
        """Deletes what has expired now, instead of a little later; how many runs that were."""
        swept = self._loop.call(sweep(self._core), 60.0)
        self.swept += swept
        return swept

    def close(self) -> None:
        """Leaves: what this process still executes is lost to the others at once."""
        with contextlib.suppress(StoreUnavailable):
            self._loop.call(self._membership.leave())
        for connections in (self._core.control, self._core.append, self._beats):
            with contextlib.suppress(StoreUnavailable):
                self._loop.call(_give_up(connections))
        self._loop.close()


async def _give_up(connections: Connections) -> None:
    connections.close()
