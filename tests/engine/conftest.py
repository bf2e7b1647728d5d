"""Engines for these tests: closed at the end, and found to have left nothing at work."""

from collections.abc import Iterator
from typing import Any, Protocol

import pytest
from pullcord.engine.clock import Clock, ThreadClock
from pullcord.engine.engine import Engine
from pullcord.engine.ports import RunStore
from pullcord.testing import HookedStore, ManualClock, RecordingObserver, make_engine, nothing_left


class MakeEngine(Protocol):
    def __call__(self, clock: Clock | None = None, **options: Any) -> Engine: ...


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def real_clock() -> Iterator[ThreadClock]:
    clock = ThreadClock()
    yield clock
    clock.close()


@pytest.fixture
def observer() -> RecordingObserver:
    return RecordingObserver()


@pytest.fixture
def make(clock: ManualClock, observer: RecordingObserver) -> Iterator[MakeEngine]:
    """Makes engines on the manual clock unless another is given."""
    made: list[Engine] = []

    def make_one(other: Clock | None = None, **options: Any) -> Engine:
        made.append(make_engine(other or clock, observer, **options))
        return made[-1]

    with nothing_left():
        yield make_one
        for engine in made:
            assert engine.wait_idle(10), "the test has left a run behind"
            engine.close()


@pytest.fixture
def engine(make: MakeEngine) -> Engine:
    return make()


@pytest.fixture
def hooked(make: MakeEngine) -> tuple[Engine, HookedStore]:
    """An engine, and its store, which a test can make slow or broken."""
    stores: list[HookedStore] = []

    def wrap(store: RunStore) -> RunStore:
        stores.append(HookedStore(store))
        return stores[-1]

    return make(store=wrap), stores[0]
