"""The driver of the conformance suite for the Python client, see tests/conformance/README.md.

It does as it is told through the public face of `pullcord.client`, and judges nothing. With
`--asyncio` it drives AsyncRunClient instead of RunClient.
"""

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.metadata import version
from typing import Any

from pullcord.client import AsyncRunClient, RunClient
from pullcord.client.resume import Pace
from pullcord.client.verbs import RunChange
from pullcord.run import errors, events
from pullcord.run.message import Message, Part
from pullcord.run.record import Decision, RunFilter
from pullcord.run.usage import Limits
from pullcord.v1 import run_pb2
from pullcord.v1 import run_service_pb2 as v1
from pullcord.wire import enums
from pullcord.wire.errors import TABLE
from pullcord.wire.event import event_message
from pullcord.wire.run import (
    cancel_results_message,
    erased_message,
    receipt_message,
    run_message,
    runnable_message,
)
from pullcord.wire.values import data_of, seconds_of

PAYLOADS = {
    events.RunStarted: "run_started",
    events.ContentDelta: "content_delta",
    events.ReasoningDelta: "reasoning_delta",
    events.ToolCallStarted: "tool_call_started",
    events.ToolCallCompleted: "tool_call_completed",
    events.StepStarted: "step_started",
    events.StepCompleted: "step_completed",
    events.UsageUpdated: "usage_updated",
    events.CancelRequested: "cancel_requested",
    events.RunPaused: "run_paused",
    events.RunContinued: "run_continued",
    events.Heartbeat: "heartbeat",
    events.Gap: "gap",
    events.Snapshot: "snapshot",
    events.Custom: "custom",
    events.RunCompleted: "run_completed",
    events.RunCancelled: "run_cancelled",
    events.RunFailed: "run_failed",
    events.Progress: "progress",
}
CODES = {row.error: row.code.name for row in TABLE.values()}

Request = dict[str, Any]


class Blocking:
    """AsyncRunClient or one of its streams, to be called as RunClient and its streams are."""

    def __init__(self, face: Any, runner: asyncio.Runner) -> None:
        self._face = face
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._face, name)
        return (
            (lambda *args, **kwargs: self._call(value, args, kwargs)) if callable(value) else value
        )

    def __iter__(self) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(self._face)

        while True:
            try:
                yield self._runner.run(following())
            except StopAsyncIteration:
                return

    def of(self, *whose: str) -> "Blocking":
        return Blocking(self._face.of(*whose), self._runner)

    def watch_runs(self, *args: Any) -> "Blocking":
        return Blocking(self._face.watch_runs(*args), self._runner)

    def close(self) -> None:
        self._call(getattr(self._face, "aclose", None) or self._face.close, (), {})

    def _call(self, method: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        async def call() -> Any:
            made = method(*args, **kwargs)
            if asyncio.iscoroutine(made):
                made = await made
            elif isinstance(made, AsyncIterator) and not hasattr(made, "run_id"):
                made = [item async for item in made]
            return made

        made = self._runner.run(call())
        return Blocking(made, self._runner) if hasattr(made, "after_sequence") else made


class Driver:
    """One client and its streams."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self._client: Any = None
        self._streams: list[tuple[Any, Iterator[Any]]] = []

    def connect(self, request: Request) -> Request:
        if self._client is not None:
            self._client.close()
        options: dict[str, Any] = {
            key: request[key] for key in ("keepalive", "keepalive_timeout") if key in request
        }
        if "reconnect_for" in request:
            options["pace"] = Pace(reconnect_for=request["reconnect_for"])
        metadata = request.get("metadata", {}).items()
        self._client = self._make(
            request["target"], metadata=metadata, actor=request.get("actor"), **options
        )
        return {"language": "python", "version": version("pullcord")}

    def run(self, request: Request) -> Request:
        spec = _spec(request)
        return self._follow(self._client.run(**spec, timeout=request.get("timeout")))

    def _of(self, said: Any) -> Any:
        """The client for the runs of whom a request names, be it JSON or a message."""
        if isinstance(said, dict):
            tenant, owner = said.get("tenant", ""), said.get("owner", "")
        else:
            tenant, owner = said.tenant, said.owner
        return self._client.of(tenant, owner) if tenant or owner else self._client

    def watch(self, request: Request) -> Request:
        return self._follow(
            self._of(request).watch(
                request["run_id"],
                request.get("after_sequence", 0),
                timeout=request.get("timeout"),
            )
        )

    def _follow(self, stream: Any) -> Request:
        self._streams.append((stream, iter(stream)))
        return {"stream": len(self._streams) - 1, "run_id": stream.run_id}

    def watch_runs(self, request: Request) -> Request:
        asked = _decoded(v1.WatchRunsRequest, request["request"])
        changes = self._of(asked).watch_runs(_filter(asked), asked.after)
        self._streams.append((changes, iter(changes)))
        return {"stream": len(self._streams) - 1}

    def next(self, request: Request) -> Request:
        for event in self._streams[request["stream"]][1]:
            if isinstance(event, RunChange):
                return _message(_change_message(event))
            return {"event": _coded(event_message(event)), "payload": PAYLOADS[type(event.payload)]}
        return {"end": True}

    def drop(self, request: Request) -> Request:
        self._streams[request["stream"]][0].close()
        return {}

    def start(self, request: Request) -> Request:
        return _message(run_message(self._client.start(**_spec(request))))

    def wait(self, request: Request) -> Request:
        return _message(
            run_message(self._of(request).wait(request["run_id"], request.get("timeout")))
        )

    def get(self, request: Request) -> Request:
        return _message(run_message(self._of(request).get(request["run_id"])))

    def list(self, request: Request) -> Request:
        asked = _decoded(v1.ListRunsRequest, request["request"])
        states = frozenset(map(enums.RUN_STATE.read, asked.states))
        page = {"page_size": asked.page_size} if asked.page_size else {}
        runs = self._of(asked).list(_filter(asked, states=states), **page)
        return _messages(map(run_message, runs))

    def cancel(self, request: Request) -> Request:
        asked = _decoded(v1.CancelRunRequest, request["request"])
        receipt = self._of(asked).cancel(
            asked.run_id,
            asked.reason,
            mode=enums.CANCEL_MODE.read(asked.mode),
            grace_period=_seconds(asked, "grace_period"),
            wait=_seconds(asked, "wait") or 0.0,
            before_start=asked.before_start,
            cause=enums.CANCEL_CAUSE.read(asked.cause),
        )
        return _message(receipt_message(receipt))

    def cancel_many(self, request: Request) -> Request:
        asked = _decoded(v1.CancelRunsRequest, request["request"])
        most = {"max_affected": asked.max_affected} if asked.max_affected else {}
        results = self._of(asked).cancel_many(
            _filter(asked),
            asked.reason,
            mode=enums.CANCEL_MODE.read(asked.mode),
            validate_only=asked.validate_only,
            **most,
        )
        return _message(cancel_results_message(results))

    def continue_run(self, request: Request) -> Request:
        asked = _decoded(v1.ContinueRunRequest, request["request"])
        decisions = [
            Decision(d.tool_call_id, d.approved, d.answer if d.HasField("answer") else None, d.note)
            for d in asked.decisions
        ]
        return _message(run_message(self._of(asked).continue_run(asked.run_id, decisions)))

    def erase(self, request: Request) -> Request:
        asked = _decoded(v1.EraseRunsRequest, request["request"])
        erased = self._of(asked).erase(
            user_id=asked.user_id, session_id=asked.session_id, validate_only=asked.validate_only
        )
        return _message(erased_message(erased))

    def runnables(self, request: Request) -> Request:
        return _messages(runnable_message(info) for info in self._client.runnables())


def _spec(request: Request) -> Request:
    """What `run` and `start` take, out of a RunSpec."""
    spec = _decoded(run_pb2.RunSpec, request["spec"])
    limits = spec.limits
    return {
        "runnable": spec.runnable,
        "input": spec.input,
        "input_data": data_of(spec.input_data) if spec.HasField("input_data") else None,
        "run_id": spec.run_id,
        "session_id": spec.session_id,
        "user_id": spec.user_id,
        "limits": Limits(
            _seconds(limits, "timeout"),
            limits.max_tokens or None,
            limits.max_cost or None,
            limits.max_steps or None,
            limits.max_tool_calls or None,
        ),
        "on_disconnect": enums.DISCONNECT_POLICY.find(spec.on_disconnect),
        "lease": _seconds(spec, "lease"),
        "labels": dict(spec.labels),
        "session_policy": enums.SESSION_POLICY.find(spec.session_policy),
        "retry_of": spec.retry_of,
        "parts": [_part(part) for part in spec.parts],
        "messages": [
            Message(enums.MESSAGE_ROLE.read(m.role), tuple(map(_part, m.parts)), m.name)
            for m in spec.messages
        ],
    }


def _part(part: Any) -> Part:
    said = {content: getattr(part, content)} if (content := part.WhichOneof("content")) else {}
    return Part(**said, media_type=part.media_type, name=part.name)


def _filter(asked: Any, **more: Any) -> RunFilter:
    parent = getattr(asked, "parent_run_id", "")
    labels = dict(asked.labels)
    return RunFilter(asked.session_id, asked.user_id, asked.runnable, parent, labels=labels, **more)


def _change_message(change: RunChange) -> v1.WatchRunsResponse:
    message = v1.WatchRunsResponse(
        position=change.position, caught_up=change.caught_up, missed=change.missed
    )
    if change.run is not None:
        message.run.CopyFrom(run_message(change.run))
    return message


def _seconds(message: Any, field: str) -> float | None:
    return seconds_of(getattr(message, field)) if message.HasField(field) else None


def _decoded(kind: Any, text: str) -> Any:
    return kind.FromString(base64.b64decode(text))


def _coded(message: Any) -> str:
    return base64.b64encode(message.SerializeToString()).decode()


def _message(message: Any) -> Request:
    return {"message": _coded(message)}


def _messages(messages: Any) -> Request:
    return {"messages": [_coded(message) for message in messages]}


def _error(error: errors.PullcordError) -> Request:
    told = {
        "kind": type(error).__name__,
        "code": getattr(error, "code", None) or CODES[type(error)],
        "message": str(error),
    }
    for name in ("retry_after", "run_id", "runnable", "session_id", "matched", "allowed"):
        if (value := getattr(error, name, None)) is not None:
            told[name] = value
    if isinstance(error, errors.RunNotPaused):
        told["state"] = error.state.name
    if isinstance(error, errors.InvalidArgument):
        told["violations"] = [
            {"field": v.field, "description": v.description} for v in error.violations
        ]
    return {"error": told}


def _drive(make: Callable[..., Any]) -> None:
    driver = Driver(make)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(driver, request["op"])(request)
        except errors.PullcordError as error:
            answer = _error(error)
        print(json.dumps(answer), flush=True)


def main() -> None:
    """Answers requests until stdin ends."""
    if "--asyncio" not in sys.argv:
        _drive(RunClient)
        return
    with asyncio.Runner() as runner:

        async def make(*args: Any, **kwargs: Any) -> AsyncRunClient:
            return AsyncRunClient(*args, **kwargs)

        _drive(lambda *args, **kwargs: Blocking(runner.run(make(*args, **kwargs)), runner))


if __name__ == "__main__":
    main()
