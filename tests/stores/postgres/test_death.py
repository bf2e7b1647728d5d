"""What becomes of the runs of a replica that dies, or that others take for dead."""

import asyncio

from pullcord.run.cancel import CancelCause
from pullcord.run.events import Gap
from pullcord.run.state import RunState

from tests.postgres import Database, Postgres
from tests.stores.postgres.two import replica


async def test_a_dead_replicas_runs_end_lost_with_their_text(empty: Database) -> None:
    """Its runs end FAILED, cause LOST, behind a gap, with what was stored; a watcher elsewhere
    sees that; one whose stop had been recorded ends CANCELLED."""
    async with replica(empty.address) as a, replica(empty.address) as b:
        for name in ("lost", "stopped"):
            await a.client.start("agents/talk", run_id=name)
        seen: list = []
        watcher = b.client.watch("lost")
        seen += [await anext(watcher), await anext(watcher)]
        with a.frozen():
            await b.client.cancel("stopped")
            seen += [event async for event in watcher]
            lost, stopped = await b.client.wait("lost"), await b.client.wait("stopped")
        assert (lost.state, lost.output) == (RunState.FAILED, "hello ")
        assert lost.cancellation is not None
        assert lost.cancellation.cause is CancelCause.LOST
        assert (stopped.state, stopped.output) == (RunState.CANCELLED, "hello ")
        assert isinstance(seen[-2].payload, Gap)
        assert seen[-1].sequence == lost.last_sequence == seen[-2].sequence + 1
        # Back again, the replica shows the same end, to those who watch there too.
        at_owner = [event async for event in a.client.watch("lost", after_sequence=2)]
        assert at_owner[-1] == seen[-1]
        assert (await a.client.get("lost")).state is RunState.FAILED
        # And it takes new runs, as another incarnation.
        await a.client.start("agents/words", run_id="after")
        assert (await b.client.wait("after")).state is RunState.COMPLETED


async def test_a_watcher_at_the_fenced_replica_sees_the_end_that_stands(empty: Database) -> None:
    """Who watched at a replica that was taken for dead sees the end that the others made."""
    async with replica(empty.address) as a, replica(empty.address) as b:
        watcher = a.client.run("agents/talk", run_id="r1")
        seen = [await anext(watcher), await anext(watcher)]
        while (await b.client.get("r1")).last_sequence < 2:
            pass
        with a.frozen():
            lost = await b.client.wait("r1")
        seen += [event async for event in watcher]
        assert seen[-1].sequence == lost.last_sequence
        assert lost.cancellation is not None
        assert lost.cancellation.cause is CancelCause.LOST


async def test_a_run_that_had_not_begun_is_taken_over(empty: Database) -> None:
    """A run that waited for its turn at a replica that died begins at another one, once."""
    async with replica(empty.address) as a, replica(empty.address) as b:
        await b.client.start("agents/talk", run_id="first", session_id="s")
        await a.client.start(
            "agents/words", run_id="second", session_id="s", session_policy="queue"
        )
        with a.frozen():
            while not empty.rows("select 1 from replica where not alive"):
                await asyncio.to_thread(empty.rows, "select 1")
            await b.client.cancel("first")
            second = await b.client.wait("second")
        assert (second.state, second.output) == (RunState.COMPLETED, "0 1 2 ")


async def test_a_store_that_stands_still_is_nobodys_death(
    alone: Database, fragile: Postgres
) -> None:
    """PostgreSQL freezes for longer than the lease: both replicas live on, and no run is lost."""
    async with replica(alone.address) as a, replica(alone.address) as b:
        await a.client.start("agents/talk", run_id="r1")
        while (await b.client.get("r1")).last_sequence < 2:
            pass
        fragile.freeze()
        try:
            await asyncio.sleep(4)  # twice as long as it takes to be taken for dead
        finally:
            fragile.thaw()
        await a.client.start("agents/words", run_id="r2")
        assert (await b.client.wait("r2")).state is RunState.COMPLETED
        run = await b.client.get("r1")
        assert not run.state.is_terminal
        await b.client.cancel("r1")
        assert (await a.client.wait("r1")).state is RunState.CANCELLED
