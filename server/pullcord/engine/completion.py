"""Brings ended runs to their store, and lets go of them here once it has them.

A store that does not take a run is asked again, until the run would have expired. One that may
block is asked in a thread of its own, never by whoever ended the run: that may be a run's event
loop, the clock or the RPC loop. How a run ends is not decided here.
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
_CLOSING = 1.0
"""Seconds that `close` waits for a store that is being asked."""

_log = logging.getLogger("pullcord.engine")

T = TypeVar("T")


@dataclass(slots=True)
class _Item:
    live: LiveRun
    end: Finish
    retry: float = _FIRST_RETRY


class Completer:
    """What happens between a run's end and its place in the store. Any thread may call."""

    def __init__(
        self,
        store: RunStore,
        clock: Clock,
        observer: Observer,
        on_kept: Callable[[LiveRun], None],
        on_done: Callable[[LiveRun], None],
    ) -> None:
        """`on_kept` is called when the store has a run, `on_done` when the observer knows it."""
        self._store = store
        self._clock = clock
        self._observer = observer
        self._on_kept = on_kept
        self._on_done = on_done
        self._changed = threading.Condition()
        self._starting: dict[Key, LiveRun | None] = {}  # with the run, if it has ended meanwhile
        self._waiting: deque[_Item] = deque()
        self._withdrawn: deque[Key] = deque()  # of refused runs
        self._thread: threading.Thread | None = None
        self._closed = False

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

    def withdraw(self, key: Key) -> None:
        """Takes a refused run's row back, later if the store does not answer now."""
        try:
            self._store.withdraw(*key)
        except Exception:
            _log.exception("the store did not take back run %s", key[1])
            self._clock.call_later(_LONGEST_RETRY, partial(self._enqueue, self._withdrawn, key))

    # --- ends

    def ended(self, live: LiveRun) -> None:
        """The run has its terminal event."""
        with self._changed:
            if live.key in self._starting:
                self._starting[live.key] = live
                return
        self._complete(live)

    def _complete(self, live: LiveRun) -> None:
        machine = live.machine
        ended = EndedRun(live.spec, live.snapshot(), machine.deliver_time, machine.decided)
        item = _Item(live, Finish(live.scope, ended, live.log))
        if self._store.blocking:
            self._enqueue(self._waiting, item)
        else:
            self._keep([item])

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
            self._withdrawn.clear()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CLOSING)  # a store that hangs does not keep the program

    # --- inside

    def _run(self) -> None:
        while (work := self._next()) is not None:
            batch, refused = work
            if batch:
                self._keep(batch)
            for key in refused:
                self.withdraw(key)

    def _next(self) -> tuple[list[_Item], list[Key]] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._withdrawn or self._closed)
            if self._closed:
                return None
            return _some(self._waiting), _some(self._withdrawn)

    def _keep(self, batch: Sequence[_Item]) -> None:
        try:
            refusals = self._store.finish([item.end for item in batch])
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, StoreUnavailable):
                for item in batch:  # one of them may be at fault, and must not hold up the others
                    self._keep([item])
            else:
                self._try_again(batch)
            return
        for item, stop in zip(batch, refusals, strict=True):
            if stop is not None:
                _log.error("run %s ended although a stop was recorded", item.live.run_id)
            self._let_go(item)

    def _try_again(self, batch: Sequence[_Item]) -> None:
        others = f" and {len(batch) - 1} others" if len(batch) > 1 else ""
        _log.exception("the store did not take run %s%s", batch[0].live.run_id, others)
        for item in batch:
            run = item.end.ended.run
            if self._clock.time() >= run.expire_time:
                self._let_go(item)
                continue
            self._clock.call_later(item.retry, partial(self._enqueue, self._waiting, item))
            item.retry = min(2 * item.retry, _LONGEST_RETRY)

    def _let_go(self, item: _Item) -> None:
        steps: list[Callable[[], None]] = [
            partial(self._on_kept, item.live),
            partial(self._observer.run_ended, item.end.ended.run),
            partial(self._on_done, item.live),
        ]
        for step in steps:
            try:
                step()
            except Exception:
                _log.exception("what follows the end of run %s failed", item.live.run_id)


def _some(queue: deque[T]) -> list[T]:
    return [queue.popleft() for _ in range(min(_BATCH, len(queue)))]
