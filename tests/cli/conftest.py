"""One real server for all tests of the command line, and a client that sees what became of runs."""

import json
import math
import threading
import time
from collections.abc import Iterator

import pytest
from pullcord import RunContext, RunServer, runnable
from pullcord.client import RunClient
from pullcord.engine.options import EngineOptions
from pullcord.models.offline import OfflineModel
from pullcord.run.events import ToolCall
from pullcord.run.message import Part
from pullcord.settings import Settings
from pullcord.team import Team
from pullcord.workflow import Loop, Parallel, Workflow

from tests.cli.commands import PATIENCE


@runnable
def say(input: str) -> str:
    """Says what it is told."""
    return input


@runnable
def seen(input: str, parts: tuple[Part, ...]) -> str:
    """Says what came with its input."""
    told = (f"{p.name}|{p.media_type}|{p.uri or len(p.data or b'')}" for p in parts)
    return " ".join([input, *told])


@runnable
def given(ctx: RunContext) -> str:
    """Says the data that came with its input."""
    return json.dumps(ctx.input_data)


@runnable
def counting(ctx: RunContext) -> str:
    """Says how far it has come."""
    ctx.progress(12, 40, "reading page 12")
    ctx.progress(40, 40)
    return "counted"


@runnable
def halfway(ctx: RunContext) -> Iterator[str]:
    """Comes half of its way, and waits there for its stop."""
    ctx.progress(1, 2, "packing")
    yield "half"
    while True:
        ctx.cancel_token.wait(PATIENCE)
        ctx.cancel_token.raise_if_cancelled()


@runnable
def forever(ctx: RunContext) -> Iterator[str]:
    """Ticks until it is stopped."""
    while True:
        yield "tick "
        ctx.cancel_token.wait(0.02)


@runnable
def booking(ctx: RunContext) -> Iterator[str]:
    """Makes a tool call that only IMMEDIATE ends."""
    yield "booking "
    with ctx.tool_call("call-1", "book_flight", '{"to": "Oslo"}'):
        while True:
            time.sleep(0.002)


@runnable
def spell(input: str) -> Iterator[str]:
    """Says what it is told, in pieces of all sizes."""
    start, size = 0, 1
    while start < len(input):
        yield input[start : start + size]
        time.sleep(0.001)
        start, size = start + size, size % 7 + 1


@runnable
def commands(ctx: RunContext) -> Iterator[str]:
    """Waits for a program that does not end."""
    yield "begun "
    ctx.run_process_sync(["sleep", "1000"])


_over = threading.Event()


@runnable
def stuck() -> Iterator[str]:
    """Sits where nothing can interrupt it, until the tests are over."""
    yield "stuck "
    _over.wait(PATIENCE)


@runnable
def fails() -> Iterator[str]:
    """Says half of it."""
    yield "half"
    raise ValueError("no more \x1b[2J words")


@runnable
def table() -> dict[str, object]:
    """Returns data."""
    return {"rows": [1, 2]}


@runnable
async def refund(ctx: RunContext) -> str:
    """Asks before it does anything."""
    call = ToolCall("call-1", "pay_back", '{"order": 7}')
    (decision,) = await ctx.ask("May pay_back be called?", [call])
    return decision.answer or ("paid" if decision.approved else f"not paid: {decision.note}")


class Leader(OfflineModel):
    """Hands out work without a pause between its words."""

    def __init__(self, *members: str) -> None:
        super().__init__(words_per_second=math.inf, hands_to=members)


crew = Team(name="Crew", model=Leader("say", "forever"), members=[say, forever])
sheet = Workflow(name="Sheet", steps=[say, Parallel(spell, forever, name="Both"), table])
nested = Workflow(
    name="Nested", steps=[Workflow(name="Inner", steps=[Loop([say], max_iterations=2)]), fails]
)
asking = Workflow(name="Asking", steps=[refund])


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    engine = EngineOptions(abandon_after=PATIENCE)  # what is stuck stays so for as long as a test
    settings = Settings(_env_file=None, engine=engine)  # type: ignore[call-arg]  # of pydantic-settings
    agents = [
        say,
        seen,
        given,
        counting,
        halfway,
        forever,
        booking,
        spell,
        stuck,
        fails,
        table,
        refund,
        commands,
    ]
    workflows = [sheet, nested, asking]
    with RunServer(agents, [crew], workflows, settings=settings) as address:
        yield address
        _over.set()


@pytest.fixture(scope="session")
def client(address: str) -> Iterator[RunClient]:
    with RunClient(address) as client:
        yield client
