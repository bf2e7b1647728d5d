"""Reports from other threads: a framework runs sync code in threads, which may have loops of their
own, and a report is made on the run's event loop.

What is reported, and what it means, is not known here.
"""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import TypeVar

from pullcord.run.errors import RunCancelledError

_T = TypeVar("_T")


class OwnLoop:
    """The event loop of one run, reached from any thread."""

    def __init__(self) -> None:
        """Made on that loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    @property
    def is_here(self) -> bool:
        """Whether the caller is on it."""
        return threading.get_ident() == self._thread

    def do(self, act: Callable[[], object]) -> None:
        """Does it on the run's loop: now, or soon after what was done there before."""
        if self.is_here:
            act()
        else:
            self._loop.call_soon_threadsafe(act)

    async def ask(self, act: Callable[[], _T]) -> _T:
        """What this comes to on the run's loop."""
        if self.is_here:
            return act()
        return await asyncio.wrap_future(self._asked(act))

    def wait_for(self, act: Callable[[], _T]) -> _T:
        """As `ask`, for sync code."""
        return act() if self.is_here else self._asked(act).result()

    async def begin(self, may: Callable[[], bool]) -> None:
        """Returns if something may begin. Otherwise it waits for the interrupt, which does not
        come to other threads: there it raises RunCancelledError."""
        if await self.ask(may):
            return
        if self.is_here:
            await asyncio.Event().wait()  # which nobody sets
        raise RunCancelledError("the run must stop: nothing more begins")

    def _asked(self, act: Callable[[], _T]) -> "concurrent.futures.Future[_T]":
        answer: concurrent.futures.Future[_T] = concurrent.futures.Future()

        def answered() -> None:
            try:
                answer.set_result(act())
            except BaseException as error:
                answer.set_exception(error)

        self._loop.call_soon_threadsafe(answered)
        return answer
