"""Event loops for async runs, each in a thread of its own, and the watch on what blocks them.

A loop that some run blocks takes no new runs until it is free again, and the runs that wait to
begin there move to another loop. The RPC loop is never one of these.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import selectors
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any

from pullcord.engine.clock import Clock, Timer
from pullcord.executors.forks import end_child, leave_in_child
from pullcord.executors.frames import frame_of, stack_of
from pullcord.executors.leftovers import make_task
from pullcord.executors.threads import is_in_our_code, raise_in_thread
from pullcord.run.errors import RunInterrupted, ServerBusy

_log = logging.getLogger("pullcord.loops")

_RETRY = 0.001
"""Seconds between attempts to interrupt a loop whose thread is just now in our own code."""

Stalled = Callable[["asyncio.Task[Any] | None", float, str], None]
Begin = Callable[["RunLoop"], None]
"""Begins a run on a loop, in that loop's thread."""


class RunLoop:
    """One loop in one daemon thread, which is watched while it has work."""

    def __init__(
        self,
        name: str,
        clock: Clock,
        stall_after: float,
        on_stall: Stalled,
        move: Callable[[list[Begin]], None] = lambda waiting: None,
    ) -> None:
        """`move` takes over the runs that have not begun, when something blocks the loop."""
        self._clock = clock
        self._stall_after = stall_after
        self._on_stall = on_stall
        self._move = move
        self._waiting: dict[int, Begin] = {}
        self._ids = itertools.count()
        self._lock = threading.Lock()
        self._timer: Timer | None = None
        self._asked = 0.0  # when the beat that has not come yet was asked for; 0: none was
        self._reported = False
        self._closing = False
        self._unwanted: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self.is_stalled = False
        """Whether something blocks it now."""
        self.tasks = 0
        """Runs that have not ended."""
        self.loop = asyncio.new_event_loop()
        self.loop.set_task_factory(make_task)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        leave_in_child(self)
        self._thread.start()

    @property
    def ident(self) -> int | None:
        """Of its thread."""
        return self._thread.ident

    def submit(self, begin: Begin) -> None:
        """Calls `begin` in the loop, unless it moves to another; its run counts until `ended`."""
        with self._lock:
            self.tasks += 1
            key = next(self._ids)
            self._waiting[key] = begin
            if self._timer is None:
                self._timer = self._clock.call_later(self._stall_after / 4, self._watch)
        self.loop.call_soon_threadsafe(self._begin, key)

    def _begin(self, key: int) -> None:
        with self._lock:
            begin = self._waiting.pop(key, None)
        if begin is not None:  # else it has moved
            begin(self)

    def ended(self) -> None:
        """A run of this loop has ended."""
        with self._lock:
            self.tasks -= 1

    def interrupt(self, task: "asyncio.Task[Any]") -> None:
        """Raises RunInterrupted in the loop's thread, as soon as this task is known to block it."""
        self._unwanted.add(task)
        ident = self._thread.ident
        if not self.is_stalled or ident is None or _current(self.loop) is not task:
            return
        if is_in_our_code(ident):
            self._clock.call_later(_RETRY, lambda: self.interrupt(task))
        else:
            raise_in_thread(ident)

    def is_blocked_by_another(self, task: "asyncio.Task[Any] | None") -> bool:
        """Whether the loop does not get round to this task because of some other code."""
        return self.is_stalled and (task is None or _current(self.loop) is not task)

    def close(self) -> None:
        """Ends the loop as soon as it is free, cancelling what is left on it."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.loop.stop)
        if not self.is_stalled:
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        process = os.getpid()
        while not self._closing:
            try:
                self.loop.run_forever()
                end_child(process, None)
            except RunInterrupted:
                pass  # meant for a run that had just let go
            except BaseException as error:  # SystemExit of a task or callback: asyncio lets it out
                end_child(process, error if isinstance(error, SystemExit) else None)
                _log.warning("a run's code tried to end its loop, which goes on", exc_info=True)
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        if left:
            self.loop.run_until_complete(asyncio.wait(left, timeout=0.5))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def _watch(self) -> None:
        now = self._clock.monotonic()
        moved: list[Begin] = []
        with self._lock:
            if self._closing or (self.tasks == 0 and not self._asked):
                self._timer = None
                return
            waited = now - self._asked if self._asked else 0.0
            late = waited >= self._stall_after / 2 and not self._is_at_rest()
            if late and self._waiting:
                moved = list(self._waiting.values())
                self._waiting.clear()
                self.tasks -= len(moved)
                self.is_stalled = True
            report = late and waited >= self._stall_after and not self._reported
            if report:
                self.is_stalled = self._reported = True
            ask = not self._asked and not self._is_at_rest()
            if ask:
                self._asked = now
            self._timer = self._clock.call_later(self._stall_after / 4, self._watch)
        if ask:
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._beat)
        if moved:
            self._move(moved)
        if report:
            task = _current(self.loop)
            self._on_stall(task, waited, self._thread_stack())
            if task is not None and task in self._unwanted:
                self.interrupt(task)  # its stop came before it was known to block

    def stack(self, task: "asyncio.Task[Any]") -> str:
        """Where this task of the loop is: what it calls if it blocks the loop, else what it awaits.

        Raises RuntimeError if it moves on meanwhile.
        """
        return self._thread_stack() if _current(self.loop) is task else stack_of(task)

    def _thread_stack(self) -> str:
        frame = frame_of(self._thread.ident)
        return "".join(traceback.format_stack(frame)) if frame is not None else ""

    def _is_at_rest(self) -> bool:
        """Whether no run blocks the loop: it waits for events, or for the interpreter, as others
        compute."""
        frame = frame_of(self._thread.ident)
        return frame is not None and frame.f_globals.get("__name__") == selectors.__name__

    def _beat(self) -> None:
        with self._lock:
            self._asked = 0.0
            self.is_stalled = self._reported = False


def _current(loop: asyncio.AbstractEventLoop) -> "asyncio.Task[Any] | None":
    try:
        return asyncio.current_task(loop)
    except RuntimeError:  # some Pythons answer in the loop's own thread only
        return None


class RunLoops:
    """The loops of an engine: one, and more only while others are blocked."""

    def __init__(self, clock: Clock, limit: int, stall_after: float, on_stall: Stalled) -> None:
        self._clock = clock
        self._stall_after = stall_after
        self._on_stall = on_stall
        self._limit = limit
        self._lock = threading.Lock()
        self._loops: list[RunLoop] = []

    def submit(self, begin: Begin) -> None:
        """Begins a run on the free loop with the fewest runs.

        Raises:
            ServerBusy: all that may be made are blocked.
        """
        loop = self._pick()
        if loop is None:
            raise ServerBusy(f"all {self._limit} run loops are blocked by their runs")
        loop.submit(begin)

    def _pick(self) -> RunLoop | None:
        with self._lock:
            free = [loop for loop in self._loops if not loop.is_stalled]
            if free:
                return min(free, key=lambda loop: loop.tasks)
            if len(self._loops) >= self._limit:
                return None
            name = f"pullcord-loop-{len(self._loops) + 1}"
            self._loops.append(
                RunLoop(name, self._clock, self._stall_after, self._on_stall, self._move)
            )
            return self._loops[-1]

    def _move(self, waiting: list[Begin]) -> None:
        """Submits runs anew; where every loop is blocked, they wait for the least busy one."""
        for begin in waiting:
            loop = self._pick()
            if loop is None:
                with self._lock:
                    loop = min(self._loops, key=lambda loop: loop.tasks)
            loop.submit(begin)

    def owns(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it is one of these."""
        with self._lock:
            return any(own.loop is loop for own in self._loops)

    def close(self) -> None:
        """Ends them all."""
        with self._lock:
            loops, self._loops = self._loops, []
        for loop in loops:
            loop.close()
