"""A run is the same through whichever replica it is asked for."""

import asyncio

import pytest
from pullcord.run.cancel import CancelCause, CancelOutcome
from pullcord.run.errors import InvalidArgument, RunNotFound, RunNotPaused, SessionBusy
from pullcord.run.events import RunPaused
from pullcord.run.record import Decision, DisconnectPolicy, RunFilter, SessionPolicy
from pullcord.run.scope import LOCAL
from pullcord.run.state import RunState

from tests.postgres import Database
from tests.stores.postgres.two import replica


async def test_a_run_is_found_watched_and_stopped_through_another_replica(empty: Database) -> None:
    """GetRun, ListRuns, WatchRun, WaitRun and CancelRun work through a replica that does not
    execute the run, and the sequences are the same."""
    async with replica(empty.address) as a, replica(empty.address) as b:
        started = await a.client.start("agents/talk", run_id="r1")
        assert (await b.client.get("r1")).run_id == started.run_id
        assert [run.run_id async for run in b.client.list()] == ["r1"]
        seen = []
        async with b.client.watch("r1") as stream:
            async for event in stream:
                seen.append(event)
                if len(seen) == 2:
                    receipt = await b.client.cancel("r1", reason="enough")
                    assert receipt.outcome is CancelOutcome.REQUESTED
        assert seen[-1].is_terminal
        ended = await b.client.wait("r1")
        assert (ended.state, ended.output) == (RunState.CANCELLED, "hello ")
        assert ended.cancellation is not None
        assert ended.cancellation.reason == "enough"
        at_owner = [event async for event in a.client.watch("r1")]
        assert [(e.sequence, type(e.payload)) for e in at_owner] == [
            (e.sequence, type(e.payload)) for e in seen
        ]


async def test_the_same_start_at_two_replicas_starts_one_run(empty: Database) -> None:
    """Twenty run_ids, each started at both at once: each run is executed once, and both see it."""
    async with replica(empty.address) as a, replica(empty.address) as b:

        async def both(run_id: str) -> list[int]:
            streams = [c.run("agents/words", "3", run_id=run_id) for c in (a.client, b.client)]

            async def sequences(stream) -> list[int]:  # type: ignore[no-untyped-def]
                return [event.sequence async for event in stream]

            one, two = await asyncio.gather(*map(sequences, streams))
            assert one[-1] == two[-1]
            return one

        for n in range(20):
            await both(f"r{n}")
        ended = [run async for run in a.client.list()]
        assert {run.state for run in ended} == {RunState.COMPLETED}
        assert len(ended) == 20
        for run in ended:
            assert (await b.client.get(run.run_id)).output == "0 1 2 "


async def test_many_are_stopped_at_all_replicas(empty: Database) -> None:
    """CancelRuns stops what matches, wherever it is executed."""
    async with replica(empty.address) as a, replica(empty.address) as b:
        for n, client in enumerate((a.client, b.client) * 2):
            await client.start("agents/talk", run_id=f"r{n}", session_id="s")
        results = await a.client.cancel_many(RunFilter(session_id="s"))
        assert {result.run_id for result in results} == {f"r{n}" for n in range(4)}
        for n in range(4):
            run = await b.client.wait(f"r{n}")
            assert (run.state, run.output) == (RunState.CANCELLED, "hello ")


async def test_a_cancel_waits_for_the_stop_of_a_run_elsewhere(empty: Database) -> None:
    """CancelRun with `wait` answers once the run has stopped at its replica."""
    async with replica(empty.address) as a, replica(empty.address) as b:
        await a.client.start("agents/talk", run_id="r1")
        receipt = await b.client.cancel("r1", wait=20)
        assert receipt.outcome is CancelOutcome.STOPPED
        assert receipt.run is not None
        assert receipt.run.output == "hello "


async def test_a_paused_run_is_continued_through_another_replica(empty: Database) -> None:
    """ContinueRun brings the decisions to the owner, once, and says so if it is asked again."""
    async with replica(empty.address) as a, replica(empty.address) as b:
        async for event in a.client.run(
            "agents/asks", run_id="r1", on_disconnect=DisconnectPolicy.CONTINUE
        ):
            if isinstance(event.payload, RunPaused):
                [call] = event.payload.tool_calls
                break
        run = await b.client.get("r1")
        while run.state is not RunState.PAUSED:  # its event is on its way to the store
            run = await b.client.get("r1")
        decisions = [Decision(call.tool_call_id, approved=True)]
        with pytest.raises(InvalidArgument):
            await b.client.continue_run("r1", [Decision("other")])
        continued = await b.client.continue_run("r1", decisions)
        assert not continued.state.is_terminal or continued.state is RunState.COMPLETED
        ended = await b.client.wait("r1")
        assert (ended.state, ended.output) == (RunState.COMPLETED, "approved")
        with pytest.raises(RunNotPaused):
            await b.client.continue_run("r1", decisions)


async def test_sessions_take_turns_across_replicas(empty: Database) -> None:
    """A QUEUE run waits for a run of its session elsewhere, REJECT is refused, SUPERSEDE stops."""
    async with replica(empty.address) as a, replica(empty.address) as b:
        await a.client.start("agents/talk", run_id="r1", session_id="s")
        for policy in SessionPolicy:  # another user's session of that name is another one
            theirs = {"session_id": "s", "user_id": "bob", "session_policy": policy}
            await b.client.start("agents/words", run_id=policy, **theirs)
            assert (await b.client.wait(policy)).state is RunState.COMPLETED
        with pytest.raises(SessionBusy):
            await b.client.start(
                "agents/words", run_id="r2", session_id="s", session_policy=SessionPolicy.REJECT
            )
        queue = SessionPolicy.QUEUE
        await b.client.start("agents/words", run_id="r3", session_id="s", session_policy=queue)
        assert (await a.client.get("r3")).state is RunState.PENDING
        await a.client.start(
            "agents/words", run_id="r4", session_id="s", session_policy=SessionPolicy.SUPERSEDE
        )
        states = [(await a.client.wait(f"r{n}")).state for n in (1, 3, 4)]
        assert states == [RunState.CANCELLED, RunState.CANCELLED, RunState.COMPLETED]
        await a.client.start("agents/talk", run_id="r5", session_id="s")
        await b.client.start("agents/words", run_id="r6", session_id="s", session_policy=queue)
        await b.client.cancel("r5")
        assert (await b.client.wait("r6")).state is RunState.COMPLETED


async def test_a_client_that_comes_back_elsewhere_has_not_left(empty: Database) -> None:
    """A run whose watcher left its owner goes on while another replica has a watcher; once that one
    has left too, the run is cancelled, cause DISCONNECT."""
    async with replica(empty.address) as a, replica(empty.address) as b:
        first = a.client.run("agents/talk", run_id="r1")
        async with first:
            await anext(first)
            second = b.client.watch("r1")
            await anext(second)
        run = await b.client.get("r1")
        assert run.state is not RunState.CANCELLED
        await second.close()
        ended = await b.client.wait("r1")
        assert ended.cancellation is not None
        assert ended.cancellation.cause is CancelCause.DISCONNECT


async def test_what_is_erased_at_one_replica_is_gone_at_all(empty: Database) -> None:
    """Also at the one that executed it, and for a client that watches it again at another."""
    async with replica(empty.address) as a, replica(empty.address) as b:
        for run_id in ("r1", "r2"):
            assert [e async for e in a.client.run("agents/words", run_id=run_id, user_id="ann")]
            assert [e async for e in b.client.watch(run_id)]
        await a.client.start("agents/talk", run_id="live", user_id="ann")
        erased = await b.client.erase(user_id="ann")
        assert (erased.runs, erased.live) == (2, ("live",))
        for client in (a.client, b.client):
            with pytest.raises(RunNotFound):
                await client.get("r1")
            with pytest.raises(RunNotFound):
                assert [e async for e in client.watch("r2")]
            assert [run.run_id async for run in client.list()] == ["live"]
        await b.client.cancel("live", wait=5)
        assert (await a.client.erase(user_id="ann")).runs == 1
        assert empty.rows("select * from event") == []


async def test_who_was_made_to_leave_is_expected_back_wherever_it_was(empty: Database) -> None:
    """A watcher that a replica makes leave, as its credential has expired, counts as present for
    the time of a lease, also at a replica that does not execute the run."""
    async with replica(empty.address) as a, replica(empty.address) as b:
        await a.client.start("agents/talk", run_id="r1", on_disconnect=DisconnectPolicy.CANCEL)
        watcher = await asyncio.to_thread(lambda: b.server.engine.find("r1").watch())
        watcher.close(comes_back=True)
        left = "select watched_until as until, clock_timestamp() as now from run"
        (first,) = empty.rows(left)
        while (row := empty.rows(left)[0])["until"] <= first["until"]:
            assert row["now"] < first["until"], "nobody is expected back"
        assert a.store.is_watched(LOCAL, "r1")
        assert not (await a.client.get("r1")).state.is_terminal
        await a.client.cancel("r1")
