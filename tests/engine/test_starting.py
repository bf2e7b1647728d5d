"""Admission: one run a run_id, bounds, drain and shutdown, lists of runs."""

import threading
from dataclasses import replace
from typing import Any

import pytest
from pullcord.engine.engine import Engine
from pullcord.engine.ports import CancelRequest
from pullcord.run.cancel import CancelCause, Cancellation, CancelMode, CancelOutcome
from pullcord.run.errors import (
    Draining,
    InvalidArgument,
    RunExists,
    RunNotFound,
    ServerBusy,
    StoreUnavailable,
    TooManyAffected,
)
from pullcord.run.record import RunFilter, RunSpec
from pullcord.run.state import RunState
from pullcord.testing import Gate, HookedStore, ManualClock, RecordingObserver, Script, say

from tests.engine.conftest import MakeEngine
from tests.engine.driving import cancel, ended, freed, spec, start

Hooked = tuple[Engine, HookedStore]


def test_a_run_id_is_minted_where_none_is_given(engine: Engine) -> None:
    """Without a run_id each start is a run of its own."""
    first, second = (engine.start(Script(), RunSpec("agents/script")) for _ in range(2))
    assert first.run_id != second.run_id
    ended(engine, first.run_id)
    ended(engine, second.run_id)


def test_the_same_start_again_finds_the_run(engine: Engine) -> None:
    """The same run_id with the same spec attaches, live or ended; with another it is refused."""
    gate = Gate()
    script = Script(say("once"), gate)
    start(engine, script, labels={"a": "b"})
    gate.wait_reached()
    assert start(engine, script, labels={"a": "b"}).state is RunState.RUNNING
    with pytest.raises(RunExists):
        start(engine, script, labels={"a": "c"})
    gate.open()
    run = ended(engine)
    assert start(engine, script, labels={"a": "b"}) == run
    with pytest.raises(RunExists):
        start(engine, script)
    assert script.runs == 1


def test_many_starts_at_once_are_one_run(make: MakeEngine) -> None:
    """However many threads start the same run at once, it is executed once."""
    engine = make()
    for n in range(150):
        script, barrier, runs = Script(), threading.Barrier(6), []

        def ask(
            n: int = n, script: Script = script, barrier: Any = barrier, runs: Any = runs
        ) -> None:
            barrier.wait()
            runs.append(start(engine, script, f"r{n}").run_id)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert runs == [f"r{n}"] * 6
        assert ended(engine, f"r{n}").state is RunState.COMPLETED
        assert script.runs == 1


def test_a_twin_that_comes_and_goes_meanwhile_is_found(hooked: Hooked) -> None:
    """A start whose twin is started and ended before it is admitted does not start a second run."""
    engine, store = hooked
    script, twin = Script(), Script()

    def twin_first(verb: str) -> None:
        store.before = lambda verb: None
        other = threading.Thread(target=lambda: start(engine, twin))
        other.start()
        other.join(0.2)  # if it can be started now, it is, and ends

    store.before = twin_first
    start(engine, script)
    ended(engine)
    assert script.runs + twin.runs == 1


def test_a_cancel_before_start_that_misses_a_quick_run_says_so(hooked: Hooked) -> None:
    """A cancel is not kept for a run that came and went while the cancel looked for it."""
    engine, store = hooked
    other = threading.Thread(target=lambda: start(engine, Script()))

    def start_first(verb: str) -> None:
        store.before = lambda verb: None
        other.start()
        other.join(0.2)  # if it can be started now, it is, and ends

    store.before = start_first
    outcome = cancel(engine, before_start=True).outcome
    other.join(30)
    run = ended(engine)
    cancelled = run.state is RunState.CANCELLED
    assert cancelled == (outcome is not CancelOutcome.ALREADY_FINISHED)
    assert engine.remains().tombstones == 0


def test_a_cancel_that_comes_while_its_run_is_admitted_stops_it(hooked: Hooked) -> None:
    """A cancel that comes between a run's row and its place in the engine stops the run."""
    engine, store = hooked
    outcomes: list[CancelOutcome] = []
    other = threading.Thread(target=lambda: outcomes.append(cancel(engine).outcome))

    def cancel_now(verb: str) -> None:
        if verb == "admit":
            other.start()
            other.join(0.2)

    store.after = cancel_now
    gate = Gate()
    start(engine, Script(gate))
    other.join(30)
    assert ended(engine).state is RunState.CANCELLED
    assert outcomes[0] in {CancelOutcome.REQUESTED, CancelOutcome.STOPPED}
    freed(engine)
    assert (engine.remains().claims, engine.remains().tombstones) == (0, 0)


def test_promise_06_a_refused_start_keeps_its_early_cancel(make: MakeEngine) -> None:
    """A start that is refused as busy takes no cancel with it: the next try is still cancelled."""
    engine, gate = make(max_live_runs=1), Gate()
    start(engine, Script(gate), "busy")
    cancel(engine, before_start=True)
    with pytest.raises(ServerBusy):
        start(engine, Script())
    gate.open()
    ended(engine, "busy")
    freed(engine)
    assert start(engine, Script()).state is RunState.CANCELLED


def test_promise_11_live_runs_are_bounded(make: MakeEngine, observer: RecordingObserver) -> None:
    """More live runs than the bound are refused as busy, and leave nothing behind."""
    engine, gate = make(max_live_runs=2), Gate()
    for n in range(2):
        start(engine, Script(gate), f"r{n}")
    with pytest.raises(ServerBusy):
        start(engine, Script(gate), "r2")
    with pytest.raises(RunNotFound):
        engine.get("r2")
    assert observer.refused == ["ServerBusy"]
    assert start(engine, Script(gate), "r1").run_id == "r1"
    gate.open()
    for n in range(2):
        ended(engine, f"r{n}")
    freed(engine)
    assert engine.remains().claims == 0


def test_promise_11_a_full_queue_is_an_answer(make: MakeEngine) -> None:
    """A run that no worker and no place in the queue is left for is refused without a trace."""
    engine, gate = make(workers=1, worker_queue=0), Gate()
    start(engine, Script(gate))
    gate.wait_reached()
    for n in range(20):
        with pytest.raises(ServerBusy):
            start(engine, Script(), f"r{n}")
    left = engine.remains()
    assert (engine.occupied, left.live, left.claims) == (1, 1, 1)
    gate.open()
    ended(engine)


def test_a_wrong_spec_is_refused_before_anything_else(engine: Engine) -> None:
    """A spec that breaks the rules is refused, and no run exists."""
    with pytest.raises(InvalidArgument):
        start(engine, Script(), input="x" * (engine.options.max_input_bytes + 1))
    with pytest.raises(RunNotFound):
        engine.get("r")


def test_drain_takes_nothing_new_and_serves_the_rest(engine: Engine) -> None:
    """A draining engine refuses new runs; cancels, looks, watches and retries still work."""
    gate = Gate()
    start(engine, Script(gate), "a")
    start(engine, Script(gate), "b")
    gate.wait_reached()
    gate.wait_reached()
    engine.drain()
    with pytest.raises(Draining):
        start(engine, Script(), "c")
    assert start(engine, Script(gate), "a").run_id == "a"
    assert not engine.wait_idle(0)
    cancel(engine, "a")
    assert ended(engine, "a").state is RunState.CANCELLED
    assert engine.watch("b").take()
    gate.open()
    assert engine.wait_idle(30)
    assert ended(engine, "b").state is RunState.COMPLETED


def test_shutdown_says_so(engine: Engine) -> None:
    """Runs that the server's end stops are CANCELLED with cause SHUTDOWN, and keep their text."""
    gate = Gate()
    for n in range(3):
        start(engine, Script(say("a"), gate, is_async=n == 1), f"r{n}")
        gate.wait_reached()
    engine.drain()
    engine.shut_down_runs(CancelMode.GRACEFUL, 1.0)
    assert engine.wait_idle(30)
    for n in range(3):
        run = ended(engine, f"r{n}")
        assert run.cancellation is not None
        assert (run.cancellation.cause, run.output) == (CancelCause.SHUTDOWN, "a")


def test_a_store_that_is_down_loses_no_run(
    hooked: Hooked, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A run that its store does not take stays where it was, and is offered until it is taken."""
    engine, store = hooked

    def refuse(verb: str) -> None:
        if verb == "finish":
            raise StoreUnavailable()

    store.before = refuse
    start(engine, Script(say("a")))
    run = ended(engine)
    assert run.output == "a"
    freed(engine)
    clock.advance(5)
    assert not engine.wait_idle(0)
    assert cancel(engine).outcome is CancelOutcome.ALREADY_FINISHED
    assert start(engine, Script()) == run
    store.before = lambda verb: None
    clock.advance(30)
    assert engine.wait_idle(30)
    assert engine.get("r") == run
    assert "did not take run r" in caplog.text


def test_pages_of_runs(engine: Engine, clock: ManualClock) -> None:
    """Pages list each matching run once, the newest first, live and ended, also as runs come."""
    gate = Gate()
    for n in range(25):
        clock.advance(0.5 if n % 3 else 0)  # some are of the same age
        start(engine, Script(gate, is_async=True), f"r{n:02}", session_id="s" if n % 2 else "t")
        gate.wait_reached()
        if n % 4 == 0:
            cancel(engine, f"r{n:02}")
            ended(engine, f"r{n:02}")
    wanted = RunFilter(session_id="s")
    seen, token = [], ""
    while True:
        page = engine.list_page(wanted, 5, token)
        seen += page.runs
        token = page.next_page_token
        if not token:
            break
        clock.advance(1)
        start(engine, Script(), f"x{len(seen)}", session_id="s")
        ended(engine, f"x{len(seen)}")
    ids = [run.run_id for run in seen]
    assert sorted(ids) == [f"r{n:02}" for n in range(25) if n % 2]
    assert [r.create_time for r in seen] == sorted((r.create_time for r in seen), reverse=True)
    token = engine.list_page(wanted, 5).next_page_token
    for other, used in ((RunFilter(), token), (wanted, "nonsense"), (wanted, token[:-4] + "AAA=")):
        with pytest.raises(InvalidArgument):
            engine.list_page(other, 5, used)
    assert len(engine.list_page(replace(wanted, states=frozenset({RunState.RUNNING})), 50).runs)
    gate.open()
    assert engine.wait_idle(30)


def test_a_list_misses_no_run_that_is_just_ending(hooked: Hooked) -> None:
    """A run that ends while a list is made is in the list."""
    engine, store = hooked
    gate = Gate()
    start(engine, Script(gate))
    gate.wait_reached()

    def end_meanwhile(verb: str) -> None:
        if verb == "page":
            gate.open()
            ended(engine)

    store.after = end_meanwhile
    assert [run.run_id for run in engine.list_page(RunFilter(), 5).runs] == ["r"]


def test_a_cancel_of_many_is_all_or_nothing(engine: Engine) -> None:
    """A filter that matches more runs than the caller allowed stops none of them."""
    gate = Gate()
    for n in range(3):
        start(engine, Script(gate), f"r{n}")
        gate.wait_reached()
    with pytest.raises(TooManyAffected):
        engine.cancel_many(RunFilter(), CancelRequest(Cancellation()), max_affected=2)
    assert all(engine.get(f"r{n}").state is RunState.RUNNING for n in range(3))
    gate.open()
    for n in range(3):
        ended(engine, f"r{n}")


def test_close_ends_every_run(make: MakeEngine) -> None:
    """Closing cancels what is left, and the engine then takes nothing more."""
    engine, gate = make(), Gate()
    for n in range(4):
        start(engine, Script(gate, is_async=bool(n % 2)), f"r{n}")
        gate.wait_reached()
    engine.close()
    for n in range(4):
        run = ended(engine, f"r{n}")
        assert run.cancellation is not None
        assert run.cancellation.cause is CancelCause.SHUTDOWN
    with pytest.raises(Draining):
        engine.start(Script(), spec("late"))
