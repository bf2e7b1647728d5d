"""What every store promises of the notices that it keeps of ends and pauses."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pullcord.engine.log.log import EventLog
from pullcord.engine.notices import Notice, Paused
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import EndedRun, Finish, RunStore, Scope
from pullcord.run.events import RunCompleted, RunStarted
from pullcord.run.record import Run, RunFilter, RunSpec
from pullcord.run.scope import LOCAL, Reach
from pullcord.run.state import RunState
from pullcord.stores.memory import MemoryStore
from pullcord.stores.postgres import PostgresStore
from pullcord.stores.sqlite import SqliteStore

from tests.postgres import Database, SharedClock

LEASE = 10.0
ANN = Scope("acme", "ann")


@pytest.fixture
def clock() -> SharedClock:
    return SharedClock()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, clock: SharedClock, tmp_path: Path) -> Iterator[RunStore]:
    made: RunStore
    options = EngineOptions()
    if request.param == "memory":
        made = MemoryStore(clock, options)
    elif request.param == "sqlite":
        made = SqliteStore(clock, options, tmp_path / "runs.db")
    else:
        database: Database = request.getfixturevalue("database")
        database.clear(clock.time())
        clock.database = database
        made = PostgresStore(database.address, clock, options)
    yield made
    made.close()


@pytest.fixture
def end(store: RunStore, clock: SharedClock) -> Callable[..., None]:
    """Ends a run in the store."""

    def end(run_id: str = "r", scope: Scope = LOCAL, parent_run_id: str = "") -> None:
        log = EventLog(1 << 30, 1 << 30, 1 << 30, lambda: None)
        log.append(RunStarted("agents/a"))
        log.finish(lambda _: RunCompleted(""))
        now = clock.time()
        run = Run(
            run_id,
            "agents/a",
            RunState.COMPLETED,
            create_time=now,
            end_time=now,
            expire_time=now + 60.0,
            last_sequence=log.last_sequence,
            parent_run_id=parent_run_id,
            tenant=scope.tenant,
            owner=scope.owner,
        )
        ended = EndedRun(RunSpec("agents/a", run_id=run_id), run)
        assert list(store.finish([Finish(scope, ended, log)])) == [None]

    return end


def _nobody() -> list[Paused]:
    return []


def _named(notices: list[Notice]) -> list[str]:
    return [notice.run_id for notice in notices]


def test_nothing_is_noted_before_somebody_wants_it(
    store: RunStore, end: Callable[..., None]
) -> None:
    """A server that notifies nobody keeps nothing."""
    end("early")
    store.notices.open(_nobody)
    assert store.notices.pending() == 0
    end("late")
    assert _named(list(store.notices.claim(10, LEASE))) == ["late"]


def test_an_end_is_noted_once(store: RunStore, end: Callable[..., None]) -> None:
    """With whose run it was, and how it ended; ends of children are not."""
    store.notices.open(_nobody)
    end("r", ANN)
    end("child", ANN, parent_run_id="r")
    (notice,) = store.notices.claim(10, LEASE)
    assert (notice.scope, notice.run_id, notice.runnable) == (ANN, "r", "agents/a")
    assert (notice.state, notice.question, notice.tries) == (RunState.COMPLETED, 0, 0)
    assert notice.stands
    store.notices.settle(notice, None)
    assert store.notices.pending() == 0


def test_what_is_claimed_is_nobody_elses_for_a_time(
    store: RunStore, clock: SharedClock, end: Callable[..., None]
) -> None:
    """Then it is due again, as the same."""
    store.notices.open(_nobody)
    for run_id in ("a", "b", "c"):
        end(run_id)
        clock.advance(1.0)
    first = list(store.notices.claim(2, LEASE))
    assert _named(first) == ["a", "b"]
    assert _named(list(store.notices.claim(2, LEASE))) == ["c"]
    assert list(store.notices.claim(2, LEASE)) == []
    clock.advance(LEASE)
    again = list(store.notices.claim(1, LEASE))
    assert [(one.number, one.note_time) for one in again] == [(first[0].number, first[0].note_time)]
    assert again[0].age == pytest.approx(LEASE + 3.0, abs=0.01)


def test_what_failed_is_due_again_later(
    store: RunStore, clock: SharedClock, end: Callable[..., None]
) -> None:
    """Each try is counted."""
    store.notices.open(_nobody)
    end()
    (notice,) = store.notices.claim(10, LEASE)
    store.notices.settle(notice, 100.0)
    clock.advance(99.0)
    assert list(store.notices.claim(10, LEASE)) == []
    clock.advance(1.5)
    (again,) = store.notices.claim(10, LEASE)
    assert (again.number, again.tries) == (notice.number, 1)


def test_an_end_outlives_its_run(
    store: RunStore, clock: SharedClock, end: Callable[..., None]
) -> None:
    """A run that has expired is notified all the same; one that was erased is not."""
    store.notices.open(_nobody)
    end("expired")
    clock.advance(61.0)
    end("erased", ANN)
    store.erase(Reach(*ANN), RunFilter(), validate_only=False)
    assert _named(list(store.notices.claim(10, LEASE))) == ["expired"]
