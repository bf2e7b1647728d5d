"""Starts runs: a start is admitted, is found to have been made already, or is refused.

A run takes capacity, its row in the store and its place in its session, and can then be found. A
start that fails at one of these steps gives the earlier ones back. What an admitted run does is its
own business, and when its turn comes is its session's.
"""

import logging
import uuid
from dataclasses import replace
from functools import partial

from pullcord.engine.carrying import Carrying
from pullcord.engine.clock import Clock
from pullcord.engine.directory import Directory, RunHandle
from pullcord.engine.history import must_be_turn
from pullcord.engine.live.child import ChildHandle
from pullcord.engine.live.live import Key, LiveRun
from pullcord.engine.live_runs import LiveRuns, waits_for_thread
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import (
    Admitted,
    AlreadyLive,
    CancelRequest,
    EndedRun,
    Observer,
    RunStore,
    Terms,
)
from pullcord.engine.start import Start, margin
from pullcord.run.cancel import Cancellation
from pullcord.run.errors import (
    InvalidArgument,
    PullcordError,
    RunCancelledError,
    RunExists,
    ServerBusy,
    StoreUnavailable,
    Violation,
)
from pullcord.run.events import Source
from pullcord.run.message import Given
from pullcord.run.record import RunSpec
from pullcord.run.runnable import Runnable, RunnableInfo, takes_of
from pullcord.run.scope import Scope
from pullcord.run.sink import Child
from pullcord.run.takes import Takes

_SOON = 1.0
"""Seconds until a store that did not answer is asked to take a row back."""

_log = logging.getLogger("pullcord.engine")


class Admission:
    """Admits the runs of one engine. Any thread may call."""

    def __init__(
        self,
        live_runs: LiveRuns,
        carrying: Carrying,
        options: EngineOptions,
        clock: Clock,
        store: RunStore,
        observer: Observer,
        directory: Directory,
    ) -> None:
        self._live_runs = live_runs
        self._carrying = carrying
        self._options = options
        self._clock = clock
        self._store = store
        self._observer = observer
        self._directory = directory
        live_runs.start_child = self.start_child

    def start(self, start: Start, spec: RunSpec) -> RunHandle:
        """Admits a run, or finds the one that this spec has started already.

        Raises:
            RunCancelledError: the parent has ended.
            InvalidArgument, RunExists, ServerBusy, SessionBusy, Draining, StoreUnavailable.
        """
        try:
            parent = self._directory.here(start.scope, start.parent_run_id)
            if start.parent_run_id and parent is None:
                ended = f"run {start.parent_run_id} has ended: it starts nothing more"
                raise RunCancelledError(ended)
            self._check(spec, takes_of(start.runnable))
            if not spec.run_id:
                spec = replace(spec, run_id=str(uuid.uuid4()))
                return self._admit(start, spec, parent, ask=parent is None)
            with self._directory.deciding(start.scope, spec.run_id):
                live = self._directory.here(start.scope, spec.run_id)
                if live is None:
                    return self._admit(start, spec, parent)
            _must_be_same(live.spec, spec)
            return self._directory.handle(live)
        except PullcordError as error:
            self._observer.run_refused(type(error).__name__)
            raise

    def _check(self, spec: RunSpec, takes: Takes) -> None:
        """Raises InvalidArgument for every field that is wrong, or that is not taken."""
        spec.check(self._options.max_input_bytes, parts=self._options.part_bounds)
        refused = takes.violations(spec.parts, spec.messages, spec.runnable)
        if refused:
            raise InvalidArgument(*(Violation(f"spec.{v.field}", v.description) for v in refused))

    def _admit(
        self, start: Start, spec: RunSpec, parent: LiveRun | None, *, ask: bool = True
    ) -> RunHandle:
        """`ask`: the store is asked first. A child with a new run_id can start without."""
        try:
            must_be_turn(self._directory, start.scope, spec)
            terms = self._terms(start, spec)
            self._take_room(for_child=parent is not None)
        except PullcordError:  # a retry finds its run also in a server that is full
            found = self._store.find(start.scope, spec.run_id)
            if found is None:
                raise
            _must_be_same(found.spec, spec)
            return self._directory.ended(start.scope, found)
        answer: Admitted | AlreadyLive | EndedRun = Admitted(reserved=self._live_runs.unheard)
        if ask:
            try:
                answer = self._ask_store(start.scope, spec, terms)
            except BaseException:
                self._live_runs.capacity.release()
                raise
        if isinstance(answer, EndedRun):
            self._live_runs.capacity.release()
            return self._directory.ended(start.scope, answer)
        if isinstance(answer, AlreadyLive):
            self._live_runs.capacity.release()
            return self._directory.find(start.scope, spec.run_id)
        live = self._live_runs.live_run(start.scope, spec, terms, parent, reserved=answer.reserved)
        try:
            self._live_runs.announce(live, None if ask else terms, answer.place)
            self._begin(live, start, terms, answer.cancellation)
        except BaseException:
            if ask:
                self._withdraw(live.key)
            raise
        live.presence.start_lease()
        self._live_runs.completer.started(live)
        return self._directory.handle(live)

    def _terms(self, start: Start, spec: RunSpec) -> Terms:
        """Raises QuotaExceeded if the owner has had its share."""
        policy, share = spec.on_disconnect or start.default_policy, start.share()
        if not self._store.durable:
            return Terms(policy, parent_run_id=start.parent_run_id, share=share)
        deadline = 0.0 if start.deadline is None else self._clock.time() + start.deadline
        waits = self._live_runs.sessions.waits(start.scope, spec, self._store.sharing is not None)
        waits = waits or (
            waits_for_thread(start, spec)
            and self._live_runs.capacity.occupied >= self._options.workers
        )
        return Terms(policy, deadline, start.parent_run_id, begins=not waits, share=share)

    def _ask_store(
        self, scope: Scope, spec: RunSpec, terms: Terms
    ) -> Admitted | AlreadyLive | EndedRun:
        try:
            answer = self._store.admit(scope, spec, terms)
        except StoreUnavailable:
            if self._store.durable:  # it may have done it all the same
                self._live_runs.completer.again(
                    partial(self._take_back, (scope, spec.run_id)), _SOON
                )
            raise
        if isinstance(answer, AlreadyLive) and self._store.sharing is None:
            raise StoreUnavailable(f"run {spec.run_id!r} is live in another process")
        return answer

    def _take_room(self, *, for_child: bool) -> None:
        """Room for one more run, also for its end: a store that is away must not fill the memory.

        Raises Draining, ServerBusy.
        """
        if self._live_runs.completer.held > self._options.max_live_runs:
            raise ServerBusy("the store does not take the runs that have ended; try again later")
        self._live_runs.capacity.take(for_child=for_child)

    def _withdraw(self, key: Key) -> None:
        """Takes a refused run's row back, later if the store does not answer now."""
        try:
            self._store.withdraw(*key)
        except Exception:
            _log.exception("the store did not take back run %s", key[1])
            self._live_runs.completer.again(partial(self._take_back, key))

    def _take_back(self, key: Key) -> None:
        """The same, unless the run was started again meanwhile."""
        with self._directory.deciding(*key):
            if self._directory.here(*key) is None:
                self._store.withdraw(*key)

    def _begin(
        self, live: LiveRun, start: Start, terms: Terms, came_before: Cancellation | None
    ) -> None:
        """Executes the run, if nobody has stopped it already."""
        try:
            if came_before is not None:
                live.cancel(CancelRequest(came_before))
            if live.state.is_terminal:
                self._live_runs.capacity.release()
                return
            if start.deadline is not None:
                live.stop_at(self._clock.monotonic() + start.deadline, margin(start.deadline))
            self._live_runs.take_turn(live, start, asks=self._store.durable and not terms.begins)
        except BaseException as error:
            self._live_runs.refuse(live, error)
            raise

    def start_child(
        self,
        parent: LiveRun,
        runnable: Runnable,
        info: RunnableInfo,
        given: Given,
        path: tuple[str, ...],
        again: str = "",
    ) -> Child:
        """Starts a child, also in a server that drains: its parent was admitted.

        Its run_id is new, so that no other start or early cancel can be meant: the store hears of
        it when it ends. `again`: this one, which waits without code, goes on, or has ended.
        """
        if again:
            return self._carrying.start_again(parent, runnable, again)
        above = parent.spec
        spec = RunSpec(
            info.name,
            given.input,
            given.data,
            run_id=str(uuid.uuid4()),
            session_id=above.session_id,
            user_id=above.user_id,
            parts=given.parts,
            messages=given.messages,
        )
        self._check(spec, info.takes)
        _, _, name = above.runnable.partition("/")
        whole_path = (name, *path, info.id)
        source = Source(info.kind, info.id, info.display_name, spec.run_id, whole_path)
        terms = Terms(parent_run_id=parent.run_id)
        live = self._live_runs.live_run(
            parent.scope, spec, terms, parent, source, reserved=self._live_runs.unheard
        )
        self._take_room(for_child=True)
        self._live_runs.announce(live, terms)
        try:
            self._live_runs.execute_beside(parent, live, runnable)
        except BaseException as error:
            self._live_runs.refuse(live, error)
            raise
        self._live_runs.completer.started(live)
        return ChildHandle(live, parent)


def _must_be_same(existing: RunSpec, asked: RunSpec) -> None:
    if existing != asked:
        raise RunExists(asked.run_id)
