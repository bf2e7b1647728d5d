"""The context: what a run's code says goes to its sink, and nothing goes once it is to stop."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from pullcord.run.cancel import Cancellation, CancelMode, CancelToken
from pullcord.run.context import RunContext
from pullcord.run.disclosure import Disclosure, Errors
from pullcord.run.errors import RunCancelledError
from pullcord.run.events import (
    ContentDelta,
    Custom,
    Payload,
    Progress,
    ReasoningDelta,
    Source,
    ToolCall,
    ToolCallState,
)
from pullcord.run.record import Run
from pullcord.run.usage import Usage


class Told:
    """A Sink that remembers what it is told, in order."""

    def __init__(self, token: CancelToken) -> None:
        self.token = token
        self.told: list[Any] = []
        self.used = Usage()
        self.depth = 0
        self.errors = Errors("r", Disclosure.FULL)

    def write(self, text: str) -> None:
        self.told.append(text)

    def write_as(self, text: str, source: Source | None, reasoning: bool) -> None:
        self.told.append((text, source, reasoning))

    def emit(self, payload: Payload, source: Source | None) -> None:
        self.told.append(payload)

    def set_output(self, output: str | None, output_data: Mapping[str, Any] | None) -> None:
        self.told.append((output, output_data))

    def use(self, usage: Usage) -> None:
        self.used += usage

    def usage(self) -> Usage:
        return self.used

    def tool_started(self, call: ToolCall) -> ToolCall:
        self.token.raise_if_cancelled()
        self.told.append(("started", call.tool_call_id, self.depth))
        return call

    def tool_ended(self, call: ToolCall) -> None:
        self.told.append((call.state, call.result))

    def critical(self) -> AbstractContextManager[None]:
        return self._critical()

    @contextmanager
    def _critical(self) -> Iterator[None]:
        self.check()
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def check(self) -> None:
        if not (self.depth and self.token.mode is CancelMode.GRACEFUL):
            self.token.raise_if_cancelled()

    async def in_thread(self, function: Any) -> Any:
        return function()

    def history(self) -> list[Run]:
        return []


@pytest.fixture
def token() -> CancelToken:
    return CancelToken()


@pytest.fixture
def sink(token: CancelToken) -> Told:
    return Told(token)


@pytest.fixture
def ctx(token: CancelToken, sink: Told) -> RunContext:
    return RunContext(
        run_id="r",
        runnable="agents/a",
        input="i",
        input_data=None,
        session_id="",
        user_id="",
        labels={},
        cancel_token=token,
        sink=sink,
    )


def test_each_way_to_say_something(ctx: RunContext, sink: Told) -> None:
    """Text, reasoning, events of one's own, and deltas as values each arrive as what they are."""
    ctx.write("a")
    ctx.think("b")
    ctx.emit("mine", {"n": 1})
    ctx.emit(ContentDelta("c"))
    ctx.emit(ReasoningDelta("d"))
    ctx.progress(1, 2, "half")
    ctx.progress(3)
    ctx.set_output("e", {"f": 1})
    assert sink.told == [
        "a",
        ("b", None, True),
        Custom("mine", {"n": 1}),
        "c",
        ("d", None, True),
        Progress(1, 2, "half"),
        Progress(3),
        ("e", {"f": 1}),
    ]


@pytest.mark.parametrize("wrong", [None, 7, b"bytes", ["x"]])
def test_only_text_is_written(ctx: RunContext, sink: Told, wrong: Any) -> None:
    """What is no text is refused where it is written, not where it is read."""
    for write in (ctx.write, ctx.think):
        with pytest.raises(TypeError):
            write(wrong)
    assert sink.told == []


def test_promise_02_nothing_is_said_once_the_run_is_to_stop(
    ctx: RunContext, sink: Told, token: CancelToken
) -> None:
    """After a cancel every way to say something raises, and nothing is added."""
    token.cancel(Cancellation())
    for say in (
        lambda: ctx.write("a"),
        lambda: ctx.think("a"),
        lambda: ctx.emit("mine"),
        lambda: ctx.use(Usage(1)),
        lambda: ctx.critical().__enter__(),
        lambda: ctx.tool_call("1", "t").__enter__(),
    ):
        with pytest.raises(RunCancelledError):
            say()
    assert sink.told == []


def test_promise_04_inside_critical_only_immediate_raises(
    ctx: RunContext, sink: Told, token: CancelToken
) -> None:
    """A critical part may write and count until the stop is IMMEDIATE."""
    with ctx.critical():
        token.cancel(Cancellation())
        ctx.write("a")
        ctx.use(Usage(1))
        token.cancel(Cancellation(mode=CancelMode.IMMEDIATE))
        with pytest.raises(RunCancelledError):
            ctx.write("b")
    assert sink.told == ["a"]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (None, ToolCallState.COMPLETED),
        (ValueError("no"), ToolCallState.FAILED),
        (RunCancelledError("stop"), ToolCallState.INTERRUPTED),
        (KeyboardInterrupt(), ToolCallState.INTERRUPTED),
    ],
    ids=repr,
)
def test_promise_03_a_tool_call_is_entered_and_ended(
    ctx: RunContext, sink: Told, error: BaseException | None, state: ToolCallState
) -> None:
    """A tool call is listed when it begins, as critical, and once more in the state it ends in."""

    def call() -> None:
        with ctx.tool_call("1", "t") as returned:
            returned("so ")
            returned("far")
            if error is not None:
                raise error

    if error is None:
        call()
    else:
        with pytest.raises(type(error)):
            call()
    result = "ValueError: no" if state is ToolCallState.FAILED else "so far"
    assert sink.told == [("started", "1", 1), (state, result)]
    assert sink.used.tool_calls == 1


def test_promise_04_no_tool_call_begins_beside_one_that_may_finish(
    ctx: RunContext, sink: Told, token: CancelToken
) -> None:
    """While a call in flight finishes after a GRACEFUL cancel, another one is not begun."""
    with ctx.critical():
        token.cancel(Cancellation())
        with pytest.raises(RunCancelledError), ctx.tool_call("2", "t"):
            pytest.fail("begun")
    assert sink.told == []


async def test_in_thread_passes_arguments(ctx: RunContext) -> None:
    """Positional and keyword arguments reach the function, and its result comes back."""
    assert await ctx.in_thread(sorted, [2, 1, 3], reverse=True) == [3, 2, 1]
