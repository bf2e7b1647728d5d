"""Finding runs: who has found one holds it, whatever is forgotten meanwhile. Promises 2 and 7."""

import asyncio
import threading

import pytest
from pullcord.engine.engine import Engine
from pullcord.engine.ports import RunStore
from pullcord.run.cancel import CancelOutcome
from pullcord.run.context import RunContext
from pullcord.run.errors import InvalidArgument, RunNotFound
from pullcord.run.events import RunCompleted
from pullcord.run.record import RunSpec
from pullcord.run.state import RunState
from pullcord.testing import Gate, HookedStore, Script, say, use

from tests.engine.conftest import MakeEngine
from tests.engine.driving import cancel, ended, live_run, spec, start


@pytest.fixture
def small(make: MakeEngine) -> Engine:
    """An engine that forgets an ended run as soon as another one ends."""
    return make(max_finished_runs=1)


def evict(engine: Engine, run_id: str = "r") -> None:
    start(engine, Script(), f"after-{run_id}")
    ended(engine, f"after-{run_id}")
    with pytest.raises(RunNotFound):
        engine.get(run_id)


def test_promise_07_who_waits_for_a_run_gets_its_end(small: Engine) -> None:
    """A waiter reads the ended run and the receipt, though the run was forgotten by then."""
    gate, over = Gate(), threading.Event()
    start(small, Script(say("a"), gate))
    gate.wait_reached()
    found = small.find("r")
    found.on_end(over.set)
    cancel(small)
    assert over.wait(30)
    evict(small)
    assert (found.snapshot().state, found.snapshot().output) == (RunState.CANCELLED, "a")
    assert found.receipt().outcome is CancelOutcome.STOPPED


def test_a_slow_reader_reads_to_the_end(small: Engine) -> None:
    """A watcher reads all events and the usage of a run that was forgotten meanwhile."""
    gate = Gate()
    watcher = small.follow(Script(gate, say("a"), use(output_tokens=5)), spec())
    gate.open()
    ended(small)
    evict(small)
    assert isinstance(list(watcher)[-1].payload, RunCompleted)
    assert watcher.usage().output_tokens == 5


async def test_a_slow_async_reader_reads_to_the_end(small: Engine) -> None:
    """The same, awaiting."""
    watcher = small.follow(Script(say("a"), use(output_tokens=5)), spec())
    await asyncio.to_thread(ended, small)
    await asyncio.to_thread(evict, small)
    assert isinstance([e async for e in watcher][-1].payload, RunCompleted)
    assert watcher.usage().output_tokens == 5


def test_a_follower_needs_no_second_look(make: MakeEngine) -> None:
    """A run that is started to be followed is followed, however soon it is forgotten."""
    engine = make(max_finished_runs=1)
    for n in range(100):
        watchers = [engine.follow(Script(say("a")), RunSpec("agents/script")) for _ in range(3)]
        for watcher in watchers:
            assert isinstance(list(watcher)[-1].payload, RunCompleted), n


def test_an_ended_run_that_was_found_answers(small: Engine) -> None:
    """A handle of an ended run answers once it is forgotten; only its events are gone."""
    start(small, Script(say("a")))
    ended(small)
    found = small.find("r")
    assert small.find_here("r") is None
    evict(small)
    called = threading.Event()
    found.on_end(called.set)()
    assert called.is_set()
    assert found.snapshot().output == "a"
    assert found.receipt().outcome is CancelOutcome.ALREADY_FINISHED
    with pytest.raises(RunNotFound):
        found.watch()


def test_what_is_here_is_found_without_the_store(make: MakeEngine) -> None:
    """A live run is found, watched, waited for and cancelled without asking its store."""
    asked: list[str] = []

    def watched(store: RunStore) -> RunStore:
        hooked = HookedStore(store)
        hooked.before = asked.append
        return hooked

    engine, gate = make(store=watched), Gate()
    start(engine, Script(gate))
    gate.wait_reached()
    assert asked == ["admit"]
    engine.get("r"), engine.usage("r"), engine.receipt("r")
    engine.on_end("r", lambda: None)()
    engine.watch("r").close()
    with pytest.raises(InvalidArgument):
        engine.watch("r", 99)
    assert engine.find_here("r") is not None
    assert engine.find_here("other") is None
    live = live_run(engine)
    cancel(engine)
    assert asked[1:] in ([], ["finish"])
    while not live.state.is_terminal:
        live.log.seal()
    ended(engine)


async def test_a_child_with_a_new_id_does_not_ask_the_store(make: MakeEngine) -> None:
    """Code on a loop starts children, by `ctx.start` or beside it, without waiting for a store."""
    asked: list[str] = []

    def watched(store: RunStore) -> RunStore:
        hooked = HookedStore(store)
        hooked.before = asked.append
        return hooked

    engine, gate, child = make(store=watched), Gate(), Script(id="child", is_async=True)

    async def delegate(ctx: RunContext) -> None:
        await ctx.start(child).wait()
        beside = RunSpec("agents/child")
        watcher = engine.follow(child, beside, parent_run_id="r")
        assert [e async for e in watcher][-1].is_terminal
        asked.append("over")
        made = gate(ctx)
        assert made is not None
        await made

    start(engine, Script(delegate, is_async=True))
    await asyncio.to_thread(gate.wait_reached)
    gate.open()
    await asyncio.to_thread(ended, engine)
    assert child.runs == 2
    assert set(asked[1 : asked.index("over")]) == {"finish"}
    assert engine.remains().claims == 0
