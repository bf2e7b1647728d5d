"""A store for tests that is asked what a durable one is, in memory, and remembers what it was told.

What it has of live runs stands in `rows`. It hangs and fails as its `HookedStore` is made to.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pullcord.engine.clock import Clock
from pullcord.engine.log.record import Record
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import (
    DEFAULT_TERMS,
    LOCAL,
    Admitted,
    AlreadyLive,
    CancelRequest,
    EndedRun,
    Entry,
    OnLost,
    Scope,
    Terms,
    Waiting,
    Written,
    unheard,
)
from pullcord.run.errors import StoreUnavailable
from pullcord.run.record import Run, RunSpec
from pullcord.stores.memory import MemoryStore
from pullcord.testing import HookedStore

RESERVED = 8


@dataclass
class Row:
    """What the store has of a run."""

    terms: Terms
    reserved: int = RESERVED
    records: list[Record] = field(default_factory=list)
    base: Run | None = None
    begun: bool = False

    @property
    def last(self) -> int:
        if self.records:
            return self.records[-1].sequence
        return 0 if self.base is None else self.base.last_sequence

    @property
    def text(self) -> str:
        """The content of the run's own runnable, as far as the store has it."""
        before = "" if self.base is None else self.base.output
        return before + "".join(r.text for r in self.records if r.is_content)


class DurableMemory(MemoryStore):
    """Answers as a durable store does, without a disk."""

    blocking = True
    durable = True

    def __init__(self, clock: Clock, options: EngineOptions) -> None:
        super().__init__(clock, options)
        self.rows: dict[str, Row] = {}
        self.left: list[Waiting] = []
        """What `recover` finds."""

    def admit(
        self, scope: Scope, spec: RunSpec, terms: Terms = DEFAULT_TERMS
    ) -> Admitted | AlreadyLive | EndedRun:
        answer = super().admit(scope, spec, terms)
        if isinstance(answer, Admitted):
            self.rows[spec.run_id] = Row(terms)
            return replace(answer, reserved=RESERVED)
        return answer

    def recover(self, on_lost: OnLost = unheard) -> Sequence[Waiting]:
        for waiting in self.left:
            self.admit(waiting.scope, waiting.spec, waiting.terms)
        return self.left

    def begin(self, scope: Scope, run_id: str) -> CancelRequest | None:
        self.rows[run_id].begun = True
        return super().begin(scope, run_id)

    def write(self, entries: Sequence[Entry]) -> list[Written | None]:
        with self._lock:
            return [self._write(entry) for entry in entries]

    def _write(self, entry: Entry) -> Written | None:
        run_id = entry.spec.run_id
        if entry.opens is not None and run_id not in self.rows:
            self.admit(entry.scope, entry.spec, entry.opens)
        live = self._live.get((entry.scope.tenant, entry.scope.owner, run_id))
        row = self.rows.get(run_id)
        if live is None or row is None:
            return None
        if entry.base is not None:
            row.base, row.records = entry.base, []
        if entry.after <= row.last:
            row.records += [r for r in entry.records if r.sequence > row.last]
            row.reserved = max(row.reserved, entry.reserve)
        return Written(row.last, row.reserved, live.stop)


class Door:
    """A store's hook that lets calls of some verbs through only while it is open, or fails them."""

    def __init__(self, within: DurableMemory) -> None:
        self.memory = within
        self.store = HookedStore(within)
        self.store.before = self._before
        self.asked: list[tuple[str, str]] = []
        """The verbs that were asked, each with the name of the asking thread."""
        self._changed = threading.Condition()
        self._shut: set[str] = set()
        self._failing: set[str] = set()

    def shut(self, *verbs: str) -> None:
        """Calls of these hang from now on."""
        with self._changed:
            self._shut.update(verbs)

    def fail(self, *verbs: str) -> None:
        """Calls of these are refused from now on."""
        with self._changed:
            self._failing.update(verbs)

    def open(self) -> None:
        """Every call is answered from now on."""
        with self._changed:
            self._shut.clear()
            self._failing.clear()
            self._changed.notify_all()

    def wait_asked(self, verb: str, times: int = 1) -> None:
        """Blocks until a verb was asked so often."""
        with self._changed:
            so = self._changed.wait_for(
                lambda: sum(name == verb for name, _ in self.asked) >= times, 30
            )
        assert so, f"{verb} was not asked {times} times: {self.asked}"

    def wait_for(self, is_so: Callable[[], object]) -> None:
        """Blocks until something is so that follows from what the store is asked."""
        for _ in range(30_000):
            if is_so():
                return
            threading.Event().wait(0.001)  # it is not told when what follows is done
        raise AssertionError("it never is so")

    def live(self, run_id: str) -> Row:
        return self.memory.rows[run_id]

    def stop(self, run_id: str, request: CancelRequest) -> object:
        """A stop that another process records."""
        return self.memory.request_stop(LOCAL, run_id, request, before_start=False)

    def _before(self, verb: str) -> None:
        with self._changed:
            self.asked.append((verb, threading.current_thread().name))
            self._changed.notify_all()
            self._changed.wait_for(lambda: verb not in self._shut, 60)
            if verb in self._failing:
                raise StoreUnavailable()
