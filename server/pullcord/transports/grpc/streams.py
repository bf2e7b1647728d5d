"""Sending a run's events to one caller, and waking the streams of one loop when there is something.

A stream holds a watcher's place and nothing else; a caller that reads slowly is waited for here,
and nowhere else.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from functools import partial

import grpc.aio

from pullcord.engine.log.record import Record
from pullcord.engine.log.watch import Watcher
from pullcord.wire.event import response_bytes

Context = grpc.aio.ServicerContext[bytes, bytes]


class Bell:
    """Wakes the streams of one loop. Threads ring; one call into the loop serves all who rang."""

    def __init__(self, loop: asyncio.AbstractEventLoop, heartbeat: float) -> None:
        self._loop = loop
        self._heartbeat = heartbeat
        self._rung: deque[asyncio.Future[bool]] = deque()
        self._answering = False
        # In the order in which they began to wait, so the ticker looks at the oldest only.
        self._waiting: dict[asyncio.Future[bool], float] = {}

    async def wait(self, arm: Callable[[Callable[[], None]], bool]) -> bool:
        """Waits for a watcher that `arm` arms; False if a heartbeat is due instead."""
        future: asyncio.Future[bool] = self._loop.create_future()
        if not arm(partial(self._ring, future)):
            return True
        self._waiting[future] = self._loop.time()
        try:
            return await future
        finally:
            del self._waiting[future]

    async def tick(self) -> None:
        """Lets every stream that waits too long send a sign of life. Ends with the server."""
        while True:
            await asyncio.sleep(self._heartbeat / 4)
            due = self._loop.time() - self._heartbeat
            for future, since in list(self._waiting.items()):
                if since > due:
                    break
                if not future.done():
                    future.set_result(False)

    def _ring(self, future: "asyncio.Future[bool]") -> None:
        # From any thread. The future goes in before the flag is read, and the flag is lowered
        # before the queue is emptied, so that none is left behind.
        self._rung.append(future)
        if not self._answering:
            self._answering = True
            with contextlib.suppress(RuntimeError):  # the loop is closed, and its streams are gone
                self._loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._answering = False
        while self._rung:
            future = self._rung.popleft()
            if not future.done():
                future.set_result(True)


async def send(
    watcher: Watcher, bell: Bell, context: Context, begun: Callable[[], None] = lambda: None
) -> None:
    """Sends a watcher's events until the terminal one, as fast as the caller reads them.

    `begun` is called once what there was at first is sent, and perhaps again.

    A line that breaks in the middle of a message ends it like a caller that leaves: cancelled.
    """
    run_id, write = watcher.run_id, context.write
    try:
        while True:
            for record in watcher.take():
                await write(record.wire or _serialized(run_id, record))
            begun()
            if watcher.ended:
                return
            if not await bell.wait(watcher.arm):
                watcher.disarm()
                await write(_serialized(run_id, watcher.heartbeat()))
    except grpc.aio.InternalError as error:
        raise asyncio.CancelledError from error
    finally:
        watcher.close()


def _serialized(run_id: str, record: Record) -> bytes:
    record.wire = response_bytes(run_id, record)
    return record.wire
