"""The contract of all that executes code: threads, loops, shared workers, isolated processes,
workers that a command starts.

One app, served in each way; whatever a caller sees must be the same.
"""

import shlex
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from pullcord.client import RunClient, RunStream
from pullcord.control import ControlServer
from pullcord.engine.options import EngineOptions
from pullcord.run.cancel import CancelCause, CancelMode, CancelOutcome, StopStage
from pullcord.run.events import (
    ContentDelta,
    Custom,
    Event,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunPaused,
    ToolCallState,
)
from pullcord.run.record import Decision, RunFilter
from pullcord.run.state import RunState
from pullcord.run.usage import Limits
from pullcord.server import RunServer
from pullcord.settings import Settings, overridden
from pullcord.worker.loading import find_server

from tests.transports.harness import until

APP = """
import asyncio, math, time
from pullcord import RunContext, RunServer, runnable
from pullcord.agent import Agent
from pullcord.models.offline import OfflineModel
from pullcord.run.events import ToolCall
from pullcord.run.usage import Usage

@runnable
def says_sync(input: str, ctx: RunContext):
    ctx.use(Usage(output_tokens=2))
    yield f"said {input}"
    ctx.emit("note", {"deep": [1, {"er": None}], "text": "äöü"})
    ctx.set_output(None, {"n": 1})

@runnable
async def says_async(input: str, ctx: RunContext):
    ctx.use(Usage(output_tokens=2))
    yield f"said {input}"
    ctx.emit("note", {"deep": [1, {"er": None}], "text": "äöü"})
    ctx.set_output(None, {"n": 1})

@runnable
def fails_sync(input: str):
    yield "before"
    raise LookupError(f"no {input}")

@runnable
async def fails_async(input: str):
    yield "before"
    raise LookupError(f"no {input}")

@runnable
def silent_sync(input: str, ctx: RunContext):
    yield "then silence"
    ctx.cancel_token.wait(600)

@runnable
async def silent_async(input: str):
    yield "then silence"
    await asyncio.sleep(600)

@runnable
def speaking_sync(input: str):
    while True:
        yield "on "
        time.sleep(0.005)

@runnable
async def speaking_async(input: str):
    while True:
        yield "on "
        await asyncio.sleep(0.005)

@runnable
def tool_sync(input: str, ctx: RunContext):
    yield "to work"
    with ctx.tool_call("call-1", "publish", "{}") as returned:
        ctx.emit("begun")
        while not ctx.cancel_token.cancelled:
            time.sleep(0.005)
        returned("published")
    yield "never said"

@runnable
async def tool_async(input: str, ctx: RunContext):
    yield "to work"
    with ctx.tool_call("call-1", "publish", "{}") as returned:
        ctx.emit("begun")
        while not ctx.cancel_token.cancelled:
            await asyncio.sleep(0.005)
        returned("published")
    yield "never said"

@runnable
def deaf_tool_sync(ctx: RunContext):
    yield "to work"
    with ctx.tool_call("call-1", "publish", "{}"):
        ctx.emit("begun")
        while True:
            time.sleep(0.005)

@runnable
async def deaf_tool_async(ctx: RunContext):
    yield "to work"
    with ctx.tool_call("call-1", "publish", "{}"):
        ctx.emit("begun")
        await asyncio.sleep(600)

@runnable
def critical_sync(ctx: RunContext):
    yield "to work"
    with ctx.critical():
        ctx.emit("begun")
        while True:
            time.sleep(0.005)

@runnable
async def critical_async(ctx: RunContext):
    yield "to work"
    with ctx.critical():
        ctx.emit("begun")
        await asyncio.sleep(600)

quick = Agent(id="quick", model=OfflineModel(words_per_second=math.inf))
slow = Agent(id="slow", model=OfflineModel(words_per_second=1))

@runnable
def nested_sync(input: str):
    if input == "slow":
        for chunk in slow.run("", stream=True):
            yield chunk.content if isinstance(chunk.content, str) else ""
    result = quick.run(input)
    yield f"{result.status} {len(result.content)}"

@runnable
async def nested_async(input: str):
    if input == "slow":
        async for chunk in slow.arun("", stream=True):
            yield chunk.content if isinstance(chunk.content, str) else ""
    result = await quick.arun(input)
    yield f"{result.status} {len(result.content)}"

@runnable
def many_sync(input: str):
    for n in range(int(input)):
        yield f"{n} "

@runnable
async def many_async(input: str):
    for n in range(int(input)):
        yield f"{n} "

@runnable
def spends_sync(input: str, ctx: RunContext):
    for n in range(100):
        yield f"{n} "
        ctx.use(Usage(output_tokens=10))

@runnable
async def spends_async(input: str, ctx: RunContext):
    for n in range(100):
        yield f"{n} "
        ctx.use(Usage(output_tokens=10))

@runnable
async def parent_async(input: str, ctx: RunContext):
    yield "above "
    child = ctx.start(says_sync, "beneath")
    run = await child.wait()
    yield f"then {run.output} {ctx.usage.output_tokens}"

@runnable
async def asks_async(input: str, ctx: RunContext):
    yield "may I? "
    [decision] = await ctx.ask("well?", [ToolCall("call-1", "delete", "{}")])
    yield "yes" if decision.approved else "no"

@runnable
async def time_async(input: str, ctx: RunContext):
    yield str(ctx.cancel_token.time_remaining())

@runnable
def time_sync(input: str, ctx: RunContext):
    yield str(ctx.cancel_token.time_remaining())

@runnable
async def remembers_async(input: str, ctx: RunContext):
    runs = await ctx.in_thread(ctx.history)
    yield f"{input} after {[run.output for run in runs]}"

made = [v for v in list(globals().values()) if not isinstance(v, type)]
server = RunServer(agents=[v for v in made if hasattr(v, "execute")])
"""

_ROOM = 4
KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


@pytest.fixture(params=["in-process", "worker", "isolated", "command"], scope="module")
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunClient]:
    folder: Path = tmp_path_factory.mktemp("app")
    path = folder / f"contract_{request.param.replace('-', '_')}.py"
    path.write_text(APP)
    server: RunServer
    if request.param == "in-process":
        catalog = find_server(f"{path}:server").catalog
        server = RunServer(map(catalog.find, catalog.names()), settings=_settings())
    else:
        settings = _settings(request.param == "isolated")
        if request.param == "command":
            command = [sys.executable, "-m", "pullcord", "worker", f"{path}:server"]
            settings = overridden(settings, {"worker_command": shlex.join(command)})
        server = ControlServer(f"{path}:server", settings)
    with server as address, RunClient(address) as client:
        yield client
        until(lambda: server.engine.occupied == 0)


def _settings(isolated: bool = False) -> Settings:
    """So little room that it is soon taken: by four sync runs, whatever executes them."""
    engine = EngineOptions(workers=_ROOM, abandon_after=60.0)
    isolation = "process" if isolated else ""  # and one process more, which reports the catalog
    return Settings(isolation=isolation, max_processes=_ROOM + 1, engine=engine)


def speaking(stream: RunStream) -> RunStream:
    """Follows a run until it has said something."""
    next(event for event in stream if isinstance(event.payload, ContentDelta))
    return stream


def text(events: list[Event]) -> str:
    """What the run itself said."""
    return "".join(
        e.payload.text for e in events if isinstance(e.payload, ContentDelta) and e.source is None
    )


@KINDS
def test_a_run_says_what_it_says(client: RunClient, kind: str) -> None:
    """Text, events with data, structured output and usage arrive, in order."""
    events = list(client.run(f"agents/says-{kind}", "x"))
    end = events[-1].payload
    assert isinstance(end, RunCompleted)
    assert (end.output, end.output_data, end.usage.output_tokens) == ("said x", {"n": 1}, 2)
    [note] = [e.payload for e in events if isinstance(e.payload, Custom)]
    assert note == Custom("note", {"deep": [1, {"er": None}], "text": "äöü"})
    assert text(events) == "said x"


@KINDS
def test_an_error_is_the_run_s(client: RunClient, kind: str) -> None:
    """Its class and words are told, and what was said before is kept."""
    *_, end = client.run(f"agents/fails-{kind}", "colour")
    assert isinstance(end.payload, RunFailed)
    assert (end.payload.error.type, end.payload.output) == ("LookupError", "before")
    assert "no colour" in end.payload.error.message


@KINDS
@pytest.mark.parametrize("what", ["silent", "speaking"])
@pytest.mark.parametrize("mode", CancelMode)
def test_a_stop_ends_it(client: RunClient, kind: str, what: str, mode: CancelMode) -> None:
    """Silent or speaking, gracefully or at once, with its text."""
    stream = speaking(client.run(f"agents/{what}-{kind}"))
    client.cancel(stream.run_id, "enough", mode=mode)
    *_, end = stream
    assert isinstance(end.payload, RunCancelled)
    assert end.payload.cancellation.reason == "enough"
    assert end.payload.output
    assert not end.payload.abandoned
    events = list(client.watch(stream.run_id))
    assert text(events) == end.payload.output
    assert sum(e.is_terminal for e in events) == 1


@KINDS
def test_a_tool_finishes_gracefully(client: RunClient, kind: str) -> None:
    """A GRACEFUL stop lets it; its call is COMPLETED, and nothing is said after it."""
    stream = client.run(f"agents/tool-{kind}")
    next(event for event in stream if isinstance(event.payload, Custom))
    client.cancel(stream.run_id, grace_period=60)
    *_, end = stream
    assert isinstance(end.payload, RunCancelled)
    [call] = end.payload.tool_calls
    assert (call.state, call.result) == (ToolCallState.COMPLETED, "published")
    assert end.payload.output == "to work"


@KINDS
def test_every_delta_counts(client: RunClient, kind: str) -> None:
    """However many are merged on their way, numbers and text are those of each alone."""
    count = 20_000
    events = list(client.run(f"agents/many-{kind}", str(count)))
    assert text(events) == "".join(f"{n} " for n in range(count))
    assert events[-1].sequence == count + 2


@KINDS
def test_a_limit_ends_it_where_it_is_reached(client: RunClient, kind: str) -> None:
    """The code goes no further than the call that reached it."""
    *_, end = client.run(f"agents/spends-{kind}", limits=Limits(max_tokens=30))
    assert isinstance(end.payload, RunCancelled)
    assert end.payload.cancellation.cause is CancelCause.BUDGET
    assert end.payload.cancellation.limit == "max_tokens"
    assert (end.payload.output, end.payload.usage.output_tokens) == ("0 1 2 ", 30)


def test_a_child_is_heard_and_counts(client: RunClient) -> None:
    """In its parent's stream, between what the parent says before and after it."""
    events = list(client.run("agents/parent-async"))
    end = events[-1].payload
    assert isinstance(end, RunCompleted)
    assert end.output == "above then said beneath 2"
    said = [e for e in events if isinstance(e.payload, ContentDelta)]
    assert [bool(e.source) for e in said] == [False, True, False]
    [terminal] = [e for e in events if isinstance(e.payload, RunCompleted) and e.source]
    assert said[1].sequence < terminal.sequence < said[2].sequence


@pytest.mark.parametrize("approved", [True, False])
def test_a_pause_is_decided(client: RunClient, approved: bool) -> None:
    """The run waits, and goes on with the decision."""
    stream = client.run("agents/asks-async")
    next(event for event in stream if isinstance(event.payload, RunPaused))
    assert client.get(stream.run_id).state is RunState.PAUSED
    client.continue_run(stream.run_id, [Decision("call-1", approved=approved)])
    *_, end = stream
    assert isinstance(end.payload, RunCompleted)
    assert end.payload.output == ("may I? yes" if approved else "may I? no")


@KINDS
def test_the_code_knows_its_deadline(client: RunClient, kind: str) -> None:
    """Its own timeout, as seconds from now."""
    *_, end = client.run(f"agents/time-{kind}", limits=Limits(timeout=50))
    assert isinstance(end.payload, RunCompleted)
    assert 20 < float(end.payload.output) <= 50


def test_a_session_is_remembered(client: RunClient) -> None:
    """The code reads the session's earlier runs."""
    for said in ("one", "two"):
        *_, end = client.run("agents/remembers-async", said, session_id="s-1")
    assert isinstance(end.payload, RunCompleted)
    assert end.payload.output == f"two after {['one after []']}"


@KINDS
def test_a_stop_that_comes_before_its_run_is_its_end(client: RunClient, kind: str) -> None:
    """Nothing of it executes."""
    run_id = f"early-{uuid.uuid4()}"
    client.cancel(run_id, "never mind", before_start=True)
    events = list(client.run(f"agents/says-{kind}", "x", run_id=run_id))
    end = events[-1].payload
    assert isinstance(end, RunCancelled)
    assert (end.cancellation.reason, end.output, end.stage) == ("never mind", "", None)
    assert client.get(run_id).start_time == 0.0


@pytest.mark.parametrize("mode", CancelMode)
def test_a_run_that_waits_for_room_is_dropped(client: RunClient, mode: CancelMode) -> None:
    """Its stop ends it at once and it never begins; the next one does once there is room."""
    holding = [speaking(client.run("agents/silent-sync")) for _ in range(_ROOM)]
    waiting = [client.start("agents/says-sync", "x").run_id for _ in range(2)]
    assert {client.get(run_id).state for run_id in waiting} == {RunState.PENDING}
    receipt = client.cancel(waiting[0], "enough", mode=mode)
    assert receipt.outcome is CancelOutcome.STOPPED
    assert receipt.run is not None
    assert (receipt.run.output, receipt.run.start_time) == ("", 0.0)
    for stream in holding:
        client.cancel(stream.run_id, mode=CancelMode.IMMEDIATE)
        assert isinstance([*stream][-1].payload, RunCancelled)
    assert client.wait(waiting[1], 60).output == "said x"
    assert client.get(waiting[0]).start_time == 0.0


@KINDS
def test_a_run_within_a_run_is_its_child(client: RunClient, kind: str) -> None:
    """`run` in sync code and `arun` in async code give its result, and it can be found."""
    stream = client.run(f"agents/nested-{kind}", "x")
    *_, end = stream
    assert isinstance(end.payload, RunCompleted)
    status, length = end.payload.output.split()
    assert status == "COMPLETED"
    assert int(length) > 0
    [child] = client.list(RunFilter(parent_run_id=stream.run_id))
    assert (child.runnable, child.state) == ("agents/quick", RunState.COMPLETED)


@KINDS
@pytest.mark.parametrize("mode", CancelMode)
def test_a_stop_goes_down_to_a_run_within(client: RunClient, kind: str, mode: CancelMode) -> None:
    """The child ends CANCELLED as well, because its parent must stop."""
    stream = client.run(f"agents/nested-{kind}", "slow")
    next(e for e in stream if isinstance(e.payload, ContentDelta) and e.payload.text)
    client.cancel(stream.run_id, mode=mode)
    *_, end = stream
    assert isinstance(end.payload, RunCancelled)
    [child] = client.list(RunFilter(parent_run_id=stream.run_id))
    run = client.wait(child.run_id, 60)
    assert (run.runnable, run.state) == ("agents/slow", RunState.CANCELLED)
    assert run.cancellation is not None
    # The parent's code leaves the child's stream as it stops, which may be sooner.
    assert run.cancellation.cause in (CancelCause.PARENT, CancelCause.DISCONNECT)


@KINDS
@pytest.mark.parametrize("where", ["deaf-tool", "critical"])
def test_immediate_goes_through_everything(client: RunClient, kind: str, where: str) -> None:
    """A tool and a critical part that GRACEFUL waits for are interrupted, and nothing is left."""
    stream = client.run(f"agents/{where}-{kind}")
    next(event for event in stream if isinstance(event.payload, Custom))
    client.cancel(stream.run_id, grace_period=600)
    assert client.get(stream.run_id).state is RunState.CANCELLING
    client.cancel(stream.run_id, mode=CancelMode.IMMEDIATE)
    *_, end = stream
    assert isinstance(end.payload, RunCancelled)
    assert (end.payload.output, end.payload.abandoned) == ("to work", False)
    assert end.payload.stage in (StopStage.INTERRUPT, StopStage.KILL)  # 25 ms may not be enough
    states = [ToolCallState.INTERRUPTED]
    if end.payload.stage is StopStage.KILL:  # it came before the tool's end was heard of, or after
        states.append(ToolCallState.UNKNOWN)
    calls = end.payload.tool_calls
    assert len(calls) == (where == "deaf-tool")
    assert all(call.state in states for call in calls)
