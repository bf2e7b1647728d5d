"""Shares: how much one caller, and one tenant, may have at a time, a minute and a day.

Each bound is a setting, and reaching one is a refusal of its own that says when to try again. What
is counted is this process's: replicas count each for itself. Stops are never counted as starts are.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pullcord.run.caller import Caller
from pullcord.run.errors import QuotaExceeded
from pullcord.run.record import Run
from pullcord.run.scope import Reach

_DAY = 24 * 3600.0
_CALLERS = 100_000
"""Callers whose rates are remembered; beyond that, those that were quiet for longest are not."""


@dataclass(frozen=True, slots=True)
class QuotaOptions:
    """The bounds. None: there is none."""

    live_runs_per_caller: int | None = None
    """Live runs of one caller, children included. More starts: QUOTA_EXCEEDED."""
    live_runs_per_tenant: int | None = None
    """Likewise, of all callers of one tenant."""
    starts_per_minute: int | None = None
    """Starts of one caller."""
    tenant_starts_per_minute: int | None = None
    """Starts of one tenant."""
    lists_per_minute: int | None = None
    """ListRuns, CancelRuns and EraseRuns of one caller, which look at many runs each."""
    watchers_per_caller: int | None = None
    """Streams that one caller has open."""
    early_cancels_per_tenant: int | None = None
    """Cancels of one tenant that came before their runs, within the time that they are kept."""
    tokens_per_day: int | None = None
    """Tokens that the ended runs of one tenant have used in 24 hours. More starts:
    QUOTA_EXCEEDED; what runs goes on."""
    cost_per_day: float | None = None
    """Likewise, in US dollars."""


class _Rate:
    """A bucket that fills by so many a minute, and holds a minute's worth."""

    __slots__ = ("at", "left")

    def __init__(self, most: int, now: float) -> None:
        self.left = float(most)
        self.at = now

    def take(self, most: int, now: float) -> float:
        """Takes one; the seconds until there is one if there is none."""
        self.left = min(float(most), self.left + (now - self.at) * most / 60)
        self.at = now
        if self.left < 1:
            return (1 - self.left) * 60 / most
        self.left -= 1
        return 0.0


class Quotas:
    """The shares of the callers of one server. Any thread may report an end; the rest is used on
    one loop."""

    def __init__(
        self,
        options: QuotaOptions = QuotaOptions(),  # a frozen value
        *,
        keep_early_cancels: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.options = options
        self._clock = clock
        self._keep_early_cancels = keep_early_cancels
        self._rates: dict[tuple[str, ...], _Rate] = {}
        self._watchers: dict[tuple[str, ...], int] = {}
        self._early: dict[str, deque[float]] = {}
        self._used: dict[str, deque[tuple[float, int, float]]] = {}

    @property
    def counts_usage(self) -> bool:
        """Whether ends of runs must be reported."""
        return self.options.tokens_per_day is not None or self.options.cost_per_day is not None

    # --- before

    def start(self, caller: Caller, live: Callable[[Reach], int]) -> None:
        """A start is about to be admitted. `live` counts live runs. Raises QuotaExceeded."""
        if caller.principal.is_local:
            return
        options, scope = self.options, caller.principal.scope
        for most, reach, name, whose in (
            (options.live_runs_per_caller, Reach(*scope), "live_runs_per_caller", "caller"),
            (options.live_runs_per_tenant, Reach(scope.tenant), "live_runs_per_tenant", "tenant"),
        ):
            if most is not None and live(reach) >= most:
                words = f"the {whose} has {most} live runs, which is its share; wait for one to end"
                raise QuotaExceeded(name, whose, words)
        self._check_day(scope.tenant)
        self._take("starts_per_minute", "caller", (*scope, "start"), options.starts_per_minute)
        key = (scope.tenant, "start")
        most = options.tenant_starts_per_minute
        self._take("tenant_starts_per_minute", "tenant", key, most)

    def look_at_many(self, caller: Caller) -> None:
        """A list, or a stop of many. Raises QuotaExceeded."""
        if not caller.principal.is_local:
            key = (*caller.principal.scope, "list")
            self._take("lists_per_minute", "caller", key, self.options.lists_per_minute)

    def early_cancel(self, caller: Caller) -> None:
        """A cancel may be kept for a run that has not come. Raises QuotaExceeded."""
        most, tenant = self.options.early_cancels_per_tenant, caller.principal.tenant
        if most is None or caller.principal.is_local:
            return
        now = self._clock()
        kept = self._early.setdefault(tenant, deque())
        while kept and kept[0] <= now:
            kept.popleft()
        if len(kept) >= most:
            words = f"{most} cancels of the tenant wait for runs that have not come"
            raise QuotaExceeded("early_cancels_per_tenant", "tenant", words, kept[0] - now)
        kept.append(now + self._keep_early_cancels)

    def watch(self, caller: Caller) -> Callable[[], None]:
        """A stream opens; returns what is called when it has closed. Raises QuotaExceeded."""
        most, key = self.options.watchers_per_caller, tuple(caller.principal.scope)
        if most is None or caller.principal.is_local:
            return _nothing
        count = self._watchers.get(key, 0)
        if count >= most:
            words = f"the caller has {most} streams open, which is its share; close one"
            raise QuotaExceeded("watchers_per_caller", "caller", words)
        self._watchers[key] = count + 1
        left = False

        def leave() -> None:
            nonlocal left
            if not left:
                left = True
                self._watchers[key] -= 1
                if not self._watchers[key]:
                    del self._watchers[key]

        return leave

    # --- after

    def ended(self, run: Run) -> None:
        """A run has ended: what it used counts for its tenant, with its children's."""
        usage = run.usage
        if self.counts_usage and not run.parent_run_id and (usage.total_tokens or usage.cost):
            used = self._used.setdefault(run.tenant, deque())
            used.append((self._clock() + _DAY, usage.total_tokens, usage.cost or 0.0))

    # --- inside

    def _check_day(self, tenant: str) -> None:
        used = self._used.get(tenant)
        if not used:
            return
        now, options = self._clock(), self.options
        while used and used[0][0] <= now:
            used.popleft()
        entries = tuple(used)
        for name, most, so_far in (
            ("tokens_per_day", options.tokens_per_day, sum(tokens for _, tokens, _ in entries)),
            ("cost_per_day", options.cost_per_day, sum(cost for _, _, cost in entries)),
        ):
            if most is not None and so_far >= most:
                words = f"the tenant has used {so_far:g} of {most:g} {name.replace('_', ' ')}"
                raise QuotaExceeded(name, "tenant", words, entries[0][0] - now)

    def _take(self, name: str, whose: str, key: tuple[str, ...], most: int | None) -> None:
        if most is None:
            return
        now = self._clock()
        rate = self._rates.pop(key, None) or _Rate(most, now)
        self._rates[key] = rate  # the last one is the one that was used last
        if len(self._rates) > _CALLERS:
            del self._rates[next(iter(self._rates))]
        wait = rate.take(most, now)
        if wait:
            words = f"the {whose} has made {most} calls of this kind within a minute"
            raise QuotaExceeded(name, whose, words, wait)


def _nothing() -> None:
    pass
