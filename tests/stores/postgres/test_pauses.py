"""Runs that wait for a decision while their replica stops, stands still, or is taken for dead."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pullcord.engine.clock import ThreadClock
from pullcord.engine.directory import Directory
from pullcord.engine.live.live import LiveRun
from pullcord.engine.log.record import Record
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import LOCAL, CancelRequest, Entry, Pause
from pullcord.engine.sharing import Asked
from pullcord.run.cancel import CancelCause, Cancellation
from pullcord.run.errors import RunNotPaused, ServerBusy, StoreUnavailable
from pullcord.run.events import Event, Gap, RunPaused, RunStarted, ToolCall, ToolCallState
from pullcord.run.record import Decision, Run, RunSpec, SessionPolicy
from pullcord.run.state import RunState
from pullcord.run.usage import Limits
from pullcord.stores.postgres import PostgresStore

from tests.postgres import Database
from tests.stores.postgres.two import QUICK, Replica, paid, replica, until, words

YES, NO = [Decision("c1", approved=True)], [Decision("c1", note="no")]


async def paused(at: Replica, database: Database, run_id: str = "r", **more: Any) -> list[Event]:
    """Starts a run there; its events up to the pause, which the store then has."""
    await at.client.start("agents/pays", run_id=run_id, **more)
    seen = []
    async for event in at.client.watch(run_id):
        seen.append(event)
        if isinstance(event.payload, RunPaused):
            break
    assert seen[-1].payload.survives
    await until(
        database, "select 1 from run where continuation is not null and run_id = $1", run_id
    )
    return seen


TAKEN_UP = """
select 1 from run r join replica p using (incarnation) where p.alive and r.run_id = $1
    and exists (select 1 from replica where not alive)
"""


async def every(stream: Any) -> list[Event]:
    return [event async for event in stream]


async def test_a_paused_run_outlives_its_replica(empty: Database) -> None:
    """A replica is taken for dead while its run waits: the run stays PAUSED, and goes on at another
    one, once. Back again, the first one executes nothing of it; who watched, or waited for its
    end, at the first one sees what happens at the other. Its numbers are those of one run."""
    paid.clear()
    async with replica(empty.address) as a, replica(empty.address) as b:
        seen = await paused(a, empty)
        watcher = asyncio.create_task(every(a.client.watch("r")))
        waiter = asyncio.create_task(a.client.wait("r"))
        with a.frozen():
            await until(empty, TAKEN_UP, "r")
            assert (await b.client.get("r")).state is RunState.PAUSED
            with pytest.raises(StoreUnavailable):
                await a.client.continue_run("r", NO)
            await b.client.continue_run("r", YES)
            run = await b.client.wait("r")
        assert (run.state, run.output, paid) == (RunState.COMPLETED, "May I? anew", ["r"])
        assert (await waiter).output == run.output
        events = await watcher
        whole = await every(b.client.watch("r"))
        # A replica that learns of the end before it has read what led there says what is missing.
        gaps = [e.payload for e in events if isinstance(e.payload, Gap)]
        missed = {n for gap in gaps for n in range(gap.first_sequence, gap.last_sequence + 1)}
        told = [e for e in events if not isinstance(e.payload, Gap)]
        assert told == [e for e in whole if e.sequence not in missed]
        assert events[: len(seen)] == seen
        assert [e.sequence for e in whole] == list(range(1, run.last_sequence + 1))
        with pytest.raises(RunNotPaused):
            await a.client.continue_run("r", YES)
        assert paid == ["r"]


RESTS = """
select 1 from run where run_id = $1 and continuation is not null and question = last_seq
"""


async def waiting(at: Replica, database: Database, run_id: str) -> list[str]:
    """Starts a workflow there; its steps that wait, once the store has all of it."""
    await at.client.start("workflows/trip", "1", run_id=run_id)
    steps = []
    async for event in at.client.watch(run_id):
        if isinstance(event.payload, RunPaused):
            steps.append(event.payload.tool_calls[0].run_id)
            if len(steps) == 2:
                assert event.payload.survives
                break
    for one in (run_id, *steps):
        await until(database, RESTS, one)
    await until(database, "select 1 from run where run_id = $1 and state = 2", run_id)
    return steps


async def test_a_tree_outlives_its_replica(empty: Database) -> None:
    """A replica is taken for dead while two steps of a workflow wait: all of it is at another one,
    where each step is decided, and the rest is done, once. Who watched at the first replica sees
    the end that the other one made."""
    paid.clear()
    async with replica(empty.address) as a, replica(empty.address) as b:
        one, two = await waiting(a, empty, "r")
        watcher = asyncio.create_task(every(a.client.watch("r")))
        with a.frozen():
            await until(empty, TAKEN_UP, two)
            await b.client.continue_run(two, YES)
            assert (await b.client.wait(two)).output == "May I? anew"
            assert (await b.client.get("r")).state is RunState.RUNNING
            await b.client.continue_run(one, YES)
            run = await b.client.wait("r")
        assert (run.state, sorted(paid)) == (RunState.COMPLETED, sorted([one, two]))
        assert run.output_data is not None
        assert [step["state"] for step in dict(run.output_data)["steps"]] == ["completed"] * 4
        for run_id in ("r", one, two):
            whole = await every(b.client.watch(run_id))
            assert [e.sequence for e in whole] == list(range(1, len(whole) + 1))
        assert (await watcher)[-1] == (await every(b.client.watch("r")))[-1]


@pytest.mark.parametrize("what", ["root", "children"])
async def test_a_tree_that_was_taken_up_unheard_is_taken_up(
    empty: Database, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A replica that claims a tree, and does not hear of it because its store is away just then,
    has it once the store answers again."""
    paid.clear()
    async with replica(empty.address) as a, replica(empty.address) as b:
        one, two = await waiting(a, empty, "r")
        control, lost = b.store._core.control, threading.Event()
        ask = control.ask

        async def ask_in_vain(work: Any) -> Any:
            answer = await ask(work)
            rows = answer[0] if what == "children" and isinstance(answer, tuple) else answer
            is_claim = isinstance(rows, list) and bool(rows) and "elapsed" in dict(rows[0])
            if is_claim and not lost.is_set():
                lost.set()
                raise StoreUnavailable("the answer was lost")
            return answer

        monkeypatch.setattr(control, "ask", ask_in_vain)
        with a.frozen():
            for step in (one, two):
                await until(empty, TAKEN_UP, step)
                await b.client.continue_run(step, YES)
            run = await b.client.wait("r")
        assert (run.state, sorted(paid)) == (RunState.COMPLETED, sorted([one, two]))
        assert lost.is_set()


async def test_what_cannot_be_taken_up_is_given_back(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that has claimed a run and cannot take it up gives it back: it is claimed again."""
    paid.clear()
    async with replica(empty.address) as a, replica(empty.address) as b:
        await paused(a, empty)
        add, refused = Directory.add, threading.Event()

        def add_in_vain(self: Directory, live: LiveRun) -> None:
            if not refused.is_set():
                refused.set()
                raise ServerBusy("no room just now")
            add(self, live)

        monkeypatch.setattr(Directory, "add", add_in_vain)
        with a.frozen():
            await asyncio.to_thread(until_so, lambda: b.server.engine.find_here("r") is not None)
            assert refused.is_set()
            await b.client.continue_run("r", YES)
            assert (await b.client.wait("r")).output == "May I? anew"
        assert paid == ["r"]


async def test_a_tree_that_nobody_has_can_be_stopped(empty: Database) -> None:
    """While no replica is there, a step that is cancelled ends, and the workflow learns of it from
    whoever takes it up; a cancel of the whole ends every run of it."""
    paid.clear()
    clock = ThreadClock()
    async with replica(empty.address) as a:
        left, stays = await waiting(a, empty, "partly")
        gone = await waiting(a, empty, "gone")
    stop = CancelRequest(Cancellation(reason="not this one"))
    with contextlib.closing(PostgresStore(empty.address, clock, EngineOptions(), QUICK)) as nobody:
        for run_id in ("partly", left, stays, "gone", *gone):
            await until(
                empty, "select 1 from run where run_id = $1 and incarnation is null", run_id
            )
        for run_id in (left, "gone"):
            nobody.request_stop(LOCAL, run_id, stop, before_start=False)
        for run_id in (left, "gone", *gone):
            await until(empty, "select 1 from run where run_id = $1 and state = 6", run_id)
        (cancelled,) = [nobody.find(LOCAL, run_id) for run_id in gone[:1]]
        assert cancelled is not None
        assert cancelled.run.cancellation is not None
        assert cancelled.run.cancellation.cause is CancelCause.PARENT
    clock.close()
    async with replica(empty.address) as b:
        await until(empty, TAKEN_UP, stays)
        await b.client.continue_run(stays, YES)
        run = await b.client.wait("partly")
        assert (run.state, paid) == (RunState.COMPLETED, [stays])
        assert run.output_data is not None
        states = [step["state"] for step in dict(run.output_data)["steps"]]
        assert sorted(states) == ["cancelled", "completed", "completed", "completed"]


async def test_a_step_that_is_stopped_while_its_replica_is_not_yet_known_dead(
    empty: Database,
) -> None:
    """It ends CANCELLED, and its workflow learns of that from whoever takes it up, as if it had
    been stopped there; a cancel of the whole ends every run of it."""
    paid.clear()
    async with replica(empty.address) as a, replica(empty.address) as b:
        left, stays = await waiting(a, empty, "partly")
        gone = await waiting(a, empty, "gone")
        with a.frozen():
            await b.client.cancel(left, reason="not this one")
            await b.client.cancel("gone", reason="enough")
            await until(empty, TAKEN_UP, stays)
            await b.client.continue_run(stays, YES)
            run = await b.client.wait("partly")
            stopped = [await b.client.wait(one) for one in ("gone", *gone)]
        assert await a.client.wait("partly") == run
        assert (run.state, paid) == (RunState.COMPLETED, [stays])
        assert run.output_data is not None
        states = [step["state"] for step in dict(run.output_data)["steps"]]
        assert sorted(states) == ["cancelled", "completed", "completed", "completed"]
        assert (await b.client.get(left)).cancellation.reason == "not this one"
        whys = [(one.cancellation.cause, one.cancellation.reason) for one in stopped]
        assert whys == [
            (CancelCause.USER, "enough"),
            (CancelCause.PARENT, "enough"),
            (CancelCause.PARENT, "enough"),
        ]


async def test_a_run_that_nobody_serves_is_told_of(
    empty: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """It waits on, with a line in the log of one replica and in the metric of each; a cancel ends
    it, and then nothing waits any more."""
    async with replica(empty.address) as a:
        await paused(a, empty)
    async with (
        replica(empty.address, serves=[words]) as b,
        replica(empty.address, serves=[words]) as c,
    ):
        for one in (b, c):
            await asyncio.to_thread(until_so, lambda one=one: one.server.engine.unserved == 1)
        assert (await b.client.get("r")).state is RunState.PAUSED
        said = [r.getMessage() for r in caplog.records if "no replica serves" in r.getMessage()]
        assert said == [
            "run r waits, and no replica serves agents/pays; serve that again, or cancel the run"
        ]
        receipt = await b.client.cancel("r", wait=30)
        assert receipt.run.state is RunState.CANCELLED
        for one in (b, c):
            await asyncio.to_thread(until_so, lambda one=one: one.server.engine.unserved == 0)


def until_so(is_so: Callable[[], bool]) -> None:
    """Returns once something is so that a store says by itself."""
    while not is_so():
        pass


async def test_a_replica_that_stops_hands_its_paused_runs_over(empty: Database) -> None:
    """With their limits and their places: what waits behind one in a session begins after it, at
    whichever replica; a cancel ends one at once."""
    async with replica(empty.address) as b:
        async with replica(empty.address) as a:
            await paused(a, empty, "first", session_id="s")
            await paused(a, empty, "cancelled")
            await paused(a, empty, "late", limits=Limits(timeout=5.0))
            await b.client.start(
                "agents/words", run_id="second", session_id="s", session_policy=SessionPolicy.QUEUE
            )
        await b.client.cancel("cancelled", wait=10)
        assert (await b.client.get("cancelled")).state is RunState.CANCELLED
        await until(empty, TAKEN_UP, "first")
        assert (await b.client.get("second")).state is RunState.PENDING
        await b.client.continue_run("first", YES)
        first, second = await b.client.wait("first"), await b.client.wait("second")
        assert first.state is second.state is RunState.COMPLETED
        assert first.end_time <= second.start_time
        late = await b.client.wait("late")
        assert late.cancellation is not None
        assert late.cancellation.cause is CancelCause.BUDGET


async def test_one_decision_is_heard(empty: Database) -> None:
    """Of two that come to two replicas at once, one is taken and acted upon, once; the other caller
    is told that it was not."""
    async with replica(empty.address) as a, replica(empty.address) as b:
        for number in range(10):
            run_id = f"r{number}"
            await paused(a, empty, run_id)
            paid.clear()
            made = [a.client.continue_run(run_id, YES), b.client.continue_run(run_id, NO)]
            yes, no = await asyncio.gather(*made, return_exceptions=True)
            assert isinstance(yes, RunNotPaused) is not isinstance(no, RunNotPaused)
            await b.client.wait(run_id)
            assert paid == ([] if isinstance(yes, RunNotPaused) else [run_id])


def test_a_process_that_was_taken_for_dead_goes_on_with_nothing(empty: Database) -> None:
    """Others have the run by then, or will have: its decision is refused by the store, and theirs
    is taken."""
    options, clock = EngineOptions(), ThreadClock()
    with contextlib.closing(PostgresStore(empty.address, clock, options)) as old:
        spec = RunSpec("agents/a", run_id="r")
        old.admit(LOCAL, spec)
        call = ToolCall("1", "pay", state=ToolCallState.WAITING)
        records = [
            Record(1, 1, 1.0, RunStarted("agents/a")),
            Record(2, 1, 1.0, RunPaused("?", (call,), True)),
        ]
        run = Run("r", "agents/a", RunState.PAUSED)
        old.write([Entry(LOCAL, spec, records, 0, 9, pause=Pause(2, b"so far", run))])
        with contextlib.closing(PostgresStore(empty.address, clock, options)) as new:
            asked = Asked((Decision("1", approved=True),), "ann", 2)
            assert not new.go_on(LOCAL, "r", asked)  # it is not its run
            empty.execute("update replica set alive = false where incarnation = $1", _me(old))
            assert not old.go_on(LOCAL, "r", asked)
            (back,) = new.recover()
            assert back.carried is not None
            assert not old.go_on(LOCAL, "r", asked)
            assert new.go_on(LOCAL, "r", asked)
    clock.close()


def _me(store: PostgresStore) -> str:
    return store._core.incarnation
