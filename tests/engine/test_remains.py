"""What is left after the end: nothing. Promise 12."""

import gc
import logging
import threading
import tracemalloc
import weakref

import pytest
from pullcord.engine.clock import ThreadClock
from pullcord.engine.engine import Engine
from pullcord.run.cancel import CancelMode, CancelToken
from pullcord.run.context import RunContext
from pullcord.run.errors import RunNotFound
from pullcord.run.record import RunFilter
from pullcord.testing import (
    Gate,
    ManualClock,
    RecordingObserver,
    Script,
    make_engine,
    nothing_left,
    remains,
    say,
    tool,
)

from tests.engine.conftest import MakeEngine
from tests.engine.driving import IMMEDIATE, cancel, ended, freed, live_run, spec, start

_ALL = RunFilter()
BOTH = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


@BOTH
@pytest.mark.parametrize("stop", [None, CancelMode.GRACEFUL, IMMEDIATE])
def test_promise_12_a_forgotten_run_is_garbage(
    make: MakeEngine, real_clock: ThreadClock, is_async: bool, stop: CancelMode | None
) -> None:
    """Once forgotten, nothing of a run is kept: neither run, nor log, nor context, nor token."""
    engine, gate = make(real_clock, max_finished_runs=1), Gate()
    refs: list[weakref.ref[object]] = []

    def look(ctx: RunContext) -> None:
        # Values with slots cannot be referred to weakly; a witness that they hold can.
        witness = threading.Event()
        refs.append(weakref.ref(witness))
        ctx.cancel_token.on_cancel(lambda _, kept=witness: None)

    start(engine, Script(look, say("a"), tool("t", gate), is_async=is_async))
    gate.wait_reached()
    live = live_run(engine)
    refs += [weakref.ref(live), weakref.ref(live.log)]
    del live
    watcher = engine.watch("r")
    if stop is not None:
        cancel(engine, mode=stop)
    if stop is not IMMEDIATE:
        gate.open()
    ended(engine)
    watcher.close()
    del watcher
    start(engine, Script(is_async=is_async), "next")
    ended(engine, "next")
    with pytest.raises(RunNotFound):
        engine.get("r")
    with nothing_left():
        pass
    while engine.remains().timers > 1:  # a last try to interrupt may be on its way
        threading.Event().wait(0.01)
    gc.collect()
    assert [ref() for ref in refs] == [None, None, None]


@pytest.mark.parametrize("outcome", ["completed", "failed", "cancelled"])
def test_promise_12_thousands_of_runs_leave_everything_flat(
    make: MakeEngine,
    real_clock: ThreadClock,
    observer: RecordingObserver,
    outcome: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Hundreds of runs of each kind leave threads, file descriptors and memory as they were."""
    caplog.set_level(logging.CRITICAL, "pullcord.run")  # pytest keeps what is logged
    engine = make(real_clock, max_finished_runs=20, workers=4)

    def finish(ctx: RunContext) -> None:
        ctx.write("x" * 1000)
        if outcome == "failed":
            raise ValueError

    def one(n: int) -> None:
        run_id, gate = f"r{n}", Gate()
        steps = [finish, gate] if outcome == "cancelled" else [finish]
        script = Script(*steps, is_async=bool(n % 2))
        engine.start(script, spec(run_id), deadline=600.0)
        if outcome == "cancelled":
            gate.wait_reached()
            cancel(engine, run_id)
        assert ended(engine, run_id).state.value == outcome
        observer.ended.clear()
        observer.started.clear()

    for n in range(60):
        one(n)
    gc.collect()
    before, threads = remains(), threading.active_count()
    tracemalloc.start()
    held = []
    for first, last in ((60, 100), (100, 300), (300, 500)):
        for n in range(first, last):
            one(n)
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    # A leak grows with every run; what another thread of the process takes meanwhile comes once.
    growth = min(held[1] - held[0], held[2] - held[1])
    assert growth < 130_000, "less than one kilobyte a run"
    assert threading.active_count() <= threads + 3
    assert remains().fds <= before.fds
    freed(engine)
    left = engine.remains()
    assert (left.live, left.claims, left.tombstones, left.ended) == (0, 0, 0, 20)


def test_promise_12_retention(engine: Engine, clock: ManualClock) -> None:
    """An ended run is kept until its expire_time, and then forgotten."""
    start(engine, Script(say("a")))
    run = ended(engine)
    assert run.expire_time == run.end_time + engine.options.retention
    clock.advance(engine.options.retention - 1)
    assert engine.get("r") == run
    clock.advance(1)
    with pytest.raises(RunNotFound):
        engine.get("r")
    with pytest.raises(RunNotFound):
        engine.watch("r")
    start(engine, Script(say("b")))
    assert ended(engine).output == "b"


def test_promise_12_a_closed_engine_has_no_threads() -> None:
    """After close no thread of the engine's is left, its clock's and its loops' neither."""
    before = set(threading.enumerate())
    engine, gate = make_engine(ThreadClock()), Gate()
    for n in range(4):
        start(engine, Script(gate, is_async=bool(n % 2)), f"r{n}")
        gate.wait_reached()
    engine.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()


def test_promise_08_what_a_run_started_beneath_is_told(engine: Engine) -> None:
    """A token that a run made for what runs beneath it is cancelled with the run, cause PARENT."""
    gate, children = Gate(), []

    def beneath(ctx: RunContext) -> None:
        children.append(ctx.cancel_token.child())

    start(engine, Script(beneath, gate))
    gate.wait_reached()
    cancel(engine)
    ended(engine)
    child: CancelToken = children[0]
    assert child.cause == "parent"
    assert child.reason == "enough"


@BOTH
def test_promise_12_an_ended_run_is_kept_as_data_only(
    make: MakeEngine, real_clock: ThreadClock, is_async: bool
) -> None:
    """While an ended run is still kept, its code, token and timers are garbage already."""
    engine, gate = make(real_clock), Gate()
    start(engine, Script(say("a"), gate, is_async=is_async))
    gate.wait_reached()
    gone = weakref.ref(live_run(engine))
    gate.open()
    ended(engine)
    freed(engine)
    with nothing_left():
        pass
    gc.collect()
    assert gone() is None
    assert engine.get("r").output == "a"


class Collecting(ManualClock):
    """A clock at whose every look garbage is collected, in the middle of whatever step."""

    def time(self) -> float:
        gc.collect(0)
        return super().time()

    def monotonic(self) -> float:
        gc.collect(0)
        return super().monotonic()


def test_a_finalizer_within_a_step_stops_nothing(make: MakeEngine) -> None:
    """A garbage collection that ends a run, in the middle of a step, holds up nobody."""
    engine = make(Collecting())
    stopped = []
    start(engine, Script(), "over")
    ended(engine, "over")

    class Leaves:
        """Stops a run once it is garbage, as an abandoned stream does."""

        def __init__(self, run_id: str) -> None:
            self.run_id = run_id
            self.cycle = self

        def __del__(self) -> None:
            stopped.append(cancel(engine, self.run_id, before_start=True))
            engine.remains()

    for n in range(50):
        start(engine, Script(Gate()), f"r{n}", session_id="s")
        Leaves(f"r{n}")
        assert engine.get("over")  # within the store, which looks whether it has expired
        Leaves(f"early{n}")
        assert engine.list_page(_ALL, 5).runs
    while len(stopped) < 100:  # no collection begins while another thread is at one
        gc.collect()
    assert engine.wait_idle(30)
