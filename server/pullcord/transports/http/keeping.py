"""Keeps paused runs whose stream has ended with the pause, as some protocols have it.

Such a run is stopped when its client leaves. Its client has not left: it asks somebody. So the
server itself follows the run until it ends, or is continued by a client that follows it again.
"""

import asyncio

from pullcord.run.errors import PullcordError
from pullcord.run.events import TERMINAL_PAYLOADS
from pullcord.run.scope import Scope
from pullcord.service.following import Following

Key = tuple[Scope, str]


class Keeping:
    """The paused runs of one server. Used on one loop."""

    def __init__(self) -> None:
        self._kept: dict[Key, asyncio.Task[None]] = {}

    def keep(self, key: Key, following: Following) -> None:
        """Follows this run from now on, and closes the following itself."""
        self.let_go(key)
        task = asyncio.create_task(self._follow(following))
        self._kept[key] = task
        task.add_done_callback(lambda done: self._ended(key, done))

    def let_go(self, key: Key) -> None:
        """Somebody else follows the run now."""
        if (task := self._kept.pop(key, None)) is not None:
            task.cancel()

    def _ended(self, key: Key, task: asyncio.Task[None]) -> None:
        if self._kept.get(key) is task:
            del self._kept[key]

    async def _follow(self, following: Following) -> None:
        following.check_by(_always)  # a person may take longer than a credential lasts
        try:
            while await following.ready() is not None:
                record = following.take()
                if record.source is None and isinstance(record.payload, TERMINAL_PAYLOADS):
                    return
        except PullcordError:
            return
        finally:
            following.close()


async def _always() -> bool:
    return True
