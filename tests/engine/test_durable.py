"""With a store that outlives the process: what is shown is stored, and nothing waits for it."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pullcord.engine import deciding, journal, recording
from pullcord.engine.clock import Clock, ThreadClock
from pullcord.engine.engine import Engine
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import LOCAL, CancelRequest, Terms, Waiting
from pullcord.executors.local import LocalExecutor
from pullcord.run.cancel import CancelCause, Cancellation, CancelMode, CancelOutcome
from pullcord.run.context import RunContext
from pullcord.run.errors import RunnableNotFound, StoreUnavailable
from pullcord.run.events import Gap, RunCancelled, RunCompleted, RunPaused, ToolCall
from pullcord.run.record import Decision, DisconnectPolicy, RunFilter, RunSpec, SessionPolicy
from pullcord.run.state import RunState
from pullcord.testing import Gate, RecordingObserver, Script, ask, nothing_left, say

from tests.engine.driving import cancel, ended, events, freed, live_run, spec, start
from tests.engine.durable import RESERVED, Door, DurableMemory

QUEUE = SessionPolicy.QUEUE
ALL = RunFilter()


class Made:
    """An engine on a durable store that a test can make slow, hung or broken."""

    def __init__(self, clock: Clock, **options: Any) -> None:
        bounds = EngineOptions(**options)
        observer = RecordingObserver()
        self.door = Door(DurableMemory(clock, bounds))
        self.engine = Engine(
            options=bounds,
            clock=clock,
            store=self.door.store,
            observer=observer,
            executor=LocalExecutor(bounds, clock, observer.loop_stalled),
        )


@pytest.fixture
def make(real_clock: ThreadClock) -> Iterator[Callable[..., Made]]:
    made: list[Made] = []

    def make_one(**options: Any) -> Made:
        made.append(Made(real_clock, **options))
        return made[-1]

    with nothing_left():
        yield make_one
        for one in made:
            one.door.open()
            assert one.engine.wait_idle(30), "the test has left a run behind"
            one.engine.close()


@pytest.fixture
def both(make: Callable[..., Made]) -> tuple[Engine, Door]:
    made = make()
    return made.engine, made.door


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers wait for the store for a moment only."""
    monkeypatch.setattr(recording, "PATIENCE", 0.05)


# --- what is shown


def test_no_event_is_shown_above_what_is_reserved(both: tuple[Engine, Door]) -> None:
    """While the store does not write, watchers and snapshots stop at the reserved number."""
    engine, door = both
    door.shut("write")
    gate = Gate()
    start(engine, Script(say(*"abcdefghijklmnop"), gate))
    gate.wait_reached()
    watcher = engine.watch("r")
    seen = watcher.take()
    assert 0 < seen[-1].sequence <= RESERVED
    run = engine.get("r")
    assert run.last_sequence == seen[-1].sequence, "most deltas are one record, above the bound"
    assert len(run.output) < RESERVED
    ready = threading.Event()
    assert watcher.arm(ready.set), "there is nothing to take"
    door.open()
    assert ready.wait(30), "a watcher is woken by what is reserved"
    assert engine.get("r").output == "abcdefghijklmnop"
    gate.open()
    seen += watcher.take()
    while not watcher.ended:
        if watcher.arm((woken := threading.Event()).set):
            assert woken.wait(30)
        seen += watcher.take()
    assert "".join(record.text for record in seen) == "abcdefghijklmnop"
    watcher.close()
    ended(engine)


def test_the_end_is_shown_once_the_store_has_it(both: tuple[Engine, Door]) -> None:
    """Until then a run whose end was decided is shown as it was, and its waiters wait."""
    engine, door = both
    door.shut("finish")
    start(engine, Script(say("text")))
    door.wait_asked("finish")
    watcher, over = engine.watch("r"), threading.Event()
    engine.on_end("r", over.set)
    run = engine.get("r")
    assert (run.state, run.end_time, run.expire_time, run.error) == (RunState.RUNNING, 0, 0, None)
    assert [r.state for r in engine.list_page(ALL, 5).runs] == [RunState.RUNNING]
    door.wait_for(lambda: engine.get("r").output == "text")
    taken = watcher.take()
    assert taken[-1].sequence == engine.get("r").last_sequence == 2
    assert watcher.arm(threading.Event().set)
    assert not over.is_set()
    door.open()
    assert over.wait(30)
    run = ended(engine)
    assert (run.state, run.last_sequence) == (RunState.COMPLETED, 3)
    assert isinstance(watcher.take()[-1].payload, RunCompleted)
    watcher.close()


def test_a_parent_learns_of_its_childs_end_at_once(both: tuple[Engine, Door]) -> None:
    """Code that waits for a child goes on while the store does not take the child's end."""
    engine, door = both
    door.shut("finish", "write")
    gate, kept = Gate(), []

    async def child(ctx: RunContext) -> None:
        kept.append(await ctx.start(Script(say("x"), id="child"), "go").wait())

    start(engine, Script(child, gate, is_async=True))
    gate.wait_reached()
    assert (kept[0].state, kept[0].output) == (RunState.COMPLETED, "x")
    assert engine.get(kept[0].run_id).state is RunState.RUNNING
    gate.open()
    door.open()
    ended(engine)
    assert ended(engine, kept[0].run_id) == kept[0]


def test_all_that_runs_make_is_written(both: tuple[Engine, Door]) -> None:
    """The store has every event of live runs and of their children, each once, in order."""
    engine, door = both
    gate = Gate()

    async def child(ctx: RunContext) -> None:
        ctx.start(Script(say("y"), gate, id="child"), "go")

    start(engine, Script(say(*["x"] * 300), child, gate, is_async=True))
    gate.wait_reached()
    gate.wait_reached()
    (found,) = engine.list_page(RunFilter(parent_run_id="r"), 5).runs
    for run_id, text in (("r", "x" * 300), (found.run_id, "y")):
        door.wait_for(
            lambda run_id=run_id, text=text: (
                run_id in door.memory.rows and door.live(run_id).text == text
            )
        )
        row, last = door.live(run_id), 0
        for record in row.records:
            assert record.sequence - record.count == last
            last = record.sequence
        assert last <= row.reserved
    assert door.live(found.run_id).terms == Terms(parent_run_id="r")
    gate.open()
    ended(engine)
    ended(engine, found.run_id)


def test_a_store_that_was_away_gets_everything(both: tuple[Engine, Door]) -> None:
    """What was made while writes failed is written once the store is back, and runs go on."""
    engine, door = both
    first, second = Gate(), Gate()
    start(engine, Script(say("a"), first, say("b"), second))
    first.wait_reached()
    door.wait_for(lambda: door.live("r").text == "a")
    door.fail("write")
    first.open()
    second.wait_reached()
    asked = sum(verb == "write" for verb, _ in door.asked)
    door.wait_asked("write", asked + 3)
    assert door.live("r").text == "a"
    door.open()
    door.wait_for(lambda: door.live("r").text == "ab")
    second.open()
    assert ended(engine).output == "ab"


@pytest.mark.parametrize("away", [False, True])
def test_what_waits_is_bounded(make: Callable[..., Made], away: bool) -> None:
    """A run that makes more than its log keeps leaves its text in the store, and a bounded part of
    its events, also if they could not be written in time."""
    made = make(max_log_records=10)
    engine, door = made.engine, made.door
    gate, rest = Gate(), Gate()
    texts = [f"{n:04d}" for n in range(500)]

    def each(ctx: RunContext) -> None:
        for n, text in enumerate(texts):
            ctx.write(text)
            ctx.emit("mark", {"n": n})
            if n == 3:
                gate(ctx)

    start(engine, Script(each, rest))
    gate.wait_reached()
    door.wait_for(lambda: door.live("r").last == 9)
    if away:
        door.fail("write")
    gate.open()
    rest.wait_reached()
    door.open()
    door.wait_for(lambda: door.live("r").last == 1001)
    assert door.live("r").base is not None
    assert door.live("r").text == "".join(texts)
    if away:
        assert len(door.live("r").records) <= 10
    rest.open()
    assert ended_loosely(engine).output == "".join(texts)


def ended_loosely(engine: Engine) -> Any:
    """A run whose log was trimmed, once it has ended."""
    over = threading.Event()
    engine.on_end("r", over.set)
    assert over.wait(30)
    assert isinstance(events(engine)[0].payload, Gap)
    return engine.get("r")


def test_a_run_that_makes_too_much_for_too_long_fails(
    make: Callable[..., Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When what waits has outgrown the log for so long, the run ends FAILED and keeps its text."""
    made = make(max_log_records=10)
    engine, door = made.engine, made.door
    monkeypatch.setattr(engine._journal, "_patience", 0.0)
    door.fail("write")
    gate = Gate()
    start(engine, Script(say("kept"), *[lambda ctx: ctx.emit("mark", {})] * 50, gate))
    gate.wait_reached()
    assert gate.left.wait(30), "the code is interrupted"
    door.open()
    run = ended_loosely(engine)
    assert (run.state, run.output) == (RunState.FAILED, "kept")
    assert run.error is not None
    assert run.error.type == "StoreUnavailable"
    freed(engine)


def test_nobody_waits_who_makes_events(both: tuple[Engine, Door]) -> None:
    """Only threads of our own ask the store to write and to finish."""
    engine, _ = both
    for n in range(5):
        start(engine, Script(say("a"), is_async=bool(n % 2)), f"r{n}")
    for n in range(5):
        ended(engine, f"r{n}")
    threads = {name for verb, name in both[1].asked if verb in {"write", "finish"}}
    assert threads <= {"pullcord-journal", "pullcord-completer"}


# --- cancels


def test_an_accepted_cancel_is_recorded_before_it_is_answered(both: tuple[Engine, Door]) -> None:
    """The receipt comes after the store has the stop."""
    engine, door = both
    gate = Gate(deaf=True)
    start(engine, Script(gate))
    gate.wait_reached()
    receipt = cancel(engine)
    assert receipt.outcome is CancelOutcome.REQUESTED
    stop = door.memory.begin(LOCAL, "r")
    assert stop is not None
    assert stop.cancellation.accept_time == receipt.accept_time > 0
    assert stop.cancellation.actor == "ada"
    gate.open()
    assert ended(engine).state is RunState.CANCELLED


def test_promise_05_a_store_that_hangs_delays_no_stop(
    both: tuple[Engine, Door], impatient: None
) -> None:
    """The code is stopped at once; the answer says that the stop is not recorded yet."""
    engine, door = both
    door.shut("request_stop", "write", "finish")
    gate = Gate()
    start(engine, Script(gate))
    gate.wait_reached()
    with pytest.raises(StoreUnavailable, match="being stopped here all the same") as refused:
        cancel(engine)
    assert refused.value.stopping
    assert gate.left.wait(30), "the code was not stopped"
    assert engine.get("r").state is RunState.CANCELLING
    door.open()
    assert ended(engine).state is RunState.CANCELLED
    assert cancel(engine).outcome is CancelOutcome.STOPPED


def test_a_cancel_of_many_is_recorded(both: tuple[Engine, Door], impatient: None) -> None:
    """CancelRuns answers once all stops are recorded, and says so if they are not."""
    engine, door = both
    gate = Gate()
    for n in range(20):
        start(engine, Script(gate), f"r{n}")
        gate.wait_reached()
    request = CancelRequest(Cancellation(actor="ann"))
    door.shut("request_stop", "write", "finish")
    with pytest.raises(StoreUnavailable):
        engine.cancel_many(ALL, request)
    assert {r.state for r in engine.list_page(ALL, 50).runs} == {RunState.CANCELLING}
    door.open()
    assert engine.wait_idle(30)
    assert {r.state for r in engine.list_page(ALL, 50).runs} == {RunState.CANCELLED}
    freed(engine)


def test_a_cancel_after_the_decision_waits_for_the_end(both: tuple[Engine, Door]) -> None:
    """A cancel of a run whose end is on its way to the store is answered as the end was."""
    engine, door = both
    door.shut("finish")
    start(engine, Script())
    door.wait_asked("finish")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(cancel, engine)
        door.wait_for(lambda: live_run(engine).ending.waiting)
        door.open()
        assert answer.result(30).outcome is CancelOutcome.ALREADY_FINISHED


def test_a_cancel_after_the_decision_is_refused_if_the_store_is_away(
    both: tuple[Engine, Door], impatient: None
) -> None:
    """It is not known yet whether the end stands: the caller hears that, and that nothing runs."""
    engine, door = both
    door.shut("finish")
    start(engine, Script())
    door.wait_asked("finish")
    with pytest.raises(StoreUnavailable, match="has ended here") as refused:
        cancel(engine)
    assert not refused.value.stopping


def test_a_stop_that_others_recorded_is_delivered(both: tuple[Engine, Door]) -> None:
    """A stop that another process has recorded reaches the code with the next write."""
    engine, door = both
    gate, again = Gate(), Gate()
    start(engine, Script(gate, say("x"), again))
    gate.wait_reached()
    stop = CancelRequest(Cancellation(actor="bob", accept_time=7.0))
    door.stop("r", stop)
    gate.open()
    run = ended(engine)
    assert (run.state, run.cancellation) == (RunState.CANCELLED, stop.cancellation)


def test_promise_02_an_end_that_a_stop_elsewhere_came_before_is_another(
    both: tuple[Engine, Door],
) -> None:
    """The store refuses the end: the run ends CANCELLED, with all that it made, and nobody has
    seen anything else."""
    engine, door = both
    gate = Gate()
    start(engine, Script(say("made"), gate))
    gate.wait_reached()
    door.wait_for(lambda: door.live("r").text == "made")
    door.shut("write")
    stop = CancelRequest(Cancellation(actor="bob", reason="no", accept_time=7.0))
    door.stop("r", stop)
    gate.open()
    run = ended(engine)
    assert (run.state, run.output) == (RunState.CANCELLED, "made")
    assert run.cancellation == stop.cancellation
    last = events(engine)[-1].payload
    assert isinstance(last, RunCancelled)
    assert cancel(engine).outcome is CancelOutcome.STOPPED


def test_a_childs_cancel_is_recorded_with_the_child(both: tuple[Engine, Door]) -> None:
    """A child that the store has not heard of is brought there with its stop, then answered."""
    engine, door = both
    door.shut("write")
    gate, below = Gate(), Gate(deaf=True)

    async def child(ctx: RunContext) -> None:
        ctx.start(Script(below, id="child"), "go")

    start(engine, Script(child, gate, is_async=True))
    gate.wait_reached()
    below.wait_reached()
    (found,) = engine.list_page(RunFilter(parent_run_id="r"), 5).runs
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(cancel, engine, found.run_id)
        door.wait_asked("request_stop")
        assert not answer.done()
        door.open()
        assert answer.result(30).outcome is CancelOutcome.REQUESTED
    assert door.live(found.run_id).last >= 2
    below.open()
    gate.open()
    assert ended(engine, found.run_id).state is RunState.CANCELLED
    ended(engine)


# --- runs that wait for their turn


def test_a_run_that_waits_begins_once_the_store_knows(both: tuple[Engine, Door]) -> None:
    """A run that waits for its session can be taken over until the store was told that it begins;
    one that does not wait is not asked about."""
    engine, door = both
    gate, second = Gate(), Gate()
    start(engine, Script(gate), "a", session_id="s", session_policy=QUEUE)
    start(engine, Script(second), "b", session_id="s", session_policy=QUEUE)
    assert (door.live("a").terms.begins, door.live("b").terms.begins) == (True, False)
    door.fail("begin")
    gate.wait_reached()
    gate.open()
    door.wait_asked("begin", 2)
    assert engine.get("b").state is RunState.PENDING
    door.open()
    second.wait_reached()
    assert door.live("b").begun
    assert not door.live("a").begun
    assert {name for verb, name in door.asked if verb == "begin"} == {"pullcord-completer"}
    second.open()
    ended(engine, "b")


def test_a_waiting_run_that_was_stopped_elsewhere_does_not_begin(
    both: tuple[Engine, Door],
) -> None:
    """The store answers `begin` with the stop that came meanwhile, and the code is not called."""
    engine, door = both
    gate, never = Gate(), Script()
    start(engine, Script(gate), "a", session_id="s", session_policy=QUEUE)
    start(engine, never, "b", session_id="s", session_policy=QUEUE)
    gate.wait_reached()
    door.shut("write")
    door.stop("b", CancelRequest(Cancellation(actor="bob", accept_time=7.0)))
    gate.open()
    run = ended(engine, "b")
    assert (run.state, never.runs) == (RunState.CANCELLED, 0)
    door.open()
    freed(engine)


def waiting(run_id: str, runnable: str = "agents/script", **terms: Any) -> Waiting:
    asked = RunSpec(runnable, run_id=run_id, session_id="s", session_policy=QUEUE)
    return Waiting(LOCAL, asked, Terms(begins=False, **terms), RESERVED, 12.0)


def test_what_had_not_begun_begins_in_the_next_process(both: tuple[Engine, Door]) -> None:
    """Runs that waited in a process that is gone begin in the order they came, as they were."""
    engine, door = both
    order: list[str] = []
    script = Script(lambda ctx: order.append(ctx.run_id))
    gone = waiting("gone", "agents/gone")
    door.memory.left = [waiting("a"), gone, waiting("b"), waiting("c", parent_run_id="lost")]

    def find(name: str) -> Script:
        if name != "agents/script":
            raise RunnableNotFound(name)
        return script

    assert engine.recover(find) == 4
    assert engine.wait_idle(30)
    assert order == ["a", "b"]
    run = ended(engine, "gone")
    assert run.error is not None
    assert (run.state, run.error.type) == (RunState.FAILED, "RunnableNotFound")
    orphan = ended(engine, "c")
    assert orphan.cancellation is not None
    assert orphan.cancellation.cause is CancelCause.PARENT
    assert {run.create_time for run in engine.list_page(ALL, 9).runs} == {12.0}
    freed(engine)


def test_a_taken_over_run_waits_for_its_follower_as_long_as_a_lease(
    make: Callable[..., Made],
) -> None:
    """A run that its client followed is stopped if nobody comes back for it."""
    made = make(lease=0.02)
    made.door.memory.left = [waiting("a", policy=DisconnectPolicy.CANCEL)]
    gate = Gate()
    made.engine.recover(lambda name: Script(gate))
    run = ended(made.engine, "a")
    assert run.cancellation is not None
    assert run.cancellation.cause is CancelCause.DISCONNECT
    freed(made.engine)


def test_a_server_that_stops_leaves_waiting_runs_to_the_next(both: tuple[Engine, Door]) -> None:
    """Shutting down cancels what has begun; what waits for its turn stays in the store, unended."""
    engine, door = both
    gate, never = Gate(), Script()
    start(engine, Script(gate), "a", session_id="s", session_policy=QUEUE)
    start(engine, never, "b", session_id="s", session_policy=QUEUE)
    gate.wait_reached()
    watcher = engine.watch("b")
    engine.shut_down_runs(CancelMode.GRACEFUL)
    assert engine.wait_idle(30)
    watcher.close()
    freed(engine)
    assert engine.get("a").state is RunState.CANCELLED
    assert never.runs == 0
    assert door.memory.find(LOCAL, "b") is None
    assert not door.live("b").begun
    assert engine.remains().claims == 1


def test_a_start_that_the_store_may_have_taken_is_taken_back(
    both: tuple[Engine, Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that failed, although the store admitted it, leaves no row that nobody runs."""
    engine, door = both
    monkeypatch.setattr("pullcord.engine.admission._SOON", 0.0)

    def after(verb: str) -> None:
        if verb == "admit":
            door.store.after = lambda verb: None
            raise StoreUnavailable()

    door.store.after = after
    with pytest.raises(StoreUnavailable):
        start(engine, Script())
    door.wait_for(lambda: engine.remains().claims == 0)
    assert start(engine, Script(), "r").state is not None
    ended(engine)


def test_reservations_keep_ahead_of_a_fast_producer(both: tuple[Engine, Door]) -> None:
    """Numbers are reserved in blocks that double while one does not last a second."""
    engine, door = both
    assert journal._BLOCK < 300
    gate = Gate()
    start(engine, Script(say(*["x"] * 5000), gate))
    gate.wait_reached()
    door.wait_for(lambda: engine.get("r").last_sequence == 5001)
    assert door.live("r").reserved >= 5001 + journal._BLOCK
    gate.open()
    assert len(ended(engine).output) == 5000
    assert spec().run_id == "r"


# --- pauses


def test_nothing_is_shown_after_a_pause_before_it_is_stored(both: tuple[Engine, Door]) -> None:
    """Whoever takes the run up goes on with the next number, and a watcher who had seen another
    event by that number would miss one. A decision that the store has is not shown before either,
    though the run goes on by it."""
    engine, door = both
    gate = Gate()

    async def asks(ctx: RunContext) -> None:
        await ctx.ask("May I?", [ToolCall("a", "pay")], continuation=b"so far")

    start(engine, Script(asks, say("yes"), gate, is_async=True))
    with contextlib.closing(engine.watch("r")) as watcher:
        asked = next(e for e in watcher if isinstance(e.payload, RunPaused))
    while door.memory.rows["r"].last < asked.sequence:
        pass
    door.shut("write")
    engine.continue_run("r", [Decision("a", approved=True)])
    gate.wait_reached()
    assert live_run(engine).log.seal() > asked.sequence
    assert engine.get("r").last_sequence == asked.sequence
    assert engine.get("r").output == ""
    door.open()
    gate.open()
    assert ended(engine).output == "yes"


def test_a_decision_waits_for_the_store(
    both: tuple[Engine, Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is answered once that has it; if it does not answer, the caller is told so, and the run
    goes on as soon as it does."""
    engine, door = both
    monkeypatch.setattr(deciding, "_SOON", 0.01)
    start(engine, Script(ask("May I?", "pay"), say("yes"), is_async=True))
    with contextlib.closing(engine.watch("r")) as watcher:
        next(e for e in watcher if isinstance(e.payload, RunPaused))
    door.fail("go_on")
    with pytest.raises(StoreUnavailable):
        engine.continue_run("r", [Decision("pay", approved=True)])
    assert engine.get("r").state is RunState.PAUSED
    door.open()
    assert ended(engine).output == "yes"


def test_what_waits_for_a_thread_can_be_taken_over_until_it_has_one(
    make: Callable[..., Made],
) -> None:
    """Such a run has not begun for its store, also while that is away; it is asked in the run's own
    thread, and a stop that was recorded meanwhile keeps the code from beginning. A run that finds a
    thread at once does not ask."""
    made = make(workers=1)
    engine, door = made.engine, made.door
    gate, second, third = Gate(), Script(say("x")), Script(say("y"))
    start(engine, Script(gate), "first")
    gate.wait_reached()
    start(engine, second, "second")
    start(engine, third, "third")
    rows = door.memory.rows
    assert rows["first"].terms.begins
    assert not rows["second"].terms.begins
    assert not rows["second"].begun
    assert not rows["third"].begun
    door.fail("begin")
    gate.open()
    door.wait_asked("begin")
    assert second.runs == 0
    stop = CancelRequest(Cancellation(actor="ann"))
    door.memory.request_stop(LOCAL, "third", stop, before_start=False)
    door.open()
    assert ended(engine, "second").output == "x"
    assert rows["second"].begun
    assert ended(engine, "third").state is RunState.CANCELLED
    assert (second.runs, third.runs) == (1, 0)
