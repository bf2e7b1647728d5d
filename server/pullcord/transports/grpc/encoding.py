"""The encoding of what is large, in threads, so that the loop serves others meanwhile.

An event is encoded once, however many watch. Small ones are encoded where they are sent.
"""

import asyncio
from collections.abc import Callable

from google.protobuf.message import Message

from pullcord.engine.log.record import Record
from pullcord.service.lanes import Lane
from pullcord.wire.event import response_bytes

_NO_LIMIT = 2**31
"""What waits here holds a place in its stream or connection, which are bounded."""


class Encoder:
    """Encodes for one server. Used on one loop only."""

    def __init__(self) -> None:
        self._events = Lane("events", 1, _NO_LIMIT)
        self._answers = Lane("answers", 1, _NO_LIMIT)
        self._under_way: dict[int, asyncio.Future[bytes]] = {}

    async def event(self, run_id: str, record: Record) -> bytes:
        """The bytes of an event for every watcher."""
        if record.wire is not None:
            return record.wire
        key = id(record)  # nobody else has it: the record is held while it is under way
        shared = self._under_way.get(key)
        if shared is None:
            shared = asyncio.wrap_future(self._events.submit(_serialized, run_id, record))
            self._under_way[key] = shared
            shared.add_done_callback(lambda _: self._under_way.pop(key))
        return await asyncio.shield(shared)  # a watcher that leaves takes it from nobody

    async def answer(self, make: Callable[[], Message]) -> bytes:
        """The bytes of the answer that `make` makes."""
        return await self._answers.ask(lambda: make().SerializeToString())

    def close(self) -> None:
        """Takes no more."""
        self._events.close()
        self._answers.close()


def _serialized(run_id: str, record: Record) -> bytes:
    record.wire = response_bytes(run_id, record)
    return record.wire
