"""Workers that die, freeze or do not let go: what becomes of their runs, and of all others."""

import os
import signal
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pullcord.client import RunClient, RunStream
from pullcord.executors.workers import process
from pullcord.run.cancel import CancelMode, StopStage
from pullcord.run.errors import RunNotPaused
from pullcord.run.events import (
    TERMINAL_PAYLOADS,
    ContentDelta,
    RunCancelled,
    RunFailed,
    RunPaused,
    ToolCallState,
)
from pullcord.run.record import Decision, Run, RunFilter
from pullcord.run.state import RunState

from tests.executors.workers.conftest import ServeApp, Served
from tests.transports.harness import until

APP = """
import os
if os.path.exists("broken"):
    os._exit(3)
import asyncio, ctypes, math, os, resource, signal, threading, time
from pullcord import RunContext, RunServer, runnable
from pullcord.agent import Agent
from pullcord.models.offline import OfflineModel
from pullcord.run.events import ToolCall
from pullcord.run.usage import Usage
from pullcord.team import Team
from pullcord.workflow import Parallel, Workflow

def dies(how):
    time.sleep(0.01)  # text that left `yield` a millisecond before is kept
    if how == "exit":
        os._exit(7)
    if how == "segfault":
        ctypes.string_at(0)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "memory":
        resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28))
        os.kill(os.getpid(), signal.SIGKILL if grown() else 0)

def grown():
    kept = []
    try:
        while True:
            kept.append(bytearray(2**24))
    except MemoryError:
        return True

@runnable
def dying(input: str, ctx: RunContext):
    ctx.use(Usage(output_tokens=3))
    yield "last words"
    dies(input)

@runnable
def speaks(input: str):
    yield "on and on"
    while True:
        time.sleep(0.01)
        yield "."

@runnable
async def waits(input: str, ctx: RunContext):
    yield "waiting"
    with ctx.tool_call("call-1", "publish"):
        await asyncio.sleep(600)

@runnable
async def careful(input: str, ctx: RunContext):
    yield "in the middle"
    with ctx.critical():
        await asyncio.sleep(600)

@runnable
def ignores(input: str):
    yield "never mind"
    while True:
        try:
            while True:
                time.sleep(0.01)
        except BaseException:
            pass

@runnable(isolation="process")
def alone(input: str):
    yield "alone"
    try:
        if input == "c":
            sum(range(10**12))  # one call in C, which no exception reaches
        while True:
            try:
                while True:
                    time.sleep(0.01)
            except BaseException:
                pass
    finally:
        pass

@runnable(isolation="process")
def dies_alone(input: str):
    yield "alone, too"
    dies(input)

@runnable
def quick(input: str):
    return "done"

@runnable
def slow_start(input: str):
    while not os.path.exists("go"):
        time.sleep(0.01)
    return str(os.getpid())

@runnable
async def asks(ctx: RunContext):
    yield "may I? "
    await ctx.ask("well?", [ToolCall("call-1", "delete", "{}")])

teller = Agent(name="Teller", model=OfflineModel(words_per_second=20))
flow = Workflow(name="Flow", steps=[Parallel(teller, waits)])
crew = Team(
    name="Crew",
    model=OfflineModel(words_per_second=math.inf, hands_to=("waits", "speaks")),
    members=[waits, speaks],
)
asking = Workflow(name="Asking", steps=[asks])
server = RunServer(
    agents=[dying, speaks, waits, careful, ignores, alone, dies_alone, quick, slow_start, asks],
    teams=[crew],
    workflows=[flow, asking],
)
"""


def speaking(client: RunClient, name: str, input: str = "") -> RunStream:
    """A run that has said something."""
    stream = client.run(name, input)
    next(event for event in stream if isinstance(event.payload, ContentDelta))
    return stream


def ended(client: RunClient, run_id: str) -> Run:
    until(lambda: client.get(run_id).state.is_terminal)
    return client.get(run_id)


def descriptors() -> int:
    """File descriptors that this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def works(served: Served) -> None:
    """New runs are executed."""
    run_id = served.client.start("agents/quick").run_id
    assert served.client.wait(run_id, 60).output == "done"


@pytest.mark.parametrize(
    ("how", "words"),
    [("exit", "exit code 7"), ("segfault", "SIGSEGV"), ("kill", "SIGKILL"), ("memory", "SIGKILL")],
)
def test_a_run_that_kills_its_worker_keeps_what_it_said(
    serve: ServeApp, how: str, words: str
) -> None:
    """It ends FAILED, WorkerDied, with text and usage; a fresh worker takes over."""
    served = serve(APP)
    *_, end = served.client.run("agents/dying", how)
    assert isinstance(end.payload, RunFailed)
    assert end.payload.error.type == "WorkerDied"
    assert words in end.payload.error.message
    assert end.payload.output == "last words"
    assert end.payload.usage.output_tokens == 3
    works(served)
    served.freed()


def test_runs_of_every_kind_end_once_when_their_worker_dies(serve: ServeApp) -> None:
    """Sync, async, in a tool, a workflow with its children: each is FAILED with its text.

    A run that was stopping ends CANCELLED, and a call in flight is UNKNOWN."""
    served = serve(APP)
    client = served.client
    streams = {
        name: speaking(client, name)
        for name in ("agents/speaks", "agents/waits", "workflows/flow", "agents/careful")
    }
    until(lambda: bool(client.get(streams["agents/waits"].run_id).tool_calls))
    client.cancel(streams["agents/careful"].run_id, "enough", grace_period=300)
    os.kill(served.worker(), signal.SIGKILL)
    ends = {}
    for name, stream in streams.items():
        *_, last = stream
        assert last.is_terminal
        ends[name] = client.get(stream.run_id)
    assert ends["agents/careful"].state is RunState.CANCELLED
    assert ends["agents/careful"].output == "in the middle"
    for name in ("agents/speaks", "agents/waits", "workflows/flow"):
        run = ends[name]
        assert run.state is RunState.FAILED
        assert run.error is not None
        assert run.error.type == "WorkerDied"
    assert ends["agents/speaks"].output.startswith("on and on")
    [call] = ends["agents/waits"].tool_calls
    assert call.state is ToolCallState.UNKNOWN
    works(served)
    served.freed()


@pytest.mark.parametrize("name", ["workflows/flow", "teams/crew"])
def test_a_tree_ends_with_its_worker_from_the_leaves_up(serve: ServeApp, name: str) -> None:
    """Its children end FAILED, WorkerDied, each with its text and before its parent, which says so
    once; a call in flight is UNKNOWN in the parent's ledger, too."""
    served = serve(APP)
    client = served.client
    stream = client.run(name)
    said: set[str] = set()
    for event in stream:
        if isinstance(event.payload, ContentDelta) and event.source is not None:
            said.add(event.source.run_id)
        if len(said) == 2 and any(
            call.tool_call_id == "call-1" for call in client.get(stream.run_id).tool_calls
        ):
            break
    children = list(client.list(RunFilter(parent_run_id=stream.run_id)))
    os.kill(served.worker(), signal.SIGKILL)
    events = [event for event in stream if isinstance(event.payload, TERMINAL_PAYLOADS)]
    *_, end = events
    assert isinstance(end.payload, RunFailed)
    assert end.payload.error.type == "WorkerDied"
    assert [event.is_terminal for event in events] == [False] * (len(events) - 1) + [True]
    assert {event.source.run_id for event in events if event.source is not None} >= said
    states = {c.tool_call_id: c.state for c in end.payload.tool_calls}
    assert states["call-1"] is ToolCallState.UNKNOWN
    assert said <= {child.run_id for child in children}
    for run_id in said:
        child = client.get(run_id)
        assert child.error is not None
        assert (child.state, child.error.type) == (RunState.FAILED, "WorkerDied")
        assert child.output
        assert sum(event.is_terminal for event in client.watch(run_id)) == 1
    works(served)
    served.freed()


@pytest.mark.parametrize("name", ["agents/asks", "workflows/asking"])
def test_a_paused_run_ends_with_its_worker(serve: ServeApp, name: str) -> None:
    """FAILED, WorkerDied, with its text; nobody can decide about it any more."""
    served = serve(APP)
    client = served.client
    stream = client.run(name)
    paused = next(event for event in stream if isinstance(event.payload, RunPaused))
    asking = paused.source.run_id if paused.source is not None else stream.run_id
    assert client.get(asking).state is RunState.PAUSED
    os.kill(served.worker(), signal.SIGKILL)
    *_, end = stream
    assert isinstance(end.payload, RunFailed)
    assert end.payload.error.type == "WorkerDied"
    child = client.get(asking)
    assert child.error is not None
    assert (child.state, child.error.type) == (RunState.FAILED, "WorkerDied")
    assert child.output == "may I? "
    with pytest.raises(RunNotPaused):
        client.continue_run(asking, [Decision("call-1", approved=True)])
    works(served)
    served.freed()


def test_runs_that_had_not_begun_move_to_another_worker(serve: ServeApp, tmp_path: object) -> None:
    """They wait for a thread when their worker dies, and complete on the next one."""
    served = serve(APP, workers=1, settings=None, stall_after=0.5)
    client = served.client
    holding = [speaking(client, "agents/speaks") for _ in range(32)]  # every thread
    waiting = client.start("agents/quick").run_id
    before = served.worker()
    assert client.get(waiting).state is RunState.PENDING
    os.kill(before, signal.SIGKILL)
    assert client.wait(waiting, 60).output == "done"
    assert before not in served.workers()
    for stream in holding:
        assert ended(client, stream.run_id).state is RunState.FAILED


def test_a_worker_that_is_frozen_is_replaced(serve: ServeApp) -> None:
    """New runs go to a fresh worker; a stop of a run on the frozen one ends it all the same."""
    served = serve(APP, abandon_after=0.5)
    stream = speaking(served.client, "agents/speaks")
    frozen = served.worker()
    os.kill(frozen, signal.SIGSTOP)
    try:
        works(served)
        served.client.cancel(stream.run_id, "enough", mode=CancelMode.IMMEDIATE)
        *_, end = stream
        assert isinstance(end.payload, RunCancelled)
        assert end.payload.output.startswith("on and on")
        until(lambda: frozen not in served.workers())
    finally:
        if frozen in served.workers():
            os.kill(frozen, signal.SIGCONT)
    served.freed()


def test_a_worker_that_is_retired_for_its_silence_is_killed_with_its_last_run(
    serve: ServeApp,
) -> None:
    """A run that is abandoned in a worker which takes no runs any more does not keep it alive."""
    served = serve(APP, abandon_after=0.5)
    stream = speaking(served.client, "agents/speaks")
    frozen = served.worker()
    os.kill(frozen, signal.SIGSTOP)
    until(lambda: len(served.workers()) == 2)  # it is retired, and another takes its place
    served.client.cancel(stream.run_id, "enough", mode=CancelMode.IMMEDIATE)
    *_, end = stream
    assert isinstance(end.payload, RunCancelled)
    until(lambda: frozen not in served.workers())
    served.freed()


def test_code_that_does_not_stop_is_killed_with_its_worker(serve: ServeApp) -> None:
    """The worker is retired: the run beside it goes on and ends, then the worker is killed."""
    served = serve(APP, abandon_after=0.2)
    client = served.client
    beside = speaking(client, "agents/speaks")
    stubborn = speaking(client, "agents/ignores")
    old = served.worker()
    receipt = client.cancel(stubborn.run_id, mode=CancelMode.IMMEDIATE, wait=30)
    assert receipt.run is not None
    assert receipt.run.abandoned
    *_, end = stubborn
    assert isinstance(end.payload, RunCancelled)
    assert end.payload.stage is StopStage.ABANDON
    works(served)  # on a fresh one
    assert old in served.workers()
    assert client.get(beside.run_id).state is RunState.RUNNING
    client.cancel(beside.run_id, mode=CancelMode.IMMEDIATE)
    until(lambda: old not in served.workers())
    served.freed()


def test_a_killed_run_does_not_wait_until_its_process_is_taken_down(
    serve: ServeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was killed executes nothing more, so its run ends at once, with all that it had said."""
    served = serve(APP)
    before = {served.worker()}
    still_there: list[int] = []

    def exit_of(_: object) -> int:
        readable, written = os.pipe()
        still_there.append(written)
        return readable

    with monkeypatch.context() as patch:
        patch.setattr(process, "_exit_of", exit_of)
        stream = speaking(served.client, "agents/alone", "c")
        served.client.cancel(stream.run_id, "enough", mode=CancelMode.IMMEDIATE)
        *_, end = stream
    assert isinstance(end.payload, RunCancelled)
    assert end.payload.stage is StopStage.KILL
    assert end.payload.output == "alone"
    assert served.workers() != before  # nothing has told that it is gone
    for written in still_there:
        os.close(written)
    until(lambda: served.workers() == before)
    served.freed()


@pytest.mark.parametrize("input", ["c", "python"])
def test_a_run_alone_in_its_process_is_killed(serve: ServeApp, input: str) -> None:
    """Whatever its code does; what it had said is kept, and the terminal event says KILL."""
    served = serve(APP)
    stream = speaking(served.client, "agents/alone", input)
    served.client.cancel(stream.run_id, mode=CancelMode.IMMEDIATE)
    *_, end = stream
    assert isinstance(end.payload, RunCancelled)
    assert end.payload.stage is StopStage.KILL
    assert end.payload.output == "alone"
    assert not end.payload.abandoned
    works(served)
    served.freed()


@pytest.mark.parametrize("how", ["exit", "segfault", "kill"])
def test_a_process_for_itself_takes_nobody_with_it(serve: ServeApp, how: str) -> None:
    """A run beside one that crashes alone notices nothing."""
    served = serve(APP)
    beside = speaking(served.client, "agents/speaks")
    *_, end = served.client.run("agents/dies_alone".replace("_", "-"), how)
    assert isinstance(end.payload, RunFailed)
    assert end.payload.error.type == "WorkerDied"
    assert end.payload.output == "alone, too"
    assert served.client.get(beside.run_id).state is RunState.RUNNING
    served.client.cancel(beside.run_id, mode=CancelMode.IMMEDIATE)
    served.freed()


def test_workers_that_died_leave_nothing_behind(serve: ServeApp) -> None:
    """No file descriptor, no thread, no zombie of a worker that died stays."""
    served = serve(APP)
    works(served)
    before = descriptors()
    for _ in range(3):
        *_, end = served.client.run("agents/dying", "exit")
        assert isinstance(end.payload, RunFailed)
    works(served)
    served.freed()
    until(lambda: len(served.workers()) == 1)
    until(lambda: descriptors() <= before + 2)


def test_health_says_when_workers_crash_one_after_the_other(serve: ServeApp) -> None:
    """NOT_SERVING while no worker comes up any more, and SERVING once one does."""
    served = serve(APP)
    with grpc.insecure_channel(served.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        def status() -> int:
            return int(stub.Check(health_pb2.HealthCheckRequest()).status)

        assert status() == health_pb2.HealthCheckResponse.SERVING
        Path("broken").touch()
        os.kill(served.worker(), signal.SIGKILL)
        until(lambda: status() == health_pb2.HealthCheckResponse.NOT_SERVING)
        waiting = served.client.start("agents/quick").run_id
        assert served.client.get(waiting).state is RunState.PENDING
        Path("broken").unlink()
        until(lambda: status() == health_pb2.HealthCheckResponse.SERVING)
        assert served.client.wait(waiting, 60).output == "done"
