"""What becomes of the runs of a replica that dies, or that others take for dead."""

import asyncio
import threading

import asyncpg
import pytest
from pullcord.run.cancel import CancelCause, CancelMode
from pullcord.run.errors import StoreUnavailable
from pullcord.run.events import Gap
from pullcord.run.record import SessionPolicy
from pullcord.run.scope import LOCAL, Scope
from pullcord.run.state import RunState

from tests.postgres import Database, Postgres
from tests.stores.postgres.two import Replica, replica


async def test_a_dead_replicas_runs_end_lost_with_their_text(empty: Database) -> None:
    """Its runs end FAILED, cause LOST, behind a gap, with what was stored; a watcher elsewhere
    sees that; one whose stop had been recorded ends CANCELLED."""
    async with replica(empty.address) as a, replica(empty.address) as b:
        for name in ("lost", "stopped"):
            await a.client.start("agents/talk", run_id=name)
            while not (await b.client.get(name)).output:
                pass
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
            "agents/words", run_id="second", session_id="s", session_policy=SessionPolicy.QUEUE
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


async def test_a_replica_that_stood_still_shows_nothing_until_it_has_beaten(
    empty: Database,
) -> None:
    """Once its lease is over by its own clock, nobody is shown another event there, though numbers
    are reserved; and once it has beaten, all of them, without a hole."""
    async with replica(empty.address) as a:
        stream = a.client.run("agents/counts", "1000000", run_id="r1")
        await anext(stream)
        live = a.server.engine._directory.here(LOCAL, "r1")
        assert live is not None
        with a.frozen():
            while not a.store.is_fenced():
                await asyncio.to_thread(empty.rows, "select 1")
            watcher = live.watch(0)
            made = live.log.seal()
            while live.log.seal() < min(made + 20, live.log.visible):
                await asyncio.to_thread(empty.rows, "select 1")
            assert watcher.take() == []
            woken = threading.Event()
            assert watcher.arm(woken.set)
        assert await asyncio.to_thread(woken.wait, 30)
        while not (taken := watcher.take()):
            await asyncio.to_thread(empty.rows, "select 1")
        assert taken[0].sequence - taken[0].count == 0
        watcher.close()
        await a.client.cancel("r1")
        text = "".join([getattr(event.payload, "text", "") async for event in stream])
        assert text.split() == [str(n) for n in range(len(text.split()))]


async def test_a_new_timeline_is_told_what_it_may_have_forgotten(
    alone: Database, fragile: Postgres
) -> None:
    """After a failover that lost the last moments, accepted stops and reserved numbers are recorded
    again, and an end that was forgotten becomes LOST; runs at work go on."""
    async with replica(alone.address) as a:
        for run_id in ("works", "stopping"):
            await a.client.start("agents/stubborn", run_id=run_id)
            while not (await a.client.get(run_id)).output:
                pass
        assert [e async for e in a.client.run("agents/words", run_id="ended")]
        await a.client.cancel("stopping", grace_period=600)
        (before,) = alone.rows("select incarnation, reserved from run where run_id = 'works'")
        with a.frozen():
            await asyncio.to_thread(fragile.restart_on_new_timeline)
            there = await asyncpg.connect(alone.url)
            await there.execute("set search_path = pullcord")
            await there.execute(
                "update run set stop = null, reserved = 1, state = 2, record = null, output = null,"
                " expire_time = null, incarnation = $1",
                before["incarnation"],
            )
        rows = {}
        while (
            rows.get("ended", [0])[0] != 7
            or rows["stopping"][1] is None
            or rows["works"][2] < before["reserved"]
        ):
            found = await there.fetch("select run_id, state, stop, reserved, incarnation from run")
            rows = {row["run_id"]: tuple(row)[1:] for row in found}
        assert rows["works"][0] == 2
        assert rows["works"][3] == before["incarnation"]
        await there.close()
        lost = await a.client.get("ended")
        assert lost.cancellation is not None
        assert lost.cancellation.cause is CancelCause.LOST
        for run_id in ("works", "stopping"):
            assert (await a.client.get(run_id)).state.is_terminal is False
            await a.client.cancel(run_id, mode=CancelMode.IMMEDIATE)
            assert (await a.client.wait(run_id)).state is RunState.CANCELLED


async def test_a_run_is_taken_up_while_its_store_comes_and_goes(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that waited for its turn at a replica that died begins at another one, also if that one
    cannot ask its store at once which runs it supersedes."""
    async with replica(empty.address) as a, replica(empty.address) as b:
        await a.client.start("agents/stubborn", run_id="first", session_id="s")
        await a.client.start(
            "agents/words", run_id="second", session_id="s", session_policy=SessionPolicy.SUPERSEDE
        )
        ahead, asked = b.store.ahead, threading.Event()

        def ask_in_vain(scope: Scope, run_id: str) -> list[str]:
            if not asked.is_set():
                asked.set()
                raise StoreUnavailable("the store does not answer")
            return ahead(scope, run_id)

        monkeypatch.setattr(b.store, "ahead", ask_in_vain)
        with a.frozen():
            second = await b.client.wait("second")
        assert asked.is_set()
        assert (second.state, second.output) == (RunState.COMPLETED, "0 1 2 ")
        await asyncio.to_thread(until_empty, b)


def until_empty(at: Replica) -> None:
    """Returns once nothing there holds capacity."""
    while at.server.engine.occupied:
        pass
