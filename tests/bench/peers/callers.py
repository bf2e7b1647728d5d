"""How each peer is asked what Pullcord's own caller asks: run, follow, cancel, by the same names.

A peer's events are told by their names and by the token in them. What they cost is not known here.
"""

import asyncio
import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import ClassVar
from urllib.parse import urlencode

from tests.bench.caller import TERMINAL, Followed
from tests.bench.peers.environment import NotInstalled, python_of
from tests.bench.peers.sse import Connection, Decoder, Event
from tests.bench.process import Child
from tests.bench.script import TOKEN, Script

_TOKEN = json.dumps({"content": TOKEN}, separators=(",", ":"))[1:-1].encode()
"""What an event that brings a content delta has in its data."""


class PeerCaller(ABC):
    """Asks one server of a peer. Connections are kept, as Pullcord's caller keeps its own."""

    names: ClassVar[Mapping[str, str]]
    """A peer's event: ours."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._idle: list[Connection] = []

    def run(self, script: Script) -> "PeerStream":
        """Starts a run, when its stream is first read."""
        return PeerStream(self, script)

    @abstractmethod
    async def begin(self, connection: Connection, script: Script) -> str:
        """Sends the request that starts a run; its id, if the head of the answer tells it."""

    @abstractmethod
    async def cancel(self, run_id: str) -> None:
        """Asks that a run be stopped."""

    def run_id(self, event: Event) -> str:
        """The id of a run, from its first event."""
        return str(json.loads(event.data)["run_id"])

    def at_end(self, run_id: str) -> str:
        """What it means that a stream ends without a terminal event."""
        return ""

    @abstractmethod
    async def check(self, run_id: str) -> None:
        """Makes sure that a run whose stream said that it was cancelled has been."""

    # --- connections

    async def ready(self) -> None:
        """Waits until the server listens."""
        async with asyncio.timeout(60):
            while not self._idle:
                try:
                    self.keep(await self.connect())
                except ConnectionError:
                    await asyncio.sleep(0.1)

    async def connect(self) -> Connection:
        return self._idle.pop() if self._idle else await Connection.open(self._address)

    def keep(self, connection: Connection) -> None:
        """Takes back a connection whose answer was read to the end."""
        self._idle.append(connection)

    async def close(self) -> None:
        for connection in self._idle:
            await connection.close()

    async def _ask(self, method: str, path: str, body: bytes = b"", media: str = "") -> bytes:
        connection = await self.connect()
        await connection.ask(method, path, body, media)
        answer = await connection.body()
        self.keep(connection)
        return answer


class PeerStream:
    """The events of one run, as they come."""

    def __init__(self, caller: PeerCaller, script: Script) -> None:
        self.run_id = ""
        self._caller = caller
        self._names = self._read(script)
        self._connection: Connection | None = None

    async def until(self, *names: str) -> str:
        """Reads on to one of these events; which, or empty where the stream ended without."""
        async for name in self._names:
            if name in names:
                return name
        return ""

    async def follow(self) -> Followed:
        """Reads to the end."""
        started = perf_counter()
        messages = deltas = 0
        end = ""
        async for name in self._names:
            messages += 1
            if name == "content_delta":
                deltas += 1
            elif name in TERMINAL:
                end = name
        return Followed(messages, deltas, perf_counter() - started, end)

    def leave(self) -> None:
        """Hangs up, unless all was read."""
        if self._connection is not None:
            self._connection.drop()

    async def _read(self, script: Script) -> AsyncIterator[str]:
        caller, decoder = self._caller, Decoder()
        connection = self._connection = await caller.connect()
        self.run_id = await caller.begin(connection, script)
        has_ended = False
        async for piece in connection.pieces():
            for event in decoder.take(piece):
                name = caller.names.get(event.name, "")
                if name == "content_delta" and _TOKEN not in event.data:
                    continue
                if not self.run_id:
                    self.run_id = caller.run_id(event)
                has_ended = has_ended or name in TERMINAL
                yield name
        self._connection = None
        caller.keep(connection)
        if not has_ended:
            yield caller.at_end(self.run_id)


class AgentOS(PeerCaller):
    """Agno's AgentOS over its REST API."""

    names: ClassVar = {
        "RunStarted": "run_started",
        "RunContent": "content_delta",
        "RunCancelled": "run_cancelled",
        "RunCompleted": "run_completed",
        "RunError": "run_failed",
    }
    _RUNS = "/agents/scripted/runs"
    _FORM = "application/x-www-form-urlencoded"
    background = "false"

    async def begin(self, connection: Connection, script: Script) -> str:
        form = {"message": script.text(), "stream": "true", "background": self.background}
        await connection.ask("POST", self._RUNS, urlencode(form).encode(), self._FORM)
        return ""

    async def cancel(self, run_id: str) -> None:
        await self._ask("POST", f"{self._RUNS}/{run_id}/cancel")

    async def check(self, run_id: str) -> None:
        """Its event has said so; without a database there is nothing to ask."""


class ResumableAgentOS(AgentOS):
    """The same with runs that outlive their stream, as Pullcord's can; they need a database."""

    background = "true"


class LangGraph(PeerCaller):
    """LangGraph's server over its REST API. A run's id is its path: cancelling needs the thread."""

    names: ClassVar = {
        "metadata": "run_started",
        "messages": "content_delta",
        "error": "run_failed",
    }
    _JSON = "application/json"

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._cancelled: set[str] = set()

    async def begin(self, connection: Connection, script: Script) -> str:
        request = {
            "assistant_id": "scripted",
            "input": {"messages": [{"role": "user", "content": script.text()}]},
            "stream_mode": ["messages-tuple"],
            "if_not_exists": "create",
            "on_disconnect": "cancel",
        }
        path = f"/threads/{uuid.uuid4()}/runs/stream"
        headers = await connection.ask("POST", path, json.dumps(request).encode(), self._JSON)
        return headers["content-location"]

    async def cancel(self, run_id: str) -> None:
        self._cancelled.add(run_id)
        await self._ask("POST", f"{run_id}/cancel?action=interrupt")

    def at_end(self, run_id: str) -> str:
        """No event tells how a run has ended, so the stream's own end must do."""
        return "run_cancelled" if run_id in self._cancelled else "run_completed"

    async def check(self, run_id: str) -> None:
        status = json.loads(await self._ask("GET", run_id))["status"]
        assert status == "interrupted", status


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer's server in a process of its own, and the one who asks it."""

    name: str
    child: Child
    caller: PeerCaller


@asynccontextmanager
async def serving_peer(
    name: str, server: str, kind: type[PeerCaller], job: object = None
) -> AsyncIterator[Peer]:
    """Runs a peer, and sees to it that it does what will be measured."""
    async with Child(f"peers.servers.{server}", job, python=await python_of(server)) as child:
        try:
            said = await child.answer()
            caller = kind(said["address"])
            await caller.ready()
        except (RuntimeError, TimeoutError) as error:
            raise NotInstalled(f"it does not serve: {error}") from error
        try:
            followed = await caller.run(Script(count=100)).follow()
            assert (followed.deltas, followed.end) == (100, "run_completed"), followed
            stopped = caller.run(Script(count=10**9, burst=1, pause=0.01))
            assert await stopped.until("content_delta") == "content_delta"
            await caller.cancel(stopped.run_id)
            assert await stopped.until("run_cancelled") == "run_cancelled"
            await stopped.follow()
            await caller.check(stopped.run_id)
            yield Peer(f"{name} {said['version']}", child, caller)
        finally:
            await caller.close()
