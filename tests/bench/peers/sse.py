"""The least client that can follow server-sent events: HTTP/1.1 on one plain connection.

It only finds where an event begins and ends, and reads no JSON, so that a peer's server is what is
measured and not the client. What the events mean is each peer's caller's to say.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it was sent."""

    name: str
    data: bytes


class Decoder:
    """Takes the bytes of a body as they come, cut anywhere, and gives the events that are whole."""

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[bytes] = []

    def take(self, piece: bytes) -> list[Event]:
        events = []
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            field, _, value = line.removesuffix(b"\r").partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                self._data.append(value)
            elif field == b"event":
                self._name = value.decode()
            elif not field and not value and self._data:  # an empty line; a comment has a value
                events.append(Event(self._name, b"\n".join(self._data)))
                self._name, self._data = "", []
        return events


class Refused(Exception):
    """The server answered with an error."""


class Connection:
    """One connection, for one request after the other: its answer is read to the end before."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._headers: Mapping[str, str] = {}

    @classmethod
    async def open(cls, address: str) -> Self:
        host, _, port = address.partition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    def drop(self) -> None:
        """Hangs up, whatever is on its way."""
        self._writer.close()

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def ask(
        self, method: str, path: str, body: bytes = b"", media: str = ""
    ) -> Mapping[str, str]:
        """Sends a request, and reads the head of its answer: the headers, in lower case."""
        head = [f"{method} {path} HTTP/1.1", "Host: bench", f"Content-Length: {len(body)}"]
        if media:
            head.append(f"Content-Type: {media}")
        self._writer.write("\r\n".join([*head, "", ""]).encode() + body)
        status, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = (line.partition(":") for line in lines if line)
        self._headers = {name.lower(): value.strip() for name, _, value in fields}
        if not status.split()[1].startswith("2"):
            raise Refused(f"{method} {path}: {status}: {(await self.body()).decode()}")
        return self._headers

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body of the answer, as it comes."""
        if self._headers.get("transfer-encoding") == "chunked":
            while size := int((await self._reader.readline()).partition(b";")[0], 16):
                yield (await self._reader.readexactly(size + 2))[:-2]
            await self._reader.readline()
        elif length := int(self._headers.get("content-length", 0)):
            yield await self._reader.readexactly(length)

    async def body(self) -> bytes:
        return b"".join([piece async for piece in self.pieces()])
