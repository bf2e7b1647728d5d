"""The thread that talks to PostgreSQL: one event loop, and how other threads call on it.

What is asked is not known here.
"""

import asyncio
import concurrent.futures
import contextlib
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from pullcord.run.errors import StoreUnavailable

if sys.platform == "win32":
    _new_loop = asyncio.new_event_loop
else:
    import uvloop

    _new_loop = uvloop.new_event_loop

_LONGEST = 5.0
"""Seconds that a caller waits, at most: a little more than a verb is tried."""

T = TypeVar("T")


class LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self, name: str) -> None:
        self._loop = _new_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lock = threading.Lock()
        self._closed = False
        """Whether it takes nothing more: what comes after the last cancel would be cut off."""
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T], timeout: float = _LONGEST) -> T:
        """Runs it there, and waits for its answer. Not to be called from the loop itself.

        Raises:
            StoreUnavailable: none came in `timeout` seconds.
        """
        with self._lock:
            if self._closed:
                work.close()
                raise StoreUnavailable("the store is closed")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        return self._answer(future, timeout)

    def _answer(self, future: "concurrent.futures.Future[T]", timeout: float) -> T:
        try:
            return future.result(timeout)
        except concurrent.futures.TimeoutError as error:
            future.cancel()
            raise StoreUnavailable("the store does not answer in time") from error
        except concurrent.futures.CancelledError as error:
            raise StoreUnavailable("the store is closed") from error

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs it there until it ends, or the loop is closed. Any thread, the loop's own too."""

        def start() -> None:
            task = self._loop.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._loop.call_soon_threadsafe(start)

    def soon(self, callback: Callable[[], None]) -> None:
        """Calls back on the loop. Any thread."""
        with contextlib.suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(callback)

    def close(self) -> None:
        """Cancels what runs there, and ends the thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True

        async def cancel_all() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            if others:
                await asyncio.wait(others, timeout=1.0)

        with contextlib.suppress(StoreUnavailable):
            self._answer(asyncio.run_coroutine_threadsafe(cancel_all(), self._loop), 2.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(2.0)
        if not self._thread.is_alive():
            self._loop.close()
