"""The module of an author: scripted runs, which the workers of the product import.

It plays scripts; who serves it, and from which process, is not known here.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

from pullcord import RunContext, RunServer, runnable

from tests.bench.script import CUSTOM, LARGE, TOKEN, Script


def say(script: Script, number: int, ctx: RunContext) -> None:
    if script.says == "custom":
        ctx.emit("progress", CUSTOM)
    elif script.says == "large":
        ctx.emit("progress", LARGE)
    elif script.says == "voices" and number % 2:
        ctx.think(TOKEN)
    else:
        ctx.write(TOKEN)


@runnable(id="async")
async def in_a_loop(input: str, ctx: RunContext) -> AsyncIterator[str]:
    script = Script.of(input)
    if script.depth:
        await ctx.start(in_a_loop, script.beneath(script.depth - 1).text()).wait()
        return
    await asyncio.sleep(script.delay)
    for number in range(1, script.count + 1):
        if script.says == "content":
            yield TOKEN
        else:
            say(script, number, ctx)
        if script.pauses_after(number):
            await asyncio.sleep(script.pause)
    if script.then == "wait":
        await asyncio.Event().wait()
    if script.then == "tool":
        with ctx.tool_call("call", "tool"):
            await asyncio.Event().wait()


@runnable(id="sync")
def in_a_thread(input: str, ctx: RunContext) -> Iterator[str]:
    script = Script.of(input)
    time.sleep(script.delay)
    for number in range(1, script.count + 1):
        yield TOKEN
        if script.pauses_after(number):
            time.sleep(script.pause)
    while script.then == "block":
        time.sleep(3600)
    turns = 0
    while script.then == "compute":
        turns = (turns * 31 + 7) % 1_000_003


@runnable(id="stubborn")
def in_c(input: str, ctx: RunContext) -> Iterator[str]:
    """Never returns to Python after its first word, so that no exception can reach it."""
    yield TOKEN
    time.sleep(0.05)  # until that is sent: nothing else of this process runs from here on
    sum(range(10**15))


server = RunServer(agents=[in_a_loop, in_a_thread, in_c])
