"""The checks of `pullcord check`: whether runnables can be called, and whether they stop in time.

Agents and teams of ours are run with a model that tells a story, so that nobody's money is spent
and no tool is called; whatever else there is runs only if the author says so, because its code may
do anything. Nothing is printed here.
"""

import asyncio
import contextlib
import copy
import inspect
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pullcord.adapters.function import FunctionRunnable
from pullcord.agent import Agent
from pullcord.engine.engine import Engine
from pullcord.models.offline import OfflineModel
from pullcord.native.tools import Tool
from pullcord.run.cancel import CancelCause, Cancellation, CancelRequest
from pullcord.run.context import RunContext
from pullcord.run.record import DisconnectPolicy, Run, RunSpec
from pullcord.run.runnable import Runnable, full_name
from pullcord.run.state import RunState
from pullcord.team import Team

_WAIT = 30.0
"""Seconds that a run may take to begin, and again to end."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    runnable: str
    words: str
    kind: Literal["good", "note", "wrong"] = "good"
    """`wrong` must be mended; a `note` is only worth knowing."""


def check(
    engine: Engine, runnables: Iterable[Runnable], input: str | None, after: float
) -> Iterator[Finding]:
    """Looks at each runnable. `input`: also run what is not ours with it, and stop it.

    A run is stopped `after` seconds, if it has not ended by then.
    """
    for runnable in runnables:
        name = full_name(runnable)
        yield from _types(name, runnable)
        scripted = _scripted(runnable)
        if scripted is None and input is None:
            yield Finding(name, 'was not run; --call "an input" runs it, and stops it', kind="note")
        else:
            target = runnable if input is not None and scripted is None else scripted
            assert target is not None
            yield _stops(engine, name, target, input or "a short try", after)


def _types(name: str, runnable: Runnable) -> Iterator[Finding]:
    """Notes on tools without a description, and on code that cannot see a stop."""
    tools = [*runnable.tools.values()] if isinstance(runnable, Agent | Team) else []
    for tool in tools:
        yield from _tool(name, tool)
    if isinstance(runnable, FunctionRunnable) and not runnable.is_async:
        function = runnable.function
        sees = inspect.isgeneratorfunction(function) or "ctx" in _parameters(function)
        if not sees:
            yield Finding(
                name,
                "sees no stop before it returns: let it yield, or take ctx: RunContext and look at "
                "ctx.cancel_token",
                kind="note",
            )


def _tool(name: str, tool: Tool) -> Iterator[Finding]:
    if not tool.definition.description:
        yield Finding(
            name,
            f"tool {tool.definition.name}: has no docstring, so that the model is "
            "told nothing of it",
            kind="wrong",
        )
    for parameter, schema in tool.definition.parameters.get("properties", {}).items():
        if not set(schema) - {"title", "description", "default"}:
            yield Finding(
                name,
                f"tool {tool.definition.name}: parameter {parameter!r} has no type",
                kind="wrong",
            )


def _parameters(function: Any) -> set[str]:
    found = inspect.signature(function).parameters
    return {"ctx" if p.annotation in (RunContext, "RunContext") else p.name for p in found.values()}


def _scripted(runnable: Runnable) -> Runnable | None:
    """A copy with a scripted model; None if some of its code is not ours."""
    made: Any
    if isinstance(runnable, Team):
        members = {id: _scripted(member) for id, member in runnable._members.items()}
        made = copy.copy(runnable)
        made.model = OfflineModel(hands_to=[id for id, member in members.items() if member])
        made._members = {id: member or runnable._members[id] for id, member in members.items()}
        made.tools = {
            **runnable.tools,
            **{tool.definition.name: tool for tool in [made._delegation()]},
        }
    elif isinstance(runnable, Agent):
        made = copy.copy(runnable)
        made.model = OfflineModel()
    else:
        return None
    made.output_schema = None
    scripted: Runnable = made
    return scripted


def _stops(engine: Engine, name: str, runnable: Runnable, input: str, after: float) -> Finding:
    run_id = f"check-{uuid.uuid4()}"
    policy = DisconnectPolicy.CONTINUE
    returned = threading.Event()
    if isinstance(runnable, FunctionRunnable):
        runnable = _noting(runnable, returned)
    engine.start(runnable, RunSpec(name, input, run_id=run_id, on_disconnect=policy))
    run = _until(engine, run_id, after)
    asked = time.monotonic()
    if not run.state.is_terminal:
        cancellation = Cancellation(CancelCause.USER, reason="pullcord check")
        engine.cancel(run_id, CancelRequest(cancellation))
        run = _until(engine, run_id, _WAIT)
    took = time.monotonic() - asked
    if not run.state.is_terminal or run.abandoned:
        words = f"does not stop: {took:.1f} s after a cancel its code was still at work"
        return Finding(name, words, kind="wrong")
    if run.state is RunState.FAILED and run.error is not None:
        return Finding(name, f"failed: {run.error.type}: {run.error.message}", kind="wrong")
    if run.state is RunState.CANCELLED and not returned.is_set():
        return Finding(name, f"stops {took * 1000:.0f} ms after a cancel")
    when = f"{took:.1f} s after a cancel" if run.state is RunState.CANCELLED else "before a cancel"
    words = "so that nothing was learned of its stop; try an input that takes longer"
    return Finding(name, f"ended by itself, {when}, {words}, or a shorter --after", kind="note")


def _noting(runnable: FunctionRunnable, returned: threading.Event) -> FunctionRunnable:
    """A copy that notes if its function has come to its end without having seen a stop.

    One that is given the context may have looked at the stop, and is not noted.
    """
    noting, function = copy.copy(runnable), runnable.function
    if "ctx" in _parameters(function):
        return noting

    def end() -> None:
        task = asyncio.current_task() if runnable.is_async else None
        if task is None or not task.cancelling():
            returned.set()

    def sync(**given: Any) -> Any:
        made = function(**given)
        if isinstance(made, Iterator):
            return pieces(made)
        end()
        return made

    def pieces(made: Iterator[Any]) -> Iterator[Any]:
        yield from made
        end()

    async def awaited(**given: Any) -> Any:
        made = await function(**given)
        end()
        return made

    async def awaited_pieces(**given: Any) -> AsyncIterator[Any]:
        async with contextlib.aclosing(function(**given)) as made:
            async for item in made:
                yield item
        end()

    if not runnable.is_async:
        noting.function = sync
    else:
        noting.function = awaited_pieces if inspect.isasyncgenfunction(function) else awaited
    return noting


def _until(engine: Engine, run_id: str, seconds: float) -> Run:
    """The run once it has ended, or as it is after so long."""
    ended = threading.Event()
    forget = engine.on_end(run_id, ended.set)
    ended.wait(seconds)
    forget()
    return engine.get(run_id)
