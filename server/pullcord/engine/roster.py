"""The roster: which runs are new, have changed or have ended, found by looking again and again.

Looking, because what lists show changes all the time (usage does with each token), and because a
shared store has runs of other processes. What a caller is shown of it is not decided here, nor how
often to look.
"""

import hmac
import re
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pullcord.engine.directory import Directory
from pullcord.engine.live.live import Key, LiveRun
from pullcord.engine.ports import RunStore
from pullcord.run.record import Run, RunFilter
from pullcord.run.scope import EVERYBODY

MAX_CHANGES = 10_000
"""Changes that are kept: a watcher that is further behind is shown every live run anew."""
_MAX_ELSEWHERE = 10_000
_RECENT = 200
"""Ended runs of a shared store that are looked at for some that nobody saw live."""
_REMEMBERED = 20_000

_NONCE = 8
_SEALED = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Change:
    """A run as it was when somebody looked."""

    number: int
    run: Run


class Roster:
    """One engine's runs as lists show them. One thread at a time may `look`, any may read."""

    def __init__(self, directory: Directory, store: RunStore) -> None:
        self._directory = directory
        self._store = store
        self._sharing = store.sharing
        self._lock = threading.Lock()
        self._epoch, self._key = secrets.token_hex(4), secrets.token_bytes(32)
        self._number = 0
        self._changes: deque[Change] = deque(maxlen=MAX_CHANGES)
        self._live: dict[Key, Run] = {}
        self._marks: dict[Key, Any] = {}
        self._elsewhere: set[Key] = set()
        self._ended: OrderedDict[Key, None] = OrderedDict()
        self._is_first = True
        self._gone: deque[LiveRun] = deque(maxlen=MAX_CHANGES)

    @property
    def is_shared(self) -> bool:
        """Whether other processes have runs, too, so that a look asks the store."""
        return self._sharing is not None

    def open(self) -> None:
        """From now on nothing that ends here is missed."""
        self._directory.gone = self._gone

    def close(self) -> None:
        """Nobody looks any more."""
        if self._directory.gone is self._gone:
            self._directory.gone = None

    # --- reading

    def now(self) -> tuple[int, list[Run]]:
        """The number of the last change, and the runs that were live then, the oldest first."""
        with self._lock:
            return self._number, list(self._live.values())

    def since(self, number: int) -> list[Change] | None:
        """The changes after this one; None: some of them are not kept any more."""
        with self._lock:
            missing = self._number - number
            if not 0 <= missing <= len(self._changes):
                return None
            found: list[Change] = []
            for change in reversed(self._changes):
                if change.number <= number:
                    break
                found.append(change)
        found.reverse()
        return found

    # --- positions, which watchers keep: sealed, as the numbers tell how much others do

    def position(self, number: int) -> str:
        """The place at which a watcher goes on; another word each time."""
        nonce = secrets.token_bytes(_NONCE)
        return f"{self._epoch}.{nonce.hex()}{number ^ self._mask(nonce):016x}"

    def number_at(self, position: str) -> int | None:
        """The number that `position` has sealed; None: it is of another roster, or none."""
        epoch, _, sealed = position.partition(".")
        if epoch != self._epoch or _SEALED.fullmatch(sealed) is None:
            return None
        nonce, masked = bytes.fromhex(sealed[: 2 * _NONCE]), int(sealed[2 * _NONCE :], 16)
        return masked ^ self._mask(nonce)

    def _mask(self, nonce: bytes) -> int:
        return int.from_bytes(hmac.digest(self._key, nonce, "sha256")[:8])

    # --- looking

    def look(self, *, usage: bool, elsewhere: bool) -> None:
        """Finds what has changed. May block.

        Args:
            usage: whether a run counts as changed if only what it used has.
            elsewhere: whether to ask a shared store for runs of other processes.
        """
        found = list(self._here(usage))
        if elsewhere and self._sharing is not None:
            found += self._of_others()
        with self._lock:
            for run in found:
                key = run.scope, run.run_id
                if run.state.is_terminal:
                    self._live.pop(key, None)
                    self._marks.pop(key, None)
                    self._remember(key)
                else:
                    self._live[key] = run
                self._number += 1
                self._changes.append(Change(self._number, run))
        self._is_first = False

    def _here(self, usage: bool) -> Iterator[Run]:
        for live in self._directory.all_here():
            if live.ending.is_held or live.state.is_terminal:
                continue  # it is shown once it is gone from here
            before = self._marks.get(live.key)
            mark = self._mark(live, before, usage)
            if mark != before:
                run = live.snapshot(with_output=False)
                if not run.state.is_terminal:
                    self._marks[live.key] = mark
                    yield _brief(run)
        while self._gone:
            run = self._gone.popleft().snapshot(with_output=False)
            if run.state.is_terminal:
                yield _brief(run)

    @staticmethod
    def _mark(live: LiveRun, before: Any, usage: bool) -> Any:
        stop = live.cancellation
        used = live.machine.usage if usage or before is None else before[-1]
        return live.state, None if stop is None else (stop.mode, stop.accept_time), used

    def _of_others(self) -> Iterator[Run]:
        assert self._sharing is not None
        there = self._sharing.live(EVERYBODY, RunFilter(), None, _MAX_ELSEWHERE)
        keys: set[Key] = set()
        for run in there:
            key = run.scope, run.run_id
            keys.add(key)
            mark = run.state, run.cancellation, run.usage
            if mark != self._marks.get(key):
                self._marks[key] = mark
                yield _brief(run)
        for key in self._elsewhere - keys:
            if self._directory.here(*key) is None and key not in self._ended:
                ended = self._store.find(*key)
                if ended is not None:
                    yield _brief(ended.run)
                else:
                    self._forget(key)
        self._elsewhere = keys
        for run in reversed(self._store.page(EVERYBODY, RunFilter(), None, _RECENT)):
            key = run.scope, run.run_id
            if key in self._ended or key in keys or self._directory.here(*key) is not None:
                continue
            if self._is_first:
                self._remember(key)
            elif key not in self._live:
                yield _brief(run)

    def _forget(self, key: Key) -> None:
        with self._lock:
            self._live.pop(key, None)
        self._marks.pop(key, None)

    def _remember(self, key: Key) -> None:
        self._ended[key] = None
        if len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)


def _brief(run: Run) -> Run:
    """The run as lists show it: what can be long is left out."""
    return replace(run, input="", output="", output_data=None, tool_calls=(), parts=())
