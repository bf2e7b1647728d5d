"""Code that does not stop by itself, and code that keeps others from stopping. Promises 4 and 5."""

import asyncio
import os
import threading
import time

import pytest
from pullcord.engine.clock import ThreadClock
from pullcord.engine.engine import Engine
from pullcord.run.cancel import CancelMode, CancelOutcome
from pullcord.run.context import RunContext
from pullcord.run.errors import RunInterrupted, ServerBusy
from pullcord.run.events import ToolCallState
from pullcord.run.state import RunState
from pullcord.testing import (
    Gate,
    ManualClock,
    RecordingObserver,
    Script,
    say,
    spin,
    tool,
)

from tests.engine.conftest import MakeEngine
from tests.engine.driving import IMMEDIATE, cancel, ended, freed, run_timers, spec, start
from tests.steady import steady

BOTH = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
A_MOMENT = 2.0
"""Seconds: far more than the milliseconds that are meant, far less than the waits that are not."""


@BOTH
def test_promise_04_the_grace_period_escalates(
    engine: Engine, clock: ManualClock, observer: RecordingObserver, is_async: bool
) -> None:
    """A tool in flight has the grace period; then it is interrupted, and at last abandoned."""
    gate = Gate(deaf=True)
    start(engine, Script(say("a"), tool("t", gate), is_async=is_async))
    gate.wait_reached()
    cancel(engine, grace_period=7.0)
    clock.advance(6.9)
    run = engine.get("r")
    assert run.state is RunState.CANCELLING
    assert run.cancellation is not None
    assert run.cancellation.mode is CancelMode.GRACEFUL
    clock.advance(0.2)
    run = engine.get("r")
    assert run.cancellation is not None
    assert run.cancellation.mode is IMMEDIATE
    assert run.state is RunState.CANCELLING
    clock.advance(2.0)
    run = ended(engine)
    assert run.abandoned
    assert [c.state for c in run.tool_calls] == [ToolCallState.UNKNOWN]
    assert len(observer.abandoned) == 1
    abandoned, stack = observer.abandoned[0]
    assert abandoned.run_id == "r"
    assert "scripts.py" in stack
    assert engine.occupied == 1, "it holds capacity until its code ends"
    assert run_timers(clock) == [] or is_async
    gate.open()
    assert gate.left.wait(30)
    freed(engine)
    assert engine.get("r") == run


@BOTH
def test_promise_04_a_tool_may_finish_within_the_grace_period(
    engine: Engine, clock: ManualClock, is_async: bool
) -> None:
    """A tool in flight at a GRACEFUL cancel completes, its result is listed, and that is all."""
    gate, after = Gate(deaf=True), []

    async def awaiting(ctx: RunContext) -> None:
        with ctx.tool_call("t", "tool", "{}") as returned:
            made = gate(ctx)
            if made is not None:
                await made
            returned("result")
        after.append(True)

    def blocking(ctx: RunContext) -> None:
        with ctx.tool_call("t", "tool", "{}") as returned:
            gate(ctx)
            returned("result")
        after.append(True)

    start(engine, Script(awaiting if is_async else blocking, is_async=is_async))
    gate.wait_reached()
    cancel(engine)
    clock.advance(4.9)
    gate.open()
    run = ended(engine)
    assert (run.state, run.abandoned, after) == (RunState.CANCELLED, False, [])
    (call,) = run.tool_calls
    assert (call.state, call.result) == (ToolCallState.COMPLETED, "result")
    assert run_timers(clock) == [] or is_async


def test_promise_04_immediate_interrupts_a_tool_in_a_thread(engine: Engine) -> None:
    """A sync tool of an async run is interrupted where it is, and has unwound when the run ends."""
    started, unwound = threading.Event(), []

    def blocking() -> None:
        try:
            started.set()
            while True:
                pass
        except RunInterrupted:
            unwound.append(True)
            raise

    async def work(ctx: RunContext) -> None:
        with ctx.tool_call("t", "tool"):
            await ctx.in_thread(blocking)

    start(engine, Script(work, is_async=True))
    assert started.wait(30)
    assert cancel(engine).outcome is CancelOutcome.REQUESTED
    assert not unwound
    cancel(engine, mode=IMMEDIATE)
    run = ended(engine)
    assert unwound == [True]
    assert [c.state for c in run.tool_calls] == [ToolCallState.INTERRUPTED]


def test_promise_04_sync_code_that_ignores_its_token_is_interrupted(
    make: MakeEngine, real_clock: ThreadClock
) -> None:
    """Sync code that only computes is interrupted by IMMEDIATE; its text and thread are kept."""
    engine = make(real_clock, workers=1)
    started, never = threading.Event(), threading.Event()
    start(engine, Script(say("a"), spin(started, never)))
    assert started.wait(30)
    cancel(engine, mode=IMMEDIATE)
    run = ended(engine)
    assert (run.state, run.output, run.abandoned) == (RunState.CANCELLED, "a", False)
    start(engine, Script(say("next")), "next")
    assert ended(engine, "next").output == "next"


def test_promise_04_what_will_not_stop_is_abandoned(
    make: MakeEngine, clock: ManualClock, observer: RecordingObserver
) -> None:
    """Code that blocks in C is abandoned, reported with its stack, and counted until it ends."""
    engine = make(workers=1, max_live_runs=1)
    reader, writer = os.pipe()
    reached = threading.Event()

    def read(ctx: RunContext) -> None:
        reached.set()
        os.read(reader, 1)

    start(engine, Script(read))
    assert reached.wait(30)
    cancel(engine, mode=IMMEDIATE)
    while clock.timers() and clock.timers()[0] < 1:
        clock.advance(0.1)  # attempts to interrupt
    clock.advance(2.0)
    run = ended(engine)
    assert run.abandoned
    assert "in read" in observer.abandoned[0][1]
    assert engine.occupied == 1
    with pytest.raises(ServerBusy):
        start(engine, Script(), "more")
    os.write(writer, b"x")
    freed(engine)
    start(engine, Script(say("more")), "more")
    assert ended(engine, "more").output == "more"
    assert [r.run_id for r in observer.ended] == ["r", "more"]
    os.close(reader)
    os.close(writer)


@steady
def test_promise_05_busy_workers_delay_no_cancel(make: MakeEngine) -> None:
    """With every worker blocked and the queue full, cancels, looks and watches are answered."""
    engine = make(workers=2, worker_queue=2)
    gate = Gate(deaf=True)
    for n in range(2):
        start(engine, Script(gate), f"busy{n}")
        gate.wait_reached()
    for n in range(2):
        start(engine, Script(), f"queued{n}")
    with pytest.raises(ServerBusy):
        start(engine, Script(), "refused")
    assert engine.occupied == 4
    begun = time.monotonic()
    assert cancel(engine, "queued0").outcome is CancelOutcome.STOPPED
    assert cancel(engine, "busy0").outcome is CancelOutcome.REQUESTED
    assert engine.get("busy1").state is RunState.RUNNING
    assert engine.watch("queued1").take()
    assert time.monotonic() - begun < A_MOMENT
    gate.open()
    for run_id in ("busy0", "busy1", "queued0", "queued1"):
        ended(engine, run_id)


@steady
def test_promise_05_a_blocked_loop_keeps_no_other_run_from_stopping(
    make: MakeEngine, real_clock: ThreadClock, observer: RecordingObserver
) -> None:
    """While one run blocks their loop, others are cancelled and end, and new ones run elsewhere."""
    engine = make(real_clock, stall_after=0.1, abandon_after=60.0, grace_period=60.0)
    block, wait = Gate(deaf=True, blocks_loop=True), Gate()
    start(engine, Script(say("kept"), wait, is_async=True), "waits")
    wait.wait_reached()
    start(engine, Script(block, is_async=True), "blocks")
    block.wait_reached()
    begun = time.monotonic()
    assert cancel(engine, "waits").outcome is CancelOutcome.REQUESTED
    run = ended(engine, "waits")
    assert time.monotonic() - begun < 20
    assert (run.state, run.output) == (RunState.CANCELLED, "kept")
    observer.wait_for(lambda o: o.stalls)
    run_id, seconds, stack = observer.stalls[0]
    assert run_id == "blocks"
    assert seconds >= 0.1
    assert "ready.acquire()" in stack
    start(engine, Script(say("new"), is_async=True), "new")
    assert ended(engine, "new").output == "new"
    assert engine.get("blocks").state is RunState.RUNNING
    block.open()
    assert ended(engine, "blocks").state is RunState.COMPLETED
    assert wait.left.wait(30)
    freed(engine)


def test_promise_05_a_run_that_blocks_its_loop_is_interrupted(
    make: MakeEngine, real_clock: ThreadClock, observer: RecordingObserver
) -> None:
    """An async run that computes without awaiting is interrupted, its stall known or not yet."""
    engine = make(real_clock, stall_after=0.1, abandon_after=60.0)
    for run_id, waits in (("early", False), ("late", True)):
        started, never = threading.Event(), threading.Event()
        start(engine, Script(say("a"), spin(started, never), is_async=True), run_id)
        assert started.wait(30)
        if waits:
            observer.wait_for(lambda o, run_id=run_id: o.stalls and o.stalls[-1][0] == run_id)
        cancel(engine, run_id, IMMEDIATE)
        run = ended(engine, run_id)
        assert (run.state, run.output, run.abandoned) == (RunState.CANCELLED, "a", False)
    start(engine, Script(say("next"), is_async=True), "next")
    assert ended(engine, "next").output == "next"
    assert len(engine._executor._loops._loops) <= 2


def test_promise_04_a_graceful_cancel_gives_a_blocking_run_its_grace(
    make: MakeEngine, real_clock: ThreadClock, observer: RecordingObserver
) -> None:
    """A run that itself blocks its loop is not abandoned before its grace period is over."""
    engine = make(real_clock, stall_after=0.05, grace_period=60.0)
    block = Gate(deaf=True, blocks_loop=True)
    start(engine, Script(say("a"), block, say("b"), is_async=True))
    block.wait_reached()
    cancel(engine)
    observer.wait_for(lambda o: o.stalls)
    over = threading.Event()
    engine.on_end("r", over.set)
    assert not over.wait(0.3)  # several times what a stall is given
    block.open()
    run = ended(engine)
    assert (run.state, run.abandoned) == (RunState.CANCELLED, False)


def test_every_loop_blocked_is_an_answer(
    make: MakeEngine, real_clock: ThreadClock, observer: RecordingObserver
) -> None:
    """Where as many loops are blocked as may be made, a new async run is refused as busy."""
    engine = make(real_clock, stall_after=0.05, max_run_loops=1)
    block = Gate(deaf=True, blocks_loop=True)
    start(engine, Script(block, is_async=True))
    block.wait_reached()
    observer.wait_for(lambda o: o.stalls)
    with pytest.raises(ServerBusy, match="blocked"):
        start(engine, Script(is_async=True), "refused")
    assert engine.occupied == 1
    block.open()
    ended(engine)


async def test_a_run_on_the_callers_own_loop(engine: Engine) -> None:
    """Async code can run on the caller's loop; a cancel from there stops it like any other."""
    gate = Gate()
    script = Script(say("a"), gate, is_async=True)
    engine.start(script, spec(), loop=asyncio.get_running_loop())
    async for event in engine.watch("r"):
        if getattr(event.payload, "text", "") == "a":
            cancel(engine)
    assert engine.get("r").state is RunState.CANCELLED
    freed(engine)
    assert len(asyncio.all_tasks()) == 1


def test_promise_04_a_graceful_cancel_does_not_tear_an_awaiting_tool(engine: Engine) -> None:
    """An async tool that could be cancelled where it awaits is left to finish."""
    gate = Gate()
    start(engine, Script(tool("t", gate), is_async=True))
    gate.wait_reached()
    cancel(engine)
    gate.open()
    run = ended(engine)
    assert run.state is RunState.CANCELLED
    assert [c.state for c in run.tool_calls] == [ToolCallState.COMPLETED]
