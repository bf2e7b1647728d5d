"""Turns at a provider: so many calls at once, and so many a minute, for all models that share them.

A throttle is the author's: one object for each provider and key, given to every model that asks
with that key. Calls and their retries are not known here.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress


class Throttle:
    """Lets calls through in the order in which they come. For any number of event loops."""

    def __init__(
        self, *, max_concurrent: int | None = None, max_per_minute: float | None = None
    ) -> None:
        """Sets the limits; None is none.

        Args:
            max_concurrent: calls at the same time, each until its answer has ended.
            max_per_minute: calls that begin in a minute; they are spread over it.

        Raises:
            ValueError: a limit is not more than 0.
        """
        for name, limit in (("max_concurrent", max_concurrent), ("max_per_minute", max_per_minute)):
            if limit is not None and not limit > 0:
                raise ValueError(f"{name} must be more than 0, or None, not {limit!r}")
        self._free = max_concurrent
        self._pause = 60.0 / max_per_minute if max_per_minute is not None else 0.0
        self._next = 0.0  # when the next call may begin, on time.monotonic's scale
        self._lock = threading.Lock()
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None, None]:
        """Waits for a turn, which lasts as long as the block. A cancel ends the wait at once."""
        await self._enter()
        try:
            await asyncio.sleep(self._wait())
            yield
        finally:
            self._leave()

    async def _enter(self) -> None:
        with self._lock:
            if self._free is None:
                return
            if self._free > 0:
                self._free -= 1
                return
            loop = asyncio.get_running_loop()
            turn: asyncio.Future[None] = loop.create_future()
            self._waiting.append((loop, turn))
        try:
            await turn
        except asyncio.CancelledError:
            with self._lock:
                gave_up = (loop, turn) in self._waiting
                if gave_up:
                    self._waiting.remove((loop, turn))
            if not gave_up:  # the turn had come
                self._leave()
            raise

    def _leave(self) -> None:
        with self._lock:
            while self._waiting:
                loop, turn = self._waiting.popleft()
                with suppress(RuntimeError):  # the loop is closed, and the call with it
                    loop.call_soon_threadsafe(_settle, turn)
                    return
            if self._free is not None:
                self._free += 1

    def _wait(self) -> float:
        """Seconds until this call may begin."""
        with self._lock:
            now = time.monotonic()
            begins = max(now, self._next)
            self._next = begins + self._pause
        return begins - now


def _settle(turn: "asyncio.Future[None]") -> None:
    if not turn.done():
        turn.set_result(None)
