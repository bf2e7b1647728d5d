"""The drill of docs/deploy.md: a copy that was made under load, restored, is a store that serves.

What was answered before the copy is in it; runs that were live then are lost; cancels that were
accepted later are not known.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from pullcord import RunServer
from pullcord.client import AsyncRunClient
from pullcord.run.cancel import CancelCause, CancelOutcome
from pullcord.run.errors import RunNotFound
from pullcord.run.state import RunState
from pullcord.settings import Settings
from pullcord.stores.postgres.connections import Address
from pullcord.stores.postgres.upkeep import check

from tests.postgres import Database, Postgres
from tests.stores.postgres.two import QUICK, counts, replica, talk, until, words


async def before(client: AsyncRunClient) -> None:
    """What happens before the copy is made, while another run writes."""
    await client.start("agents/counts", "1000000", run_id="busy")
    assert [event async for event in client.run("agents/words", "5", run_id="ended")]
    for run_id in ("stopped", "later"):
        await client.start("agents/talk", run_id=run_id)
        while not (await client.get(run_id)).output:
            pass
    assert (await client.cancel("stopped", wait=10)).outcome is CancelOutcome.STOPPED


IN_FILE = """
select 1 from run join event on event.run = run.id where run.run_id = 'later' and event.sequence > 1
"""
IN_DATABASE = "select 1 from run join event using (id) where run_id = 'later' and seq > 1"
"""Find something once the store has what that run said: it is shown before it is written."""


async def after(client: AsyncRunClient) -> None:
    """What happens after it."""
    assert (await client.cancel("later", wait=10)).outcome is CancelOutcome.STOPPED
    assert [event async for event in client.run("agents/words", run_id="new")]
    await client.cancel("busy")


async def restored(client: AsyncRunClient) -> None:
    """What the copy says, once it is served."""
    ended = await client.wait("ended")
    assert (ended.state, ended.output) == (RunState.COMPLETED, "0 1 2 3 4 ")
    events = [event async for event in client.watch("ended")]
    assert [event.sequence for event in events][-1] == ended.last_sequence
    assert (await client.cancel("stopped")).outcome is CancelOutcome.STOPPED
    for run_id in ("busy", "later"):
        lost = await client.wait(run_id)
        assert lost.state is RunState.FAILED
        assert lost.cancellation is not None
        assert lost.cancellation.cause is CancelCause.LOST
    assert (await client.get("later")).output == "hello "
    with pytest.raises(RunNotFound):
        await client.get("new")
    assert [event async for event in client.run("agents/words", run_id="new")]


async def served(store: Path, work: Callable[[AsyncRunClient], Awaitable[None]]) -> None:
    settings = Settings(listen="127.0.0.1:0", workers=1, store=str(store))
    server = RunServer([words, talk, counts], settings=settings)
    address = await asyncio.to_thread(server.start)
    try:
        async with AsyncRunClient(address) as client:
            await work(client)
    finally:
        await asyncio.to_thread(server.stop)


async def test_a_copy_of_a_file_in_use_is_restored(tmp_path: Path) -> None:
    """SQLite's own backup, as `sqlite3 runs.db ".backup copy.db"` makes it."""
    path, copy = tmp_path / "runs.db", tmp_path / "copy.db"

    async def drill(client: AsyncRunClient) -> None:
        await before(client)
        await asyncio.to_thread(_back_up_with_text, path, copy)
        await after(client)

    await served(path, drill)
    await served(copy, restored)


def _back_up_with_text(path: Path, copy: Path) -> None:
    source, target = sqlite3.connect(path), sqlite3.connect(copy)
    while not source.execute(IN_FILE).fetchall():
        pass
    source.backup(target)
    source.close()
    target.close()


async def test_a_dump_of_a_database_in_use_is_restored(fragile: Postgres, alone: Database) -> None:
    """`pg_dump`, `createdb`, `pg_restore`; the replica of then is taken for dead."""
    dump = fragile.folder / "runs.dump"
    async with replica(alone.address) as a:
        await before(a.client)
        await until(alone, IN_DATABASE)
        await asyncio.to_thread(fragile.dump, "alone", dump)
        await after(a.client)
    await asyncio.to_thread(fragile.restore, dump, "restored")
    address = Address(fragile.url("restored"))
    assert "can be used" in (await check(address))[0]
    async with replica(address, QUICK) as b:
        await restored(b.client)
