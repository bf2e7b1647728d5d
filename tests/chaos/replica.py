"""One replica of the chaos test, in a process of its own.

`python -m tests.chaos.replica URL ADDRESS FILE SECONDS`. Its clock is wrong by so many seconds, its
leases are short, and each run that begins leaves a line in the file.
"""

# The clock is set before anybody has taken a look at it
import sys
import time

if __name__ == "__main__":
    _right = time.time
    time.time = lambda: _right() + float(sys.argv[4])

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from pullcord import RunContext, RunServer, runnable
from pullcord.engine.options import EngineOptions
from pullcord.run.events import ToolCall
from pullcord.settings import Settings
from pullcord.stores.postgres import Address, PostgresStore, reaping
from pullcord.stores.postgres.membership import Lease

LEASE = Lease(beat=0.3, fence=0.9, death=1.5)


WEAK = "PULLCORD_TESTS_WEAK"
"""Set: the replica breaks its promises, and the test must find that out."""


def _weaken() -> None:
    """Ends of the lost come right after what was stored, not above what was reserved."""
    left_of = reaping.left_of

    def without_reserve(row: Any, records: list[Any]) -> Any:
        return replace(left_of(row, records), reserved=0)

    reaping.left_of = without_reserve  # type: ignore[assignment]


def main(url: str, address: str, begun: str, skew: str) -> None:
    """Serves until it is stopped, or killed."""

    def note(words: str) -> None:
        line = os.open(begun, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(line, f"{words}\n".encode())
        os.close(line)

    @runnable(id="asks")
    async def asks(input: str, ctx: RunContext) -> None:
        """Waits for a decision, wherever it is made, and pays once if it may."""
        call = ToolCall("c", "pay")
        if ctx.resumed is None:
            note(ctx.run_id)
            [decision] = await ctx.ask("May I?", [call], continuation=b"so far")
        else:
            [decision] = ctx.resumed.decisions
        if decision.approved:
            with ctx.tool_call(call.tool_call_id, call.tool_name):
                note(f"{ctx.run_id}-paid")
        ctx.write("paid" if decision.approved else "declined")

    @runnable(id="talk")
    async def talk(input: str, ctx: RunContext) -> AsyncIterator[str]:
        """Says so many words, a hundred a second."""
        note(ctx.run_id)
        for n in range(int(input)):
            yield f"{n} "
            await asyncio.sleep(0.01)

    if os.environ.get(WEAK):
        _weaken()
    settings = Settings(
        listen=address, drain_time=5, engine=EngineOptions(grace_period=1.0, abandon_after=1.0)
    )
    server = RunServer(
        [talk, asks],
        settings=settings,
        store=lambda clock, options: PostgresStore(Address(url), clock, options, LEASE),
    )
    server.serve(address, lambda at: print(at, flush=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
