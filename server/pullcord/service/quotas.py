"""Shares: how much one caller, and one tenant, may have at a time, a minute and a day.

Each bound is a setting, and reaching one is a refusal of its own that says when to try again. What
is live, kept and used is counted by the store, for all servers that share it. Rates and streams are
this process's: replicas count them each for itself. Stops are never counted as starts are.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pullcord.engine.shares import HOURS, Share, Spent, hour_of
from pullcord.run.caller import Caller
from pullcord.run.errors import QuotaExceeded
from pullcord.run.record import Run

_LOOK = 5.0
"""Seconds for which what the store said of a tenant is taken to be so."""
_CALLERS = 100_000
"""Callers whose rates are remembered; beyond that, those that were quiet for longest are not."""


@dataclass(frozen=True, slots=True)
class QuotaOptions:
    """The bounds. None: there is none."""

    live_runs_per_caller: int | None = None
    """Live runs that one caller has started, on all servers that share a store; their children are
    bounded by `max_runs_beneath`. More starts: QUOTA_EXCEEDED."""
    live_runs_per_tenant: int | None = None
    """Likewise, of all callers of one tenant."""
    starts_per_minute: int | None = None
    """Starts of one caller, on each server."""
    tenant_starts_per_minute: int | None = None
    """Starts of one tenant."""
    lists_per_minute: int | None = None
    """ListRuns, CancelRuns and EraseRuns of one caller, which look at many runs each."""
    watchers_per_caller: int | None = None
    """Streams that one caller has open, on each server."""
    calls_per_caller: int | None = 1000
    """Calls of one caller that are under way and no streams, on each server. Stops count apart."""
    early_cancels_per_tenant: int | None = None
    """Cancels of one tenant that came before their runs, within the time that they are kept."""
    tokens_per_day: int | None = None
    """Tokens that the ended runs of one tenant have used in 24 hours, counted by the hour. More
    starts: QUOTA_EXCEEDED; what runs goes on."""
    cost_per_day: float | None = None
    """Likewise, in US dollars."""
    stored_bytes_per_tenant: int | None = None
    """Bytes that the ended runs of one tenant take in the store, roughly. More starts:
    QUOTA_EXCEEDED, until some have expired or were erased."""


class Kept(Protocol):
    """The store's figures of tenants, as they are needed here."""

    def spent(self, tenant: str) -> Spent:
        """The usage of its ended runs in a day."""

    def stored_bytes(self, tenant: str) -> int:
        """The bytes that they take."""


@dataclass(frozen=True, slots=True)
class _Full:
    """A share that a tenant has had."""

    quota: str
    words: str
    wait: float


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
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.options = options
        self._clock = clock
        self._now = now
        self._rates: dict[tuple[str, ...], _Rate] = {}
        self._held: dict[tuple[str, ...], int] = {}
        self._looks: dict[str, tuple[float, _Full | None]] = {}
        share = Share(options.live_runs_per_caller, options.live_runs_per_tenant)
        self._share = None if share == Share() else share

    # --- before

    def start(self, caller: Caller) -> None:
        """A start comes. Raises QuotaExceeded if its caller starts too often."""
        if caller.principal.is_local:
            return
        options, scope = self.options, caller.principal.scope
        self._take("starts_per_minute", "caller", (*scope, "start"), options.starts_per_minute)
        key = (scope.tenant, "start")
        most = options.tenant_starts_per_minute
        self._take("tenant_starts_per_minute", "tenant", key, most)

    def share(self, caller: Caller, kept: Kept) -> Share | None:
        """What the store must hold a start to, which is about to be admitted. Any thread; it may
        ask the store. Raises QuotaExceeded if the tenant has had its share."""
        if caller.principal.is_local:
            return None
        tenant = caller.principal.tenant
        last, full = self._looks.get(tenant, (-_LOOK, None))
        if self._clock() - last >= _LOOK:
            full = self._look(tenant, kept)
            if len(self._looks) >= _CALLERS:
                self._looks.clear()
            self._looks[tenant] = (self._clock(), full)
        if full is not None:
            raise QuotaExceeded(full.quota, "tenant", full.words, full.wait)
        return self._share

    def _look(self, tenant: str, kept: Kept) -> "_Full | None":
        options = self.options
        if options.tokens_per_day is not None or options.cost_per_day is not None:
            spent = kept.spent(tenant)
            for name, most, so_far in (
                ("tokens_per_day", options.tokens_per_day, spent.tokens),
                ("cost_per_day", options.cost_per_day, spent.cost),
            ):
                if most is not None and so_far >= most:
                    # It is counted by the hour: that much later, the oldest hour counts no more.
                    first = hour_of(self._now()) if spent.first_hour is None else spent.first_hour
                    wait = (first + HOURS) * 3600.0 - self._now()
                    # Never how much: it would show a caller what each run of others has used.
                    words = f"the tenant has used its {name.replace('_', ' ')}, {most:g}"
                    return _Full(name, words, max(1.0, wait))
        bytes_ = options.stored_bytes_per_tenant
        if bytes_ is not None and kept.stored_bytes(tenant) >= bytes_:
            words = f"the runs of the tenant take its {bytes_} bytes; erase some, or wait"
            return _Full("stored_bytes_per_tenant", words, 60.0)
        return None

    def most_early(self, caller: Caller) -> int | None:
        """The most cancels of a tenant that may wait for runs to come; None: no bound."""
        return None if caller.principal.is_local else self.options.early_cancels_per_tenant

    def look_at_many(self, caller: Caller) -> None:
        """A list, or a stop of many. Raises QuotaExceeded."""
        if not caller.principal.is_local:
            key = (*caller.principal.scope, "list")
            self._take("lists_per_minute", "caller", key, self.options.lists_per_minute)

    def watch(self, caller: Caller) -> Callable[[], None]:
        """A stream opens; returns what is called when it has closed. Raises QuotaExceeded."""
        most = self.options.watchers_per_caller
        return self._hold("watchers_per_caller", "watch", caller, most, "streams open; close one")

    def call(self, caller: Caller, *, is_stop: bool) -> Callable[[], None]:
        """A call that is no stream; returns what is called when it has been answered. Stops have
        places of their own, so that others never keep them out. Raises QuotaExceeded."""
        what, most = "stop" if is_stop else "call", self.options.calls_per_caller
        return self._hold("calls_per_caller", what, caller, most, "calls under way; wait for one")

    def _hold(
        self, quota: str, what: str, caller: Caller, most: int | None, words: str
    ) -> Callable[[], None]:
        if most is None or caller.principal.is_local:
            return _nothing
        key = (*caller.principal.scope, what)
        count = self._held.get(key, 0)
        if count >= most:
            raise QuotaExceeded(quota, "caller", f"the caller has {most} {words}")
        self._held[key] = count + 1
        is_held = True

        def leave() -> None:
            nonlocal is_held
            if is_held:
                is_held = False
                self._held[key] -= 1
                if not self._held[key]:
                    del self._held[key]

        return leave

    # --- after

    def ended(self, run: Run) -> None:
        """A run of this server has ended: the store has more of its tenant. Any thread."""
        self._looks.pop(run.tenant, None)

    # --- inside

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
