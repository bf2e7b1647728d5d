"""What every RunStore promises. A new store passes by being added to `STORES`."""

from collections.abc import Callable
from typing import Any

import pytest
from pullcord.engine.log import EventLog
from pullcord.engine.ports import FinishedRun, RunStore
from pullcord.run.events import RunCompleted, RunStarted
from pullcord.run.record import Run, RunFilter, RunSpec
from pullcord.run.state import RunState
from pullcord.stores.memory import MemoryStore
from pullcord.testing import ManualClock

STORES: dict[str, Callable[[ManualClock, int, int], RunStore]] = {"memory": MemoryStore}

Make = Callable[..., RunStore]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=STORES)
def make(request: pytest.FixtureRequest, clock: ManualClock) -> Make:
    def make_one(max_runs: int = 100, max_bytes: int = 1 << 30) -> RunStore:
        return STORES[request.param](clock, max_runs, max_bytes)

    return make_one


@pytest.fixture
def finished(clock: ManualClock) -> Callable[..., FinishedRun]:
    def make_finished(run_id: str, text: str = "", retention: float = 60.0, **fields: Any) -> Any:
        log = EventLog(1 << 30, 1 << 30, 1 << 30, lambda: None)
        log.append(RunStarted("agents/a"))
        log.write(text)
        log.append(RunCompleted(text), last=True)
        now = clock.time()
        fields = {"runnable": "agents/a", "state": RunState.COMPLETED, **fields}
        run = Run(
            run_id,
            output=text,
            create_time=now,
            end_time=now,
            expire_time=now + retention,
            last_sequence=log.last_sequence,
            **fields,
        )
        spec = RunSpec(run.runnable, run_id=run_id, session_id=run.session_id)
        return FinishedRun(spec, run, log, 0.0)

    return make_finished


Finished = Callable[..., FinishedRun]


def test_what_is_put_is_got(make: Make, finished: Finished) -> None:
    """A run that was put is got with its spec, its state and all its events."""
    store, one = make(), finished("r", "text")
    store.put(one)
    got = store.get("r")
    assert got is not None
    assert (got.spec, got.run, got.deliver_time) == (one.spec, one.run, one.deliver_time)
    assert got.log.closed
    assert got.log.output() == ("text", 3)
    assert store.get("other") is None


def test_runs_expire(make: Make, finished: Finished, clock: ManualClock) -> None:
    """A run is kept until its expire_time, and then found nowhere."""
    store = make()
    store.put(finished("r", session_id="s", retention=10.0))
    clock.advance(9.9)
    assert store.get("r") is not None
    clock.advance(0.1)
    assert store.get("r") is None
    assert store.select(RunFilter()) == []
    assert store.history("s", "agents/a") == []


def test_a_filter_selects(make: Make, finished: Finished) -> None:
    """Select gives the runs that match, each once."""
    store = make()
    for n in range(6):
        state = RunState.FAILED if n % 3 == 0 else RunState.COMPLETED
        store.put(finished(f"r{n}", session_id=f"s{n % 2}", state=state, labels={"n": str(n)}))
    assert len(store.select(RunFilter())) == 6
    assert sorted(r.run_id for r in store.select(RunFilter(session_id="s1"))) == ["r1", "r3", "r5"]
    failed = RunFilter(states=frozenset({RunState.FAILED}))
    assert sorted(r.run_id for r in store.select(failed)) == ["r0", "r3"]
    assert [r.run_id for r in store.select(RunFilter(labels={"n": "4"}))] == ["r4"]


def test_a_sessions_history(make: Make, finished: Finished) -> None:
    """History is of one session and one runnable, in the order the runs ended."""
    store = make()
    for n in range(4):
        store.put(finished(f"r{n}", session_id="s"))
    store.put(finished("other", session_id="s", runnable="agents/b"))
    store.put(finished("elsewhere", session_id="t"))
    store.put(finished("alone"))
    assert [r.run_id for r in store.history("s", "agents/a")] == ["r0", "r1", "r2", "r3"]
    assert store.history("u", "agents/a") == []


def test_promise_11_bounded_by_count(make: Make, finished: Finished) -> None:
    """More runs than the bound make the oldest be forgotten, in sessions too."""
    store = make(max_runs=3)
    for n in range(10):
        store.put(finished(f"r{n}", session_id="s"))
    assert [store.get(f"r{n}") is not None for n in range(10)] == [False] * 7 + [True] * 3
    assert [r.run_id for r in store.history("s", "agents/a")] == ["r7", "r8", "r9"]


@pytest.mark.parametrize("where", ["text", "output_data", "input"])
def test_promise_11_bounded_by_bytes(make: Make, finished: Finished, where: str) -> None:
    """More bytes than the bound, wherever they are, make the oldest runs be forgotten."""
    store = make(max_bytes=100_000)
    for n in range(10):
        one = finished(f"r{n}", "x" * 30_000 if where == "text" else "")
        if where == "output_data":
            data = {"d": "x" * 40_000}
            one = finished(f"r{n}", output_data=data)
        if where == "input":
            spec = RunSpec("agents/a", input_data={"d": "x" * 40_000})
            one = FinishedRun(spec, one.run, one.log, 0.0)
        store.put(one)
    kept = [n for n in range(10) if store.get(f"r{n}") is not None]
    assert 0 < len(kept) <= 3
    assert kept == list(range(10 - len(kept), 10))


def test_put_again_replaces(make: Make, finished: Finished, clock: ManualClock) -> None:
    """Putting a run a second time replaces it and is counted once."""
    store = make(max_runs=2)
    for text in ("a", "b", "c"):
        store.put(finished("r", text, session_id="s"))
    store.put(finished("q", session_id="s", retention=100))
    got = store.get("r")
    assert got is not None
    assert got.run.output == "c"
    assert [r.run_id for r in store.history("s", "agents/a")] == ["r", "q"]
    clock.advance(60)
    assert [r.run_id for r in store.history("s", "agents/a")] == ["q"]
    clock.advance(60)
    assert store.select(RunFilter()) == []
