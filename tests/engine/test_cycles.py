"""Ended runs are freed at once, and not when somebody looks for garbage."""

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pullcord import RunContext, runnable
from pullcord.engine.clock import ThreadClock
from pullcord.engine.engine import Engine
from pullcord.engine.live.live import LiveRun
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import RunStore
from pullcord.run.events import ContentDelta
from pullcord.run.record import RunSpec
from pullcord.stores.sqlite import SqliteStore
from pullcord.testing import make_engine

from tests.engine.driving import IMMEDIATE, cancel, ended, events
from tests.transports.harness import until


@runnable(id="thread")
def thread(input: str) -> Iterator[str]:
    yield "said"


@runnable(id="task")
async def task(ctx: RunContext) -> Any:
    yield "said"


@runnable(id="fails")
def fails(input: str) -> Iterator[str]:
    yield "said"
    raise LookupError(input)


@runnable(id="fails-too")
async def fails_too(ctx: RunContext) -> Any:
    yield "said"
    raise LookupError


@runnable(id="parent")
async def parent(ctx: RunContext) -> Any:
    yield "said"
    await ctx.start(thread, "").wait()
    await ctx.start(fails_too, "").wait()
    with ctx.tool_call("call-1", "publish"):
        await ctx.in_thread(len, "")


@runnable(id="waits-too")
def waits_too(ctx: RunContext) -> Iterator[str]:
    yield "said"
    ctx.cancel_token.wait(600)


@runnable(id="waits")
async def waits(ctx: RunContext) -> Any:
    yield "said"
    await asyncio.sleep(600)


@pytest.fixture(params=["memory", "sqlite"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    clock = ThreadClock()

    def on_disk(memory: RunStore) -> RunStore:
        return SqliteStore(clock, EngineOptions(), tmp_path / "runs.db")

    engine = make_engine(clock, store=on_disk if request.param == "sqlite" else lambda kept: kept)
    gc.collect()
    gc.disable()
    yield engine
    gc.enable()
    engine.close()


def live_runs() -> set[int]:
    """Those there are, unheld: a run of the test before may still be on its way out."""
    return {id(found) for found in gc.get_objects() if type(found) is LiveRun}


@pytest.mark.parametrize("code", [thread, task, fails, fails_too, parent], ids=lambda c: c.id)
@pytest.mark.parametrize("session", ["", "s"])
def test_an_ended_run_is_no_garbage(engine: Engine, code: Any, session: str) -> None:
    """Whatever executed it, and whoever watched it, with its children."""
    before = live_runs()
    engine.start(code, RunSpec(f"agents/{code.id}", run_id="r", session_id=session))
    ended(engine)
    until(lambda: not live_runs() - before)
    assert events(engine)[-1].is_terminal


@pytest.mark.parametrize("code", [waits, waits_too], ids=lambda c: c.id)
def test_a_stopped_run_is_no_garbage(engine: Engine, code: Any) -> None:
    """Nor its timers, nor what interrupted its code; one that waited behind it neither."""
    before = live_runs()
    for run_id in ("r", "next"):
        engine.start(code, RunSpec(f"agents/{code.id}", run_id=run_id, session_id="s"))
    next(e for e in engine.watch("r", 0) if isinstance(e.payload, ContentDelta))
    for run_id in ("next", "r"):
        cancel(engine, run_id, mode=IMMEDIATE)
        ended(engine, run_id)
    until(lambda: not live_runs() - before)
