"""An engine for tests, an observer that remembers, and a look at what a test has left behind."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pullcord.engine.clock import Clock
from pullcord.engine.engine import Engine
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import RunStore, SilentObserver
from pullcord.executors.frames import frames
from pullcord.executors.local import LocalExecutor
from pullcord.run.record import Run
from pullcord.stores.memory import MemoryStore
from pullcord.testing.clock import ManualClock


class RecordingObserver(SilentObserver):
    """An Observer that remembers its calls, and lets a test wait for them."""

    def __init__(self) -> None:
        self._told = threading.Condition()
        self.started: list[Run] = []
        self.ended: list[Run] = []
        self.lost: list[Run] = []
        self.refused: list[str] = []
        self.abandoned: list[tuple[Run, str]] = []
        """Runs and their stacks."""
        self.stalls: list[tuple[str, float, str]] = []
        """Run ids, seconds and stacks."""

    def run_started(self, run: Run) -> None:
        """Remembers."""
        self._add(self.started, run)

    def run_ended(self, run: Run) -> None:
        """Remembers."""
        self._add(self.ended, run)

    def run_refused(self, reason: str) -> None:
        """Remembers."""
        self._add(self.refused, reason)

    def run_lost(self, run: Run) -> None:
        """Remembers."""
        self._add(self.lost, run)

    def run_abandoned(self, run: Run, stack: str) -> None:
        """Remembers."""
        self._add(self.abandoned, (run, stack))

    def loop_stalled(self, run_id: str, seconds: float, stack: str) -> None:
        """Remembers."""
        self._add(self.stalls, (run_id, seconds, stack))

    def wait_for(self, told: Callable[["RecordingObserver"], Any], timeout: float = 20.0) -> None:
        """Blocks until this holds. Raises TimeoutError."""
        with self._told:
            if not self._told.wait_for(lambda: told(self), timeout):
                raise TimeoutError("the observer was not called so")

    def _add(self, found: list[Any], what: Any) -> None:
        with self._told:
            found.append(what)
            self._told.notify_all()


def make_engine(
    clock: Clock | None = None,
    observer: RecordingObserver | None = None,
    store: Callable[[RunStore], RunStore] = lambda memory: memory,
    **options: Any,
) -> Engine:
    """An engine in memory; `options` are those of EngineOptions. Its clock is moved by hand.

    `store` may wrap the store, for example in a HookedStore.
    """
    bounds = EngineOptions(**options)
    clock = clock or ManualClock()
    observer = observer or RecordingObserver()
    return Engine(
        options=bounds,
        clock=clock,
        store=store(MemoryStore(clock, bounds)),
        observer=observer,
        executor=LocalExecutor(bounds, clock, observer.loop_stalled),
    )


@dataclass(frozen=True)
class Remains:
    """Our threads, tasks and descriptors in this process."""

    threads: frozenset[str]
    """Names of threads of ours that are at work, not just waiting for some."""
    tasks: int
    """Tasks of the running loop, other than the one that asks."""
    fds: int
    """Open file descriptors; 0 if the system does not show them."""


def remains() -> Remains:
    """Those that exist now."""
    at = frames()
    busy = frozenset(
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith("pullcord-") and not _is_idle(at.get(thread.ident or 0))
    )
    try:
        tasks = len(asyncio.all_tasks()) - 1
    except RuntimeError:
        tasks = 0
    fds = Path("/proc/self/fd")
    return Remains(busy, tasks, sum(1 for _ in fds.iterdir()) if fds.exists() else 0)


_IDLE = {"_next", "_run", "select"}
"""Functions of ours, and asyncio's, in which a thread waits for work."""


def _is_idle(frame: Any) -> bool:
    if frame is None:
        return True  # it has just ended
    while frame is not None and frame.f_globals.get("__name__", "") == "threading":
        frame = frame.f_back
    return frame is None or frame.f_code.co_name in _IDLE


@contextmanager
def nothing_left(timeout: float = 10.0) -> Iterator[None]:
    """Fails if, after the block, threads of ours are still at work that were not before."""
    before = remains().threads
    yield
    ended = threading.Event()
    waited = 0.0
    while waited < timeout:
        left = remains().threads - before
        if not left:
            return
        ended.wait(0.01)  # nothing says that a thread has become idle
        waited += 0.01
    raise AssertionError(f"still at work: {sorted(left)}")
