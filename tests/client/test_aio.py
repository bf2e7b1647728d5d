"""The asyncio client, against a real server that breaks as the test says."""

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from pullcord.client import AsyncRunClient, Pace
from pullcord.run import errors
from pullcord.run.cancel import CancelOutcome
from pullcord.run.events import RunCompleted
from pullcord.run.record import Receipt, Run, RunFilter
from pullcord.run.state import RunState
from pullcord.v1 import run_service_pb2 as v1
from pullcord.v1.run_service_pb2_grpc import (
    RunServiceServicer,
    add_RunServiceServicer_to_server,
)
from pullcord.wire.event import event_message

from tests.client.scripted import RUN_ID, Break, Script, whole_run
from tests.steady import steady

QUICK = Pace(first_delay=0.001, max_delay=0.01)


@pytest.fixture
async def client(address: str) -> AsyncIterator[AsyncRunClient]:
    async with AsyncRunClient(address, actor="tester", pace=QUICK) as client:
        yield client


class Silent(RunServiceServicer):  # type: ignore[misc]  # generated without types
    """Says one event and then nothing, and knows when its watcher has left."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def WatchRun(self, request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            yield v1.WatchRunResponse(event=event_message(whole_run()[0]))
            await asyncio.Event().wait()
        finally:
            self.left.set()


@pytest.fixture
async def silent() -> AsyncIterator[tuple[Silent, AsyncRunClient]]:
    service, server = Silent(), grpc.aio.server()
    add_RunServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with AsyncRunClient(f"127.0.0.1:{port}", pace=QUICK) as client:
        yield service, client
    await server.stop(None)


async def test_a_run_is_followed_to_its_end(client: AsyncRunClient, script: Script) -> None:
    """run yields every event, and its result is the terminal one's payload."""
    script.reset(whole_run())
    async with client.run("agents/counter", "4", run_id=RUN_ID) as stream:
        assert [event async for event in stream] == whole_run()
        assert stream.result == RunCompleted("0 1 2 3 ")
        assert stream.after_sequence == 6
    assert script.names() == ["Run"]
    assert script.actors == {"tester"}


async def test_a_call_that_came_to_its_end_is_not_cancelled(
    client: AsyncRunClient, script: Script
) -> None:
    """After the terminal event the call's status is taken, so that nothing of it is under way."""
    script.reset(whole_run())
    stream = client.run("agents/counter", "4", run_id=RUN_ID)
    assert [event async for event in stream] == whole_run()
    assert await stream._call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("cut", range(7))
@pytest.mark.parametrize(
    "error", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, None], ids=str
)
@pytest.mark.parametrize("starting", [True, False], ids=["run", "watch"])
async def test_a_stream_cut_anywhere_goes_on(
    client: AsyncRunClient, script: Script, cut: int, error: Any, starting: bool
) -> None:
    """Wherever the line breaks, however it breaks, no event is lost or doubled."""
    script.reset(whole_run(), Break(cut, error), Break(0, error), Break(2, error, repeat=3))
    opened = client.run("agents/counter", run_id=RUN_ID) if starting else client.watch(RUN_ID)
    async with opened as stream:
        assert [event async for event in stream] == whole_run()


async def test_a_refusal_is_raised_as_its_class(client: AsyncRunClient, script: Script) -> None:
    """A refusal is the server's own error, with its fields."""
    script.refusal = errors.ServerBusy("full", 3.0)
    with pytest.raises(errors.ServerBusy) as caught:
        await anext(client.run("agents/a"))
    assert caught.value.retry_after == 3.0
    with pytest.raises(errors.ServerBusy):
        await client.get(RUN_ID)


@steady
async def test_the_callers_deadline_is_raised_as_such(
    silent: tuple[Silent, AsyncRunClient],
) -> None:
    """When the caller's time is up, DeadlineExceeded names the run."""
    service, client = silent
    stream = client.watch(RUN_ID, timeout=0.5)
    assert await anext(stream) == whole_run()[0]
    with pytest.raises(errors.DeadlineExceeded) as caught:
        await anext(stream)
    assert caught.value.run_id == RUN_ID
    await service.left.wait()


async def test_a_lost_server_is_given_up() -> None:
    """Where nobody answers, the stream ends with ConnectionLost once patience is at its end."""
    pace = Pace(reconnect_for=0.01, first_delay=0.001)
    async with AsyncRunClient("127.0.0.1:1", pace=pace) as client:
        with pytest.raises(errors.ConnectionLost):
            await anext(client.watch(RUN_ID))


async def test_closing_wakes_who_waits(silent: tuple[Silent, AsyncRunClient]) -> None:
    """A task that awaits the next event sees the stream end when another closes it."""
    service, client = silent
    stream = client.watch(RUN_ID)
    await anext(stream)

    async def rest() -> list[Any]:
        return [event async for event in stream]

    waiting = asyncio.ensure_future(rest())
    await asyncio.sleep(0)
    await stream.close()
    assert await waiting == []
    await service.left.wait()


async def test_cancelling_who_waits_leaves_the_stream(
    silent: tuple[Silent, AsyncRunClient],
) -> None:
    """A task's own cancellation passes through, and the server sees its watcher leave."""
    service, client = silent
    stream = client.watch(RUN_ID)
    await anext(stream)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(stream), 0.01)
    await service.left.wait()
    assert [event async for event in stream] == []


async def test_a_dropped_stream_is_left(silent: tuple[Silent, AsyncRunClient]) -> None:
    """Dropping a stream cancels its call; the server sees its watcher leave."""
    service, client = silent
    stream = client.watch(RUN_ID)
    await anext(stream)
    assert not service.left.is_set()
    del stream
    gc.collect()
    await service.left.wait()


async def test_nothing_is_left_after_a_close(script: Script, address: str) -> None:
    """A closed client leaves no task, also where a stream was left half-way."""
    script.reset(whole_run())
    before = asyncio.all_tasks()
    async with AsyncRunClient(address, pace=QUICK) as client:
        half = client.run("agents/counter", run_id=RUN_ID)
        await anext(half)
        assert [event async for event in client.watch(RUN_ID)] == whole_run()
    left = asyncio.all_tasks() - before
    if left:
        await asyncio.wait(left, timeout=30)
    assert asyncio.all_tasks() == before


async def test_the_other_verbs(client: AsyncRunClient, script: Script) -> None:
    """start, get, list, runnables, cancel and cancel_many ask once and read the answer."""
    script.reset(whole_run())
    script.runs = [Run(f"r{n}", "agents/a", RunState.RUNNING, create_time=1e9) for n in range(5)]
    assert (await client.start("agents/a", run_id="mine")).run_id == "mine"
    assert (await client.get(RUN_ID)).state is RunState.COMPLETED
    assert [run async for run in client.list(page_size=2)] == script.runs
    assert [info.name for info in await client.runnables()] == ["agents/a"]
    receipt = await client.cancel(RUN_ID, "enough")
    assert receipt == Receipt(CancelOutcome.REQUESTED, accept_time=5.0)
    (result,) = await client.cancel_many(RunFilter(session_id="s"), "enough")
    assert result.run_id == "a"
    names = ["StartRun", "GetRun", *["ListRuns"] * 3, "ListRunnables", "CancelRun", "CancelRuns"]
    assert script.names() == names


async def test_a_wait_outlives_a_broken_line(client: AsyncRunClient, script: Script) -> None:
    """wait asks again after a break."""
    script.reset(whole_run(), Break(), Break())
    assert (await client.wait(RUN_ID)).state is RunState.COMPLETED
    assert script.names() == ["WaitRun"] * 3


async def test_a_run_that_has_not_begun_is_cancelled_before_its_start(
    client: AsyncRunClient, script: Script
) -> None:
    """A stream's cancel may overtake its run."""
    script.reset(whole_run())
    async with client.run("agents/counter", run_id=RUN_ID) as stream:
        await stream.cancel("too early")
    cancels = [request for name, request in script.calls if name == "CancelRun"]
    assert [(c.reason, c.before_start) for c in cancels] == [("too early", True)]
