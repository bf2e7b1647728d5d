"""The engine: what transports and in-process programs call to start, find and stop runs.

A face of its parts, which share nothing but what is passed to them here. Each call is short and may
come from any thread. What a run does is the live run's business; how its code is executed, the
executor's.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from pullcord.engine.admission import Admission
from pullcord.engine.cancels import Cancels
from pullcord.engine.carrying import Carrying
from pullcord.engine.clock import Clock
from pullcord.engine.deciding import Decider
from pullcord.engine.directory import Directory, RunHandle
from pullcord.engine.journal import Journal
from pullcord.engine.live_runs import LiveRuns
from pullcord.engine.log.watch import Watcher
from pullcord.engine.notices import Notices
from pullcord.engine.options import EngineOptions
from pullcord.engine.paging import Page
from pullcord.engine.ports import CancelRequest, Executor, Observer, RunStore
from pullcord.engine.recording import Recorder
from pullcord.engine.replicas import Replicas
from pullcord.engine.roster import Roster
from pullcord.engine.shares import Spent, TakeShare, no_share
from pullcord.engine.start import Start
from pullcord.engine.within import Within
from pullcord.run.cancel import CancelMode
from pullcord.run.errors import InvalidArgument, StoreUnavailable
from pullcord.run.place import Runs
from pullcord.run.record import (
    CancelResult,
    Decision,
    DisconnectPolicy,
    Erased,
    Receipt,
    Run,
    RunFilter,
    RunSpec,
    decision_violations,
)
from pullcord.run.runnable import Runnable
from pullcord.run.scope import EVERYBODY, LOCAL, Reach, Scope
from pullcord.run.state import RunState
from pullcord.run.usage import Usage

_log = logging.getLogger("pullcord.engine")


@dataclass(frozen=True, slots=True)
class Remains:
    """An engine's contents in numbers: all 0 once every run has expired and every watcher left."""

    live: int
    """Runs here that have not ended, or that their store does not have yet."""
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
    waiting: int
    """Callers who wait for the end of a live run."""
    timers: int
    """Timers that will fire; one of them is the store's, while it keeps anything that expires."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Events and ended runs that a durable store does not have yet."""

    nbytes: int
    """Of live runs' events, roughly."""
    age: float
    """Seconds since the oldest of them was made."""
    ended: int
    """Ended runs."""


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
        """Whether calls may wait for a disk or a network, so that no event loop must make them.
        What `find_here` finds answers at once all the same."""
        self.lasts = store.durable
        """Whether what the store keeps outlives the process."""
        self._clock = clock
        self._store = store
        self._executor = executor
        self._on_lost = observer.run_lost
        self._replicas: Replicas | None = None
        self._journal = Journal(store, options) if store.durable else None
        self._recorder = Recorder(store, self._journal) if self._journal is not None else None
        decider = None
        if self._journal is not None:
            decider = Decider(store, self._journal, self._later)
        self._directory = Directory(store, self._recorder, decider)
        directory = self._directory
        self._live_runs = LiveRuns(
            self.within, options, clock, store, observer, executor, directory, self._journal
        )
        self._carrying = Carrying(self._live_runs, clock, store, directory)
        self._admission = Admission(
            self._live_runs, self._carrying, options, clock, store, observer, directory
        )
        self._cancels = Cancels(
            directory, self._live_runs.sessions, store, clock, self._carrying.put_down
        )

    def _later(self, call: Callable[[], None], after: float) -> None:
        self._live_runs.completer.again(call, after)

    def recover(
        self, find: Callable[[str], Runnable], serves: Callable[[], Collection[str]] = tuple
    ) -> int:
        """Ends what earlier processes have left in the store, and admits what they had not begun.

        To be called before anything is started. `find` returns the runnable of a full name, or
        raises RunnableNotFound, which fails the run. Returns how many runs were admitted. Blocks.

        If the store is shared: from now on this process takes part. It takes over runs of the
        runnables that it `serves`, and only those.
        """
        sharing = self._store.sharing
        waiting = self._store.recover(self._on_lost) if sharing is None else ()
        for one in waiting:
            self._carrying.readmit(one, find)
        if sharing is not None:

            def take_over() -> None:
                more = True
                while more and not self._live_runs.capacity.is_draining and (names := serves()):
                    claimed = sharing.claim(names)
                    for one in claimed:
                        self._carrying.readmit(one, find)
                    # Paused ones may be many, and need no room; of the others, some are left.
                    more = any(one.carried for one in claimed)

            assert self._recorder is not None
            self._replicas = Replicas(
                sharing,
                self._directory,
                take_over,
                self._recorder.record,
                partial(self._carrying.put_down, fenced=True),
                self._on_lost,
            )
            self._live_runs.join(self._replicas)
            self._replicas.begin()
        return len(waiting)

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
        scope: Scope = LOCAL,
        share: TakeShare = no_share,
    ) -> Run:
        """Admits a run, or finds the one that this spec has started already.

        `default_policy` holds if the spec has none. `deadline` is in seconds from now: the run ends
        a little before, cause DEADLINE. With `loop`, async code runs there instead of on a run
        loop. With `parent_run_id` it is a child of that run: whatever stops the parent stops it,
        and what it uses counts there. `share` is what its owner may have.

        Raises:
            RunCancelledError: the parent has ended.
            InvalidArgument, RunExists, ServerBusy, SessionBusy, Draining, StoreUnavailable.
        """
        start = Start(runnable, default_policy, deadline, loop, parent_run_id, scope, share)
        return self._admission.start(start, spec).snapshot()

    def follow(
        self,
        runnable: Runnable,
        spec: RunSpec,
        *,
        default_policy: DisconnectPolicy = DisconnectPolicy.CANCEL,
        deadline: float | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        parent_run_id: str = "",
        scope: Scope = LOCAL,
        share: TakeShare = no_share,
    ) -> Watcher:
        """The same, and a watcher from the first event on. The run cannot be forgotten in between.

        Without another policy in the spec, the run is cancelled when its last watcher leaves.
        """
        start = Start(runnable, default_policy, deadline, loop, parent_run_id, scope, share)
        return self._admission.start(start, spec).watch()

    def within(self, scope: Scope) -> Runs:
        """The runs that the code of a run of this scope may reach: those of the same scope."""
        return self if scope == LOCAL else Within(self, scope)

    # --- finding

    def find_here(self, run_id: str, *, scope: Scope = LOCAL) -> RunHandle | None:
        """The run of this id, if it is live here. Never waits for the store."""
        return self._directory.find_here(scope, run_id)

    def owners(self, reach: Reach, run_id: str) -> list[Scope]:
        """The scopes within reach that have a run of this id, in order."""
        return self._directory.owners(reach, run_id)

    def spent(self, tenant: str) -> Spent:
        """Usage of a tenant's ended runs within a day, on all servers. May block."""
        return self._store.spent(tenant)

    def stored_bytes(self, tenant: str) -> int:
        """Bytes that a tenant's ended runs take in the store, roughly. May block."""
        return self._store.stored_bytes(tenant)

    def find(self, run_id: str, *, scope: Scope = LOCAL) -> RunHandle:
        """The run of this id, live or ended. Raises RunNotFound.

        The handle answers also once the run has ended and been forgotten by everybody else.
        """
        return self._directory.find(scope, run_id)

    def get(self, run_id: str, *, scope: Scope = LOCAL) -> Run:
        """A run as it is now. Raises RunNotFound."""
        return self.find(run_id, scope=scope).snapshot()

    def usage(self, run_id: str, *, scope: Scope = LOCAL) -> Usage:
        """A run's usage so far; cheaper than all of it. Raises RunNotFound."""
        return self.find(run_id, scope=scope).usage()

    def receipt(self, run_id: str, *, scope: Scope = LOCAL) -> Receipt:
        """The receipt that a cancel would get now; asks for nothing. Raises RunNotFound."""
        return self.find(run_id, scope=scope).receipt()

    def watch(self, run_id: str, after_sequence: int = 0, *, scope: Scope = LOCAL) -> Watcher:
        """A new watcher of a run, live or ended.

        Raises:
            RunNotFound, or InvalidArgument if the run has not made so many events.
        """
        return self.find(run_id, scope=scope).watch(after_sequence)

    def on_end(
        self, run_id: str, callback: Callable[[], None], *, scope: Scope = LOCAL
    ) -> Callable[[], None]:
        """Calls back once, in any thread, when the run has ended; returns the unsubscribe call.

        Raises:
            RunNotFound: there is no such run.
        """
        return self.find(run_id, scope=scope).on_end(callback)

    def list_page(
        self, matching: RunFilter, size: int, token: str = "", *, reach: Reach = EVERYBODY
    ) -> Page:
        """At most `size` runs within reach, the newest first, live ones without their output.

        `token` is the `next_page_token` of the page before, with the same filter.

        Raises:
            InvalidArgument: the token is not of such a page.
        """
        return self._directory.page(reach, matching, size, token)

    def roster(self) -> Roster:
        """The runs as lists show them, for a follower that looks again and again."""
        return Roster(self._directory, self._store)

    def open_notices(self) -> Notices:
        """From now on the store keeps notices of ends and pauses. To be called before `recover`."""
        notices = self._store.notices
        notices.open(self._directory.paused_here)
        return notices

    def owns_loop(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether this is a run loop of the engine's, which nobody may block to wait for a run."""
        return self._executor.owns_loop(loop)

    # --- continuing and stopping

    def continue_run(
        self, run_id: str, decisions: Sequence[Decision], actor: str = "", *, scope: Scope = LOCAL
    ) -> Run:
        """Brings a paused run the decision on every call that waits; the run as it then is.

        Raises:
            RunNotFound, InvalidArgument, or RunNotPaused if it does not wait, or no longer.
        """
        wrong = decision_violations(decisions, self.options.max_input_bytes)
        if wrong:
            raise InvalidArgument(*wrong)
        return self.find(run_id, scope=scope).decide(decisions, actor)

    def cancel(
        self,
        run_id: str,
        request: CancelRequest,
        *,
        before_start: bool = False,
        most_early: int | None = None,
        scope: Scope = LOCAL,
    ) -> Receipt:
        """Stops a run, wherever it is in its life; the receipt says what is true on return.

        Raises:
            RunNotFound: there is none, and `before_start` is not set.
            ServerBusy: `before_start`, and too many cancels wait already.
            QuotaExceeded: `most_early` of the tenant do.
            StoreUnavailable: the stop could not be recorded; its `stopping` says whether the run is
                being stopped here all the same.
        """
        return self._cancels.cancel(
            scope, run_id, request, before_start=before_start, most_early=most_early
        )

    def cancel_many(
        self,
        matching: RunFilter,
        request: CancelRequest,
        *,
        validate_only: bool = False,
        max_affected: int = 1000,
        reach: Reach = EVERYBODY,
    ) -> list[CancelResult]:
        """Stops every live run within reach that matches; what was achieved, the newest first.

        Takes its time if they are many: not to be called on a loop.

        Raises:
            TooManyAffected: more match than `max_affected`; nothing was stopped.
        """
        return self._cancels.cancel_many(
            reach, matching, request, validate_only=validate_only, max_affected=max_affected
        )

    def erase(self, reach: Reach, matching: RunFilter, *, validate_only: bool = False) -> Erased:
        """Deletes for good what is kept of ended runs within reach that match a session and a user.

        With `validate_only` it only says how many those are. A stream that shows one of them
        goes on to its end. Takes its time if they are many: not to be called on a loop.

        Raises:
            StoreUnavailable: some may be gone; ask again.
        """
        return self._store.erase(reach, matching, validate_only=validate_only)

    def store_answers(self) -> bool:
        """Whether the store takes what it is brought; True if it is in this process. May block."""
        if self._journal is None:
            return True
        try:
            self._store.write(())
        except StoreUnavailable:
            return False
        return not self._journal.is_away

    @property
    def store_is_up(self) -> bool:
        """Whether the store took what it was last brought. Never waits."""
        return self._journal is None or not self._journal.is_away

    @property
    def unserved(self) -> int:
        """Runs in the store that no process serves. Never waits."""
        return 0 if self._store.sharing is None else self._store.sharing.unserved

    def backlog(self) -> Backlog:
        """The amount that is still to be written to the store."""
        nbytes, oldest = (0, 0.0) if self._journal is None else self._journal.backlog()
        age = max(0.0, self._clock.time() - oldest) if oldest else 0.0
        return Backlog(nbytes, age, self._live_runs.completer.held)

    # --- the end of the process

    def remains(self) -> Remains:
        """The engine's contents now, in numbers."""
        live, kept = self._directory.all_here(), self._store.size()
        return Remains(
            live=len(live),
            claims=kept.live,
            tombstones=kept.tombstones,
            ended=kept.ended,
            sessions=len(self._live_runs.sessions),
            watchers=sum(run.presence.watchers for run in live),
            waiting=sum(run.ending.waiting for run in live),
            timers=self._clock.pending(),
        )

    def count_live(self) -> Counter[tuple[str, RunState]]:
        """The number of this process's live runs of each runnable in each state."""
        runs = self._directory.all_here()
        found = Counter((run.spec.runnable, run.state) for run in runs)
        return Counter({key: count for key, count in found.items() if not key[1].is_terminal})

    def count_watchers(self) -> int:
        """The number of streams that follow a live run here. The store is not asked."""
        return sum(run.presence.watchers for run in self._directory.all_here())

    def watch_lag(self) -> int:
        """The number of events that the slowest watcher has not taken."""
        return max((run.watch_lag() for run in self._directory.all_here()), default=0)

    @property
    def occupied(self) -> int:
        """Runs that hold capacity: live ones, and abandoned ones still at work."""
        return self._live_runs.capacity.occupied

    def drain(self) -> None:
        """Takes no new runs from now on; everything else goes on."""
        self._live_runs.capacity.drain()

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Blocks until no run is live but paused ones that a process to come can continue; False if
        that took longer than `timeout` seconds."""
        return self._directory.wait_idle(timeout, but=self._carrying.can_put_down)

    def shut_down_runs(self, mode: CancelMode, grace_period: float | None = None) -> None:
        """Cancels every live run with cause SHUTDOWN. IMMEDIATE hastens every stop that stands."""
        self._cancels.shut_down(mode, grace_period)

    def close(self) -> None:
        """Ends every run, at once, and every thread that can be ended."""
        self.drain()
        self.shut_down_runs(CancelMode.IMMEDIATE)
        self.wait_idle(self.options.abandon_after + 1.0)
        if self._replicas is not None:
            self._replicas.close()
        self._executor.close()
        self._live_runs.completer.close()
        if self._journal is not None and self._recorder is not None:
            self._journal.close()
            self._recorder.close()
        self._clock.close()
        self._store.close()
