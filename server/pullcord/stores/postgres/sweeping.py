"""Deletes what has expired, and what is more than the bounds; one replica at a time does.

It never touches a live run.
"""

from pullcord.stores.postgres import statements as sql
from pullcord.stores.postgres.connections import Connection
from pullcord.stores.postgres.core import Core

_BATCH = 500
"""Runs that are deleted in one transaction."""


async def sweep(core: Core) -> int:
    """Deletes until nothing is left to delete, or another replica does; how many runs that were."""
    swept = 0
    while True:
        deleted = await core.control.ask(lambda connection: _sweep_some(connection, core))
        swept += deleted
        if deleted == 0:
            return swept


async def _sweep_some(connection: Connection, core: Core) -> int:
    async with connection.transaction():
        if not await connection.fetchval(sql.SWEEP_LOCK):
            return 0
        ids = [row["id"] for row in await connection.fetch(sql.EXPIRED_IDS, _BATCH)]
        if len(ids) < _BATCH:
            options = core.options
            many = await connection.fetch(
                sql.TOO_MANY, options.max_finished_runs, options.max_finished_bytes, _BATCH
            )
            ids += [row["id"] for row in many]
        gone = [row["id"] for row in await connection.fetch(sql.DELETE, ids)] if ids else []
        if gone:
            await connection.execute(sql.DELETE_EVENTS, gone)
        return len(gone)
