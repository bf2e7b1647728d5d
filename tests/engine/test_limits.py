"""Time and money: deadlines and budgets end a run, and say which. Promise 9."""

from typing import Any

import pytest
from pullcord.engine.engine import Engine
from pullcord.engine.start import margin
from pullcord.run.cancel import CancelCause, CancelMode
from pullcord.run.context import RunContext
from pullcord.run.events import ToolCallState
from pullcord.run.state import RunState
from pullcord.run.usage import Limits
from pullcord.testing import Gate, ManualClock, Script, Step, say, tool, use

from tests.engine.conftest import MakeEngine
from tests.engine.driving import cancel, ended, freed, run_timers, spec, start

BOTH = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


@BOTH
@pytest.mark.parametrize(
    ("limits", "step", "limit", "kept"),
    [
        (Limits(max_tokens=10), use(output_tokens=4), "max_tokens", 3),
        (Limits(max_cost=1.0), use(cost=0.5), "max_cost", 2),
        (Limits(max_steps=2), use(steps=1), "max_steps", 3),
        (Limits(max_tool_calls=2), tool("t"), "max_tool_calls", 3),
    ],
)
def test_promise_09_a_limit_ends_the_run(
    engine: Engine, limits: Limits, step: Step, limit: str, kept: int, is_async: bool
) -> None:
    """A run that reaches a limit ends with cause BUDGET, says which, and keeps what it made; all
    along it says the limits that it was given."""
    start(engine, Script(*[say("a"), step] * 9, is_async=is_async), limits=limits)
    run = ended(engine)
    assert run.state is RunState.CANCELLED
    assert run.cancellation is not None
    assert (run.cancellation.cause, run.cancellation.limit) == (CancelCause.BUDGET, limit)
    assert limit in run.cancellation.reason
    assert run.limits == limits
    assert run.output == "a" * kept
    assert len(run.tool_calls) == (2 if limit == "max_tool_calls" else 0)
    # What was refused was not done, and does not count.
    assert run.usage.steps == (2 if limit == "max_steps" else 0)
    assert run.usage.tool_calls == len(run.tool_calls)


@BOTH
def test_promise_09_a_timeout_ends_the_run(
    engine: Engine, clock: ManualClock, is_async: bool
) -> None:
    """A run's timeout counts from its start, and ends it with cause BUDGET, limit `timeout`."""
    gate, remaining = Gate(), []

    def look(ctx: RunContext) -> None:
        remaining.append(ctx.cancel_token.deadline)

    start(engine, Script(say("a"), look, gate, is_async=is_async), limits=Limits(timeout=10.0))
    gate.wait_reached()
    clock.advance(9.9)
    assert engine.get("r").state is RunState.RUNNING
    clock.advance(0.1)
    run = ended(engine)
    assert run.cancellation is not None
    assert (run.cancellation.cause, run.cancellation.limit) == (CancelCause.BUDGET, "timeout")
    assert run.output == "a"
    assert remaining == [1010.0]


def test_promise_09_the_server_bounds_every_timeout(make: MakeEngine, clock: ManualClock) -> None:
    """No run takes longer than the server allows, whatever its spec says."""
    engine, gate = make(max_timeout=5.0), Gate()
    start(engine, Script(gate), "none")
    start(engine, Script(gate), "longer", limits=Limits(timeout=50.0))
    start(engine, Script(gate), "shorter", limits=Limits(timeout=2.0))
    for _ in range(3):
        gate.wait_reached()
    clock.advance(2)
    assert ended(engine, "shorter").state is RunState.CANCELLED
    assert engine.get("longer").state is RunState.RUNNING
    clock.advance(3)
    assert ended(engine, "none").state is RunState.CANCELLED
    assert ended(engine, "longer").state is RunState.CANCELLED


@BOTH
def test_promise_11_output_is_bounded(make: MakeEngine, clock: ManualClock, is_async: bool) -> None:
    """Text beyond the bound ends the run with limit `output_bytes`; so much of it is kept."""
    engine, gate = make(max_output_bytes=1000), Gate()
    start(engine, Script(say("é" * 499, "xyz", "more"), gate, is_async=is_async))
    gate.wait_reached()
    assert engine.get("r").output == "é" * 499 + "xy"
    clock.advance(0)
    run = ended(engine)
    assert run.state is RunState.CANCELLED
    assert run.cancellation is not None
    assert run.cancellation.limit == "output_bytes"
    assert run.output == "é" * 499 + "xy"


def start_with_deadline(engine: Engine, script: Script, deadline: float) -> None:
    engine.start(script, spec(), deadline=deadline)


@BOTH
@pytest.mark.parametrize("deadline", [0.2, 1.0, 10.0, 100.0])
def test_promise_09_a_run_ends_before_its_callers_deadline(
    engine: Engine, clock: ManualClock, is_async: bool, deadline: float
) -> None:
    """A run is stopped a margin before the caller's deadline, cause DEADLINE; its text is kept."""
    gate = Gate()
    start_with_deadline(engine, Script(say("a"), gate, is_async=is_async), deadline)
    gate.wait_reached()
    clock.advance(deadline - margin(deadline) - 0.01)
    assert engine.get("r").state is RunState.RUNNING
    clock.advance(0.02)
    run = ended(engine)
    assert run.cancellation is not None
    assert (run.cancellation.cause, run.output) == (CancelCause.DEADLINE, "a")


@pytest.mark.parametrize("deadline", [0.2, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("cancelled", [None, CancelMode.GRACEFUL, CancelMode.IMMEDIATE])
def test_promise_09_also_what_will_not_stop_ends_before_the_deadline(
    make: MakeEngine, clock: ManualClock, deadline: float, cancelled: CancelMode | None
) -> None:
    """Deaf code is abandoned before the deadline, also where an earlier cancel has longer waits."""
    engine = make(abandon_after=500.0)
    gate = Gate(deaf=True)
    start_with_deadline(engine, Script(say("a"), gate), deadline)
    gate.wait_reached()
    if cancelled is not None:
        cancel(engine, mode=cancelled, grace_period=500.0)
    clock.advance(deadline - margin(deadline) / 4)
    run = ended(engine)
    assert run.abandoned
    assert run.end_time < 1_800_000_000 + deadline
    assert run.cancellation is not None
    expected = CancelCause.DEADLINE if cancelled is None else CancelCause.USER
    assert run.cancellation.cause is expected
    gate.open()
    freed(engine)


@pytest.mark.parametrize("deadline", [0.0, 0.01, 0.3, 1.0, 5.0, 60.0, 1e6])
def test_promise_09_the_margin(deadline: float) -> None:
    """The margin is a tenth of the time, from 0.15 s to 2 s, and never more than half of it."""
    assert margin(deadline) <= deadline / 2
    assert margin(deadline) <= 2.0
    if deadline >= 0.3:
        assert margin(deadline) >= 0.15


@BOTH
def test_promise_12_no_timer_is_left_after_the_end(
    engine: Engine, clock: ManualClock, is_async: bool
) -> None:
    """A run that has ended has no timer: no timeout, no deadline, no lease, no grace."""
    gate = Gate()
    script = Script(gate, is_async=is_async)
    engine.start(script, spec(limits=Limits(timeout=60.0)), deadline=50.0)
    gate.wait_reached()
    assert run_timers(clock)
    cancel(engine)
    ended(engine)
    clock.advance(1.0)  # the watch on the loop finds it idle
    clock.advance(1.0)
    left = [due for due in run_timers(clock) if due > 1.0]
    assert left == []


def test_a_deadline_reached_before_the_start(engine: Engine, clock: ManualClock) -> None:
    """A run still queued at its deadline ends CANCELLED and is never executed."""
    gates = [Gate(deaf=True) for _ in range(engine.options.workers)]
    for n, gate in enumerate(gates):
        start(engine, Script(gate), f"busy{n}")
        gate.wait_reached()
    queued = Script(say("never"))
    start_with_deadline(engine, queued, 5.0)
    clock.advance(5.0)
    run = ended(engine)
    assert run.cancellation is not None
    assert run.cancellation.cause is CancelCause.DEADLINE
    assert run.start_time == 0
    for n, gate in enumerate(gates):
        gate.open()
        ended(engine, f"busy{n}")
    assert queued.runs == 0


def test_usage_is_seen_while_the_run_goes_on(engine: Engine) -> None:
    """What a run has used so far can be read at any time, by the run itself too."""
    gate, seen = Gate(), []

    def look(ctx: RunContext) -> Any:
        seen.append(ctx.usage.input_tokens)

    start(engine, Script(use(input_tokens=3), look, use(input_tokens=4), look, gate))
    gate.wait_reached()
    assert engine.usage("r").input_tokens == 7
    assert seen == [3, 7]
    gate.open()
    ended(engine)
    assert engine.usage("r").input_tokens == 7


def test_promise_09_the_deadline_hastens_an_earlier_cancel(
    engine: Engine, clock: ManualClock
) -> None:
    """A tool that an earlier cancel gave a long grace is interrupted in time, not abandoned."""
    gate = Gate()
    start_with_deadline(engine, Script(tool("t", gate), is_async=True), 10.0)
    gate.wait_reached()
    cancel(engine, grace_period=500.0)
    clock.advance(10.0 - margin(10.0) / 2)
    run = ended(engine)
    assert not run.abandoned
    assert [c.state for c in run.tool_calls] == [ToolCallState.INTERRUPTED]
