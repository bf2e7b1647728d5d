"""Running things in-process, without a server: what programs see."""

import asyncio
import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from contextvars import copy_context
from typing import Any

import pytest
from pullcord.agent import Agent
from pullcord.local import local_engine
from pullcord.models.offline import OfflineModel
from pullcord.native.in_process import Native
from pullcord.run.agent import RunEvent
from pullcord.run.base import RunStatus
from pullcord.run.cancel import CancelCause, CancelMode
from pullcord.run.context import RunContext
from pullcord.run.errors import InvalidArgument, RunCancelledError, RunExists, RunNotFound
from pullcord.run.events import Custom, SourceKind, ToolCallState
from pullcord.run.record import DisconnectPolicy
from pullcord.run.state import RunState
from pullcord.run.usage import Limits, Usage

from tests.steady import steady
from tests.transports.harness import until

QUICK = OfflineModel(words_per_second=math.inf)
ENDLESS = OfflineModel(words_per_second=0.001)
"""One word, and then no other for a quarter of an hour."""


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Every test here leaves no live run behind."""
    yield
    assert local_engine().wait_idle(30)
    until(lambda: local_engine().occupied == 0)


@pytest.fixture
def quick() -> Agent:
    return Agent(name="StorytellerAgent", model=QUICK)


@pytest.fixture
def endless() -> Agent:
    return Agent(name="StorytellerAgent", model=ENDLESS)


class Blocking(Native):
    """A runnable in a thread, made of a function."""

    kind = SourceKind.AGENT
    is_async = False
    id = name = description = "blocking"
    members = ()

    def __init__(self, function: Callable[[RunContext], None]) -> None:
        self.function = function

    def execute(self, ctx: RunContext) -> None:
        self.function(ctx)


def test_a_run_comes_to_a_result(quick: Agent) -> None:
    """`run` returns the status, the whole text, the run's id and what it used."""
    result = quick.run("Write a story")
    assert result.status is RunStatus.completed
    assert "“Write a story”" in result.content
    assert result.metrics.total_tokens > 100
    assert local_engine().get(result.run_id).output == result.content


def test_a_stream_begins_with_its_id_and_ends_with_everything(quick: Agent) -> None:
    """The first chunk is run_started with the run_id, the last one terminal with the whole text."""
    first, *middle, last = list(quick.run("Write a story", stream=True, session_id="s-1"))
    assert first.event == RunEvent.run_started == "RunStarted"
    assert first.status is RunStatus.running
    assert last.event == RunEvent.run_completed
    assert last.status is RunStatus.completed
    said = "".join(c.content for c in middle if c.event == RunEvent.run_content)
    assert said == last.content
    assert {c.run_id for c in (first, *middle, last)} == {first.run_id}
    assert {c.session_id for c in (first, *middle, last)} == {"s-1"}
    assert last.metrics.total_tokens > 100


def test_usage_rises_while_the_run_goes_on(endless: Agent) -> None:
    """Every chunk carries what the run has used so far."""
    for chunk in endless.run("Write a story", stream=True):
        if chunk.event == RunEvent.run_content:
            endless.cancel_run(chunk.run_id)
            break
    assert chunk.metrics.steps == 1
    assert chunk.metrics.input_tokens == len("Write a story") // 4


async def test_the_same_asynchronously(quick: Agent) -> None:
    """`await arun(…)` and `async for … in arun(…, stream=True)` tell the same as `run`."""
    result = await quick.arun("Write a story")
    chunks = [chunk async for chunk in quick.arun("Write a story", stream=True)]
    assert result.status is chunks[-1].status is RunStatus.completed
    assert result.content == chunks[-1].content
    assert chunks[0].event == RunEvent.run_started
    assert result.metrics == chunks[-1].metrics
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_a_run_is_cancelled_from_another_thread(endless: Agent) -> None:
    """`cancel_run` works from any thread, and says whether the run was live."""
    answers = []
    cancel = threading.Thread(
        target=lambda: answers.append(endless.cancel_run("n-thread", "enough", actor="me"))
    )
    for chunk in endless.run("a", stream=True, run_id="n-thread"):
        if chunk.event == RunEvent.run_content:
            cancel.start()
    cancel.join()
    assert chunk.event == RunEvent.run_cancelled
    assert chunk.status is RunStatus.cancelled
    assert (chunk.reason, chunk.cause) == ("enough", CancelCause.USER)
    assert chunk.content == "You"
    assert chunk.metrics.output_tokens == 1
    answers.append(endless.cancel_run("n-thread"))
    assert answers == [True, False]


def test_a_blocking_run_is_cancelled_too() -> None:
    """A run in a thread sees the cancel by its token, and keeps its usage."""
    working = threading.Event()

    def work(ctx: RunContext) -> None:
        ctx.use(Usage(output_tokens=3))
        ctx.emit("progress", {"done": 1})
        working.set()
        ctx.cancel_token.wait()
        ctx.write("never")

    runnable = Blocking(work)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: list(runnable.run("x", stream=True, run_id="n-block")))
        assert working.wait(30)
        assert runnable.cancel_run("n-block", mode=CancelMode.IMMEDIATE)
        chunks = running.result()
    names = ["RunStarted", "CustomEvent", "RunCancelRequested", "RunCancelled"]
    assert [chunk.event for chunk in chunks] == names
    assert chunks[1].content == Custom("progress", {"done": 1})
    assert (chunks[-1].content, chunks[-1].metrics.output_tokens) == ("", 3)


async def test_a_cancel_may_come_before_its_run(quick: Agent) -> None:
    """A cancel that overtakes its run is kept: the run ends cancelled without doing anything."""
    assert await quick.acancel_run("n-before", "not needed") is False
    result = await quick.arun("Write a story", run_id="n-before")
    assert (result.status, result.reason) == (RunStatus.cancelled, "not needed")
    assert (result.content, result.metrics) == ("", Usage())


def test_code_that_a_run_left_behind_starts_nothing() -> None:
    """A thread that a run left behind gets RunCancelledError from `run`, not a run of its own."""
    go, met = threading.Event(), []

    def leave(_: RunContext) -> None:
        def stray() -> None:
            assert go.wait(30)
            try:
                Blocking(lambda _: None).run(run_id="stray")
            except RunCancelledError as error:
                met.append(str(error))

        strays.append(threading.Thread(target=copy_context().run, args=(stray,)))
        strays[0].start()

    strays: list[threading.Thread] = []
    assert Blocking(leave).run().status is RunStatus.completed
    go.set()
    strays[0].join(30)
    assert len(met) == 1
    with pytest.raises(RunNotFound):
        local_engine().get("stray")


def test_a_run_that_fails_keeps_its_structured_result() -> None:
    """What a run had set as its data is in the last chunk and in the result, also if it fails."""

    def half(ctx: RunContext) -> None:
        ctx.set_output(data={"a": 1})
        raise ValueError("no milk")

    *_, last = Blocking(half).run(stream=True)
    assert (last.status, last.output_data) == (RunStatus.error, {"a": 1})
    assert Blocking(half).run().output_data == {"a": 1}


def test_a_run_that_fails_says_so() -> None:
    """A run that raises ends with status error and the error's words, and keeps its text."""

    def fail(ctx: RunContext) -> None:
        ctx.write("so far")
        raise ValueError("no milk")

    *_, last = Blocking(fail).run("x", stream=True)
    assert last.event == RunEvent.run_error
    assert (last.status, last.content) == (RunStatus.error, "no milk")
    result = Blocking(fail).run("x")
    assert (result.status, result.content) == (RunStatus.error, "so far")
    assert result.error == "no milk"


@steady
def test_a_limit_says_which(endless: Agent) -> None:
    """A run that reaches a limit is cancelled with cause BUDGET and keeps its text."""
    result = endless.run("x", limits=Limits(timeout=0.3))
    assert (result.status, result.cause) == (RunStatus.cancelled, CancelCause.BUDGET)
    assert "timeout" in result.reason
    assert result.content == "You"


# --- leaving early


def is_kept_as_disconnected(run_id: str) -> bool:
    assert local_engine().wait_idle(30)
    run = local_engine().get(run_id)
    assert run.cancellation is not None
    assert run.cancellation.cause is CancelCause.DISCONNECT
    return run.state is RunState.CANCELLED and run.output == "You"


def test_closing_the_stream_cancels_the_run(endless: Agent) -> None:
    """Who closes the generator cancels the run, cause DISCONNECT; what it made is kept."""
    with closing(endless.run("x", stream=True)) as chunks:
        for chunk in chunks:
            if chunk.event == RunEvent.run_content:
                break
    assert is_kept_as_disconnected(chunk.run_id)


async def test_closing_the_async_stream_cancels_the_run(endless: Agent) -> None:
    """Closing the async generator returns when the run has stopped, with nothing left behind."""
    async with aclosing(endless.arun("x", stream=True)) as chunks:
        async for chunk in chunks:
            if chunk.event == RunEvent.run_content:
                break
    assert local_engine().get(chunk.run_id).state is RunState.CANCELLED
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert is_kept_as_disconnected(chunk.run_id)


def test_a_stream_may_leave_its_run_alone() -> None:
    """With on_disconnect CONTINUE a run goes on after its stream is closed."""
    gate = threading.Event()

    def work(ctx: RunContext) -> None:
        gate.wait(30)
        ctx.write("done")

    options: Any = {"run_id": "n-alone", "on_disconnect": DisconnectPolicy.CONTINUE}
    with closing(Blocking(work).run("x", stream=True, **options)) as chunks:
        next(chunks)
    gate.set()
    assert Blocking(work).run("x", **options).content == "done"


async def timed_out(agent: Agent, run_id: str, stream: bool) -> None:
    async with asyncio.timeout(0.3):
        if stream:
            async for _ in agent.arun("x", stream=True, run_id=run_id):
                pass
        else:
            await agent.arun("x", run_id=run_id)


@pytest.mark.parametrize("stream", [False, True])
@steady
async def test_a_timeout_around_it_leaves_nothing_behind(endless: Agent, stream: bool) -> None:
    """asyncio.timeout around arun cancels the run, and returns once that has stopped."""
    run_id = f"n-timeout-{uuid.uuid4()}"
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        await timed_out(endless, run_id, stream)
    assert time.monotonic() - began < 2
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert is_kept_as_disconnected(run_id)


# --- many, and wrong ones


async def test_many_at_once(quick: Agent) -> None:
    """One agent serves many runs at a time, and cancelling one leaves the others alone."""
    slow = Agent(name="slow", model=ENDLESS)
    victim = asyncio.create_task(slow.arun("x", run_id="n-victim"))
    others = asyncio.gather(*(quick.arun(f"story {n}") for n in range(20)))
    results = await others
    assert slow.cancel_run("n-victim")
    assert (await victim).status is RunStatus.cancelled
    assert {r.status for r in results} == {RunStatus.completed}
    assert len({r.run_id for r in results}) == 20
    assert all(f"“story {n}”" in r.content for n, r in enumerate(results))


def test_many_threads_at_once(quick: Agent) -> None:
    """Blocking runs from many threads run side by side."""
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(quick.run, [f"story {n}" for n in range(16)]))
    assert all(f"“story {n}”" in r.content for n, r in enumerate(results))


def test_what_is_wrong_is_refused(quick: Agent) -> None:
    """A run that cannot be is refused by an exception, and one under a taken id too."""
    with pytest.raises(InvalidArgument, match="run_id"):
        quick.run("x", run_id="no spaces")
    quick.run("x", run_id="n-taken")
    with pytest.raises(RunExists):
        quick.run("y", run_id="n-taken")


def test_the_same_run_again_is_the_same_run(quick: Agent) -> None:
    """Under the same id, the same call again starts nothing and tells the same."""
    first = quick.run("x", run_id="n-same")
    assert quick.run("x", run_id="n-same") == first


def test_async_code_of_a_run_must_not_block_for_another(quick: Agent) -> None:
    """The blocking `run` is refused in another run's async code, where it could wait for itself."""

    class Outer(Native):
        kind = SourceKind.AGENT
        is_async = True
        id = name = description = "outer"
        members = ()

        async def execute(self, ctx: RunContext) -> None:
            quick.run("x")

    result = Outer().run("x")
    assert result.status is RunStatus.error
    assert "await arun()" in result.error


async def test_async_code_of_a_run_may_await_another(quick: Agent) -> None:
    """Awaiting `arun` of something else in a run's async code works, on whatever loop."""

    class Outer(Native):
        kind = SourceKind.AGENT
        is_async = True
        id = name = description = "outer"
        members = ()

        async def execute(self, ctx: RunContext) -> None:
            ctx.write((await quick.arun("x")).content)

    for result in (await Outer().arun("x"), await asyncio.to_thread(Outer().run, "x")):
        assert "as far as he was" in result.content


def test_interrupting_a_blocking_run_stops_the_run_that_it_waits_for(endless: Agent) -> None:
    """An immediate cancel of a run that waits in `run` for another one stops both."""
    following = threading.Event()

    def work(ctx: RunContext) -> None:
        for chunk in endless.run("x", stream=True, run_id="n-inner"):
            if chunk.event == RunEvent.run_content:
                following.set()

    outer = Blocking(work)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(outer.run, "x", run_id="n-outer")
        assert following.wait(30)
        assert outer.cancel_run("n-outer", mode=CancelMode.IMMEDIATE)
        assert running.result().status is RunStatus.cancelled
    assert not local_engine().get("n-outer").abandoned
    inner = local_engine().get("n-inner")
    assert inner.cancellation is not None
    assert (inner.cancellation.cause, inner.output) == (CancelCause.PARENT, "You")


# --- runs in the code of runs


def test_a_run_in_a_runs_code_runs_beneath_it(quick: Agent) -> None:
    """What a run's code runs is beneath that run: listed so, counted there, and heard only here."""
    chunks = []

    def work(ctx: RunContext) -> None:
        chunks.extend(quick.run("x", stream=True, run_id="n-beneath"))

    outer = list(Blocking(work).run("x", stream=True, run_id="n-above"))
    assert [chunk.event for chunk in outer] == [RunEvent.run_started, RunEvent.run_completed]
    inner = local_engine().get("n-beneath")
    assert (inner.parent_run_id, inner.output) == ("n-above", chunks[-1].content)
    usage = local_engine().get("n-above").usage
    assert usage.total_tokens == inner.usage.total_tokens > 0
    assert (inner.usage.steps, usage.steps) == (1, 0)


def test_a_tool_in_flight_is_told_of_the_run_that_was_stopped_beneath_it(endless: Agent) -> None:
    """A graceful cancel stops the run that a tool waits for at once; the tool itself may finish."""
    following, results = threading.Event(), []

    def work(ctx: RunContext) -> None:
        with ctx.tool_call("t", "ask"):
            for chunk in endless.run("x", stream=True):
                if chunk.event == RunEvent.run_content:
                    following.set()
            results.append(chunk)
            results.append(endless.run("x"))

    outer = Blocking(work)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(outer.run, "x", run_id="n-graceful")
        assert following.wait(30)
        outer.cancel_run("n-graceful", "enough")
        result = running.result()
    assert [call.state for call in result.tools] == [ToolCallState.COMPLETED]
    stopped, never_began = results
    assert (stopped.status, stopped.cause, stopped.content) == (
        RunStatus.cancelled, CancelCause.PARENT, "You"
    )  # fmt: skip
    assert (never_began.status, never_began.cause) == (RunStatus.cancelled, CancelCause.PARENT)
    assert (never_began.content, never_began.reason) == ("", "enough")


async def test_a_run_left_behind_by_the_run_above_it_is_stopped(endless: Agent) -> None:
    """A run that a run's code began and did not wait for ends with it, cause PARENT."""
    left = []

    class Careless(Native):
        kind = SourceKind.AGENT
        is_async = True
        id = name = description = "careless"
        members = ()

        async def execute(self, ctx: RunContext) -> None:
            begun = asyncio.Event()

            async def follow() -> str:
                reasons = []
                async for chunk in endless.arun("x", stream=True):
                    reasons.append(chunk.reason)
                    begun.set()
                return reasons[-1]

            left.append(asyncio.create_task(follow()))
            await begun.wait()

    assert (await Careless().arun("x")).status is RunStatus.completed
    assert await left[0] == "its parent run has ended"
