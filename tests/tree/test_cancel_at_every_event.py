"""The cord is pulled at every single event of agents, teams and workflows, one test a position."""

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest
from pullcord.engine.options import EngineOptions
from pullcord.local import local_engine
from pullcord.run.cancel import CancelMode
from pullcord.run.events import Event
from pullcord.run.state import RunState
from pullcord.server import RunServer
from pullcord.settings import Settings
from pullcord.testing import nothing_left

from tests.transports.harness import until
from tests.tree import checks
from tests.tree.moments import at_event
from tests.tree.programs import PROGRAMS, effects
from tests.tree.roads import Road, in_process, replay, served

NATIVE = {name: program for name, program in PROGRAMS.items() if hasattr(program, "run")}
FACES = {
    "run": {"stream": False, "is_async": False},
    "run-stream": {"stream": True, "is_async": False},
    "arun": {"stream": False, "is_async": True},
    "arun-stream": {"stream": True, "is_async": True},
}
ROADS = [f"{how}-{face}" for how in ("local", "grpc") for face in FACES]
COUNTS = {"function": 4, "agent": 12, "team": 31, "workflow": 65, "nested": 114}
"""Events of a run that nobody stops."""


def positions() -> Iterator[Any]:
    """Each position of each program in both modes, the roads taking turns."""
    for mode in CancelMode:
        roads = cycle(ROADS)
        for name, count in COUNTS.items():
            for number in range(1, count + 1):
                road = next(roads)
                while name not in NATIVE and road.startswith("local"):
                    road = next(roads)
                yield pytest.param(name, number, mode, road, id=f"{name}-{number}-{mode}-{road}")


@pytest.fixture(scope="module")
def roads() -> Iterator[dict[str, Road]]:
    kinds: dict[str, list[Any]] = {"agents": [], "teams": [], "workflows": []}
    for program in PROGRAMS.values():
        kinds[f"{program.kind.value}s"].append(program)
    settings = Settings(_env_file=None, engine=EngineOptions())
    server = RunServer(**kinds, settings=settings)
    with server as address:
        made = {f"local-{face}": in_process(NATIVE, **how) for face, how in FACES.items()}
        for face, how in FACES.items():
            made[f"grpc-{face}"] = served(address, server.engine, PROGRAMS, **how)
        yield made


@pytest.mark.parametrize("name", COUNTS)
def test_a_program_makes_the_same_events_each_time(roads: dict[str, Road], name: str) -> None:
    """A program that nobody stops completes, after as many events each time, on every road."""
    for how, road in roads.items():
        if name not in NATIVE and how.startswith("local"):
            continue
        effects.clear()
        with at_event(0, lambda: None) as moment:
            road.follow(name, f"{name}-whole-{how}")
        run = road.engine().get(f"{name}-whole-{how}")
        assert (moment.count, run.state) == (COUNTS[name], RunState.COMPLETED)
        holds(road, run.run_id, stopped=False)


@pytest.mark.parametrize(("name", "number", "mode", "how"), list(positions()))
def test_a_cancel_at_any_event_stops_everything_and_loses_nothing(
    roads: dict[str, Road], name: str, number: int, mode: CancelMode, how: str
) -> None:
    """Whatever the last event was, a cancel ends the run once, and what was made stays."""
    road = roads[how]
    run_id = f"{name}-{number}-{mode}-{how}"
    effects.clear()
    with nothing_left(), at_event(number, lambda: road.cancel(run_id, mode)) as moment:
        told = road.follow(name, run_id)
    run = road.engine().get(run_id)
    stopped = moment.answer or run.state is RunState.CANCELLED
    assert (run.state is RunState.CANCELLED) == bool(stopped)
    if 1 < number < COUNTS[name] or how.startswith("local"):
        assert stopped or number == COUNTS[name]
    events = holds(road, run_id, stopped=bool(stopped))
    if told is not None:
        assert texts(told) == texts(events)
    assert road.engine().wait_idle(30)
    until(lambda: road.engine().occupied == 0)  # a worker may just be letting go of a queued step


def holds(road: Road, run_id: str, *, stopped: bool) -> list[Event]:
    """Asserts what must be so of every run; its events."""
    engine = road.engine()
    run, events = engine.get(run_id), replay(engine, run_id)
    checks.ends_once(events)
    if stopped:
        checks.nothing_begins_after_the_cancel(events)
    checks.what_begins_ends(events)
    checks.everything_made_is_kept(engine, run, events)
    checks.usage_adds_up(engine, run)
    checks.effects_were_announced(events, effects)
    return events


def texts(events: list[Event]) -> dict[str, str]:
    """What each run said."""
    said: dict[str, str] = {}
    for event in events:
        text = getattr(event.payload, "text", "")
        said[checks.speaker(event)] = said.get(checks.speaker(event), "") + text
    return said


def test_the_local_engine_is_left_empty() -> None:
    """After all these cancels nothing is live in the process."""
    assert local_engine().wait_idle(30)
    until(lambda: local_engine().occupied == 0)
