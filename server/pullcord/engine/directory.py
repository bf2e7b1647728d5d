"""Finds runs: those that are live here, and those that the store keeps.

A caller that found a run holds it: the handle answers even if everybody else forgets the run. What
a run does is not decided here, nor who may start one.

1. A run that was admitted can be found until it expires: it leaves this directory only when its
   store has it.
2. What is live here is looked up first. That never waits for the store.
"""

import heapq
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from pullcord.engine.deciding import Decider
from pullcord.engine.elsewhere import ElsewhereHandle
from pullcord.engine.live.live import Key, LiveRun
from pullcord.engine.live.question import digest
from pullcord.engine.log.watch import Watcher
from pullcord.engine.notices import Paused
from pullcord.engine.paging import Page, age, make_token, read_token
from pullcord.engine.ports import CancelRequest, EndedRun, RunStore
from pullcord.engine.recording import Recorder, Recording
from pullcord.run.cancel import CancelOutcome
from pullcord.run.errors import InvalidArgument, RunNotFound, RunNotPaused, Violation
from pullcord.run.record import Decision, Receipt, Run, RunFilter
from pullcord.run.scope import Reach, Scope
from pullcord.run.state import RunState
from pullcord.run.usage import Usage

_LOOK = 0.25
"""Seconds between two looks whether what is live here can go on elsewhere."""


class RunHandle(Protocol):
    """One run, live or ended, also once it is forgotten elsewhere. Any thread may call."""

    def snapshot(self) -> Run:
        """The run as it is now."""

    def usage(self) -> Usage:
        """The run's usage so far; cheaper than all of it."""

    def watch(self, after_sequence: int = 0, *, is_guest: bool = False) -> Watcher:
        """A new watcher. A guest may not stop the run: its coming and leaving mean nothing.

        Raises:
            InvalidArgument: the run has not made so many events.
            RunNotFound: it had ended when it was found, and its events have been forgotten.
        """

    def on_end(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls back once, in any thread, when the run has ended; returns the unsubscribe call."""

    def cancel(self, request: CancelRequest) -> Receipt:
        """Stops the run, unless it has ended. Never waits; see `recording`."""

    def recording(self) -> Recording | None:
        """Has a stop recorded that was delivered by `cancel`: its receipt must not be answered
        before. None: it may be."""

    def receipt(self) -> Receipt:
        """The receipt that a cancel would get now; asks for nothing."""

    def question(self) -> str:
        """The words of the question that the run waits with; empty: it does not wait."""

    def decide(self, decisions: Sequence[Decision], actor: str) -> Run:
        """Continues a paused run. Raises RunNotPaused, InvalidArgument."""


class LiveHandle:
    """A run that was live when it was found. Only `decide` waits for a store, if that outlives the
    process."""

    def __init__(self, live: LiveRun, recorder: Recorder | None, decider: Decider | None) -> None:
        self._live = live
        self._recorder = recorder
        self.snapshot = live.snapshot
        self.cancel = live.cancel
        self.receipt = live.receipt
        self.decide = live.decide if decider is None else partial(decider.decide, live)

    def usage(self) -> Usage:
        """The run's usage so far."""
        return self._live.machine.usage

    def question(self) -> str:
        """The words of the question that stands."""
        asked = self._live.machine.question
        return "" if asked is None else asked.words

    def recording(self) -> Recording | None:
        """Has a delivered stop recorded."""
        return None if self._recorder is None else self._recorder.record(self._live)

    def watch(self, after_sequence: int = 0, *, is_guest: bool = False) -> Watcher:
        """A new watcher."""
        _check_after(after_sequence, self._live.log.last_shown())
        return self._live.watch(after_sequence, is_guest=is_guest)

    def on_end(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls back once, in any thread, when the run has ended."""
        self._live.ending.call_back(callback)
        return lambda: self._live.ending.forget(callback)


class EndedHandle:
    """A run that had ended when it was found. Only `watch` asks the store again."""

    def __init__(self, scope: Scope, ended: EndedRun, store: RunStore) -> None:
        self._scope = scope
        self._ended = ended
        self._store = store

    def snapshot(self) -> Run:
        """The run as it ended."""
        return self._ended.run

    def usage(self) -> Usage:
        """The run's usage."""
        return self._ended.run.usage

    def watch(self, after_sequence: int = 0, *, is_guest: bool = False) -> Watcher:
        """A new watcher."""
        run = self._ended.run
        kept = self._store.log(self._scope, run.run_id)
        if kept is None:
            raise RunNotFound(run.run_id)
        _check_after(after_sequence, run.last_sequence)
        return Watcher(run.run_id, kept[1], after_sequence, self.snapshot, _nothing)

    def on_end(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls back now."""
        callback()
        return _nothing

    def cancel(self, request: CancelRequest) -> Receipt:
        """Changes nothing."""
        return self.receipt()

    def recording(self) -> Recording | None:
        """None: the end stands in the store."""
        return None

    def question(self) -> str:
        """Empty: it waits no more."""
        return ""

    def receipt(self) -> Receipt:
        """The receipt of a cancel after the end."""
        run = self._ended.run
        cancelled = run.cancellation is not None and run.state == "cancelled"
        outcome = CancelOutcome.STOPPED if cancelled else CancelOutcome.ALREADY_FINISHED
        accepted = run.cancellation.accept_time if run.cancellation else 0.0
        return Receipt(outcome, run, accepted, self._ended.deliver_time, run.end_time)

    def decide(self, decisions: Sequence[Decision], actor: str) -> Run:
        """Raises RunNotPaused, which says whether these decisions were made."""
        run = self._ended.run
        raise RunNotPaused(run.run_id, run.state, self._ended.decided == digest(decisions))


class Directory:
    """The runs of one engine. Any thread may call."""

    def __init__(
        self,
        store: RunStore,
        recorder: Recorder | None = None,
        decider: Decider | None = None,
    ) -> None:
        """A durable store has a `recorder` and a `decider`."""
        self._decider = decider
        self._store = store
        self._sharing = store.sharing
        self._recorder = recorder
        self._changed = threading.Condition()
        self._live: dict[Key, LiveRun] = {}
        self._scopes: Counter[Scope] = Counter()  # of live runs
        self._deciding: set[Key] = set()
        self.gone: deque[LiveRun] | None = None
        """Gets every run that leaves this directory, if somebody wants to know."""

    # --- what is live here

    def here(self, scope: Scope, run_id: str) -> LiveRun | None:
        """The live run of this id, if it is here."""
        return self._live.get((scope, run_id))

    def all_here(self) -> list[LiveRun]:
        """The live runs that are here, the oldest first."""
        with self._changed:
            return list(self._live.values())

    def paused_here(self) -> list[Paused]:
        """The live runs here that wait for a decision."""
        return [
            Paused(live.scope, live.run_id, asked.sequence)
            for live in self.all_here()
            if live.state is RunState.PAUSED and (asked := live.machine.question) is not None
        ]

    def add(self, live: LiveRun) -> None:
        """The run can be found from now on."""
        with self._changed:
            self._live[live.key] = live
            self._scopes[live.scope] += 1

    def remove(self, live: LiveRun) -> None:
        """The run is found in its store, or it was refused."""
        with self._changed:
            if self._live.pop(live.key, None) is not None:
                self._scopes[live.scope] -= 1
                if not self._scopes[live.scope]:
                    del self._scopes[live.scope]
                if self.gone is not None:
                    self.gone.append(live)
            if not self._live:
                self._changed.notify_all()

    def wait_idle(self, timeout: float | None, *, but: Callable[[LiveRun], bool]) -> bool:
        """Blocks until no run is live here `but` those; False if that took longer than `timeout`
        seconds."""
        ends = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._changed:  # a run that pauses says nothing here
                if self._changed.wait_for(lambda: not self._live, _waits(ends)):
                    return True
            if all(map(but, self.all_here())):
                return True
            if ends is not None and time.monotonic() >= ends:
                return False

    @contextmanager
    def deciding(self, scope: Scope, run_id: str) -> Iterator[None]:
        """One caller at a time decides whether the run of this id is here, or asks its store.

        Without this a twin, or the run of an early cancel, could come and go between the two looks.
        """
        key = (scope, run_id)
        with self._changed:
            self._changed.wait_for(lambda: key not in self._deciding)
            self._deciding.add(key)
        try:
            yield
        finally:
            with self._changed:
                self._deciding.discard(key)
                self._changed.notify_all()

    # --- what is live here or ended

    def find_here(self, scope: Scope, run_id: str) -> RunHandle | None:
        """The run, if it is live here. Never waits."""
        live = self._live.get((scope, run_id))
        return None if live is None else self.handle(live)

    def find(self, scope: Scope, run_id: str) -> RunHandle:
        """The run, wherever it is. Raises RunNotFound."""
        here = self.find_here(scope, run_id)
        if here is not None:
            return here
        for _ in range(2):  # it may end between the two looks
            ended = self._store.find(scope, run_id)
            if ended is not None:
                return self.ended(scope, ended)
            if (elsewhere := self.elsewhere(scope, run_id)) is not None:
                return elsewhere
            if self._sharing is None:
                break
        raise RunNotFound(run_id)

    def elsewhere(self, scope: Scope, run_id: str) -> RunHandle | None:
        """The live run of this id that another process executes."""
        if self._sharing is None:
            return None
        found = self._sharing.elsewhere(scope, run_id)
        if found is None:
            return None
        cancel = partial(self.stop_elsewhere, scope, run_id)

        def look() -> Run:
            return self.find(scope, run_id).snapshot()

        return ElsewhereHandle(scope, found, self._sharing, cancel, look)

    def handle(self, live: LiveRun) -> RunHandle:
        """The handle of a live run."""
        return LiveHandle(live, self._recorder, self._decider)

    def stop_elsewhere(
        self,
        scope: Scope,
        run_id: str,
        request: CancelRequest,
        *,
        before_start: bool = False,
        most_early: int | None = None,
    ) -> Receipt:
        """Records a stop for a run that is not here. Raises as `Engine.cancel` does."""
        answer = self._store.request_stop(
            scope, run_id, request, before_start=before_start, most_early=most_early
        )
        if answer is None:
            raise RunNotFound(run_id)
        if isinstance(answer, EndedRun):
            return self.ended(scope, answer).receipt()
        outcome = CancelOutcome.RECORDED if answer.before_start else CancelOutcome.REQUESTED
        return Receipt(outcome, answer.run, answer.request.cancellation.accept_time)

    def ended(self, scope: Scope, ended: EndedRun) -> RunHandle:
        """The handle of a run that a store returned."""
        return EndedHandle(scope, ended, self._store)

    def owners(self, reach: Reach, run_id: str) -> list[Scope]:
        """The scopes within reach that have a run of this id, in order."""
        with self._changed:
            scopes = list(self._scopes)
        here = {s for s in scopes if reach.covers(s) and (s, run_id) in self._live}
        return sorted(here.union(self._store.owners(reach, run_id)))

    def page(self, reach: Reach, matching: RunFilter, size: int, token: str = "") -> Page:
        """At most `size` runs within reach, the newest first, live ones without their output.

        Raises:
            InvalidArgument: the token is not of a page of this list.
        """
        before = read_token(token, reach, matching) if token else None
        live: list[Run] = []
        if self._sharing is not None:
            live = self._sharing.live(reach, matching, before, size + 1)
        # In this order no run is missed that moves from one place to the other meanwhile.
        here = [
            live.snapshot(with_output=False) for live in self.all_here() if reach.covers(live.scope)
        ]
        runs = {(run.scope, run.run_id): run for run in live}
        runs |= {
            (run.scope, run.run_id): run
            for run in here
            if matching.matches(run) and (before is None or age(run) < before)
        }
        ended = self._store.page(reach, matching, before, size + 1)
        runs |= {(run.scope, run.run_id): run for run in ended}
        found = heapq.nlargest(size + 1, runs.values(), key=age)
        page = found[:size]
        return Page(page, make_token(page[-1], reach, matching) if len(found) > size else "")


def _waits(ends: float | None) -> float:
    return _LOOK if ends is None else max(0.0, min(_LOOK, ends - time.monotonic()))


def _check_after(after_sequence: int, last: int) -> None:
    if not 0 <= after_sequence <= last:
        raise InvalidArgument(Violation("after_sequence", f"the run has made {last} events so far"))


def _nothing(*, comes_back: bool = False) -> None:
    pass
