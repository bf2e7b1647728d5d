"""Where starts wait for one another in a burst, so that every other call goes ahead of them.

gRPC hands calls over one at a time, in the order in which they came, and a start keeps the loop
several times as long as taking a call does: a cancel behind thousands of starts would wait for them
all. So in a burst starts take turns, and between two of them the loop takes other calls.
"""

import asyncio
from collections import deque

from pullcord.run.errors import ServerBusy

_TURNS = 16
"""Turns of the loop between two starts: enough to take a call, which needs a few turns itself. More
would delay starts without letting calls through any sooner."""


class Turnstile:
    """Lets starts through in their order, and refuses more than `most`. Used on one loop only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        self._loop = loop
        self._most = most
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._inside = 0
        self._turns = 0

    async def enter(self) -> "Turn":
        """Waits for a start's turn: not at all while no other start is waiting or under way.

        Raises:
            ServerBusy: `most` starts are waiting or under way.
        """
        if self._inside >= self._most:
            raise ServerBusy(f"{self._most} starts wait for their turn; try again later")
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
            self._turns = 0
            self._loop.call_soon(self._look)
        await let_through

    def _look(self) -> None:
        # Once in every turn of the loop, while somebody waits.
        self._turns += 1
        if self._turns >= _TURNS:
            self._turns = 0
            let_through = self._waiting.popleft()
            if not let_through.done():  # else its caller has left
                let_through.set_result(None)
        if self._waiting:
            self._loop.call_soon(self._look)

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
