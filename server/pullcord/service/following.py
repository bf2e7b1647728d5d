"""Following a run for one caller: the next message whenever the caller has taken the last one.

It holds a watcher's place and what was taken from it, no more. How a message is encoded and sent is
the transport's business.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from pullcord.engine.log.record import Record
from pullcord.engine.log.watch import Watcher
from pullcord.service.notifier import Notifier

_STRETCH = 32
"""Messages that are handed out without waiting before the loop gets a turn."""


class Following:
    """One caller's way through a run's events. Used by one task at a time; close it."""

    def __init__(
        self, watcher: Watcher, notifier: Notifier, begun: Callable[[], None] = lambda: None
    ) -> None:
        """`begun` is called once what there was at first is sent, and perhaps again."""
        self.run_id = watcher.run_id
        self._watcher = watcher
        self._notifier = notifier
        self._begun = begun
        self._taken: deque[Record] = deque()
        self._fresh = True
        self._stretch = 0

    async def next(self) -> Record | None:
        """The next message, a heartbeat if none came for long; None after the terminal event.

        To ask for the next one says that the last one was sent.
        """
        taken = self._taken
        while not taken:
            watcher = self._watcher
            if watcher.ended:
                return None
            if self._fresh:
                self._fresh = False
            else:
                self._begun()
                if not await self._notifier.wait(watcher.arm):
                    watcher.disarm()
                    return watcher.heartbeat()
                self._stretch = 0
            taken.extend(watcher.take())
        self._stretch += 1
        if self._stretch > _STRETCH:
            self._stretch = 0
            await asyncio.sleep(0)
        return taken.popleft()

    def close(self) -> None:
        """Leaves. The last one to leave a live run sets off its disconnect policy."""
        self._taken.clear()
        self._watcher.close()
        self._begun()
