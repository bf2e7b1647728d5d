"""Runs that wait for a decision while others wait for their worker, which has room for one."""

import os
from pathlib import Path

import pytest
from pullcord.run.events import RunPaused
from pullcord.run.record import Decision
from pullcord.run.state import RunState

from tests.executors.workers.conftest import ServeApp, Served
from tests.transports.harness import until

APP = """
import asyncio, os, pathlib
from pullcord import Resources, RunContext, RunServer, runnable
from pullcord.run.events import ToolCall
from pullcord.workflow import Workflow

ROOM = Resources(cpu=0.5)

@runnable(resources=ROOM)
async def asks(ctx: RunContext):
    if ctx.resumed is None:
        while not pathlib.Path("may-ask").exists():
            await asyncio.sleep(0.01)
        kept = b"so far" if ctx.input == "hands over" else None
        [made] = await ctx.ask("Well?", [ToolCall("c", "tool")], continuation=kept)
        ctx.write(f"here {made.answer}")
    else:
        [made] = ctx.resumed.decisions
        ctx.write(f"{os.getpid()} {ctx.resumed.continuation.decode()} {made.answer}")

@runnable(resources=ROOM)
def quick():
    return str(os.getpid())

flow = Workflow(id="flow", steps=[asks])
server = RunServer(agents=[asks, quick], workflows=[flow])
"""
ANSWER = [Decision("c", answer="yes")]


@pytest.fixture
def served(serve: ServeApp) -> Served:
    """Its workers have room for one such run."""
    return serve(APP, settings={"max_pool_workers": 1, "store": "memory"})


def until_it_asks(served: Served, run_id: str) -> str:
    """The run that asks, which may be a child."""
    with served.client.watch(run_id) as stream:
        pause = next(e for e in stream if isinstance(e.payload, RunPaused))
    return pause.payload.tool_calls[0].run_id or run_id


@pytest.mark.parametrize("runnable", ["agents/asks", "workflows/flow"])
def test_a_run_that_waits_gives_its_worker_to_one_that_needs_it(
    served: Served, runnable: str
) -> None:
    """Whichever of them came first; it goes on in a worker that is free once somebody decides."""
    waits = served.client.start(runnable, "hands over").run_id
    early = served.client.start("agents/quick").run_id
    until(lambda: served.client.get(waits).state is RunState.RUNNING)
    assert served.client.get(early).state is RunState.PENDING
    Path("may-ask").touch()
    asking = until_it_asks(served, waits)
    pid = served.client.wait(early, 60).output
    late = served.client.start("agents/quick").run_id
    assert served.client.wait(late, 60).output == pid
    assert served.client.get(asking).state is RunState.PAUSED
    served.client.continue_run(asking, ANSWER)
    assert served.client.wait(asking, 60).output == f"{pid} so far yes"
    assert served.client.wait(waits, 60).state is RunState.COMPLETED
    served.freed()


def test_a_run_that_hands_nothing_over_keeps_its_worker(served: Served) -> None:
    """Its code is needed to go on."""
    Path("may-ask").touch()
    waits = served.client.start("agents/asks").run_id
    until_it_asks(served, waits)
    needs = served.client.start("agents/quick").run_id
    served.client.continue_run(waits, ANSWER)
    assert served.client.wait(waits, 60).output == "here yes"
    assert int(served.client.wait(needs, 60).output) != os.getpid()


def test_a_run_that_nobody_hurries_keeps_its_worker(served: Served) -> None:
    """So a quick answer costs no second start."""
    Path("may-ask").touch()
    waits = served.client.start("agents/asks", "hands over").run_id
    until_it_asks(served, waits)
    served.client.continue_run(waits, ANSWER)
    assert served.client.wait(waits, 60).output == "here yes"
