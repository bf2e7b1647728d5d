"""One trace from the caller's code to the run's, with OpenTelemetry's own SDK on both sides."""

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from pullcord.client import AsyncRunClient, RunClient
from pullcord.run.context import RunContext

from tests.transports.harness import Serve

TRACER = TracerProvider().get_tracer("test")
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def here() -> str:
    """The trace and the span that this code is in."""
    span = trace.get_current_span().get_span_context()
    return f"{span.trace_id:032x}/{span.span_id:016x}"


def sync_place(input: str) -> str:
    return here()


async def async_place(input: str) -> str:
    return here()


async def tool_place(input: str, ctx: RunContext) -> str:
    return await ctx.in_thread(here)


@pytest.mark.parametrize("place", [sync_place, async_place, tool_place])
def test_a_run_s_code_is_in_the_caller_s_span(serve: Serve, place: Callable[..., Any]) -> None:
    """Run and StartRun hand the caller's span to the run, whichever thread its code is in."""
    address = serve(place).address
    name = f"agents/{place.__name__.replace('_', '-')}"
    with RunClient(address) as client, TRACER.start_as_current_span("caller"):
        stream = client.run(name)
        *_, last = stream
        started = client.start(name)
        assert last.payload.output == here()
        assert client.wait(started.run_id).output == here()


async def test_the_asyncio_client_hands_on_its_task_s_span(serve: Serve) -> None:
    """Two runs of one client, started in two spans, each know their own."""
    address = serve(sync_place).address
    async with AsyncRunClient(address) as client:
        for _ in range(2):
            with TRACER.start_as_current_span("caller"):
                *_, last = [event async for event in client.run("agents/sync-place")]
                started = await client.start("agents/sync-place")
                assert last.payload.output == here()
                assert (await client.wait(started.run_id)).output == here()


def test_a_trace_that_the_caller_says_itself_stands(serve: Serve) -> None:
    """A traceparent among the client's own metadata is sent as it is, and once."""
    address = serve(sync_place).address
    metadata = [("traceparent", TRACEPARENT)]
    with RunClient(address, metadata=metadata) as client, TRACER.start_as_current_span("other"):
        *_, last = client.run("agents/sync-place")
    assert last.payload.output == "/".join(TRACEPARENT.split("-")[1:3])


def test_without_a_trace_there_is_none(serve: Serve) -> None:
    """A caller outside any span starts a run outside any."""
    with RunClient(serve(sync_place).address) as client:
        *_, last = client.run("agents/sync-place")
    assert last.payload.output == f"{0:032x}/{0:016x}"
