"""Where starts wait for one another in a burst, so that every other call goes ahead of them.

gRPC hands calls over one by one, in the order in which they came, and a start costs several times
what taking a call does: a cancel behind thousands of starts would wait for them all. So in a burst
a start goes on only once the loop has taken what had come by then. What a start does is not known
here.
"""

import asyncio
from collections import deque

_QUIET = 0.0002
"""Seconds without a call after which what had come is taken: about twice as long as taking one."""
_SHARE = 8
"""Calls that may go ahead of one start, so that under a steady load starts come to their turn."""


class Turnstile:
    """Lets starts through in their order. Used on one loop only."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._inside = 0
        self._ahead = 0
        """Calls that came since a start was let through."""
        self._since = 0.0
        """When the last of them did."""

    def came(self) -> None:
        """A call has come, of whatever kind."""
        if self._waiting:
            self._ahead += 1
            self._since = self._loop.time()

    async def enter(self) -> "Turn":
        """Waits for a start's turn: not at all while no other start is waiting or under way."""
        self._inside += 1
        turn = Turn(self)
        if self._inside > 1:
            try:
                await self._wait()
            except BaseException:
                turn.leave()
                raise
        return turn

    async def _wait(self) -> None:
        let_through = self._loop.create_future()
        self._waiting.append(let_through)
        if len(self._waiting) == 1:
            self._begin_anew()
            self._loop.call_soon(self._look)
        await let_through

    def _look(self) -> None:
        # In every turn of the loop while somebody waits: between two of them it does what else
        # there is to do.
        if self._ahead >= _SHARE or self._loop.time() - self._since >= _QUIET:
            let_through = self._waiting.popleft()
            if not let_through.done():  # else its caller has left
                let_through.set_result(None)
            self._begin_anew()
        if self._waiting:
            self._loop.call_soon(self._look)

    def _begin_anew(self) -> None:
        self._ahead = 0
        self._since = self._loop.time()

    def _left(self) -> None:
        self._inside -= 1


class Turn:
    """A start that is under way."""

    __slots__ = ("_turnstile",)

    def __init__(self, turnstile: Turnstile) -> None:
        self._turnstile: Turnstile | None = turnstile

    def leave(self) -> None:
        """It has done its work, or given up; again: nothing."""
        if self._turnstile is not None:
            self._turnstile._left()
            self._turnstile = None
