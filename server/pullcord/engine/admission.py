"""Starts runs: a start is admitted, is found to have been made already, or is refused.

A run takes capacity, its row in the store and its place in its session, and can then be found. A
start that fails at one of these steps gives the earlier ones back. What an admitted run does is its
own business, and when its turn comes is its session's.
"""

import contextvars
import logging
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from pullcord.engine.aside import each
from pullcord.engine.capacity import Capacity
from pullcord.engine.clock import Clock
from pullcord.engine.completion import Completer
from pullcord.engine.directory import Directory, RunHandle
from pullcord.engine.journal import Journal
from pullcord.engine.live.child import ChildHandle
from pullcord.engine.live.live import Key, LiveRun
from pullcord.engine.live.port import LivePort
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import (
    UNBOUNDED,
    Admitted,
    AlreadyLive,
    CancelRequest,
    EndedRun,
    Executor,
    NotYet,
    Observer,
    RunStore,
    Terms,
    Waiting,
)
from pullcord.engine.replicas import Replicas
from pullcord.engine.sessions import Sessions
from pullcord.engine.start import Start, margin
from pullcord.run.cancel import CancelCause, Cancellation
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
from pullcord.run.place import Runs
from pullcord.run.record import DisconnectPolicy, Run, RunSpec, SessionPolicy
from pullcord.run.runnable import Runnable, RunnableInfo, takes_of
from pullcord.run.scope import Scope
from pullcord.run.sink import Child
from pullcord.run.takes import Takes

_SOON = 1.0
"""Seconds until a store that did not answer is asked to take a row back."""
_MAX_HISTORY = 1000
"""Runs of its session that a run can read, the last ones. No model takes more."""


_log = logging.getLogger("pullcord.engine")


class Admission:
    """Admits the runs of one engine. Any thread may call."""

    def __init__(
        self,
        runs: Callable[[Scope], Runs],
        options: EngineOptions,
        clock: Clock,
        store: RunStore,
        observer: Observer,
        executor: Executor,
        directory: Directory,
        journal: Journal | None = None,
    ) -> None:
        """`runs` is what the code of a run of a scope reaches. A durable store has a `journal`."""
        self._runs = runs
        self._options = options
        self._clock = clock
        self._store = store
        self._observer = observer
        self._executor = executor
        self._directory = directory
        self.journal = journal
        after = self.journal.end if self.journal is not None else _nothing
        self.completer = Completer(store, clock, observer, self._kept, self._leave_session, after)
        self.sessions = Sessions()
        self.capacity = Capacity(options.max_live_runs)
        self._unheard = 0 if store.durable else UNBOUNDED
        """The events of a run that may be shown before its store has heard of it."""
        self.replicas: Replicas | None = None
        """Set if other processes share the store."""
        self._takeable: set[Key] = set()
        """Runs that wait for their turn, and that another process may begin."""

    # --- a start of a caller's

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
        terms = self._terms(start, spec)
        try:
            self._take_room(for_child=parent is not None)
        except PullcordError:  # a retry finds its run also in a server that is full
            found = self._store.find(start.scope, spec.run_id)
            if found is None:
                raise
            _must_be_same(found.spec, spec)
            return self._directory.ended(start.scope, found)
        answer: Admitted | AlreadyLive | EndedRun = Admitted(reserved=self._unheard)
        if ask:
            try:
                answer = self._ask_store(start.scope, spec, terms)
            except BaseException:
                self.capacity.release()
                raise
        if isinstance(answer, EndedRun):
            self.capacity.release()
            return self._directory.ended(start.scope, answer)
        if isinstance(answer, AlreadyLive):
            self.capacity.release()
            return self._directory.find(start.scope, spec.run_id)
        live = self._live_run(start.scope, spec, terms, parent, reserved=answer.reserved)
        try:
            self._announce(live, None if ask else terms, answer.place)
            self._begin(live, start, terms, answer.cancellation)
        except BaseException:
            if ask:
                self._withdraw(live.key)
            raise
        live.presence.start_lease()
        self.completer.started(live)
        return self._directory.handle(live)

    def _terms(self, start: Start, spec: RunSpec) -> Terms:
        policy = spec.on_disconnect or start.default_policy
        if not self._store.durable:
            return Terms(policy)
        deadline = 0.0 if start.deadline is None else self._clock.time() + start.deadline
        waits = self.sessions.waits(start.scope, spec, self._store.sharing is not None)
        return Terms(policy, deadline, start.parent_run_id, begins=not waits)

    def _ask_store(
        self, scope: Scope, spec: RunSpec, terms: Terms
    ) -> Admitted | AlreadyLive | EndedRun:
        try:
            answer = self._store.admit(scope, spec, terms)
        except StoreUnavailable:
            if self._store.durable:  # it may have done it all the same
                self.completer.again(partial(self._take_back, (scope, spec.run_id)), _SOON)
            raise
        if isinstance(answer, AlreadyLive) and self._store.sharing is None:
            raise StoreUnavailable(f"run {spec.run_id!r} is live in another process")
        return answer

    def _take_room(self, *, for_child: bool) -> None:
        """Room for one more run, also for its end: a store that is away must not fill the memory.

        Raises Draining, ServerBusy.
        """
        if self.completer.held > self._options.max_live_runs:
            raise ServerBusy("the store does not take the runs that have ended; try again later")
        self.capacity.take(for_child=for_child)

    def _withdraw(self, key: Key) -> None:
        """Takes a refused run's row back, later if the store does not answer now."""
        try:
            self._store.withdraw(*key)
        except Exception:
            _log.exception("the store did not take back run %s", key[1])
            self.completer.again(partial(self._take_back, key))

    def _take_back(self, key: Key) -> None:
        """The same, unless the run was started again meanwhile."""
        with self._directory.deciding(*key):
            if self._directory.here(*key) is None:
                self._store.withdraw(*key)

    def _announce(self, live: LiveRun, opens: Terms | None, place: int = 0) -> None:
        """The run can be found from now on; or it is refused, and its capacity is free again.

        `opens`: the terms of a run that the store has not heard of.
        """
        try:
            live.announce(lambda: self._enter(live, place))
        except BaseException:
            self.capacity.release()
            raise
        if self.journal is not None:
            self.journal.add(live, opens)

    def _enter(self, live: LiveRun, place: int) -> None:
        if live.lineage.source is None:  # else the turn is its root's
            self.sessions.enter(live, place)
        self.completer.starting(live)
        self._directory.add(live)

    def _begin(
        self, live: LiveRun, start: Start, terms: Terms, came_before: Cancellation | None
    ) -> None:
        """Executes the run, if nobody has stopped it already."""
        try:
            if came_before is not None:
                live.cancel(CancelRequest(came_before))
            if live.state.is_terminal:
                self.capacity.release()
                return
            if start.deadline is not None:
                live.stop_at(self._clock.monotonic() + start.deadline, margin(start.deadline))
            self._execute_in_turn(live, start, terms)
        except BaseException as error:
            self._refuse(live, error)
            raise

    # --- runs that wait for their turn, and outlive the process meanwhile

    def readmit(self, waiting: Waiting, find: Callable[[str], Runnable]) -> None:
        """Admits a run that was admitted by a process that is gone, and had not begun.

        A client that followed it has the time of a lease to come back.
        """
        spec, terms = waiting.spec, replace(waiting.terms, begins=False)
        if terms.policy is DisconnectPolicy.CANCEL:
            terms = replace(terms, policy=DisconnectPolicy.LEASE)
        self.capacity.take(for_child=True)  # it had its place already
        live = self._live_run(
            waiting.scope, spec, terms, reserved=waiting.reserved, create_time=waiting.create_time
        )
        self._announce(live, None, waiting.place)
        try:
            start = Start(find(spec.runnable))
            if terms.parent_run_id:  # which had begun, and is lost
                live.parent_ended()
            elif terms.deadline:
                left = max(0.0, terms.deadline - self._clock.time())
                live.stop_at(self._clock.monotonic() + left, margin(left))
            if live.state.is_terminal:
                self.capacity.release()
            else:
                self._execute_in_turn(live, start, terms)
        except Exception as error:
            live.fail(error)
            self.capacity.release()
        live.presence.start_lease()
        self.completer.started(live)

    def put_down(self, live: LiveRun) -> bool:
        """Lets go of a run that waits for its turn: it begins in a process to come, if the store
        outlives this one. Whether it does."""
        if live.key not in self._takeable or not self.sessions.leave(live):
            return False
        live.put_down()
        self.completer.refused(live)
        self._kept(live)
        self.capacity.release()
        return True

    # --- a start of a run's own code

    def start_child(
        self,
        parent: LiveRun,
        runnable: Runnable,
        info: RunnableInfo,
        given: Given,
        path: tuple[str, ...],
    ) -> Child:
        """Starts a child, also in a server that drains: its parent was admitted.

        Its run_id is new, so that no other start or early cancel can be meant: the store hears of
        it when it ends.
        """
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
        live = self._live_run(parent.scope, spec, terms, parent, source, reserved=self._unheard)
        self._take_room(for_child=True)
        self._announce(live, terms)
        try:
            beside = parent.execution
            loop = beside.loop if beside is not None else None
            runs = self._runs(live.scope)
            self._executor.start(self._port(live), runnable, runs, loop=loop, parent=beside)
        except BaseException as error:
            self._refuse(live, error)
            raise
        self.completer.started(live)
        return ChildHandle(live, parent)

    # --- what all live runs need

    def _live_run(
        self,
        scope: Scope,
        spec: RunSpec,
        terms: Terms,
        parent: LiveRun | None = None,
        source: Source | None = None,
        *,
        reserved: int,
        create_time: float = 0.0,
    ) -> LiveRun:
        return LiveRun(
            spec,
            scope=scope,
            options=self._options,
            clock=self._clock,
            policy=terms.policy,
            on_end=self.completer.ended,
            on_abandon=self._abandoned,
            parent=parent,
            source=source,
            reserved=reserved,
            holds_end=self._store.durable,
            create_time=create_time,
            ask_others=None if self.replicas is None else self.replicas.ask_others,
        )

    def _port(self, live: LiveRun) -> LivePort:
        """What an executor that is given this run is given of it."""
        spec = live.spec
        return LivePort(
            live,
            start_child=self.start_child,
            history=lambda: self._history(live.scope, spec) if spec.session_id else [],
            on_release=self.capacity.release,
        )

    def _history(self, scope: Scope, spec: RunSpec) -> list[Run]:
        """The session's runs, the latest of them with the data of what they were given.

        Stores keep that with the spec. As much of it is read as one run may be given.
        """
        runs = self._store.history(scope, spec.session_id, spec.runnable, _MAX_HISTORY)
        left = self._options.max_parts_bytes
        for index in reversed(range(len(runs))):
            run = runs[index]
            found = self._store.find(scope, run.run_id) if run.parts and left > 0 else None
            parts = found.spec.parts if found is not None else ()
            left -= sum(part.size for part in parts)
            if left < 0 or not parts:
                parts = tuple(part.brief() for part in run.parts)
            runs[index] = replace(run, parts=parts)
        return runs

    def _execute_in_turn(self, live: LiveRun, start: Start, terms: Terms) -> None:
        """Executes a run as soon as its session lets it. Raises only if nothing was changed.

        A run that could be taken over while it waits asks the store before it begins, in a thread
        that may block.
        """
        superseded = self._supersede(live)
        context = contextvars.copy_context()  # its own, not that of the run whose end begins it
        asks = self._store.durable and not terms.begins
        begin = partial(self._begin_in_turn, live, start, context, asks)
        if asks:
            self._takeable.add(live.key)
            turn = partial(self.completer.soon, begin)  # the end that makes it its turn goes on
        else:
            turn = begin
        if not self.sessions.is_turn(live, turn):
            return
        if superseded or asks:
            begin()
        else:
            self._execute(live, start)

    def _execute(self, live: LiveRun, start: Start) -> None:
        runs = self._runs(live.scope)
        self._executor.start(self._port(live), start.runnable, runs, loop=start.loop)

    def _begin_in_turn(
        self, live: LiveRun, start: Start, context: contextvars.Context, asks: bool
    ) -> None:
        """It is the run's turn; `asks`: if the store lets it begin."""
        again = partial(self._begin_in_turn, live, start, context, asks)
        try:
            if start.loop is not None and start.loop.is_closed():
                raise RuntimeError("the event loop that was to run it is closed")
            if asks and (may := self._may_begin(live)) is not True:
                if may is None and self.replicas is not None:
                    self.replicas.wait_for_turn(live, again)
                else:
                    self.capacity.release()
                return
            context.run(self._execute, live, start)
        except StoreUnavailable:
            self.completer.again(again, _SOON)
        except Exception as error:
            live.fail(error)
            self.capacity.release()

    def _may_begin(self, live: LiveRun) -> bool | None:
        """Whether the store lets a run begin that waited; then nobody takes it over any more. None:
        not yet."""
        if live.state.is_terminal:
            return False
        stop = self._store.begin(*live.key)
        if isinstance(stop, NotYet):
            return None
        self._takeable.discard(live.key)
        if stop is not None:
            live.stop(stop)
        return not live.state.is_terminal

    def _supersede(self, live: LiveRun) -> bool:
        """Stops the runs whose place this one takes; whether there were any."""
        if live.spec.session_policy is not SessionPolicy.SUPERSEDE:
            return False
        reason = f"run {live.run_id} took its place in the session"
        stop = CancelRequest(Cancellation(CancelCause.SUPERSEDED, reason=reason))
        earlier = self.sessions.supersede(live)
        each(earlier, lambda run: run.cancel(stop))
        if (sharing := self._store.sharing) is not None:
            for run_id in sharing.ahead(*live.key):
                if self._directory.here(live.scope, run_id) is None:
                    now = replace(stop.cancellation, accept_time=self._clock.time())
                    request = replace(stop, cancellation=now)
                    self._store.request_stop(live.scope, run_id, request, before_start=False)
        return bool(earlier)

    # --- the way back

    def _kept(self, live: LiveRun) -> None:
        if self.journal is not None:
            self.journal.forget(live)
            self._takeable.discard(live.key)
        self._directory.remove(live)

    def _leave_session(self, live: LiveRun) -> None:
        # After the store has the run: this begins the next one, which must find it in its history.
        if self.sessions.leave(live):
            self.capacity.release()  # no code of its own will: it was stopped while it waited

    def _refuse(self, live: LiveRun, error: BaseException) -> None:
        """The run was admitted, and cannot be executed."""
        live.refuse(error)
        self.completer.refused(live)
        self._kept(live)
        self.capacity.release()
        self.sessions.leave(live)

    def _abandoned(self, live: LiveRun, stack: str) -> None:
        self._observer.run_abandoned(live.snapshot(with_output=False), stack)


def _nothing(live: LiveRun) -> int:
    return 0


def _must_be_same(existing: RunSpec, asked: RunSpec) -> None:
    if existing != asked:
        raise RunExists(asked.run_id)
