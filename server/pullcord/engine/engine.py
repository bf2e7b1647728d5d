"""The engine: admits runs, finds them again, cancels them, and drains.

This is what transports and in-process programs call. Each call is short and may come from any
thread; what a run does is in `live`, how its code is called in `execution`.
"""

import asyncio
import contextvars
import heapq
import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pullcord.engine.clock import Clock
from pullcord.engine.live.child import ChildHandle
from pullcord.engine.live.live import LiveRun
from pullcord.engine.live.port import LivePort
from pullcord.engine.live.question import digest
from pullcord.engine.log.watch import Watcher
from pullcord.engine.options import EngineOptions
from pullcord.engine.paging import Page, age, make_token, read_token
from pullcord.engine.ports import (
    LOCAL,
    Admitted,
    AlreadyLive,
    CancelRequest,
    EndedRun,
    Executor,
    Finish,
    Observer,
    Recorded,
    RunStore,
)
from pullcord.engine.sessions import Sessions
from pullcord.run.cancel import CancelCause, Cancellation, CancelMode, CancelOutcome
from pullcord.run.context import Child
from pullcord.run.errors import (
    Draining,
    InvalidArgument,
    PullcordError,
    RunCancelledError,
    RunExists,
    RunNotFound,
    RunNotPaused,
    ServerBusy,
    StoreUnavailable,
    TooManyAffected,
    Violation,
)
from pullcord.run.events import Source
from pullcord.run.record import (
    Decision,
    DisconnectPolicy,
    Receipt,
    Run,
    RunFilter,
    RunSpec,
    SessionPolicy,
    decision_violations,
)
from pullcord.run.runnable import Runnable, RunnableInfo
from pullcord.run.usage import Usage

_log = logging.getLogger("pullcord.engine")

_FIRST_RETRY, _LONGEST_RETRY = 0.5, 30.0
"""Seconds until an ended run is offered again to a store that did not take it."""


_MAX_HISTORY = 1000
"""Runs of its session that a run can read, the last ones. No model takes more."""


@dataclass(frozen=True, slots=True)
class Remains:
    """What an engine holds. All zero once every run has ended and expired, and all have left."""

    live: int
    """Runs here that have not ended, or whose store does not have them yet."""
    claims: int
    """Runs that the store takes for live."""
    tombstones: int
    """Cancels that wait for a run."""
    ended: int
    """Ended runs that are kept."""
    sessions: int
    """Sessions with a live run."""
    watchers: int
    """Watchers of live runs."""
    timers: int
    """Timers that will fire; one of them is the store's, while it keeps anything that expires."""


class Engine:
    """Runs of one process. Close it; closing cancels what is left, cause SHUTDOWN."""

    def __init__(
        self,
        *,
        options: EngineOptions,
        clock: Clock,
        store: RunStore,
        observer: Observer,
        executor: Executor,
    ) -> None:
        self.options = options
        self.blocking = store.blocking
        """Whether calls may wait for a network, so that an event loop must not make them."""
        self._clock = clock
        self._store = store
        self._observer = observer
        self._executor = executor
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._live: dict[str, LiveRun] = {}
        self._starting: set[str] = set()  # ids a caller gave, while it is seen whether they run
        self._sessions = Sessions()
        self._occupied = 0  # live runs and abandoned ones that are still at work
        self._draining = False

    # --- starting

    def start(
        self,
        runnable: Runnable,
        spec: RunSpec,
        *,
        default_policy: DisconnectPolicy = DisconnectPolicy.CONTINUE,
        deadline: float | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        parent_run_id: str = "",
    ) -> Run:
        """Admits a run, or finds the one that this spec has started already.

        `default_policy` holds where the spec says none. `deadline` is in seconds from now: the run
        ends a little before, cause DEADLINE. With `loop`, async code runs there instead of on a
        run loop of the engine's. With `parent_run_id` it is a child of that run: whatever stops
        that stops this, and what this uses counts there.

        Raises:
            RunCancelledError: the parent has ended.
            InvalidArgument, RunExists, ServerBusy, SessionBusy, Draining, StoreUnavailable.
        """
        try:
            parent = self._live.get(parent_run_id)
            if parent_run_id and parent is None:
                raise RunCancelledError(f"run {parent_run_id} has ended: it starts nothing more")
            start = partial(self._admit, runnable, default_policy, deadline, loop, parent)
            return self._start(spec, start)
        except PullcordError as error:
            self._observer.run_refused(type(error).__name__)
            raise

    def _start(self, spec: RunSpec, admit: Callable[[RunSpec], Run]) -> Run:
        spec.check(self.options.max_input_bytes)
        if not spec.run_id:
            return admit(replace(spec, run_id=str(uuid.uuid4())))
        with self._deciding(spec.run_id):
            live = self._live.get(spec.run_id)
            return admit(spec) if live is None else self._same(live.spec, spec, live.snapshot)

    @contextmanager
    def _deciding(self, run_id: str) -> Iterator[None]:
        """One start or cancel of a run_id at a time decides whether that run is here."""
        with self._idle:
            self._idle.wait_for(lambda: run_id not in self._starting)
            self._starting.add(run_id)
        try:
            yield
        finally:
            with self._idle:
                self._starting.discard(run_id)
                self._idle.notify_all()

    def _admit(
        self,
        runnable: Runnable,
        default_policy: DisconnectPolicy,
        deadline: float | None,
        loop: asyncio.AbstractEventLoop | None,
        parent: LiveRun | None,
        spec: RunSpec,
    ) -> Run:
        live = self._live_run(spec, spec.on_disconnect or default_policy, parent)
        try:
            self._occupy(beneath=parent is not None)
        except PullcordError:
            ended = self._store.find(LOCAL, spec.run_id)
            if ended is None:
                raise
            return self._same(ended.spec, spec, lambda: ended.run)
        try:
            came_before = self._claim(live)
        except BaseException:
            self._release()
            raise
        if isinstance(came_before, EndedRun):
            self._release()
            return came_before.run
        try:
            if came_before is not None:
                live.cancel(CancelRequest(came_before))
            if live.state.is_terminal:  # so, or by somebody who has found it already
                self._release()
                run = live.snapshot()
                self._observer.run_started(run)
                return run
            if deadline is not None:
                live.stop_at(self._clock.monotonic() + deadline, margin(deadline))
            self._execute_in_turn(live, runnable, loop)
        except BaseException as error:
            self._forget(live, error)
            raise
        live.presence.start_lease()
        run = live.snapshot()
        self._observer.run_started(run)
        return run

    def _occupy(self, *, beneath: bool) -> None:
        with self._lock:
            if not beneath and self._draining:
                raise Draining()
            if not beneath and self._occupied >= self.options.max_live_runs:
                raise ServerBusy(f"{self.options.max_live_runs} runs are live")
            self._occupied += 1

    def _claim(self, live: LiveRun) -> Cancellation | EndedRun | None:
        """Makes a run live, in the store and here; returns what came before it, if anything."""
        answer = self._store.admit(LOCAL, live.spec)
        if isinstance(answer, AlreadyLive):
            raise StoreUnavailable(f"run {live.run_id!r} is live in another process")
        if not isinstance(answer, Admitted):
            return answer
        try:
            live.announce(lambda: self._enter(live))
        except BaseException:
            self._store.withdraw(LOCAL, live.run_id)
            raise
        return answer.cancellation

    def _enter(self, live: LiveRun) -> None:
        """From now on the run can be found."""
        if live.lineage.source is None:  # else the turn is its root's
            self._sessions.enter(live)
        with self._lock:
            self._live[live.run_id] = live

    def _execute_in_turn(
        self, live: LiveRun, runnable: Runnable, loop: asyncio.AbstractEventLoop | None
    ) -> None:
        """Executes a run as soon as its session lets it. Raises only where nothing was changed."""
        superseded = self._supersede(live)
        context = contextvars.copy_context()  # its own, not that of the run whose end begins it

        def begin() -> None:
            try:
                if loop is not None and loop.is_closed():
                    raise RuntimeError("the event loop that was to run it is closed")
                context.run(self._execute, live, runnable, loop)
            except Exception as error:
                live.fail(error)
                self._release()

        if not self._sessions.is_turn(live, begin):
            return
        if superseded:
            begin()
        else:
            self._execute(live, runnable, loop)

    def _supersede(self, live: LiveRun) -> bool:
        """Stops the runs whose place this one takes; whether there were any."""
        if live.spec.session_policy is not SessionPolicy.SUPERSEDE:
            return False
        reason = f"run {live.run_id} took its place in the session"
        stop = CancelRequest(Cancellation(CancelCause.SUPERSEDED, reason=reason))
        earlier = self._sessions.supersede(live)
        for run in earlier:
            run.cancel(stop)
        return bool(earlier)

    def _live_run(
        self,
        spec: RunSpec,
        policy: DisconnectPolicy,
        parent: LiveRun | None = None,
        source: Source | None = None,
    ) -> LiveRun:
        return LiveRun(
            spec,
            options=self.options,
            clock=self._clock,
            policy=policy,
            on_end=self._run_ended,
            on_abandon=self._run_abandoned,
            parent=parent,
            source=source,
        )

    def _execute(
        self, live: LiveRun, runnable: Runnable, loop: asyncio.AbstractEventLoop | None
    ) -> None:
        self._executor.start(self._port(live), runnable, self, loop=loop)

    def _port(self, live: LiveRun) -> LivePort:
        """What an executor that is given this run is given of it."""
        spec = live.spec
        return LivePort(
            live,
            start_child=self._start_child,
            history=lambda: (
                self._store.history(LOCAL, spec.session_id, spec.runnable, _MAX_HISTORY)
                if spec.session_id
                else []
            ),
            on_release=self._release,
        )

    def _start_child(
        self,
        parent: LiveRun,
        runnable: Runnable,
        info: RunnableInfo,
        input: str,
        data: Mapping[str, Any] | None,
        path: tuple[str, ...],
    ) -> Child:
        """Starts a run beneath another: in a server that drains, too, for its parent is live."""
        above = parent.spec
        spec = RunSpec(
            info.name,
            input,
            data,
            run_id=str(uuid.uuid4()),
            session_id=above.session_id,
            user_id=above.user_id,
        )
        spec.check(self.options.max_input_bytes)
        _, _, name = above.runnable.partition("/")
        whole_path = (name, *path, info.id)
        source = Source(info.kind, info.id, info.display_name, spec.run_id, whole_path)
        live = self._live_run(spec, DisconnectPolicy.CONTINUE, parent, source)
        self._occupy(beneath=True)
        try:
            live.announce(lambda: self._enter(live))
        except BaseException:
            self._release()
            raise
        try:
            beside = parent.execution
            loop = beside.loop if beside is not None else None
            self._executor.start(self._port(live), runnable, self, loop=loop, parent=beside)
        except BaseException as error:
            self._forget(live, error)
            raise
        self._observer.run_started(live.snapshot(with_output=False))
        return ChildHandle(live, parent)

    @staticmethod
    def _same(existing: RunSpec, asked: RunSpec, run: Callable[[], Run]) -> Run:
        if existing != asked:
            raise RunExists(asked.run_id)
        return run()

    # --- looking

    def owns_loop(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether this is a run loop of the engine's, which nobody may block to wait for a run."""
        return self._executor.owns_loop(loop)

    def get(self, run_id: str) -> Run:
        """A run as it is now. Raises RunNotFound."""
        live = self._live.get(run_id)
        return live.snapshot() if live is not None else self._finished(run_id).run

    def usage(self, run_id: str) -> Usage:
        """What a run has used so far; cheaper than all of it. Raises RunNotFound."""
        live = self._live.get(run_id)
        return live.machine.usage if live is not None else self._finished(run_id).run.usage

    def watch(self, run_id: str, after_sequence: int = 0) -> Watcher:
        """A new watcher of a run, live or ended.

        Raises:
            RunNotFound, or InvalidArgument where the run has not made so many events.
        """
        live = self._live.get(run_id)
        if live is not None:
            _check_after(after_sequence, live.log.seal())
            return live.watch(after_sequence)
        kept = self._store.log(LOCAL, run_id)
        if kept is None:
            raise RunNotFound(run_id)
        ended, log = kept
        _check_after(after_sequence, ended.run.last_sequence)
        return Watcher(run_id, log, after_sequence, lambda: ended.run, _nothing)

    def on_end(self, run_id: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls back once, in any thread, when the run has ended; returns the way out.

        Raises:
            RunNotFound: there is no such run.
        """
        live = self._live.get(run_id)
        if live is None:
            self._finished(run_id)
            callback()
            return _nothing
        live.on_end(callback)
        return lambda: live.forget_end(callback)

    def list_page(self, matching: RunFilter, size: int, token: str = "") -> Page:
        """At most `size` runs, the newest first, live ones without their output.

        `token` is the `next_page_token` of the page before, with the same filter.

        Raises:
            InvalidArgument: the token is not of such a page.
        """
        before = read_token(token, matching) if token else None
        # In this order no run is missed that moves from one place to the other meanwhile.
        lively = [live.snapshot(with_output=False) for live in self._all_live()]
        runs = {
            run.run_id: run
            for run in lively
            if matching.matches(run) and (before is None or age(run) < before)
        }
        runs |= {r.run_id: r for r in self._store.page(LOCAL, matching, before, size + 1)}
        found = heapq.nlargest(size + 1, runs.values(), key=age)
        page = found[:size]
        return Page(page, make_token(page[-1], matching) if len(found) > size else "")

    # --- going on

    def continue_run(self, run_id: str, decisions: Sequence[Decision], actor: str = "") -> Run:
        """Brings a paused run the decision on every call that waits; the run as it then is.

        Raises:
            RunNotFound, InvalidArgument, or RunNotPaused where it does not wait (any longer).
        """
        wrong = decision_violations(decisions, self.options.max_input_bytes)
        if wrong:
            raise InvalidArgument(*wrong)
        live = self._live.get(run_id)
        if live is not None:
            return live.decide(decisions, actor)
        finished = self._finished(run_id)
        raise RunNotPaused(run_id, finished.run.state, finished.decided == digest(decisions))

    # --- stopping

    def cancel(self, run_id: str, request: CancelRequest, *, before_start: bool = False) -> Receipt:
        """Stops a run, wherever it is in its life; the receipt says what is true on return.

        Raises:
            RunNotFound: there is none, and `before_start` is not set.
            ServerBusy: `before_start`, and too many cancels wait already.
        """
        request = replace(
            request, cancellation=replace(request.cancellation, accept_time=self._clock.time())
        )
        live = self._live.get(run_id)
        if live is not None:
            return live.cancel(request)
        with self._deciding(run_id):
            live = self._live.get(run_id)
            if live is None:
                answer = self._store.request_stop(LOCAL, run_id, request, before_start=before_start)
        if live is not None:
            return live.cancel(request)
        if answer is None:
            raise RunNotFound(run_id)
        if isinstance(answer, EndedRun):
            return _late_receipt(answer)
        return _receipt_of(answer)

    def receipt(self, run_id: str) -> Receipt:
        """What a canceller can be told now, without asking for anything. Raises RunNotFound."""
        live = self._live.get(run_id)
        return live.receipt() if live is not None else _late_receipt(self._finished(run_id))

    def cancel_many(
        self,
        matching: RunFilter,
        request: CancelRequest,
        *,
        validate_only: bool = False,
        max_affected: int = 1000,
    ) -> list[tuple[str, CancelOutcome | None]]:
        """Stops every live run that matches; run ids, the newest first, with what was achieved.

        Raises:
            TooManyAffected: more match than `max_affected`; nothing was stopped.
        """
        found = self._all_live()
        depths = {live.run_id: live.lineage.depth for live in found}
        runs = [live.snapshot(with_output=False) for live in found]
        runs = sorted(
            (r for r in runs if not r.state.is_terminal and matching.matches(r)),
            key=age,
            reverse=True,
        )
        if len(runs) > max_affected:
            raise TooManyAffected(len(runs), max_affected)
        if validate_only:
            return [(run.run_id, None) for run in runs]
        # From above, so that no run is told that one beneath it was stopped, and goes on.
        outcomes = {
            run.run_id: self._cancel_one(run.run_id, request)
            for run in sorted(runs, key=lambda run: depths[run.run_id])
        }
        return [(run.run_id, outcomes[run.run_id]) for run in runs]

    def _cancel_one(self, run_id: str, request: CancelRequest) -> CancelOutcome:
        try:
            return self.cancel(run_id, request).outcome
        except RunNotFound:  # it has ended meanwhile, and has been forgotten already
            return CancelOutcome.ALREADY_FINISHED

    # --- the end of the process

    def remains(self) -> Remains:
        """What the engine holds now."""
        live, kept = self._all_live(), self._store.size()
        return Remains(
            live=len(live),
            claims=kept.live,
            tombstones=kept.tombstones,
            ended=kept.ended,
            sessions=len(self._sessions),
            watchers=sum(run.presence.watchers for run in live),
            timers=self._clock.pending(),
        )

    @property
    def occupied(self) -> int:
        """Runs that hold capacity: live ones, and abandoned ones still at work."""
        return self._occupied

    def drain(self) -> None:
        """Takes no new runs from now on; everything else goes on."""
        with self._lock:
            self._draining = True

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Blocks until no run is live; False if that took longer than `timeout` seconds."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._live, timeout)

    def shut_down_runs(self, mode: CancelMode, grace_period: float | None = None) -> None:
        """Cancels every live run with cause SHUTDOWN."""
        cancellation = Cancellation(
            CancelCause.SHUTDOWN, reason="the server is stopping", mode=mode
        )
        request = CancelRequest(cancellation, grace_period)
        # First those that wait for their turn, which the end of another would else begin.
        for live in [*self._sessions.waiting(), *self._all_live()]:
            live.cancel(request)

    def close(self) -> None:
        """Ends every run, at once, and every thread that can be ended."""
        self.drain()
        self.shut_down_runs(CancelMode.IMMEDIATE)
        self.wait_idle(self.options.abandon_after + 1.0)
        self._executor.close()
        self._clock.close()

    # --- inside

    def _finished(self, run_id: str) -> EndedRun:
        finished = self._store.find(LOCAL, run_id)
        if finished is None:
            raise RunNotFound(run_id)
        return finished

    def _all_live(self) -> list[LiveRun]:
        with self._lock:
            return list(self._live.values())

    def _run_ended(self, live: LiveRun, retry: float = _FIRST_RETRY) -> None:
        run = live.snapshot()
        # In this order a run can always be found, in one place or in both.
        try:
            deliver_time, decided = live.machine.deliver_time, live.machine.decided
            ended = EndedRun(live.spec, run, deliver_time, decided)
            self._store.finish([Finish(LOCAL, ended, live.log)])
        except Exception:
            _log.exception("the store did not take run %s", live.run_id)
            if self._clock.time() < run.expire_time:  # kept here, and offered again
                longer = min(2 * retry, _LONGEST_RETRY)
                self._clock.call_later(retry, lambda: self._run_ended(live, longer))
                return
        with self._idle:
            self._live.pop(live.run_id, None)
            if not self._live:
                self._idle.notify_all()
        self._observer.run_ended(run)
        # Last, because it begins the next run of the session, which is to find this one.
        if self._sessions.leave(live):
            self._release()  # no code of its own will: it was stopped while it waited

    def _release(self) -> None:
        with self._lock:
            self._occupied -= 1

    def _forget(self, live: LiveRun, error: BaseException) -> None:
        """A run that was refused after all."""
        live.refuse(error)
        self._store.withdraw(LOCAL, live.run_id)
        with self._idle:
            self._live.pop(live.run_id, None)
            self._occupied -= 1
            self._idle.notify_all()
        self._sessions.leave(live)

    def _run_abandoned(self, live: LiveRun, stack: str) -> None:
        self._observer.run_abandoned(live.snapshot(with_output=False), stack)


def margin(deadline: float) -> float:
    """How long before a caller's deadline, that many seconds from now, its run is stopped.

    A tenth of the time, at least 0.15 s and at most 2 s, and never more than half: enough to stop,
    and for the terminal event to travel.
    """
    return min(deadline / 2, max(0.15, min(2.0, deadline / 10)))


def _check_after(after_sequence: int, last: int) -> None:
    if not 0 <= after_sequence <= last:
        raise InvalidArgument(Violation("after_sequence", f"the run has made {last} events so far"))


def _late_receipt(finished: EndedRun) -> Receipt:
    run = finished.run
    cancelled = run.cancellation is not None and run.state == "cancelled"
    outcome = CancelOutcome.STOPPED if cancelled else CancelOutcome.ALREADY_FINISHED
    accepted = run.cancellation.accept_time if run.cancellation else 0.0
    return Receipt(outcome, run, accepted, finished.deliver_time, run.end_time)


def _receipt_of(stop: Recorded) -> Receipt:
    outcome = CancelOutcome.RECORDED if stop.before_start else CancelOutcome.REQUESTED
    return Receipt(outcome, accept_time=stop.request.cancellation.accept_time)


def _nothing() -> None:
    pass
