"""What the soak serves: short runs of each kind, and one that never lets go of its worker."""

import asyncio
import time

from pullcord import RunContext, RunServer, runnable


@runnable
def thread(input: str) -> str:
    """Runs in a thread."""
    return f"said {input}"


@runnable
async def task(input: str) -> str:
    """Runs on a loop."""
    await asyncio.sleep(0)
    return f"said {input}"


@runnable
async def parent(input: str, ctx: RunContext) -> str:
    """Has a child."""
    child = ctx.start(task, input)
    return (await child.wait()).output


@runnable
async def waits(input: str):
    """Waits until it is stopped."""
    yield "waits"
    await asyncio.sleep(3600)


@runnable
def clings(input: str):
    """Does not stop."""
    yield "clings"
    while True:
        try:
            while True:
                time.sleep(0.05)
        except BaseException:  # this is what it is for
            pass


server = RunServer(agents=[thread, task, parent, waits, clings])
