"""Code that forks its worker: the child executes that code and nothing of ours, and then ends."""

from pathlib import Path

from pullcord.executors.processes import descendants
from pullcord.run.events import RunCompleted

from tests.executors.workers.conftest import ServeApp

APP = """
import asyncio, os, sys
from pathlib import Path
from pullcord import RunContext, RunServer, runnable

def in_child(how, ctx):
    if how == "raises":
        raise ValueError("in the child")
    if how == "exits":
        sys.exit(3)
    if how == "asks":
        ctx.start(quick)

@runnable
def sync(input: str, ctx: RunContext):
    child = os.fork()
    if not child:
        in_child(input, ctx)
        return "said by the child"
    return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

@runnable(id="async")
async def on_a_loop(input: str, ctx: RunContext):
    child = os.fork()
    if not child:
        in_child(input, ctx)
        await asyncio.sleep(0)
        yield "said by the child"
    yield str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

@runnable
async def beside():
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def step():
        with open("steps", "a") as file:
            file.write("x")
        done.set()

    children = []
    loop.call_soon(lambda: children.append(os.fork()))
    loop.call_soon(step)  # in the same turn of the loop: a step of another run, say
    await done.wait()
    os.waitpid(children[0], 0)

@runnable
async def quick():
    await asyncio.sleep(0.01)
    return "done"

server = RunServer(agents=[sync, on_a_loop, beside, quick])
"""


def test_a_child_that_code_forks_ends_with_that_code(serve: ServeApp) -> None:
    """It says nothing for the run, its exit code is as in a program, and the loops of the worker
    go on."""
    served = serve(APP)

    def output(name: str, input: str = "") -> str:
        *_, end = served.client.run(f"agents/{name}", input)
        assert isinstance(end.payload, RunCompleted)
        return end.payload.output

    codes = {
        (name, how): output(name, how)
        for name in ("sync", "async")
        for how in ("returns", "raises", "exits", "asks")
    }
    assert codes == {
        ("sync", "returns"): "0",
        ("sync", "raises"): "1",
        ("sync", "exits"): "3",
        ("sync", "asks"): "1",
        ("async", "returns"): "0",
        ("async", "raises"): "0",  # a task keeps its error to itself
        ("async", "exits"): "3",
        ("async", "asks"): "0",
    }
    assert not descendants(served.worker())
    assert [output("quick") for _ in range(3)] == ["done"] * 3


def test_a_child_that_code_forks_takes_no_step_of_others(serve: ServeApp, tmp_path: Path) -> None:
    """What is due on the loop at that moment is done once, in the worker."""
    served = serve(APP)
    *_, end = served.client.run("agents/beside")
    assert isinstance(end.payload, RunCompleted)
    assert (tmp_path / "steps").read_text() == "x"
