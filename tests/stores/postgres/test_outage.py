"""What a store that stands still, or restarts, does to runs and to their cancels: little."""

import asyncio

import pytest
from pullcord.run.cancel import CancelOutcome
from pullcord.run.errors import StoreUnavailable
from pullcord.run.state import RunState

from tests.postgres import Database, Postgres
from tests.stores.postgres.two import replica, stopped


async def test_promise_05_a_frozen_store_delays_no_stop_of_a_run_here(
    alone: Database, fragile: Postgres
) -> None:
    """The run's code is stopped at once; the answer says that the stop is not recorded yet; and
    once the store is back the run has ended CANCELLED, everywhere."""
    async with replica(alone.address) as a, replica(alone.address) as b:
        await a.client.start("agents/talk", run_id="r1")
        while not (await b.client.get("r1")).output:
            pass
        stopped.clear()
        fragile.freeze()
        try:
            asked = asyncio.create_task(a.client.cancel("r1"))
            assert await asyncio.to_thread(stopped.wait, 2.0), "its code was not stopped"
            with pytest.raises(StoreUnavailable) as refused:
                await asked
            assert refused.value.stopping
            with pytest.raises(StoreUnavailable):
                await b.client.cancel("r1")
        finally:
            fragile.thaw()
        for client in (a.client, b.client):
            ended = await client.wait("r1")
            assert (ended.state, ended.output) == (RunState.CANCELLED, "hello ")
        assert (await b.client.cancel("r1")).outcome is CancelOutcome.STOPPED


async def test_a_restart_of_the_store_is_hardly_noticed(alone: Database, fragile: Postgres) -> None:
    """A run goes on while PostgreSQL crashes and comes back, and its watcher elsewhere misses
    nothing."""
    async with replica(alone.address) as a, replica(alone.address) as b:
        await a.client.start("agents/counts", "300", run_id="r1")
        watcher = b.client.watch("r1")
        seen = [await anext(watcher)]
        await asyncio.to_thread(fragile.stop)
        await asyncio.to_thread(fragile.start)
        seen += [event async for event in watcher]
        assert [event.sequence for event in seen] == sorted({event.sequence for event in seen})
        text = "".join(getattr(event.payload, "text", "") for event in seen)
        assert text.split() == [str(n) for n in range(300)]
        assert (await a.client.wait("r1")).state is RunState.COMPLETED
