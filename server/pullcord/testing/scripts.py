"""Runnables that do what a script says, step by step, and wait where a test wants them to.

A script decides nothing by itself and keeps no time: every wait is for the test to end. The same
steps serve sync and async runs.
"""

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pullcord.run.context import RunContext
from pullcord.run.errors import RunCancelledError
from pullcord.run.events import SourceKind, ToolCall
from pullcord.run.usage import Usage

PATIENCE = 30.0
"""Real seconds after which a wait of a test gives up, so that a mistake does not hang it."""

Step = Callable[[RunContext], Awaitable[None] | None]
"""One thing a run does. An awaitable is awaited where the run is async."""


class Script:
    """A runnable `agents/<id>` that does its steps in order."""

    kind = SourceKind.AGENT
    name = ""
    description = ""
    members: tuple[str, ...] = ()

    def __init__(self, *steps: Step, id: str = "script", is_async: bool = False) -> None:
        self.id = id
        self.is_async = is_async
        self.steps = steps
        self.runs = 0
        """The number of executions."""

    def execute(self, ctx: RunContext) -> Any:
        """Does the steps."""
        self.runs += 1
        if self.is_async:
            return _await_each(self.steps, ctx)
        _do_each(self.steps, ctx)
        return None


def _do_each(steps: Sequence[Step], ctx: RunContext) -> None:
    for step in steps:
        step(ctx)


async def _await_each(steps: Sequence[Step], ctx: RunContext) -> None:
    for step in steps:
        made = step(ctx)
        if inspect.isawaitable(made):
            await made


def _in_async_run() -> bool:
    with contextlib.suppress(RuntimeError):
        return asyncio.current_task() is not None
    return False


class Gate:
    """A step that waits until the test opens it.

    An attentive gate lets a cancel through: in sync code it raises when the token is set, in async
    code it can be cancelled. A `deaf` one stays shut: sync code blocks in C, async code swallows
    every cancel. With `blocks_loop` even async code blocks its thread.
    """

    def __init__(self, *, deaf: bool = False, blocks_loop: bool = False) -> None:
        self._deaf = deaf
        self._blocks_loop = blocks_loop
        self._lock = threading.Lock()
        self._reached = threading.Semaphore(0)
        self._open = False
        self._wakes: list[Callable[[], None]] = []
        self.swallowed = 0
        """Cancels that a deaf gate has ignored."""
        self.left = threading.Event()
        """Set when some run has got past or out of the gate."""

    def __call__(self, ctx: RunContext) -> Awaitable[None] | None:
        """Waits here."""
        if _in_async_run() and not self._blocks_loop:
            return self._await(ctx)
        self._wait(ctx)
        return None

    def wait_reached(self) -> None:
        """Blocks the test until one more run waits here."""
        if not self._reached.acquire(timeout=PATIENCE):
            raise TimeoutError("no run came to the gate")

    def open(self) -> None:
        """Lets everybody through, now and later."""
        with self._lock:
            self._open = True
            wakes, self._wakes = self._wakes, []
        for wake in wakes:
            wake()

    def _wait(self, ctx: RunContext) -> None:
        ready = threading.Lock()
        ready.acquire()
        forget = None if self._deaf else ctx.cancel_token.on_cancel(lambda _: _let(ready))
        try:
            self._join(lambda: _let(ready))
            self._reached.release()
            ready.acquire()  # in C: no interrupt gets in here
            if not self._deaf and not self._open:
                ctx.cancel_token.raise_if_cancelled()
        finally:
            if forget is not None:
                forget()
            self.left.set()

    async def _await(self, ctx: RunContext) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(ready.set)

        self._join(wake)
        self._reached.release()
        try:
            while not ready.is_set():
                try:
                    await ready.wait()
                except asyncio.CancelledError:
                    if not self._deaf:
                        raise
                    self.swallowed += 1
        finally:
            self.left.set()

    def _join(self, wake: Callable[[], None]) -> None:
        with self._lock:
            if not self._open:
                self._wakes.append(wake)
                return
        wake()


def _let(ready: threading.Lock) -> None:
    with contextlib.suppress(RuntimeError):  # let go already
        ready.release()


def say(*texts: str) -> Step:
    """Writes deltas."""

    def step(ctx: RunContext) -> None:
        for text in texts:
            ctx.write(text)

    return step


def think(text: str) -> Step:
    """Writes reasoning."""
    return lambda ctx: ctx.think(text)


def use(**usage: Any) -> Step:
    """Counts usage, such as `use(output_tokens=5)`."""
    return lambda ctx: ctx.use(Usage(**usage))


def fail(error: BaseException) -> Step:
    """Raises."""

    def step(ctx: RunContext) -> None:
        raise error

    return step


def spin(started: threading.Event, released: threading.Event, *, deaf: bool = False) -> Step:
    """Computes in Python, ignoring the token, until released; `deaf` swallows interrupts too."""

    def step(ctx: RunContext) -> None:
        started.set()
        while not released.is_set():
            if not deaf:
                _compute()
                continue
            with contextlib.suppress(RunCancelledError):
                _compute()

    return step


def _compute() -> None:
    for _ in range(100):
        pass


def critical(*steps: Step) -> Step:
    """Does steps as a critical part."""
    return _within(lambda ctx: ctx.critical(), steps)


def tool(name: str, *steps: Step, id: str = "") -> Step:
    """Does steps as a tool call; its id is its name unless given."""
    return _within(lambda ctx: ctx.tool_call(id or name, name), steps)


def ask(question: str, *names: str, then: Step | None = None) -> Step:
    """Asks about calls of these names, also their ids; then does a step for each approved."""

    async def step(ctx: RunContext) -> None:
        calls = [ToolCall(name, name) for name in names]
        for decision in await ctx.ask(question, calls):
            if decision.approved and decision.answer is None:
                made = tool(decision.tool_call_id, *([then] if then else []))(ctx)
                if inspect.isawaitable(made):
                    await made

    return step


def _within(
    enter: Callable[[RunContext], contextlib.AbstractContextManager[Any]], steps: Sequence[Step]
) -> Step:
    async def awaiting(ctx: RunContext) -> None:
        with enter(ctx):
            await _await_each(steps, ctx)

    def step(ctx: RunContext) -> Awaitable[None] | None:
        if _in_async_run():
            return awaiting(ctx)
        with enter(ctx):
            _do_each(steps, ctx)
        return None

    return step
