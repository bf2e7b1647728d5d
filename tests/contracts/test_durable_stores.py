"""What every RunStore promises that outlives its process. A new one is added to `PLACES`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pullcord.engine.clock import Clock
from pullcord.engine.live.carried import TimeLeft
from pullcord.engine.log.log import EventLog
from pullcord.engine.log.watch import Watcher
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import (
    LOCAL,
    Admitted,
    CancelRequest,
    EndedRun,
    Entry,
    Finish,
    Pause,
    Recorded,
    RunStore,
    Scope,
    Share,
    Terms,
    Waiting,
    Written,
)
from pullcord.engine.sharing import Asked
from pullcord.run.cancel import CancelCause, Cancellation, CancelMode
from pullcord.run.errors import QuotaExceeded
from pullcord.run.events import (
    CancelRequested,
    Gap,
    Payload,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunFailed,
    RunPaused,
    RunStarted,
    Snapshot,
    Source,
    SourceKind,
    ToolCall,
    ToolCallCompleted,
    ToolCallStarted,
    ToolCallState,
    UsageUpdated,
)
from pullcord.run.record import Decision, DisconnectPolicy, Run, RunFilter, RunSpec
from pullcord.run.scope import EVERYBODY
from pullcord.run.state import RunState
from pullcord.run.usage import Usage
from pullcord.stores.postgres import PostgresStore
from pullcord.stores.sqlite import SqliteStore
from pullcord.testing import ManualClock

from tests.postgres import Database, SharedClock

Open = Callable[[Clock, EngineOptions], RunStore]
PLACES: dict[str, Callable[[Path, pytest.FixtureRequest], Open]] = {
    "sqlite": lambda folder, request: (
        lambda clock, options: SqliteStore(clock, options, folder / "store" / "runs.db")
    ),
    "postgres": lambda folder, request: _in_database(request.getfixturevalue("database")),
}
"""Each makes a place for rows, in which a process after the other opens its store."""
RETENTION = 60.0


def _in_database(database: Database) -> Open:
    cleared = False

    def open_one(clock: Clock, options: EngineOptions) -> RunStore:
        nonlocal cleared
        if not cleared:
            database.clear(clock.time())
            cleared = True
        assert isinstance(clock, SharedClock)
        clock.database = database
        return PostgresStore(database.address, clock, options)

    return open_one


@pytest.fixture
def clock() -> ManualClock:
    return SharedClock()


class Place:
    """Where the rows are. A process opens its store there, and is gone when the next one does."""

    def __init__(self, open_one: Open, clock: ManualClock) -> None:
        self._open = open_one
        self._clock = clock
        self.store: Any = None

    def next_process(self, **bounds: Any) -> RunStore:
        if self.store is not None:
            self.store.close()
        options = EngineOptions(retention=RETENTION, tombstone_ttl=30.0, **bounds)
        self.store = self._open(self._clock, options)
        return self.store  # type: ignore[no-any-return]  # as it is opened


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Place]:
    made = Place(PLACES[request.param](tmp_path, request), clock)
    yield made
    made.store.close()


@pytest.fixture
def store(place: Place) -> RunStore:
    return place.next_process()


def spec(run_id: str = "r", **fields: Any) -> RunSpec:
    return RunSpec("agents/a", run_id=run_id, **fields)


def ask(actor: str = "ann", grace: float | None = None, **fields: Any) -> CancelRequest:
    return CancelRequest(Cancellation(actor=actor, accept_time=3.0, **fields), grace)


class Live:
    """A live run, as its engine keeps it."""

    def __init__(self, run_id: str = "r", *payloads: Payload | str, **fields: Any) -> None:
        self.spec = spec(run_id, **fields)
        self.log = EventLog(1 << 30, 1 << 30, 1 << 30, lambda: None)
        self.log.append(RunStarted("agents/a", self.spec.session_id))
        self.make(*payloads)

    def make(self, *payloads: Payload | str, source: Source | None = None) -> None:
        for payload in payloads:
            if isinstance(payload, str):
                self.log.write(payload)
                self.log.seal()
            else:
                self.log.append(payload, source)

    def entry(self, after: int = 0, reserve: int = 0, **more: Any) -> Entry:
        records = self.log.records(after)
        return Entry(LOCAL, self.spec, records, after, reserve, **more)

    def end(self, now: float, after: int = 0, state: RunState = RunState.COMPLETED) -> Finish:
        self.log.finish(RunCompleted)
        text, last = self.log.output()
        run = Run(
            self.spec.run_id,
            "agents/a",
            state,
            session_id=self.spec.session_id,
            output=text,
            create_time=now,
            end_time=now,
            expire_time=now + RETENTION,
            last_sequence=last,
        )
        return Finish(LOCAL, EndedRun(self.spec, run, 4.0, "digest"), self.log, after)


def begin(store: RunStore, *payloads: Payload | str, run_id: str = "r") -> Live:
    """A live run that the store has, with what it has made."""
    live = Live(run_id, *payloads)
    store.admit(LOCAL, live.spec)
    (written,) = store.write([live.entry()])
    assert written is not None
    return live


CALL = ToolCall("1", "pay", "{}", state=ToolCallState.WAITING, start_time=5.0)
YES = Decision("1", approved=True)
LEFT = TimeLeft(pause=100.0, deadline=2.5)


def found_as_paused() -> Run:
    return Run("r", "agents/a", RunState.PAUSED, usage=Usage(output_tokens=7), create_time=1.0)


def paused(store: RunStore, *payloads: Payload | str, handed: bool = True) -> Live:
    """A live run that waits for a decision, and has handed over what it can go on from."""
    live = Live("r", *payloads, RunPaused("May I?", (CALL,), handed))
    store.admit(LOCAL, live.spec)
    pause = Pause(live.log.last_sequence, b"so far", found_as_paused(), LEFT) if handed else None
    write(store, live.entry(pause=pause))
    return live


def write(store: RunStore, entry: Entry) -> Written:
    (written,) = store.write([entry])
    assert written is not None
    return written


def found(store: RunStore, run_id: str = "r") -> Run:
    ended = store.find(LOCAL, run_id)
    assert ended is not None
    return ended.run


def seen(store: RunStore, run_id: str = "r", after: int = 0) -> list[tuple[int, Payload]]:
    """What a watcher who comes after an event is given: numbers and payloads."""
    kept = store.log(LOCAL, run_id)
    assert kept is not None
    watcher = Watcher(run_id, kept[1], after, lambda: kept[0].run, lambda: None)
    taken = []
    while not watcher.ended:
        taken += [(r.sequence, r.event(run_id).payload) for r in watcher.take()]
    return taken


class TestWriting:
    def test_each_event_is_stored_once(self, store: RunStore, clock: ManualClock) -> None:
        """An entry that comes again, with more or fewer records, changes nothing twice."""
        live = begin(store, "a")
        assert write(store, live.entry()).last_sequence == 2
        live.make("b", "c")
        assert write(store, live.entry(2)).last_sequence == 4
        assert write(store, live.entry(2)).last_sequence == 4
        assert write(store, live.entry()).last_sequence == 4
        live.make("d")
        assert write(store, live.entry(1)).last_sequence == 5
        store.finish([live.end(clock.time(), 5)])
        assert seen(store)[0] == (1, RunStarted("agents/a"))
        assert "".join(p.text for _, p in seen(store) if hasattr(p, "text")) == "abcd"

    def test_a_missing_predecessor_is_named(self, store: RunStore) -> None:
        """Events whose predecessor is not there are not stored: the answer says what is."""
        live = begin(store, "a")
        live.make("b", "c")
        answer = write(store, live.entry(3, reserve=9999))
        assert answer.last_sequence == 2
        assert write(store, live.entry(answer.last_sequence)).last_sequence == 4

    def test_numbers_are_reserved(self, store: RunStore) -> None:
        """What was reserved stays so, and rises as it is asked for."""
        live = Live()
        admitted: Any = store.admit(LOCAL, live.spec)
        assert admitted.reserved > 0
        first = write(store, live.entry())
        assert first.reserved == admitted.reserved
        assert write(store, live.entry(1, reserve=first.reserved + 7)).reserved == (
            first.reserved + 7
        )
        assert write(store, live.entry(1, reserve=1)).reserved == first.reserved + 7

    def test_a_stop_is_told_to_the_owner(self, store: RunStore) -> None:
        """The next write of a run says that a stop was recorded for it."""
        live = begin(store, "a")
        assert write(store, live.entry()).stop is None
        store.request_stop(LOCAL, "r", ask(grace=2.0), before_start=False)
        assert write(store, live.entry(2)).stop == ask(grace=2.0)

    def test_many_runs_are_written_in_one_step(self, store: RunStore) -> None:
        """Those that are not this process's are left out; the others are stored."""
        lives = [Live(f"r{n}", *"abc") for n in range(100)]
        for live in lives[1:]:
            store.admit(LOCAL, live.spec)
        answers = store.write([live.entry() for live in lives])
        assert answers[0] is None
        assert {answer.last_sequence for answer in answers[1:] if answer} == {4}

    def test_a_child_is_made_with_its_first_events(
        self, store: RunStore, clock: ManualClock
    ) -> None:
        """A run that the store has not heard of is live from then on; one that has ended is not."""
        live = Live("c", "a")
        opens = Terms(parent_run_id="r")
        assert write(store, live.entry(opens=opens)).last_sequence == 2
        assert write(store, live.entry(opens=opens)).last_sequence == 2
        assert store.size().live == 1
        stopped = store.request_stop(LOCAL, "c", ask(), before_start=False)
        assert isinstance(stopped, Recorded)
        store.finish([live.end(clock.time(), state=RunState.CANCELLED)])
        assert store.write([live.entry(opens=opens)]) == [None]

    def test_a_trimmed_log_begins_anew(self, store: RunStore, place: Place) -> None:
        """Where the log has lost events, the run as it was then stands for them."""
        live = begin(store, *"abc")
        base = Run("r", "agents/a", RunState.RUNNING, output="abcdef", last_sequence=9)
        live.make(*"defghij")
        assert write(store, live.entry(9, base=base)).last_sequence == 11
        next_store = place.next_process()
        told: list[Run] = []
        next_store.recover(told.append)
        assert [(run.run_id, run.state) for run in told] == [("r", RunState.FAILED)]
        assert found(next_store).output == "abcdefij"
        kinds = [type(payload) for _, payload in seen(next_store)]
        assert kinds[:2] == [Gap, Snapshot]

    @pytest.mark.parametrize("stored", [0, 2, 5])
    def test_the_whole_log_is_kept(self, store: RunStore, clock: ManualClock, stored: int) -> None:
        """An end brings all that the store does not have, whatever its owner takes it to have."""
        live = begin(store)
        live.make(*"abcd")
        write(store, live.entry(1))
        store.finish([live.end(clock.time(), stored)])
        assert [sequence for sequence, _ in seen(store)][-1] == 6
        kept = store.log(LOCAL, "r")
        assert kept is not None
        assert kept[1].output() == ("abcd", 6)
        assert [r.sequence for r in kept[1].records()] == [1, 2, 3, 4, 5, 6]


class TestRestart:
    def test_promise_12_ended_runs_are_still_there(
        self, store: RunStore, place: Place, clock: ManualClock
    ) -> None:
        """Runs, events, receipts, sessions and lists are as they were."""
        live = begin(store, "text", run_id="r")
        ended = live.end(clock.time(), 2)
        store.finish([ended])
        talk = Live("s", "hi", session_id="talk")
        store.finish([talk.end(clock.time())])
        events = seen(store)
        after = place.next_process()
        assert list(after.recover()) == []
        assert after.find(LOCAL, "r") == ended.ended
        assert seen(after) == events
        assert [run.run_id for run in after.page(EVERYBODY, RunFilter(), None, 9)] == ["s", "r"]
        assert [run.run_id for run in after.history(LOCAL, "talk", "", "agents/a", 9)] == ["s"]
        assert after.admit(LOCAL, live.spec) == ended.ended
        clock.advance(RETENTION)
        assert place.next_process().find(LOCAL, "r") is None

    def test_promise_06_early_cancels_are_still_there(
        self, store: RunStore, place: Place, clock: ManualClock
    ) -> None:
        """A cancel before its run outlives the process, and no longer than its time."""
        store.request_stop(LOCAL, "r", ask(), before_start=True)
        store.request_stop(LOCAL, "late", ask(), before_start=True)
        after = place.next_process()
        answer: Any = after.admit(LOCAL, spec())
        assert answer.cancellation == ask().cancellation
        clock.advance(30.0)
        late: Any = place.next_process().admit(LOCAL, spec("late"))
        assert late.cancellation is None

    def test_promise_12_a_lost_run_keeps_what_was_stored(
        self, store: RunStore, place: Place, clock: ManualClock
    ) -> None:
        """A run that had begun ends FAILED, cause LOST, with text, usage and tool calls; what was
        under way is UNKNOWN; a child's calls are the child's."""
        done, open_call = ToolCall("1", "a", "{}"), ToolCall("2", "b", "{}")
        live = begin(store, "te", ToolCallStarted(done), UsageUpdated(Usage(output_tokens=7)))
        live.make(ToolCallCompleted(ToolCall("1", "a", "{}", "ok", ToolCallState.COMPLETED)))
        live.make(ToolCallStarted(open_call), "xt")
        child = Source(SourceKind.AGENT, "c", "C", "child", ("a", "c"))
        live.make(ToolCallStarted(open_call), UsageUpdated(Usage(output_tokens=99)), source=child)
        write(store, live.entry(4))
        clock.advance(5.0)
        after = place.next_process()
        assert list(after.recover()) == []
        run = found(after)
        assert (run.state, run.output, run.usage.output_tokens) == (RunState.FAILED, "text", 7)
        assert run.error is not None
        assert run.error.type == "RunLost"
        assert run.cancellation is not None
        assert run.cancellation.cause is CancelCause.LOST
        assert [(c.tool_call_id, c.state, c.run_id) for c in run.tool_calls] == [
            ("1", ToolCallState.COMPLETED, ""),
            ("2", ToolCallState.UNKNOWN, ""),
            ("2", ToolCallState.UNKNOWN, "child"),
        ]
        assert (run.end_time, run.expire_time) == (clock.time(), clock.time() + RETENTION)
        assert run.start_time > 0

    @pytest.mark.parametrize("after", [0, 2, 3, 100, 255, 256])
    def test_a_lost_end_comes_behind_a_gap(self, store: RunStore, place: Place, after: int) -> None:
        """The end is one above what was reserved; whoever comes back is told what is missing,
        also if they have seen more than was stored."""
        begin(store, "a", "b")
        next_store = place.next_process()
        next_store.recover()
        told = seen(next_store, after=after)
        reserved = found(next_store).last_sequence - 1
        assert isinstance(told[-1][1], RunFailed)
        assert told[-1][0] == reserved + 1
        assert told[-1][1].output == "ab"
        if after < reserved:
            (_, gap), (place_of, snapshot) = told[-3:-1]
            assert gap == Gap(max(3, after) + 1, reserved)
            assert place_of == reserved
            assert isinstance(snapshot, Snapshot)
        else:
            assert len(told) == 1

    @pytest.mark.parametrize("how", ["asked", "event"])
    def test_promise_02_a_stopped_run_is_cancelled(
        self, store: RunStore, place: Place, how: str
    ) -> None:
        """A run whose stop was recorded, by a request or among its events, ends CANCELLED."""
        stop = ask(reason="enough")
        live = begin(store, "a")
        if how == "asked":
            store.request_stop(LOCAL, "r", stop, before_start=False)
        else:
            live.make(CancelRequested(stop.cancellation))
            write(store, live.entry(2))
        after = place.next_process()
        after.recover()
        run = found(after)
        assert (run.state, run.output, run.error) == (RunState.CANCELLED, "a", None)
        assert run.cancellation == stop.cancellation
        assert isinstance(seen(after)[-1][1], RunCancelled)

    def test_a_paused_run_is_lost(self, store: RunStore, place: Place) -> None:
        """Its calls that waited for a decision are declined: nobody decides any more."""
        call = ToolCall("1", "pay", "{}", state=ToolCallState.WAITING)
        begin(store, RunPaused("May I?", (call,)))
        after = place.next_process()
        after.recover()
        assert [c.state for c in found(after).tool_calls] == [ToolCallState.DECLINED]

    def test_a_pause_with_a_continuation_is_taken_over(
        self, store: RunStore, place: Place, clock: ManualClock
    ) -> None:
        """It waits in the next process, with its events, its text and the run as it paused; also
        in the one after that, where nobody has decided meanwhile."""
        live = paused(store, "text")
        for number in range(2):
            clock.advance(7.0)
            store = place.next_process()
            (back,) = store.recover()
            pause = back.carried
            assert pause is not None
            assert (back.scope, back.spec) == (LOCAL, spec())
            assert (pause.question, pause.calls) == ("May I?", (CALL,))
            assert (pause.pause.continuation, pause.content) == (b"so far", "text")
            assert pause.pause.run.usage == Usage(output_tokens=7)
            assert pause.pause.left == LEFT
            assert pause.elapsed == pytest.approx(7.0 * (number + 1), abs=1.0)
            assert [r.sequence for r in pause.records] == [1, 2, 3]
            assert store.find(LOCAL, "r") is None
        assert write(store, live.entry(3, reserve=999)).last_sequence == 3

    @pytest.mark.parametrize("then", ["went on", "said more", "stopped", "handed nothing over"])
    def test_a_pause_that_is_not_taken_over(self, store: RunStore, place: Place, then: str) -> None:
        """A run that was about to go on, or that made something after its pause, is lost, since
        nobody knows what it did; a stop that was recorded stands."""
        live = paused(store, "text", handed=then != "handed nothing over")
        if then == "went on":
            assert store.go_on(LOCAL, "r", Asked((YES,), "ann", 3))
        elif then == "said more":
            live.make("more")
            write(store, live.entry(3))
        elif then == "stopped":
            store.request_stop(LOCAL, "r", ask(), before_start=False)
        after = place.next_process()
        assert list(after.recover()) == []
        cause = CancelCause.USER if then == "stopped" else CancelCause.LOST
        run = found(after)
        assert run.cancellation is not None
        assert run.cancellation.cause is cause
        assert run.output == ("textmore" if then == "said more" else "text")

    def test_one_decision_is_heard(self, store: RunStore, place: Place) -> None:
        """The first stands, however often and in whatever order it is brought; the others are
        refused, and so is one about another question."""
        paused(store)
        other = Decision("2", note="no")
        assert not store.go_on(LOCAL, "r", Asked((YES, other), "ann", 1))
        assert store.go_on(LOCAL, "r", Asked((YES, other), "ann", 2))
        assert store.go_on(LOCAL, "r", Asked((other, YES), "bob", 2))
        assert not store.go_on(LOCAL, "r", Asked((YES,), "bob", 2))
        assert not store.go_on(LOCAL, "unknown", Asked((YES,), "bob", 2))

    def test_a_run_that_goes_on_may_pause_again(self, store: RunStore, place: Place) -> None:
        """Each pause stands for itself: the next process takes up the last one."""
        live = paused(store)
        assert store.go_on(LOCAL, "r", Asked((YES,), "ann", 2))
        live.make(RunContinued("ann"), RunPaused("And now?", (CALL,), True))
        write(store, live.entry(2, pause=Pause(4, b"more", found_as_paused())))
        assert not store.go_on(LOCAL, "r", Asked((YES,), "ann", 2))
        (back,) = place.next_process().recover()
        assert back.carried is not None
        assert (back.carried.question, back.carried.pause.continuation) == ("And now?", b"more")

    def test_promise_12_lost_once(self, store: RunStore, place: Place, clock: ManualClock) -> None:
        """The end that the first process wrote stands; the next ones change nothing."""
        begin(store, "a")
        first = place.next_process()
        first.recover()
        was = found(first), seen(first)
        clock.advance(1.0)
        later = place.next_process()
        later.recover()
        assert (found(later), seen(later)) == was

    def test_waiting_runs_are_taken_over(self, store: RunStore, place: Place) -> None:
        """Runs that had not begun come back on their terms, in the order they came; those that had
        are lost, and those that were stopped are cancelled without beginning."""
        terms = Terms(DisconnectPolicy.LEASE, 99.0, "", begins=False)
        for run_id in ("z", "begun", "stopped", "a"):
            store.admit(LOCAL, spec(run_id), terms)
        store.admit(Scope("acme"), spec("b"), terms)
        assert store.begin(LOCAL, "begun") is None
        store.request_stop(LOCAL, "stopped", ask(), before_start=False)
        stop = store.begin(LOCAL, "stopped")
        assert stop is not None
        assert stop == ask()
        for _ in range(2):  # a process that dies before it begins them leaves them waiting
            store = place.next_process()
            back = store.recover()
            assert [(one.scope, one.spec.run_id) for one in back] == [
                (LOCAL, "z"),
                (LOCAL, "a"),
                (Scope("acme"), "b"),
            ]
            assert {one.terms for one in back} == {terms}
            assert all(isinstance(one, Waiting) and one.create_time for one in back)
        assert found(store, "begun").state is RunState.FAILED
        assert found(store, "stopped").state is RunState.CANCELLED
        live = Live("a")
        assert write(store, live.entry()).last_sequence == 1
        assert store.begin(LOCAL, "a") is None

    def test_promise_11_bounds_hold_over_a_restart(self, store: RunStore, place: Place) -> None:
        """Runs that are lost count like those that ended."""
        for n in range(20):
            begin(store, "x" * 100, run_id=f"r{n:02d}")
        after = place.next_process(max_finished_runs=5)
        after.recover()
        assert (after.size().live, after.size().ended) == (0, 5)
        assert place.next_process(max_finished_runs=5).size().ended == 5


def test_a_later_stop_hastens_over_a_restart(store: RunStore, place: Place) -> None:
    """The stricter mode and the shorter grace stand."""
    terms = Terms(begins=False)
    store.admit(LOCAL, spec(), terms)
    after = place.next_process()
    assert len(after.recover()) == 1
    after.request_stop(LOCAL, "r", ask("ann", 9.0), before_start=False)
    now = after.request_stop(
        LOCAL, "r", ask("bob", 4.0, mode=CancelMode.IMMEDIATE), before_start=False
    )
    assert now == Recorded(ask("ann", 4.0, mode=CancelMode.IMMEDIATE), before_start=False)


def test_what_was_used_and_what_is_live_is_counted_over_a_restart(
    store: RunStore, place: Place
) -> None:
    """The usage of lost runs counts, and their places are free once they have ended LOST."""
    share = Terms(share=Share(1, 1))
    store.admit(LOCAL, spec(), share)
    live = Live("r", UsageUpdated(Usage(output_tokens=7, cost=0.5)))
    write(store, live.entry())
    with pytest.raises(QuotaExceeded):
        store.admit(LOCAL, spec("s"), share)
    after = place.next_process()
    after.recover()
    assert isinstance(after.admit(LOCAL, spec("s"), share), Admitted)
    spent = place.next_process().spent(LOCAL.tenant)
    assert (spent.tokens, spent.cost) == (7, 0.5)


def test_many_runs_are_written_at_once_and_answered_in_order(store: RunStore) -> None:
    """Six hundred runs with none, one or more records each; one that the store has more of than it
    was told is answered with what it has, and one that is not here with nothing."""
    lives = [Live(f"r{n}", *["a"] * (n % 4)) for n in range(600)]
    for live in lives:
        store.admit(LOCAL, live.spec)
    first = store.write([live.entry() for live in lives])
    assert [w and w.last_sequence for w in first] == [n % 4 + 1 for n in range(600)]
    for live in lives[::2]:
        live.make("b", "c")
    entries = [live.entry(n % 4 + 1 if n % 3 else 0, 400) for n, live in enumerate(lives)]
    entries[300] = Live("stranger", "x").entry()
    again = store.write(entries)
    assert again[300] is None
    for n, (live, written) in enumerate(zip(lives, again, strict=True)):
        if n != 300:
            assert written is not None
            assert written.last_sequence == live.log.last_sequence
            assert written.reserved == 400 or not n % 3  # then its owner asks once more
