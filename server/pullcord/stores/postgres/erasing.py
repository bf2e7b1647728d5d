"""Erasing: deletes ended runs for good, and the cancels that wait if a whole owner or tenant goes.

Who may ask for it is not decided here. What the server keeps of deleted rows until it vacuums, and
in its backups, is its operator's business.
"""

from pullcord.run.record import MAX_NAMED, Erased, RunFilter
from pullcord.run.scope import Reach
from pullcord.stores.postgres.connections import Connection
from pullcord.stores.postgres.core import ENDED, Core
from pullcord.stores.postgres.reading import Where

_BATCH = 500
"""Runs that are deleted in one transaction."""
_TOMBSTONE = "r.state = 0"
_ENDED = f"r.state >= {ENDED}"
_LIVE = "r.state between 1 and 4"


async def look(core: Core, reach: Reach, matching: RunFilter) -> Erased:
    """What `erase_some` deletes, and which runs keep living."""

    async def look(connection: Connection) -> Erased:
        where = Where(reach, matching, None)
        counts = await connection.fetchrow(
            f"select count(*) filter (where {_ENDED}) as runs,"
            f" count(*) filter (where {_TOMBSTONE}) as cancels from run r {where.conditions()}",
            *where.values,
        )
        where.add(_LIVE)
        live = await connection.fetch(
            f"select r.run_id from run r {where.conditions()} order by r.id limit {MAX_NAMED}",
            *where.values,
        )
        assert counts is not None
        cancels = counts["cancels"] if matching == RunFilter() else 0
        return Erased(counts["runs"], cancels, tuple(row["run_id"] for row in live))

    return await core.control.ask(look)


async def erase_some(core: Core, reach: Reach, matching: RunFilter) -> bool:
    """Deletes some, with their events, in one transaction; whether there may be more."""

    async def erase(connection: Connection) -> bool:
        where = Where(reach, matching, None)
        where.add(f"({_ENDED} or {_TOMBSTONE})" if matching == RunFilter() else _ENDED)
        async with connection.transaction():
            gone = await connection.fetch(
                "delete from run where id = any (array ("
                f"select r.id from run r {where.conditions()} order by r.id limit {_BATCH}"
                " for update)) returning id, tenant, owner, run_id",
                *where.values,
            )
            ids = [row["id"] for row in gone]
            await connection.execute("delete from event where id = any($1)", ids)
            await connection.execute(
                "delete from notice where (tenant, owner, run_id)"
                " in (select * from unnest($1::text[], $2::text[], $3::text[]))",
                *([row[name] for row in gone] for name in ("tenant", "owner", "run_id")),
            )
        return len(ids) == _BATCH

    return await core.control.ask(erase)
