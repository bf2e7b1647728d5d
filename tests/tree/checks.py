"""What must be so of every run that was stopped, whatever it was and wherever it was stopped."""

from collections.abc import Iterable
from typing import Any

from pullcord.engine.engine import Engine
from pullcord.run.cancel import CancelCause
from pullcord.run.events import (
    TERMINAL_PAYLOADS,
    CancelRequested,
    ContentDelta,
    Event,
    RunStarted,
    SourceKind,
    StepCompleted,
    StepStarted,
    ToolCallCompleted,
    ToolCallStarted,
    ToolCallState,
)
from pullcord.run.record import Run, RunFilter
from pullcord.run.state import RunState

BEGINS = (RunStarted, StepStarted, ToolCallStarted)


def speaker(event: Event) -> str:
    """The id of the run that made an event."""
    return event.source.run_id if event.source is not None else event.run_id


def beneath(engine: Engine, run_id: str) -> list[Run]:
    """All runs beneath one, at any depth."""
    found: list[Run] = []
    for run in engine.list_page(RunFilter(parent_run_id=run_id), 1000).runs:
        found += [run, *beneath(engine, run.run_id)]
    return [engine.get(run.run_id) for run in found]


def ends_once(events: list[Event]) -> None:
    """One terminal event, and it is the last; sequences rise by one."""
    own = [event.is_terminal and event.source is None for event in events]
    assert own == [False] * (len(events) - 1) + [True]
    numbers = [(e.sequence, getattr(e.payload, "count", 1)) for e in events]
    assert [last for last, _ in numbers] == [
        sum(count for _, count in numbers[: n + 1]) for n in range(len(numbers))
    ]


def nothing_begins_after_the_cancel(events: list[Event]) -> None:
    """After the run's own cancel_requested no run, step or tool call begins anywhere."""
    stop = [
        n
        for n, e in enumerate(events)
        if isinstance(e.payload, CancelRequested) and e.source is None
    ]
    late = [e for e in events[stop[0] :] if isinstance(e.payload, BEGINS)]
    assert not late


def what_begins_ends(events: list[Event]) -> None:
    """Each run beneath, step and tool call that began has ended, once, after it began."""
    for begin, end, key in (
        (RunStarted, TERMINAL_PAYLOADS, speaker),
        (StepStarted, StepCompleted, _step_key),
        (ToolCallStarted, ToolCallCompleted, _call_key),
    ):
        open_ones: list[Any] = []
        for event in events:
            if isinstance(event.payload, begin):
                open_ones.append(key(event))
            elif isinstance(event.payload, end):
                open_ones.remove(key(event))
        assert not open_ones


def _step_key(event: Event) -> Any:
    assert event.source is not None
    assert event.source.kind is SourceKind.STEP
    return event.source.path


def _call_key(event: Event) -> Any:
    return speaker(event), event.payload.tool_call.tool_call_id


def everything_made_is_kept(engine: Engine, run: Run, events: list[Event]) -> None:
    """What was said, done and finished is in the results of the run and of all runs beneath."""
    runs = {r.run_id: r for r in [run, *beneath(engine, run.run_id)]}
    for run_id, each in runs.items():
        assert each.state.is_terminal
        said = "".join(
            e.payload.text
            for e in events
            if isinstance(e.payload, ContentDelta) and speaker(e) == run_id
        )
        if said:
            assert each.output == said
        if each.state is RunState.CANCELLED and each is not run:
            assert each.cancellation is not None
            assert each.cancellation.cause is CancelCause.PARENT
    assert set(runs) == {speaker(e) for e in events if isinstance(e.payload, RunStarted)}
    _calls_are_listed(run, events)
    _results_hold(run.output_data, runs)


def _calls_are_listed(run: Run, events: list[Event]) -> None:
    """The ledger of the whole tree is what the events say."""
    told: dict[Any, ToolCallState] = {}
    for event in events:
        if isinstance(event.payload, ToolCallStarted | ToolCallCompleted):
            told[_call_key(event)] = event.payload.tool_call.state
    assert ToolCallState.RUNNING not in told.values()
    assert {(c.run_id or run.run_id, c.tool_call_id): c.state for c in run.tool_calls} == told


def _results_hold(data: Any, runs: dict[str, Run]) -> None:
    """Every step and member has the state and the output of its run, all the way down."""
    for entry in [*(data or {}).get("steps", ()), *(data or {}).get("members", ())]:
        if "run_id" not in entry:
            assert entry["state"] in ("not_started", "failed")
            continue
        run = runs[entry["run_id"]]
        assert (entry["state"], entry["output"]) == (run.state.value, run.output)
        assert "truncated" not in entry
        assert entry.get("output_data") == run.output_data
        _results_hold(entry.get("output_data"), runs)


def usage_adds_up(engine: Engine, run: Run) -> None:
    """A run's tokens and tool calls are its own and those of all beneath."""
    for each in [run, *beneath(engine, run.run_id)]:
        children = engine.list_page(RunFilter(parent_run_id=each.run_id), 1000).runs
        for what in ("total_tokens", "tool_calls"):
            assert getattr(each.usage, what) >= sum(getattr(c.usage, what) for c in children)
        if each.runnable.startswith("workflows/"):  # it has none of its own
            assert each.usage.total_tokens == sum(c.usage.total_tokens for c in children)


def effects_were_announced(events: Iterable[Event], effects: dict[str, int]) -> None:
    """Nothing was done to the world without an event that said that it began."""
    begun: dict[str, int] = {}
    for event in events:
        name = ""
        if isinstance(event.payload, ToolCallStarted):
            name = event.payload.tool_call.tool_name
        elif isinstance(event.payload, RunStarted):
            name = event.payload.runnable.partition("/")[2]
        begun[name] = begun.get(name, 0) + 1
    assert all(begun.get(name, 0) >= count for name, count in effects.items())
