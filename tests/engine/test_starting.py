"""Admission: one run a run_id, bounds, drain and shutdown, lists of runs."""

import threading
from dataclasses import replace
from typing import Any

import pytest
from pullcord.engine.engine import Engine
from pullcord.engine.ports import CancelRequest, FinishedRun
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
from pullcord.testing import Gate, ManualClock, RecordingObserver, Script, say

from tests.engine.conftest import MakeEngine
from tests.engine.driving import cancel, ended, freed, spec, start


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


def test_a_twin_that_comes_and_goes_meanwhile_is_found(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that looks just before its twin is started and ended does not start a second run."""
    script, twin = Script(), Script()
    looked, ask = threading.Event(), engine._store.get
    other = threading.Thread(target=lambda: (looked.wait(30), start(engine, twin)))
    other.start()

    def slow(run_id: str) -> FinishedRun | None:
        found = ask(run_id)
        if not looked.is_set():
            looked.set()
            other.join(0.2)  # if it can be started now, it is, and ends
        return found

    monkeypatch.setattr(engine._store, "get", slow)
    start(engine, script)
    other.join(30)
    ended(engine)
    assert script.runs + twin.runs == 1


def test_a_cancel_before_start_that_misses_a_quick_run_says_so(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancel is not kept for a run that came and went while the cancel looked for it."""
    ask = engine._store.get

    def late(run_id: str) -> FinishedRun | None:
        found = ask(run_id)
        monkeypatch.setattr(engine._store, "get", ask)
        start(engine, Script())
        ended(engine)
        return found

    monkeypatch.setattr(engine._store, "get", late)
    assert cancel(engine, before_start=True).outcome is CancelOutcome.ALREADY_FINISHED


def test_a_run_that_is_not_claimed_yet_can_be_cancelled(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancel that finds a run just being admitted stops it, and leaves no claim behind."""
    claim, outcomes = engine._registry.claim, []

    def cancel_first(run_id: str, deliver: Any) -> Cancellation | None:
        outcomes.append(cancel(engine).outcome)
        return claim(run_id, deliver)

    monkeypatch.setattr(engine._registry, "claim", cancel_first)
    script = Script(say("never"))
    assert start(engine, script).state is RunState.CANCELLED
    assert outcomes == [CancelOutcome.STOPPED]
    ended(engine)
    freed(engine)
    assert (script.runs, len(engine._registry)) == (0, 0)  # type: ignore[arg-type]


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
    assert len(engine._registry) == 0  # type: ignore[arg-type]


def test_promise_11_a_full_queue_is_an_answer(make: MakeEngine) -> None:
    """A run that no worker and no place in the queue is left for is refused without a trace."""
    engine, gate = make(workers=1, worker_queue=0), Gate()
    start(engine, Script(gate))
    gate.wait_reached()
    for n in range(20):
        with pytest.raises(ServerBusy):
            start(engine, Script(), f"r{n}")
    assert (engine.occupied, len(engine._live), len(engine._registry)) == (1, 1, 1)  # type: ignore[arg-type]
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
    engine: Engine,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A run that its store does not take stays where it was, and is offered until it is taken."""
    put = engine._store.put

    def refuse(finished: FinishedRun) -> None:
        raise StoreUnavailable()

    monkeypatch.setattr(engine._store, "put", refuse)
    start(engine, Script(say("a")))
    run = ended(engine)
    assert run.output == "a"
    freed(engine)
    clock.advance(5)
    assert not engine.wait_idle(0)
    assert cancel(engine).outcome is CancelOutcome.ALREADY_FINISHED
    assert start(engine, Script()) == run
    monkeypatch.setattr(engine._store, "put", put)
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


def test_a_list_misses_no_run_that_is_just_ending(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ends while a list is made is in the list."""
    gate, select = Gate(), engine._store.select
    start(engine, Script(gate))
    gate.wait_reached()

    def end_meanwhile(matching: RunFilter) -> Any:
        found = select(matching)
        gate.open()
        ended(engine)
        return found

    monkeypatch.setattr(engine._store, "select", end_meanwhile)
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
