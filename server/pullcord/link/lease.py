"""The lease of a session: how long either end goes on without a connection, and by which clock.

Values only. Who measures it, and what its end means, is not known here.
"""

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a session goes on without a connection, in seconds."""

    lease: float
    """That of the end that calls. It begins when a ping is sent that is answered, and the other
    end's when something comes, so it is over no later than that."""

    @property
    def kept(self) -> float:
        """That of the end that is called: so much longer that the other one has ended by then."""
        return self.lease * 1.1 + 0.5

    @property
    def guarded(self) -> float:
        """After so long the guard of the end that calls ends its worker, if that end could not: it
        gives it a moment, and is over before `kept`."""
        return (self.lease + self.kept) / 2

    @property
    def every(self) -> float:
        """Between two pings."""
        return min(1.0, self.lease / 10)

    @property
    def silence(self) -> float:
        """After so long a connection on which nothing comes is given up."""
        return min(5.0, self.lease / 3)


def now() -> float:
    """By a clock that goes on while the machine is suspended, where there is one: the lease of an
    end that calls does so, too."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
