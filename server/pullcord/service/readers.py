"""The followings whose caller has not taken the last message yet, and a bound on what they hold.

A caller may open a stream and never read it. While its run is live, the run's own bounds hold. Once
the run has ended, the stream would keep its log for as long as the caller likes; so beyond a bound
the followings that have stood still for longest let go. How a run is followed is not known here.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from pullcord.engine.log.log import EventLog
from pullcord.service.reclaim import reclaim

_log = logging.getLogger("pullcord.service")

_TICK = 0.2
_STALLED = 0.4
"""Seconds without a step after which a following counts as standing still."""
_RECLAIM = 64 * 1024 * 1024
"""Bytes that were let go before memory is reclaimed, at least: that takes a while."""


class Held(Protocol):
    """A following, as it is seen here."""

    run_id: str

    def ended_log(self) -> EventLog | None:
        """The log that it holds, if its run has ended."""

    def let_go(self) -> None:
        """Holds nothing from now on; its caller is refused when it reads again."""


class Readers:
    """The followings of one loop whose last message is being sent."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        max_bytes: int,
        reclaim: Callable[[], None] = reclaim,
    ) -> None:
        """`max_bytes` bounds the logs of ended runs that followings hold which stand still."""
        self._loop = loop
        self._max_bytes = max_bytes
        self._reclaim = reclaim
        self._let_go = 0
        # In the order in which they were handed their last message.
        self._sending: dict[Held, float] = {}

    def sending(self, following: Held) -> None:
        """The following has handed out a message."""
        self._sending[following] = self._loop.time()

    def sent(self, following: Held) -> None:
        """The message was sent, or its caller has left."""
        self._sending.pop(following, None)

    async def watch(self) -> None:
        """Looks again and again. Ends with the server."""
        while True:
            await asyncio.sleep(_TICK)
            self.trim()
            if self._let_go >= max(self._max_bytes, _RECLAIM):
                self._let_go = 0
                await self._loop.run_in_executor(None, self._reclaim)

    def trim(self) -> None:
        """Lets the followings go that have stood still for longest, until the bound holds."""
        since = self._loop.time() - _STALLED
        stalled: list[tuple[Held, EventLog]] = []
        for following, handed in self._sending.items():
            if handed > since:
                break
            log = following.ended_log()
            if log is not None:
                stalled.append((following, log))
        seen: set[EventLog] = set()
        held = 0
        for following, log in reversed(stalled):
            if log not in seen:
                seen.add(log)
                held += log.nbytes
            if held > self._max_bytes:
                _log.warning(
                    "run %s: its events were let go, a caller does not read", following.run_id
                )
                following.let_go()
                self._let_go += log.nbytes
                self._sending.pop(following)
