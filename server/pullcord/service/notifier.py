"""Wakes the tasks of one loop that wait for a run: streams for events, calls for its end.

It keeps no run and no event. 1,000 watchers of one run are woken in batches, so that between two
of them the loop takes other calls.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from functools import partial

_BATCH = 16
"""Tasks that are woken before the loop looks at its sockets again."""

Arm = Callable[[Callable[[], None]], bool]
"""Takes a callback, called once and from any thread; False: what is waited for is there."""


class Notifier:
    """Made and used on one loop; only what it hands to `arm` may be called from other threads."""

    def __init__(self, loop: asyncio.AbstractEventLoop, heartbeat: float) -> None:
        """`heartbeat` is in seconds."""
        self._loop = loop
        self._thread = threading.get_ident()
        self.heartbeat = heartbeat
        self._due: deque[asyncio.Future[bool]] = deque()
        self._scheduled = False
        self._woken = 0  # since `_wake` was called last
        # In the order in which they began to wait, so the ticker looks at the oldest only.
        self._silent: dict[asyncio.Future[bool], float] = {}

    async def wait(self, arm: Arm, *, heartbeat: bool = True) -> bool:
        """Waits for what `arm` arms; False if a heartbeat is due instead."""
        future = self.armed(arm, heartbeat=heartbeat)
        if future is None:
            return True
        try:
            return await future
        finally:
            self.waited(future)

    def armed(self, arm: Arm, *, heartbeat: bool = True) -> "asyncio.Future[bool] | None":
        """As `wait`, without a coroutine: what to await, and then to give to `waited`; None: it is
        there."""
        future: asyncio.Future[bool] = self._loop.create_future()
        if not arm(partial(self._notify, future)):
            future.cancel()  # a call that is under way already finds nobody
            return None
        if heartbeat:
            self._silent[future] = self._loop.time()
        return future

    def waited(self, future: "asyncio.Future[bool]") -> None:
        """Nobody awaits this any more."""
        self._silent.pop(future, None)

    async def tick(self) -> None:
        """Lets every stream that was silent for too long send a heartbeat. Ends with the server."""
        while True:
            await asyncio.sleep(self.heartbeat / 4)
            due = self._loop.time() - self.heartbeat
            for future, since in list(self._silent.items()):
                if since > due:
                    break
                if not future.done():
                    future.set_result(False)

    def _notify(self, future: "asyncio.Future[bool]") -> None:
        # Any thread. Frames of workers are read on the loop itself: then no hand-over is needed.
        on_loop = threading.get_ident() == self._thread
        if on_loop and self._woken < _BATCH and not self._due:
            self._set(future)
            return
        # The future goes in before the flag is read, and the flag is lowered before the queue is
        # emptied, so that none is left behind.
        self._due.append(future)
        if self._scheduled:
            return
        self._scheduled = True
        try:
            if on_loop:
                self._loop.call_soon(self._wake)
            else:
                self._loop.call_soon_threadsafe(self._wake)
        except BaseException as error:
            # Code at Python's recursion limit, which may get here, must not silence all others.
            self._scheduled = False
            # Else the loop is closed, and its tasks are gone.
            if not isinstance(error, RuntimeError) or isinstance(error, RecursionError):
                raise

    def _wake(self) -> None:
        # The tasks that were woken before this was scheduled have run: the loop goes by turns.
        self._scheduled = False
        self._woken = 0
        while self._due:
            if self._woken == _BATCH:
                self._scheduled = True
                self._loop.call_soon(self._wake)
                return
            self._set(self._due.popleft())

    def _set(self, future: "asyncio.Future[bool]") -> None:
        if not future.done():
            self._woken += 1
            future.set_result(True)
