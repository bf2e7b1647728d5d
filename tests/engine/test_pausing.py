"""A run that waits for somebody: how it pauses, goes on, and is stopped while it waits."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pullcord.engine.engine import Engine
from pullcord.engine.ports import CancelRequest
from pullcord.run.cancel import CancelCause, Cancellation, CancelMode
from pullcord.run.context import RunContext
from pullcord.run.errors import (
    InvalidArgument,
    PullcordError,
    RunCancelledError,
    RunNotFound,
    RunNotPaused,
)
from pullcord.run.events import (
    CancelRequested,
    Event,
    RunCancelled,
    RunContinued,
    RunPaused,
    ToolCall,
    ToolCallCompleted,
    ToolCallStarted,
    ToolCallState,
)
from pullcord.run.readers import MAX_ASKED
from pullcord.run.record import MAX_DECISIONS, Decision, DisconnectPolicy, Run, RunSpec
from pullcord.run.state import RunState
from pullcord.run.usage import Limits, Usage
from pullcord.testing import (
    Gate,
    ManualClock,
    RecordingObserver,
    Script,
    ask,
    make_engine,
    nothing_left,
    say,
    tool,
)
from pullcord.testing.harness import remains

from tests.engine.driving import run_timers

YES, NO = Decision("a", approved=True), Decision("a", note="too dear")


class House:
    """An engine, what it observed, and one asking run at a time."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.observer = RecordingObserver()
        self.engine: Engine = make_engine(self.clock, self.observer)

    def start(self, *steps: Any, run_id: str = "r", **spec: Any) -> None:
        script = Script(*steps, is_async=True)
        self.engine.start(script, RunSpec("agents/script", run_id=run_id, **spec))

    def paused(self, run_id: str = "r") -> RunPaused:
        """What the run asks, once it does."""
        return self.seen(RunPaused, run_id)

    def seen(self, kind: type[Any], run_id: str = "r") -> Any:
        with contextlib.closing(self.engine.watch(run_id)) as watcher:
            return next(e.payload for e in watcher if isinstance(e.payload, kind))

    def ended(self, run_id: str = "r") -> Run:
        self.observer.wait_for(lambda o: run_id in {run.run_id for run in o.ended})
        return self.engine.get(run_id)

    def events(self, run_id: str = "r") -> list[Event]:
        return list(self.engine.watch(run_id))

    def calls(self, run_id: str = "r") -> dict[str, ToolCallState]:
        return {c.tool_call_id: c.state for c in self.engine.get(run_id).tool_calls}

    def nothing_holds(self) -> None:
        assert self.engine.wait_idle(20)
        self.observer.wait_for(lambda _: self.engine.occupied == 0)
        assert set(run_timers(self.clock)) <= {0.125}  # the look at a run loop that may be blocked


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    with nothing_left():
        yield made
        made.engine.close()


def stop(mode: CancelMode = CancelMode.GRACEFUL) -> CancelRequest:
    return CancelRequest(Cancellation(actor="bob", mode=mode))


async def is_paused(house: House) -> None:
    """Waits, in the run's own code, until the run asks something."""
    async for event in house.engine.watch("r"):
        if isinstance(event.payload, RunPaused):
            return


class TestPausing:
    def test_a_run_says_what_it_asks(self, house: House) -> None:
        """While a run waits it is PAUSED, and the call that waits stands in its ledger, whole."""
        long = "x" * 5000
        call = ToolCall("a", "pay", arguments=long)

        async def step(ctx: RunContext) -> None:
            await ctx.ask("May pay be called?", [call])

        house.start(step)
        asked = house.paused()
        run = house.engine.get("r")
        assert run.state is RunState.PAUSED
        assert run.tool_calls == asked.tool_calls
        (waiting,) = asked.tool_calls
        assert (waiting.state, waiting.tool_name) == (ToolCallState.WAITING, "pay")
        assert (asked.question, waiting.arguments) == ("May pay be called?", long)
        house.engine.continue_run("r", [YES])
        house.ended()
        house.nothing_holds()

    def test_a_paused_run_holds_no_thread(self, house: House) -> None:
        """Hundreds of paused runs keep no thread at work."""
        before = remains().threads
        for n in range(300):
            house.start(ask("?", "a"), run_id=f"r{n}")
        for n in range(300):
            house.paused(f"r{n}")
        assert remains().threads <= before
        for n in range(300):
            house.engine.continue_run(f"r{n}", [YES])
        for n in range(300):
            assert house.ended(f"r{n}").state is RunState.COMPLETED
        house.nothing_holds()

    def test_several_parts_of_a_run_ask_one_after_the_other(self, house: House) -> None:
        """A run has one question at a time; what asks meanwhile waits for its turn."""

        async def step(ctx: RunContext) -> None:
            await asyncio.gather(*(ctx.ask(f"{n}?", [ToolCall(f"c{n}", "pay")]) for n in range(3)))

        house.start(step)
        with contextlib.closing(house.engine.watch("r")) as watcher:
            for event in watcher:
                if isinstance(event.payload, RunPaused):
                    (call,) = event.payload.tool_calls
                    house.engine.continue_run("r", [Decision(call.tool_call_id)])
        assert len(house.calls()) == 3
        house.nothing_holds()

    @pytest.mark.parametrize(
        "calls",
        [
            [],
            [ToolCall("a", "x"), ToolCall("a", "y")],
            [ToolCall(str(n), "x") for n in range(MAX_DECISIONS + 1)],
            [ToolCall("a", "x", "y" * (MAX_ASKED + 1))],
        ],
        ids=["none", "one-id-twice", "too-many", "too-long"],
    )
    def test_what_nobody_can_decide_is_not_asked(self, house: House, calls: list[ToolCall]) -> None:
        """A question about no calls, too many, too long ones or two of one id raises."""

        async def step(ctx: RunContext) -> None:
            await ctx.ask("?", calls)

        house.start(step)
        run = house.ended()
        assert run.error is not None
        assert (run.error.type, run.tool_calls) == ("ValueError", ())

    def test_sync_code_cannot_ask(self, house: House) -> None:
        """It gets an error that says so, not a coroutine that nobody awaits."""

        def step(ctx: RunContext) -> None:
            ctx.ask("May pay be called?", [ToolCall("a", "pay")])

        house.engine.start(Script(step), RunSpec("agents/script", run_id="r"))
        run = house.ended()
        assert (run.state, run.error and run.error.type) == (RunState.FAILED, "TypeError")
        assert run.error is not None
        assert "only async code can ask" in run.error.message

    def test_a_wait_can_be_given_up(self, house: House) -> None:
        """An author's time-out ends the wait: the call is declined, and the run goes on."""

        async def step(ctx: RunContext) -> None:
            asking = asyncio.ensure_future(ctx.ask("?", [ToolCall("a", "pay")]))
            await is_paused(house)
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking
            ctx.write("went on")

        house.start(step)
        run = house.ended()
        assert (run.state, run.output) == (RunState.COMPLETED, "went on")
        assert [type(e.payload) for e in house.events()][1:4] == [
            RunPaused,
            RunContinued,
            ToolCallCompleted,
        ]
        assert house.calls() == {"a": ToolCallState.DECLINED}
        house.nothing_holds()

    def test_a_run_may_end_while_a_task_of_its_own_asks(self, house: House) -> None:
        """A task that asks and was left behind is cancelled, and its calls were not decided."""
        heard: list[BaseException] = []
        done = threading.Event()

        async def asks(ctx: RunContext) -> None:
            try:
                await ctx.ask("?", [ToolCall("a", "pay")])
            except BaseException as error:
                heard.append(error)
                raise
            finally:
                done.set()

        async def step(ctx: RunContext) -> None:
            task = asyncio.ensure_future(asks(ctx))
            task.add_done_callback(lambda t: t.cancelled() or t.exception())
            await is_paused(house)

        house.start(step)
        house.clock.wait_for_timer(within=0.1)
        house.clock.advance(0.125)
        assert house.ended().state is RunState.COMPLETED
        assert done.wait(30)
        assert [type(error) for error in heard] == [asyncio.CancelledError]
        assert house.calls() == {"a": ToolCallState.DECLINED}
        house.nothing_holds()


class TestGoingOn:
    def test_an_approved_call_is_executed(self, house: House) -> None:
        """After an approval the run is RUNNING, and the call is made under the same id."""
        house.start(ask("?", "a", then=say("done")))
        house.paused()
        run = house.engine.continue_run("r", [YES], actor="ann")
        assert run.state is RunState.RUNNING
        assert [call.state for call in run.tool_calls] == [ToolCallState.APPROVED]
        assert house.ended().output == "done"
        assert [type(e.payload) for e in house.events()][1:5] == [
            RunPaused,
            RunContinued,
            ToolCallStarted,
            type(house.events()[4].payload),
        ]
        assert house.seen(RunContinued).actor == "ann"
        assert house.calls() == {"a": ToolCallState.COMPLETED}
        house.nothing_holds()

    def test_a_declined_call_is_not_executed(self, house: House) -> None:
        """A call without approval ends DECLINED with the note, and was never begun."""
        executed: list[str] = []
        house.start(ask("?", "a", then=lambda ctx: executed.append("a")))
        house.paused()
        house.engine.continue_run("r", [NO])
        (call,) = house.ended().tool_calls
        assert (call.state, call.result) == (ToolCallState.DECLINED, "too dear")
        assert executed == []
        assert ToolCallStarted not in {type(e.payload) for e in house.events()}
        assert house.seen(ToolCallCompleted).tool_call == call

    @pytest.mark.parametrize("answer", ["forty-two", ""])
    def test_an_answered_call_returns_the_answer(self, house: House, answer: str) -> None:
        """An answer is the call's result instead of an execution, also an empty one."""
        executed: list[str] = []
        house.start(ask("?", "a", then=lambda ctx: executed.append("a")))
        house.paused()
        house.engine.continue_run("r", [Decision("a", approved=True, answer=answer)])
        (call,) = house.ended().tool_calls
        assert (call.state, call.result) == (ToolCallState.COMPLETED, answer)
        assert executed == []

    def test_the_author_gets_the_decisions_in_the_order_of_the_calls(self, house: House) -> None:
        """ctx.ask returns one decision a call, in its own order, however they came."""
        got: list[Decision] = []

        async def step(ctx: RunContext) -> None:
            got.extend(await ctx.ask("?", [ToolCall(c, "pay") for c in "abc"]))

        house.start(step)
        house.paused()
        made = [Decision("c", approved=True), Decision("a"), Decision("b", answer="b!")]
        house.engine.continue_run("r", made)
        house.ended()
        assert got == [made[1], made[2], made[0]]

    def test_a_run_may_pause_again(self, house: House) -> None:
        """Each turn asks anew, also about a call of the same id as before."""
        house.start(ask("one", "a", then=say("1")), ask("two", "a", then=say("2")))
        asked: list[str] = []
        with contextlib.closing(house.engine.watch("r")) as watcher:
            for event in watcher:
                if isinstance(event.payload, RunPaused):
                    asked.append(event.payload.question)
                    house.engine.continue_run("r", [YES])
        assert asked == ["one", "two"]
        run = house.engine.get("r")
        assert run.output == "12"
        assert [call.state for call in run.tool_calls] == [ToolCallState.COMPLETED] * 2


class TestRefusals:
    def test_every_call_that_waits_must_be_decided_and_no_other(self, house: House) -> None:
        """Decisions on other calls are named by their field, calls without one by their id."""
        house.start(ask("?", "a", "b"))
        house.paused()
        with pytest.raises(InvalidArgument) as refused:
            house.engine.continue_run("r", [YES, Decision("x")])
        assert [v.field for v in refused.value.violations] == [
            "decisions[1].tool_call_id",
            "decisions",
        ]
        assert "'b'" in str(refused.value)
        with pytest.raises(InvalidArgument):
            house.engine.continue_run("r", [])
        assert house.engine.get("r").state is RunState.PAUSED
        house.engine.continue_run("r", [YES, Decision("b")])
        house.ended()

    @pytest.mark.parametrize(
        ("decisions", "fields"),
        [
            ([Decision("")], ["decisions[0].tool_call_id"]),
            ([YES, YES], ["decisions[1].tool_call_id"]),
            ([Decision("a", note="x" * 1025)], ["decisions[0].note"]),
            ([Decision("a", answer="ü" * 600_000)], ["decisions[0].answer"]),
            ([Decision(str(n)) for n in range(MAX_DECISIONS + 1)], ["decisions"]),
        ],
    )
    def test_decisions_have_bounds(
        self, house: House, decisions: list[Decision], fields: list[str]
    ) -> None:
        """What is wrong with decisions by themselves is refused for any run."""
        with pytest.raises(InvalidArgument) as refused:
            house.engine.continue_run("none", decisions)
        assert [v.field for v in refused.value.violations] == fields

    def test_an_unknown_run_is_not_found(self, house: House) -> None:
        """A decision for a run that does not exist is RUN_NOT_FOUND."""
        with pytest.raises(RunNotFound):
            house.engine.continue_run("none", [YES])

    def test_a_run_that_does_not_wait_is_not_continued(self, house: House) -> None:
        """A decision for a run at work, stopping or ended is RUN_NOT_PAUSED with its state."""
        gate = Gate(deaf=True)
        house.start(gate)
        gate.wait_reached()
        for state, then in (
            (RunState.RUNNING, lambda: house.engine.cancel("r", stop())),
            (RunState.CANCELLING, gate.open),
            (RunState.CANCELLED, lambda: None),
        ):
            with pytest.raises(RunNotPaused) as refused:
                house.engine.continue_run("r", [YES])
            assert (refused.value.state, refused.value.repeated) == (state, False)
            then()
            if state is RunState.CANCELLING:
                house.ended()

    @pytest.mark.parametrize(
        "decision",
        [YES, NO, Decision("a", answer="x" * 5000), Decision("a", answer="")],
        ids=["approved", "declined", "long-answer", "empty-answer"],
    )
    def test_the_same_decisions_again_are_told_apart(
        self, house: House, decision: Decision
    ) -> None:
        """A repeated decision is refused as such, while the run is live and when it has ended."""
        gate = Gate()
        house.start(ask("?", "a", then=say("x")), gate)
        house.paused()
        house.engine.continue_run("r", [decision])
        gate.wait_reached()
        others = [d for d in (YES, NO, Decision("a", answer="?")) if _kind(d) != _kind(decision)]
        for _ in range(2):
            with pytest.raises(RunNotPaused, match="by these decisions already") as refused:
                house.engine.continue_run("r", [decision])
            assert refused.value.repeated
            for other in others:
                with pytest.raises(RunNotPaused) as refused:
                    house.engine.continue_run("r", [other])
                assert not refused.value.repeated
            gate.open()
            house.ended()

    def test_of_two_deciders_one_wins(self, house: House) -> None:
        """Of many decisions at once one makes the run go on; the others hear RUN_NOT_PAUSED."""
        for round_ in range(100):
            run_id = f"r{round_}"
            house.start(ask("?", "a"), run_id=run_id)
            house.paused(run_id)
            barrier = threading.Barrier(4)

            def decide(
                n: int, run_id: str = run_id, barrier: threading.Barrier = barrier
            ) -> PullcordError | None:
                barrier.wait()
                try:
                    house.engine.continue_run(run_id, [Decision("a", answer=str(n))])
                except RunNotPaused as error:
                    return error
                return None

            with ThreadPoolExecutor(4) as pool:
                results = list(pool.map(decide, range(4)))
            assert results.count(None) == 1
            (call,) = house.ended(run_id).tool_calls
            assert call.result == str(results.index(None))
            continued = [e for e in house.events(run_id) if isinstance(e.payload, RunContinued)]
            assert len(continued) == 1
        house.nothing_holds()


def _kind(decision: Decision) -> str:
    if decision.answer is not None:
        return "answer"
    return "yes" if decision.approved else "no"


class TestStopping:
    @pytest.mark.parametrize("mode", CancelMode)
    @pytest.mark.parametrize("in_a_tool", [False, True])
    def test_a_paused_run_is_stopped_at_once(
        self, house: House, mode: CancelMode, in_a_tool: bool
    ) -> None:
        """A cancel ends a paused run without any grace period, and nothing is executed."""
        executed: list[str] = []
        asking = ask("?", "a", then=lambda ctx: executed.append("a"))
        house.start(tool("outer", asking) if in_a_tool else asking)
        house.paused()
        house.engine.cancel("r", stop(mode))
        run = house.ended()  # no clock was moved
        assert (run.state, executed) == (RunState.CANCELLED, [])
        assert house.calls()["a"] is ToolCallState.DECLINED
        if in_a_tool:
            assert house.calls()["outer"] is ToolCallState.INTERRUPTED
        kinds = [type(e.payload) for e in house.events()]
        assert RunContinued not in kinds
        assert kinds[-1] is RunCancelled
        with pytest.raises(RunNotPaused) as refused:
            house.engine.continue_run("r", [YES])
        assert refused.value.state is RunState.CANCELLED
        assert not refused.value.repeated
        with pytest.raises(RunNotPaused) as refused:
            house.engine.continue_run("r", [NO])
        assert not refused.value.repeated  # it is DECLINED, but nobody has decided so
        house.nothing_holds()

    def test_a_cancel_races_with_a_decision(self, house: House) -> None:
        """Whichever comes first stands: never is a tool executed after an accepted cancel."""
        accepted: dict[str, threading.Event] = {}
        wrong: list[str] = []
        refused: set[RunState] = set()
        outcomes: set[tuple[bool, RunState]] = set()

        def execute(ctx: RunContext) -> None:
            if accepted[ctx.run_id].is_set():
                wrong.append(ctx.run_id)

        for round_ in range(1500):
            run_id = f"r{round_}"
            accepted[run_id] = threading.Event()
            house.start(ask("?", "a", then=execute), run_id=run_id)
            house.paused(run_id)
            barrier = threading.Barrier(2)

            def cancel(run_id: str = run_id, barrier: threading.Barrier = barrier) -> None:
                barrier.wait()
                house.engine.cancel(run_id, stop())

            thread = threading.Thread(target=cancel)
            thread.start()
            barrier.wait()
            try:
                house.engine.continue_run(run_id, [YES])
                went_on = True
            except RunNotPaused as error:
                went_on = False
                refused.add(error.state)
            thread.join()
            run = house.ended(run_id)
            outcomes.add((went_on, run.state))
            kinds = [type(e.payload) for e in house.events(run_id)]
            assert (RunContinued in kinds) is went_on
            if CancelRequested in kinds:
                assert ToolCallStarted not in kinds[kinds.index(CancelRequested) :]
                assert run.state is RunState.CANCELLED
            if not went_on:
                assert ToolCallStarted not in kinds
                assert run.state is RunState.CANCELLED
        assert wrong == []
        assert refused <= {RunState.CANCELLING, RunState.CANCELLED}
        assert {state for _, state in outcomes} >= {RunState.CANCELLED}
        house.nothing_holds()

    def test_the_timeout_counts_while_a_run_waits(self, house: House) -> None:
        """limits.timeout ends a paused run with cause BUDGET."""
        house.start(ask("?", "a"), limits=Limits(timeout=60.0))
        house.paused()
        house.clock.advance(60.0)
        run = house.ended()
        assert run.cancellation is not None
        assert (run.cancellation.cause, run.cancellation.limit) == (CancelCause.BUDGET, "timeout")

    def test_the_deadline_counts_while_a_run_waits(self, house: House) -> None:
        """The caller's deadline ends a paused run with cause DEADLINE."""
        script = Script(ask("?", "a"), is_async=True)
        house.engine.start(script, RunSpec("agents/script", run_id="r"), deadline=60.0)
        house.paused()
        house.clock.advance(60.0)
        run = house.ended()
        assert run.cancellation is not None
        assert run.cancellation.cause is CancelCause.DEADLINE

    def test_other_limits_hold_while_a_run_waits(self, house: House) -> None:
        """What is used while a run waits counts, and a limit that is reached ends the wait."""
        contexts: list[RunContext] = []
        house.start(contexts.append, ask("?", "a"), limits=Limits(max_tokens=10))
        house.paused()
        with contextlib.suppress(RunCancelledError):
            contexts[0].use(Usage(output_tokens=10))
        run = house.ended()
        assert run.cancellation is not None
        assert run.cancellation.limit == "max_tokens"

    def test_the_lease_counts_while_a_run_waits(self, house: House) -> None:
        """A paused run outlives its last watcher by its lease; a watcher in time keeps it."""
        house.start(ask("?", "a"), on_disconnect=DisconnectPolicy.LEASE, lease=30.0)
        house.paused()
        house.clock.advance(29.0)
        question = house.paused()  # somebody who came back, and left again
        assert question.tool_calls[0].tool_call_id == "a"
        house.clock.advance(29.0)
        assert house.engine.get("r").state is RunState.PAUSED
        house.clock.advance(1.0)
        run = house.ended()
        assert run.cancellation is not None
        assert run.cancellation.cause is CancelCause.DISCONNECT


class TestBeneath:
    def tree(self, *, then: Callable[[RunContext], None] | None = None) -> tuple[Any, Script]:
        child = Script(ask("?", "a", then=then), id="child", is_async=True)

        async def delegate(ctx: RunContext) -> None:
            with ctx.tool_call("d", "delegate"):
                await ctx.start(child).wait()

        return delegate, child

    def test_the_member_pauses_and_the_root_goes_on(self, house: House) -> None:
        """A member's question is heard above with its run_id, by which it is continued."""
        delegate, _ = self.tree()
        house.start(delegate)
        with contextlib.closing(house.engine.watch("r")) as watcher:
            asked = next(e for e in watcher if isinstance(e.payload, RunPaused))
        assert asked.source is not None
        child = asked.source.run_id
        assert isinstance(asked.payload, RunPaused)
        assert [c.run_id for c in asked.payload.tool_calls] == [child]
        assert [c.run_id for c in house.paused(child).tool_calls] == [""]
        assert house.engine.get("r").state is RunState.RUNNING
        assert house.engine.get(child).state is RunState.PAUSED
        above = {(c.run_id, c.tool_call_id): c.state for c in house.engine.get("r").tool_calls}
        assert above[child, "a"] is ToolCallState.WAITING
        with pytest.raises(RunNotPaused):
            house.engine.continue_run("r", [YES])
        house.engine.continue_run(child, [YES])
        assert house.ended("r").state is RunState.COMPLETED
        continued = [e for e in house.events() if isinstance(e.payload, RunContinued)]
        assert [e.source and e.source.run_id for e in continued] == [child]
        house.nothing_holds()

    @pytest.mark.parametrize("mode", CancelMode)
    def test_a_cancel_above_ends_the_wait_beneath(self, house: House, mode: CancelMode) -> None:
        """The root's cancel stops a member that waits, at once, and nothing is executed."""
        executed: list[str] = []
        delegate, _ = self.tree(then=lambda ctx: executed.append("a"))
        house.start(delegate)
        with contextlib.closing(house.engine.watch("r")) as watcher:
            asked = next(e for e in watcher if isinstance(e.payload, RunPaused))
        assert asked.source is not None
        house.engine.cancel("r", stop(mode))
        assert house.ended("r").state is RunState.CANCELLED
        run = house.ended(asked.source.run_id)
        assert run.cancellation is not None
        assert (run.cancellation.cause, executed) == (CancelCause.PARENT, [])
        house.nothing_holds()

    def test_nobody_continues_a_member_of_a_run_that_is_to_stop(self, house: House) -> None:
        """Once the root's cancel was accepted no decision makes anything beneath it go on."""
        for round_ in range(200):
            delegate, _ = self.tree()
            run_id = f"r{round_}"
            house.start(delegate, run_id=run_id)
            with contextlib.closing(house.engine.watch(run_id)) as watcher:
                asked = next(e for e in watcher if isinstance(e.payload, RunPaused))
            assert asked.source is not None
            child = asked.source.run_id
            barrier = threading.Barrier(2)

            def decide(child: str = child, barrier: threading.Barrier = barrier) -> None:
                barrier.wait()
                with contextlib.suppress(RunNotPaused):
                    house.engine.continue_run(child, [YES])

            thread = threading.Thread(target=decide)
            thread.start()
            barrier.wait()
            house.engine.cancel(run_id, stop())
            thread.join()
            house.ended(run_id)
            kinds = [type(e.payload) for e in house.events(run_id)]
            if CancelRequested in kinds:
                after = kinds[kinds.index(CancelRequested) :]
                assert RunContinued not in after
                assert ToolCallStarted not in after
        house.nothing_holds()
