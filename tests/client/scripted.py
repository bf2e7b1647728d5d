"""A real gRPC server whose streams break as the test says, and the events that it serves."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from pullcord.run.cancel import CancelOutcome
from pullcord.run.errors import PullcordError
from pullcord.run.events import ContentDelta, Event, Payload, RunCompleted, RunStarted
from pullcord.run.record import Receipt, Run
from pullcord.run.state import RunState
from pullcord.v1 import run_service_pb2 as v1
from pullcord.v1.run_service_pb2_grpc import (
    RunServiceServicer,
    add_RunServiceServicer_to_server,
)
from pullcord.wire.errors import to_status
from pullcord.wire.event import event_message
from pullcord.wire.run import page_message, receipt_message, run_message

RUN_ID = "run-1"


def event(sequence: int, payload: Payload, run_id: str = RUN_ID) -> Event:
    return Event(run_id, sequence, 1e9 + sequence, payload)


def whole_run(deltas: int = 4) -> list[Event]:
    """A run that started, wrote so many deltas, and completed."""
    texts = [f"{n} " for n in range(deltas)]
    payloads: list[Payload] = [
        RunStarted("agents/counter"),
        *map(ContentDelta, texts),
        RunCompleted("".join(texts)),
    ]
    return [event(n, payload) for n, payload in enumerate(payloads, 1)]


@dataclass(frozen=True)
class Break:
    """Ends one connection after so many messages: with this status or error, or (None) in peace."""

    after: int = 0
    error: grpc.StatusCode | PullcordError | None = grpc.StatusCode.UNAVAILABLE
    repeat: int = 0
    """How many events that the client has seen are sent again first."""


class Script(RunServiceServicer):  # type: ignore[misc]  # generated without types
    """Serves one run; each connection of its stream breaks as the next break says."""

    def __init__(self) -> None:
        self.reset([])

    def reset(self, events: list[Event], *breaks: Break) -> None:
        self.events = events
        self.breaks = list(breaks)
        self.calls: list[tuple[str, Any]] = []
        self.actors: set[str] = set()
        self.refusal: PullcordError | None = None
        self.runs: list[Run] = []

    def _stream(self, after: int, context: Any) -> Iterator[Any]:
        script = self.breaks.pop(0) if self.breaks else None
        repeat = script.repeat if script else 0
        rest = [e for e in self.events if e.sequence > after - repeat]
        for count, item in enumerate(rest):
            if script is not None and count == script.after:
                break
            yield v1.RunResponse(event=event_message(item))
        if script is not None and script.error is not None:
            fail(context, script.error)

    def _note(self, name: str, request: Any, context: Any) -> None:
        self.calls.append((name, request))
        self.actors.add(dict(context.invocation_metadata())["pullcord-actor"])
        if self.refusal is not None:
            fail(context, self.refusal)

    def Run(self, request: Any, context: Any) -> Iterator[Any]:
        self._note("Run", request, context)
        yield from self._stream(0, context)

    def WatchRun(self, request: Any, context: Any) -> Iterator[Any]:
        self._note("WatchRun", request, context)
        yield from self._stream(request.after_sequence, context)

    def StartRun(self, request: Any, context: Any) -> Any:
        self._note("StartRun", request, context)
        run = Run(request.spec.run_id, request.spec.runnable, RunState.PENDING)
        return v1.StartRunResponse(run=run_message(run))

    def WaitRun(self, request: Any, context: Any) -> Any:
        self._note("WaitRun", request, context)
        if self.breaks:
            fail(context, self.breaks.pop(0).error)
        return v1.WaitRunResponse(run=run_message(self._run()))

    def GetRun(self, request: Any, context: Any) -> Any:
        self._note("GetRun", request, context)
        return v1.GetRunResponse(run=run_message(self._run()))

    def ListRuns(self, request: Any, context: Any) -> Any:
        self._note("ListRuns", request, context)
        first = int(request.page_token or 0)
        after = first + request.page_size
        token = str(after) if after < len(self.runs) else ""
        return page_message(self.runs[first:after], token)

    def CancelRun(self, request: Any, context: Any) -> Any:
        self._note("CancelRun", request, context)
        return receipt_message(Receipt(CancelOutcome.REQUESTED, accept_time=5.0))

    def CancelRuns(self, request: Any, context: Any) -> Any:
        self._note("CancelRuns", request, context)
        return v1.CancelRunsResponse(results=[v1.CancelRunsResult(run_id="a", outcome=1)])  # type: ignore[arg-type]

    def ListRunnables(self, request: Any, context: Any) -> Any:
        self._note("ListRunnables", request, context)
        return v1.ListRunnablesResponse(runnables=[{"name": "agents/a", "id": "a", "kind": 1}])  # type: ignore[list-item]

    def _run(self) -> Run:
        return Run(
            RUN_ID, "agents/counter", RunState.COMPLETED, last_sequence=self.events[-1].sequence
        )

    def names(self) -> list[str]:
        """Which calls came, in order."""
        return [name for name, _ in self.calls]


def fail(context: Any, error: grpc.StatusCode | PullcordError | None) -> None:
    if isinstance(error, PullcordError):
        context.abort_with_status(to_status(error))
    elif error is not None:
        context.abort(error, "as the script says")


@contextmanager
def serving(script: RunServiceServicer, port: int = 0) -> Iterator[str]:
    """The address at which the script is served; whatever is open ends with it."""
    pool = ThreadPoolExecutor(8)
    server = grpc.server(pool)
    add_RunServiceServicer_to_server(script, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
        pool.shutdown()
