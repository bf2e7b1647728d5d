"""The base of every surface: the front of the server, and what several surfaces need of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from pullcord.engine.log.record import Record
from pullcord.run.caller import Caller
from pullcord.run.record import Run
from pullcord.run.requests import GetRequest
from pullcord.service.following import Following
from pullcord.service.rosters import ListFollowing
from pullcord.transports.answering import LARGE
from pullcord.transports.front import Front
from pullcord.transports.http.keeping import Keeping
from pullcord.transports.http.messages import Request
from pullcord.transports.http.options import HttpOptions
from pullcord.wire.json import event_json

_TURN = 8
"""Records between two turns of the loop: a flood of one reader's must not delay others' cancels."""


@dataclass(frozen=True, slots=True)
class Web:
    """One server, as its surfaces see it."""

    front: Front
    options: HttpOptions
    closers: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    """Called when the server has stopped: what a surface began beside the requests ends."""
    keeping: Keeping = field(default_factory=Keeping)
    """Of all surfaces together: what one keeps, another may continue."""

    def follow(
        self, following: Following | ListFollowing, request: Request, caller: Caller
    ) -> None:
        """From now on the following ends when the caller's credential does."""
        if (still := self.front.callers.still(request.incoming, caller)) is not None:
            following.check_by(still)

    async def records(self, following: Following) -> AsyncIterator[Record]:
        """A run's records until the terminal one. The maker of the following closes it.

        Raises what `Following.ready` does.
        """
        since = 0
        while await following.ready() is not None:
            yield following.take()
            since += 1
            if since == _TURN:
                since = 0
                await asyncio.sleep(0)

    async def ended(self, following: Following, caller: Caller) -> Run:
        """The run once it has ended, for a caller that waits; one that leaves has left the run."""
        try:
            async for _ in self.records(following):
                pass
        finally:
            following.close()
        return await self.front.verbs.get(caller, GetRequest(following.run_id))

    async def event_json(self, run_id: str, record: Record) -> bytes:
        """The JSON of an event; that of a large one is made aside."""
        if is_large(record):
            return await self.front.encoder.event_json(run_id, record)
        return event_json(run_id, record)


@dataclass(slots=True)
class OneCall:
    """A call, as the rpcs see it. HTTP waits for a slow reader by itself."""

    caller: Caller

    def has_room(self, size: int) -> bool:
        """Always."""
        return True

    async def room(self, size: int, held: int = 0) -> None:
        """There is always room: an answer is sent as the connection takes it."""


def is_large(record: Record) -> bool:
    """Whether an event is encoded aside."""
    return (len(record.text) if record.payload is None else record.nbytes) >= LARGE
