"""The encoding of what is large, in threads, so that the loop serves others meanwhile.

An event is encoded once, however many watch. Small ones are encoded where they are sent.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import Message

from pullcord.engine.log.record import Record
from pullcord.service.lanes import Lane
from pullcord.wire.event import response_bytes
from pullcord.wire.json import event_json

T = TypeVar("T")

_NO_LIMIT = 2**31
"""Items that wait here hold a place in their stream or connection, which are bounded."""


class Encoder:
    """Encodes for one server. Used on one loop only."""

    def __init__(self) -> None:
        self._events = Lane("events", 1, _NO_LIMIT)
        self._answers = Lane("answers", 1, _NO_LIMIT)
        self._under_way: dict[object, asyncio.Future[bytes]] = {}

    async def event(self, run_id: str, record: Record) -> bytes:
        """The bytes of an event for every watcher."""
        return record.wire or await self._made(serialized, run_id, record)

    async def event_json(self, run_id: str, record: Record) -> bytes:
        """The JSON of an event for every watcher."""
        return record.json or await self._made(event_json, run_id, record)

    async def _made(
        self, make: Callable[[str, Record], bytes], run_id: str, record: Record
    ) -> bytes:
        key = id(record), make  # nobody else has it: the record is held while it is under way
        shared = self._under_way.get(key)
        if shared is None:
            shared = asyncio.wrap_future(self._events.submit(make, run_id, record))
            self._under_way[key] = shared
            shared.add_done_callback(lambda _: self._under_way.pop(key))
        return await asyncio.shield(shared)  # a watcher that leaves takes it from nobody

    async def answer(self, make: Callable[[], Message]) -> bytes:
        """The bytes of the answer that `make` makes."""
        return await self._answers.ask(lambda: make().SerializeToString())

    async def aside(self, make: Callable[[], T]) -> T:
        """Calls what takes long because an answer is large."""
        return await self._answers.ask(make)

    def close(self) -> None:
        """Takes no more."""
        self._events.close()
        self._answers.close()


def serialized(run_id: str, record: Record) -> bytes:
    """The bytes of an event, which the record keeps."""
    if record.wire is None:
        record.wire = response_bytes(run_id, record)
    return record.wire
