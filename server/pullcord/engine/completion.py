"""Brings ended runs to their store, and lets go of them here once it has them.

A store that does not take a run is asked again, until the run would have expired. One that may
block is asked in a thread of its own, never by the thread that ended the run: that may be a run's
event loop, the clock or the RPC loop. How a run ends is not decided here; where the store knows
of a stop that stands against an end, the run makes another one.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from pullcord.engine.clock import Clock
from pullcord.engine.live.live import Key, LiveRun
from pullcord.engine.ports import EndedRun, Finish, Observer, RunStore
from pullcord.run.errors import StoreUnavailable

_FIRST_RETRY, _LONGEST_RETRY = 0.5, 30.0
"""Seconds until a store is asked again that did not take a run."""
_BATCH = 256
"""Ended runs that a store is asked to keep in one transaction."""
_BATCH_BYTES = 16 * 1024 * 1024
"""Of their logs, together."""
_CLOSING = 1.0
"""Seconds that `close` waits for a store that is being asked."""

_log = logging.getLogger("pullcord.engine")

T = TypeVar("T")


@dataclass(slots=True)
class _Item:
    live: LiveRun
    end: Finish
    retry: float = _FIRST_RETRY


Chore = Callable[[], None]
"""Something that a store is asked, and asked again if it raises."""


class Completer:
    """Brings a run from its end into the store. Any thread may call."""

    def __init__(
        self,
        store: RunStore,
        clock: Clock,
        observer: Observer,
        on_kept: Callable[[LiveRun], None],
        on_done: Callable[[LiveRun], None],
        after: Callable[[LiveRun], int] = lambda live: 0,
    ) -> None:
        """`on_kept` is called when the store has a run, `on_done` when the observer knows it.

        `after` is asked for the number of the last event of a run that the store has.
        """
        self._store = store
        self._clock = clock
        self._observer = observer
        self._on_kept = on_kept
        self._on_done = on_done
        self._after = after
        self._changed = threading.Condition()
        self._starting: dict[Key, LiveRun | None] = {}  # with the run, if it has ended meanwhile
        self._waiting: deque[_Item] = deque()
        self._chores: deque[Chore] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False
        self.held = 0
        """Ended runs that the store does not have yet."""

    # --- starts before ends

    def starting(self, live: LiveRun) -> None:
        """The run's end is held back until `started`, or `refused`."""
        with self._changed:
            self._starting[live.key] = None

    def started(self, live: LiveRun) -> None:
        """The run was admitted: the observer receives its start, and then its end."""
        self._observer.run_started(live.snapshot(with_output=False))
        with self._changed:
            over = self._starting.pop(live.key, None)
        if over is not None:
            self._complete(over)

    def refused(self, live: LiveRun) -> None:
        """The run was not admitted: its end is nobody's business."""
        with self._changed:
            self._starting.pop(live.key, None)

    def soon(self, chore: Chore) -> None:
        """Does a chore in a thread that may block."""
        self._enqueue(self._chores, chore)

    def again(self, chore: Chore, after: float = _LONGEST_RETRY) -> None:
        """Does a chore after so many seconds, in a thread that may block, and again if it fails."""
        self._clock.call_later(after, partial(self._enqueue, self._chores, chore))

    # --- ends

    def ended(self, live: LiveRun) -> None:
        """The run has its terminal event."""
        with self._changed:
            if live.key in self._starting:
                self._starting[live.key] = live
                return
        self._complete(live)

    def _complete(self, live: LiveRun) -> None:
        item = _Item(live, self._finish(live))
        with self._changed:
            self.held += 1
        if self._store.blocking:
            self._enqueue(self._waiting, item)
        else:
            self._keep([item])

    def _finish(self, live: LiveRun) -> Finish:
        machine = live.machine
        ended = EndedRun(live.spec, live.as_decided(), machine.deliver_time, machine.decided)
        return Finish(live.scope, ended, live.log, self._after(live))

    def _enqueue(self, queue: deque[T], item: T) -> None:
        with self._changed:
            if self._closed:
                return
            queue.append(item)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="pullcord-completer", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def close(self) -> None:
        """Asks the store for nothing more."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._chores.clear()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSING)  # a store that hangs does not keep the program

    # --- inside

    def _run(self) -> None:
        while (work := self._next()) is not None:
            batch, chores = work
            if batch:
                self._keep(batch)
            for chore in chores:
                try:
                    chore()
                except Exception:
                    _log.exception("the store was asked in vain, and is asked again")
                    self.again(chore)
                del chore  # or this thread, waiting, would keep the last run alive
            del work, batch, chores

    def _next(self) -> tuple[list[_Item], list[Chore]] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._chores or self._closed)
            if self._closed:
                return None
            return self._batch(), _some(self._chores)

    def _batch(self) -> list[_Item]:
        """Some of what waits, so few that they fit a transaction; at least one, if there is any."""
        batch: list[_Item] = []
        room = _BATCH_BYTES
        while self._waiting and len(batch) < _BATCH and room > 0:
            batch.append(self._waiting.popleft())
            room -= batch[-1].end.log.nbytes
        return batch

    def _keep(self, batch: Sequence[_Item]) -> None:
        try:
            refusals = self._store.finish([item.end for item in batch])
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, StoreUnavailable):
                for item in batch:  # one of them may be at fault, and must not hold up the others
                    self._keep([item])
            else:
                self._try_again(batch, error)
            return
        overruled = []
        for item, stop in zip(batch, refusals, strict=True):
            if stop is None:
                self._let_go(item)
            elif isinstance(stop, EndedRun):
                self._give_way(item)
            elif item.live.ending.is_held:
                item.live.overrule(stop)
                item.end = self._finish(item.live)
                overruled.append(item)
            else:
                _log.error("run %s ended although a stop was recorded", item.live.run_id)
                self._let_go(item)
        if overruled:
            self._keep(overruled)

    def _give_way(self, item: _Item) -> None:
        """Others took this process for dead, and have ended the run: their end stands."""
        try:
            kept = self._store.log(*item.live.key)
        except Exception as error:
            self._try_again([item], error)
            return
        if kept is not None:
            ended, log = kept
            item.live.ending.give_way(ended.run, log.records(ended.run.last_sequence - 1)[-1])
        self._let_go(item)

    def _try_again(self, batch: Sequence[_Item], error: Exception) -> None:
        others = f" and {len(batch) - 1} others" if len(batch) > 1 else ""
        _log.error(
            "the store did not take run %s%s: %s",
            batch[0].live.run_id,
            others,
            error,
            exc_info=None if isinstance(error, StoreUnavailable) else error,
        )
        for item in batch:
            run = item.end.ended.run
            if self._clock.time() >= run.expire_time:
                _log.error("run %s has expired, and its store never took it", run.run_id)
                self._let_go(item)
                continue
            self._clock.call_later(item.retry, partial(self._enqueue, self._waiting, item))
            item.retry = min(2 * item.retry, _LONGEST_RETRY)

    def _let_go(self, item: _Item) -> None:
        # Others see the end last: they may at once start what it has made room for.
        run = item.end.ended.run
        steps: list[Callable[[], None]] = [
            partial(self._on_kept, item.live),
            partial(self._observer.run_ended, run),
            partial(self._on_done, item.live),
            item.live.ending.kept,
        ]
        if first := item.end.log.first_text_time():
            steps.insert(1, partial(self._observer.run_spoke, run, first))
        with self._changed:
            self.held -= 1
        for step in steps:
            try:
                step()
            except Exception:
                _log.exception("what follows the end of run %s failed", item.live.run_id)


def _some(queue: deque[T]) -> list[T]:
    return [queue.popleft() for _ in range(min(_BATCH, len(queue)))]
