"""A real client beside a real server, and the small scripted runnables that these tests serve.

Nothing here sleeps or guesses: a runnable says that it has come somewhere by a Signal, and a test
waits for that.
"""

import asyncio
import contextlib
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from pullcord.engine.options import EngineOptions
from pullcord.run.errors import RunCancelledError
from pullcord.server import RunServer
from pullcord.settings import Settings
from pullcord.v1 import cancel_pb2, event_pb2, run_pb2, run_service_pb2
from pullcord.v1.run_service_pb2_grpc import RunServiceStub

from tests.engine.driving import live_run
from tests.steady import PATIENCE

TERMINAL = {"run_completed", "run_cancelled", "run_failed"}

State = run_pb2.RunState
Cause = cancel_pb2.CancelCause
Mode = cancel_pb2.CancelMode
Outcome = cancel_pb2.CancelOutcome
Policy = run_pb2.DisconnectPolicy
v1 = run_service_pb2


class Signal:
    """Something that happens once. Threads wait for it, and so do tasks of any loop."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def set(self) -> None:
        with self._lock:
            self._event.set()
            waiters, self._waiters = self._waiters, []
        for loop, future in waiters:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                loop.call_soon_threadsafe(lambda f=future: f.done() or f.set_result(None))

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self) -> None:
        assert self._event.wait(PATIENCE), "what this test waits for did not happen"

    def wait_stubbornly(self) -> None:
        """Waits as code does that swallows every interrupt."""
        while not self._event.is_set():
            with contextlib.suppress(RunCancelledError):
                self._event.wait(0.02)

    async def come(self) -> None:
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._event.is_set():
                return
            future = loop.create_future()
            self._waiters.append((loop, future))
        await future


class Served:
    """A server of these agents, and a client of it."""

    def __init__(self, server: RunServer) -> None:
        self.server = server
        self.address = server.start()
        self._channels: list[grpc.Channel] = []
        self.channel = self.connect()
        self.stub = RunServiceStub(self.channel)

    @property
    def engine(self) -> Any:
        return self.server.engine

    def watchers(self, run_id: str) -> int:
        """How many follow a live run."""
        return live_run(self.engine, run_id).presence.watchers

    def connect(self, *options: tuple[str, Any]) -> grpc.Channel:
        """Another connection of its own."""
        channel = grpc.insecure_channel(
            self.address, options=[("grpc.use_local_subchannel_pool", 1), *options]
        )
        self._channels.append(channel)
        return channel

    def start(self, runnable: str, input: str = "", **spec: Any) -> run_pb2.Run:
        return self.stub.StartRun(
            v1.StartRunRequest(spec=make_spec(runnable, input, **spec)), timeout=PATIENCE
        ).run

    def run(
        self, runnable: str, input: str = "", timeout: float | None = None, **spec: Any
    ) -> "Stream":
        return Stream(
            self.stub.Run(v1.RunRequest(spec=make_spec(runnable, input, **spec)), timeout=timeout)
        )

    def watch(self, run_id: str, after_sequence: int = 0) -> "Stream":
        request = v1.WatchRunRequest(run_id=run_id, after_sequence=after_sequence)
        return Stream(self.stub.WatchRun(request))

    def get(self, run_id: str) -> run_pb2.Run:
        return self.stub.GetRun(v1.GetRunRequest(run_id=run_id), timeout=PATIENCE).run

    def wait(self, run_id: str) -> run_pb2.Run:
        request = v1.WaitRunRequest(run_id=run_id, timeout=seconds(PATIENCE))
        run = self.stub.WaitRun(request, timeout=PATIENCE + 5).run
        assert run.end_time.seconds, f"{run_id} did not end"
        return run

    def cancel(self, run_id: str, **request: Any) -> v1.CancelRunResponse:
        return self.stub.CancelRun(
            v1.CancelRunRequest(run_id=run_id, **request), timeout=PATIENCE + 5
        )

    def list(self, **request: Any) -> v1.ListRunsResponse:
        return self.stub.ListRuns(v1.ListRunsRequest(**request), timeout=PATIENCE)

    def tasks(self) -> int:
        """Tasks on the RPC loop: a few of gRPC's own, and one for each call under way."""
        background = self.server._background
        assert background is not None
        loop = background._loop
        assert loop is not None
        return len(asyncio.all_tasks(loop))

    def until(self, what: Callable[[], bool]) -> None:
        until(what)

    def wait_free(self) -> None:
        """Until no run holds capacity."""
        until(lambda: self.engine.occupied == 0)

    def expire(self) -> None:
        """Until no early cancel is kept."""
        until(lambda: self.engine.remains().tombstones == 0)

    def close(self) -> None:
        for channel in self._channels:
            channel.close()
        self.server.stop()


class Stream:
    """A Run or WatchRun call that remembers what came."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.events: list[event_pb2.RunEvent] = []

    def next(self) -> event_pb2.RunEvent:
        self.events.append(next(self.call).event)
        return self.events[-1]

    def until(self, kind: str) -> event_pb2.RunEvent:
        """Reads on to the first event of this kind."""
        while True:
            event = self.next()
            if kind_of(event) == kind:
                return event

    def rest(self) -> list[event_pb2.RunEvent]:
        """Reads to the end of the stream; all that ever came. Raises what the call raises."""
        self.events.extend(response.event for response in self.call)
        return self.events

    def end(self) -> event_pb2.RunEvent:
        """Reads to the end, and checks all that is promised of every stream; its terminal event."""
        events = self.rest()
        assert self.call.code() is grpc.StatusCode.OK
        kinds = [kind_of(event) for event in events]
        assert kinds[0] in {"run_started", "gap"}
        own = [kind_of(event) for event in events if not event.HasField("source")]  # no child's
        assert [kind for kind in own if kind in TERMINAL] == kinds[-1:]
        numbers = [e.sequence for e in events if kind_of(e) not in {"heartbeat", "gap", "snapshot"}]
        assert numbers == sorted(set(numbers))
        return events[-1]

    def text(self) -> str:
        return "".join(event.content_delta.text for event in self.events)


Serve = Callable[..., Served]
"""The fixture `serve`."""

WORKERS = "workers"

in_both_modes = pytest.mark.parametrize("serve", ["in-process", WORKERS], indirect=True)
"""For a test that serves runnables of its module only: a worker process has to import them."""


def app_of(agents: Iterable[Any]) -> str:
    """The source of a module that serves these runnables as `server`; AssertionError if a worker
    cannot import one of them."""
    lines, names = ["from pullcord import RunServer"], []
    for number, agent in enumerate(agents):
        module = next(
            (m for m in list(sys.modules) if m.startswith("tests.") and _name_in(m, agent)), None
        )
        assert module, f"{agent.id!r} is made in a test: no worker can import it"
        names.append(f"agent_{number}")
        lines.append(f"from {module} import {_name_in(module, agent)} as {names[-1]}")
    return "\n".join([*lines, f"server = RunServer(agents=[{', '.join(names)}])", ""])


def _name_in(module: str, agent: Any) -> str:
    found = vars(sys.modules[module])
    return next((name for name, value in found.items() if value is agent), "")


def kind_of(event: event_pb2.RunEvent) -> str:
    return event.WhichOneof("payload") or ""


def make_spec(runnable: str, input: str = "", **spec: Any) -> run_pb2.RunSpec:
    name = runnable if "/" in runnable else f"agents/{runnable}"
    return run_pb2.RunSpec(runnable=name, input=input, **spec)


def make_settings(**engine: Any) -> Settings:
    """Settings that do not look at the environment; keywords are the engine's options."""
    options = EngineOptions.__dataclass_fields__  # `workers` are threads here, and not processes
    own = {name: engine.pop(name) for name in list(engine) if name not in options}
    # A machine that stands still for a moment must not use up what a test does not measure.
    waits = {"grace_period": PATIENCE, "abandon_after": PATIENCE, "stall_after": PATIENCE}
    return Settings(_env_file=None, engine=EngineOptions(**(waits | engine)), **own)


def seconds(number: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(number * 1e9))
    return duration


class Refusal:
    """A refused call: its code and its google.rpc details."""

    def __init__(self, error: grpc.RpcError) -> None:
        self.code = error.code()
        self.words = error.details()
        self.info = error_details_pb2.ErrorInfo()
        self.bad_request = error_details_pb2.BadRequest()
        self.retry = error_details_pb2.RetryInfo()
        self.resource = error_details_pb2.ResourceInfo()
        status = rpc_status.from_call(error)
        assert status is not None, f"a status without details: {self.code} {self.words}"
        assert status.code == self.code.value[0]
        self.infos = 0
        for detail in status.details:
            self.infos += detail.Is(self.info.DESCRIPTOR)
            for part in (self.info, self.bad_request, self.retry, self.resource):
                detail.Unpack(part)
        assert self.infos == 1
        assert self.info.domain == "pullcord"

    @property
    def reason(self) -> str:
        return self.info.reason

    @property
    def fields(self) -> list[str]:
        return [violation.field for violation in self.bad_request.field_violations]


def refusal(call: Callable[[], Any]) -> Refusal:
    """What a call is refused with; AssertionError if it is not."""
    try:
        call()
    except grpc.RpcError as error:
        return Refusal(error)
    raise AssertionError("the call was not refused")


def threads_of_ours() -> Counter[str]:
    """How many there are, by name. Subtract what was before: that may be ending meanwhile.

    The writers of stdout and stderr are the process's, and stay.
    """
    names = (t.name for t in threading.enumerate() if t.name.startswith("pullcord-"))
    return Counter(name for name in names if name != "pullcord-lines")


def until(what: Callable[[], bool]) -> None:
    """Waits until something is so that nobody announces, by looking again and again."""
    tick = threading.Event()
    for _ in range(int(PATIENCE / 0.01)):
        if what():
            return
        tick.wait(0.01)
    raise AssertionError("what this test waits for did not come")


def numbered(events: Iterable[event_pb2.RunEvent]) -> Iterator[tuple[int, str]]:
    """(sequence, kind) of the events that have numbers of their own."""
    for event in events:
        if kind_of(event) not in {"heartbeat", "gap", "snapshot"}:
            yield event.sequence, kind_of(event)
