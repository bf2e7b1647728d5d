"""Two real servers that share a database, each with a client of its own."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from pullcord import RunContext, RunServer, runnable
from pullcord.client import AsyncRunClient
from pullcord.engine.options import EngineOptions
from pullcord.run.events import ToolCall
from pullcord.settings import Settings
from pullcord.stores.postgres import PostgresStore
from pullcord.stores.postgres.connections import Address
from pullcord.stores.postgres.membership import Lease
from pullcord.workflow import Parallel, Workflow

from tests.postgres import Database

QUICK = Lease(beat=0.2, fence=1.0, death=2.0)


stopped = threading.Event()
"""Set when the code of `talk` has ended."""


@runnable(id="words")
async def words(input: str, ctx: RunContext):
    """Says so many words."""
    for n in range(int(input or 3)):
        yield f"{n} "


@runnable(id="talk")
async def talk(input: str, ctx: RunContext):
    """Says one word, and then nothing until it is stopped."""
    try:
        yield "hello "
        await asyncio.sleep(3600)
    finally:
        stopped.set()


@runnable(id="stubborn")
async def stubborn(input: str, ctx: RunContext):
    """Says one word, and then works at what only IMMEDIATE ends."""
    yield "hello "
    with ctx.critical():
        await asyncio.sleep(3600)


@runnable(id="counts")
async def counts(input: str, ctx: RunContext):
    """Counts, a hundred a second."""
    for n in range(int(input)):
        yield f"{n} "
        await asyncio.sleep(0.01)


@runnable(id="asks")
async def asks(input: str, ctx: RunContext):
    """Waits for a decision about one call."""
    [decision] = await ctx.ask("may I?", [ToolCall("c1", "tool")])
    yield "approved" if decision.approved else "declined"


@runnable(id="pays")
async def pays(input: str, ctx: RunContext):
    """Waits for a decision about one payment, wherever it is made, and pays once."""
    call = ToolCall("c1", "pay")
    if ctx.resumed is None:
        yield "May I? "
        [decision] = await ctx.ask("may I?", [call], continuation=b"12")
    else:
        [decision] = ctx.resumed.decisions
    if decision.approved:
        with ctx.tool_call("c1", "pay"):
            paid.append(ctx.run_id)
    yield "anew" if ctx.resumed else "here"


@runnable(id="closes")
async def closes(input: str, ctx: RunContext):
    """Says that all is over."""
    yield "over"


trip = Workflow(id="trip", steps=[words, Parallel(pays, pays), closes])
"""Two of its steps wait for a decision at the same time."""


paid: list[str] = []
"""The runs whose payment was made, once for each time."""


@dataclass
class Replica:
    """One server, its store and a client."""

    server: RunServer
    client: AsyncRunClient
    store: PostgresStore

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Its store's thread stands still: it beats no more, and hears nothing."""
        go_on = threading.Event()
        self.store._loop.soon(go_on.wait)
        try:
            yield
        finally:
            go_on.set()


@asynccontextmanager
async def replica(
    address: Address, lease: Lease = QUICK, *, serves: Sequence[Any] = ()
) -> AsyncIterator[Replica]:
    """One server on a database. `serves`: these only."""
    stores: list[PostgresStore] = []

    def make(clock, options):  # type: ignore[no-untyped-def]
        stores.append(PostgresStore(address, clock, options, lease))
        return stores[0]

    settings = Settings(listen="127.0.0.1:0", workers=1, engine=EngineOptions(grace_period=1.0))
    agents = serves or [words, talk, stubborn, counts, asks, pays]
    server = RunServer(agents, workflows=[] if serves else [trip], settings=settings, store=make)
    at = await asyncio.to_thread(server.start)
    try:
        async with AsyncRunClient(at) as client:
            yield Replica(server, client, stores[0])
    finally:
        await asyncio.to_thread(server.stop)


async def until(database: Database, sql: str, *values: object) -> None:
    """Returns once a query finds something."""
    while not await asyncio.to_thread(database.rows, sql, *values):
        pass
