"""One program, one story: in-process and over gRPC, blocking and async, a run tells the same."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from pullcord.client import RunClient
from pullcord.engine.options import EngineOptions
from pullcord.run.cancel import CancelMode
from pullcord.run.events import ContentDelta, Event, ReasoningDelta
from pullcord.run.runnable import full_name
from pullcord.server import RunServer
from pullcord.settings import Settings

from tests.tree.moments import at_event
from tests.tree.programs import PROGRAMS, effects

NATIVE = {name: program for name, program in PROGRAMS.items() if hasattr(program, "run")}

Story = dict[tuple[str, ...], list[tuple[str, str]]]
"""What each voice said, in order: by path, the kinds of its events, with texts joined."""

_KINDS = {
    "ToolCallStarted": "ToolCallStarted",
    "ToolCallCompleted": "ToolCallCompleted",
    "StepStarted": "StepStarted",
    "StepCompleted": "StepCompleted",
    "UsageUpdated": "UsageUpdated",
    "CancelRequested": "CancelRequested",
    "Content": "ContentDelta",
    "Started": "RunStarted",
    "Completed": "RunCompleted",
    "Cancelled": "RunCancelled",
    "Error": "RunFailed",
}
"""By the ends of the names that in-process programs read, the longer ones first."""


def story(told: Iterable[tuple[tuple[str, ...], str, str]]) -> Story:
    made: Story = {}
    for path, kind, text in told:
        said = made.setdefault(path, [])
        if kind == "ContentDelta" and said and said[-1][0] == kind:
            said[-1] = (kind, said[-1][1] + text)
        else:
            said.append((kind, text))
    return made


def of_events(events: Iterable[Event]) -> Story:
    return story(
        (
            e.source.path if e.source else (),
            type(e.payload).__name__,
            e.payload.text if isinstance(e.payload, ContentDelta | ReasoningDelta) else "",
        )
        for e in events
    )


def of_chunks(chunks: Iterable[Any]) -> Story:
    return story(
        (
            chunk.source.path if chunk.source else (),
            kind := next(kind for end, kind in _KINDS.items() if str(chunk.event).endswith(end)),
            chunk.content if kind == "ContentDelta" else "",
        )
        for chunk in chunks
    )


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    kinds: dict[str, list[Any]] = {"agents": [], "teams": [], "workflows": []}
    for program in PROGRAMS.values():
        kinds[f"{program.kind.value}s"].append(program)
    with RunServer(**kinds, settings=Settings(_env_file=None, engine=EngineOptions())) as address:
        yield address


@pytest.fixture(autouse=True)
def fresh() -> None:
    effects.clear()


@pytest.mark.parametrize("name", NATIVE)
async def test_every_road_tells_the_same(address: str, name: str) -> None:
    """Each voice in a run says the same in the same order, whoever follows it and how."""
    program = NATIVE[name]
    sync = of_chunks(await asyncio.to_thread(lambda: list(program.run("go", stream=True))))
    effects.clear()
    of_async = of_chunks([chunk async for chunk in program.arun("go", stream=True)])
    effects.clear()
    served = of_events(await asyncio.to_thread(lambda: _served(address, name, f"same-{name}")))
    assert sync == of_async == served


@pytest.mark.parametrize(("name", "number"), [("agent", 3), ("team", 2)])
async def test_a_cancel_is_the_same_story_too(address: str, name: str, number: int) -> None:
    """A run that is stopped at the same event tells the same on every road."""
    program, run_id = NATIVE[name], f"stopped-{name}"
    with at_event(number, lambda: program.cancel_run(run_id, mode=CancelMode.IMMEDIATE)):
        local = of_chunks(
            await asyncio.to_thread(lambda: list(program.run("go", stream=True, run_id=run_id)))
        )
    effects.clear()

    def cancel() -> None:
        with RunClient(address) as client:
            client.cancel(run_id, mode=CancelMode.IMMEDIATE)

    with at_event(number, cancel):
        served = of_events(await asyncio.to_thread(lambda: _served(address, name, run_id)))
    assert local == served
    assert local[()][-1] == ("RunCancelled", "")


def _served(address: str, name: str, run_id: str) -> list[Event]:
    with RunClient(address) as client:
        return list(client.run(full_name(PROGRAMS[name]), "go", run_id=run_id))
