"""When another server takes over from the store's: what it may have forgotten is recorded again.

A standby that is not synchronous lacks the last moments. What this process knows of them it still
knows. Whether this process was taken for dead meanwhile is `membership`'s.
"""

import logging
from collections.abc import Callable

import asyncpg

from pullcord.stores.postgres.connections import Connection, Connections
from pullcord.stores.postgres.core import Core

_log = logging.getLogger("pullcord.store")

_TIMELINE = "select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
"""Changes when another server takes over, or this one was restored."""
_ASSERT = """
update run r set reserved = greatest(r.reserved, k.reserved)
from unnest($2::bigint[], $3::bigint[]) as k(id, reserved)
where r.id = k.id and r.incarnation = $1 and r.state between 1 and 4
"""
_FORGOTTEN = """
select r.id from run r
where r.incarnation = $1 and r.state between 1 and 4 and not r.id = any($2)
"""
_GIVE_UP = """
update run r set incarnation = null
where r.id = any($2) and r.incarnation = $1 and r.state between 1 and 4
"""


class Timeline:
    """The history that the store's server is on. Used on the store's loop only."""

    def __init__(
        self, core: Core, connections: Connections, on_forgotten: Callable[[], None]
    ) -> None:
        """`on_forgotten` is called when the store may have forgotten stops of runs here."""
        self._core = core
        self._connections = connections
        self._on_forgotten = on_forgotten
        self._timeline = ""
        self._seen_over: Connection | None = None
        self._strays: set[int] | None = None

    async def look(self) -> None:
        """To be called after each beat that found this process alive. Raises StoreUnavailable."""
        if await self._connections.ask(self._is_another_timeline):
            await self._assert_again()
        elif self._strays is not None:
            await self._give_up_strays()

    async def _is_another_timeline(self, connection: Connection) -> bool:
        """Looks once a connection: a failover breaks all of them."""
        if connection is self._seen_over:
            return False
        try:
            timeline = str(await connection.fetchval(_TIMELINE))
        except (asyncpg.FeatureNotSupportedError, asyncpg.InsufficientPrivilegeError):
            timeline = self._timeline  # a service that has none
        before, self._timeline, self._seen_over = self._timeline, timeline, connection
        return before not in ("", timeline)

    async def _assert_again(self) -> None:
        """The store is another server's copy, and may lack the last moments: what may have been
        shown is reserved again, and stops are recorded again."""
        core = self._core
        _log.warning("the store is on another timeline; what is known here is recorded again")
        ids = [own.id for own in core.own.values()]
        reserved = [own.reserved for own in core.own.values()]
        await self._connections.ask(
            lambda connection: connection.execute(_ASSERT, core.incarnation, ids, reserved)
        )
        self._on_forgotten()
        self._strays = await self._unknown()

    async def _give_up_strays(self) -> None:
        """Runs that ended here, and are live again in the store, are ended by the process that
        notices. One that was just admitted is not among them: it is known here by now."""
        strays, self._strays = self._strays or set(), None
        ids = list(strays & await self._unknown())
        await self._connections.ask(
            lambda connection: connection.execute(_GIVE_UP, self._core.incarnation, ids)
        )

    async def _unknown(self) -> set[int]:
        core = self._core
        known = [own.id for own in core.own.values()]
        rows = await self._connections.ask(
            lambda connection: connection.fetch(_FORGOTTEN, core.incarnation, known)
        )
        return {row["id"] for row in rows}
