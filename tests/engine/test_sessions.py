"""Whose turn it is in a session, and what becomes of the runs that wait for theirs."""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pullcord.engine.engine import Engine
from pullcord.engine.ports import CancelRequest
from pullcord.engine.sessions import Sessions
from pullcord.run.cancel import CancelCause, Cancellation, CancelMode, CancelOutcome
from pullcord.run.context import RunContext
from pullcord.run.errors import Draining, InvalidArgument, RunNotFound, ServerBusy, SessionBusy
from pullcord.run.events import RunCancelled, RunStarted
from pullcord.run.record import DisconnectPolicy, Run, RunFilter, RunSpec, SessionPolicy
from pullcord.run.scope import LOCAL
from pullcord.run.state import RunState
from pullcord.testing import (
    Gate,
    ManualClock,
    RecordingObserver,
    Script,
    make_engine,
    nothing_left,
    say,
)

REJECT, QUEUE, SUPERSEDE = SessionPolicy.REJECT, SessionPolicy.QUEUE, SessionPolicy.SUPERSEDE
CONTINUE = DisconnectPolicy.CONTINUE
STOP = CancelRequest(Cancellation(actor="ann", reason="enough"))


class House:
    """An engine, what it observed, and the runs of one session."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock()
        self.observer = RecordingObserver()
        self.engine: Engine = make_engine(self.clock, self.observer, **options)

    def start(
        self, script: Script, run_id: str, policy: SessionPolicy | None = None, **more: Any
    ) -> Run:
        deadline = more.pop("deadline", None)
        session = more.pop("session_id", "s")
        spec = RunSpec(
            f"agents/{script.id}",
            run_id=run_id,
            session_id=session,
            session_policy=policy,
            **more,
        )
        return self.engine.start(script, spec, deadline=deadline)

    def ended(self, *run_ids: str) -> list[Run]:
        """These runs, once they have ended and the engine has done with them."""
        self.observer.wait_for(lambda o: {*run_ids} <= {run.run_id for run in o.ended})
        return [self.engine.get(run_id) for run_id in run_ids]

    def nothing_holds(self) -> None:
        """No capacity, no session and no live run is left."""
        assert self.engine.wait_idle(20)
        self.observer.wait_for(lambda _: self.engine.occupied == 0)
        left = self.engine.remains()
        assert (left.live, left.claims, left.tombstones, left.sessions) == (0, 0, 0, 0)


@pytest.fixture
def make_house() -> Iterator[Callable[..., House]]:
    houses: list[House] = []

    def make(**options: Any) -> House:
        houses.append(House(**options))
        return houses[-1]

    with nothing_left():
        yield make
        for house in houses:
            house.engine.close()


@pytest.fixture
def house(make_house: Callable[..., House]) -> House:
    return make_house()


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def is_async(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


class TestNoPolicy:
    def test_runs_of_one_session_may_overlap(self, house: House, is_async: bool) -> None:
        """Without a policy a run begins at once, whatever its session is at."""
        gate = Gate()
        script = Script(gate, is_async=is_async)
        house.start(script, "a")
        house.start(script, "b")
        gate.wait_reached()
        gate.wait_reached()
        gate.open()
        assert {run.state for run in house.ended("a", "b")} == {RunState.COMPLETED}
        house.nothing_holds()


class TestReject:
    def test_a_busy_session_refuses(self, house: House) -> None:
        """REJECT names the session and the run that it is busy with; nothing was started."""
        gate = Gate()
        script = Script(gate)
        house.start(script, "a")
        with pytest.raises(SessionBusy) as refused:
            house.start(script, "b", REJECT)
        assert (refused.value.session_id, refused.value.run_id) == ("s", "a")
        assert house.observer.refused == ["SessionBusy"]
        assert house.engine.occupied == 1
        gate.open()
        house.ended("a")
        house.nothing_holds()
        assert house.start(script, "b", REJECT).run_id == "b"
        house.ended("b")

    def test_other_sessions_and_no_session_are_not_in_the_way(self, house: House) -> None:
        """A session is busy with its own runs only."""
        gate = Gate()
        script = Script(gate)
        house.start(script, "a", session_id="t")
        house.start(script, "b", session_id="")
        house.start(script, "c", REJECT)
        gate.open()
        house.ended("a", "b", "c")
        house.nothing_holds()

    def test_asking_again_finds_the_run(self, house: House) -> None:
        """The same run asked for again is that run, and does not stand in its own way."""
        gate = Gate()
        script = Script(gate)
        house.start(script, "a", REJECT)
        assert house.start(script, "a", REJECT).run_id == "a"
        gate.open()
        house.ended("a")
        assert house.start(script, "a", REJECT).state is RunState.COMPLETED
        assert script.runs == 1

    def test_many_at_once_make_one_run(self, house: House) -> None:
        """Of many starts at once under REJECT one gets the session."""
        gate = Gate()
        script = Script(gate)
        barrier = threading.Barrier(16)

        def start(n: int) -> str | None:
            barrier.wait()
            try:
                return house.start(script, f"r{n}", REJECT).run_id
            except SessionBusy as refused:
                return None if refused.run_id.startswith("r") else "wrong"

        with ThreadPoolExecutor(16) as pool:
            started = [run_id for run_id in pool.map(start, range(16)) if run_id is not None]
        assert len(started) == 1
        gate.open()
        house.ended(*started)
        assert script.runs == 1
        house.nothing_holds()

    def test_a_refusal_for_want_of_room_takes_no_place(
        self, make_house: Callable[..., House]
    ) -> None:
        """A run that the server has no room for does not make its session busy."""
        house = make_house(workers=1, worker_queue=0)
        gate = Gate()
        script = Script(gate)
        house.start(script, "a", session_id="t")
        gate.wait_reached()
        with pytest.raises(ServerBusy):
            house.start(script, "b", REJECT)
        gate.open()
        house.ended("a")
        house.nothing_holds()


class TestQueue:
    def test_a_run_begins_when_all_before_it_have_ended(self, house: House, is_async: bool) -> None:
        """QUEUE: PENDING until every earlier run of the session has ended, in order."""
        first, second = Gate(), Gate()
        house.start(Script(first, id="one", is_async=is_async), "a")
        assert house.start(Script(second, id="two"), "b", QUEUE).state is RunState.PENDING
        last = Script(say("c"), id="three", is_async=is_async)
        house.start(last, "c", QUEUE)
        first.wait_reached()
        assert house.engine.occupied == 3
        first.open()
        second.wait_reached()
        assert last.runs == 0
        assert house.engine.get("c").state is RunState.PENDING
        second.open()
        ended = house.ended("a", "b", "c")
        assert [run.state for run in ended] == [RunState.COMPLETED] * 3
        assert [run.run_id for run in house.observer.ended] == ["a", "b", "c"]
        house.nothing_holds()

    def test_runs_that_may_overlap_are_waited_for_too(self, house: House) -> None:
        """A run without a policy does not wait, and is waited for by those that come later."""
        first, second = Gate(), Gate()
        house.start(Script(first, id="one"), "a")
        house.start(Script(second, id="two"), "b")
        last = Script(id="three")
        house.start(last, "c", QUEUE)
        second.wait_reached()
        first.open()
        house.ended("a")
        assert last.runs == 0
        second.open()
        house.ended("c")
        house.nothing_holds()

    def test_a_waiting_run_holds_no_thread(self, make_house: Callable[..., House]) -> None:
        """Any number of runs may wait for their turn while one thread does all the work."""
        house = make_house(workers=1, worker_queue=2)
        gate = Gate()
        script = Script(gate)
        for n in range(50):
            house.start(script, f"r{n}", QUEUE)
        gate.wait_reached()
        # The one thread is busy, and its queue of two is free.
        house.start(Script(id="other"), "x", session_id="t")
        gate.open()
        runs = house.ended("x", *(f"r{n}" for n in range(50)))
        assert {run.state for run in runs} == {RunState.COMPLETED}
        house.nothing_holds()

    @pytest.mark.parametrize("mode", CancelMode)
    def test_a_waiting_run_can_be_cancelled_at_once(self, house: House, mode: CancelMode) -> None:
        """A cancel finds a run that waits, which ends without having begun; the next moves up."""
        gate = Gate()
        waits, next_one = Script(id="waits"), Script(id="next")
        house.start(Script(gate), "a")
        house.start(waits, "b", QUEUE)
        house.start(next_one, "c", QUEUE)
        receipt = house.engine.cancel("b", CancelRequest(Cancellation(mode=mode)))
        assert receipt.outcome is CancelOutcome.STOPPED
        assert house.engine.occupied == 2
        payloads = [type(event.payload) for event in house.engine.watch("b")]
        assert (payloads[0], payloads[-1]) == (RunStarted, RunCancelled)
        gate.open()
        house.ended("a", "b", "c")
        assert (waits.runs, next_one.runs) == (0, 1)
        house.nothing_holds()

    def test_the_deadline_counts_while_a_run_waits(self, house: House) -> None:
        """A run whose caller's deadline comes while it waits ends with cause DEADLINE."""
        gate = Gate()
        waits = Script(id="waits")
        house.start(Script(gate), "a")
        house.start(waits, "b", QUEUE, deadline=10.0)
        house.clock.advance(10.0)
        (run,) = house.ended("b")
        assert run.cancellation is not None
        assert (run.state, run.cancellation.cause) == (RunState.CANCELLED, CancelCause.DEADLINE)
        gate.open()
        house.ended("a")
        assert waits.runs == 0
        house.nothing_holds()

    def test_the_lease_counts_while_a_run_waits(self, house: House) -> None:
        """A run that nobody watches while it waits is stopped as its disconnect policy says."""
        gate = Gate()
        house.start(Script(gate), "a")
        house.start(Script(id="w"), "b", QUEUE, on_disconnect=DisconnectPolicy.LEASE, lease=5.0)
        house.clock.advance(5.0)
        (run,) = house.ended("b")
        assert run.cancellation is not None
        assert run.cancellation.cause is CancelCause.DISCONNECT
        gate.open()

    def test_no_room_when_the_turn_comes_fails_the_run(
        self, make_house: Callable[..., House]
    ) -> None:
        """A run that cannot begin when its turn comes ends FAILED, and so do all behind it."""
        house = make_house(workers=2, worker_queue=0)
        first, filler = Gate(), Gate()
        house.start(Script(first), "a")
        many = [f"r{n}" for n in range(3000)]
        for run_id in many:
            house.start(Script(id="waits"), run_id, QUEUE)
        first.wait_reached()
        house.start(Script(filler, id="filler"), "x", session_id="t")
        filler.wait_reached()
        house.engine.cancel("a", CancelRequest(Cancellation(mode=CancelMode.IMMEDIATE)))
        runs = house.ended(*many)
        filler.open()
        house.ended("a", "x")
        # The thread that the first one frees is not yet free when it begins the next.
        assert {run.state for run in runs} == {RunState.FAILED}
        assert {run.error.type for run in runs if run.error is not None} == {"ServerBusy"}
        house.nothing_holds()

    def test_a_run_keeps_the_context_of_its_caller(self, house: House) -> None:
        """Context variables are those of who started the run, not of whose end began it."""
        who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")
        seen: list[str] = []
        gate = Gate()
        house.start(Script(gate), "a")
        token = who.set("ann")
        house.start(Script(lambda ctx: seen.append(who.get()), id="w"), "b", QUEUE)
        who.reset(token)
        gate.open()
        house.ended("b")
        assert seen == ["ann"]

    def test_many_at_once_run_one_after_the_other(self, house: House, is_async: bool) -> None:
        """Of many starts at once under QUEUE all run, and never two at a time."""
        busy, most, lock = 0, 0, threading.Lock()

        def enter(ctx: RunContext) -> None:
            nonlocal busy, most
            with lock:
                busy += 1
                most = max(most, busy)

        def leave(ctx: RunContext) -> None:
            nonlocal busy
            with lock:
                busy -= 1

        script = Script(enter, say("x"), leave, is_async=is_async)
        barrier = threading.Barrier(16)

        def start(n: int) -> None:
            barrier.wait()
            for m in range(20):
                house.start(script, f"r{n}-{m}", QUEUE)

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(start, range(16)))
        ended = house.ended(*(f"r{n}-{m}" for n in range(16) for m in range(20)))
        assert {run.state for run in ended} == {RunState.COMPLETED}
        assert (script.runs, most) == (320, 1)
        house.nothing_holds()

    def test_cancels_race_with_turns(self, house: House) -> None:
        """Whether a cancel or its turn reaches a waiting run first, it ends once, and all go on."""
        script = Script(say("x"))
        for round_ in range(150):
            ids = [f"r{round_}-{n}" for n in range(4)]
            gate = Gate()
            house.start(Script(gate, id="gate"), f"g{round_}")
            for run_id in ids:
                house.start(script, run_id, QUEUE)
            barrier = threading.Barrier(3)

            def cancel(run_ids: list[str], barrier: threading.Barrier = barrier) -> None:
                barrier.wait()
                for run_id in run_ids:
                    house.engine.cancel(run_id, STOP)

            threads = [
                threading.Thread(target=cancel, args=(part,)) for part in (ids[:2], ids[2:3])
            ]
            for thread in threads:
                thread.start()
            barrier.wait()
            gate.open()
            for thread in threads:
                thread.join()
            runs = house.ended(*ids)
            assert runs[3].state is RunState.COMPLETED
            assert {run.state for run in runs} <= {RunState.COMPLETED, RunState.CANCELLED}
        house.nothing_holds()

    async def test_a_closed_loop_does_not_block_the_session(self, house: House) -> None:
        """A run that waits for its turn on a loop that was closed meanwhile fails, and the session
        goes on."""
        gate = Gate()
        house.start(Script(gate), "a")
        loop = asyncio.new_event_loop()
        spec = RunSpec("agents/w", run_id="b", session_id="s", session_policy=QUEUE)
        house.engine.start(Script(id="w", is_async=True), spec, loop=loop)
        house.start(Script(id="last"), "c", QUEUE)
        loop.close()
        gate.open()
        failed, last = await asyncio.to_thread(house.ended, "b", "c")
        assert (failed.state, last.state) == (RunState.FAILED, RunState.COMPLETED)
        house.nothing_holds()


class TestSupersede:
    def test_the_newer_run_takes_the_place_of_the_earlier(
        self, house: House, is_async: bool
    ) -> None:
        """SUPERSEDE stops what is live and begins when that is over, with its output as history."""
        gate = Gate()
        history: list[Run] = []
        script = Script(say("so far"), gate, id="talk", is_async=is_async)
        house.start(script, "a")
        gate.wait_reached()
        newer = Script(lambda ctx: history.extend(ctx.history()), id="talk", is_async=is_async)
        house.start(newer, "b", SUPERSEDE)
        old, _ = house.ended("a", "b")
        assert old.cancellation is not None
        assert (old.state, old.output) == (RunState.CANCELLED, "so far")
        assert old.cancellation.cause is CancelCause.SUPERSEDED
        assert "b" in old.cancellation.reason.split()
        assert [(run.run_id, run.output) for run in history] == [("a", "so far")]
        house.nothing_holds()

    def test_runs_that_wait_are_superseded_without_beginning(self, house: House) -> None:
        """A newer run also takes the place of those that wait; none of them is begun for it."""
        gate = Gate()
        waits = Script(id="waits")
        house.start(Script(gate), "a")
        for n in range(20):
            house.start(waits, f"w{n}", QUEUE)
        gate.wait_reached()
        house.start(Script(id="new"), "b", SUPERSEDE)
        runs = house.ended("b", *(f"w{n}" for n in range(20)))
        assert runs[0].state is RunState.COMPLETED
        assert {run.cancellation and run.cancellation.cause for run in runs[1:]} == {
            CancelCause.SUPERSEDED
        }
        assert waits.runs == 0
        house.nothing_holds()

    def test_a_tool_in_flight_is_waited_for(self, house: House) -> None:
        """The newer run does not begin before the earlier one has really ended."""
        gate = Gate(deaf=True)
        house.start(Script(gate), "a")
        gate.wait_reached()
        newer = Script(id="new")
        assert house.start(newer, "b", SUPERSEDE).state is RunState.PENDING
        assert house.engine.get("a").state is RunState.CANCELLING
        assert newer.runs == 0
        gate.open()
        house.ended("a", "b")
        assert newer.runs == 1
        house.nothing_holds()

    def test_a_run_cancelled_before_it_came_supersedes_nobody(self, house: House) -> None:
        """A run that a cancel has overtaken ends without doing anything, also to its session."""
        gate = Gate()
        house.engine.cancel("b", STOP, before_start=True)
        house.start(Script(gate), "a")
        assert house.start(Script(id="new"), "b", SUPERSEDE).state is RunState.CANCELLED
        assert house.engine.get("a").cancellation is None
        house.engine.cancel("c", STOP, before_start=True)
        assert house.start(Script(id="new"), "c", QUEUE).state is RunState.CANCELLED
        gate.open()
        house.ended("a")
        house.nothing_holds()

    def test_a_rejected_run_leaves_the_cancel_that_waits_for_it(self, house: House) -> None:
        """A run that was refused has not come: a cancel goes on waiting for it."""
        gate = Gate()
        house.engine.cancel("b", STOP, before_start=True)
        house.start(Script(gate), "a")
        with pytest.raises(SessionBusy):
            house.start(Script(id="new"), "b", REJECT)
        gate.open()
        house.ended("a")
        assert house.start(Script(id="new"), "b", REJECT).state is RunState.CANCELLED

    def test_many_at_once_leave_one_to_complete(self, house: House, is_async: bool) -> None:
        """Of many starts at once under SUPERSEDE the last completes; no two are ever at work."""
        busy, most, lock = 0, 0, threading.Lock()
        gate = Gate()

        def enter(ctx: RunContext) -> None:
            nonlocal busy, most
            with lock:
                busy += 1
                most = max(most, busy)

        def body(ctx: RunContext) -> Any:
            if is_async:
                return _awaited(ctx)
            try:
                gate(ctx)
            finally:
                leave()
            return None

        async def _awaited(ctx: RunContext) -> None:
            try:
                await gate(ctx)  # type: ignore[misc]  # awaitable in async code
            finally:
                leave()

        def leave() -> None:
            nonlocal busy
            with lock:
                busy -= 1

        script = Script(enter, body, is_async=is_async)
        barrier = threading.Barrier(12)

        def start(n: int) -> None:
            barrier.wait()
            for m in range(8):
                house.start(script, f"r{n}-{m}", SUPERSEDE)

        with ThreadPoolExecutor(12) as pool:
            list(pool.map(start, range(12)))
        live = [r.run_id for r in house.engine.list_page(RunFilter(session_id="s"), 1000).runs]
        assert len(live) == 96
        gate.open()
        runs = house.ended(*live)
        done = [run for run in runs if run.state is RunState.COMPLETED]
        stopped = [run for run in runs if run.state is RunState.CANCELLED]
        assert (len(done), len(stopped)) == (1, 95)
        assert {r.cancellation.cause for r in stopped if r.cancellation} == {CancelCause.SUPERSEDED}
        assert most == 1
        house.nothing_holds()

    def test_what_is_beneath_is_stopped_by_its_parent(self, house: House) -> None:
        """A superseded run's children are stopped with it, cause PARENT."""
        gate = Gate()
        child = Script(gate, id="child", is_async=True)

        async def delegate(ctx: RunContext) -> None:
            await ctx.start(child).wait()

        house.start(Script(delegate, is_async=True), "a")
        gate.wait_reached()
        house.start(Script(id="new"), "b", SUPERSEDE)
        house.ended("a", "b")
        (beneath,) = house.engine.list_page(RunFilter(parent_run_id="a"), 10).runs
        assert beneath.cancellation is not None
        assert beneath.cancellation.cause is CancelCause.PARENT
        house.nothing_holds()


class Waiting:
    """A run as its session sees it."""

    def __init__(self, run_id: str, policy: SessionPolicy) -> None:
        self.run_id, self.scope = run_id, LOCAL
        self.spec = RunSpec("agents/new", run_id=run_id, session_id="s", session_policy=policy)


def test_none_begins_between_the_decision_and_its_stop() -> None:
    """A run that is to be superseded does not begin, though the one before it ends by then."""
    sessions, begun = Sessions(), []
    first, waits, newer = Waiting("a", QUEUE), Waiting("w", QUEUE), Waiting("b", SUPERSEDE)
    for run in (first, waits, newer):
        sessions.enter(run)
    assert sessions.is_turn(first, lambda: begun.append("a"))
    assert not sessions.is_turn(waits, lambda: begun.append("w"))
    assert [run.run_id for run in sessions.supersede(newer)] == ["a", "w"]
    assert not sessions.is_turn(newer, lambda: begun.append("b"))
    assert not sessions.leave(first)
    assert begun == []
    assert sessions.leave(waits), "it was ready, and will never begin"
    assert begun == ["b"]
    sessions.leave(newer)
    assert len(sessions) == 0


class TestTheEndOfTheProcess:
    def test_a_waiting_run_was_admitted_and_goes_on_in_a_drain(self, house: House) -> None:
        """A server that drains begins the runs that wait, and takes no new ones."""
        gate = Gate()
        waits = Script(id="waits")
        house.start(Script(gate), "a")
        house.start(waits, "b", QUEUE)
        house.engine.drain()
        with pytest.raises(Draining):
            house.start(waits, "c", QUEUE)
        gate.open()
        assert house.ended("b")[0].state is RunState.COMPLETED
        house.nothing_holds()

    def test_a_shutdown_begins_none_of_those_that_wait(
        self, make_house: Callable[..., House]
    ) -> None:
        """Runs that wait when the server stops end CANCELLED, cause SHUTDOWN, without beginning."""
        house = make_house(workers=1)
        gate = Gate()
        waits = Script(id="waits")
        house.start(Script(gate), "x", session_id="t")
        gate.wait_reached()
        # It has no thread yet, so that its cancel ends it at once.
        house.start(Script(gate), "a")
        for n in range(20):
            house.start(waits, f"w{n}", QUEUE)
        house.engine.shut_down_runs(CancelMode.IMMEDIATE)
        runs = house.ended("a", *(f"w{n}" for n in range(20)))
        assert {run.cancellation and run.cancellation.cause for run in runs} == {
            CancelCause.SHUTDOWN
        }
        assert (waits.runs, [run.run_id for run in runs[1:] if run.start_time]) == (0, [])
        house.nothing_holds()


def test_runs_beneath_others_take_no_turn(house: House) -> None:
    """A child has its root's session and neither waits for it nor is waited for by itself."""
    child = Script(say("from below"), id="child", is_async=True)

    async def delegate(ctx: RunContext) -> None:
        await ctx.start(child).wait()

    house.start(Script(delegate, is_async=True), "a", QUEUE)
    house.start(Script(id="next"), "b", QUEUE)
    assert {run.state for run in house.ended("a", "b")} == {RunState.COMPLETED}
    assert child.runs == 1
    house.nothing_holds()


class TestRetries:
    def test_a_retry_takes_the_place_of_a_turn(self, house: House) -> None:
        """A retry sees the turns before the one that it replaces; later runs see it instead of
        that one, and of all that followed. A turn can be replaced again, by any of its ids."""
        seen: dict[str, list[str]] = {}

        def tell(ctx: RunContext) -> None:
            seen[ctx.run_id] = [run.run_id for run in ctx.history()]
            ctx.write(ctx.run_id)

        script = Script(tell, id="talk")
        for run_id, of in (
            ("a", ""),
            ("b", ""),
            ("c", ""),
            ("b2", "b"),
            ("d", ""),
            ("b3", "b"),
            ("e", ""),
            ("a2", "a"),
            ("f", ""),
        ):
            house.start(script, run_id, QUEUE, retry_of=of)
            (run,) = house.ended(run_id)
            assert run.retry_of == of
        assert seen["b2"] == ["a"]
        assert seen["d"] == ["a", "b2"]
        assert seen["b3"] == ["a"]
        assert seen["e"] == ["a", "b3"]
        assert seen["a2"] == []
        assert seen["f"] == ["a2"]

    @pytest.mark.parametrize("of", ["nobody", "elsewhere", "other"])
    def test_only_a_turn_of_the_session_is_replaced(self, house: House, of: str) -> None:
        """A retry of an unknown run, or of one of another session or runnable, is refused."""
        house.start(Script(say("x"), id="talk"), "elsewhere", session_id="t")
        house.start(Script(say("x"), id="walk"), "other")
        house.ended("elsewhere", "other")
        with pytest.raises(InvalidArgument, match=r"retry_of.*" + of):
            house.start(Script(say("x"), id="talk"), "r", retry_of=of)
        house.nothing_holds()

    def test_a_repeated_start_of_a_retry_finds_it(self, make_house: Callable[..., House]) -> None:
        """Also when the run that it replaced is not kept any more."""
        house = make_house(retention=100.0)
        script = Script(say("x"), id="talk")
        house.start(script, "a")
        house.ended("a")
        house.clock.advance(60)
        house.start(script, "b", retry_of="a")
        (first,) = house.ended("b")
        house.clock.advance(60)
        with pytest.raises(RunNotFound):
            house.engine.get("a")
        assert house.start(script, "b", retry_of="a") == first
