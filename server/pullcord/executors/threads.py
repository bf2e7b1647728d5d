"""Bounded pools of daemon threads, whose jobs can be dropped while queued and interrupted at work.

Our own rather than concurrent.futures': a job that will not stop must not keep the process from
exiting, and an interrupt must never hit the job that comes after. What jobs mean is not known here.
"""

import asyncio
import contextlib
import contextvars
import ctypes
import functools
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Hashable
from typing import Any

from pullcord.executors.forks import end_child
from pullcord.executors.frames import frame_of
from pullcord.executors.turns import Turns
from pullcord.run.errors import RunInterrupted, ServerBusy

_log = logging.getLogger("pullcord.threads")

Done = Callable[[Any, BaseException | None], None]


def _nothing(*_: Any) -> None:
    pass


class Job:
    """Somebody's function, and what becomes of its result. Only the function can be interrupted."""

    __slots__ = ("_pool", "done", "function", "owner", "thread")

    def __init__(
        self, pool: "ThreadPool", function: Callable[[], Any], done: Done, owner: Hashable
    ) -> None:
        self._pool = pool
        self.owner = owner
        self.function = function
        self.done = done
        self.thread: _Worker | None = None

    def forget(self) -> None:
        """It is over: a holder of this no longer keeps its code alive."""
        self.function = self.done = _nothing

    def drop(self) -> bool:
        """Takes the job out of the queue; False if it has begun."""
        return self._pool._drop(self)

    def interrupt(self) -> bool:
        """Raises RunInterrupted in the thread, at its next bytecode, if still in the function.

        A call that blocks in C ends first: threads cannot be killed. False: the thread is just now
        in our own code, which must not be torn; ask again.
        """
        worker = self.thread
        return worker is None or worker.interrupt(self)

    def stack(self) -> str:
        """The current stack of the job's thread; empty if it is not at work."""
        worker = self.thread
        frame = frame_of(worker.ident) if worker is not None else None
        return "".join(traceback.format_stack(frame)) if frame is not None else ""


class ThreadPool:
    """At most `size` threads, made when needed, and at most `queue` jobs waiting for one."""

    def __init__(self, name: str, size: int, queue: int) -> None:
        self._name = name
        self._size = size
        self._limit = queue
        self._jobs: Turns[Job] = Turns()
        self._condition = threading.Condition()
        self._threads = 0
        self._idle = 0
        self._closed = False

    def submit(self, function: Callable[[], Any], done: Done, owner: Hashable = None) -> Job:
        """Runs a function in a thread, then `done(result, error)` there, which never raises.

        If every thread is at work, the jobs of each owner wait in their order, and owners in turns.

        Raises:
            ServerBusy: every thread is at work and the queue is full.
        """
        with self._condition:
            room = self._idle > len(self._jobs) or self._threads < self._size
            if self._closed or not (room or len(self._jobs) < self._limit):
                raise ServerBusy(
                    f"all {self._size} {self._name} threads are at work and {self._limit} jobs wait"
                )
            job = Job(self, function, done, owner)
            self._jobs.append(owner, job)
            if self._idle >= len(self._jobs):
                self._condition.notify()
            elif self._threads < self._size:
                self._add_thread()
        return job

    def close(self) -> None:
        """Ends idle threads now and the others after their job; queued jobs are dropped."""
        with self._condition:
            self._closed = True
            self._jobs.clear()
            self._condition.notify_all()

    async def call(self, function: Callable[[], Any]) -> Any:
        """Runs a function in a thread, with the caller's context variables, and returns its result.

        If the awaiting task is cancelled, a queued call is dropped, and one at work is interrupted;
        then this waits until the thread has really let go, so that nobody believes work has
        stopped that has not.
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Any] = loop.create_future()
        bound = functools.partial(contextvars.copy_context().run, function)
        job = self.submit(bound, functools.partial(_settle_from_thread, loop, ended))
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            if not job.drop():
                while not ended.done():
                    patience = None if job.interrupt() else 0.001
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.wait([ended], timeout=patience)
                ended.exception()  # seen: the cancellation stands for it
            raise

    def _add_thread(self) -> None:
        self._threads += 1
        try:
            _Worker(self, f"pullcord-{self._name}-{self._threads}").start()
        except RuntimeError as error:  # the system gives no more threads: those there are must do
            self._threads -= 1
            if not self._threads:
                self._jobs.clear()  # of the one that asks: without a thread no other was taken
                raise ServerBusy(f"no {self._name} thread can be started") from error

    def _next(self) -> Job | None:
        with self._condition:
            while not self._jobs:
                if self._closed:
                    return None
                self._idle += 1
                self._condition.wait()
                self._idle -= 1
            return self._jobs.popleft()

    def _drop(self, job: Job) -> bool:
        with self._condition:
            try:
                self._jobs.remove(job.owner, job)
            except ValueError:
                return False
        job.forget()
        return True


def _settle_from_thread(
    loop: asyncio.AbstractEventLoop,
    ended: "asyncio.Future[Any]",
    result: Any,
    error: BaseException | None,
) -> None:
    if isinstance(error, StopIteration):  # a future cannot hold it
        error = RuntimeError(f"StopIteration was raised: {error}")
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
        loop.call_soon_threadsafe(_settle, ended, result, error)


def _settle(ended: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if ended.done():
        return
    if error is None:
        ended.set_result(result)
    else:
        ended.set_exception(error)


class _Worker(threading.Thread):
    def __init__(self, pool: ThreadPool, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._pool = pool
        self._lock = threading.Lock()
        self._job: Job | None = None
        self._sent = False  # an interrupt was sent for this job
        self._process = os.getpid()

    def interrupt(self, job: Job) -> bool:
        with self._lock:
            if self._job is not job or self.ident is None:
                return True
            if is_in_our_code(self.ident):
                return False
            self._sent = True
            raise_in_thread(self.ident)
            return True

    def run(self) -> None:
        while True:
            job = self._pool._next()
            if job is None:
                return
            self._do(job)
            del job  # or an idle thread would keep the last run alive

    def _do(self, job: Job) -> None:
        result: Any = None
        error: BaseException | None = None
        job.thread = self
        self._job = job
        try:
            result = job.function()
        except BaseException as raised:
            error = raised
        # An interrupt that is under way may still surface, too late to matter: the interpreter
        # raises it at a call or a backward jump. Hence no call between the two `try`, and none in
        # the way from here to where it is taken back.
        while True:
            try:
                end_child(self._process, error)
                self._let_go(job)
                break
            except RunInterrupted:
                continue
        done = job.done
        job.forget()
        try:
            done(result, error)
        except BaseException:
            _log.exception("handing over a job's result failed; the thread goes on")
        error = None  # its traceback holds this frame, and both would wait to be found as garbage

    def _let_go(self, job: Job) -> None:
        """After this no interrupt is sent for the job, and none is left to surface."""
        with self._lock:
            if self._sent and self.ident is not None:
                # One that has not surfaced cannot be taken back cleanly (CPython would look for
                # it for ever, at every call of every thread), but it can be made to surface here.
                try:
                    raise_in_thread(self.ident)
                    while True:
                        pass
                except RunInterrupted:
                    self._sent = False
            job.thread = None
            self._job = None


_OURS = ("pullcord.engine", "pullcord.executors", "pullcord.run", "pullcord.worker")
_DO = ("pullcord.executors.threads", "_do")
_BENEATH = {
    ("pullcord.executors.execution", "_execute"),
    ("pullcord.executors.loops", "_run"),
    ("pullcord.run.cancel", "_call"),
    ("pullcord.executors.commands", "_hand_over"),
    # The gate, which holds no lock while a value of an author's is read.
    ("pullcord.run.plain", "words"),
    ("pullcord.run.plain", "mapping"),
    ("pullcord.run.plain", "_value"),
    ("pullcord.run.plain", "_key"),
    ("pullcord.run.readers", "held"),
}
"""Functions of ours that call an author's code: what they call may be torn."""
_FOLLOWS = ("pullcord.engine.log.watch", "__iter__")
"""Where a run's thread waits for as long as it takes, for another run: that may be torn too."""


def is_in_our_code(ident: int) -> bool:
    """Whether a thread is just now in code that must not be torn: ours, or what ours calls."""
    frame = frame_of(ident)
    caller = ""
    authors = False
    while frame is not None:
        names: dict[str, Any] | None = frame.f_globals
        if names is None:  # the frame is going as we look: ask again
            return True
        module = names.get("__name__") or ""
        place = (module, frame.f_code.co_name)
        if module.startswith(_OURS) and not (place == _FOLLOWS and caller == "threading"):
            if place == _DO:  # a tool may be a function of the standard library
                return not caller
            return not (authors and place in _BENEATH)
        if place == _FOLLOWS or module.partition(".")[0] not in sys.stdlib_module_names:
            authors = True
        caller = module
        frame = frame.f_back
    return False


def raise_in_thread(ident: int) -> None:
    """Raises RunInterrupted in another thread, at its next bytecode."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(ident), ctypes.py_object(RunInterrupted)
    )
