"""Deletes what has expired, and what is more than the bounds; one replica at a time does.

It never touches a live run.
"""

from pullcord.stores.postgres.connections import Connection
from pullcord.stores.postgres.core import Core
from pullcord.stores.postgres.shares import forget_old

_BATCH = 500
"""Runs that are deleted in one transaction."""

_SWEEP_LOCK = "select pg_try_advisory_xact_lock(hashtextextended('pullcord sweep', 0))"
_EXPIRED_IDS = """
select id from run where expire_time <= clock_timestamp() order by expire_time limit $1
"""
_TOO_MANY = """
select id from (
    select id, sum(nbytes) over newest as bytes, row_number() over newest as place
    from run where state >= 5 window newest as (order by ending desc)
) as kept
where place > $1 or bytes > $2 limit $3
"""
_DELETE = """
with x as (
    select id from run
    where id = any($1) and (state >= 5 or expire_time <= clock_timestamp())
    order by id for update skip locked
)
delete from run where id = any (array (select id from x)) returning id
"""
"""Looks again: a tombstone may have become a run since it was seen."""
_DELETE_EVENTS = "delete from event where id = any($1)"
"""Of runs that are gone: their ids never come back."""
_FORGET_DEAD = """
delete from replica p where not p.alive and p.beat_time < clock_timestamp() - interval '1 day'
    and not exists (select 1 from run r where r.incarnation = p.incarnation
        and r.state between 1 and 4)
"""


async def sweep(core: Core) -> int:
    """Deletes until nothing is left to delete, or another replica does; how many runs that were."""
    swept = 0
    while True:
        deleted = await core.control.ask(lambda connection: _sweep_some(connection, core))
        swept += deleted
        if deleted == 0:
            await core.control.ask(lambda connection: connection.execute(_FORGET_DEAD))
            await core.control.ask(forget_old)
            return swept


async def _sweep_some(connection: Connection, core: Core) -> int:
    async with connection.transaction():
        if not await connection.fetchval(_SWEEP_LOCK):
            return 0
        ids = [row["id"] for row in await connection.fetch(_EXPIRED_IDS, _BATCH)]
        if len(ids) < _BATCH:
            options = core.options
            many = await connection.fetch(
                _TOO_MANY, options.max_finished_runs, options.max_finished_bytes, _BATCH
            )
            ids += [row["id"] for row in many]
        gone = [row["id"] for row in await connection.fetch(_DELETE, ids)] if ids else []
        if gone:
            await connection.execute(_DELETE_EVENTS, gone)
        return len(gone)
