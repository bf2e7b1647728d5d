"""The notices of a store in memory: what has ended here, and what is seen to wait.

Nothing here survives the process.
"""

import itertools
import logging
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from pullcord.engine.clock import Clock
from pullcord.engine.notices import Notice, Paused
from pullcord.run.record import Run
from pullcord.run.scope import Scope
from pullcord.run.state import RunState

_MOST = 10_000
"""Notices that wait. More: the oldest are dropped."""

_log = logging.getLogger("pullcord.store")


@dataclass(slots=True)
class _Row:
    notice: Notice
    due: float
    """Monotonic."""


class MemoryNotices:
    """Fills `Notices`. A pause is noted when a claim sees it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._rows: dict[int, _Row] = {}
        self._paused: Callable[[], Collection[Paused]] | None = None
        self._seen: dict[Paused, int] = {}

    def open(self, paused: Callable[[], Collection[Paused]]) -> None:
        """From now on notices are kept."""
        self._paused = paused

    def ended(self, scope: Scope, run: Run) -> None:
        """A run has ended. Quick."""
        if self._paused is not None and not run.parent_run_id:
            with self._lock:
                self._note(scope, run.run_id, run.runnable, run.state, 0)

    def erased(self, keys: Collection[tuple[str, str, str]]) -> None:
        """Runs were erased, by tenant, owner and run_id: nobody is notified of them."""
        with self._lock:
            gone = [n for n, row in self._rows.items() if _key(row.notice) in keys]
            for number in gone:
                del self._rows[number]

    def claim(self, most: int, lease: float) -> list[Notice]:
        """At most so many that are due, the oldest first."""
        if self._paused is None:
            return []
        paused = set(self._paused())
        now = self._clock.monotonic()
        claimed: list[Notice] = []
        with self._lock:
            for gone in self._seen.keys() - paused:
                del self._seen[gone]
            for one in sorted(paused - self._seen.keys(), key=lambda one: one.run_id):
                number = self._note(one.scope, one.run_id, "", RunState.PAUSED, one.question)
                self._seen[one] = number
            for row in self._rows.values():
                if len(claimed) == most:
                    break
                if row.due > now:
                    continue
                row.due = now + lease
                age = self._clock.time() - row.notice.note_time
                said = row.notice
                stands = (
                    not said.question or Paused(said.scope, said.run_id, said.question) in paused
                )
                claimed.append(replace(said, age=age, stands=stands))
        return claimed

    def settle(self, notice: Notice, again: float | None) -> None:
        """It is over, or due again."""
        with self._lock:
            if again is None:
                self._rows.pop(notice.number, None)
            elif (row := self._rows.get(notice.number)) is not None:
                row.notice = replace(row.notice, tries=notice.tries + 1)
                row.due = self._clock.monotonic() + again

    def pending(self) -> int:
        """How many are not settled."""
        return len(self._rows)

    def _note(
        self, scope: Scope, run_id: str, runnable: str, state: RunState, question: int
    ) -> int:
        if len(self._rows) >= _MOST:
            dropped = self._rows.pop(next(iter(self._rows))).notice
            _log.error("too many notices wait: that of run %s is dropped", dropped.run_id)
        number, now = next(self._numbers), self._clock.time()
        notice = Notice(number, scope, run_id, runnable, state, question, now, 0.0, 0, True)
        self._rows[number] = _Row(notice, self._clock.monotonic())
        return number


def _key(notice: Notice) -> tuple[str, str, str]:
    return (*notice.scope, notice.run_id)
