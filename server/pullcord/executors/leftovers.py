"""Work that outlives a run's code: callbacks of its cancel, tasks, processes.

It has a moment to end by itself, is then cancelled, and ends with its run. What ignores that is
reported and holds the run's capacity until it ends. Whether a run may end is not decided here.
"""

import asyncio
import contextlib
import itertools
import logging
import threading
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar
from typing import Any, TypeVar

from pullcord.engine.clock import Clock, Timer
from pullcord.executors.frames import stack_of
from pullcord.executors.threads import Job, ThreadPool
from pullcord.run.errors import ServerBusy

_log = logging.getLogger("pullcord.run")

_CHANCE = 0.02
"""Seconds until what was left is cancelled: a connection that is being closed needs them."""
_PATIENCE = 0.25
"""Seconds that it then has to end, before the run ends without it."""

_MAX_SHOWN = 4
"""Stacks in a report."""

T = TypeVar("T")


class Leftovers:
    """The work that one run's code starts beside itself, from the first moment on.

    1. `release` is called once, when nothing is left.
    2. `end` is called once: after `release`, or, with words about what is left, before it.
    """

    def __init__(
        self, clock: Clock, callbacks: ThreadPool, kill: Callable[[], None] = lambda: None
    ) -> None:
        """`callbacks` are the threads that an author's callbacks are called in; `kill` kills the
        processes that the code has left, before the end is reported."""
        self._kill = kill
        self._clock = clock
        self._pool = callbacks
        self._keys = itertools.count()
        self._jobs: dict[int, Job | None] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lock = threading.Lock()
        self._release: Callable[[], None] | None = None
        self._end: Callable[[str], None] | None = None
        self._timer: Timer | None = None

    # --- what the code begins

    def call_aside(self, call: Callable[[], None]) -> None:
        """Calls an author's callbacks in a thread of the pool: the stop must not wait for them."""
        key = next(self._keys)
        self._jobs[key] = None
        try:
            job = self._pool.submit(call, lambda result, error: self._called(key))
        except ServerBusy as error:
            del self._jobs[key]
            _log.error("the callbacks of a cancel cannot be called: %s", error)
            return
        with self._lock:
            if key in self._jobs:
                self._jobs[key] = job

    def adopt(self, task: "asyncio.Task[Any]") -> None:
        """Keeps account of a task that the run's code has made."""
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def tasks(self) -> "set[asyncio.Task[Any]]":
        """The tasks that have not ended."""
        return set(self._tasks)

    def _called(self, key: int) -> None:
        with self._lock:
            del self._jobs[key]
        self._look()

    def _forget(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if self._release is not None:
            self._look()

    # --- the code has ended

    def settle(self, release: Callable[[], None], end: Callable[[str], None]) -> None:
        """Sees to the end of what is left; see the class for when these two are called."""
        with self._lock:
            self._release, self._end = release, end
        self._look()
        if self._end is not None:
            self._timer = self._clock.call_later(_CHANCE, self._cancel)
            self._look()  # it may have ended before there was a timer to take back

    def _look(self) -> None:
        with self._lock:
            release, end = self._release, self._end
            if release is None or self._tasks or self._jobs:
                return
            self._release = self._end = None
            timer = self._timer
        if timer is not None:
            timer.cancel()
        if end is not None:
            self._kill()
        release()
        if end is not None:
            end("")

    def _cancel(self) -> None:
        with self._lock:
            if self._end is None:
                return
            self._timer = self._clock.call_later(_PATIENCE, self._give_up)
        self._stop_all()
        self._look()

    def _stop_all(self) -> None:
        for task in list(self._tasks):
            with contextlib.suppress(RuntimeError):  # its loop is closed, and the task with it
                task.get_loop().call_soon_threadsafe(task.cancel, "its run has ended")
        for key, job in list(self._jobs.items()):
            if job is None:
                continue
            if job.drop():
                _log.error("the callbacks of a cancel were not called: others hang in all threads")
                self._called(key)
            else:
                job.interrupt()

    def _give_up(self) -> None:
        with self._lock:
            end, self._end = self._end, None
        if end is not None:
            self._stop_all()
            report = self._report()
            self._kill()
            end(report)

    def _report(self) -> str:
        tasks = (_stack_of(task) for task in list(self._tasks))
        callbacks = (
            "a callback of its cancel:\n" + job.stack()
            for job in list(self._jobs.values())
            if job is not None
        )
        shown = list(itertools.islice(itertools.chain(tasks, callbacks), _MAX_SHOWN))
        return "its code has ended, and left at work " + "\nand ".join(shown)


def _stack_of(task: "asyncio.Task[Any]") -> str:
    with contextlib.suppress(RuntimeError):  # it moved on while we looked
        return f"the task {task.get_name()}:\n" + stack_of(task)
    return f"the task {task.get_name()}"


_at_work: ContextVar[Leftovers | None] = ContextVar("pullcord_leftovers", default=None)


def keep_account(context: Context, leftovers: Leftovers) -> None:
    """From now on tasks that code in this context makes on run loops belong to these."""
    context.run(_at_work.set, leftovers)


def tasks_at_work() -> "set[asyncio.Task[Any]]":
    """The tasks that the calling code's run has made on run loops, and that have not ended."""
    leftovers = _at_work.get()
    return set() if leftovers is None else leftovers.tasks()


def make_task(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, T] | Generator[Any, None, T],
    /,
    **options: Any,
) -> "asyncio.Task[T]":
    """The task factory of run loops."""
    task: asyncio.Task[T] = asyncio.Task(work, loop=loop, **options)
    context: Context | None = options.get("context")
    leftovers = _at_work.get() if context is None else context.get(_at_work)
    if leftovers is not None:
        leftovers.adopt(task)
    return task
