"""Runs beneath runs: what reaches them, what they tell, and what is left of them."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from pullcord.engine.engine import Engine
from pullcord.engine.ports import CancelRequest
from pullcord.run.cancel import CancelCause, Cancellation, CancelMode, CancelToken
from pullcord.run.context import RunContext
from pullcord.run.errors import InvalidArgument, ServerBusy
from pullcord.run.events import (
    TERMINAL_PAYLOADS,
    CancelRequested,
    ContentDelta,
    Event,
    RunStarted,
    ToolCallState,
)
from pullcord.run.record import Run, RunFilter
from pullcord.run.state import RunState
from pullcord.run.usage import Limits
from pullcord.testing import Gate, ManualClock, RecordingObserver, Script, say, tool, use

from tests.engine.conftest import MakeEngine
from tests.engine.driving import IMMEDIATE, cancel, ended, events, spec, start

Step = Callable[[RunContext], Awaitable[None] | None]


def runs(child: Script, *kept: list[Run]) -> Step:
    """Runs another beneath this one, and waits for it."""

    async def step(ctx: RunContext) -> None:
        run = await ctx.start(child, "go").wait()
        for found in kept:
            found.append(run)

    return step


def parent(*steps: Step) -> Script:
    return Script(*steps, is_async=True)


def child_of(engine: Engine, run_id: str = "r") -> Run:
    (run,) = engine.list_page(RunFilter(parent_run_id=run_id), 10).runs
    return engine.get(run.run_id)


def test_a_child_is_a_run_of_its_own(engine: Engine) -> None:
    """A child has an id, a parent_run_id, a log and results, and its parent's session and user."""
    kept: list[Run] = []
    child = Script(say("a", "b"), id="child")
    start(engine, parent(runs(child, kept), say("c")), session_id="s", user_id="u")
    above = ended(engine)
    below = child_of(engine)
    assert kept == [below]
    assert (below.runnable, below.output, below.state) == ("agents/child", "ab", "completed")
    assert (below.parent_run_id, below.session_id, below.user_id) == ("r", "s", "u")
    assert above.output == "c"
    first, *_ = events(engine, below.run_id)
    assert first.payload == RunStarted("agents/child", "s", "r")


def test_a_child_is_heard_above(engine: Engine) -> None:
    """A child's events are in its parent's stream, and in those further above, with its path."""
    leaf = Script(say("x"), id="leaf")
    start(engine, parent(runs(Script(runs(leaf), id="middle", is_async=True))))
    ended(engine)
    heard = [(e.source.path, e.source.run_id) for e in events(engine) if e.source is not None]
    middle = child_of(engine)
    deepest = child_of(engine, middle.run_id)
    assert heard == [
        (("script", "middle"), middle.run_id),
        *[(("script", "middle", "leaf"), deepest.run_id)] * 3,
        (("script", "middle"), middle.run_id),
    ]
    own = [e for e in events(engine, middle.run_id) if e.source is not None]
    assert {e.source.path for e in own if e.source} == {("middle", "leaf")}


def test_a_child_is_cancelled_alone(engine: Engine) -> None:
    """A child's own cancel is its own: its parent gets what it made, and goes on."""
    kept: list[Run] = []
    gate = Gate()
    start(engine, parent(runs(Script(say("part"), gate, id="child"), kept), say("on")))
    gate.wait_reached()
    cancel(engine, child_of(engine).run_id)
    assert ended(engine).output == "on"
    assert (kept[0].state, kept[0].output) == (RunState.CANCELLED, "part")
    assert kept[0].cancellation is not None
    assert kept[0].cancellation.cause is CancelCause.USER
    assert ended(engine).state is RunState.COMPLETED


def test_an_authors_callback_keeps_no_child_waiting(engine: Engine) -> None:
    """A child is stopped also while a callback on its parent's token takes its time."""
    gate, release = Gate(), threading.Event()

    def be_slow(ctx: RunContext) -> None:
        ctx.cancel_token.on_cancel(lambda _: release.wait(30))

    start(engine, parent(be_slow, runs(Script(gate, id="child"))))
    gate.wait_reached()
    child = child_of(engine).run_id
    cancel(engine)
    assert ended(engine, child).state is RunState.CANCELLED
    assert not release.is_set()
    release.set()
    assert ended(engine).state is RunState.CANCELLED


@pytest.mark.parametrize("mode", CancelMode)
def test_a_cancel_reaches_the_deepest_run(engine: Engine, mode: CancelMode) -> None:
    """A cancel goes down at once, with cause PARENT and the asker's words, and ends leaf first."""
    gate = Gate()
    leaf = Script(say("x"), gate, id="leaf")
    start(engine, parent(runs(Script(runs(leaf), id="middle", is_async=True))))
    gate.wait_reached()
    cancel(engine, mode=mode)
    assert ended(engine).state is RunState.CANCELLED
    middle = child_of(engine)
    deepest = child_of(engine, middle.run_id)
    for run in (middle, deepest):
        assert run.cancellation is not None
        stop = run.cancellation
        assert (stop.cause, stop.actor, stop.reason) == (CancelCause.PARENT, "ada", "enough")
    ends = [e.source.id if e.source else "" for e in events(engine) if _is_end(e)]
    assert ends == ["leaf", "middle", ""]
    assert deepest.output == "x"


def _is_end(event: Event) -> bool:
    return isinstance(event.payload, TERMINAL_PAYLOADS)


def test_every_child_at_work_is_told_at_once(engine: Engine) -> None:
    """A cancel stops all children at work, and waits for none of them to stop another."""
    gates = [Gate() for _ in range(5)]
    deaf = Gate(deaf=True)
    scripts = [Script(gate, id=f"c{n}") for n, gate in enumerate([*gates, deaf])]

    async def all_of_them(ctx: RunContext) -> None:
        await asyncio.gather(*(ctx.start(s, "go").wait() for s in scripts), return_exceptions=True)

    start(engine, parent(all_of_them))
    for gate in (*gates, deaf):
        gate.wait_reached()
    cancel(engine)
    for gate in gates:
        assert gate.left.wait(30)  # while the deaf one has not stopped
    assert not deaf.left.is_set()
    deaf.open()
    assert ended(engine).state is RunState.CANCELLED


# An interrupt may surface in a callback of the garbage collector that hypothesis has installed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_is_being_started_is_stopped_too(engine: Engine) -> None:
    """A child started while its parent is cancelled ends, or never begins, in any interleaving."""
    for attempt in range(60):
        run_id = f"race-{attempt}"
        ready = threading.Barrier(2)

        def begin(ctx: RunContext, ready: threading.Barrier = ready) -> None:
            ready.wait(30)
            while True:
                with suppress(ServerBusy):  # as many as there may be, while the cancel comes
                    ctx.start(Script(Gate(), id="child"), "go")

        start(engine, Script(begin), run_id)
        ready.wait(30)
        cancel(engine, run_id, IMMEDIATE if attempt % 2 else CancelMode.GRACEFUL)
        assert ended(engine, run_id).state is RunState.CANCELLED
        told = [e.payload for e in events(engine, run_id)]
        stop = next(n for n, p in enumerate(told) if isinstance(p, CancelRequested))
        assert not [p for p in told[stop:] if isinstance(p, RunStarted)]
        for run in engine.list_page(RunFilter(parent_run_id=run_id), 1000).runs:
            assert ended(engine, run.run_id).state is RunState.CANCELLED


def test_a_stop_on_its_way_down_counts_already(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that may begin nothing because of a cancel above it ends CANCELLED, not FAILED."""
    go, tried = threading.Event(), threading.Event()

    def try_it(ctx: RunContext) -> None:
        reached.set()
        assert go.wait(30)
        try:
            with ctx.tool_call("t", "never"):
                raise AssertionError("it began")
        finally:
            tried.set()

    reached = threading.Event()
    leaf = Script(try_it, id="leaf")
    middle = Script(runs(leaf), id="middle", is_async=True)

    start(engine, parent(runs(middle)))
    assert reached.wait(30)
    set_token = CancelToken.cancel

    def hold(token: CancelToken, *args: Any) -> bool:
        answer = set_token(token, *args)
        if not go.is_set():
            # The root has accepted its stop. Those beneath hear of it by trying, not by being told.
            go.set()
            assert tried.wait(30)
        return answer

    monkeypatch.setattr(CancelToken, "cancel", hold)
    cancel(engine)
    assert ended(engine).state is RunState.CANCELLED
    below = child_of(engine, child_of(engine).run_id)
    assert below.state is RunState.CANCELLED
    assert below.cancellation is not None
    assert below.cancellation.cause is CancelCause.PARENT
    assert below.tool_calls == ()


def test_a_child_lives_no_longer_than_its_parent(engine: Engine) -> None:
    """A child that nobody waits for is stopped when its parent ends, cause PARENT."""
    gate = Gate()

    def leave(ctx: RunContext) -> None:
        ctx.start(Script(gate, id="child"), "go")
        gate.wait_reached()

    start(engine, Script(leave))
    assert ended(engine).state is RunState.COMPLETED
    below = ended(engine, child_of(engine).run_id)
    assert below.state is RunState.CANCELLED
    assert below.cancellation is not None
    assert below.cancellation.reason == "its parent run has ended"


def test_a_stopped_wait_stops_the_child(engine: Engine) -> None:
    """Cancelling the task that waits for a child stops the child, and the parent goes on."""
    gate = Gate()

    async def give_up(ctx: RunContext) -> None:
        waiting = asyncio.ensure_future(ctx.start(Script(gate, id="child"), "go").wait())
        await asyncio.to_thread(gate.wait_reached)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()

    start(engine, parent(give_up, say("on")))
    assert ended(engine).output == "on"
    assert child_of(engine).state is RunState.CANCELLED


def test_nothing_is_heard_of_a_child_after_its_end(engine: Engine) -> None:
    """What a child's stray thread says after the child's end is heard nowhere."""
    contexts: list[RunContext] = []

    def say_late(ctx: RunContext) -> None:
        contexts[0].write("late")

    start(engine, parent(runs(Script(contexts.append, say("in time"), id="child")), say_late))
    ended(engine)
    said = [e.payload.text for e in events(engine) if isinstance(e.payload, ContentDelta)]
    assert said == ["in time"]


# --- limits


def test_usage_and_tool_calls_add_up(engine: Engine) -> None:
    """A run's usage and its ledger are those of all beneath it, too; steps stay where they are."""
    leaf = Script(tool("t", use(output_tokens=5, steps=1)), id="leaf")
    middle = Script(runs(leaf), runs(leaf), use(input_tokens=1), id="middle", is_async=True)
    start(engine, parent(runs(middle), tool("own")))
    above = ended(engine)
    assert (above.usage.total_tokens, above.usage.tool_calls, above.usage.steps) == (11, 3, 0)
    middle_run = child_of(engine)
    assert [call.tool_name for call in above.tool_calls] == ["t", "t", "own"]
    assert len({call.run_id for call in above.tool_calls}) == 3
    assert above.tool_calls[2].run_id == ""
    assert middle_run.usage.total_tokens == 11
    assert {call.state for call in above.tool_calls} == {ToolCallState.COMPLETED}


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        (Limits(max_tokens=10), "max_tokens"),
        (Limits(max_cost=1.0), "max_cost"),
        (Limits(max_tool_calls=2), "max_tool_calls"),
    ],
)
def test_a_limit_above_stops_the_whole_tree(engine: Engine, limits: Limits, limit: str) -> None:
    """What is used anywhere beneath counts towards a run's limits, which stop all of it."""
    hungry = Script(*[tool("t", use(output_tokens=4, cost=0.4))] * 9, id="hungry")
    start(engine, parent(runs(Script(runs(hungry), id="middle", is_async=True))), limits=limits)
    above = ended(engine)
    assert above.cancellation is not None
    assert (above.cancellation.cause, above.cancellation.limit) == (CancelCause.BUDGET, limit)
    deepest = child_of(engine, child_of(engine).run_id)
    assert deepest.cancellation is not None
    assert deepest.cancellation.cause is CancelCause.PARENT
    assert len(deepest.tool_calls) in (2, 3)


def test_a_deadline_above_stops_the_whole_tree(engine: Engine, clock: ManualClock) -> None:
    """A run's time limit is its children's, too, which can ask how much is left of it."""
    left: list[float | None] = []
    gate = Gate()
    leaf = Script(lambda ctx: left.append(ctx.cancel_token.deadline), gate, id="leaf")
    start(engine, parent(runs(leaf)), limits=Limits(timeout=60))
    gate.wait_reached()
    assert left == [clock.monotonic() + 60]
    clock.advance(60)
    above = ended(engine)
    assert above.cancellation is not None
    assert above.cancellation.limit == "timeout"
    assert child_of(engine).state is RunState.CANCELLED


def test_there_is_a_most_beneath_one_run(make: MakeEngine) -> None:
    """More live runs beneath one than allowed are refused in its code, and also deeper ones."""
    engine = make(max_runs_beneath=2, max_depth=3)
    gate = Gate()

    def begin(ctx: RunContext) -> None:
        for _ in range(2):
            ctx.start(Script(gate, id="child"), "go")
        with pytest.raises(ServerBusy):
            ctx.start(Script(id="child"), "go")
        gate.open()

    start(engine, Script(begin))
    assert ended(engine).state is RunState.COMPLETED

    depths: list[int] = []

    async def deeper(ctx: RunContext) -> None:
        depths.append(len(depths))
        await ctx.start(Script(deeper, id="deeper", is_async=True), "go").wait()

    start(engine, parent(deeper), "deep")
    ended(engine, "deep")
    assert len(depths) == 3
    last = child_of(engine, child_of(engine, "deep").run_id)
    assert last.error is not None
    assert last.error.type == InvalidArgument.__name__


# --- what will not stop


def test_a_deaf_run_deep_down_is_abandoned_before_those_above(
    engine: Engine, clock: ManualClock, observer: RecordingObserver
) -> None:
    """Only what does not stop is abandoned; those above it end in peace, and list its call so."""
    gate = Gate(deaf=True)
    leaf = Script(say("x"), tool("stuck", gate), id="leaf")
    start(engine, parent(runs(Script(runs(leaf), id="middle", is_async=True))))
    gate.wait_reached()
    cancel(engine, mode=IMMEDIATE)
    clock.advance(engine.options.abandon_after * 0.7)
    above = ended(engine)
    middle = child_of(engine)
    deepest = child_of(engine, middle.run_id)
    assert [run.abandoned for run in (above, middle, deepest)] == [False, False, True]
    for run in (above, middle, deepest):
        (call,) = run.tool_calls
        assert (call.tool_name, call.state) == ("stuck", ToolCallState.UNKNOWN)
    assert [run.run_id for run, _ in observer.abandoned] == [deepest.run_id]
    assert engine.occupied == 1
    gate.open()
    assert gate.left.wait(30)


def test_a_caller_who_is_in_a_hurry_is_not_kept_by_a_deaf_run(
    engine: Engine, clock: ManualClock
) -> None:
    """Near a caller's deadline what is deaf beneath is abandoned so soon that all ends in time."""
    gate = Gate(deaf=True)
    runnable = parent(runs(Script(gate, id="child")))
    engine.start(runnable, spec(), deadline=10)
    gate.wait_reached()
    clock.advance(9.62)  # a third of the last second is left to those above
    above = ended(engine)
    assert above.cancellation is not None
    assert (above.cancellation.cause, above.abandoned) == (CancelCause.DEADLINE, False)
    assert child_of(engine).abandoned
    gate.open()
    assert gate.left.wait(30)


def test_many_are_stopped_from_above(engine: Engine) -> None:
    """A cancel of a whole session stops parents first: nobody is told of a child, and goes on."""
    gate, kept = Gate(), []
    start(engine, parent(runs(Script(gate, id="child"), kept), say("on")), session_id="s")
    gate.wait_reached()
    found = engine.cancel_many(RunFilter(session_id="s"), CancelRequest(Cancellation()))
    below = child_of(engine)
    assert {result.run_id for result in found} == {below.run_id, "r"}
    assert (ended(engine).output, kept) == ("", [])
    assert below.cancellation is not None
    assert below.cancellation.cause is CancelCause.PARENT
