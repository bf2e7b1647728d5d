"""What the server of the chaos of workers elsewhere serves: runs of several kinds.

Each notes in the file that `BEGUN` names that it has begun, and `tells` when it was last at work.
"""

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator

from pullcord import Resources, RunContext, RunServer, runnable
from pullcord.run.events import ToolCall
from pullcord.workflow import Parallel, Workflow

BEGUN = "CHAOS_BEGUN"


def note(*words: object) -> None:
    """Adds a line to the file, in one piece."""
    line = os.open(os.environ[BEGUN], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(line, f"{' '.join(map(str, words))}\n".encode())
    os.close(line)


async def _words(ctx: RunContext) -> AsyncIterator[str]:
    note("began", ctx.run_id)
    for n in range(int(ctx.input.split()[0])):
        note("at", ctx.run_id, time.time(), os.getpid())
        yield f"{n} "
        await asyncio.sleep(0.02)


@runnable
async def tells(ctx: RunContext) -> AsyncIterator[str]:
    """Says so many words, fifty a second."""
    async for word in _words(ctx):
        yield word


@runnable(isolation="process")
async def alone(ctx: RunContext) -> AsyncIterator[str]:
    """Likewise, in a process for itself."""
    async for word in _words(ctx):
        yield word


ROOM = Resources(cpu=0.5)
"""Its workers have one run at a time: one that is paused gives its worker to another."""


@runnable(resources=ROOM)
async def heavy(ctx: RunContext) -> AsyncIterator[str]:
    """Likewise, in a worker of those that `asks` needs, too."""
    async for word in _words(ctx):
        yield word


@runnable
def floods(ctx: RunContext) -> Iterator[str]:
    """Says more at once than a link takes."""
    note("began", ctx.run_id)
    for n in range(28):
        yield f"{n:04d}" * 16384


@runnable
def waits(ctx: RunContext) -> Iterator[str]:
    """Waits in a tool for a command that it has started, until it is stopped."""
    note("began", ctx.run_id)
    yield "it begins"
    with subprocess.Popen(["sleep", "600"]) as command, ctx.tool_call("c", "wait"):
        try:
            while not ctx.cancel_token.wait(0.05):
                pass
        finally:
            command.kill()


@runnable(resources=ROOM)
async def asks(ctx: RunContext) -> None:
    """Waits for a decision, wherever it is then executed."""
    call = ToolCall("c", "pay")
    if ctx.resumed is None:
        note("began", ctx.run_id)
        ctx.write("so far. ")
        [decision] = await ctx.ask("May I?", [call], continuation=b"so far")
    else:
        [decision] = ctx.resumed.decisions
    if decision.approved:
        with ctx.tool_call(call.tool_call_id, call.tool_name):
            note("paid", ctx.run_id)
    ctx.write("paid" if decision.approved else "declined")


both = Workflow(name="Both", steps=[Parallel(tells, alone), tells])
server = RunServer(agents=[tells, alone, heavy, floods, waits, asks], workflows=[both])
