"""The verbs as any transport calls them: values in, values out, on an engine in this process."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from pullcord import RunContext, runnable
from pullcord.engine.catalog import Catalog
from pullcord.engine.clock import Clock, ThreadClock
from pullcord.engine.engine import Engine
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import SilentObserver
from pullcord.executors.local import LocalExecutor
from pullcord.run.caller import Caller
from pullcord.run.cancel import CancelCause, CancelOutcome
from pullcord.run.errors import InvalidArgument, RunnableNotFound, RunNotFound
from pullcord.run.record import Decision, RunFilter, RunSpec
from pullcord.run.requests import (
    CancelManyRequest,
    CancelRequest,
    ContinueRequest,
    GetRequest,
    ListRequest,
    WaitRequest,
    WatchRequest,
)
from pullcord.run.state import RunState
from pullcord.service.following import Following
from pullcord.service.lanes import Lanes
from pullcord.service.notifier import Notifier
from pullcord.service.readers import Readers
from pullcord.service.verbs import Verbs
from pullcord.stores.memory import MemoryStore
from pullcord.testing import HookedStore

from tests.transports.harness import Signal

ANN = Caller("ann", peer="ipv4:127.0.0.1:1")


@runnable
async def echo(input: str) -> str:
    return input


@runnable
async def waits(ctx: RunContext) -> None:
    ctx.write("said")
    await Signal().come()


@runnable
async def tells(ctx: RunContext) -> dict[str, float | None]:
    return {"remaining": ctx.cancel_token.time_remaining()}


class Parts:
    """An engine with a store that may block, and the verbs on this loop."""

    def __init__(self, blocking: bool) -> None:
        options, clock = EngineOptions(), ThreadClock()
        self.store = self._store(clock, options, blocking)
        self.engine = Engine(
            options=options,
            clock=clock,
            store=self.store,
            observer=SilentObserver(),
            executor=LocalExecutor(options, clock, lambda *_: None),
        )
        loop = asyncio.get_running_loop()
        self.lanes = Lanes(loop, 100)
        catalog = Catalog([echo, waits, tells])
        notifier, readers = Notifier(loop, 60), Readers(loop, 2**20)
        self.verbs = Verbs(self.engine, catalog, self.lanes, notifier, readers)

    def _store(self, clock: Clock, options: EngineOptions, blocking: bool) -> HookedStore:
        return HookedStore(MemoryStore(clock, options), blocking=blocking)

    def close(self) -> None:
        self.lanes.close()
        self.engine.close()


@pytest.fixture(params=[False, True], ids=["memory", "blocking"])
async def parts(request: pytest.FixtureRequest) -> AsyncIterator[Parts]:
    parts = Parts(request.param)
    yield parts
    await asyncio.to_thread(parts.close)


async def kinds(following: Following) -> list[str]:
    """What comes until the end, by class."""
    found = []
    while (record := await following.ready()) is not None:
        following.take()
        found.append(type(record.event(following.run_id).payload).__name__)
    following.close()
    return found


async def test_a_run_is_followed_to_its_end(parts: Parts) -> None:
    """`run` starts and follows; `watch` replays the same once it has ended."""
    verbs = parts.verbs
    following = await verbs.run(ANN, RunSpec("agents/echo", "hi", run_id="r"))
    assert await kinds(following) == ["RunStarted", "ContentDelta", "RunCompleted"]
    assert (await verbs.wait(ANN, WaitRequest("r"))).output == "hi"
    again = await verbs.watch(ANN, WatchRequest("r", 1))
    assert await kinds(again) == ["ContentDelta", "RunCompleted"]


async def test_a_caller_that_stops_following_has_left(parts: Parts) -> None:
    """A run whose only follower closes is stopped, cause DISCONNECT; `begun` was called."""
    begun: list[None] = []
    following = await parts.verbs.run(
        ANN, RunSpec("agents/waits", run_id="r"), lambda: begun.append(None)
    )
    while (record := await following.ready()) is not None and record.text != "said":
        following.take()
    following.close()
    run = await parts.verbs.wait(ANN, WaitRequest("r"))
    assert run.cancellation is not None
    assert run.cancellation.cause is CancelCause.DISCONNECT
    assert begun


async def test_a_cancel_names_its_caller(parts: Parts) -> None:
    """The actor is what the caller said, else its address; `wait` waits for the stop."""
    for caller, name in ((ANN, "ann"), (Caller(peer="ipv4:127.0.0.1:1"), "ipv4:127.0.0.1:1")):
        run = await parts.verbs.start(caller, RunSpec("agents/waits"))
        request = CancelRequest(run.run_id, wait=30.0)
        receipt = await parts.verbs.cancel(caller, request)
        assert receipt.outcome is CancelOutcome.STOPPED
        assert receipt.run is not None
        assert receipt.run.cancellation is not None
        assert receipt.run.cancellation.actor == name


async def test_a_caller_s_deadline_is_its_run_s(parts: Parts) -> None:
    """A run that is followed ends before its caller's deadline; one in the background does not."""
    followed = await parts.verbs.run(
        Caller(deadline=time.monotonic() + 100), RunSpec("agents/tells", run_id="followed")
    )
    await kinds(followed)
    background = await parts.verbs.start(
        Caller(deadline=time.monotonic() + 100), RunSpec("agents/tells")
    )
    for run_id, limited in (("followed", True), (background.run_id, False)):
        data = (await parts.verbs.wait(ANN, WaitRequest(run_id))).output_data
        assert data is not None
        assert (data["remaining"] is not None) == limited


async def test_a_caller_s_deadline_passes_while_it_waits(parts: Parts) -> None:
    """It is a moment and no length of time: whoever asks later finds less of it left."""
    caller = Caller(deadline=time.monotonic() + 100)
    first = caller.time_left
    await asyncio.sleep(0.001)
    assert first is not None
    assert caller.time_left is not None
    assert caller.time_left < first
    assert Caller(deadline=time.monotonic() - 1).time_left == 0
    assert Caller().time_left is None


async def test_a_wait_ends_before_its_caller_leaves(parts: Parts) -> None:
    """A wait answers with the run as it is when the caller's deadline is near."""
    run = await parts.verbs.start(ANN, RunSpec("agents/waits"))
    seen = await parts.verbs.wait(Caller(deadline=time.monotonic() + 0.06), WaitRequest(run.run_id))
    assert not seen.state.is_terminal
    assert parts.engine.remains().waiting == 0


async def test_many_are_listed_and_stopped(parts: Parts) -> None:
    """`list` and `cancel_many` find the same runs."""
    for number in range(3):
        spec = RunSpec("agents/waits", run_id=f"r{number}", labels={"batch": "1"})
        await parts.verbs.start(ANN, spec)
    matching = RunFilter(labels={"batch": "1"})
    page = await parts.verbs.list(ANN, ListRequest(matching))
    assert [run.run_id for run in page.runs] == ["r2", "r1", "r0"]
    results = await parts.verbs.cancel_many(ANN, CancelManyRequest(matching))
    assert [result.run_id for result in results] == ["r2", "r1", "r0"]
    for result in results:
        run = await parts.verbs.wait(ANN, WaitRequest(result.run_id))
        assert run.state is RunState.CANCELLED


async def test_what_is_unknown_is_refused(parts: Parts) -> None:
    """Unknown runs and runnables are typed errors; what is on offer is listed by name."""
    with pytest.raises(RunnableNotFound):
        await parts.verbs.start(ANN, RunSpec("agents/nobody"))
    with pytest.raises(RunNotFound):
        await parts.verbs.get(ANN, GetRequest("nobody"))
    with pytest.raises(RunNotFound):
        await parts.verbs.cancel(ANN, CancelRequest("nobody"))
    names = [info.name for info in await parts.verbs.runnables(ANN)]
    assert names == ["agents/echo", "agents/tells", "agents/waits"]


@pytest.mark.parametrize("parts", [True], indirect=True)
async def test_torn_text_is_refused_by_name(parts: Parts) -> None:
    """Of any caller, before the store or another message sees it; the run can still be stopped."""
    verbs = parts.verbs
    run = await verbs.start(ANN, RunSpec("agents/waits"))
    for asked, field in (
        (verbs.cancel(ANN, CancelRequest(run.run_id, reason="\ud83d")), "reason"),
        (verbs.cancel(ANN, CancelRequest("\ud83d", before_start=True)), "run_id"),
        (verbs.get(ANN, GetRequest("\ud83d")), "run_id"),
        (verbs.list(ANN, ListRequest(RunFilter(labels={"a": "\ud83d"}))), "filter.labels.a"),
        (verbs.start(ANN, RunSpec("agents/\ud83d")), "spec.runnable"),
        (verbs.start(ANN, RunSpec("agents/echo", "\ud83d")), "spec.input"),
        (
            verbs.continue_run(ANN, ContinueRequest(run.run_id, (Decision("k", note="\ud83d"),))),
            "decisions[0].note",
        ),
    ):
        with pytest.raises(InvalidArgument) as raised:
            await asked  # type: ignore[misc]  # they are of several types
        assert raised.value.violations[0].field == field
    receipt = await verbs.cancel(ANN, CancelRequest(run.run_id, wait=10.0))
    assert receipt.outcome is CancelOutcome.STOPPED


async def test_promise_05_lists_that_hang_keep_no_cancel_waiting(parts: Parts) -> None:
    """While the store hangs under every list, a cancel before its run still gets there."""
    gate = Signal()
    parts.store.before = lambda verb: gate.wait() if verb == "page" else None
    lists = [asyncio.create_task(parts.verbs.list(ANN, ListRequest())) for _ in range(20)]
    await asyncio.sleep(0)
    receipt = await parts.verbs.cancel(ANN, CancelRequest("early", before_start=True))
    assert receipt.outcome is CancelOutcome.RECORDED
    gate.set()
    await asyncio.gather(*lists)
