"""Which processes live: this one beats, and watches the beats of the others.

No clock is compared with another machine's. A replica is taken for dead when its beat did not
change for as long as this process has watched it without a break; a store that was silent, or a
process that stood still, begins to watch anew. What becomes of the runs of a dead replica is not
decided here.
"""

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pullcord.run.errors import StoreUnavailable
from pullcord.stores.postgres.connections import Connection, Connections
from pullcord.stores.postgres.core import Core

_log = logging.getLogger("pullcord.store")

_JOIN = "insert into replica (incarnation, name) values ($1, $2) on conflict do nothing"
_BEAT = """
update replica set beat = beat + 1, beat_time = clock_timestamp()
where incarnation = $1 and alive and beat >= $2 returning beat
"""
"""No row: this process was taken for dead; or the store has gone back behind what it had told."""
_OTHERS = "select incarnation, beat from replica where alive and incarnation <> $1"
DEATH = """
with dead as (
    select incarnation from replica where incarnation = $1 and beat = $2 and alive for update
)
update replica set alive = false from dead where replica.incarnation = dead.incarnation
returning replica.incarnation
"""
"""Waits for the statements of the dead one that are under way. An update alone would not."""
_LEAVE = """
with gone as (select incarnation from replica where incarnation = $1 for update)
update replica set alive = false from gone where replica.incarnation = gone.incarnation
"""


@dataclass(frozen=True, slots=True)
class Lease:
    """How death is told from silence, in seconds."""

    beat: float = 2.0
    """Between two beats."""
    fence: float = 6.0
    """After so long without a beat a process shows nothing new, and records nothing."""
    death: float = 10.0
    """After so long without a beat the others take a process for dead."""


LEASE = Lease()


def _now() -> float:
    # Goes on while the machine is suspended, where there is such a clock.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(slots=True)
class _Seen:
    beat: int
    since: float


class Membership:
    """This process among the others. Used on the store's loop only."""

    def __init__(self, core: Core, connections: Connections, lease: Lease) -> None:
        self._core = core
        self._connections = connections
        self._lease = lease
        self._beats = 0
        self._last_beat = _now()
        self._seen: dict[str, _Seen] = {}
        self._last_look = 0.0
        self.on_fenced: Callable[[str], Awaitable[None]] | None = None
        """Called with the incarnation that was taken for dead, once there is a new one."""
        self.on_unfenced: Callable[[], None] | None = None
        """Called when a beat came after `is_fenced` was true."""

    @property
    def is_fenced(self) -> bool:
        """Whether the last beat is so old that others may soon take this process for dead."""
        return _now() - self._last_beat > self._lease.fence

    async def join(self) -> None:
        """From now on this process lives, as the core's incarnation."""
        name = f"{socket.gethostname()}:{os.getpid()}"
        started = _now()
        await self._connections.ask(
            lambda connection: connection.execute(_JOIN, self._core.incarnation, name)
        )
        self._beats, self._last_beat = 0, started

    async def leave(self) -> None:
        """This process lives no more: its runs need not be waited for."""
        await self._connections.ask(
            lambda connection: connection.execute(_LEAVE, self._core.incarnation)
        )

    async def beat(self) -> None:
        """One beat. Raises StoreUnavailable."""
        started = _now()

        async def beat(connection: Connection) -> int | None:
            number = await connection.fetchval(_BEAT, self._core.incarnation, self._beats)
            return None if number is None else int(number)

        number = await self._connections.ask(beat)
        if number is None:
            await self._come_back()
            return
        was_fenced = self.is_fenced
        self._beats, self._last_beat = number, started
        if was_fenced and self.on_unfenced is not None:
            self.on_unfenced()

    async def _come_back(self) -> None:
        before = self._core.incarnation
        _log.error("this replica was taken for dead; its runs are stopped, and it begins anew")
        await self._connections.ask(  # also where the store has gone back, and it is alive there
            lambda connection: connection.execute(_LEAVE, before)
        )
        self._core.own.clear()
        self._core.incarnation = secrets.token_hex(8)
        await self.join()
        if self.on_fenced is not None:
            await self.on_fenced(before)

    async def look(self) -> list[str]:
        """Looks at the others' beats; those that were found dead by this. Raises StoreUnavailable.

        A look that came late, or failed, proves nothing about the time before it.
        """
        started = _now()
        rows = await self._connections.ask(
            lambda connection: connection.fetch(_OTHERS, self._core.incarnation)
        )
        if started - self._last_look > 2 * self._lease.beat + 1.0 or self.is_fenced:
            self._seen.clear()
        self._last_look = started
        seen, dead = {}, []
        for row in rows:
            other, beat = row["incarnation"], row["beat"]
            known = self._seen.get(other)
            if known is None or known.beat != beat:
                known = _Seen(beat, _now())
            seen[other] = known
            if started - known.since >= self._lease.death and await self._bury(other, beat):
                dead.append(other)
        self._seen = seen
        return dead

    async def _bury(self, other: str, beat: int) -> bool:
        async def bury(connection: Connection) -> bool:
            return await connection.fetchval(DEATH, other, beat) is not None

        buried = await self._connections.ask(bury)
        if buried:
            _log.error("replica %s is dead: it has not beaten for %s s", other, self._lease.death)
        return buried

    async def keep(self, after_look: Callable[[], Awaitable[None]]) -> None:
        """Beats and looks until it is cancelled; `after_look` each time."""
        while True:
            started = _now()
            try:
                await self.beat()
                await self.look()
                await after_look()
            except StoreUnavailable as error:
                _log.warning("%s", error)
            except Exception:
                _log.exception("the store's upkeep failed; it goes on")
            await asyncio.sleep(max(0.0, self._lease.beat - (_now() - started)))
