"""The checks of `pullcord check`: whether runnables can be called, and whether they stop in time.

Agents and teams of ours are run with a model that tells a story, so that nobody's money is spent
and no tool is called; whatever else there is runs only if the author says so, because its code may
do anything. Nothing is printed here.
"""

import copy
import inspect
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
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
    engine.start(runnable, RunSpec(name, input, run_id=run_id, on_disconnect=policy))
    run = _until(engine, run_id, after)
    if run.state.is_terminal:
        return _ended(name, run, f"ended by itself within {after:g} s")
    asked = time.monotonic()
    engine.cancel(run_id, CancelRequest(Cancellation(CancelCause.USER, reason="pullcord check")))
    run = _until(engine, run_id, _WAIT)
    took = time.monotonic() - asked
    if not run.state.is_terminal or run.abandoned:
        words = f"does not stop: {took:.1f} s after a cancel its code was still at work"
        return Finding(name, words, kind="wrong")
    return _ended(name, run, f"stops {took * 1000:.0f} ms after a cancel")


def _ended(name: str, run: Run, words: str) -> Finding:
    if run.state is RunState.FAILED and run.error is not None:
        return Finding(name, f"failed: {run.error.type}: {run.error.message}", kind="wrong")
    return Finding(name, words)


def _until(engine: Engine, run_id: str, seconds: float) -> Run:
    """The run once it has ended, or as it is after so long."""
    ended = threading.Event()
    forget = engine.on_end(run_id, ended.set)
    ended.wait(seconds)
    forget()
    return engine.get(run_id)
