"""The notices that replicas share: written by triggers, in the transaction of what they are about.

A replica that claims some has them for a time; if it dies meanwhile, another one gets them then.
Notices are written while any replica says that it notifies somebody, and for a day after that.
"""

from collections.abc import Callable, Collection
from time import monotonic

import asyncpg

from pullcord.engine.notices import KEPT, Notice, Paused
from pullcord.run.scope import Scope
from pullcord.stores.postgres.connections import Connection
from pullcord.stores.postgres.core import STATE_OF, Core
from pullcord.stores.postgres.loop import LoopThread

_RENEW = 600.0
"""Seconds after which a replica says again that notices are wanted."""
_WANT = """
insert into noting as n (until) values (clock_timestamp() + make_interval(secs => $1))
on conflict (one) do update set until = excluded.until
"""
_FORGET = "delete from notice where note_time < clock_timestamp() - make_interval(secs => $1)"
_CLAIM = """
with c as (
    select number from notice where due_time <= clock_timestamp()
    order by due_time limit $1 for update skip locked
),
u as (
    update notice n set due_time = clock_timestamp() + make_interval(secs => $2),
        tries = n.tries + 1
    from c where n.number = c.number
    returning n.*
)
select u.*, extract(epoch from u.note_time)::double precision as noted,
    extract(epoch from clock_timestamp() - u.note_time)::double precision as age,
    u.question = 0 or coalesce(
        r.state = 3 and r.question = u.question and r.stop is null, false) as stands
from u left join run r on r.tenant = u.tenant and r.owner = u.owner and r.run_id = u.run_id
order by u.number
"""
_OVER = "delete from notice where number = $1"
_AGAIN = """
update notice set due_time = clock_timestamp() + make_interval(secs => $2) where number = $1
"""


class SharedNotices:
    """Fills `Notices`."""

    def __init__(self, core: Core, loop: LoopThread) -> None:
        self._core = core
        self._loop = loop
        self._wanted = -_RENEW

    def open(self, paused: Callable[[], Collection[Paused]]) -> None:
        """From now on notices are kept, whichever replica has the run."""
        self._loop.call(self._core.control.ask(self._want))

    async def _want(self, connection: Connection) -> None:
        await connection.execute(_WANT, KEPT)
        await connection.execute(_FORGET, KEPT)
        self._wanted = monotonic()

    def claim(self, most: int, lease: float) -> list[Notice]:
        """At most so many that are due, the oldest first."""

        async def work(connection: Connection) -> list[asyncpg.Record]:
            if monotonic() - self._wanted > _RENEW:
                await self._want(connection)
            return await connection.fetch(_CLAIM, most, lease)

        return [_notice(row) for row in self._loop.call(self._core.control.ask(work))]

    def settle(self, notice: Notice, again: float | None) -> None:
        """It is over, or due again."""

        async def work(connection: Connection) -> None:
            if again is None:
                await connection.execute(_OVER, notice.number)
            else:
                await connection.execute(_AGAIN, notice.number, again)

        self._loop.call(self._core.control.ask(work))

    def pending(self) -> int:
        """How many are not settled, of all replicas together."""

        async def work(connection: Connection) -> int:
            return int(await connection.fetchval("select count(*) from notice") or 0)

        return self._loop.call(self._core.control.ask(work))


def _notice(row: asyncpg.Record) -> Notice:
    return Notice(
        row["number"],
        Scope(row["tenant"], row["owner"]),
        row["run_id"],
        row["runnable"],
        STATE_OF[row["state"]],
        row["question"],
        row["noted"],
        max(0.0, row["age"]),
        row["tries"] - 1,
        row["stands"],
    )
