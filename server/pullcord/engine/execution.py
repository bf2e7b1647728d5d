"""Calling a run's code: sync code in a worker thread, async code as a task on a run loop.

The two executions differ only in how code is told to stop. When that is to happen, and what the
run's end is, is the live run's to decide.
"""

import asyncio
import contextlib
import contextvars
from collections.abc import Callable
from typing import Any

from pullcord.engine.clock import Clock
from pullcord.engine.live import LiveRun
from pullcord.engine.loops import RunLoop
from pullcord.engine.threads import Job, ThreadPool
from pullcord.run.context import RunContext
from pullcord.run.runnable import Runnable

_RETRY = 0.001
"""Seconds between attempts to interrupt a thread that is just now in our own code, at first."""
_LONGEST = 0.1


class ThreadExecution:
    """A sync run in a worker thread."""

    def __init__(
        self,
        live: LiveRun,
        runnable: Runnable,
        ctx: RunContext,
        released: Callable[[], None],
        *,
        pool: ThreadPool,
        clock: Clock,
    ) -> None:
        self._live = live
        self._clock = clock
        self._released = released
        context = contextvars.copy_context()
        self._job: Job | None = None
        live.execution = self
        self._job = pool.submit(lambda: context.run(self._execute, runnable, ctx), self._done)

    def drop(self) -> bool:
        """Takes it out of the queue; False if it has begun."""
        dropped = self._job is not None and self._job.drop()
        if dropped:
            self._released()
        return dropped

    def interrupt(self, immediate: bool) -> None:
        """GRACEFUL leaves it to the token, which sync code sees at its next write."""
        self._live.delivered()
        if immediate:
            self._interrupt(_RETRY)

    def _interrupt(self, delay: float) -> None:
        if self._job is None or not self._job.interrupt():
            longer = min(2 * delay, _LONGEST)
            self._clock.call_later(delay, lambda: self._interrupt(longer))

    def told(self) -> None:
        """Nothing: an interrupt that comes as well is for IMMEDIATE only."""

    @property
    def loop(self) -> None:
        """None: it is in a thread."""
        return None

    def is_stuck(self) -> bool:
        """Never: its thread is its own."""
        return False

    def stack(self) -> str:
        """Where its thread is."""
        return self._job.stack() if self._job is not None else ""

    def _execute(self, runnable: Runnable, ctx: RunContext) -> None:
        if self._live.began():
            runnable.execute(ctx)

    def _done(self, _: Any, error: BaseException | None) -> None:
        self._released()  # first: who has seen the end finds the room
        self._live.ended(error)


class TaskExecution:
    """An async run as a task, on a run loop of ours or on the loop of an in-process caller."""

    def __init__(
        self,
        live: LiveRun,
        runnable: Runnable,
        ctx: RunContext,
        released: Callable[[], None],
        *,
        run_loop: RunLoop | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._live = live
        self._runnable = runnable
        self._ctx = ctx
        self._released = released
        self._run_loop = run_loop
        self._context = contextvars.copy_context()
        self._task: asyncio.Task[None] | None = None
        self._told = False
        live.execution = self
        if run_loop is not None:
            self._loop = run_loop.loop
            run_loop.submit(self._start)
        else:
            assert loop is not None
            self._loop = loop
            self._in_loop(self._start)

    def drop(self) -> bool:
        """A task that has not begun finds out by itself."""
        return False

    def interrupt(self, immediate: bool) -> None:
        """Cancels the task, unless GRACEFUL finds it in a part that may finish."""
        if not immediate and self._live.is_critical:
            return  # leaving that part raises, and counts as delivery
        self._in_loop(self._cancel, immediate)
        if immediate and self._run_loop is not None and self._task is not None:
            self._run_loop.interrupt(self._task)

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The in-process caller's loop, if it is one."""
        return self._loop if self._run_loop is None else None

    def told(self) -> None:
        """The code has been told by an exception. A GRACEFUL cancel of the task, on top of that,
        would tear the cleanup which that exception has set off."""
        task = self._task
        if task is not None and _running_loop() is self._loop and asyncio.current_task() is task:
            self._told = True
            self._live.delivered()

    def is_stuck(self) -> bool:
        """Whether some other run keeps the loop from getting round to this one."""
        return self._run_loop is not None and self._run_loop.is_blocked_by_another(self._task)

    def stack(self) -> str:
        """Where the task waits."""
        task = self._task
        if task is None:
            return ""
        with contextlib.suppress(RuntimeError):  # it moved on while we looked
            return "".join(
                f"{f.f_code.co_filename}:{f.f_lineno} {f.f_code.co_name}\n"
                for f in task.get_stack()
            )
        return ""

    def _in_loop(self, function: Callable[..., None], *args: Any) -> None:
        if _running_loop() is self._loop:
            function(*args)
            return
        with contextlib.suppress(RuntimeError):  # the caller's loop is closed, and the task with it
            self._loop.call_soon_threadsafe(function, *args)

    def _start(self) -> None:
        if not self._live.began():
            self._release()
            return
        try:
            work = self._runnable.execute(self._ctx)
            if work is None:
                raise TypeError("execute of an async runnable must return a coroutine")
            self._task = self._loop.create_task(
                work, name=f"run {self._live.run_id}", context=self._context
            )
        except BaseException as error:  # or the run would have no end
            self._live.ended(error)
            self._release()
            return
        self._task.add_done_callback(self._done)

    def _cancel(self, immediate: bool) -> None:
        if self._task is None or (not immediate and (self._live.is_critical or self._told)):
            return
        self._live.delivered()
        self._task.cancel()

    def _done(self, task: "asyncio.Task[None]") -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._task = None
        self._release()  # first: who has seen the end finds the room
        self._live.ended(error)

    def _release(self) -> None:
        if self._run_loop is not None:
            self._run_loop.ended()
        self._released()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
