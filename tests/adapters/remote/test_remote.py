"""A runnable of one server as a step or member of another: two servers, one process, real gRPC."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from pullcord import RemoteRunnable, runnable
from pullcord.run.agent import RunEvent
from pullcord.run.base import RunStatus
from pullcord.run.cancel import CancelCause, CancelMode
from pullcord.run.context import RunContext
from pullcord.run.events import ToolCallState
from pullcord.run.message import Message, Part
from pullcord.run.record import DisconnectPolicy
from pullcord.run.usage import Usage
from pullcord.v1 import run_pb2
from pullcord.workflow.workflow import Workflow

from tests.steady import steady
from tests.transports.harness import (
    TERMINAL,
    Cause,
    Mode,
    Outcome,
    Serve,
    Served,
    Signal,
    State,
    Stream,
    kind_of,
    seconds,
    until,
    v1,
)

Writer = Callable[..., Any]


@pytest.fixture(scope="module", autouse=True)
def _engine_of_the_process() -> None:
    """In-process runs have an engine that stays, so its threads are there before any test's."""
    assert RemoteRunnable("127.0.0.1:1", "agents/none", reconnect_for=0).run().error


def around(address: str, name: str = "agents/writer", **options: Any) -> Workflow:
    """A workflow of one remote step."""
    return Workflow(name="Publish", steps=[RemoteRunnable(address, name, **options)])


def child_of(served: Served, run_id: str) -> Any:
    """The latest run beneath this one, as its server has it now."""
    child, *_ = served.list(parent_run_id=run_id).runs
    return served.get(child.run_id)


def end_of(stream: Stream) -> Any:
    """The terminal event of the stream's own run; what runs beneath has its own, before that."""
    events = stream.rest()
    ends = [e for e in events if kind_of(e) in TERMINAL and not e.HasField("source")]
    assert ends == events[-1:]
    return ends[0]


class Stuck:
    """A writer that says something, and then is in the middle of a tool call until it is let go."""

    def __init__(self, name: str = "writer") -> None:
        self.reached, self.go, self.interrupted = Signal(), Signal(), Signal()
        self.runnable = runnable(id=name)(self.write)

    async def write(self, input: str, ctx: RunContext) -> Any:
        yield "so "
        yield "far "
        with ctx.tool_call("call-1", "publish", '{"a": 1}') as returned:
            self.reached.set()
            try:
                await self.go.come()
            except asyncio.CancelledError:
                self.interrupted.set()
                raise
            ctx.write("and on")
            returned("published")


# --- joining


def test_a_remote_step_s_events_join_the_stream(serve: Serve) -> None:
    """Text, reasoning, tool calls, own events and usage come as the run's own, with its path."""

    @runnable(id="writer")
    async def writer(input: str, ctx: RunContext) -> Any:
        ctx.think("hm")
        with ctx.tool_call("call-1", "look", "{}") as returned:
            returned("seen")
        ctx.emit("mood", {"is": "good"})
        ctx.use(Usage(input_tokens=7, output_tokens=3, cost=0.5, steps=1))
        yield f"on {input}"

    here = serve(around(serve(writer).address, id="author"))
    stream = here.run("workflows/publish", "trams")
    end = end_of(stream).run_completed
    assert end.output == "on trams"
    heard = [
        (kind_of(e), list(e.source.path)) for e in stream.events if "author" in e.source.path[2:]
    ]
    path = ["publish", "author", "author"]
    assert [kind for kind, _ in heard] == [
        "run_started",
        "reasoning_delta",
        "tool_call_started",
        "tool_call_completed",
        "custom",
        "content_delta",
        "run_completed",
    ]
    assert all(where == path for _, where in heard)
    (call,) = end.tool_calls
    child = child_of(here, stream.events[0].run_id)
    assert (call.run_id, call.result) == (child.run_id, "seen")
    assert (end.usage.total_tokens, end.usage.cost, end.usage.tool_calls) == (10, 0.5, 1)
    assert child.usage.steps == 1


def test_a_remote_run_is_the_same_run_there(serve: Serve) -> None:
    """It has the same run_id, session, user, text and data there as here."""
    seen: list[Any] = []

    @runnable(id="writer")
    async def writer(input: str, input_data: Any, ctx: RunContext) -> None:
        seen.append((ctx.run_id, ctx.session_id, ctx.user_id, input, input_data, dict(ctx.labels)))

    there = serve(writer)
    here = serve(RemoteRunnable(there.address, "agents/writer"))
    spec: dict[str, Any] = {"run_id": "r-1", "session_id": "s-1", "user_id": "ann"}
    end_of(here.run("writer", "text", labels={"k": "v"}, input_data={"n": 1}, **spec))
    assert seen == [("r-1", "s-1", "ann", "text", {"n": 1}, {"k": "v"})]
    assert there.get("r-1").state == here.get("r-1").state == State.RUN_STATE_COMPLETED


def test_what_runs_beneath_a_remote_run_is_heard_below_it(serve: Serve) -> None:
    """Members of a remote workflow keep their run_ids, and have their paths from the root here."""

    @runnable(id="inner")
    async def inner(input: str, ctx: RunContext) -> str:
        with ctx.tool_call("call-1", "look"):
            pass
        return "made"

    there = serve(Workflow(name="Deep", steps=[inner]))
    here = serve(around(there.address, "workflows/deep"))
    stream = here.run("workflows/publish")
    end = end_of(stream).run_completed
    assert end.output == "made"
    deep = child_of(here, stream.events[0].run_id)
    (inner_run,) = there.list(parent_run_id=deep.run_id).runs
    told = [e for e in stream.events if e.source.run_id == inner_run.run_id]
    assert kind_of(told[0]) == "run_started"
    assert kind_of(told[-1]) == "run_completed"
    assert {tuple(e.source.path) for e in told} == {("publish", "deep", "deep", "inner", "inner")}
    assert [call.run_id for call in end.tool_calls] == [inner_run.run_id]
    assert deep.output_data["steps"][0]["output"] == "made"


def test_a_remote_result_that_was_not_streamed_is_the_result_here(serve: Serve) -> None:
    """A result that the remote's code put in place of its text, and its data, come through."""

    @runnable(id="writer")
    async def writer(input: str, ctx: RunContext) -> None:
        ctx.write("draft")
        ctx.set_output("final", {"n": 1})

    here = serve(RemoteRunnable(serve(writer).address, "agents/writer"))
    end = end_of(here.run("writer")).run_completed
    assert (end.output, end.output_data["n"]) == ("final", 1)


def test_a_remote_runnable_can_be_run_in_process(serve: Serve) -> None:
    """`run` and `arun` of a remote runnable stream and answer as an agent's do."""

    @runnable(id="writer")
    async def writer(input: str) -> Any:
        yield "a"
        yield "b"

    remote = RemoteRunnable(serve(writer).address, "agents/writer")
    chunks = list(remote.run("x", stream=True))
    assert chunks[0].event == RunEvent.run_started
    assert chunks[-1].event == RunEvent.run_completed
    assert chunks[-1].content == "ab"
    assert asyncio.run(_arun(remote)).content == "ab"


async def _arun(remote: RemoteRunnable) -> Any:
    return await remote.arun("x")


# --- ends


def test_a_remote_failure_fails_the_run_and_keeps_its_text(serve: Serve) -> None:
    """The error here has the remote error's type and words; what was made before stays."""

    @runnable(id="writer")
    async def writer(input: str) -> Any:
        yield "half"
        raise LookupError("no such thing")

    here = serve(RemoteRunnable(serve(writer).address, "agents/writer"))
    end = end_of(here.run("writer")).run_failed
    assert (end.error.type, end.output) == ("RemoteRunFailed", "half")
    assert end.error.message == "the remote agents/writer failed: LookupError: no such thing"


def test_an_unknown_remote_fails_the_run_at_once(serve: Serve) -> None:
    """A name that the other server does not have fails the run with that server's words."""
    here = serve(RemoteRunnable(serve().address, "agents/writer"))
    end = end_of(here.run("writer")).run_failed
    assert end.error.type == "RunnableNotFound"
    assert "agents/writer" in end.error.message


def test_a_server_that_is_not_there_fails_the_run(serve: Serve) -> None:
    """After `reconnect_for` seconds a run ends FAILED, and the error names no address."""
    remote = RemoteRunnable("127.0.0.1:1", "agents/writer", reconnect_for=0.3)
    end = end_of(serve(remote).run("writer")).run_failed
    assert end.error.type == "ConnectionLost"
    assert "127.0.0.1" not in end.error.message


@pytest.mark.parametrize("name", ["writer", "agents/", "steps/writer", "agents/No"])
def test_a_remote_needs_a_full_name(name: str) -> None:
    """What is no full name is refused where it is written down."""
    with pytest.raises(ValueError, match="full name"):
        RemoteRunnable("127.0.0.1:1", name)


def test_a_remote_run_cannot_outlive_its_follower() -> None:
    """CONTINUE is refused where it is written down: nobody would stop such a run."""
    with pytest.raises(ValueError, match="CONTINUE"):
        RemoteRunnable("127.0.0.1:1", "agents/w", on_disconnect=DisconnectPolicy.CONTINUE)


# --- stopping


def test_a_graceful_cancel_lets_the_remote_tool_finish(serve: Serve) -> None:
    """The remote run is told who, why and how long, cause PARENT; its text and ledger come back."""
    stuck = Stuck()
    there = serve(stuck.runnable, grace_period=0.1)
    here = serve(around(there.address))
    stream = here.run("workflows/publish")
    run_id = stream.next().run_id
    stuck.reached.wait()
    answer = here.cancel(run_id, reason="enough", grace_period=seconds(60))
    assert answer.outcome == Outcome.CANCEL_OUTCOME_REQUESTED
    child = child_of(here, run_id).run_id
    until(lambda: there.get(child).state == State.RUN_STATE_CANCELLING)
    # Longer than the other server's own grace period, and than any patience of ours.
    for served in (here, there):
        waited = served.stub.WaitRun(v1.WaitRunRequest(run_id=child, timeout=seconds(0.5)))
        assert waited.run.state == State.RUN_STATE_CANCELLING
    stuck.go.set()
    end = end_of(stream).run_cancelled
    assert not stuck.interrupted.is_set()
    assert end.cancellation.cause == Cause.CANCEL_CAUSE_USER
    (call,) = end.tool_calls
    assert (call.result, call.state) == ("published", run_pb2.TOOL_CALL_STATE_COMPLETED)
    mine, its = here.get(child), there.get(child)
    assert mine.output == its.output == "so far and on"
    for run in (mine, its):
        assert run.state == State.RUN_STATE_CANCELLED
        assert run.cancellation.cause == Cause.CANCEL_CAUSE_PARENT
        assert run.cancellation.reason == "enough"
    assert its.cancellation.actor == mine.cancellation.actor == end.cancellation.actor


@steady
def test_an_immediate_cancel_interrupts_the_remote_tool(serve: Serve) -> None:
    """The remote tool is interrupted, and the ledger and the text here say so."""
    stuck = Stuck()
    there = serve(stuck.runnable)
    here = serve(around(there.address))
    stream = here.run("workflows/publish")
    stuck.reached.wait()
    run_id = stream.next().run_id
    here.cancel(run_id, mode=Mode.CANCEL_MODE_IMMEDIATE)
    end = end_of(stream).run_cancelled
    stuck.interrupted.wait()
    assert not end.abandoned
    (call,) = end.tool_calls
    assert call.state == run_pb2.TOOL_CALL_STATE_INTERRUPTED
    child = child_of(here, run_id)
    assert child.output == "so far "
    its = there.wait(child.run_id)
    assert its.cancellation.mode == Mode.CANCEL_MODE_IMMEDIATE
    assert its.cancellation.cause == Cause.CANCEL_CAUSE_PARENT


@steady
def test_a_hastened_cancel_is_hastened_there(serve: Serve) -> None:
    """IMMEDIATE after GRACEFUL reaches the remote tool, and the first reason stands."""
    stuck = Stuck()
    there = serve(stuck.runnable)
    here = serve(around(there.address))
    stream = here.run("workflows/publish")
    stuck.reached.wait()
    run_id = stream.next().run_id
    here.cancel(run_id, reason="first", grace_period=seconds(60))
    here.cancel(run_id, reason="second", mode=Mode.CANCEL_MODE_IMMEDIATE)
    assert end_of(stream).run_cancelled.cancellation.reason == "first"
    stuck.interrupted.wait()
    its = there.wait(child_of(here, run_id).run_id)
    assert its.cancellation.reason == "first"
    assert its.cancellation.mode == Mode.CANCEL_MODE_IMMEDIATE


@steady
def test_the_grace_period_travels(serve: Serve) -> None:
    """When it is up, the remote tool is interrupted, whatever the other server's default is."""
    stuck = Stuck()
    there = serve(stuck.runnable, grace_period=60.0)
    here = serve(around(there.address))
    stream = here.run("workflows/publish")
    stuck.reached.wait()
    here.cancel(stream.next().run_id, grace_period=seconds(0.2))
    end = end_of(stream).run_cancelled
    stuck.interrupted.wait()
    assert not end.abandoned


def test_a_cancel_while_the_server_is_not_there_waits_for_nothing(serve: Serve) -> None:
    """A remote run that has not begun, on a server that cannot be reached, is stopped at once."""
    here = serve(
        RemoteRunnable("127.0.0.1:1", "agents/writer", reconnect_for=300), grace_period=300
    )
    stream = here.run("writer")
    run_id = stream.next().run_id
    until(lambda: here.get(run_id).state == State.RUN_STATE_RUNNING)
    here.cancel(run_id)
    assert end_of(stream).run_cancelled.cancellation.cause == Cause.CANCEL_CAUSE_USER


@steady
def test_a_remote_s_own_cancel_cancels_the_member_alone(serve: Serve) -> None:
    """Whoever stops the remote run stops the step, with their own reason; the workflow goes on."""
    stuck = Stuck()
    there = serve(stuck.runnable)

    @runnable(id="after")
    def after(input: str) -> str:
        return f"after: {input}"

    remote = RemoteRunnable(there.address, "agents/writer")
    here = serve(Workflow(name="Publish", steps=[remote, after]))
    stream = here.run("workflows/publish")
    run_id = stream.next().run_id
    stuck.reached.wait()
    child = child_of(here, run_id).run_id
    there.cancel(child, reason="not this one", mode=Mode.CANCEL_MODE_IMMEDIATE)
    end = end_of(stream).run_completed
    assert end.output == "after: so far "
    mine = here.get(child)
    assert mine.state == State.RUN_STATE_CANCELLED
    assert mine.output == "so far "
    assert mine.cancellation.cause == Cause.CANCEL_CAUSE_USER
    assert mine.cancellation.reason == "not this one"
    assert mine.cancellation.actor == there.get(child).cancellation.actor


def test_code_that_swallows_its_cancel_there_does_not_hold_the_run_here(serve: Serve) -> None:
    """An IMMEDIATE stop waits a moment for the remote's last words, and no longer."""
    go = Signal()

    @runnable(id="writer")
    def deaf(input: str, ctx: RunContext) -> None:
        with ctx.tool_call("call-1", "publish"):
            ctx.write("said")
            go.wait_stubbornly()

    there = serve(deaf, abandon_after=60.0)
    here = serve(around(there.address))
    stream = here.run("workflows/publish")
    stream.until("content_delta")
    here.cancel(stream.events[0].run_id, mode=Mode.CANCEL_MODE_IMMEDIATE)
    end = end_of(stream).run_cancelled
    child = child_of(here, stream.events[0].run_id)
    go.set()
    assert not child.abandoned
    (call,) = end.tool_calls
    assert call.state == run_pb2.TOOL_CALL_STATE_UNKNOWN


# --- time and money


@steady
def test_the_deadline_crosses(serve: Serve) -> None:
    """The remote run has less time than the workflow, and the workflow ends with cause DEADLINE."""
    left: list[float | None] = []
    stuck = Signal()

    @runnable(id="writer")
    async def writer(input: str, ctx: RunContext) -> Any:
        left.append(ctx.cancel_token.time_remaining())
        yield "begun"
        await stuck.come()

    ran: list[str] = []

    @runnable(id="after")
    def after(input: str) -> None:
        ran.append(input)

    there = serve(writer)
    remote = RemoteRunnable(there.address, "agents/writer")
    here = serve(Workflow(name="Publish", steps=[remote, after]))
    stream = here.run("workflows/publish", timeout=1.5)
    end = end_of(stream).run_cancelled
    assert end.cancellation.cause == Cause.CANCEL_CAUSE_DEADLINE
    assert not end.abandoned
    assert ran == []
    assert left[0] is not None
    assert left[0] < 1.3
    child = child_of(here, stream.events[0].run_id)
    assert child.output == "begun"
    its = there.wait(child.run_id)
    assert its.cancellation.cause == Cause.CANCEL_CAUSE_DEADLINE


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        ({"max_tokens": 50}, "max_tokens"),
        ({"max_cost": 5.0}, "max_cost"),
        ({"max_tool_calls": 5}, "max_tool_calls"),
    ],
)
def test_what_is_left_of_the_budget_crosses(
    serve: Serve, limits: dict[str, Any], name: str
) -> None:
    """The remote run is stopped at what the steps before it have left, and so is the workflow."""
    spent: list[int] = []

    @runnable(id="first")
    async def first(input: str, ctx: RunContext) -> None:
        ctx.use(Usage(input_tokens=20, cost=2.0, tool_calls=2))

    @runnable(id="writer")
    async def writer(input: str, ctx: RunContext) -> None:
        for count in range(1000):
            spent.append(count)
            ctx.use(Usage(output_tokens=10, cost=1.0, tool_calls=1))

    there = serve(writer)
    remote = RemoteRunnable(there.address, "agents/writer")
    here = serve(Workflow(name="Publish", steps=[first, remote]))
    stream = here.run("workflows/publish", limits=limits)
    end = end_of(stream).run_cancelled
    assert end.cancellation.cause == Cause.CANCEL_CAUSE_BUDGET
    assert end.cancellation.limit == name
    assert len(spent) == (4 if name == "max_tool_calls" else 3)
    its = there.get(child_of(here, stream.events[0].run_id).run_id)
    assert its.cancellation.limit == name
    if name == "max_tool_calls":  # what was refused counts on neither server
        assert (its.usage.tool_calls, end.usage.tool_calls) == (3, 5)


# --- what is left behind


async def test_a_loop_s_channel_is_closed_with_it_or_when_told(serve: Serve) -> None:
    """Every event loop has one channel of its own, which later runs on it use again."""

    @runnable(id="writer")
    async def writer(input: str, ctx: RunContext) -> str:
        return "x"

    remote = RemoteRunnable(serve(writer).address, "agents/writer")
    await remote.arun()
    first = await remote._clients.get()
    await remote.arun()
    assert await remote._clients.get() is first
    other = await asyncio.to_thread(asyncio.run, _client_of(remote))
    assert other is not first
    assert _is_closed(other)
    assert not _is_closed(first)
    await remote.aclose()
    assert _is_closed(first)
    assert (await remote.arun()).status is RunStatus.completed
    await remote.aclose()


async def _client_of(remote: RemoteRunnable) -> Any:
    await remote.arun()
    return await remote._clients.get()


def _is_closed(client: Any) -> bool:
    return bool(client._channel._channel.closed())


@pytest.fixture
async def local_engine_is_warm() -> None:
    """The engine of this process has its threads, which stay, before a test counts threads."""
    begun = asyncio.Event()

    async def waits(ctx: RunContext) -> None:
        ctx.cancel_token.on_cancel(lambda _: None)
        begun.set()
        await asyncio.sleep(60)

    warm, run_id = Workflow(name="Warm", steps=[waits]), f"warm-{uuid.uuid4()}"
    running = asyncio.ensure_future(warm.arun(run_id=run_id))
    await begun.wait()
    assert warm.cancel_run(run_id)
    await running


@steady
async def test_a_run_leaves_no_task_behind(local_engine_is_warm: None, serve: Serve) -> None:
    """After a cancelled remote run no task of it is at work on the loop."""
    stuck = Stuck()
    remote = RemoteRunnable(serve(stuck.runnable).address, "agents/writer")
    before = asyncio.all_tasks()
    run_id = f"r-left-{uuid.uuid4()}"
    running = asyncio.ensure_future(remote.arun(run_id=run_id))
    await stuck.reached.come()
    assert remote.cancel_run(run_id, mode=CancelMode.IMMEDIATE)
    output = await running
    assert (output.status, output.cause) == (RunStatus.cancelled, CancelCause.USER)
    assert [call.state for call in output.tools] == [ToolCallState.INTERRUPTED]
    await remote.aclose()
    left = asyncio.all_tasks() - before - {running}
    assert not left


async def test_parts_and_messages_are_passed_on(serve: Serve) -> None:
    """Byte for byte, also through a workflow; what is not taken there fails the run here."""

    @runnable(id="sees")
    def sees(parts: tuple[Part, ...], messages: tuple[Message, ...]) -> str:
        return f"{parts} {messages[0].text}" if parts[0].data == b"\x89PNG" else "other bytes"

    @runnable(id="blind")
    def blind(input: str) -> str:
        return input

    image = Part(data=b"\x89PNG", media_type="image/png", name="cat.png")
    served = serve(sees, blind)
    given: dict[str, Any] = {"parts": [image], "messages": [Message.of("user", "before")]}
    remote = RemoteRunnable(served.address, "agents/sees")
    for made in (remote, Workflow(steps=[remote])):
        output = await made.arun(**given)
        assert str(output.content).endswith(f"({image},) before")
    output = await RemoteRunnable(served.address, "agents/blind").arun(**given)
    assert output.status is RunStatus.error
    assert "spec.parts: agents/blind takes none" in output.error
