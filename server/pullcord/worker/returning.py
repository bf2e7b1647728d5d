"""How a worker elsewhere comes back: it opens the connections of its session after the first.

When a connection is lost, and when it is too late for another, is decided in `link.relay`.
"""

import random
import threading

from pullcord.link.greeting import LinkRefused, Member, call_again
from pullcord.link.lease import Pace
from pullcord.link.relay import Doorstep

_SOON, _LATER = 0.05, 1.0
"""Seconds until the first attempt, and at most between two. Up to half of it is left to chance: a
server that is back must not meet all its workers in one moment."""


class Returning:
    """Opens connections, each in a thread of its own, one at a time."""

    def __init__(self, address: tuple[str, int], member: Member) -> None:
        self.door: Doorstep | None = None
        """Where they are handed in."""
        self._address = address
        self._member = member
        self._timeout = max(1.0, Pace(member.lease).silence)
        self._wait = _SOON

    def begin(self, was_of_use: bool) -> None:
        """The connection that there was is lost; `was_of_use`: something had come over it."""
        if was_of_use:
            self._wait = _SOON
        threading.Thread(target=self._run, name="pullcord-return", daemon=True).start()

    def _run(self) -> None:
        assert self.door is not None
        while not self.door.closed.wait(self._wait * random.uniform(0.5, 1.0)):
            self._wait = min(self._wait * 2, _LATER)
            try:
                link = call_again(*self._address, self._member, self._timeout)
            except LinkRefused as error:
                self.door.refuse(str(error))
            except OSError:  # it may be there again, until the lease is over
                continue
            else:
                self.door.hand_in(link)
            return
