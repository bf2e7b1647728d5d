"""A server that answers requests exactly as its scripts say, byte by byte, however wrong that is.

It speaks HTTP/1.1 with the standard library and knows no provider's protocol, so every model's
contract is tested against it. What is right or wrong stands in the tables of the tests.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Reply:
    """A plain answer instead of a stream."""

    status: int = 200
    body: Any = b""
    """Bytes as they are, or anything else as JSON."""
    headers: Mapping[str, str] = field(default_factory=dict)


class Reset:
    """The connection ends here, without the last chunk."""


class Hold:
    """Nothing more comes, but the connection stays open until the client closes it."""


class Comments:
    """Comments and nothing else, until the client closes the connection."""


RESET, HOLD, COMMENTS = Reset(), Hold(), Comments()

Piece = bytes | str | Mapping[str, Any] | Sequence[Any] | Reply | Reset | Hold | Comments | float
"""Bytes go out as they are, a str or JSON value as a frame of data; a float is a pause."""
Script = Callable[[dict[str, Any], int], Iterable[Piece]]
"""Makes the pieces of an answer of a request's body and its number, from 0."""


@dataclass
class Request:
    """What a client has sent."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class MisbehavingServer:
    """Serves one script; `with` starts and ends it."""

    def __init__(self) -> None:
        self.script: Script = lambda body, number: []
        self.requests: list[Request] = []
        self.asked = threading.Event()
        """Set when a request has come."""
        self.closed = threading.Event()
        """Set when a client closed a connection before its answer had ended."""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="misbehaving", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()

    def answers(self, *pieces: Piece) -> None:
        """Answers every request so."""
        self.script = lambda body, number: pieces

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=2**26)
        host, port = server.sockets[0].getsockname()
        self.address = f"http://{host}:{port}"
        self.base_url = f"{self.address}/v1"
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self._tasks.discard(task)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = json.loads(await reader.readexactly(int(headers.get("content-length", "0"))) or "{}")
        number = len(self.requests)
        self.requests.append(Request(head[0].split(" ")[1], headers, body))
        self.asked.set()
        begun = False
        for piece in self.script(body, number):
            if isinstance(piece, Reply):
                await _reply(piece, writer)
                return True
            if not begun:
                begun = True
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                    b"transfer-encoding: chunked\r\n\r\n"
                )
            match piece:
                case Reset():
                    return False
                case float():
                    await asyncio.sleep(piece)
                case Hold() | Comments():
                    await self._until_closed(reader, writer, speaks=piece is COMMENTS)
                    return False
                case bytes():
                    await _chunk(writer, piece)
                case _:
                    text = piece if isinstance(piece, str) else json.dumps(piece)
                    await _chunk(writer, f"data: {text}\n\n".encode())
        if not begun:
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 0\r\n\r\n"
            )
        else:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _until_closed(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, speaks: bool
    ) -> None:
        left = asyncio.ensure_future(reader.read(1))
        try:
            while speaks and not left.done():
                await _chunk(writer, b": keep-alive\n\n")
                await asyncio.wait([left], timeout=0.01)
            await left
        finally:
            left.cancel()
            self.closed.set()


async def _reply(reply: Reply, writer: asyncio.StreamWriter) -> None:
    body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    headers |= {name.lower(): value for name, value in reply.headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {reply.status} X\r\n{lines}\r\n".encode() + body)
    await writer.drain()


async def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    if data:
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))
    await writer.drain()
