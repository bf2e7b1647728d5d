"""A server that plays a part: a real gRPC server whose every answer stands in the scenario.

It is for what a sound server does not do on demand: to be unreachable, to be of a newer version, to
send a gap at a certain place. It expects certain calls in a certain order, and remembers every
other one as a fault of the client.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from pullcord.v1 import event_pb2
from pullcord.v1 import run_service_pb2 as v1

from tests.conformance.matching import differences
from tests.conformance.plain import fill, plain

_SERVICE = v1.DESCRIPTOR.services_by_name["RunService"]
_CREATED = 1_800_000_000
_HELD_FOR = 50.0
"""Seconds after which a call that nobody ends is let go, so that a mistake does not hang."""

Said = Mapping[str, Any]


class Fake:
    """Plays one scenario's part; end it, or use it in `with`.

    A part is a list of calls: `call` is its name; `with`, `metadata` and `deadline` are what must
    have come; `same_run` says that it must be about the run of the call before; `after` is the
    least number of seconds since that; `send` are the events or changes, or `answer` is the
    message; `then` is how it ends: OK (also where it is left out), a bare status by its name, a
    refusal as a table, or HOLD, until the client leaves.
    """

    def __init__(self, part: Sequence[Said]) -> None:
        self._part = list(part)
        self._lock = threading.Lock()
        self._ended_at = time.monotonic()
        self._run_id = ""
        self._left = threading.Semaphore(0)
        self.faults: list[str] = []
        """What the client did that it should not have done."""
        self._pool = ThreadPoolExecutor(8)
        self._server = grpc.server(self._pool, handlers=[_Handler(self)])
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self.address = f"127.0.0.1:{port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()
        self._pool.shutdown()

    def wait_left(self) -> bool:
        """Waits until the client has left a call that was on HOLD; False: it does not."""
        return self._left.acquire(timeout=5)

    def check_done(self) -> None:
        """Notes the calls that should have come and have not."""
        with self._lock:
            if self._part:
                names = ", ".join(said["call"] for said in self._part)
                self.faults.append(f"the fake server still waits for: {names}")

    # --- a call, in a thread of the server's

    def stream(self, request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        """The responses of Run and WatchRun, which are alike, and of WatchRuns."""
        said = self._begin(request, context)
        for sent in said.get("send", ()):
            if isinstance(request, v1.WatchRunsRequest):
                change = v1.WatchRunsResponse()
                fill(change, sent)
                yield change
            else:
                yield v1.RunResponse(event=_event(sent, _run_id(request)))
        self._end(said, context)

    def unary(self, request: Message, context: grpc.ServicerContext, kind: Any) -> Message:
        """The response of any other call."""
        said = self._begin(request, context)
        self._end(said, context)
        response: Message = kind()
        fill(response, said.get("answer", {}))
        return response

    def _begin(self, request: Message, context: grpc.ServicerContext) -> Said:
        name = type(request).__name__.removesuffix("Request")
        with self._lock:
            if not self._part or self._part[0]["call"] != name:
                awaited = self._part[0]["call"] if self._part else "no call"
                self.faults.append(f"{name} came at the fake server, and it awaited {awaited}")
                context.abort(grpc.StatusCode.UNIMPLEMENTED, "the fake server awaits another call")
            said = self._part.pop(0)
            waited = time.monotonic() - self._ended_at
            remaining = context.time_remaining()
            heard = {
                "with": plain(request),
                "metadata": dict(context.invocation_metadata()),
                # Without a deadline gRPC says 292 years.
                "same_run": _run_id(request) == self._run_id,
                "deadline": remaining if remaining is not None and remaining < 1e9 else None,
            }
            wanted = {key: said[key] for key in heard if key in said}
            self.faults += [f"{name} at the fake server, {d}" for d in differences(wanted, heard)]
            self._run_id = _run_id(request)
            if waited < said.get("after", 0.0):
                self.faults.append(f"{name} came after {waited:.3f} s, not {said['after']} s")
        if said.get("then") == "HOLD":
            # From the first: gRPC does not come back to us where the client leaves while we send.
            context.add_callback(self._left.release)
        return said

    def _end(self, said: Said, context: grpc.ServicerContext) -> None:
        then = said.get("then", "OK")
        if then == "HOLD":
            gone = threading.Event()
            if context.add_callback(gone.set):
                gone.wait(_HELD_FOR)
            return
        self._ended_at = time.monotonic()
        if isinstance(then, Mapping):
            context.abort_with_status(_refusal(then))
        elif then != "OK":
            context.abort(grpc.StatusCode[then], "as the scenario says")


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc's stubs leave its base untyped
    """Every rpc of RunService, by its descriptor."""

    def __init__(self, fake: Fake) -> None:
        self._fake = fake

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """How a call is answered."""
        method = _SERVICE.methods_by_name.get(details.method.rpartition("/")[2])
        if method is None:
            return None
        fake, kind = self._fake, GetMessageClass(method.output_type)
        make = grpc.unary_unary_rpc_method_handler
        behaviour: Any = lambda request, context: fake.unary(request, context, kind)  # noqa: E731
        if method.server_streaming:
            make, behaviour = grpc.unary_stream_rpc_method_handler, fake.stream
        return make(
            behaviour,
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )


def _run_id(request: Message) -> str:
    spec = getattr(request, "spec", request)
    return str(getattr(spec, "run_id", ""))


def _event(said: Said, run_id: str) -> event_pb2.RunEvent:
    """An event as the scenario has it; `unknown` stands for a payload of a newer server."""
    event = event_pb2.RunEvent(run_id=run_id)
    event.create_time.seconds = _CREATED
    fill(event, {key: value for key, value in said.items() if key != "unknown"})
    if "unknown" in said:
        # Field 99, a message with a string in its field 1.
        text = said["unknown"].encode()
        inner = bytes([0x0A, len(text)]) + text
        event.MergeFromString(bytes([0x9A, 0x06, len(inner)]) + inner)
    return event


def _refusal(said: Said) -> grpc.Status:
    """A status with google.rpc details."""
    status = Status(
        code=grpc.StatusCode[said["code"]].value[0], message=said.get("message", "refused")
    )
    details: list[Message] = []
    if "reason" in said:
        domain = said.get("domain", "pullcord")
        info = ErrorInfo(reason=said["reason"], domain=domain, metadata=said.get("metadata", {}))
        details.append(info)
    if "violations" in said:
        details.append(BadRequest(field_violations=said["violations"]))
    if "retry_after" in said:
        retry = RetryInfo()
        fill(retry.retry_delay, said["retry_after"])
        details.append(retry)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return rpc_status.to_status(status)
