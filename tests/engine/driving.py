"""Driving an engine in tests: starting scripts, cancelling, and looking at what came of it."""

import threading
from typing import Any

from pullcord.engine.engine import Engine
from pullcord.engine.ports import CancelRequest
from pullcord.run.cancel import CancelCause, Cancellation, CancelMode
from pullcord.run.events import CancelRequested, Event, RunStarted
from pullcord.run.record import Receipt, Run, RunSpec
from pullcord.testing import ManualClock, Script

IMMEDIATE = CancelMode.IMMEDIATE


def spec(run_id: str = "r", **fields: Any) -> RunSpec:
    return RunSpec("agents/script", run_id=run_id, **fields)


def start(engine: Engine, script: Script, run_id: str = "r", **fields: Any) -> Run:
    return engine.start(script, spec(run_id, **fields))


def cancel(
    engine: Engine,
    run_id: str = "r",
    mode: CancelMode = CancelMode.GRACEFUL,
    *,
    actor: str = "ada",
    reason: str = "enough",
    grace_period: float | None = None,
    before_start: bool = False,
) -> Receipt:
    request = CancelRequest(Cancellation(CancelCause.USER, actor, reason, mode), grace_period)
    return engine.cancel(run_id, request, before_start=before_start)


def ended(engine: Engine, run_id: str = "r") -> Run:
    """The run once it has ended, its events checked."""
    over = threading.Event()
    engine.on_end(run_id, over.set)
    assert over.wait(30), f"{run_id} does not end: {engine.get(run_id)}"
    run = engine.get(run_id)
    assert run.state.is_terminal
    check(events(engine, run_id), run)
    return run


def events(engine: Engine, run_id: str = "r", after: int = 0) -> list[Event]:
    """All events of a run that has ended."""
    return list(engine.watch(run_id, after))


def check(told: list[Event], run: Run) -> None:
    """Promise 1, of any run: one terminal event, the last; and the event and the run agree."""
    assert isinstance(told[0].payload, RunStarted)
    terminal = [event for event in told if event.is_terminal]
    assert terminal == [told[-1]]
    last = 0
    for event in told:
        last += getattr(event.payload, "count", 1)
        assert event.sequence == last
    assert run.last_sequence == last
    end: Any = told[-1].payload
    assert type(end).__name__ == f"Run{run.state.value.capitalize()}"
    assert (end.output, end.usage, end.tool_calls) == (run.output, run.usage, run.tool_calls)
    own = [event for event in told if event.source is None]
    requests = [e.payload for e in own if isinstance(e.payload, CancelRequested)]
    if run.state == "cancelled":
        assert end.cancellation == run.cancellation
        assert requests
        assert requests[-1].cancellation == run.cancellation
    assert len(requests) <= 2
    assert run.end_time >= run.start_time >= 0
    assert run.end_time >= run.create_time


def live_run(engine: Engine, run_id: str = "r") -> Any:
    """The object behind a run that is live, to see what becomes of it."""
    handle = engine.find_here(run_id)
    assert handle is not None
    return handle.snapshot.__self__  # type: ignore[attr-defined]


def run_timers(clock: ManualClock) -> list[float]:
    """In how many seconds the timers of runs are due; the store's sweep comes after the hour."""
    return [due for due in clock.timers() if due < 1800]


def freed(engine: Engine) -> None:
    """Waits until no code of a run is at work any more, abandoned code either."""
    for _ in range(30_000):
        if not engine.occupied:
            return
        threading.Event().wait(0.001)  # nobody is told of this
    raise AssertionError(f"{engine.occupied} runs still hold capacity")
