"""The client that calls baseline and product alike: the generated stubs on grpc.aio.

It says what came and when. What that means is each benchmark's to say.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pullcord.v1 import run_service_pb2 as v1
from pullcord.v1 import run_service_pb2_grpc as rpc
from pullcord.v1.cancel_pb2 import CancelMode
from pullcord.v1.event_pb2 import RunEvent

from tests.bench.process import Child
from tests.bench.script import Script

TERMINAL = {"run_completed", "run_cancelled", "run_failed"}

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # each caller has a connection of its own
]


@dataclass(frozen=True, slots=True)
class Followed:
    """What one stream brought."""

    messages: int
    deltas: int
    """Content and reasoning deltas, counted also within merged messages."""
    seconds: float
    end: str
    """The terminal event's name; empty if there was none."""
    missed: int = 0
    """Events that a gap has told of: the client was too slow for the log."""


class Caller:
    """One connection to one server."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self.stub = rpc.RunServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    async def ready(self) -> None:
        async with asyncio.timeout(30):
            await self._channel.channel_ready()

    async def close(self) -> None:
        await self._channel.close()

    def run(self, script: Script, how: str = "async", run_id: str = "") -> "Stream":
        """Starts a run; `how` is `async` or `sync`."""
        request = v1.RunRequest()
        spec = request.spec
        spec.runnable = f"agents/{how}"
        spec.input = script.text()
        spec.run_id = run_id or uuid.uuid4().hex
        return Stream(spec.run_id, self.stub.Run(request))

    def watch(self, run_id: str, after: int = 0) -> "Stream":
        """Follows a run that is live or has ended, from after an event."""
        request = v1.WatchRunRequest(run_id=run_id, after_sequence=after)
        return Stream(run_id, self.stub.WatchRun(request))

    async def start(self, script: Script, how: str = "async") -> str:
        """Starts a run in the background; its id."""
        request = v1.StartRunRequest()
        request.spec.runnable = f"agents/{how}"
        request.spec.input = script.text()
        return (await self.stub.StartRun(request)).run.run_id

    async def get(self, run_id: str) -> None:
        """One unary round trip that changes nothing."""
        await self.stub.GetRun(v1.GetRunRequest(run_id=run_id))

    async def health(self) -> None:
        """A health check, which the bare server does not answer."""
        await self._health.Check(health_pb2.HealthCheckRequest())

    async def wait(self, run_id: str) -> None:
        """Waits for a run's end."""
        await self.stub.WaitRun(v1.WaitRunRequest(run_id=run_id))

    async def cancel(self, run_id: str, now: bool = False) -> None:
        mode = CancelMode.CANCEL_MODE_IMMEDIATE if now else CancelMode.CANCEL_MODE_GRACEFUL
        request = v1.CancelRunRequest(run_id=run_id, reason="benchmark", mode=mode)
        await self.stub.CancelRun(request)


class Stream:
    """The events of one run, as they come."""

    def __init__(self, run_id: str, call: "grpc.aio.UnaryStreamCall") -> None:
        self.run_id = run_id
        self._call = call

    async def events(self) -> AsyncIterator[RunEvent]:
        """The events, as they come."""
        async for response in self._call:
            yield response.event

    async def until(self, *payloads: str) -> str:
        """Reads on to one of these events; which, or empty where the stream ended without."""
        async for response in self._call:
            name: str = response.event.WhichOneof("payload")
            if name in payloads:
                return name
        return ""

    async def follow(self) -> Followed:
        """Reads to the end."""
        started = perf_counter()
        messages = deltas = missed = 0
        end = ""
        async for response in self._call:
            messages += 1
            event = response.event
            name = event.WhichOneof("payload")
            if name == "content_delta":
                deltas += event.content_delta.count or 1
            elif name == "reasoning_delta":
                deltas += event.reasoning_delta.count or 1
            elif name == "gap":
                missed += event.gap.last_sequence - event.gap.first_sequence + 1
            elif name in TERMINAL:
                end = name
        return Followed(messages, deltas, perf_counter() - started, end, missed)

    async def code(self) -> grpc.StatusCode:
        return await self._call.code()

    def leave(self) -> None:
        """Hangs up."""
        self._call.cancel()


@dataclass(frozen=True, slots=True)
class Server:
    """A server under test, and a connection to it."""

    child: Child
    caller: Caller
    address: str
    http: str = ""
    """Where it is served over HTTP, host:port, if the settings say so."""


@asynccontextmanager
async def serving(which: str, **settings: object) -> AsyncIterator[Server]:
    """Runs `bare`, `product` or `in_process` in a process of its own; settings: the product's."""
    async with Child(f"servers.{which}", **settings) as child:
        answer = await child.answer()
        address = answer["address"]
        caller = Caller(address)
        try:
            await caller.ready()
            # Once through every path, so that imports and first threads are not measured.
            for how in ("async", "sync"):
                await caller.run(Script(), how).follow()
            yield Server(child, caller, address, answer.get("http", ""))
        finally:
            await caller.close()
