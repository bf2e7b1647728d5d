"""What the callers make of the peers' streams, from a server that answers as they do."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import parse_qs

from tests.bench.caller import Followed
from tests.bench.peers.callers import AgentOS, LangGraph, ResumableAgentOS
from tests.bench.script import Script

AGENTOS = [
    ("RunStarted", {"run_id": "r1"}),
    ("ModelRequestStarted", {"run_id": "r1"}),
    ("RunContent", {"run_id": "r1", "content": "tok "}),
    ("RunContent", {"run_id": "r1", "content": "tok "}),
    ("RunContentCompleted", {"run_id": "r1"}),
    ("RunCompleted", {"run_id": "r1", "content": "tok tok "}),
]
LANGGRAPH = [
    ("metadata", {"run_id": "r1"}),
    ("messages", [{"content": "tok "}, {"run_id": "r1"}]),
    ("messages", [{"content": "tok "}, {"run_id": "r1"}]),
    ("messages", [{"content": ""}, {"run_id": "r1"}]),
]
PATH = "/threads/t1/runs/r1"

Answer = Callable[[str, bytes], bytes]


def streamed(events: list[tuple[str, object]]) -> bytes:
    """An answer with these events, a chunk for each."""
    head = f"HTTP/1.1 200 OK\r\nContent-Location: {PATH}\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = [
        f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
        for name, data in events
    ]
    body = "".join(f"{len(chunk):x}\r\n{chunk}\r\n" for chunk in chunks)
    return f"{head}{body}0\r\n\r\n".encode()


def plain(data: object) -> bytes:
    body = json.dumps(data)
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


class Server:
    """Answers each request as it is told, and remembers what was asked and by how many."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.asked: list[tuple[str, bytes]] = []
        self.connections: list[asyncio.Task[None]] = []

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                what, *lines = head.decode().split("\r\n")
                length = next(line for line in lines if line.startswith("Content-Length"))
                body = await reader.readexactly(int(length.split()[1]))
                what = what.removesuffix(" HTTP/1.1")
                self.asked.append((what, body))
                writer.write(self._answer(what, body))
        except asyncio.IncompleteReadError:  # the caller has hung up
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[tuple[Server, str]]:
    server = Server(answer)
    listening = await asyncio.start_server(server.accept, "127.0.0.1", 0)
    async with listening:
        yield server, f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        await asyncio.gather(*server.connections)


def timeless(followed: Followed) -> Followed:
    return replace(followed, seconds=0)


async def test_agentos_speaks_of_runs_as_pullcord_does() -> None:
    """Its deltas are counted by their text, and its events have our names."""
    script = Script(count=2)
    async with serving(lambda *_: streamed(AGENTOS)) as (server, address):
        caller = AgentOS(address)
        stream = caller.run(script)
        assert await stream.until("run_started", "content_delta") == "run_started"
        assert stream.run_id == "r1"
        assert timeless(await stream.follow()) == Followed(5, 2, 0, "run_completed")
        await caller.close()
    ((what, body),) = server.asked
    form = {name: value for name, (value,) in parse_qs(body.decode()).items()}
    assert what == "POST /agents/scripted/runs"
    assert form == {"message": script.text(), "stream": "true", "background": "false"}


async def test_a_stream_that_says_nothing_more_has_no_end() -> None:
    """AgentOS says how a run has ended; where it does not, nothing is made up."""
    async with serving(lambda *_: streamed(AGENTOS[:-1])) as (_, address):
        caller = AgentOS(address)
        assert await caller.run(Script()).until("run_completed", "run_cancelled") == ""
        assert timeless(await caller.run(Script()).follow()).end == ""
        await caller.close()


async def test_a_connection_serves_one_stream_after_the_other() -> None:
    """A peer is not made to wait for a new connection where Pullcord has a live one."""
    async with serving(lambda *_: streamed(AGENTOS)) as (server, address):
        caller = ResumableAgentOS(address)
        for _ in range(3):
            assert (await caller.run(Script()).follow()).end == "run_completed"
        await caller.cancel("r1")
        await caller.close()
    assert len(server.connections) == 1
    assert b"background=true" in server.asked[0][1]
    assert server.asked[-1] == ("POST /agents/scripted/runs/r1/cancel", b"")


async def test_langgraphs_stream_ends_with_its_last_byte() -> None:
    """No event of it says how a run has ended: that is known from what was asked."""
    status = {"status": "interrupted"}

    def answer(what: str, _: bytes) -> bytes:
        return plain(status) if what.startswith(f"GET {PATH}") else streamed(LANGGRAPH)

    async with serving(answer) as (server, address):
        caller = LangGraph(address)
        stream = caller.run(Script(count=2))
        assert timeless(await stream.follow()) == Followed(4, 2, 0, "run_completed")
        assert stream.run_id == PATH
        await caller.cancel(PATH)
        stopped = caller.run(Script(count=2))
        assert await stopped.until("run_cancelled", "run_completed") == "run_cancelled"
        await caller.check(PATH)
        await caller.close()
    asked = [what for what, _ in server.asked]
    assert asked[1] == f"POST {PATH}/cancel?action=interrupt"
    assert json.loads(server.asked[0][1])["stream_mode"] == ["messages-tuple"]
