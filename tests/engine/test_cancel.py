"""Cancels: who wins, what is kept, what the receipt says. Promises 1, 2, 3, 6 and 7."""

import asyncio
import contextlib
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pullcord.engine.engine import Engine
from pullcord.engine.ports import CancelRequest
from pullcord.run.cancel import CancelCause, Cancellation, CancelMode, CancelOutcome
from pullcord.run.context import RunContext
from pullcord.run.errors import RunCancelledError, RunNotFound, ServerBusy
from pullcord.run.events import CancelRequested, RunFailed, RunStarted, ToolCallState
from pullcord.run.record import Run, RunFilter
from pullcord.run.state import RunState
from pullcord.testing import (
    Gate,
    ManualClock,
    RecordingObserver,
    Script,
    critical,
    fail,
    make_engine,
    say,
    tool,
    use,
)

from tests.engine.conftest import MakeEngine
from tests.engine.driving import IMMEDIATE, cancel, ended, events, freed, start

BOTH = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


@BOTH
def test_promise_01_a_run_that_finishes_has_one_end(engine: Engine, is_async: bool) -> None:
    """A run that returns is COMPLETED, with all its text."""
    start(engine, Script(say("a", "b"), use(output_tokens=2), is_async=is_async))
    run = ended(engine)
    assert (run.state, run.output, run.usage.output_tokens) == (RunState.COMPLETED, "ab", 2)
    assert (run.cancellation, run.error) == (None, None)


@BOTH
@pytest.mark.parametrize(
    "error", [ValueError("mine"), SystemExit(3), KeyboardInterrupt(), StopIteration()], ids=repr
)
def test_promise_01_a_run_that_raises_has_one_end(
    engine: Engine, is_async: bool, error: BaseException
) -> None:
    """Whatever a run's code raises, the run is FAILED and keeps its text."""
    start(engine, Script(say("so far"), fail(error), is_async=is_async))
    run = ended(engine)
    assert (run.state, run.output) == (RunState.FAILED, "so far")
    assert run.error is not None
    assert "Traceback" not in run.error.message
    start(engine, Script(say("next"), is_async=is_async), "next")
    assert ended(engine, "next").output == "next"


@BOTH
def test_promise_01_a_cancel_that_nobody_asked_for_is_a_failure(
    engine: Engine, is_async: bool
) -> None:
    """Code that raises RunCancelledError by itself has not been cancelled: it has failed."""
    start(engine, Script(fail(RunCancelledError("me")), is_async=is_async))
    run = ended(engine)
    assert run.state is RunState.FAILED
    assert run.error is not None
    assert "nobody cancelled" in run.error.message


def test_promise_01_an_async_runnable_that_fails_before_it_starts_has_one_end(
    engine: Engine,
) -> None:
    """An async runnable that raises, or returns no coroutine, fails; its loop serves the next."""
    script = Script(is_async=True)
    script.execute = lambda ctx: 1 // 0  # type: ignore[method-assign]  # a broken runnable
    start(engine, script)
    assert ended(engine).error.type == "ZeroDivisionError"
    script.execute = lambda ctx: None  # type: ignore[method-assign]
    start(engine, script, "s")
    assert ended(engine, "s").error.type == "TypeError"
    freed(engine)


@BOTH
def test_promise_02_an_accepted_cancel_cancels(engine: Engine, is_async: bool) -> None:
    """A run that waits is cancelled; what it said and used before is kept, and the cancel too."""
    gate = Gate()
    start(engine, Script(say("so far"), use(output_tokens=7), gate, is_async=is_async))
    gate.wait_reached()
    receipt = cancel(engine)
    assert receipt.outcome in {CancelOutcome.REQUESTED, CancelOutcome.STOPPED}
    run = ended(engine)
    assert (run.state, run.output, run.usage.output_tokens) == (RunState.CANCELLED, "so far", 7)
    assert run.cancellation is not None
    assert (run.cancellation.cause, run.cancellation.actor, run.cancellation.reason) == (
        CancelCause.USER,
        "ada",
        "enough",
    )
    assert engine.receipt("r").deliver_time > 0
    freed(engine)


def swallow(ctx: RunContext) -> None:
    with contextlib.suppress(BaseException):
        ctx.write("late")


def raise_other(ctx: RunContext) -> None:
    try:
        ctx.write("late")
    except BaseException as error:
        raise ValueError("mine") from error


@pytest.mark.parametrize("then", [swallow, raise_other], ids=["swallows", "raises another"])
def test_promise_02_code_that_swallows_the_cancel_still_ends_cancelled(
    engine: Engine, then: Any
) -> None:
    """However sync code ends after the cancel, by itself or by an error, its run is CANCELLED."""
    gate = Gate(deaf=True)
    start(engine, Script(say("a"), gate, then))
    gate.wait_reached()
    cancel(engine)
    gate.open()
    run = ended(engine)
    assert (run.state, run.error, run.output) == (RunState.CANCELLED, None, "a")


@pytest.mark.parametrize("catch", [Exception, BaseException])
async def test_promise_02_async_code_that_swallows_the_cancel_still_ends_cancelled(
    engine: Engine, catch: type[BaseException]
) -> None:
    """`except Exception` does not catch a cancel; code that catches everything ends CANCELLED."""
    gate = Gate()
    caught = []

    async def stubborn(ctx: RunContext) -> None:
        try:
            waiting = gate(ctx)
            assert waiting is not None
            await waiting
        except catch as error:
            caught.append(error)

    start(engine, Script(say("a"), stubborn, is_async=True))
    await asyncio.to_thread(gate.wait_reached)
    cancel(engine)
    run = await asyncio.to_thread(ended, engine)
    assert (run.state, run.output) == (RunState.CANCELLED, "a")
    assert bool(caught) == (catch is BaseException)


@BOTH
def test_promise_02_a_cancel_after_the_end_changes_nothing(engine: Engine, is_async: bool) -> None:
    """The receipt of a late cancel says ALREADY_FINISHED, and the run stays as it was."""
    start(engine, Script(say("done"), is_async=is_async))
    run = ended(engine)
    receipt = cancel(engine, mode=IMMEDIATE, before_start=True)
    assert (receipt.outcome, receipt.run) == (CancelOutcome.ALREADY_FINISHED, run)
    assert engine.get("r") == run
    start(engine, Script(fail(ValueError()), is_async=is_async), "f")
    ended(engine, "f")
    assert cancel(engine, "f").outcome is CancelOutcome.ALREADY_FINISHED


def race(engine: Engine, run_id: str, script: Script, hand: Any) -> Run:
    """A run whose end and whose cancel come at once; the receipt must have told the truth."""
    start(engine, script, run_id)
    receipt = hand()
    run = ended(engine, run_id)
    cancelled = run.state is RunState.CANCELLED
    assert cancelled == (receipt.outcome is not CancelOutcome.ALREADY_FINISHED)
    if receipt.outcome is CancelOutcome.STOPPED:
        assert receipt.run == run
    return run


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_promise_02_cancel_and_completion_race(
    make: MakeEngine, is_async: bool, hurry: None
) -> None:
    """In 1500 races one wins; there is one end, and the canceller was told which it would be."""
    engine = make(max_finished_runs=10)
    states = {RunState.COMPLETED: 0, RunState.CANCELLED: 0}
    for n in range(1500):
        ready = threading.Event()

        def work(ctx: RunContext, n: int = n, ready: threading.Event = ready) -> None:
            ready.set()
            for _ in range(n % 30 * 10):
                pass

        def hand(n: int = n, ready: threading.Event = ready) -> Any:
            if n % 3:
                ready.wait(30)
            return cancel(engine, f"r{n}", IMMEDIATE if n % 2 else CancelMode.GRACEFUL)

        states[race(engine, f"r{n}", Script(work, is_async=is_async), hand).state] += 1
    freed(engine)
    assert all(states.values()), f"no race took place: {states}"


def test_promise_07_many_cancels_at_once_get_one_answer(engine: Engine) -> None:
    """Twelve threads cancel at once: one cause, actor and reason stand, and all are told them."""
    for n in range(60):
        gate, run_id = Gate(deaf=True), f"r{n}"
        start(engine, Script(gate), run_id)
        gate.wait_reached()
        barrier, receipts = threading.Barrier(12), []

        def ask(
            who: int, run_id: str = run_id, barrier: Any = barrier, receipts: Any = receipts
        ) -> None:
            barrier.wait()
            mode = IMMEDIATE if who % 4 == 0 else CancelMode.GRACEFUL
            receipts.append(cancel(engine, run_id, mode, actor=f"a{who}", reason=f"w{who}"))

        threads = [threading.Thread(target=ask, args=(who,)) for who in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        gate.open()
        run = ended(engine, run_id)
        assert run.cancellation is not None
        assert run.cancellation.mode is IMMEDIATE
        told = {(r.run.cancellation.actor, r.run.cancellation.reason) for r in receipts}
        assert told == {(run.cancellation.actor, run.cancellation.reason)}
        assert {r.accept_time for r in receipts} == {run.cancellation.accept_time}


def test_promise_07_a_later_cancel_only_hastens(engine: Engine, clock: ManualClock) -> None:
    """The first cancel's words stand; a GRACEFUL one changes nothing, an IMMEDIATE one the mode."""
    gate = Gate(deaf=True)
    start(engine, Script(gate))
    gate.wait_reached()
    first = cancel(engine)
    clock.advance(1)
    again = cancel(engine, actor="bob", reason="other")
    assert again == first
    hastened = cancel(engine, mode=IMMEDIATE, actor="eve")
    assert first.run is not None
    assert first.run.cancellation is not None
    assert hastened.run is not None
    assert hastened.run.cancellation == first.run.cancellation.hastened()
    assert hastened.accept_time == first.accept_time
    gate.open()
    run = ended(engine)
    assert cancel(engine, actor="late").outcome is CancelOutcome.STOPPED
    assert engine.get("r") == run


@BOTH
def test_promise_03_tool_calls_say_how_far_they_got(engine: Engine, is_async: bool) -> None:
    """A finished call is listed completed, a failed one failed, one stopped midway interrupted."""
    gate = Gate()

    def failing(ctx: RunContext) -> None:
        with pytest.raises(ValueError, match="no"), ctx.tool_call("2", "failing"):
            raise ValueError("no")

    script = Script(tool("first", id="1"), failing, tool("second", gate, id="3"), is_async=is_async)
    start(engine, script)
    gate.wait_reached()
    cancel(engine, mode=IMMEDIATE)
    run = ended(engine)
    assert [(c.tool_call_id, c.state) for c in run.tool_calls] == [
        ("1", ToolCallState.COMPLETED),
        ("2", ToolCallState.FAILED),
        ("3", ToolCallState.INTERRUPTED),
    ]
    assert run.usage.tool_calls == 3


@BOTH
def test_promise_03_a_call_that_did_not_unwind_is_unknown(
    engine: Engine, clock: ManualClock, is_async: bool
) -> None:
    """A tool call whose code will not stop may have taken effect: its state is unknown."""
    gate = Gate(deaf=True)
    start(engine, Script(tool("first"), tool("second", gate), is_async=is_async))
    gate.wait_reached()
    cancel(engine, mode=IMMEDIATE)
    clock.advance(2.0)
    run = ended(engine)
    assert run.abandoned
    assert [c.state for c in run.tool_calls] == [ToolCallState.COMPLETED, ToolCallState.UNKNOWN]
    gate.open()
    assert gate.left.wait(30)
    assert engine.get("r") == run


def test_promise_03_two_calls_with_one_id_are_both_listed(engine: Engine) -> None:
    """Some models count their calls anew in every turn; none is lost from the list."""
    start(engine, Script(tool("first", id="0"), tool("second", id="0"), tool("third", id="0")))
    run = ended(engine)
    assert sorted(c.tool_name for c in run.tool_calls) == ["first", "second", "third"]
    assert {c.state for c in run.tool_calls} == {ToolCallState.COMPLETED}


def test_promise_03_a_result_that_was_set_is_kept(engine: Engine) -> None:
    """What a run had said to be its result is kept where it is cancelled before it wrote a text."""
    gate = Gate()

    def result(ctx: RunContext) -> None:
        ctx.set_output("the result")
        ctx.set_output(data={"a": 1})

    start(engine, Script(result, gate))
    gate.wait_reached()
    assert engine.get("r").output == "the result"
    cancel(engine)
    run = ended(engine)
    assert (run.output, run.output_data) == ("the result", {"a": 1})
    start(engine, Script(say("deltas"), result), "c")
    assert ended(engine, "c").output == "the result"


def test_promise_03_a_result_that_was_set_is_kept_by_a_run_that_fails(engine: Engine) -> None:
    """What a run had said to be its structured result is kept, and told, where it fails later."""

    def result(ctx: RunContext) -> None:
        ctx.set_output(data={"a": 1})

    start(engine, Script(result, fail(ValueError("no milk"))))
    run = ended(engine)
    assert (run.state, run.output_data) == (RunState.FAILED, {"a": 1})
    end = events(engine)[-1].payload
    assert isinstance(end, RunFailed)
    assert end.output_data == {"a": 1}


def test_promise_03_the_next_turn_sees_the_cancelled_one(engine: Engine) -> None:
    """A session's history holds its ended runs of the same runnable, cancelled ones too."""
    gate, seen = Gate(), []
    start(engine, Script(say("one")), "1", session_id="s", input="q1")
    ended(engine, "1")
    start(engine, Script(say("tw"), gate), "2", session_id="s", input="q2")
    gate.wait_reached()
    cancel(engine, "2")
    ended(engine, "2")
    start(engine, Script(lambda ctx: seen.extend(ctx.history())), "3", session_id="s")
    ended(engine, "3")
    start(engine, Script(lambda ctx: seen.extend(ctx.history())), "4")
    ended(engine, "4")
    assert [(r.input, r.output, r.state.value) for r in seen] == [
        ("q1", "one", "completed"),
        ("q2", "tw", "cancelled"),
    ]


@BOTH
def test_promise_06_a_cancel_before_start(
    engine: Engine, clock: ManualClock, observer: RecordingObserver, is_async: bool
) -> None:
    """A cancel that overtakes its run is kept: the run ends CANCELLED without doing anything."""
    with pytest.raises(RunNotFound):
        cancel(engine)
    receipt = cancel(engine, before_start=True)
    assert (receipt.outcome, receipt.run) == (CancelOutcome.RECORDED, None)
    clock.advance(5)
    assert cancel(engine, before_start=True, actor="bob") == receipt
    script = Script(say("never"), is_async=is_async)
    assert start(engine, script).state is RunState.CANCELLED
    run = ended(engine)
    assert script.runs == 0
    assert run.cancellation is not None
    assert (run.cancellation.actor, run.cancellation.reason) == ("ada", "enough")
    assert run.cancellation.accept_time == receipt.accept_time
    told = [type(e.payload) for e in events(engine)]
    assert told[:2] == [RunStarted, CancelRequested]
    assert len(told) == 3
    assert start(engine, script).state is RunState.CANCELLED  # a retry finds the same run
    freed(engine)
    assert (engine.remains().claims, engine.remains().tombstones) == (0, 0)
    assert len(observer.started) == len(observer.ended) == 1


def test_promise_06_cancels_before_start_expire(engine: Engine, clock: ManualClock) -> None:
    """After its time a kept cancel is forgotten, and the run is started as usual."""
    cancel(engine, before_start=True)
    clock.advance(engine.options.tombstone_ttl)
    start(engine, Script(say("x")))
    assert ended(engine).state is RunState.COMPLETED


def test_promise_06_cancels_before_start_are_bounded(make: MakeEngine, clock: ManualClock) -> None:
    """More kept cancels than the bound are refused; those there are stay, and make room in time."""
    engine = make(max_tombstones=2)
    for n in range(2):
        cancel(engine, f"r{n}", before_start=True)
    with pytest.raises(ServerBusy):
        cancel(engine, "r2", before_start=True)
    assert cancel(engine, "r1", before_start=True).outcome is CancelOutcome.RECORDED
    clock.advance(600)
    assert cancel(engine, "r2", before_start=True).outcome is CancelOutcome.RECORDED


def test_promise_06_a_cancel_before_start_races_with_its_run(
    make: MakeEngine, clock: ManualClock, hurry: None
) -> None:
    """In 1000 races between a start and its cancel, the cancel is never lost between them."""
    engine = make(max_finished_runs=10)
    outcomes = set()
    for n in range(1000):
        run_id, receipts, barrier = f"r{n}", [], threading.Barrier(2)

        def ask(run_id: str = run_id, receipts: Any = receipts, barrier: Any = barrier) -> None:
            barrier.wait()
            receipts.append(cancel(engine, run_id, before_start=True))

        thread = threading.Thread(target=ask)
        thread.start()
        barrier.wait()
        start(engine, Script(), run_id)
        thread.join(30)
        run = ended(engine, run_id)
        outcomes.add(receipts[0].outcome)
        cancelled = run.state is RunState.CANCELLED
        assert cancelled == (receipts[0].outcome is not CancelOutcome.ALREADY_FINISHED)
    assert len(outcomes) > 1, "no race took place"
    freed(engine)
    clock.advance(engine.options.tombstone_ttl)  # one may have been kept for a run that had ended
    assert (engine.remains().claims, engine.remains().tombstones) == (0, 0)


def test_a_queued_run_is_cancelled_at_once_and_never_executed(make: MakeEngine) -> None:
    """A run that waits for a worker ends CANCELLED in the cancel itself, and is never called."""
    engine = make(workers=1)
    gate, queued = Gate(), Script(say("never"))
    start(engine, Script(gate), "busy")
    gate.wait_reached()
    assert start(engine, queued).state is RunState.PENDING
    receipt = cancel(engine)
    assert receipt.outcome is CancelOutcome.STOPPED
    assert engine.occupied == 1
    gate.open()
    ended(engine, "busy")
    ended(engine)
    assert queued.runs == 0


def test_cancel_many_stops_what_matches(engine: Engine) -> None:
    """A cancel by filter stops every live run that matches, says which, and leaves the others."""
    gate = Gate()
    for n in range(6):
        start(engine, Script(gate, is_async=True), f"r{n}", labels={"odd": str(n % 2)})
        gate.wait_reached()
    wanted = RunFilter(labels={"odd": "1"})
    request = CancelRequest(Cancellation())
    tried = engine.cancel_many(wanted, request, validate_only=True)
    assert {result.run_id for result in tried} == {"r1", "r3", "r5"}
    done = engine.cancel_many(wanted, request)
    assert {result.run_id for result in done} == {"r1", "r3", "r5"}
    for n in (1, 3, 5):
        assert ended(engine, f"r{n}").state is RunState.CANCELLED
    gate.open()
    for n in (0, 2, 4):
        assert ended(engine, f"r{n}").state is RunState.COMPLETED


happenings = st.lists(
    st.sampled_from(["graceful", "immediate", "tick", "open", "late", "watch"]), max_size=8
)


@settings(max_examples=60, deadline=None)
@given(happenings, st.booleans(), st.booleans())
def test_promise_01_and_02_whatever_happens(
    happenings: list[str], is_async: bool, deaf: bool
) -> None:
    """In any order of cancels, passing time and the code's end, a run has one true end."""
    clock = ManualClock()
    engine = make_engine(clock, stall_after=1e6)
    gate = Gate(deaf=deaf)
    start(engine, Script(say("a"), gate, is_async=is_async))
    gate.wait_reached()
    asked, before = [], []
    for happening in happenings:
        if happening in {"graceful", "immediate"}:
            mode = IMMEDIATE if happening == "immediate" else CancelMode.GRACEFUL
            asked.append(cancel(engine, mode=mode, actor=f"a{len(asked)}"))
        elif happening == "tick":
            clock.advance(3)
        elif happening == "open":
            gate.open()
        elif happening == "late":
            before.append(engine.get("r"))
        else:
            engine.watch("r").close()
    gate.open()
    run = ended(engine)
    expected = [r.outcome is not CancelOutcome.ALREADY_FINISHED for r in asked]
    assert (run.state is RunState.CANCELLED) == any(expected)
    assert expected == [run.state is RunState.CANCELLED] * len(asked)
    if any(expected):
        assert run.cancellation is not None
        assert run.cancellation.actor == "a0"
    assert run.output == "a"
    for seen in before:
        assert not seen.state.is_terminal or seen == run
    engine.close()


@BOTH
def test_promise_04_a_graceful_cancel_lets_a_critical_part_finish(
    engine: Engine, is_async: bool
) -> None:
    """What is critical is done to its end, also in parts within it; nothing after it begins."""
    gate, after = Gate(deaf=True), Script(say("never"))
    done: list[str] = []
    inner = critical(lambda ctx: done.append("inner"))
    script = Script(
        critical(say("a"), gate, inner, say("b"), lambda ctx: done.append("outer")),
        lambda ctx: done.append("after"),
        is_async=is_async,
    )
    start(engine, script)
    gate.wait_reached()
    assert cancel(engine).deliver_time == 0 or not is_async
    gate.open()
    run = ended(engine)
    assert (run.state, run.output, done) == (RunState.CANCELLED, "ab", ["inner", "outer"])
    assert after.runs == 0


@BOTH
def test_promise_04_a_tool_that_fails_during_a_graceful_cancel_ends_the_run(
    engine: Engine, is_async: bool
) -> None:
    """Code that would handle a tool's failure and go on is told of the cancel instead."""
    gate, went_on = Gate(deaf=True), []

    async def awaiting(ctx: RunContext) -> None:
        try:
            made = tool("t", gate, fail(ValueError("no")))(ctx)
            assert made is not None
            await made
        except Exception as error:
            went_on.append(error)

    def blocking(ctx: RunContext) -> None:
        try:
            tool("t", gate, fail(ValueError("no")))(ctx)
        except Exception as error:
            went_on.append(error)

    start(engine, Script(awaiting if is_async else blocking, is_async=is_async))
    gate.wait_reached()
    cancel(engine)
    gate.open()
    run = ended(engine)
    assert run.state is RunState.CANCELLED
    assert went_on == []
    assert [c.state for c in run.tool_calls] == [ToolCallState.FAILED]


async def test_promise_04_cleanup_may_await(engine: Engine) -> None:
    """Async code that learns of a GRACEFUL cancel by an exception cleans up without being torn."""
    for n in range(50):
        told, cleaned = threading.Event(), []

        async def work(ctx: RunContext, told: Any = told, cleaned: Any = cleaned) -> None:
            told.set()
            try:
                while True:
                    ctx.write("x")  # never awaits: the exception comes from here
            finally:
                for _ in range(5):
                    await asyncio.sleep(0)
                cleaned.append(True)

        start(engine, Script(work, is_async=True), f"r{n}")
        await asyncio.to_thread(told.wait, 30)
        cancel(engine, f"r{n}")
        run = await asyncio.to_thread(ended, engine, f"r{n}")
        assert run.state is RunState.CANCELLED
        assert cleaned == [True], f"round {n}"
