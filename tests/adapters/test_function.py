"""Plain functions as runnables: what they take, what they may say, and how they are stopped."""

import asyncio
import functools
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pullcord import RunContext, runnable
from pullcord.adapters.function import FunctionRunnable
from pullcord.engine.engine import Engine
from pullcord.engine.ports import CancelRequest
from pullcord.run.cancel import Cancellation
from pullcord.run.events import Custom, RunCompleted, StepStarted
from pullcord.run.record import Run, RunSpec
from pullcord.run.runnable import full_name
from pullcord.run.state import RunState
from pullcord.testing import make_engine, nothing_left


@pytest.fixture
def engine() -> Iterator[Engine]:
    with nothing_left():
        engine = make_engine()
        yield engine
        assert engine.wait_idle(10)
        engine.close()


def run(engine: Engine, function: Any, **fields: Any) -> Run:
    made = function if isinstance(function, FunctionRunnable) else runnable(function)
    run_id = engine.start(made, RunSpec(full_name(made), **fields)).run_id
    return ended(engine, run_id)


def ended(engine: Engine, run_id: str) -> Run:
    over = threading.Event()
    engine.on_end(run_id, over.set)
    assert over.wait(30)
    return engine.get(run_id)


def returns(input: str) -> str:
    return f"<{input}>"


def yields(input: str) -> Iterator[str]:
    yield "<"
    yield input
    yield ">"


async def returns_async(input: str) -> str:
    return f"<{input}>"


async def yields_async(input: str) -> AsyncIterator[str]:
    yield "<"
    yield input
    await asyncio.sleep(0)
    yield ">"


def writes(input: str, ctx: RunContext) -> None:
    ctx.write(f"<{input}>")


@pytest.mark.parametrize("function", [returns, yields, returns_async, yields_async, writes])
def test_every_kind_of_function(engine: Engine, function: Callable[..., Any]) -> None:
    """Sync or async, returning, yielding or writing: the strings are the run's output."""
    done = run(engine, function, input="x")
    assert (done.state, done.output) == (RunState.COMPLETED, "<x>")


def named_otherwise(question: str) -> str:
    return question


def context_first(ctx: RunContext, question: str) -> str:
    return question + ctx.run_id[:0]


def context_by_annotation(question: str, c: RunContext, times: int = 1) -> str:
    return c.input * times


def context_by_name_of_annotation(question: str, c: "RunContext") -> str:
    return c.input


def everything(input_data: Any, ctx: RunContext, input: str, *args: Any, **more: Any) -> str:
    assert (args, more) == ((), {})
    return input if input_data == {"a": 1} else "?"


def nothing() -> str:
    return "q"


@pytest.mark.parametrize(
    "function",
    [
        named_otherwise,
        context_first,
        context_by_annotation,
        context_by_name_of_annotation,
        everything,
        nothing,
    ],
)
def test_a_function_gets_what_it_names(engine: Engine, function: Callable[..., Any]) -> None:
    """`input`, `ctx` and `input_data` by name, the context by annotation, the input by default."""
    assert run(engine, function, input="q", input_data={"a": 1}).output == "q"


def test_a_parameter_that_no_run_can_give() -> None:
    """A function that needs more is refused when it is decorated, not when it is run."""
    with pytest.raises(TypeError, match="'temperature'"):

        @runnable
        def wants(input: str, temperature: float) -> str:
            return input


def test_names_and_descriptions() -> None:
    """The id is made of the name, the description is the docstring, unless given."""

    @runnable
    def count_up(input: str) -> str:
        """Counts."""
        return input

    @runnable(id="other", description="Says it.")
    async def more(input: str) -> str:
        """Not this."""
        return input

    assert (count_up.id, count_up.name, count_up.description) == ("count-up", "count_up", "Counts.")
    assert (more.id, more.description, more.is_async) == ("other", "Says it.", True)
    assert count_up("still a function") == "still a function"
    assert runnable(functools.partial(returns_async)).is_async


def raises() -> str:
    raise ValueError("mine")


def yields_and_raises() -> Iterator[str]:
    yield "so far"
    raise ValueError("mine")


async def yields_async_and_raises() -> AsyncIterator[str]:
    yield "so far"
    raise ValueError("mine")


@pytest.mark.parametrize("function", [raises, yields_and_raises, yields_async_and_raises])
def test_an_error_fails_the_run(engine: Engine, function: Callable[..., Any]) -> None:
    """What a function raises fails its run, by class and words, without a traceback."""
    done = run(engine, function)
    assert done.state is RunState.FAILED
    assert done.output == ("" if function is raises else "so far")
    assert done.error is not None
    assert (done.error.type, done.error.message) == ("ValueError", "mine")


def test_a_mapping_is_the_output_data(engine: Engine) -> None:
    """A mapping that is returned is the run's output_data; what was written stays its output."""

    def both(ctx: RunContext) -> dict[str, int]:
        ctx.write("text")
        return {"a": 1}

    done = run(engine, both)
    assert (done.output, done.output_data) == ("text", {"a": 1})


def test_events_can_be_yielded(engine: Engine) -> None:
    """A yielded event is an event of the run, in its place; None is nothing."""

    def speaks() -> Iterator[Any]:
        yield "a"
        yield StepStarted("1", "first")
        yield None
        yield Custom("mine", {"n": 1})
        yield "b"

    done = run(engine, speaks)
    payloads = [event.payload for event in engine.watch(done.run_id)]
    assert [type(p).__name__ for p in payloads[1:]] == [
        "ContentDelta",
        "StepStarted",
        "Custom",
        "ContentDelta",
        "RunCompleted",
    ]


@pytest.mark.parametrize("wrong", [7, b"bytes", object(), [1], RunCompleted("forged")])
def test_a_wrong_yield_fails_the_run(engine: Engine, wrong: Any) -> None:
    """What is neither text nor an event of an author's fails the run, and says what would do."""

    def speaks() -> Iterator[Any]:
        yield "a"
        yield wrong

    async def speaks_async() -> AsyncIterator[Any]:
        yield "a"
        yield wrong

    for function in (speaks, speaks_async):
        done = run(engine, function)
        assert (done.state, done.output) == (RunState.FAILED, "a")
        assert done.error is not None
        assert done.error.type == "TypeError"
        assert type(wrong).__name__ in done.error.message


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_promise_12_a_generator_is_closed_on_cancel(engine: Engine, is_async: bool) -> None:
    """When a run is cancelled, its generator's `finally` has run before the run ends."""
    said, closed = threading.Event(), []

    def endless() -> Iterator[str]:
        try:
            while True:
                yield "x"
                said.set()
        finally:
            closed.append(True)

    async def endless_async() -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
                said.set()
                await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    made = runnable(endless_async if is_async else endless)
    run_id = engine.start(made, RunSpec(full_name(made))).run_id
    assert said.wait(30)
    engine.cancel(run_id, CancelRequest(Cancellation()))
    done = ended(engine, run_id)
    assert (done.state, closed) == (RunState.CANCELLED, [True])
    assert set(done.output) == {"x"}


async def test_a_task_that_is_cancelled_before_its_first_step_calls_nothing() -> None:
    """No coroutine of the author's is made, which would then never be awaited."""
    called = []

    async def work(input: str) -> None:
        called.append(input)

    ctx: Any = SimpleNamespace(input="x", input_data=None, parts=(), messages=(), write=None)
    task = asyncio.ensure_future(runnable(work).execute(ctx))
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert called == []
    gc.collect()  # a coroutine that was never awaited would warn here, and fail this test
