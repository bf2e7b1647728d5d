"""The ways to run a program: in-process and over gRPC, blocking and async, streamed and not.

Each road starts a run of a given id, follows it to its end as its users do, and returns nothing;
what the run was is then read from its engine, whole.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pullcord.client import AsyncRunClient, RunClient
from pullcord.engine.engine import Engine
from pullcord.local import local_engine
from pullcord.run.cancel import CancelMode, CancelOutcome
from pullcord.run.events import Event
from pullcord.run.runnable import full_name


@dataclass(frozen=True)
class Road:
    """One way."""

    follow: Callable[[str, str], list[Event] | None]
    """(program, run_id) → the events that were streamed; None where none were."""
    cancel: Callable[[str, CancelMode], bool]
    """(run_id, mode) → whether the run was stopped by it."""
    engine: Callable[[], Engine]


def replay(engine: Engine, run_id: str) -> list[Event]:
    """All events of an ended run, as a late watcher gets them."""
    return list(engine.watch(run_id))


def in_process(programs: dict[str, Any], *, stream: bool, is_async: bool) -> Road:
    def follow(name: str, run_id: str) -> None:
        program = programs[name]
        if is_async:
            asyncio.run(_afollow(program, run_id, stream))
        elif stream:
            chunks = list(program.run("go", stream=True, run_id=run_id))
            assert chunks[0].run_id == chunks[-1].run_id == run_id
        else:
            assert program.run("go", run_id=run_id).run_id == run_id

    def cancel(run_id: str, mode: CancelMode) -> bool:
        return bool(next(iter(programs.values())).cancel_run(run_id, "enough", mode=mode))

    return Road(follow, cancel, local_engine)


async def _afollow(program: Any, run_id: str, stream: bool) -> None:
    if stream:
        chunks = [chunk async for chunk in program.arun("go", stream=True, run_id=run_id)]
        assert chunks[0].run_id == chunks[-1].run_id == run_id
    else:
        assert (await program.arun("go", run_id=run_id)).run_id == run_id
    # The loop closes generators that are left to it in tasks of one step.
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


def served(
    address: str, engine: Engine, programs: dict[str, Any], *, stream: bool, is_async: bool
) -> Road:
    def follow(name: str, run_id: str) -> list[Event] | None:
        runnable = full_name(programs[name])
        if is_async:
            return asyncio.run(_afollow_served(address, runnable, run_id, stream))
        with RunClient(address) as client:
            if stream:
                return list(client.run(runnable, "go", run_id=run_id))
            client.start(runnable, "go", run_id=run_id)
            client.wait(run_id, 30)
            return None

    def cancel(run_id: str, mode: CancelMode) -> bool:
        with RunClient(address) as client:
            receipt = client.cancel(run_id, "enough", mode=mode, before_start=True)
        return receipt.outcome is not CancelOutcome.ALREADY_FINISHED

    return Road(follow, cancel, lambda: engine)


async def _afollow_served(
    address: str, runnable: str, run_id: str, stream: bool
) -> list[Event] | None:
    async with AsyncRunClient(address) as client:
        if stream:
            return [event async for event in client.run(runnable, "go", run_id=run_id)]
        await client.start(runnable, "go", run_id=run_id)
        await client.wait(run_id, 30)
        return None
