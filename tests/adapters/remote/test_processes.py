"""A workflow and a team in one process with a runnable of another: two real `pullcord serve`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from pullcord.client import RunClient
from pullcord.run.cancel import CancelCause
from pullcord.run.events import (
    ContentDelta,
    RunCancelled,
    RunCompleted,
    RunFailed,
    ToolCallStarted,
    ToolCallState,
)
from pullcord.run.record import Run, RunFilter
from pullcord.run.state import RunState

from tests.cli.commands import Command
from tests.transports.harness import until

TRACER = TracerProvider().get_tracer("test")

THERE = '''
import asyncio, pathlib
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from pullcord import RunContext, RunServer, runnable

tracer = TracerProvider().get_tracer("there")

@runnable
async def writer(input: str, ctx: RunContext):
    """Says what it was given, then publishes it once the file is there."""
    yield f"on {input} "
    with ctx.tool_call("call-1", "publish"):
        while not pathlib.Path("go").exists():
            await asyncio.sleep(0.01)
    yield "published"

@runnable
async def tracing(input: str, ctx: RunContext):
    with tracer.start_as_current_span("work") as span:
        return f"{span.get_span_context().trace_id}/{span.parent.span_id}"

server = RunServer(agents=[writer, tracing])
'''

HERE = '''
import os
from pullcord import RemoteRunnable, RunServer
from pullcord.models.base import Finished, Model, Text, ToolMessage, ToolRequest
from pullcord.team import Team
from pullcord.workflow.workflow import Workflow

def remote(name):
    return RemoteRunnable(os.environ["THERE"], f"agents/{name}", reconnect_for=1.0)

class Leader(Model):
    """Hands its task to the writer, and then says what the writer made of it."""
    id = "leader"
    async def stream(self, request):
        last = request.messages[-1]
        if isinstance(last, ToolMessage):
            yield Text(f"told: {last.text}")
        else:
            yield ToolRequest("d", "delegate_to_member", '{"member_id": "writer", "task": "a"}')
        yield Finished("stop")

server = RunServer(
    teams=[Team(name="Desk", model=Leader(), members=[remote("writer")])],
    workflows=[
        Workflow(name="Publish", steps=[remote("writer")]),
        Workflow(name="Trace", steps=[remote("tracing")]),
    ],
)
'''


class Pair:
    """Both processes, and a client of each."""

    def __init__(self, there: Command, here: Command, clients: list[RunClient], cwd: Path) -> None:
        self.there_process, self.here_process = there.process, here.process
        self.there, self.here = clients
        self._cwd = cwd

    def go(self) -> None:
        """Lets the writer's tool finish."""
        (self._cwd / "go").touch()

    def in_tool(self, name: str) -> tuple[Any, list[Any]]:
        """A run here that has come to the writer's tool: its stream, and its events so far."""
        stream = self.here.run(name, "trams")
        seen: list[Any] = []
        for event in stream:
            seen.append(event)
            payload = event.payload
            if isinstance(payload, ToolCallStarted) and payload.tool_call.tool_name == "publish":
                return stream, seen
        raise AssertionError(f"the writer's tool did not begin: {seen}")

    def child(self, run_id: str) -> Run:
        (child,) = self.here.list(RunFilter(parent_run_id=run_id))
        return self.here.get(child.run_id)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    for name, code in (("there", THERE), ("here", HERE)):
        (tmp_path / f"{name}.py").write_text(code)
    serve = ("--listen", "127.0.0.1:0", "--json")
    with Command("serve", "there.py:server", *serve, cwd=tmp_path) as there:
        address = _address(there)
        with (
            Command("serve", "here.py:server", *serve, cwd=tmp_path, THERE=address) as here,
            RunClient(address) as there_client,
            RunClient(_address(here)) as here_client,
        ):
            yield Pair(there, here, [there_client, here_client], tmp_path)


def _address(command: Command) -> str:
    return str(json.loads(command.until("\n"))["address"])


@pytest.mark.parametrize(
    ("name", "output"),
    [("workflows/publish", "on trams published"), ("teams/desk", "told: on a published")],
)
def test_a_run_of_two_processes_is_one_stream(pair: Pair, name: str, output: str) -> None:
    """The remote step's and the remote member's events come as they happen, and their result."""
    stream, seen = pair.in_tool(name)
    assert any(isinstance(e.payload, ContentDelta) for e in seen)  # while the tool is at work
    pair.go()
    *_, end = stream
    assert isinstance(end.payload, RunCompleted)
    assert end.payload.output == output
    states = {call.tool_name: call.state for call in end.payload.tool_calls}
    assert states["publish"] is ToolCallState.COMPLETED


@pytest.mark.parametrize("name", ["workflows/publish", "teams/desk"])
def test_a_cancel_crosses_to_the_other_process(pair: Pair, name: str) -> None:
    """A graceful stop here lets the tool there finish; both runs keep what was made."""
    stream, _ = pair.in_tool(name)
    stream.cancel("enough", grace_period=60)
    child = pair.child(stream.run_id)
    assert child.state is RunState.CANCELLING
    until(lambda: pair.there.get(child.run_id).state is RunState.CANCELLING)
    pair.go()
    *_, end = stream
    assert isinstance(end.payload, RunCancelled)
    assert end.payload.cancellation.cause is CancelCause.USER
    states = {call.tool_name: call.state for call in end.payload.tool_calls}
    assert states["publish"] is ToolCallState.COMPLETED
    its = pair.there.wait(child.run_id, 30)
    assert its.cancellation is not None
    assert (its.state, its.cancellation.cause) == (RunState.CANCELLED, CancelCause.PARENT)
    assert its.cancellation.reason == "enough"
    assert its.output == pair.child(stream.run_id).output


def test_the_other_process_s_death_fails_the_run_here(pair: Pair) -> None:
    """After `reconnect_for` the step ends FAILED, ConnectionLost, with its text."""
    stream, _ = pair.in_tool("workflows/publish")
    pair.there_process.kill()
    *_, end = stream
    assert isinstance(end.payload, RunFailed)
    assert "ConnectionLost" in end.payload.error.message
    (call,) = end.payload.tool_calls
    assert call.state is ToolCallState.UNKNOWN
    child = pair.child(stream.run_id)
    assert child.error is not None
    assert (child.state, child.error.type) == (RunState.FAILED, "ConnectionLost")
    assert child.output == "on trams "


def test_this_process_s_death_cancels_the_run_there(pair: Pair) -> None:
    """The remote run ends CANCELLED, cause DISCONNECT, and keeps its text."""
    stream, _ = pair.in_tool("workflows/publish")
    child = pair.child(stream.run_id).run_id
    pair.here_process.kill()
    until(lambda: pair.there.get(child).state is RunState.CANCELLING)
    pair.go()
    its = pair.there.wait(child, 30)
    stream.close()
    assert its.cancellation is not None
    assert (its.state, its.cancellation.cause) == (RunState.CANCELLED, CancelCause.DISCONNECT)
    assert its.output == "on trams "


def test_a_trace_goes_through_both_processes(pair: Pair) -> None:
    """A span made there has the caller's span as its parent, through the workflow here."""
    with TRACER.start_as_current_span("caller") as span:
        *_, end = pair.here.run("workflows/trace")
    caller = span.get_span_context()
    assert end.payload.output == f"{caller.trace_id}/{caller.span_id}"
