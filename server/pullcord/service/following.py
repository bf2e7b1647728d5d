"""Following a run for one caller: the next message whenever the caller has taken the last one.

It holds a watcher's place and what was taken from it, no more. How a message is encoded and sent is
the transport's business.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from pullcord.engine.log.log import EventLog
from pullcord.engine.log.record import Record
from pullcord.engine.log.watch import Watcher
from pullcord.run.errors import CredentialExpired, ServerBusy
from pullcord.service.notifier import Notifier
from pullcord.service.readers import Readers

_STRETCH = 32
"""Messages that are handed out without waiting before the loop gets a turn."""


Check = Callable[[], Awaitable[bool]]
"""Whether the caller's credential is still valid."""


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
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        """`begun` is called once what there was at first is sent; `on_close`, when nothing is held
        any more."""
        self.run_id = watcher.run_id
        self._watcher: Watcher | None = watcher
        self._notifier = notifier
        self._readers = readers
        self._begun: Callable[[], None] | None = begun
        self._on_close = on_close
        self._check: Check | None = None
        self._check_at = 0.0
        self._taken: deque[Record] = deque()
        self._fresh = True
        self._stretch = 0

    def check_by(self, check: "Check") -> None:
        """Asks this again and again whether the caller may still follow."""
        self._check = check
        self._check_at = asyncio.get_running_loop().time() + self._notifier.heartbeat

    async def _still_may(self) -> None:
        """Raises CredentialExpired if the caller's credential is worth nothing any more."""
        now = asyncio.get_running_loop().time()
        if self._check is None or now < self._check_at:
            return
        self._check_at = now + self._notifier.heartbeat
        if not await self._check():
            self.let_go(comes_back=True)
            raise CredentialExpired(self.run_id)

    async def ready(self) -> Record | None:
        """Waits for the next message, or for the time of a heartbeat; None after the terminal one.

        The message stays here until it is taken: a caller that waits for room holds nothing.

        Raises:
            ServerBusy: the caller read so slowly that the events of the ended run were let go.
            CredentialExpired: the caller's credential is not valid any more. The run gets a lease.
        """
        self._readers.sent(self)
        if self._check is not None:
            await self._still_may()
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
                self._has_begun()
                self._stretch = 0
                future = self._notifier.armed(watcher.arm)
                if future is not None:
                    try:
                        has_come = await future
                    finally:
                        self._notifier.waited(future)
                    if not has_come:
                        watcher.disarm()
                        await self._still_may()
                        taken.append(watcher.heartbeat())
                        break
            taken.extend(watcher.take())
        self._stretch += 1
        if self._stretch > _STRETCH:
            self._stretch = 0
            await asyncio.sleep(0)
        self._readers.sending(self)
        return taken[0]

    def _has_begun(self) -> None:
        if self._begun is not None:
            self._begun()
            self._begun = None

    def take(self) -> Record:
        """The message that is ready. Raises ServerBusy as `ready` does."""
        if not self._taken:
            raise _too_slow(self.run_id)
        return self._taken.popleft()

    def ended_log(self) -> EventLog | None:
        """The log that this holds, if its run has ended."""
        return None if self._watcher is None else self._watcher.ended_log()

    def let_go(self, *, comes_back: bool = False) -> None:
        """Holds nothing from now on. `comes_back`: the caller is expected to watch again."""
        self._taken.clear()
        if self._watcher is not None:
            self._watcher.close(comes_back=comes_back)
            self._watcher = None
            self._on_close()

    def close(self) -> None:
        """Leaves. The last one to leave a live run sets off its disconnect policy."""
        self._readers.sent(self)
        self.let_go()
        self._has_begun()


def _too_slow(run_id: str) -> ServerBusy:
    return ServerBusy(
        f"run {run_id!r} has ended, and its events were read so slowly that they were let go;"
        " watch it again after the last event seen"
    )
