"""The part of a start beside the run's spec. Values only; admission acts on them."""

import asyncio
from dataclasses import dataclass

from pullcord.engine.shares import TakeShare, no_share
from pullcord.run.record import DisconnectPolicy
from pullcord.run.runnable import Runnable
from pullcord.run.scope import LOCAL, Scope


@dataclass(frozen=True, slots=True)
class Start:
    """A start, apart from its spec."""

    runnable: Runnable
    default_policy: DisconnectPolicy = DisconnectPolicy.CONTINUE
    """Holds if the spec has none."""
    deadline: float | None = None
    """Seconds from now; the run ends a little before, cause DEADLINE."""
    loop: asyncio.AbstractEventLoop | None = None
    """Async code runs there, instead of on a run loop."""
    parent_run_id: str = ""
    """The run is a child of this run of the same scope, if that is live here."""
    scope: Scope = LOCAL
    """Whose the run is."""
    share: TakeShare = no_share
    """The share of its owner."""


def margin(deadline: float) -> float:
    """Seconds before a caller's deadline, that many seconds from now, at which its run is stopped.

    A tenth of the time, at least 0.15 s and at most 2 s, and never more than half: enough to stop,
    and for the terminal event to travel.
    """
    return min(deadline / 2, max(0.15, min(2.0, deadline / 10)))
