"""The ways to a server, each behind one small face: what a scenario can ask over any of them.

A way of a new surface is one class here: it says in `can` what its protocol has words for, and its
answers are made the same as everybody's. The scenarios are in `test_transports`.
"""

import base64
import http.client
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlsplit

import grpc
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as Packed
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from pullcord.v1 import event_pb2, run_pb2
from pullcord.v1 import run_service_pb2 as v1
from pullcord.v1.run_service_pb2_grpc import RunServiceStub

from tests.steady import PATIENCE

SERVICE = "/pullcord.v1.RunService/"
TERMINAL = {"run_completed": "completed", "run_cancelled": "cancelled", "run_failed": "failed"}


@dataclass
class Story:
    """What a follower saw of a run."""

    kinds: list[str] = field(default_factory=list)
    """The kinds of its events, several of one kind in a row as one."""
    numbers: list[int] = field(default_factory=list)
    text: str = ""
    end: str = ""
    """`completed`, `cancelled` or `failed`; empty: it has not ended."""
    output: str = ""
    cause: str = ""
    reason: str = ""
    actor: str = ""
    error: str = ""


@dataclass
class Stop:
    """What a canceller was told."""

    outcome: str
    reason: str = ""
    actor: str = ""
    output: str = ""


class Refused(Exception):
    """A call was refused."""

    def __init__(self, reason: str, fields: Iterable[str] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fields = list(fields)


class Way:
    """How one caller reaches a server over one protocol."""

    name: ClassVar[str]
    can: ClassVar[frozenset[str]] = frozenset({"start", "early", "fields", "numbers", "state"})
    """start: starts runs by their id. early: stops a run before it comes. fields: names wrong
    fields. numbers: shows the numbers of events. state: gets a run."""

    def __init__(self, address: str, url: str, token: str = "") -> None:
        self.address, self.url, self.token = address, url, token

    def start(self, runnable: str, run_id: str, **spec: Any) -> None:
        """Starts a run in the background."""
        raise NotImplementedError

    def follow(self, run_id: str, after: int = 0) -> Iterator[Story]:
        """What was seen so far, after each event, to the end of the stream."""
        raise NotImplementedError

    def cancel(self, run_id: str, reason: str = "", *, wait: int = 0, early: bool = False) -> Stop:
        """Stops a run."""
        raise NotImplementedError

    def state(self, run_id: str) -> str:
        """`running` and so on."""
        raise NotImplementedError

    def close(self) -> None:
        """Leaves."""

    # --- for scenarios

    def whole(self, run_id: str, after: int = 0) -> Story:
        """What a follower has seen at the end."""
        story = Story()
        for story in self.follow(run_id, after):  # noqa: B007  # the last one is meant
            pass
        return story

    def until_text(self, run_id: str) -> Iterator[Story]:
        """Follows a run, and has seen its first text."""
        stories = self.follow(run_id)
        while not next(stories).text:
            pass
        return stories


def _told(story: Story, event: event_pb2.RunEvent) -> Story:
    kind = event.WhichOneof("payload") or ""
    if kind == "heartbeat":
        return story
    if not story.kinds or story.kinds[-1] != kind:
        story.kinds.append(kind)
    story.numbers.append(event.sequence)
    story.text += event.content_delta.text
    if kind in TERMINAL:
        payload = getattr(event, kind)
        story.end, story.output = TERMINAL[kind], payload.output
        if kind == "run_failed":
            story.error = payload.error.type
        if kind == "run_cancelled":
            stop = payload.cancellation
            story.cause = (
                run_pb2.DESCRIPTOR.pool.FindEnumTypeByName("pullcord.v1.CancelCause")
                .values_by_number[stop.cause]
                .name.removeprefix("CANCEL_CAUSE_")
            )
            story.reason, story.actor = stop.reason, stop.actor
    return story


def _stop_of(message: v1.CancelRunResponse) -> Stop:
    outcome = v1.CancelRunResponse.DESCRIPTOR.fields_by_name["outcome"].enum_type
    name = outcome.values_by_number[message.outcome].name.removeprefix("CANCEL_OUTCOME_")
    stop = message.run.cancellation
    return Stop(name, stop.reason, stop.actor, message.run.output)


def _refused_of(details: Iterable[Any]) -> Refused:
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for packed in details:
        for part in (info, bad):
            packed.Unpack(part)
    return Refused(info.reason, [violation.field for violation in bad.field_violations])


class _Messages(Way):
    """A way whose calls are the messages of pullcord.v1."""

    def unary(self, rpc: str, request: Any) -> Any:
        raise NotImplementedError

    def stream(self, rpc: str, request: Any) -> Iterator[Any]:
        raise NotImplementedError

    def start(self, runnable: str, run_id: str, **spec: Any) -> None:
        made = run_pb2.RunSpec(runnable=f"agents/{runnable}", run_id=run_id, **spec)
        self.unary("StartRun", v1.StartRunRequest(spec=made))

    def follow(self, run_id: str, after: int = 0) -> Iterator[Story]:
        story = Story()
        for answer in self.stream(
            "WatchRun", v1.WatchRunRequest(run_id=run_id, after_sequence=after)
        ):
            yield _told(story, answer.event)

    def cancel(self, run_id: str, reason: str = "", *, wait: int = 0, early: bool = False) -> Stop:
        request = v1.CancelRunRequest(run_id=run_id, reason=reason, before_start=early)
        if wait:
            request.wait.seconds = wait
        return _stop_of(self.unary("CancelRun", request))

    def state(self, run_id: str) -> str:
        run = self.unary("GetRun", v1.GetRunRequest(run_id=run_id)).run
        return run_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_").lower()


class Grpc(_Messages):
    name = "grpc"

    def __init__(self, address: str, url: str, token: str = "") -> None:
        super().__init__(address, url, token)
        self._channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        self._stub = RunServiceStub(self._channel)

    @property
    def _who(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.token}")] if self.token else []

    def unary(self, rpc: str, request: Any) -> Any:
        try:
            return getattr(self._stub, rpc)(request, metadata=self._who, timeout=PATIENCE)
        except grpc.RpcError as error:
            raise self._refused(error) from None

    def stream(self, rpc: str, request: Any) -> Iterator[Any]:
        call = getattr(self._stub, rpc)(request, metadata=self._who)
        try:
            yield from call
        except grpc.RpcError as error:
            raise self._refused(error) from None
        finally:
            call.cancel()

    def _refused(self, error: Any) -> Exception:
        status = rpc_status.from_call(error)
        assert status is not None, error
        return _refused_of(status.details)

    def close(self) -> None:
        self._channel.close()


class _Http(Way):
    """What ways over HTTP share."""

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
        """The answer, not read yet; its connection is closed with it."""
        line = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=PATIENCE)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token:
            named["authorization"] = f"Bearer {self.token}"
        line.request(method, path, body, {**named, "connection": "close"})
        response: Any = line.getresponse()
        response.line = line
        return response


def closing(response: Any, pieces: Iterable[Any]) -> Iterator[Any]:
    """The pieces; the connection is closed once they are, or nobody reads on."""
    try:
        yield from pieces
    finally:
        response.close()
        response.line.close()


class _Connect(_Http, _Messages):
    kind: ClassVar[str]
    """Of the media type, such as `json`."""

    def unary(self, rpc: str, request: Any) -> Any:
        media = f"application/{self.kind}"
        response = self.ask("POST", SERVICE + rpc, self.write(request), content_type=media)
        with_body = response.read()
        response.line.close()
        if response.status != 200:
            raise _of_connect(json.loads(with_body))
        return self.read(rpc, with_body)

    def stream(self, rpc: str, request: Any) -> Iterator[Any]:
        media = f"application/connect+{self.kind}"
        body = _envelope(self.write(request))
        response = self.ask("POST", SERVICE + rpc, body, content_type=media)
        assert response.status == 200, response.read()
        for flags, message in closing(response, _envelopes(response)):
            if flags & 2:
                if "error" in (end := json.loads(message)):
                    raise _of_connect(end["error"])
                return
            yield self.read(rpc, message)
        raise AssertionError("the stream was cut off")

    def write(self, request: Any) -> bytes:
        raise NotImplementedError

    def read(self, rpc: str, message: bytes) -> Any:
        raise NotImplementedError


def _envelope(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


def _envelopes(response: Any) -> Iterator[tuple[int, bytes]]:
    while head := response.read(5):
        flags, size = struct.unpack(">BI", head)
        yield flags, response.read(size)


def _of_connect(error: Any) -> Refused:
    return _refused_of(
        Packed(
            type_url=f"type.googleapis.com/{detail['type']}",
            value=base64.b64decode(detail["value"] + "=="),
        )
        for detail in error["details"]
    )


class ConnectJson(_Connect):
    name, kind = "connect-json", "json"

    def write(self, request: Any) -> bytes:
        return json_format.MessageToJson(request).encode()

    def read(self, rpc: str, message: bytes) -> Any:
        return json_format.Parse(message, getattr(v1, f"{rpc}Response")())


class ConnectBinary(_Connect):
    name, kind = "connect-binary", "proto"

    def write(self, request: Any) -> bytes:
        data: bytes = request.SerializeToString()
        return data

    def read(self, rpc: str, message: bytes) -> Any:
        return getattr(v1, f"{rpc}Response").FromString(message)


class GrpcWeb(_Http, _Messages):
    name = "grpc-web"

    def unary(self, rpc: str, request: Any) -> Any:
        (answer,) = self.stream(rpc, request)
        return answer

    def stream(self, rpc: str, request: Any) -> Iterator[Any]:
        body = _envelope(request.SerializeToString())
        media = "application/grpc-web+proto"
        response = self.ask("POST", SERVICE + rpc, body, content_type=media)
        assert response.status == 200, response.read()
        if response.getheader("grpc-status") not in (None, "0"):
            raise _of_trailers(dict(response.getheaders()))
        for flags, message in closing(response, _envelopes(response)):
            if flags & 128:
                lines = message.decode().strip().split("\r\n")
                trailers = dict(line.replace(": ", ":", 1).split(":", 1) for line in lines)
                if trailers["grpc-status"] != "0":
                    raise _of_trailers(trailers)
                return
            yield getattr(v1, f"{rpc}Response").FromString(message)
        raise AssertionError("the stream was cut off")


def _of_trailers(trailers: dict[str, str]) -> Refused:
    packed = trailers["grpc-status-details-bin"]
    return _refused_of(Status.FromString(base64.b64decode(packed + "==")).details)


class Native(_Http):
    """Server-sent events and the cancel route. Runs are started and shown over Connect."""

    name = "native"

    def __init__(self, address: str, url: str, token: str = "") -> None:
        super().__init__(address, url, token)
        self._calls = ConnectJson(address, url, token)
        self.start, self.state = self._calls.start, self._calls.state  # type: ignore[method-assign]

    def follow(self, run_id: str, after: int = 0) -> Iterator[Story]:
        headers = {"last_event_id": str(after)} if after else {}
        response = self.ask("GET", f"/v1/runs/{run_id}/events", **headers)
        self._check(response)
        story = Story()
        for line in closing(response, response):
            if line.startswith(b"data: "):
                yield _told(story, json_format.Parse(line[6:], event_pb2.RunEvent()))

    def cancel(self, run_id: str, reason: str = "", *, wait: int = 0, early: bool = False) -> Stop:
        asked: dict[str, Any] = {"reason": reason, "beforeStart": early}
        if wait:
            asked["wait"] = f"{wait}s"
        response = self.ask("POST", f"/v1/runs/{run_id}/cancel", json.dumps(asked).encode())
        self._check(response)
        return _stop_of(json_format.Parse(response.read(), v1.CancelRunResponse()))

    def _check(self, response: Any) -> None:
        if response.status >= 400:
            told = json.loads(response.read())
            assert isinstance(told["detail"], str)
            raise Refused(told["reason"], [each["field"] for each in told.get("fields", ())])


WAYS: list[type[Way]] = [Grpc, ConnectJson, ConnectBinary, GrpcWeb, Native]
"""Every way that the scenarios are played over. Add one here."""
