"""What the code of a run may say for a run elsewhere, ask about its limits, and end by itself."""

from collections.abc import Iterator

import pytest
from pullcord.engine.clock import ThreadClock
from pullcord.engine.engine import Engine
from pullcord.run.cancel import CancelCause, Cancellation, CancelMode
from pullcord.run.context import RunContext
from pullcord.run.events import (
    ContentDelta,
    Payload,
    ReasoningDelta,
    RunCompleted,
    RunStarted,
    Source,
    SourceKind,
    ToolCall,
    ToolCallCompleted,
    ToolCallStarted,
    ToolCallState,
)
from pullcord.run.record import Run, RunSpec
from pullcord.run.state import RunState
from pullcord.run.usage import Limits, Usage
from pullcord.testing import RecordingObserver, Script, Step, make_engine, use

MEMBER = Source(SourceKind.AGENT, "b", "", "run-b", ("script", "b"))


@pytest.fixture
def observer() -> RecordingObserver:
    return RecordingObserver()


@pytest.fixture
def engine(observer: RecordingObserver) -> Iterator[Engine]:
    engine = make_engine(ThreadClock(), observer)
    yield engine
    engine.close()


def did(
    engine: Engine, *steps: Step, limits: Limits = Limits(), is_async: bool = False
) -> tuple[Run, list[tuple[Payload, Source | None]]]:
    """The run of these steps, once it has ended, and its events."""
    script = Script(*steps, is_async=is_async)
    run = engine.start(script, RunSpec("agents/script", limits=limits))
    events = [(event.payload, event.source) for event in engine.watch(run.run_id)]
    return engine.get(run.run_id), events


def relay(payload: Payload, source: Source | None = None) -> Step:
    return lambda ctx: ctx.relay(payload, source=source)


def test_relayed_text_is_the_run_s_own_and_a_member_s_is_not(engine: Engine) -> None:
    """Content without a source becomes output; reasoning and a member's content do not."""
    run, events = did(
        engine,
        relay(ContentDelta("a")),
        relay(ReasoningDelta("hm")),
        relay(ContentDelta("x"), MEMBER),
        relay(ContentDelta("b")),
    )
    assert run.output == "ab"
    assert (ContentDelta("x"), MEMBER) in events
    assert (ReasoningDelta("hm"), None) in events


def test_a_relayed_tool_call_enters_the_ledger(engine: Engine) -> None:
    """The ledger names the member's run that made a call, and the last state that it came to."""
    begun, done = ToolCall("1", "look", start_time=5.0), ToolCallState.COMPLETED
    ended = ToolCall("1", "look", "", "seen", done, 5.0, 6.0)
    run, events = did(
        engine,
        relay(ToolCallStarted(begun)),
        relay(ToolCallStarted(begun), MEMBER),
        relay(ToolCallCompleted(ended), MEMBER),
    )
    mine, member_s = run.tool_calls
    assert (mine.run_id, mine.state) == ("", ToolCallState.UNKNOWN)
    assert (member_s.run_id, member_s.state, member_s.end_time) == ("run-b", done, 6.0)
    assert (ToolCallCompleted(ended), MEMBER) in events


@pytest.mark.parametrize("payload", [RunStarted("agents/x"), RunCompleted("x")])
def test_only_a_member_s_beginning_and_end_can_be_relayed(engine: Engine, payload: Payload) -> None:
    """A relayed terminal event of the run itself would be a second one: it fails the run."""
    run, events = did(engine, relay(payload, MEMBER), relay(payload))
    assert (payload, MEMBER) in events
    assert run.error is not None
    assert run.error.type == "TypeError"


def test_what_happened_elsewhere_is_told_also_after_the_cancel(engine: Engine) -> None:
    """A relay raises nothing in a run that is to stop, and keeps what it is given."""

    def stop_then_relay(ctx: RunContext) -> None:
        with ctx.critical():
            engine.shut_down_runs(CancelMode.GRACEFUL)
            ctx.relay(ContentDelta("late"))

    run, _ = did(engine, stop_then_relay)
    assert (run.state, run.output) == (RunState.CANCELLED, "late")


@pytest.mark.parametrize("is_async", [False, True])
def test_a_run_s_code_can_end_it_cancelled(engine: Engine, is_async: bool) -> None:
    """`ctx.cancel` ends the run CANCELLED with the cause, actor, reason and limit it is given."""
    stop = Cancellation(CancelCause.BUDGET, "ann", "enough", limit="max_tokens")
    run, _ = did(engine, relay(ContentDelta("a")), lambda ctx: ctx.cancel(stop), is_async=is_async)
    assert (run.state, run.output) == (RunState.CANCELLED, "a")
    told = run.cancellation
    assert told is not None
    assert (told.cause, told.actor, told.reason) == (stop.cause, "ann", "enough")
    assert told.limit == "max_tokens"
    assert told.accept_time > 0


def test_a_run_knows_what_it_may_still_take(engine: Engine) -> None:
    """`limits_left` is the limits less what was used, beneath a run those of the runs above too."""
    left: list[Limits] = []

    def look(ctx: RunContext) -> None:
        left.append(ctx.limits_left)

    async def beneath(ctx: RunContext) -> None:
        child = Script(use(input_tokens=10, tool_calls=1, steps=5), look, id="child")
        await ctx.start(child).wait()

    limits = Limits(timeout=60, max_tokens=100, max_cost=2.0, max_steps=3, max_tool_calls=4)
    did(engine, use(output_tokens=5, cost=0.5), look, beneath, limits=limits, is_async=True)
    own, child = left
    assert own.timeout is not None
    assert 0 < own.timeout <= 60
    assert child.timeout is not None
    assert own == Limits(own.timeout, 95, 1.5, 3, 4)
    assert child == Limits(child.timeout, 85, 1.5, None, 3)


def test_nothing_is_less_than_nothing_left() -> None:
    """What was used beyond a limit leaves 0, and no limit stays none."""
    assert Limits(max_tokens=5).less(Usage(input_tokens=9)) == Limits(max_tokens=0)
