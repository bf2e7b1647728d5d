"""What the servers of these tests serve. It is imported by their workers only."""

import pathlib
from collections.abc import Iterator

from pullcord import RunContext, RunServer, runnable
from pullcord.agent import Agent
from pullcord.models.offline import OfflineModel


@runnable
def story(ctx: RunContext) -> Iterator[str]:
    """Tells half of a story, and waits for a file of its input's name."""
    yield from ("once ", "upon ", "a ", "time ")
    with ctx.tool_call("call-1", "look_up", "{}"):
        while not pathlib.Path(ctx.input).exists():
            if ctx.cancel_token.wait(0.01):
                ctx.cancel_token.raise_if_cancelled()
    yield "the end"


@runnable
def say(ctx: RunContext) -> str:
    """Says what was said in its session, and what it is told."""
    return " ".join([*(run.output for run in ctx.history()), ctx.input])


@runnable
async def count(ctx: RunContext) -> None:
    """Counts as far as it is told."""
    for n in range(int(ctx.input)):
        ctx.write(f"{n} ")


helper = Agent(name="Helper", model=OfflineModel())


@runnable
def stops(ctx: RunContext) -> str:
    """Stops the run that its input names."""
    return str(helper.cancel_run(ctx.input, "a run asked for it"))


server = RunServer(agents=[story, say, count, helper, stops])
