"""A run loop knows a run that blocks it from an interpreter that is busy elsewhere."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pullcord.executors.loops import RunLoop, RunLoops
from pullcord.testing import ManualClock

STALL_AFTER = 0.5


class Watched:
    """A loop whose clock is moved by hand, and what it has reported."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.stalls: list[str] = []
        self.loop = RunLoop("pullcord-loop-test", self.clock, STALL_AFTER, self._on_stall)

    def _on_stall(self, task: "asyncio.Task[Any] | None", seconds: float, stack: str) -> None:
        self.stalls.append(stack)


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.loop.close()


def test_a_run_that_blocks_its_loop_is_reported(watched: Watched) -> None:
    """Code that keeps its loop for longer than stall_after is reported, with where it is."""
    blocks, free = threading.Event(), threading.Event()

    def block(loop: RunLoop) -> None:
        blocks.set()
        free.wait(30)

    watched.loop.submit(block)
    assert blocks.wait(30)
    for _ in range(8):
        watched.clock.advance(STALL_AFTER / 4)
    assert watched.loop.is_stalled
    assert len(watched.stalls) == 1
    assert "in block" in watched.stalls[0]
    free.set()


def test_a_starved_loop_is_not_called_blocked(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that only waits for its turn, while other threads compute, has no run to blame."""
    idle = threading.Event()
    watched.loop.submit(lambda loop: idle.set())
    assert idle.wait(30)
    while not watched.loop._is_at_rest():  # it has not come to rest yet
        threading.Event().wait(0.001)
    # Nothing gets through to the loop, which waits: so it is while it cannot have the interpreter.
    with monkeypatch.context() as patch:
        patch.setattr(watched.loop.loop, "call_soon_threadsafe", lambda *_: None)
        for _ in range(8):
            watched.clock.advance(STALL_AFTER / 4)
    assert not watched.loop.is_stalled
    assert watched.stalls == []


def test_a_loop_at_rest_is_left_alone(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watching a loop whose runs all wait does not wake it."""
    idle = threading.Event()
    watched.loop.submit(lambda loop: idle.set())
    assert idle.wait(30)
    while not watched.loop._is_at_rest():
        threading.Event().wait(0.001)
    woken: list[object] = []
    with monkeypatch.context() as patch:
        patch.setattr(watched.loop.loop, "call_soon_threadsafe", woken.append)
        for _ in range(8):
            watched.clock.advance(STALL_AFTER / 4)
    assert woken == []


def test_runs_that_have_not_begun_leave_a_blocked_loop() -> None:
    """A run that waits behind code which blocks its loop begins on another loop instead."""
    clock = ManualClock()
    loops = RunLoops(clock, 2, STALL_AFTER, lambda task, seconds, stack: None)
    blocks, free, begun = threading.Event(), threading.Event(), threading.Event()
    where: list[RunLoop] = []

    def block(loop: RunLoop) -> None:
        where.append(loop)
        blocks.set()
        free.wait(30)

    def begin(loop: RunLoop) -> None:
        where.append(loop)
        begun.set()

    loops.submit(block)
    assert blocks.wait(30)
    loops.submit(begin)  # nobody knows yet that the loop is blocked
    for _ in range(4):
        clock.advance(STALL_AFTER / 4)
    assert begun.wait(30)
    assert where[0] is not where[1]
    assert [loop.tasks for loop in where] == [1, 1]
    free.set()
    loops.close()


def test_the_stack_of_a_task_is_where_it_is(watched: Watched) -> None:
    """Of one that waits all that it awaits, down to the innermost; of one that blocks its loop
    what it calls."""
    waits, blocks, free = threading.Event(), threading.Event(), threading.Event()
    tasks: list[asyncio.Task[Any]] = []

    async def inner(loop: RunLoop) -> None:
        ended = asyncio.Event()
        waits.set()
        while not free.is_set():
            await asyncio.wait({asyncio.create_task(ended.wait())}, timeout=0.01)
            if blocks.is_set():
                hold()

    def hold() -> None:
        tasks.append(tasks[0])
        free.wait(30)

    async def outer(loop: RunLoop) -> None:
        await inner(loop)

    watched.loop.submit(lambda loop: tasks.append(loop.loop.create_task(outer(loop))))
    assert waits.wait(30)
    stack = _stack(watched.loop, tasks[0])
    assert stack.index("outer") < stack.index("inner")
    blocks.set()
    while len(tasks) < 2:
        threading.Event().wait(0.001)
    assert "in hold" in _stack(watched.loop, tasks[0])
    free.set()


def _stack(loop: RunLoop, task: "asyncio.Task[Any]") -> str:
    while True:
        try:
            if stack := loop.stack(task):
                return stack
        except RuntimeError:  # it moved on meanwhile
            pass
