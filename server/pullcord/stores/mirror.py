"""A live run of another process, kept up to date from the store that both share.

Its events are read once for all who follow it here. How they are read is the store's business.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from pullcord.engine.log.log import EventLog
from pullcord.engine.log.numbered import UNBOUNDED
from pullcord.engine.log.record import Record
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import EndedRun
from pullcord.run.events import Gap
from pullcord.run.record import Run
from pullcord.stores.fold import Left, fold

_FOLD_AT = 1000
"""Records that wait to be folded into the run, at most."""


class Mirror:
    """One run. Its store's thread feeds it, and any thread reads it."""

    def __init__(
        self,
        id: int,
        incarnation: str,
        left: Left,
        options: EngineOptions,
        on_use: Callable[["Mirror"], None],
    ) -> None:
        """`on_use` is called when it must be kept up to date from now on, in any thread."""
        self.id = id
        self.incarnation = incarnation
        """Of the process that executes the run, as far as is known."""
        self.spec = left.spec
        self.log = EventLog(
            options.max_log_bytes,
            options.max_log_records,
            UNBOUNDED,
            lambda: None,
            after_sequence=0 if left.base is None else left.base.last_sequence,
        )
        self.log.take(left.records)
        self.question = 0
        self._options = options
        self._on_use = on_use
        self._changed = threading.Condition()
        self._left = left
        self._ended: EndedRun | None = None
        self._decided = ""
        self._callbacks: list[Callable[[], None]] = []
        self._readers = 0
        self._watchers = 0
        self._expected_until = 0.0

    @property
    def is_used(self) -> bool:
        """Whether anybody needs it kept up to date."""
        return self._ended is None and bool(self._readers or self._callbacks or self.is_watched)

    @property
    def is_watched(self) -> bool:
        """Whether anybody watches whose leaving means something to the run, or is about to come
        back."""
        return bool(self._watchers) or time.monotonic() < self._expected_until

    # --- readers

    @property
    def reserved(self) -> int:
        """Events up to this number may have been shown by the run's owner."""
        return self._left.reserved

    @property
    def ended(self) -> EndedRun | None:
        """The run, once it has ended."""
        return self._ended

    def snapshot(self) -> Run:
        """The run as its store has it."""
        with self._changed:
            if self._ended is not None:
                return self._ended.run
            return self._fold()

    def decided(self) -> str:
        """The digest of the decisions that continued it last."""
        return self._ended.decided if self._ended is not None else self._decided

    def come(self, *, is_guest: bool = False) -> None:
        """One more watches."""
        with self._changed:
            self._readers += 1
            self._watchers += not is_guest
        self._on_use(self)

    def leave(self, *, is_guest: bool = False, comes_back: bool = False) -> None:
        """One less does. `comes_back`: it counts as present for the time of a lease."""
        with self._changed:
            self._readers -= 1
            self._watchers -= not is_guest
            if comes_back and not is_guest:
                lease = self.spec.lease
                seconds = self._options.lease if lease is None else lease
                self._expected_until = time.monotonic() + seconds

    def on_end(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls back once when the run has ended; at once if it has."""
        with self._changed:
            waits = self._ended is None
            if waits:
                self._callbacks.append(callback)
        if waits:
            self._on_use(self)
        else:
            callback()
        return lambda: self._forget(callback)

    def wait_for(self, sequence: int, timeout: float) -> bool:
        """Blocks until the store has this event, or the run's end."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._ended is not None or self.log.last_sequence >= sequence, timeout
            )

    # --- the store

    def feed(self, left: Left, incarnation: str, question: int, decided: str) -> None:
        """The run goes on: `left.records` are those after the last ones; with a `left.base`, those
        after that, as the store has dropped what was between."""
        with self._changed:
            if self._ended is not None:
                return
            if left.base is None:
                waiting = [*self._left.records, *left.records]
                self._left = replace(left, records=waiting, base=self._left.base)
            else:
                self._left = left
            self.incarnation, self.question, self._decided = incarnation, question, decided
            if len(self._left.records) >= _FOLD_AT:
                self._fold()
            whole = self._without_holes(left.records) if left.base else left.records
            self.log.take(whole)
            self._changed.notify_all()

    def end(self, ended: EndedRun, records: Sequence[Record]) -> None:
        """The run has ended; `records` are those after the last ones, its end among them."""
        with self._changed:
            if self._ended is not None:
                return
            self._ended = ended
            self.log.take(self._without_holes(records), ends=True)
            callbacks, self._callbacks = self._callbacks, []
            self._changed.notify_all()
        for callback in callbacks:
            callback()

    # --- inside

    def _fold(self) -> Run:
        run = fold(self._left, self._options.max_ledger)
        self._left = replace(self._left, base=run, records=())
        return run

    def _without_holes(self, records: Sequence[Record]) -> list[Record]:
        whole, last = [], self.log.last_sequence
        for record in records:
            before = record.sequence - record.count
            if before > last:
                gap = Gap(last + 1, before)
                whole.append(Record(before, before - last, record.create_time, gap))
            whole.append(record)
            last = record.sequence
        return whole

    def _forget(self, callback: Callable[[], None]) -> None:
        with self._changed:
            if callback in self._callbacks:
                self._callbacks.remove(callback)
