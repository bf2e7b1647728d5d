"""Following a run for one caller: the next message whenever the caller has taken the last one.

It holds a watcher's place and what was taken from it, no more. How a message is encoded and sent is
the transport's business.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from pullcord.engine.log.log import EventLog
from pullcord.engine.log.record import Record
from pullcord.engine.log.watch import Watcher
from pullcord.run.errors import ServerBusy
from pullcord.service.notifier import Notifier
from pullcord.service.readers import Readers

_STRETCH = 32
"""Messages that are handed out without waiting before the loop gets a turn."""


class Following:
    """One caller's way through a run's events. Used by one task at a time; close it.

    `ready` and `take` go in turns. To ask whether the next is ready says that the last was sent.
    """

    def __init__(
        self,
        watcher: Watcher,
        notifier: Notifier,
        readers: Readers,
        begun: Callable[[], None] = lambda: None,
    ) -> None:
        """`begun` is called once what there was at first is sent, and perhaps again."""
        self.run_id = watcher.run_id
        self._watcher: Watcher | None = watcher
        self._notifier = notifier
        self._readers = readers
        self._begun = begun
        self._taken: deque[Record] = deque()
        self._fresh = True
        self._stretch = 0

    async def ready(self) -> Record | None:
        """Waits for the next message, or for the time of a heartbeat; None after the terminal one.

        The message stays here until it is taken: a caller that waits for room holds nothing.

        Raises:
            ServerBusy: the caller read so slowly that the events of the ended run were let go.
        """
        self._readers.sent(self)
        taken = self._taken
        while not taken:
            watcher = self._watcher
            if watcher is None:
                raise _too_slow(self.run_id)
            if watcher.ended:
                return None
            if self._fresh:
                self._fresh = False
            else:
                self._begun()
                if not await self._notifier.wait(watcher.arm):
                    watcher.disarm()
                    taken.append(watcher.heartbeat())
                    break
                self._stretch = 0
            taken.extend(watcher.take())
        self._stretch += 1
        if self._stretch > _STRETCH:
            self._stretch = 0
            await asyncio.sleep(0)
        self._readers.sending(self)
        return taken[0]

    def take(self) -> Record:
        """The message that is ready. Raises ServerBusy as `ready` does."""
        if not self._taken:
            raise _too_slow(self.run_id)
        return self._taken.popleft()

    def ended_log(self) -> EventLog | None:
        """The log that this holds, if its run has ended."""
        return None if self._watcher is None else self._watcher.ended_log()

    def let_go(self) -> None:
        """Holds nothing from now on."""
        self._taken.clear()
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None

    def close(self) -> None:
        """Leaves. The last one to leave a live run sets off its disconnect policy."""
        self._readers.sent(self)
        self.let_go()
        self._begun()


def _too_slow(run_id: str) -> ServerBusy:
    return ServerBusy(
        f"run {run_id!r} has ended, and its events were read so slowly that they were let go;"
        " watch it again after the last event seen"
    )
