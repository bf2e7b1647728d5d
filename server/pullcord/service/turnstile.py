"""Makes the starts of a burst wait for one another, so that every other call goes ahead.

gRPC hands calls over one at a time, in the order in which they came, and a start keeps the loop
several times as long as taking a call does: a cancel behind thousands of starts would wait for them
all. So in a burst starts take turns, and between two of them the loop takes other calls.

Owners take turns as well: a burst of one of them delays another's start by one start.
"""

import asyncio
from collections import OrderedDict, deque

from pullcord.run.errors import ServerBusy
from pullcord.run.scope import LOCAL, Scope

_TURNS = 16
"""Turns of the loop between two starts: enough to take a call, which needs a few turns itself. More
would delay starts without letting calls through any sooner."""


class Turnstile:
    """Lets starts through, each owner's in their order, and refuses more than `most`. Used on one
    loop only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        """No owner that was verified has more than half of `most` places."""
        self._loop = loop
        self._most = most
        # The owner whose turn is next comes first.
        self._waiting: OrderedDict[Scope, deque[asyncio.Future[None]]] = OrderedDict()
        self._inside = 0
        self._of: dict[Scope, int] = {}
        self._turns = 0

    async def enter(self, owner: Scope = LOCAL) -> "Turn":
        """Waits for a start's turn: not at all while no other start is waiting or under way.

        Raises:
            ServerBusy: `most` starts are waiting or under way, or half of it are the owner's.
        """
        own = self._of.get(owner, 0)
        if self._inside >= self._most:
            raise ServerBusy(f"{self._most} starts wait for their turn; try again later")
        if owner != LOCAL and own >= max(1, self._most // 2):
            raise ServerBusy(f"{own} starts of yours wait for their turn; try again later")
        self._inside += 1
        self._of[owner] = own + 1
        turn = Turn(self, owner)
        if self._inside > 1:
            try:
                await self._wait(owner)
            except BaseException:
                turn.leave()
                raise
        return turn

    async def _wait(self, owner: Scope) -> None:
        let_through = self._loop.create_future()
        if not self._waiting:
            self._turns = 0
            self._loop.call_soon(self._look)
        self._waiting.setdefault(owner, deque()).append(let_through)
        await let_through

    def _look(self) -> None:
        # Once in every turn of the loop, while somebody waits.
        self._turns += 1
        if self._turns >= _TURNS:
            self._turns = 0
            owner, own = next(iter(self._waiting.items()))
            let_through = own.popleft()
            if own:
                self._waiting.move_to_end(owner)
            else:
                del self._waiting[owner]
            if not let_through.done():  # else its caller has left
                let_through.set_result(None)
        if self._waiting:
            self._loop.call_soon(self._look)

    def _left(self, owner: Scope) -> None:
        self._inside -= 1
        self._of[owner] -= 1
        if not self._of[owner]:
            del self._of[owner]


class Turn:
    """A start that is under way."""

    __slots__ = ("_owner", "_turnstile")

    def __init__(self, turnstile: Turnstile, owner: Scope) -> None:
        self._turnstile: Turnstile | None = turnstile
        self._owner = owner

    def leave(self) -> None:
        """It has done its work, or given up; again: nothing."""
        if self._turnstile is not None:
            self._turnstile._left(self._owner)
            self._turnstile = None
