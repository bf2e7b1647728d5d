"""Following a run: one watcher's place in one log, and what it is given when it lags or comes late.

A watcher reads records at its own pace and slows nobody. How its messages travel is the
transport's business; blocking and awaiting faces for in-process use are at the end.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from time import time
from typing import Protocol

from pullcord.engine.log.log import EventLog
from pullcord.engine.log.numbered import Trimmed
from pullcord.engine.log.record import Record
from pullcord.run.events import Event, Gap, Heartbeat, Snapshot
from pullcord.run.record import Run
from pullcord.run.usage import Usage

BATCH = 64
"""Messages a watcher takes at a time; what comes meanwhile is merged."""

_SLICE = 0.1
"""Seconds a blocked reader waits at a stretch: RunInterrupted, raised in the thread of a run that
follows another, surfaces only between two waits."""


class OnClose(Protocol):
    """Called once when a watcher leaves."""

    def __call__(self, *, comes_back: bool = False) -> None:
        """`comes_back`: the server made it leave."""


class Watcher:
    """One reader of one run's events. Used by one thread or one task at a time; close it."""

    def __init__(
        self,
        run_id: str,
        log: EventLog,
        after_sequence: int,
        snapshot: Callable[[], Run],
        on_close: OnClose,
        usage: Callable[[], Usage] | None = None,
    ) -> None:
        """`usage` is cheaper than that of the snapshot, if given."""
        self.run_id = run_id
        self.usage = usage or (lambda: snapshot().usage)
        """The run's usage so far, also once it has been forgotten elsewhere."""
        self._log = log
        self._snapshot = snapshot
        self._on_close: OnClose | None = on_close
        self._position = log.position(after_sequence)
        self._armed: Callable[[], None] | None = None
        self.after_sequence = after_sequence
        """The number of the last event taken: what to come back with."""
        self.ended = False
        """Whether the terminal event was taken."""

    def take(self) -> list[Record]:
        """Takes the records that have come since the last call, in order; maybe none."""
        log = self._log
        try:
            records, self._position = log.read(self._position, self.after_sequence, BATCH)
        except Trimmed as trimmed:
            return self._jump(trimmed.resume_at)
        if records:
            self.after_sequence = records[-1].sequence
        # Closed is read after the records: the terminal event is among them, or comes next time.
        if log.closed and self.after_sequence >= log.last_sequence:
            self.ended = True
        return records

    def arm(self, wake: Callable[[], None]) -> bool:
        """Calls `wake` once, from any thread, when there is something to take; False: there is."""
        self._armed = wake
        return self._log.arm(self._position, wake)

    def heartbeat(self) -> Record:
        """A sign of life, to be sent when nothing else is."""
        return Record(self.after_sequence, 1, time(), Heartbeat())

    def ended_log(self) -> EventLog | None:
        """The log, if its run has ended: this watcher may be the only one who holds it still."""
        return self._log if self._log.closed else None

    @property
    def is_open(self) -> bool:
        """Whether it has not left."""
        return self._on_close is not None

    def disarm(self) -> None:
        """Takes back `arm`."""
        if self._armed is not None:
            self._log.disarm(self._armed)
            self._armed = None

    def close(self, *, comes_back: bool = False) -> None:
        """Leaves. The last watcher to leave a live run sets off its disconnect policy.

        `comes_back`: the server made it leave, and so the run gets a lease at least.
        """
        self.disarm()
        if self._on_close is not None:
            on_close, self._on_close = self._on_close, None
            on_close(comes_back=comes_back)

    def _jump(self, resume_at: int) -> list[Record]:
        # Everything up to now is in the snapshot, so that no text after it is seen twice.
        run = self._snapshot()
        resume_at = max(resume_at, run.last_sequence - run.state.is_terminal)
        now = time()
        gap = Record(resume_at, 1, now, Gap(self.after_sequence + 1, resume_at))
        self.after_sequence = resume_at
        self._position = self._log.position(resume_at)
        return [gap, Record(resume_at, 1, now, Snapshot(run))]

    # --- in-process faces

    def __iter__(self) -> Iterator[Event]:
        """Blocks this thread between events; ends after the terminal one. Closes the watcher."""
        with contextlib.closing(self):
            while not self.ended:
                for record in self.take():
                    yield record.event(self.run_id)
                if self.ended:
                    return
                ready = threading.Event()
                if self.arm(ready.set):
                    while not ready.wait(_SLICE):
                        pass

    async def __aiter__(self) -> AsyncGenerator[Event, None]:
        """Awaits between events; ends after the terminal one. Closes the watcher."""
        loop = asyncio.get_running_loop()
        with contextlib.closing(self):
            while not self.ended:
                for record in self.take():
                    yield record.event(self.run_id)
                if self.ended:
                    return
                ready = asyncio.Event()
                if self.arm(lambda ready=ready: _wake(loop, ready)):  # type: ignore[misc]  # default binds the loop variable
                    await ready.wait()


def _wake(loop: asyncio.AbstractEventLoop, ready: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the reader's loop is closed: nobody is left to wake
        loop.call_soon_threadsafe(ready.set)
