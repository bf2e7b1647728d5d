"""The live run around its machine: the log, the executor, the parents and the clock."""

import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from contextvars import copy_context
from typing import Any

import pytest
from pullcord.engine.clock import ThreadClock
from pullcord.engine.engine import Engine
from pullcord.run.cancel import CancelCause, CancelMode, StopStage
from pullcord.run.context import RunContext
from pullcord.run.errors import RunCancelledError, ServerBusy
from pullcord.run.events import (
    ContentDelta,
    RunCancelled,
    RunError,
    RunPaused,
    RunStarted,
    ToolCall,
)
from pullcord.run.place import at_work
from pullcord.run.record import RunFilter, SessionPolicy
from pullcord.run.state import IllegalTransition, RunState
from pullcord.run.usage import Limits
from pullcord.testing import Gate, ManualClock, Script, ask

from tests.engine.conftest import MakeEngine
from tests.engine.driving import IMMEDIATE, cancel, ended, events, freed, spec, start
from tests.engine.scripted import Theatre


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def end_of(engine: Engine, run_id: str = "r") -> Any:
    return events(engine, run_id)[-1].payload


# --- the terminal event


@pytest.mark.usefixtures("hasty")
def test_promise_03_the_terminal_event_lacks_no_text_that_was_read(
    make: MakeEngine, real_clock: ThreadClock
) -> None:
    """Text that another thread writes while the run ends is in its events and in its output, or in
    neither."""
    engine = make(real_clock, max_finished_runs=5)
    for n in range(200):
        over, going = threading.Event(), threading.Event()

        def stray(
            ctx: RunContext, over: threading.Event = over, going: threading.Event = going
        ) -> None:
            def write() -> None:
                for _ in range(1000):  # and no more: it takes the log's lock from who ends the run
                    ctx.write("x")
                    ctx.write("y" * 300)
                    going.set()
                    if over.is_set():
                        return

            threading.Thread(target=write).start()
            assert going.wait(30)

        start(engine, Script(stray), f"r{n}")
        run = ended(engine, f"r{n}")
        over.set()
        deltas = [e.payload for e in events(engine, f"r{n}") if isinstance(e.payload, ContentDelta)]
        assert "".join(delta.text for delta in deltas) == run.output


@pytest.mark.parametrize(
    ("mode", "deaf", "stage"),
    [
        (CancelMode.GRACEFUL, False, StopStage.ASK),
        (IMMEDIATE, False, StopStage.INTERRUPT),
        (IMMEDIATE, True, StopStage.ABANDON),
    ],
)
def test_promise_04_the_terminal_event_says_how_far_the_stop_had_to_go(
    engine: Engine, clock: ManualClock, mode: CancelMode, deaf: bool, stage: StopStage
) -> None:
    """Code that stopped when asked, when interrupted, or not at all, can be told apart."""
    gate = Gate(deaf=deaf)
    start(engine, Script(gate))
    gate.wait_reached()
    cancel(engine, mode=mode)
    if deaf:
        clock.advance(engine.options.abandon_after)
    ended(engine)
    assert end_of(engine).stage is stage
    gate.open()
    freed(engine)


# --- executors


def test_promise_12_a_run_whose_worker_dies_fails_with_what_it_made() -> None:
    """It says how the process died, and keeps the text; a tool in flight is UNKNOWN."""
    theatre = Theatre()
    engine = theatre.engine
    start(engine, Script())
    code = theatre.code()
    assert code.begin() is not None
    code.port.write("so far")
    code.port.tool_started(ToolCall("1", "mail"))
    code.die("killed by signal SEGV")
    run = ended(engine)
    assert (run.state, run.output) == (RunState.FAILED, "so far")
    assert run.error == RunError("WorkerDied", "killed by signal SEGV")
    assert [call.state for call in run.tool_calls] == ["unknown"]
    assert engine.occupied == 0


def test_promise_02_a_run_that_was_stopping_when_its_worker_died_is_cancelled() -> None:
    """An accepted cancel ends CANCELLED also where the process dies before the code stops."""
    theatre = Theatre()
    start(theatre.engine, Script())
    theatre.code().begin()
    cancel(theatre.engine)
    theatre.code().die()
    assert ended(theatre.engine).state is RunState.CANCELLED


def test_promise_04_a_run_with_a_process_for_itself_is_killed_after_an_interrupt() -> None:
    """Code that outlives the interrupt for a moment is killed with its process, and says so."""
    theatre = Theatre(kill_after=0.025)
    start(theatre.engine, Script())
    code = theatre.code()
    code.begin()
    cancel(theatre.engine, mode=IMMEDIATE)
    theatre.clock.advance(0.02)
    assert not code.killed
    theatre.clock.advance(0.01)
    assert code.killed
    code.release()
    code.port.killed()
    run = ended(theatre.engine)
    assert (run.state, run.abandoned) == (RunState.CANCELLED, False)
    assert end_of(theatre.engine).stage is StopStage.KILL


def test_a_run_that_was_moved_is_begun_by_its_new_executor_only() -> None:
    """An executor that comes back after its run was moved can neither begin, end nor release it."""
    theatre = Theatre()
    engine = theatre.engine
    start(engine, Script())
    old = theatre.code()
    new = theatre.executor.start(old.port.moved(), Script(), engine)
    assert old.begin() is None
    old.end()
    assert (engine.get("r").state, engine.occupied) == (RunState.PENDING, 1)
    assert new.begin() is not None
    with pytest.raises(IllegalTransition):
        new.port.moved()
    old.die()
    new.port.write("new")
    new.end()
    assert (ended(engine).output, engine.occupied) == ("new", 0)


# --- children


def test_promise_08_a_child_can_be_found_when_it_is_announced(engine: Engine) -> None:
    """Whoever reads in the parent's stream that a child began finds the child, at once."""
    found: list[str] = []
    gate = Gate()
    start(engine, Script(gate, lambda ctx: ctx.start(Script(id="child"), "go").run_id))
    gate.wait_reached()
    watcher = engine.watch("r")

    def look() -> None:  # in the thread that announces, before it goes on
        found.extend(
            engine.get(record.source.run_id).run_id
            for record in watcher.take()
            if isinstance(record.payload, RunStarted) and record.source is not None
        )
        watcher.arm(look)

    look()
    gate.open()
    ended(engine)
    assert len(found) == 1
    watcher.close()


@pytest.mark.usefixtures("hasty")
def test_promise_11_a_tree_never_grows_beyond_its_bound(
    make: MakeEngine, real_clock: ThreadClock
) -> None:
    """Threads that start children at the same time get so many of them as there may be."""
    engine, hold = make(real_clock, max_runs_beneath=3), Gate()
    counts: list[int] = []

    def crowd(ctx: RunContext) -> None:
        ready = threading.Barrier(6)
        started: list[bool] = []

        def begin() -> None:
            ready.wait(30)
            for _ in range(3):
                try:
                    ctx.start(Script(hold, id="child"), "go")
                except ServerBusy:
                    continue
                started.append(True)

        threads = [threading.Thread(target=begin) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        counts.append(len(started))

    for n in range(40):
        start(engine, Script(crowd), f"r{n}")
        ended(engine, f"r{n}")
        for run in engine.list_page(RunFilter(parent_run_id=f"r{n}"), 100).runs:
            ended(engine, run.run_id)
    assert counts == [3] * 40


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_promise_08_code_of_an_ended_run_starts_nothing(engine: Engine, is_async: bool) -> None:
    """A thread or task that a run left behind gets RunCancelledError; no run without a parent and
    limits begins."""
    contexts: list[Any] = []
    start(engine, Script(lambda _: contexts.append(copy_context()), is_async=is_async))
    ended(engine)
    place = contexts[0][at_work]
    never = Script()
    with pytest.raises(RunCancelledError, match="has ended"):
        place.runs.start(never, spec("other"), parent_run_id=place.run_id)
    assert never.runs == 0
    assert [run.run_id for run in engine.list_page(RunFilter(), 10).runs] == ["r"]


def test_promise_08_a_run_that_has_just_ended_starts_nothing(
    engine: Engine, clock: ManualClock
) -> None:
    """Also where it can still be found as live, because its store does not have it yet."""
    refused: list[str] = []
    never = Script()
    gate = Gate()
    start(engine, Script(gate))
    gate.wait_reached()

    def look() -> None:  # between the terminal event and the store
        try:
            engine.start(never, spec("other"), parent_run_id="r")
        except RunCancelledError as error:
            refused.append(str(error))

    watcher = engine.watch("r")
    watcher.take()
    assert watcher.arm(look)
    gate.open()
    ended(engine)
    assert len(refused) == 1
    assert never.runs == 0
    watcher.close()


# --- waits


def test_promise_11_a_run_does_not_wait_for_a_thread_for_ever(
    make: MakeEngine, clock: ManualClock
) -> None:
    """Its own timeout, the server's, or `max_pending` ends a run that has not begun in time."""
    engine, gate = make(workers=1, max_pending=60.0), Gate(deaf=True)
    start(engine, Script(gate), "busy")
    gate.wait_reached()
    start(engine, Script(), "patient")
    start(engine, Script(), "short", limits=Limits(timeout=5.0))
    clock.advance(5.0)
    assert engine.get("patient").state is RunState.PENDING
    clock.advance(55.0)
    for run_id, limit in (("short", "timeout"), ("patient", "max_pending")):
        run = ended(engine, run_id)
        assert run.cancellation is not None
        assert (run.cancellation.cause, run.cancellation.limit) == (CancelCause.BUDGET, limit)
        assert run.start_time == 0
    gate.open()
    ended(engine, "busy")


def test_promise_11_a_run_does_not_wait_behind_a_paused_one_for_ever(
    make: MakeEngine, clock: ManualClock
) -> None:
    """Neither the run that nobody decides about, nor the run of its session that waits for it."""
    engine = make(max_pause=100.0, max_pending=50.0)
    asks = Script(ask("may I?", "mail"), is_async=True)
    start(engine, asks, "asks", session_id="s")
    with closing(engine.watch("asks")) as watcher:
        next(event for event in watcher if isinstance(event.payload, RunPaused))
    start(engine, Script(), "next", session_id="s", session_policy=SessionPolicy.QUEUE)
    clock.advance(50.0)
    assert ended(engine, "next").state is RunState.CANCELLED
    assert engine.get("asks").state is RunState.PAUSED
    clock.advance(50.0)
    end = ended(engine, "asks").cancellation
    assert end is not None
    assert (end.cause, end.limit) == (CancelCause.BUDGET, "max_pause")


def test_the_terminal_event_of_a_run_that_never_began_names_no_stage(engine: Engine) -> None:
    """There was no code to be asked."""
    cancel(engine, before_start=True)
    start(engine, Script())
    end = end_of(engine)
    assert isinstance(end, RunCancelled)
    assert end.stage is None
