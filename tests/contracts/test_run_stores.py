"""What every RunStore promises. A new store passes by being added to `STORES`.

Each race is also run against a store that looks first and then acts, which must lose it.
"""

import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pullcord.engine.clock import Clock
from pullcord.engine.log.log import EventLog
from pullcord.engine.options import EngineOptions
from pullcord.engine.paging import age
from pullcord.engine.ports import (
    LOCAL,
    Admitted,
    AlreadyLive,
    CancelRequest,
    EndedRun,
    Finish,
    Recorded,
    RunStore,
    Scope,
    Share,
    Spent,
    StoreSize,
    Terms,
)
from pullcord.run.cancel import Cancellation, CancelMode
from pullcord.run.errors import QuotaExceeded, RunExists, ServerBusy
from pullcord.run.events import RunCompleted, RunStarted
from pullcord.run.message import Message, Part
from pullcord.run.record import Erased, Run, RunFilter, RunSpec
from pullcord.run.scope import Reach
from pullcord.run.state import RunState
from pullcord.run.usage import Usage
from pullcord.stores.memory import MemoryStore
from pullcord.stores.postgres import PostgresStore
from pullcord.stores.sqlite import SqliteStore
from pullcord.testing import ManualClock

from tests.postgres import Database, SharedClock

STORES = ("memory", "sqlite", "postgres")
RETENTION, TTL = 60.0, 30.0

Make = Callable[..., RunStore]
FinishOf = Callable[..., Finish]


@pytest.fixture
def clock() -> SharedClock:
    return SharedClock()


@pytest.fixture(params=STORES)
def make(request: pytest.FixtureRequest, clock: SharedClock, tmp_path: Path) -> Iterator[Make]:
    made: list[RunStore] = []

    def make_one(**bounds: Any) -> RunStore:
        options = EngineOptions(tombstone_ttl=TTL, **bounds)
        if request.param == "memory":
            made.append(MemoryStore(clock, options))
        elif request.param == "sqlite":
            made.append(SqliteStore(clock, options, tmp_path / "runs.db"))
        else:
            database: Database = request.getfixturevalue("database")
            database.clear(clock.time())
            clock.database = database
            made.append(PostgresStore(database.address, clock, options))
        return made[-1]

    yield make_one
    for store in made:
        store.close()


def swept(store: RunStore) -> RunStore:
    """The store, after what one that many share does in the background now and then."""
    if isinstance(store, PostgresStore):
        store.sweep()
    return store


@pytest.fixture
def store(make: Make) -> RunStore:
    return make()


def spec(run_id: str = "r", **fields: Any) -> RunSpec:
    return RunSpec("agents/a", run_id=run_id, **fields)


def ask(actor: str = "ann", grace: float | None = None, **fields: Any) -> CancelRequest:
    return CancelRequest(Cancellation(actor=actor, accept_time=3.0, **fields), grace)


def stop(store: RunStore, run_id: str = "r", actor: str = "ann", *, early: bool = False) -> Any:
    return store.request_stop(LOCAL, run_id, ask(actor), before_start=early)


@pytest.fixture
def ends(clock: ManualClock) -> FinishOf:
    """Makes the end of a run, which expires after RETENTION."""

    def make_end(
        run_id: str = "r", text: str = "", *, scope: Scope = LOCAL, data: Any = None, **fields: Any
    ) -> Finish:
        log = EventLog(1 << 30, 1 << 30, 1 << 30, lambda: None)
        log.append(RunStarted("agents/a"))
        log.write(text)
        log.finish(lambda _: RunCompleted(text))
        now = clock.time()
        fields = {"runnable": "agents/a", "state": RunState.COMPLETED, "create_time": now} | fields
        run = Run(
            run_id,
            output=text,
            end_time=now,
            expire_time=now + RETENTION,
            last_sequence=log.last_sequence,
            **fields,
        )
        asked = RunSpec(run.runnable, run_id=run_id, session_id=run.session_id, input_data=data)
        return Finish(scope, EndedRun(asked, run, 4.0, "digest"), log)

    return make_end


def admit(store: RunStore, scope: Scope, asked: RunSpec) -> Any:
    """What admission answers, however many numbers it reserves."""
    answer = store.admit(scope, asked)
    return Admitted(answer.cancellation) if isinstance(answer, Admitted) else answer


def put(store: RunStore, *ends: Finish) -> None:
    assert store.finish(ends) == [None] * len(ends)


def listed(store: RunStore, matching: RunFilter = RunFilter(), size: int = 100) -> list[str]:
    return [run.run_id for run in store.page(Reach(*LOCAL), matching, None, size)]


def listed_by(store: RunStore, reach: Reach) -> list[str]:
    return [run.run_id for run in store.page(reach, RunFilter(), None, 100)]


def past(store: RunStore, session_id: str = "s", limit: int = 100) -> list[str]:
    return [run.run_id for run in store.history(LOCAL, session_id, "", "agents/a", limit)]


class TestAdmitting:
    def test_one_start_is_admitted(self, store: RunStore) -> None:
        """The first start of a run_id owns the run; the same start again finds it live."""
        assert admit(store, LOCAL, spec()) == Admitted()
        assert admit(store, LOCAL, spec()) == AlreadyLive()
        with pytest.raises(RunExists):
            admit(store, LOCAL, spec(input="other"))
        assert admit(store, LOCAL, spec("other")) == Admitted()

    def test_a_start_of_an_ended_run_finds_it(self, store: RunStore, ends: FinishOf) -> None:
        """The same spec finds the ended run; another spec is refused; nothing is changed."""
        end = ends()
        admit(store, LOCAL, end.ended.spec)
        put(store, end)
        assert admit(store, LOCAL, end.ended.spec) == end.ended
        with pytest.raises(RunExists):
            admit(store, LOCAL, spec(input="other"))
        assert store.size().live == 0

    def test_a_refused_run_was_never_there(self, store: RunStore) -> None:
        """A withdrawn run_id is free again; withdrawing what is not there changes nothing."""
        admit(store, LOCAL, spec())
        store.withdraw(LOCAL, "r")
        store.withdraw(LOCAL, "r")
        assert stop(store) is None
        assert admit(store, LOCAL, spec(input="other")) == Admitted()

    def test_withdrawing_leaves_ended_runs_alone(self, store: RunStore, ends: FinishOf) -> None:
        """Only a live run can be withdrawn."""
        put(store, ends())
        store.withdraw(LOCAL, "r")
        assert store.find(LOCAL, "r") is not None

    def test_scopes_do_not_meet(self, store: RunStore, ends: FinishOf) -> None:
        """Every verb sees the runs of its own scope only."""
        for other in (Scope("acme"), Scope(owner="bob")):
            admit(store, LOCAL, spec())
            assert admit(store, other, spec(input="other")) == Admitted()
            assert store.request_stop(other, "s", ask(), before_start=True) is not None
            assert admit(store, LOCAL, spec("s")) == Admitted()
            put(store, ends("e", session_id="s", scope=other))
            assert store.find(LOCAL, "e") is store.log(LOCAL, "e") is None
            assert (listed(store), past(store)) == ([], [])
            assert [run.run_id for run in store.page(Reach(*other), RunFilter(), None, 5)] == ["e"]
            assert len(store.history(other, "s", "", "agents/a", 5)) == 1
            assert store.owners(Reach(*other), "e") == [other]
            assert store.owners(Reach(*LOCAL), "e") == []
            assert set(store.owners(Reach(), "r")) >= {LOCAL, other}
            assert "e" in listed_by(store, Reach(other.tenant))
            store.withdraw(LOCAL, "s")
            store.withdraw(other, "r")
            assert admit(store, LOCAL, spec()) == AlreadyLive()
        assert listed_by(store, Reach()) == ["e", "e"]


class TestStopping:
    def test_promise_06_a_cancel_is_kept_for_the_run_to_come(self, store: RunStore) -> None:
        """An early cancel is found by the start, once; the first one stands."""
        assert stop(store) is None
        first = stop(store, early=True)
        assert first == Recorded(ask(), before_start=True)
        assert stop(store, actor="bob", early=True) == stop(store) == first
        assert admit(store, LOCAL, spec()) == Admitted(ask().cancellation)
        assert store.size().tombstones == 0

    def test_promise_06_a_refused_run_gives_its_early_cancel_back(
        self, store: RunStore, clock: ManualClock
    ) -> None:
        """A run that was refused after all is still cancelled when it is started again."""
        stop(store, early=True)
        for _ in range(3):
            assert admit(store, LOCAL, spec()) == Admitted(ask().cancellation)
            store.withdraw(LOCAL, "r")
        clock.advance(TTL)
        assert store.size() == StoreSize(0, 0, 0, 0)
        assert admit(store, LOCAL, spec()) == Admitted()

    def test_promise_06_early_cancels_expire(self, store: RunStore, clock: ManualClock) -> None:
        """An early cancel is forgotten after its time, counted from the first."""
        stop(store, early=True)
        clock.advance(TTL / 2)
        stop(store, actor="bob", early=True)
        clock.advance(TTL / 2)
        assert stop(store) is None
        assert admit(store, LOCAL, spec()) == Admitted()

    def test_promise_11_early_cancels_are_bounded(self, make: Make, clock: ManualClock) -> None:
        """More than the bound are refused, and none is dropped; time and starts make room."""
        store = make(max_tombstones=3)
        for n in range(3):
            stop(store, f"r{n}", early=True)
        with pytest.raises(ServerBusy):
            stop(store, "more", early=True)
        assert admit(store, LOCAL, spec("r0")) == Admitted(ask().cancellation)
        stop(store, "more", early=True)
        clock.advance(TTL)
        for n in range(3):
            stop(store, f"s{n}", early=True)

    @pytest.mark.parametrize("early", [False, True])
    def test_a_live_run_is_stopped(self, store: RunStore, early: bool) -> None:
        """A stop is recorded for a live run, whether or not it might have come before it."""
        admit(store, LOCAL, spec())
        assert stop(store, early=early) == Recorded(ask(), before_start=False)

    @pytest.mark.parametrize("live", [False, True])
    def test_promise_07_the_first_stands_and_later_ones_hasten(
        self, store: RunStore, live: bool
    ) -> None:
        """Cause, actor and reason are the first's; mode is the stricter, grace the shorter."""
        if live:
            admit(store, LOCAL, spec())

        def request(*args: Any, **fields: Any) -> CancelRequest:
            made = store.request_stop(LOCAL, "r", ask(*args, **fields), before_start=True)
            assert isinstance(made, Recorded)
            return made.request

        request("ann", None, reason="enough")
        assert request("bob", 9.0) == ask("ann", 9.0, reason="enough")
        now = ask("ann", 4.0, reason="enough", mode=CancelMode.IMMEDIATE)
        assert request("bob", 4.0, mode=CancelMode.IMMEDIATE) == now
        assert request("cat", 5.0) == now

    def test_an_ended_run_is_not_stopped(self, store: RunStore, ends: FinishOf) -> None:
        """A stop of an ended run returns the run and records nothing."""
        end = ends()
        put(store, end)
        assert stop(store) == stop(store, early=True) == end.ended
        assert store.size().tombstones == 0


class TestEnding:
    def test_what_is_kept_is_found(self, store: RunStore, ends: FinishOf) -> None:
        """An ended run is found with its spec, its state and all its events."""
        end = ends("r", "text")
        put(store, end)
        assert store.find(LOCAL, "r") == end.ended
        kept = store.log(LOCAL, "r")
        assert kept is not None
        assert kept[0] == end.ended
        assert kept[1].closed
        assert kept[1].output() == ("text", 3)
        assert store.find(LOCAL, "other") is store.log(LOCAL, "other") is None

    def test_parts_and_messages_are_kept_with_the_spec(
        self, store: RunStore, ends: FinishOf
    ) -> None:
        """Byte for byte, so that a retry finds its run, and a later turn its files."""
        image = Part(data=bytes(range(256)), media_type="image/png", name="cat.png")
        asked = spec(parts=(image, Part("x" * 5000)), messages=(Message.of("user", image, "y"),))
        end = ends(parts=asked.parts)
        put(store, replace(end, ended=replace(end.ended, spec=asked)))
        found = store.find(LOCAL, "r")
        assert found is not None
        assert found.spec == asked
        assert isinstance(store.admit(LOCAL, asked), EndedRun)
        with pytest.raises(RunExists):
            store.admit(LOCAL, replace(asked, messages=()))

    def test_a_live_run_becomes_an_ended_one(self, store: RunStore, ends: FinishOf) -> None:
        """Many runs end in one step, admitted or not."""
        admit(store, LOCAL, spec("a"))
        put(store, ends("a"), ends("b"))
        assert listed(store) == ["b", "a"]
        assert store.size().live == 0

    def test_the_first_end_stands(self, store: RunStore, ends: FinishOf) -> None:
        """Asking again to keep an ended run changes nothing."""
        put(store, ends("r", "first", session_id="s"))
        put(store, ends("r", "second", session_id="s"))
        found = store.find(LOCAL, "r")
        assert found is not None
        assert found.run.output == "first"
        assert past(store) == ["r"]
        assert store.size().ended == 1

    def test_promise_02_a_recorded_stop_allows_one_end(
        self, store: RunStore, ends: FinishOf
    ) -> None:
        """A run with a recorded stop ends CANCELLED: another end is answered with the stop."""
        for n, early in enumerate([False, True]):
            run_id = f"r{n}"
            if early:
                stop(store, run_id, early=True)
            admit(store, LOCAL, spec(run_id))
            if not early:
                stop(store, run_id)
            proposed = [ends("other"), ends(run_id, state=RunState.FAILED)]
            assert store.finish(proposed) == [None, ask().cancellation]
            assert store.find(LOCAL, run_id) is None
            put(store, ends(run_id, state=RunState.CANCELLED))
            assert store.find(LOCAL, run_id) is not None

    def test_promise_11_bounded_by_count(self, make: Make, ends: FinishOf) -> None:
        """More runs than the bound make those that ended first be forgotten, in sessions too."""
        store = make(max_finished_runs=3)
        for n in range(10):
            put(store, ends(f"r{n}", session_id="s"))
        swept(store)
        assert [store.find(LOCAL, f"r{n}") is not None for n in range(10)] == [False] * 7 + [
            True
        ] * 3
        assert past(store) == ["r7", "r8", "r9"]

    @pytest.mark.parametrize("where", ["text", "output_data", "input"])
    def test_promise_11_bounded_by_bytes(self, make: Make, ends: FinishOf, where: str) -> None:
        """More bytes than the bound, wherever they are, make the first to end be forgotten."""
        store = make(max_finished_bytes=100_000)
        data = {"d": "x" * 40_000}
        for n in range(10):
            put(
                store,
                ends(
                    f"r{n}",
                    "x" * 30_000 if where == "text" else "",
                    data=data if where == "input" else None,
                    output_data=data if where == "output_data" else None,
                ),
            )
        swept(store)
        kept = [n for n in range(10) if store.find(LOCAL, f"r{n}") is not None]
        assert 0 < len(kept) <= 3
        assert kept == list(range(10 - len(kept), 10))
        assert store.size().ended_bytes <= 100_000


class TestShares:
    """What callers and tenants may have is counted with what is there."""

    def take(self, store: RunStore, run_id: str, owner: str = "ann", **more: Any) -> str:
        """What a start of this owner of tenant `acme` is answered, with 2 for it and 3 for all."""
        terms = Terms(share=Share(2, 3), **more)
        try:
            answer = store.admit(Scope("acme", owner), spec(run_id), terms)
        except QuotaExceeded as error:
            return error.quota
        return type(answer).__name__

    def test_live_runs_of_a_caller_and_of_a_tenant_are_bounded(
        self, store: RunStore, ends: FinishOf
    ) -> None:
        """One more is refused and leaves nothing; a retry is none, and an end makes room, as does
        a start that is taken back. Children and other tenants do not count."""
        taken = [self.take(store, run_id) for run_id in ("a", "b", "c", "b")]
        assert taken == ["Admitted", "Admitted", "live_runs_per_caller", "AlreadyLive"]
        assert store.size().live == 2
        assert stop(store, "c", early=True).before_start
        child = store.admit(Scope("acme", "ann"), spec("child"), Terms(parent_run_id="a"))
        assert isinstance(child, Admitted)
        assert [self.take(store, run_id, "bob") for run_id in ("a", "b")] == [
            "Admitted",
            "live_runs_per_tenant",
        ]
        assert isinstance(store.admit(Scope("umbrella", "ann"), spec("a")), Admitted)
        put(store, ends("a", scope=Scope("acme", "ann")))
        assert self.take(store, "a") == "EndedRun"
        store.withdraw(Scope("acme", "bob"), "a")
        assert [self.take(store, run_id) for run_id in ("d", "e")] == [
            "Admitted",
            "live_runs_per_caller",
        ]

    def test_of_many_starts_at_once_as_many_are_admitted_as_may_be(self, store: RunStore) -> None:
        """Whatever the interleaving."""
        with ThreadPoolExecutor(4) as pool:
            for n in range(10):
                taken = list(pool.map(lambda i, n=n: self.take(store, f"{n}-{i}", "o"), range(4)))
                assert taken.count("Admitted") == 2, taken
                for i in range(4):
                    store.withdraw(Scope("acme", "o"), f"{n}-{i}")

    def test_cancels_before_their_runs_are_bounded_for_each_tenant(
        self, store: RunStore, clock: ManualClock
    ) -> None:
        """A repeated one is no other one; a run that comes, and time, make room."""

        def early(run_id: str, owner: str = "ann", tenant: str = "acme") -> float:
            """The time to come back; 0: it was recorded."""
            try:
                store.request_stop(
                    Scope(tenant, owner), run_id, ask(), before_start=True, most_early=2
                )
            except QuotaExceeded as error:
                return error.retry_after if "early" in error.quota else -1
            return 0.0

        assert early("a") == 0
        clock.advance(10)
        assert [early("b"), early("a")] == [0, 0]
        assert early("c", "bob") == 60, "to the minute"
        assert early("c", tenant="umbrella") == 0
        assert isinstance(store.admit(Scope("acme", "ann"), spec("b")), Admitted)
        assert early("c", "bob") == 0
        clock.advance(TTL - 9)
        assert early("d") == 0, "the first one has expired"

    def test_what_runs_have_used_counts_for_their_tenant_for_a_day(
        self, store: RunStore, ends: FinishOf, clock: ManualClock
    ) -> None:
        """Once for each run, with what its children have used; also when the run is gone."""
        clock.advance(1e6)
        ann = {"scope": Scope("acme", "ann"), "tenant": "acme", "owner": "ann"}
        used = Usage(input_tokens=60, output_tokens=40, cost=0.5)
        admit(store, Scope("acme", "ann"), spec("r"))
        end = ends("r", usage=used, **ann)
        put(store, end)
        put(store, end)
        put(store, ends("child", usage=used, parent_run_id="r", **ann))
        first = int(clock.time() // 3600)
        clock.advance(2 * 3600)
        put(store, ends("s", usage=Usage(output_tokens=5), **ann))
        assert store.spent("acme") == Spent(105, 0.5, first)
        assert store.spent("umbrella") == Spent()
        swept(store)
        assert store.find(Scope("acme", "ann"), "r") is None
        clock.advance(22 * 3600)
        assert store.spent("acme") == Spent(5, 0.0, first + 2)
        clock.advance(2 * 3600)
        put(store, ends("t", usage=Usage(output_tokens=1), **ann))
        swept(store)
        assert store.spent("acme") == Spent(1, 0.0, first + 26)

    def test_the_bytes_of_a_tenant_are_those_of_its_runs(
        self, store: RunStore, ends: FinishOf, clock: ManualClock
    ) -> None:
        put(store, ends("r", "x" * 1000, scope=Scope("acme", "ann"), tenant="acme"))
        assert store.stored_bytes("acme") == store.size().ended_bytes > 1000
        assert store.stored_bytes("umbrella") == 0
        clock.advance(RETENTION)
        assert store.stored_bytes("acme") == 0


class TestExpiring:
    def test_an_ended_run_is_found_nowhere_after_its_time(
        self, store: RunStore, ends: FinishOf, clock: ManualClock
    ) -> None:
        """A run is kept until its expire_time; then its run_id is free."""
        end = ends(session_id="s")
        put(store, end)
        clock.advance(RETENTION - 0.1)
        assert store.find(LOCAL, "r") is not None
        clock.advance(0.1)
        assert store.find(LOCAL, "r") is store.log(LOCAL, "r") is None
        assert (listed(store), past(store)) == ([], [])
        assert stop(store) is None
        assert admit(store, LOCAL, spec(input="other")) == Admitted()

    def test_promise_12_rows_are_deleted_while_nobody_calls(
        self, make: Make, ends: FinishOf, clock: ManualClock
    ) -> None:
        """After their time all rows are gone and their memory is free, without a call."""
        store = make()
        logs = []
        for n in range(100):
            end = ends(f"r{n}", session_id="s")
            logs.append(_Witness(end.log))
            put(store, end)
            stop(store, f"early{n}", early=True)
        del end
        clock.advance(TTL)
        assert store.size() == StoreSize(0, 0, 100, store.size().ended_bytes)
        clock.advance(RETENTION)
        assert [log for log in logs if log.alive()] == []
        assert store.size() == StoreSize(0, 0, 0, 0)
        assert clock.timers() == [], "an empty store waits for nothing"

    def test_live_runs_do_not_expire(self, store: RunStore, clock: ManualClock) -> None:
        """A live row stays until its run has ended, however long that takes."""
        stop(store, early=True)
        admit(store, LOCAL, spec())
        clock.advance(1e9)
        assert admit(store, LOCAL, spec()) == AlreadyLive()


class TestLists:
    def test_a_filter_selects(self, store: RunStore, ends: FinishOf) -> None:
        """A page has the runs that match, each once."""
        for n in range(6):
            state = RunState.FAILED if n % 3 == 0 else RunState.COMPLETED
            put(store, ends(f"r{n}", session_id=f"s{n % 2}", state=state, labels={"n": str(n)}))
        assert len(listed(store)) == 6
        assert listed(store, RunFilter(session_id="s1")) == ["r5", "r3", "r1"]
        assert listed(store, RunFilter(states=frozenset({RunState.FAILED}))) == ["r3", "r0"]
        assert listed(store, RunFilter(labels={"n": "4"})) == ["r4"]

    def test_pages_follow_one_another(
        self, store: RunStore, ends: FinishOf, clock: ManualClock
    ) -> None:
        """Pages list every run once, the newest first by create_time and then run_id."""
        for n in range(10):
            put(store, ends(f"r{n}", create_time=100.0 + n // 3))
        seen: list[Run] = []
        while page := store.page(Reach(*LOCAL), RunFilter(), age(seen[-1]) if seen else None, 4):
            assert len(page) <= 4
            seen += page
            put(store, ends(f"new{len(seen)}", create_time=200.0))
        assert [run.run_id for run in seen] == [f"r{n}" for n in range(9, -1, -1)]

    def test_a_sessions_history(self, store: RunStore, ends: FinishOf) -> None:
        """History is of one session and one runnable, in the order the runs ended."""
        for n in (2, 0, 1, 3):
            put(store, ends(f"r{n}", session_id="s", create_time=float(n)))
        put(store, ends("other", session_id="s", runnable="agents/b"))
        put(store, ends("elsewhere", session_id="t"), ends("alone"))
        assert past(store) == ["r2", "r0", "r1", "r3"]
        assert past(store, limit=2) == ["r1", "r3"]
        assert past(store, "u") == []

    def test_two_users_sessions_of_one_name_are_two(self, store: RunStore, ends: FinishOf) -> None:
        """A caller's users do not read each other's turns, nor those of nobody."""
        for user in ("ann", "bob", ""):
            put(store, ends(f"r{user}", session_id="s", user_id=user))
        for user in ("ann", "bob", ""):
            runs = store.history(LOCAL, "s", user, "agents/a", 9)
            assert [run.run_id for run in runs] == [f"r{user}"]
        assert store.history(LOCAL, "s", "eve", "agents/a", 9) == []


# --- erasing

ANN, BOB = Scope("acme", "ann"), Scope("umbrella", "bob")


def fill_for_erasing(store: RunStore, ends: FinishOf) -> None:
    """Ended runs of two scopes, users and sessions, one live run, and a cancel of each scope."""
    for scope in (ANN, BOB):
        put(
            store,
            ends("one", "secret", scope=scope, user_id="uma", session_id="s1"),
            ends("two", "secret", scope=scope, user_id="ulf", session_id="s2"),
        )
        store.admit(scope, spec("live", user_id="uma", session_id="s2"))
        store.request_stop(scope, "early", ask(), before_start=True)


ERASED = {
    "a user": (Reach(), RunFilter(user_id="uma"), ["two"], (2, 0), ["live", "live"]),
    "a user of a tenant": (Reach("acme"), RunFilter(user_id="uma"), ["two"], (1, 0), ["live"]),
    "a session": (Reach("acme"), RunFilter(session_id="s1"), ["two"], (1, 0), []),
    "an owner": (Reach(owner="ann"), RunFilter(), [], (2, 1), ["live"]),
    "a tenant": (Reach("acme"), RunFilter(), [], (2, 1), ["live"]),
    "nobody": (Reach("acme"), RunFilter(user_id="nobody"), ["one", "two"], (0, 0), []),
}


@pytest.mark.parametrize("case", ERASED)
def test_what_is_erased_is_gone_and_nothing_else(
    store: RunStore, ends: FinishOf, case: str
) -> None:
    """Of the ended runs that match nothing is found any more, neither run nor log nor history, and
    their ids are free; live runs stay and are named; cancels go with their owner or tenant."""
    reach, matching, left, counts, live = ERASED[case]
    fill_for_erasing(store, ends)
    before = store.size()
    would = store.erase(reach, matching, validate_only=True)
    assert store.size() == before
    erased = store.erase(reach, matching, validate_only=False)
    assert erased == would == Erased(*counts, tuple(live))
    for run_id in ("one", "two"):
        is_left = run_id in left
        assert (store.find(ANN, run_id) is not None) is is_left
        assert (store.log(ANN, run_id) is not None) is is_left
        assert (ANN in store.owners(Reach(), run_id)) is is_left
        session = ("s1", "uma") if run_id == "one" else ("s2", "ulf")
        assert bool(store.history(ANN, *session, "agents/a", 9)) is is_left
        if not reach.covers(BOB):
            assert store.find(BOB, run_id) is not None
    assert [run.run_id for run in store.page(Reach(*ANN), RunFilter(), None, 9)] == left[::-1]
    after = store.size()
    assert (before.ended - after.ended, before.tombstones - after.tombstones) == counts
    assert before.live == after.live == 2
    assert (after.ended_bytes < before.ended_bytes) is bool(counts[0])
    if left != ["one", "two"]:
        assert admit(store, ANN, spec("one")) == Admitted()
    if matching == RunFilter():
        assert admit(store, ANN, spec("early")) == Admitted()
    else:
        assert admit(store, ANN, spec("early")) == Admitted(ask().cancellation)


def test_more_than_one_transaction_takes_is_erased(store: RunStore, ends: FinishOf) -> None:
    """Six hundred runs go, with what the bounds count of them."""
    for first in range(0, 600, 50):  # a busy machine has only so many seconds for each
        put(store, *(ends(f"r{n}") for n in range(first, first + 50)))
    assert store.erase(Reach(*LOCAL), RunFilter(), validate_only=False).runs == 600
    assert store.size() == StoreSize(0, 0, 0, 0)


# --- races: each is run against every store, and against one that must lose it

Race = Callable[[RunStore, str, FinishOf, ManualClock], None]


def twin_starts(store: RunStore, run_id: str, ends: FinishOf, clock: ManualClock) -> None:
    """Of two starts at once, one is admitted and the other finds it."""
    answers = at_once(*[lambda: admit(store, LOCAL, spec(run_id))] * 2)
    assert sorted(answers, key=repr) == [Admitted(), AlreadyLive()]


def start_against_cancel(store: RunStore, run_id: str, ends: FinishOf, clock: ManualClock) -> None:
    """A cancel before start is found by the start, or finds it: one of the two."""
    admitted, recorded = at_once(
        lambda: admit(store, LOCAL, spec(run_id)), lambda: stop(store, run_id, early=True)
    )
    assert recorded.before_start == (admitted.cancellation is not None)
    assert store.finish([ends(run_id)]) == [ask().cancellation]


def finish_against_cancel(store: RunStore, run_id: str, ends: FinishOf, clock: ManualClock) -> None:
    """A stop is recorded and the end is refused, or the end is kept and the stop finds it."""
    admit(store, LOCAL, spec(run_id))
    end = ends(run_id)
    [refused], asked = at_once(lambda: store.finish([end]), lambda: stop(store, run_id))
    kept = refused is None
    assert asked == (end.ended if kept else Recorded(ask(), before_start=False))
    assert (store.find(LOCAL, run_id) is not None) == kept


def twin_ends(store: RunStore, run_id: str, ends: FinishOf, clock: ManualClock) -> None:
    """Of two ends at once, one stands, and nobody ever sees the other."""

    def end(text: str) -> tuple[str, str]:
        put(store, ends(run_id, text))
        kept = store.log(LOCAL, run_id)
        assert kept is not None
        return kept[0].run.output, kept[1].output()[0]

    before = store.size().ended
    first, second = at_once(lambda: end("a"), lambda: end("b"))
    assert first == second
    assert first[0] == first[1]
    assert store.size().ended == before + 1


def expiry_against_start(store: RunStore, run_id: str, ends: FinishOf, clock: ManualClock) -> None:
    """A start that takes the place of an expired run is not deleted with it."""
    put(store, ends(run_id))
    stop(store, f"{run_id}-early", early=True)
    clock.advance(RETENTION - 0.5)
    stop(store, f"{run_id}-late", early=True)

    def start(name: str, before: Any) -> None:
        answer = admit(store, LOCAL, RunSpec("agents/b", run_id=name))
        assert answer in (Admitted(), Admitted(ask().cancellation) if before else None)
        assert admit(store, LOCAL, RunSpec("agents/b", run_id=name)) == AlreadyLive()

    def look() -> None:
        found = store.find(LOCAL, run_id)
        assert found is None or found.run.expire_time > clock.time() - 1

    def begin() -> None:
        while True:
            look()
            with suppress(RunExists):  # it has not expired yet
                return start(run_id, before=False)

    at_once(lambda: clock.advance(1.0), begin, lambda: start(f"{run_id}-late", before=True))
    clock.advance(RETENTION)
    for name in (run_id, f"{run_id}-late"):
        admit(store, LOCAL, RunSpec("agents/b", run_id=name))
        assert admit(store, LOCAL, RunSpec("agents/b", run_id=name)) == AlreadyLive()
        store.withdraw(LOCAL, name)


ROUNDS = 100

RACES = [
    twin_starts,
    start_against_cancel,
    finish_against_cancel,
    twin_ends,
    expiry_against_start,
]


@pytest.mark.parametrize("race", RACES, ids=lambda race: race.__name__)
def test_a_race_has_one_outcome(
    store: RunStore, race: Race, ends: FinishOf, clock: ManualClock, hurry: None
) -> None:
    """In many races, both sides agree about what came first."""
    for n in range(ROUNDS):
        race(store, f"r{n}", ends, clock)


@pytest.mark.parametrize("race", RACES, ids=lambda race: race.__name__)
def test_a_store_that_looks_and_then_acts_loses_the_race(
    race: Race, ends: FinishOf, clock: ManualClock, hurry: None
) -> None:
    """The races find out a store whose verbs are not transactions."""
    store = LooksThenActs(clock, EngineOptions(tombstone_ttl=TTL))

    def all_races() -> None:
        for n in range(ROUNDS):
            race(store, f"r{n}", ends, clock)

    with pytest.raises((AssertionError, KeyError, RuntimeError)):
        all_races()


class LooksThenActs(MemoryStore):
    """A store without a lock: after each look it lets another caller look, too."""

    def __init__(self, clock: Clock, options: EngineOptions) -> None:
        super().__init__(clock, options)
        self._lock = nullcontext()  # type: ignore[assignment]  # the weakness
        self._meeting = threading.Barrier(2)

    def _find(self, key: Any) -> Any:
        return self._meet(super()._find(key))

    def _find_tombstone(self, key: Any) -> Any:
        return self._meet(super()._find_tombstone(key))

    def _sweep(self) -> None:
        tables = (self._ended, super()._find), (self._tombstones, super()._find_tombstone)
        expired = [key for table, find in tables for key in list(table) if find(key) is None]
        for key in self._meet(expired):
            self._live.pop(key, None)  # it deletes by key, whatever the row has become
        super()._sweep()

    def _meet(self, seen: Any) -> Any:
        try:
            self._meeting.wait(0.001)
        except threading.BrokenBarrierError:  # nobody else is looking
            self._meeting.reset()
        return seen


class _Witness:
    """Whether a log is still held by anybody; a log cannot be referred to weakly itself."""

    def __init__(self, log: EventLog) -> None:
        self._ref = weakref.ref(log)

    def alive(self) -> bool:
        return self._ref() is not None


_pool: ThreadPoolExecutor


@pytest.fixture(scope="module", autouse=True)
def pool() -> Iterator[None]:
    global _pool
    with ThreadPoolExecutor(3) as _pool:
        yield


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Calls each in a thread of its own, all at one moment; what they return, in order."""
    barrier = threading.Barrier(len(calls))

    def call(one: Callable[[], Any]) -> Any:
        barrier.wait(30)
        return one()

    return [future.result(30) for future in [_pool.submit(call, one) for one in calls]]
