"""Metrics of a store that outlives the process: its latency, its failures, and the backlog.

A store around the real one measures each verb; gauges are read when somebody collects. Nothing is
decided here, and what the store keeps is its own business.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from pullcord.engine.engine import Engine
from pullcord.engine.ports import Entry, Finish, RunStore
from pullcord.run.errors import StoreUnavailable

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_RUNS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)
_UNMEASURED = {"size", "close"}


def measured(store: RunStore, meter: metrics.Meter | None = None) -> RunStore:
    """The same store, each of whose verbs is measured."""
    return cast(RunStore, _Measured(store, meter or metrics.get_meter("pullcord")))


class _Measured:
    """Fills the port by asking the store within, whatever verbs the port has."""

    def __init__(self, within: RunStore, meter: metrics.Meter) -> None:
        self._within = within
        self._duration = meter.create_histogram(
            "pullcord.store.duration",
            "s",
            "How long a verb of the store took, its commit included",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._failures = meter.create_counter(
            "pullcord.store.failures", description="Verbs that the store did not answer"
        )
        self._batch = meter.create_histogram(
            "pullcord.store.batch",
            "{run}",
            "Runs that were written, or ended, in one transaction",
            explicit_bucket_boundaries_advisory=_RUNS,
        )
        self._records = meter.create_counter(
            "pullcord.store.records", "{record}", "Records of events that were written"
        )
        meter.create_observable_counter(
            "pullcord.store.swept",
            [lambda options: [Observation(within.swept)]],
            "{row}",
            "Rows that this process has deleted: expired, or more than the bounds",
        )

    def __getattr__(self, name: str) -> Any:
        """Asked once for each verb: what measures it is kept."""
        within = getattr(self._within, name)
        if name.startswith("_") or name in _UNMEASURED or not callable(within):
            return within
        verb = self._timed(name, within)
        if name in ("write", "finish"):
            verb = self._counted(name, verb)
        setattr(self, name, verb)
        return verb

    def _timed(self, name: str, ask: Callable[..., Any]) -> Callable[..., Any]:
        verb = {"verb": name}

        def timed(*args: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            try:
                return ask(*args, **named)
            except StoreUnavailable:
                self._failures.add(1, verb)
                raise
            finally:
                self._duration.record(time.perf_counter() - begun, verb)

        return timed

    def _counted(self, name: str, ask: Callable[..., Any]) -> Callable[..., Any]:
        verb = {"verb": name}

        def counted(runs: Sequence[Entry | Finish]) -> Any:
            answers = ask(runs)
            if runs:  # else it was only asked whether it answers
                self._batch.record(len(runs), verb)
                self._records.add(sum(len(run.records) for run in runs if isinstance(run, Entry)))
            return answers

        return counted


def observe_backlog(engine: Engine, meter: metrics.Meter | None = None) -> None:
    """Gauges of an engine's backlog and of its store's state, read at each collection."""
    meter = meter or metrics.get_meter("pullcord")

    def gauge(read: Callable[[], float]) -> list[Callable[[CallbackOptions], list[Observation]]]:
        return [lambda options: [Observation(read())]]

    meter.create_observable_gauge(
        "pullcord.store.up",
        gauge(lambda: int(engine.store_is_up)),
        description="1 while the store writes, 0 while it does not",
    )
    meter.create_observable_gauge(
        "pullcord.store.backlog",
        gauge(lambda: engine.backlog().nbytes),
        "By",
        "Events of live runs that the store does not have yet",
    )
    meter.create_observable_gauge(
        "pullcord.store.backlog.age",
        gauge(lambda: engine.backlog().age),
        "s",
        "Of the oldest of them",
    )
    meter.create_observable_gauge(
        "pullcord.store.unserved",
        gauge(lambda: engine.unserved),
        "{run}",
        "Runs that wait in the store, and that no server serves",
    )
    meter.create_observable_gauge(
        "pullcord.store.held",
        gauge(lambda: engine.backlog().ended),
        "{run}",
        "Ended runs that the store does not have yet",
    )
