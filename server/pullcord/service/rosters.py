"""Following the list of runs: one look for all callers, and each caller's way through what changes.

It looks while somebody follows, and a minute longer, for callers that come back. How a message is
encoded and sent is the transport's business; which runs a caller sees was decided before.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pullcord.engine.engine import Engine
from pullcord.engine.roster import Roster
from pullcord.run.errors import CredentialExpired, Draining, PullcordError
from pullcord.run.record import Run, RunFilter
from pullcord.run.scope import Reach
from pullcord.service.lanes import Lane

_log = logging.getLogger("pullcord.service")

_PACE = 0.1
"""Seconds between two looks, at least; and nine times as long as a look takes."""
_SLOW = 1.0
"""Seconds between two looks at what runs have used, and at a shared store."""
_LINGER = 60.0
"""Seconds that it goes on looking after the last caller has left."""
_TURN = 32
"""Messages that are handed out without waiting before the loop gets a turn."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that a follower of the list learns."""

    position: str
    run: Run | None = None
    caught_up: bool = False
    missed: bool = False


class Rosters:
    """The looking of one server. Made and used on one loop."""

    def __init__(self, engine: Engine, lane: Lane, heartbeat: float) -> None:
        self._engine = engine
        self._lane = lane
        self.heartbeat = heartbeat
        self._roster: Roster | None = None
        self._followers: set[ListFollowing] = set()
        self._looking: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self.has_ended = False

    async def follow(
        self, reach: Reach, matching: RunFilter, after: str, on_close: Callable[[], None]
    ) -> "ListFollowing":
        """A new follower of the runs within reach that match. `on_close`: called once it leaves.

        Raises:
            StoreUnavailable, ServerBusy: nobody looks yet, and looking fails.
        """
        try:
            async with self._opening:
                roster = self._roster or await self._open()
            following = ListFollowing(self, roster, reach, matching, after, on_close)
        except BaseException:
            on_close()
            raise
        self._followers.add(following)
        return following

    def left(self, following: "ListFollowing") -> None:
        """One less follows."""
        self._followers.discard(following)

    async def _open(self) -> Roster:
        roster = self._engine.roster()
        roster.open()
        try:
            await self._look(roster, slow=True)
        except BaseException:
            roster.close()
            raise
        self._roster = roster
        self._looking = asyncio.create_task(self._look_on(roster))
        return roster

    async def _look(self, roster: Roster, *, slow: bool) -> None:
        await self._lane.ask(roster.look, usage=slow, elsewhere=slow)

    async def _look_on(self, roster: Roster) -> None:
        slow_at = idle_since = time.monotonic()
        try:
            while True:
                begun = time.monotonic()
                slow = begun - slow_at >= _SLOW
                if slow:
                    slow_at = begun
                try:
                    await self._look(roster, slow=slow)
                except PullcordError as error:
                    _log.warning("the list of runs cannot be looked at now: %s", error)
                except Exception:
                    _log.exception("looking at the list of runs failed by a mistake of ours")
                for following in self._followers:
                    following.wake.set()
                now = time.monotonic()
                if self._followers:
                    idle_since = now
                elif now - idle_since > _LINGER:
                    return
                await asyncio.sleep(max(_PACE, 9 * (now - begun)))
        finally:
            roster.close()
            self._roster = None
            for following in self._followers:
                following.wake.set()

    def end(self) -> None:
        """Every follower is refused from now on: the server stops, and a list never ends."""
        self.has_ended = True
        for following in self._followers:
            following.wake.set()

    async def close(self) -> None:
        """Looks no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)


class ListFollowing:
    """One caller's way through the changes. Used by one task at a time; close it."""

    def __init__(
        self,
        rosters: Rosters,
        roster: Roster,
        reach: Reach,
        matching: RunFilter,
        after: str,
        on_close: Callable[[], None],
    ) -> None:
        self._rosters = rosters
        self._roster = roster
        self._reach, self._matching = reach, matching
        self._on_close: Callable[[], None] | None = on_close
        self._check: Callable[[], Awaitable[bool]] | None = None
        self._due: deque[Notice] = deque()
        self._handed = 0
        self.wake = asyncio.Event()
        place = roster.number_at(after)
        self._number = 0
        if place is not None and roster.since(place) is not None:
            self._number = place
            self._due.append(self._notice(caught_up=True))
        else:
            self._begin_anew(missed=bool(after))

    def check_by(self, check: Callable[[], Awaitable[bool]]) -> None:
        """Asks this once a heartbeat whether the caller may still follow."""
        self._check = check

    async def next(self) -> Notice:
        """Waits for the next thing to say, or for the time of a heartbeat.

        Raises CredentialExpired once the caller's credential is not valid any more, and Draining
        when the server stops.
        """
        self._handed += 1
        if self._handed % _TURN == 0:
            await asyncio.sleep(0)
        beats_at = asyncio.get_running_loop().time() + self._rosters.heartbeat
        while not self._due:
            if self._rosters.has_ended:
                raise Draining
            try:
                async with asyncio.timeout_at(beats_at):
                    await self.wake.wait()
            except TimeoutError:
                if self._check is not None and not await self._check():
                    raise CredentialExpired("") from None
                return self._notice()
            self.wake.clear()
            self._take()
        return self._due.popleft()

    def close(self) -> None:
        """Leaves."""
        self._rosters.left(self)
        if self._on_close is not None:
            on_close, self._on_close = self._on_close, None
            on_close()

    def _take(self) -> None:
        changes = self._roster.since(self._number)
        if changes is None:
            self._begin_anew(missed=True)
            return
        latest: dict[tuple[object, str], tuple[int, Run]] = {}
        for change in changes:
            if self._sees(change.run):
                key = change.run.scope, change.run.run_id
                latest.pop(key, None)
                latest[key] = change.number, change.run
        for number, run in latest.values():
            self._number = number
            self._due.append(self._notice(run))
        if changes:
            self._number = changes[-1].number

    def _begin_anew(self, *, missed: bool) -> None:
        self._number, live = self._roster.now()
        if missed:
            self._due.append(self._notice(missed=True))
        self._due.extend(self._notice(run) for run in live if self._sees(run))
        self._due.append(self._notice(caught_up=True))

    def _sees(self, run: Run) -> bool:
        return self._reach.covers(run.scope) and self._matching.matches(run)

    def _notice(
        self, run: Run | None = None, *, caught_up: bool = False, missed: bool = False
    ) -> Notice:
        return Notice(self._roster.position(self._number), run, caught_up, missed)
