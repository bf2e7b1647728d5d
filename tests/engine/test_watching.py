"""Following runs: disconnects, leases, coming back, and watchers that lag. Promises 10 and 11."""

import asyncio
import gc
import weakref

import pytest
from pullcord.engine.engine import Engine
from pullcord.run.cancel import CancelCause
from pullcord.run.context import RunContext
from pullcord.run.errors import InvalidArgument, RunNotFound
from pullcord.run.events import ContentDelta, Gap, RunCompleted, RunStarted, Snapshot
from pullcord.run.record import DisconnectPolicy, Run
from pullcord.run.state import RunState
from pullcord.testing import Gate, ManualClock, Script, say

from tests.engine.conftest import MakeEngine
from tests.engine.driving import cancel, ended, events, freed, live_run, spec, start

LEASE = DisconnectPolicy.LEASE


def start_waiting(engine: Engine, policy: DisconnectPolicy, lease: float | None = None) -> Gate:
    gate = Gate()
    engine.start(Script(say("a"), gate, say("b")), spec(on_disconnect=policy, lease=lease))
    gate.wait_reached()
    return gate


def check_disconnected(run: Run) -> None:
    assert run.state is RunState.CANCELLED
    assert run.cancellation is not None
    assert run.cancellation.cause is CancelCause.DISCONNECT
    assert run.output == "a"


def test_promise_10_cancel_when_the_last_watcher_leaves(engine: Engine) -> None:
    """Under CANCEL the run stops when its last watcher leaves, and not before."""
    start_waiting(engine, DisconnectPolicy.CANCEL)
    first, second = engine.watch("r"), engine.watch("r")
    first.close()
    first.close()
    assert engine.get("r").state is RunState.RUNNING
    second.close()
    check_disconnected(ended(engine))


def test_promise_10_the_callers_default_holds_where_the_spec_says_none(engine: Engine) -> None:
    """The caller's default policy holds for a spec without one, and only for that."""
    gate = Gate()
    cancels = DisconnectPolicy.CANCEL
    engine.start(Script(say("a"), gate), spec("default"), default_policy=cancels)
    keeps = spec("own", on_disconnect=DisconnectPolicy.CONTINUE)
    engine.start(Script(say("a"), gate), keeps, default_policy=cancels)
    for run_id in ("default", "own"):
        gate.wait_reached()
        engine.watch(run_id).close()
    check_disconnected(ended(engine, "default"))
    assert engine.get("own").state is RunState.RUNNING
    gate.open()
    assert ended(engine, "own").state is RunState.COMPLETED


def test_promise_10_continue_goes_on_unwatched(engine: Engine, clock: ManualClock) -> None:
    """Under CONTINUE a run does not care who watches."""
    gate = start_waiting(engine, DisconnectPolicy.CONTINUE)
    engine.watch("r").close()
    clock.advance(10_000)
    gate.open()
    assert ended(engine).output == "ab"


def test_promise_10_a_lease_outlives_the_last_watcher(engine: Engine, clock: ManualClock) -> None:
    """Under LEASE a run goes on for its lease without watchers, counted anew from each leaving."""
    start_waiting(engine, LEASE, 10.0)
    clock.advance(9)
    watcher = engine.watch("r")
    clock.advance(1000)
    watcher.close()
    clock.advance(9)
    engine.watch("r").close()
    clock.advance(9.5)
    assert engine.get("r").state is RunState.RUNNING
    clock.advance(0.5)
    check_disconnected(ended(engine))


def test_promise_10_a_lease_begins_at_the_start(engine: Engine, clock: ManualClock) -> None:
    """A run that nobody ever watches ends when its lease is up; unset, that is the default."""
    start_waiting(engine, LEASE)
    clock.advance(engine.options.lease - 0.1)
    assert engine.get("r").state is RunState.RUNNING
    clock.advance(0.1)
    check_disconnected(ended(engine))


def test_promise_10_a_stale_lease_ends_nothing(engine: Engine, clock: ManualClock) -> None:
    """A lease that was renewed cannot end the run, even where its timer was on its way already."""
    gate = start_waiting(engine, LEASE, 10.0)
    live = live_run(engine)
    clock.advance(5)
    engine.watch("r").close()
    live.presence._is_up(1)  # of the lease from the start, delivered late
    assert engine.get("r").state is RunState.RUNNING
    live.presence.start_lease()
    assert len(clock.timers()) == 1
    gate.open()
    assert ended(engine).state is RunState.COMPLETED


def test_promise_10_coming_back_misses_nothing(engine: Engine) -> None:
    """A watcher that comes back after any event, live or later, gets exactly the rest."""
    gate = Gate()
    start(engine, Script(say("a", "b", "c"), gate, say("d", "e")))
    gate.wait_reached()
    watchers = [engine.watch("r", after) for after in range(5)]
    gate.open()
    ended(engine)
    for after, watcher in enumerate(watchers):
        text = "".join(getattr(event.payload, "text", "") for event in watcher)
        assert text == "abcde"[max(0, after - 1) :]
    last = engine.get("r").last_sequence
    assert [e.sequence for e in events(engine, after=last - 1)] == [last]
    assert events(engine, after=last) == []


@pytest.mark.parametrize("after", [-1, 100])
def test_a_sequence_that_cannot_be(engine: Engine, after: int) -> None:
    """To resume after an event that was never made is the caller's mistake."""
    gate = Gate()
    start(engine, Script(gate))
    gate.wait_reached()
    with pytest.raises(InvalidArgument):
        engine.watch("r", after)
    gate.open()
    ended(engine)
    with pytest.raises(InvalidArgument):
        engine.watch("r", after)
    with pytest.raises(RunNotFound):
        engine.watch("unknown")


def test_promise_10_a_trimmed_log_gives_a_gap_and_a_snapshot(make: MakeEngine) -> None:
    """Who comes after the log was trimmed is told what is missing and given the whole run."""
    engine, gate = make(max_log_records=5), Gate()

    def chat(ctx: RunContext) -> None:
        for n in range(50):
            ctx.write(f"{n} ")
            ctx.emit("tick", {"n": n})

    start(engine, Script(chat, gate, say("end")))
    gate.wait_reached()
    watcher = engine.watch("r", 3)
    gap, snapshot = (record.event("r") for record in watcher.take())
    assert gap.payload == Gap(4, 101)
    assert isinstance(snapshot.payload, Snapshot)
    assert snapshot.payload.run.output == "".join(f"{n} " for n in range(50))
    gate.open()
    rest = [event.payload for event in watcher]
    assert rest[0] == ContentDelta("end")
    assert isinstance(rest[-1], RunCompleted)
    ended_run = engine.get("r")
    late = [event.payload for event in engine.watch("r", 1)]
    assert late[0] == Gap(2, ended_run.last_sequence - 1)
    assert late[1] == Snapshot(ended_run)
    assert isinstance(late[2], RunCompleted)
    assert len(late) == 3


def test_promise_11_a_slow_watcher_gets_fewer_bigger_messages(engine: Engine) -> None:
    """A watcher that does not read slows nobody; what it missed comes merged."""
    gate = Gate()
    start(engine, Script(say(*["x"] * 5000), gate))
    slow = engine.watch("r")
    gate.wait_reached()
    records = slow.take()
    assert [record.count for record in records] == [1, 5000]
    gate.open()
    ended(engine)
    slow.close()


async def test_watching_from_async_code(engine: Engine) -> None:
    """An async watcher gets the same events, and leaves nothing when it is cancelled midway."""
    gate = Gate()
    start(engine, Script(say("a"), gate))

    async def follow() -> list[object]:
        return [event.payload async for event in engine.watch("r")]

    whole, half = asyncio.create_task(follow()), asyncio.create_task(follow())
    await asyncio.to_thread(gate.wait_reached)
    half.cancel()
    with pytest.raises(asyncio.CancelledError):
        await half
    assert engine.remains().watchers <= 1
    gate.open()
    told = await whole
    assert isinstance(told[0], RunStarted)
    assert isinstance(told[-1], RunCompleted)
    assert len(asyncio.all_tasks()) == 1


def test_promise_12_a_watcher_dropped_without_close_keeps_nothing(engine: Engine) -> None:
    """A watcher that was only dropped is collected, and its run ends and is forgotten as usual."""
    gate = start_waiting(engine, DisconnectPolicy.CONTINUE)
    watcher = engine.watch("r")
    watcher.take()
    assert watcher.arm(lambda: None)
    gone = weakref.ref(watcher)
    del watcher
    gc.collect()
    assert gone() is None
    gate.open()
    assert ended(engine).output == "ab"
    freed(engine)


def test_promise_10_a_dropped_iteration_leaves(engine: Engine) -> None:
    """Leaving a loop over events early leaves the run, which then follows its policy."""
    start_waiting(engine, DisconnectPolicy.CANCEL)
    for event in engine.watch("r"):
        assert event.sequence
        break
    gc.collect()
    check_disconnected(ended(engine))


def test_who_waits_for_the_end_is_told_once(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Each callback is called once, one taken back never; one that raises harms no other."""
    gate = start_waiting(engine, DisconnectPolicy.CONTINUE)
    calls: list[str] = []

    def broken() -> None:
        raise ValueError("broken waiter")

    engine.on_end("r", broken)
    engine.on_end("r", lambda: calls.append("first"))
    engine.on_end("r", lambda: calls.append("never"))()
    engine.on_end("r", lambda: calls.append("second"))
    gate.open()
    ended(engine)
    engine.on_end("r", lambda: calls.append("late"))()
    assert calls == ["first", "second", "late"]
    assert "broken waiter" in caplog.text
    cancel(engine)
    assert calls == ["first", "second", "late"]


def test_lag_is_that_of_the_slowest_watcher(engine: Engine) -> None:
    """Events that it has not taken yet; who has left, or keeps up, does not count."""
    gate = Gate()
    engine.start(Script(*[say("a")] * 10, gate), spec(on_disconnect=DisconnectPolicy.CONTINUE))
    gate.wait_reached()
    assert engine.watch_lag() == 0
    slow, quick = engine.watch("r"), engine.watch("r")
    quick.take()
    assert quick.after_sequence == slow.after_sequence + 11
    assert engine.watch_lag() == 11
    slow.close()
    assert engine.watch_lag() == 0
    quick.close()
    gate.open()
    freed(engine)
