"""The cord is pulled as a client sees each event of programs whose code is in a worker process.

The engine is here, so its logs and records can be checked whole. The code is not, so that nothing
holds it at an event: it may be further than what the client has seen.
"""

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest
from pullcord.client import RunClient
from pullcord.control import ControlServer
from pullcord.engine.engine import Engine
from pullcord.engine.options import EngineOptions
from pullcord.run.cancel import CancelMode
from pullcord.run.events import Event
from pullcord.run.runnable import full_name
from pullcord.run.state import RunState
from pullcord.settings import Settings

from tests.transports.harness import until
from tests.tree import checks
from tests.tree.programs import PROGRAMS
from tests.tree.roads import replay

SEEN = {"function": 4, "agent": 12, "team": 31, "workflow": 65, "nested": 114}
"""Events of a run that nobody stops; the client may get some of them merged."""


def positions() -> Iterator[Any]:
    """Each position of each program, the modes taking turns."""
    modes = cycle(CancelMode)
    for name, count in SEEN.items():
        for number in range(1, count):
            yield name, number, next(modes)


class Served:
    """One server with one worker, for all tests of this module."""

    def __init__(self, server: ControlServer, client: RunClient) -> None:
        self.engine: Engine = server.engine
        self.client = client

    def effects(self) -> dict[str, int]:
        """What was done to the world in the worker since this was asked last."""
        run = self.client.wait(self.client.start("agents/effects", "").run_id, 30)
        data = run.output_data
        assert isinstance(data, dict)
        return {name: int(count) for name, count in data.items()}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    settings = Settings(_env_file=None, engine=EngineOptions())
    server = ControlServer("tests.tree.app:server", settings)
    with server as address, RunClient(address) as client:
        yield Served(server, client)


def test_a_program_makes_the_events_that_it_makes_in_process(served: Served) -> None:
    """A worker's programs make as many events as the same programs in the server's own process."""
    for name, count in SEEN.items():
        served.effects()
        run_id = f"{name}-whole"
        list(served.client.run(full_name(PROGRAMS[name]), "go", run_id=run_id))
        events = holds(served, run_id, stopped=False)
        assert sum(getattr(event.payload, "count", 1) for event in events) == count


@pytest.mark.parametrize(("name", "number", "mode"), list(positions()))
def test_a_cancel_stops_everything_and_loses_nothing(
    served: Served, name: str, number: int, mode: CancelMode
) -> None:
    """Whatever the client saw last, a cancel ends the run once, and what was made stays."""
    run_id = f"{name}-{number}-{mode}"
    served.effects()
    seen: list[Event] = []
    for event in served.client.run(full_name(PROGRAMS[name]), "go", run_id=run_id):
        seen.append(event)
        if len(seen) == number:
            served.client.cancel(run_id, "enough", mode=mode)
    run = served.engine.get(run_id)
    assert run.state in (RunState.CANCELLED, RunState.COMPLETED)
    events = holds(served, run_id, stopped=run.state is RunState.CANCELLED)
    assert texts(seen) == texts(events)
    until(lambda: served.engine.occupied == 0)


def holds(served: Served, run_id: str, *, stopped: bool) -> list[Event]:
    """Asserts what must be so of every run; its events."""
    run, events = served.engine.get(run_id), replay(served.engine, run_id)
    checks.ends_once(events)
    if stopped:
        checks.nothing_begins_after_the_cancel(events)
    checks.what_begins_ends(events)
    checks.everything_made_is_kept(served.engine, run, events)
    checks.usage_adds_up(served.engine, run)
    checks.effects_were_announced(events, served.effects())
    return events


def texts(events: list[Event]) -> dict[str, str]:
    """What each run said."""
    said: dict[str, str] = {}
    for event in events:
        text = getattr(event.payload, "text", "")
        said[checks.speaker(event)] = said.get(checks.speaker(event), "") + text
    return said
