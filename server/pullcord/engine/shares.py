"""The shares of callers and tenants in all servers together, and what a tenant has used.

Values, and the refusals when a bound is reached. What is counted is counted by the store, in the
transaction that takes it, so that no two servers give away the same place.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from pullcord.run.errors import QuotaExceeded

HOURS = 24
"""Full hours that a day's usage is the sum of, the one that runs included."""


@dataclass(frozen=True, slots=True)
class Share:
    """Bounds on runs that callers have started and that have not ended. None: there is none."""

    per_caller: int | None = None
    per_tenant: int | None = None

    def check(self, of_caller: int, of_tenant: int) -> None:
        """Raises QuotaExceeded if so many are there already, without the new one."""
        for most, count, name, whose in (
            (self.per_caller, of_caller, "live_runs_per_caller", "caller"),
            (self.per_tenant, of_tenant, "live_runs_per_tenant", "tenant"),
        ):
            if most is not None and count >= most:
                words = f"the {whose} has {most} live runs, which is its share; wait for one to end"
                raise QuotaExceeded(name, whose, words)


@dataclass(frozen=True, slots=True)
class Spent:
    """Usage of a tenant's ended runs within a day, their children included."""

    tokens: int = 0
    cost: float = 0.0
    """US dollars."""
    first_hour: int | None = None
    """The hour, since the epoch, of the oldest usage in it."""


TakeShare = Callable[[], Share | None]
"""Called before a run is admitted. Raises QuotaExceeded, or returns what the store must check."""


def no_share() -> None:
    """No bound."""


def hour_of(time: float) -> int:
    """The hour since the epoch."""
    return int(time // 3600)


def check_early(count: int, most: int | None, wait: float) -> None:
    """Raises QuotaExceeded if a tenant has so many cancels that wait for their runs."""
    if most is not None and count >= most:
        words = f"{most} cancels of the tenant wait for runs that have not come"
        # By the minute: to the second, it would be the time of somebody else's cancel.
        minutes = math.ceil(max(wait, 1.0) / 60)
        raise QuotaExceeded("early_cancels_per_tenant", "tenant", words, minutes * 60.0)
