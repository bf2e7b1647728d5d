"""Runs that wait for a decision while their worker dies, or is replaced."""

import os
import signal
from pathlib import Path

import pytest
from pullcord.run.cancel import CancelCause
from pullcord.run.events import RunContinued, RunPaused
from pullcord.run.record import Decision
from pullcord.run.state import RunState
from pullcord.run.usage import Limits

from tests.executors.workers.conftest import ServeApp, Served
from tests.transports.harness import until

SOURCE = """
import os
from pullcord import RunContext, RunServer, runnable
from pullcord.run.events import ToolCall
from pullcord.workflow import Parallel, Workflow

@runnable
async def asks(ctx: RunContext):
    if ctx.resumed is None:
        ctx.write(f"{os.getpid()} ")
        if ctx.input == "hands nothing over":
            await ctx.ask("Well?", [ToolCall("c", "tool")])
        else:
            await ctx.ask("Well?", [ToolCall("c", "tool")], continuation=b"first")
        ctx.write("here")
    else:
        [made] = ctx.resumed.decisions
        ctx.write(f"{os.getpid()} {ctx.resumed.continuation.decode()} {made.answer}")

@runnable
async def says(ctx: RunContext):
    ctx.write(f"{ctx.input} {os.getpid()}")

both = Workflow(id="both", steps=[says, Parallel(asks, asks), says])
server = RunServer(agents=[asks], workflows=[both])
"""
ANSWER = [Decision("c", answer="yes")]


def paused(served: Served, run_id: str = "r", input: str = "") -> RunPaused:
    """Starts a run, and returns what it asks."""
    served.client.start("agents/asks", input, run_id=run_id, limits=Limits(timeout=60))
    with served.client.watch(run_id) as stream:
        return next(e.payload for e in stream if isinstance(e.payload, RunPaused))


def went_on(served: Served, old: int) -> None:
    """The run goes on in another worker, with its log where it was."""
    assert served.client.get("r").state is RunState.PAUSED
    served.client.continue_run("r", ANSWER)
    run = served.client.wait("r")
    first, second, *words = run.output.split()
    assert (run.state, int(first), words) == (RunState.COMPLETED, old, ["first", "yes"])
    assert int(second) != old
    with served.client.watch("r") as stream:
        events = list(stream)
    assert [type(e.payload) for e in events if not hasattr(e.payload, "text")][1:3] == [
        RunPaused,
        RunContinued,
    ]
    assert [e.sequence for e in events] == list(range(1, run.last_sequence + 1))
    served.freed()


@pytest.mark.parametrize("store", ["memory", "runs.db"])
def test_a_paused_run_outlives_its_worker(serve: ServeApp, store: str) -> None:
    """A worker that dies takes nothing of it along; whatever the store, since the control process
    has the run. Only the pause of a store that lasts says that it outlives the server. One that
    handed nothing over ends with its worker."""
    served = serve(SOURCE, settings={"store": store})
    assert paused(served).survives is (store != "memory")
    paused(served, "doomed", "hands nothing over")
    old = served.worker()
    os.kill(old, signal.SIGKILL)
    doomed = served.client.wait("doomed")
    assert (doomed.state, doomed.error.type) == (RunState.FAILED, "WorkerDied")
    went_on(served, old)


def test_a_tree_outlives_its_worker(serve: ServeApp) -> None:
    """All of it waits on without code, and goes on in another worker with the first decision, where
    what still waits is decided, too."""
    served = serve(SOURCE, settings={"store": "memory"})
    served.client.start("workflows/both", "go", run_id="r")
    with served.client.watch("r") as stream:
        paused = (e.payload for e in stream if isinstance(e.payload, RunPaused))
        one, two = (next(paused).tool_calls[0].run_id for _ in range(2))
    old = served.worker()
    os.kill(old, signal.SIGKILL)
    until(lambda: old not in served.workers())
    for step in (two, one):
        served.client.continue_run(step, ANSWER)
        first, second, *words = served.client.wait(step).output.split()
        assert (int(second) != int(first), words) == (True, ["first", "yes"])
    run = served.client.wait("r")
    assert run.state is RunState.COMPLETED
    steps = [entry["state"] for entry in dict(run.output_data)["steps"]]
    assert steps == ["completed"] * 4
    with served.client.watch("r") as stream:
        events = list(stream)
    assert [e.sequence for e in events] == list(range(1, run.last_sequence + 1))
    served.freed()


def test_a_paused_run_does_not_keep_a_worker_that_is_replaced(
    serve: ServeApp, tmp_path: Path
) -> None:
    """When files have changed, the old worker leaves, and the run goes on with the new code."""
    served = serve(SOURCE)
    old = served.worker()
    paused(served)
    (tmp_path / "app.py").write_text(SOURCE)
    pool = served.server._pool
    pool.post(pool.reload)
    until(lambda: served.workers() and old not in served.workers())
    went_on(served, old)


def test_a_run_without_code_is_stopped_at_once(serve: ServeApp) -> None:
    """Its worker is dead, so nothing has to be told; and nothing of it is executed."""
    served = serve(SOURCE)
    paused(served)
    os.kill(served.worker(), signal.SIGKILL)
    until(lambda: len(served.workers()) == 1)
    served.client.cancel("r", "enough", wait=30)
    run = served.client.get("r")
    assert (run.state, run.cancellation.cause) == (RunState.CANCELLED, CancelCause.USER)
    served.freed()
