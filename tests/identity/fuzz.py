"""Any request at all, with and without credentials: no answer is a mistake of the server's, and
none holds a foreign byte. `make fuzz` sends 100,000 of them; the suite sends a few.
"""

import asyncio
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from pullcord import RunContext, runnable
from pullcord.v1 import run_pb2
from pullcord.v1 import run_service_pb2 as v1

from tests.identity.callers import bearer, guarded, token_of

CANARY = "canary-4711"
"""What ann's runs are given, and say; nobody but ann may ever read it."""

METHODS = v1.DESCRIPTOR.services_by_name["RunService"].methods
STRANGERS = ("bob", "eve", "una", "", "nobody")
EXPECTED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


@runnable(id="says")
async def says(input: str, ctx: RunContext) -> str:
    ctx.write(input)
    return input


@runnable(id="stays")
async def stays(input: str, ctx: RunContext) -> None:
    ctx.write(input)
    await asyncio.Event().wait()


class Fuzz:
    """Requests of one seed."""

    def __init__(self, address: str, seed: int) -> None:
        self.random = random.Random(seed)
        self.channel = grpc.insecure_channel(address)
        self.seen: Counter[str] = Counter()
        self.words = (
            *("anns-live", "anns-ended", "anns-session", "agents/says", "agents/stays"),
            *(
                "",
                "x",
                "acme",
                "ann",
                "bob",
                "umbrella",
                "..",
                "\x00",
                "\U0001f600" * 40,
                "a/b",
                "x" * 2000,
            ),
        )

    def send(self) -> None:
        """One request of somebody who is not ann."""
        method = self.random.choice(METHODS)
        data = self._bytes(method.input_type._concrete_class())
        who = self.random.choice(STRANGERS)
        metadata = list(bearer(who)) if who else []
        if self.random.random() < 0.3:
            metadata.append(self.random.choice(self._claims()))
        path = f"/{v1.DESCRIPTOR.package}.RunService/{method.name}"
        kind = "unary_stream" if method.server_streaming else "unary_unary"
        make: Callable[..., Any] = getattr(self.channel, kind)
        # As bytes: whatever came back is looked at, not only what the message knows.
        call = make(path, request_serializer=None, response_deserializer=None)
        said = b""
        try:
            answer = call(data, metadata=metadata, timeout=0.3)
            said = b"".join(answer) if method.server_streaming else answer
            code, details = grpc.StatusCode.OK, ""
        except grpc.RpcError as error:
            code, details = error.code(), error.details() or ""
            said += b"".join(
                value if isinstance(value, bytes) else value.encode()
                for _, value in error.trailing_metadata() or ()
            )
        self.seen[code.name] += 1
        assert code in EXPECTED, (method.name, who, data, code, details)
        if who in ("", "nobody") and ("authorization", f"Bearer {token_of('bob')}") not in metadata:
            assert code.name in ("UNAUTHENTICATED", "DEADLINE_EXCEEDED"), (method.name, data)
        whole = said + details.encode()
        assert CANARY.encode() not in whole, (method.name, who, data)
        assert token_of("ann").encode() not in whole

    def _claims(self) -> list[tuple[str, str]]:
        return [
            *(("pullcord-actor", "ann"), ("pullcord-principal", "acme/ann")),
            *(("authorization", f"Bearer {token_of('bob')}"), ("authorization", "Bearer a.b.c")),
            ("authorization", "Basic YW5uOmFubg=="),
            *(("grpc-timeout-x", "1"), ("traceparent", "00-zz"), ("baggage", "tenant=acme")),
        ]

    def _bytes(self, message: Message) -> bytes:
        self._fill(message, 0)
        data = message.SerializeToString()
        if self.random.random() < 0.15:  # bytes that are no message
            at = self.random.randrange(len(data) + 1)
            data = data[:at] + self.random.randbytes(self.random.randrange(9)) + data[at:]
        return data

    def _fill(self, message: Message, depth: int) -> None:
        for field in message.DESCRIPTOR.fields:
            if self.random.random() < 0.5 or depth > 3:
                continue
            if field.message_type and field.message_type.GetOptions().map_entry:
                if field.message_type.fields_by_name["value"].type == FieldDescriptor.TYPE_STRING:
                    getattr(message, field.name)[self._word()] = self._word()
            elif field.is_repeated:
                for _ in range(self.random.randrange(3)):
                    if field.message_type:
                        self._fill(getattr(message, field.name).add(), depth + 1)
                    else:
                        getattr(message, field.name).append(self._value(field))
            elif field.message_type:
                part = getattr(message, field.name)
                part.SetInParent()
                self._fill(part, depth + 1)
            else:
                setattr(message, field.name, self._value(field))

    def _word(self) -> str:
        return self.random.choice(self.words)

    def _value(self, field: FieldDescriptor) -> Any:
        kinds = FieldDescriptor
        if field.type == kinds.TYPE_STRING:
            return self._word()
        if field.type == kinds.TYPE_BYTES:
            return self.random.randbytes(self.random.randrange(20))
        if field.type == kinds.TYPE_BOOL:
            return self.random.random() < 0.5
        if field.type == kinds.TYPE_ENUM:
            return self.random.choice([0, 1, 2, 3, 99])
        if field.type in (kinds.TYPE_DOUBLE, kinds.TYPE_FLOAT):
            return self.random.choice([0.0, -1.0, 1e300, float("nan"), float("inf"), 0.5])
        most = (
            2**31 - 1
            if field.cpp_type in (kinds.CPPTYPE_INT32, kinds.CPPTYPE_UINT32)
            else 2**63 - 1
        )
        low = 0 if field.cpp_type in (kinds.CPPTYPE_UINT32, kinds.CPPTYPE_UINT64) else -1
        return self.random.choice([0, 1, low, most, 1000])


def fuzz(count: int, seed: int) -> Counter[str]:
    """Sends so many requests; how often each status came."""
    with (
        tempfile.TemporaryDirectory() as folder,
        guarded(Path(folder), says, stays, max_live_runs=200) as served,
    ):
        stub = served.stub()
        for run_id, name in (("anns-live", "agents/stays"), ("anns-ended", "agents/says")):
            spec = run_pb2.RunSpec(
                runnable=name,
                run_id=run_id,
                input=CANARY,
                session_id="anns-session",
                labels={"x": CANARY},
            )
            stub.StartRun(v1.StartRunRequest(spec=spec), metadata=bearer("ann"))
        made = Fuzz(served.address, seed)
        for number in range(count):
            made.send()
            if number % 100 == 99:  # what others have started must not fill the server
                for who in ("bob", "eve", "una"):
                    for name in ("agents/stays", "agents/says"):
                        request = v1.CancelRunsRequest(runnable=name, mode=2, max_affected=10_000)
                        stub.CancelRuns(request, metadata=bearer(who))
        made.channel.close()
        mine = stub.GetRun(v1.GetRunRequest(run_id="anns-live"), metadata=bearer("ann")).run
        assert not mine.HasField("cancellation")
        assert mine.output == CANARY
        return made.seen


if __name__ == "__main__":
    many = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    start = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32)
    print(f"{many} requests, seed {start}")
    print(dict(fuzz(many, start).most_common()))
