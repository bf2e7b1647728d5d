"""One run's code at work in this process: sync code in a thread, async code as a task on a loop.

The two differ only in how code is told to stop. When it must stop, and what the run's end is, the
engine decides; it is reached through the run's port.
"""

import asyncio
import contextlib
import contextvars
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any

from pullcord.engine.clock import Clock, Timer
from pullcord.executors.frames import stack_of
from pullcord.executors.leftovers import Leftovers
from pullcord.executors.loops import RunLoop, RunLoops
from pullcord.executors.threads import Job, ThreadPool
from pullcord.run.cancel import Cancellation, CancelMode
from pullcord.run.context import RunContext
from pullcord.run.port import Began, Failure, RunPort, is_cancel
from pullcord.run.runnable import Runnable
from pullcord.run.side import RunSide

_RETRY = 0.001
"""Seconds between attempts to interrupt a thread that is just now in our own code, at first."""
_LONGEST = 0.1


class ThreadExecution:
    """A sync run in a worker thread."""

    def __init__(
        self,
        port: RunPort,
        side: RunSide,
        runnable: Runnable,
        ctx: RunContext,
        clock: Clock,
        leftovers: Leftovers,
    ) -> None:
        self.side = side
        self._leftovers = leftovers
        self._port = port
        self._runnable = runnable
        self._ctx = ctx
        self._clock = clock
        self._context = contextvars.copy_context()
        self._job: Job | None = None
        self._failure: Failure | None = None

    def submit(self, pool: ThreadPool) -> None:
        """Waits for a thread of the pool. Raises ServerBusy where too many wait already."""
        run = self._context.run
        self._job = pool.submit(lambda: run(self._execute), self._done, self._port.scope)

    def drop(self) -> bool:
        """Takes it out of the queue; False if it has begun."""
        dropped = self._job is not None and self._job.drop()
        if dropped:
            self._port.released()
        return dropped

    def stop(self, cancellation: Cancellation, grace_period: float | None) -> None:
        """GRACEFUL leaves it to the token, which sync code sees at its next write."""
        self.side.deliver(cancellation, grace_period)
        self._port.delivered()
        if cancellation.mode is CancelMode.IMMEDIATE:
            self._interrupt(_RETRY)

    def _interrupt(self, delay: float) -> None:
        if self._job is None or not self._job.interrupt():
            longer = min(2 * delay, _LONGEST)
            self._clock.call_later(delay, lambda: self._interrupt(longer))

    @property
    def loop(self) -> None:
        """None: it is in a thread."""
        return None

    kill_after = None
    """It shares its process with others."""

    def kill(self) -> None:
        """Nothing: see `kill_after`."""

    def abandon(self) -> str:
        """The stack of its thread; nothing else can be done about it here."""
        return self._job.stack() if self._job is not None else ""

    def _execute(self) -> None:
        answer: SimpleQueue[Began | None] = SimpleQueue()
        self._port.began(answer.put)
        began = answer.get()
        if began is not None:
            self.side.token.deadline = began.deadline
            try:
                self._runnable.execute(self._ctx)
            except BaseException as error:
                # Read here, where an interrupt reaches it: its words may be code of the author's.
                self._failure = _failure(self.side, error)
                raise

    def _done(self, _: Any, error: BaseException | None) -> None:
        failure = self._failure
        if failure is None and error is not None:
            failure = _failure(self.side, error)
        self._leftovers.settle(self._port.released, partial(self._port.ended, failure))


class TaskExecution:
    """An async run as a task, on a run loop of ours or on the loop of an in-process caller."""

    def __init__(
        self,
        port: RunPort,
        side: RunSide,
        runnable: Runnable,
        ctx: RunContext,
        clock: Clock,
        leftovers: Leftovers,
        stuck_after: float,
    ) -> None:
        """`stuck_after` is how long, in seconds, a stop waits for a loop that is blocked."""
        self.side = side
        self._port = port
        self._runnable = runnable
        self._ctx = ctx
        self._clock = clock
        self._leftovers = leftovers
        self._stuck_after = stuck_after
        self._context = contextvars.copy_context()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._run_loop: RunLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._failure: Failure | None = None
        self._over = False
        self._delivered = False
        self._told = False
        self._look: Timer | None = None
        side.on_told = self._told_by_exception

    def submit(self, loops: RunLoops) -> None:
        """Begins on a free run loop. Raises ServerBusy where every loop is blocked."""
        loops.submit(self._begin_on)

    def submit_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins on the caller's own loop."""
        self._loop = loop
        self._in_loop(self._begin)

    def drop(self) -> bool:
        """A task that has not begun finds out by itself."""
        return False

    def stop(self, cancellation: Cancellation, grace_period: float | None) -> None:
        """Cancels the task, unless GRACEFUL finds it in a part that may finish."""
        self.side.deliver(cancellation, grace_period)
        immediate = cancellation.mode is CancelMode.IMMEDIATE
        # Leaving a critical part raises, and counts as delivery.
        if immediate or not self.side.is_critical:
            self._in_loop(self._cancel, immediate)
            if immediate and self._run_loop is not None and self._task is not None:
                self._run_loop.interrupt(self._task)
        if self._run_loop is not None and self._look is None:
            self._look_later()

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The in-process caller's loop, if it is one."""
        return self._loop if self._run_loop is None else None

    kill_after = None
    """It shares its process with others."""

    def kill(self) -> None:
        """Nothing: see `kill_after`."""

    def abandon(self) -> str:
        """The stack of the task; nothing else can be done about it here."""
        task, loop = self._task, self._run_loop
        if task is None:
            return ""
        with contextlib.suppress(RuntimeError):  # it moved on while we looked
            return stack_of(task) if loop is None else loop.stack(task)
        return ""

    # --- a stop that another run keeps from being delivered does not wait for that run

    def _look_later(self) -> None:
        if not self._over:
            self._look = self._clock.call_later(self._stuck_after, self._look_if_stuck)

    def _look_if_stuck(self) -> None:
        if self._over:
            return
        blocked = self._run_loop is not None and self._run_loop.is_blocked_by_another(self._task)
        if blocked and not self._delivered and not self.side.is_critical:
            self._port.stuck()
        else:
            self._look_later()

    # --- on the loop

    def _told_by_exception(self) -> None:
        # A GRACEFUL cancel of the task, on top of the exception that is raised now, would tear the
        # cleanup that this exception sets off.
        task = self._task
        if task is not None and _running_loop() is self._loop and asyncio.current_task() is task:
            self._told = True
            self._deliver()

    def _deliver(self) -> None:
        if not self._delivered:
            self._delivered = True
            self._port.delivered()

    def _in_loop(self, function: Callable[..., None], *args: Any) -> None:
        loop = self._loop
        if loop is None:
            return  # not yet on a loop: the engine refuses its beginning
        if _running_loop() is loop:
            function(*args)
            return
        with contextlib.suppress(RuntimeError):  # the caller's loop is closed, and the task with it
            loop.call_soon_threadsafe(function, *args)

    def _begin_on(self, run_loop: RunLoop) -> None:
        self._run_loop = run_loop
        self._loop = run_loop.loop
        self._begin()

    def _begin(self) -> None:
        self._port.began(lambda began: self._in_loop(self._start, began))

    def _start(self, began: Began | None) -> None:
        if began is None:
            self._end()
            self._release()
            return
        assert self._loop is not None
        self.side.token.deadline = began.deadline
        try:
            self._task = self._loop.create_task(
                self._execute(), name=f"run {self._port.run_id}", context=self._context
            )
        except BaseException as error:  # or the run would have no end
            self._settle(_failure(self.side, error))
            return
        self._task.add_done_callback(self._done)
        if self.side.token.cancelled:  # the stop came between the answer and the task
            self._cancel(self.side.token.mode is CancelMode.IMMEDIATE)

    async def _execute(self) -> None:
        try:
            work = self._runnable.execute(self._ctx)
            if work is None:
                raise TypeError("execute of an async runnable must return a coroutine")
            await work
        except BaseException as error:
            # Read here, where an interrupt reaches it: its words may be code of the author's.
            self._failure = _failure(self.side, error)
            raise

    def _cancel(self, immediate: bool) -> None:
        if self._task is None or (not immediate and (self.side.is_critical or self._told)):
            return
        self._deliver()
        self._task.cancel()

    def _done(self, task: "asyncio.Task[None]") -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._task = None
        failure = self._failure
        if failure is None and error is not None:  # it was stopped before its first step
            failure = _failure(self.side, error)
        self._settle(failure)

    def _end(self) -> None:
        self._over = True
        self.side.on_told = _nothing  # or both would live until somebody looks for garbage
        if self._look is not None:
            self._look.cancel()

    def _settle(self, failure: Failure | None) -> None:
        self._end()
        self._leftovers.settle(self._release, partial(self._port.ended, failure))

    def _release(self) -> None:
        if self._run_loop is not None:
            self._run_loop.ended()
        self._port.released()


def _nothing() -> None:
    pass


def _failure(side: RunSide, error: BaseException) -> Failure:
    """The failure of the code; the log says where it was raised."""
    return Failure(side.errors.told(error), is_cancel(error))


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
