"""An operator's work on a shared store from a command line: check it, migrate it, sweep it,
erase in it.

It joins nothing and executes no run. Each but erasing answers the lines to print.
"""

import secrets

from pullcord.engine.options import EngineOptions
from pullcord.run.record import Erased, RunFilter
from pullcord.run.scope import Reach
from pullcord.stores.postgres import migrations
from pullcord.stores.postgres.connections import (
    Address,
    Connection,
    Connections,
    StoreError,
    require_primary,
)
from pullcord.stores.postgres.core import Core
from pullcord.stores.postgres.erasing import erase_some, look
from pullcord.stores.postgres.listening import Listening
from pullcord.stores.postgres.sweeping import sweep

_NOW = """
select (select count(*) from replica where alive) as replicas,
    (select count(*) from run where state between 1 and 4) as live,
    (select count(*) from run where state >= 5) as ended,
    pg_total_relation_size('run') as runs_size, pg_total_relation_size('event') as events_size
"""


async def check(address: Address) -> list[str]:
    """Raises StoreError, StoreUnavailable: what keeps servers from using it."""
    connection = await address.named("pullcord store check").connect()
    try:
        await require_primary(connection)
        done, wanted = await migrations.version(connection), len(migrations.MIGRATIONS)
        if done < wanted:
            raise StoreError(
                f"{address.shown}: its tables are at step {done} of {wanted}; run"
                " `pullcord store migrate`"
            )
        await Listening(address, _nothing).probe(connection)
        return [f"{address.shown}: can be used", *await _sizes(connection, done)]
    finally:
        connection.terminate()


async def _sizes(connection: Connection, done: int) -> list[str]:
    version = connection.get_server_version()
    row = await connection.fetchrow(_NOW)
    assert row is not None
    mib = 1024 * 1024
    return [
        f"  PostgreSQL    {version.major}.{version.minor}",
        f"  tables        at step {done}",
        f"  replicas      {row['replicas']} alive",
        f"  runs          {row['live']} live, {row['ended']} ended, {row['runs_size'] // mib} MiB",
        f"  events        {row['events_size'] // mib} MiB",
    ]


async def migrate(address: Address) -> list[str]:
    """Raises StoreError: this role may not."""
    connection = await address.named("pullcord store migrate").connect()
    try:
        await require_primary(connection)
        made = await migrations.migrate(connection)
    finally:
        connection.terminate()
    return [f"made: {purpose}" for purpose in made] or ["there was nothing to do"]


async def sweep_all(address: Address) -> list[str]:
    """Deletes all that has expired. Bounds are the servers' settings, and are not looked at."""
    unbounded = EngineOptions(max_finished_runs=2**53, max_finished_bytes=2**53)
    connections = Connections(address.named("pullcord store sweep"), 1)
    try:
        swept = await sweep(Core(unbounded, secrets.token_hex(8), connections, connections))
    finally:
        connections.close()
    return [f"deleted {swept} expired rows"]


async def erase(
    address: Address, reach: Reach, matching: RunFilter, *, validate_only: bool
) -> Erased:
    """Deletes for good what is kept of ended runs that match; see `RunStore.erase`."""
    connections = Connections(address.named("pullcord store erase"), 1)
    core = Core(EngineOptions(), secrets.token_hex(8), connections, connections)
    try:
        found = await look(core, reach, matching)
        while not validate_only and await erase_some(core, reach, matching):
            pass
        return found
    finally:
        connections.close()


async def _nothing(channels: object) -> None:
    pass
