"""Lanes: which calls may wait for the store in which threads, and how many of them.

Calls of one lane wait for each other and for nobody else, so that a store that hangs under lists
or starts keeps no cancel waiting. What a call does is not known here.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from pullcord.run.errors import ServerBusy
from pullcord.service.turnstile import Turnstile

_THREADS = 4
_MOST_CALLS = 1000
"""Calls of one lane that are under way or wait for a thread."""
_MOST_CANCELS = 100_000
"""As many as there may be cancels before their runs."""

P = ParamSpec("P")
T = TypeVar("T")


class Lane:
    """A few threads for one kind of call. Used on one loop only."""

    def __init__(self, name: str, threads: int, most: int) -> None:
        self._name = name
        self._most = most
        self._pool = ThreadPoolExecutor(threads, f"pullcord-{name}")
        self._lock = threading.Lock()
        self._inside = 0

    async def ask(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls in a thread of this lane. A caller that leaves gives up its place.

        Raises:
            ServerBusy: `most` calls are under way or wait; and whatever the call raises.
        """
        return await asyncio.wrap_future(self.submit(call, *args, **kwargs))

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Calls in a thread of this lane. Raises ServerBusy."""
        with self._lock:
            if self._inside >= self._most:
                raise ServerBusy(f"{self._most} {self._name} wait already; try again later")
            self._inside += 1
        try:
            future = self._pool.submit(call, *args, **kwargs)
        except BaseException:
            self._leave()
            raise
        future.add_done_callback(self._leave)
        return future

    def close(self) -> None:
        """Takes no more calls; those under way go on."""
        self._pool.shutdown(wait=False)

    def _leave(self, _: object = None) -> None:
        with self._lock:
            self._inside -= 1


class Lanes:
    """The lanes of one server."""

    def __init__(self, loop: asyncio.AbstractEventLoop, max_starts: int) -> None:
        self.turnstile = Turnstile(loop, max_starts)
        """The queue in which starts let other calls go ahead of them."""
        self.starts = Lane("starts", _THREADS, max_starts)
        self.lookups = Lane("lookups", _THREADS, _MOST_CALLS)
        """For one run that is not live here."""
        self.lists = Lane("lists", _THREADS, _MOST_CALLS)
        """For many runs at once: pages, and cancels by a filter."""
        self.cancels = Lane("cancels", _THREADS, _MOST_CANCELS)
        """For the cancel of one run that is not live here."""
        self.requests = Lane("requests", 1, _MOST_CALLS)
        """For the reading of large requests."""

    def close(self) -> None:
        """Takes no more calls."""
        for lane in (self.starts, self.lookups, self.lists, self.cancels, self.requests):
            lane.close()
