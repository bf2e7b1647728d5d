"""Starts runs: a start is admitted, is found to have been made already, or is refused.

A run takes capacity, its row in the store and its place in its session, and can then be found. A
start that fails at one of these steps gives the earlier ones back. What an admitted run does is its
own business, and when its turn comes is its session's.
"""

import contextvars
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pullcord.engine.aside import each
from pullcord.engine.capacity import Capacity
from pullcord.engine.clock import Clock
from pullcord.engine.completion import Completer
from pullcord.engine.directory import Directory, LiveHandle, RunHandle
from pullcord.engine.live.child import ChildHandle
from pullcord.engine.live.live import LiveRun
from pullcord.engine.live.port import LivePort
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import (
    Admitted,
    AlreadyLive,
    CancelRequest,
    EndedRun,
    Executor,
    Observer,
    RunStore,
)
from pullcord.engine.sessions import Sessions
from pullcord.engine.start import Start, margin
from pullcord.run.cancel import CancelCause, Cancellation
from pullcord.run.context import Child
from pullcord.run.errors import (
    PullcordError,
    RunCancelledError,
    RunExists,
    StoreUnavailable,
)
from pullcord.run.events import Source
from pullcord.run.place import Runs
from pullcord.run.record import DisconnectPolicy, RunSpec, SessionPolicy
from pullcord.run.runnable import Runnable, RunnableInfo
from pullcord.run.scope import Scope

_MAX_HISTORY = 1000
"""Runs of its session that a run can read, the last ones. No model takes more."""


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
    ) -> None:
        """`runs` is what the code of a run of this scope reaches."""
        self._runs = runs
        self._options = options
        self._clock = clock
        self._store = store
        self._observer = observer
        self._executor = executor
        self._directory = directory
        self.completer = Completer(store, clock, observer, directory.remove, self._leave_session)
        self.sessions = Sessions()
        self.capacity = Capacity(options.max_live_runs)

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
            spec.check(self._options.max_input_bytes)
            if not spec.run_id:
                spec = replace(spec, run_id=str(uuid.uuid4()))
                return self._admit(start, spec, parent, ask=parent is None)
            with self._directory.deciding(start.scope, spec.run_id):
                live = self._directory.here(start.scope, spec.run_id)
                if live is None:
                    return self._admit(start, spec, parent)
            _must_be_same(live.spec, spec)
            return LiveHandle(live)
        except PullcordError as error:
            self._observer.run_refused(type(error).__name__)
            raise

    def _admit(
        self, start: Start, spec: RunSpec, parent: LiveRun | None, *, ask: bool = True
    ) -> RunHandle:
        """`ask`: the store is asked first. A child with a new run_id can start without."""
        try:
            self.capacity.take(for_child=parent is not None)
        except PullcordError:  # a retry finds its run also in a server that is full
            found = self._store.find(start.scope, spec.run_id)
            if found is None:
                raise
            _must_be_same(found.spec, spec)
            return self._directory.ended(start.scope, found)
        answer: Admitted | EndedRun = Admitted()
        if ask:
            try:
                answer = self._ask_store(start.scope, spec)
            except BaseException:
                self.capacity.release()
                raise
        if isinstance(answer, EndedRun):
            self.capacity.release()
            return self._directory.ended(start.scope, answer)
        policy = spec.on_disconnect or start.default_policy
        live = self._live_run(start.scope, spec, policy, parent)
        try:
            self._announce(live)
            self._begin(live, start, answer.cancellation)
        except BaseException:
            if ask:
                self.completer.withdraw(live.key)
            raise
        live.presence.start_lease()
        self.completer.started(live)
        return LiveHandle(live)

    def _ask_store(self, scope: Scope, spec: RunSpec) -> Admitted | EndedRun:
        answer = self._store.admit(scope, spec)
        if isinstance(answer, AlreadyLive):
            raise StoreUnavailable(f"run {spec.run_id!r} is live in another process")
        return answer

    def _announce(self, live: LiveRun) -> None:
        """The run can be found from now on; or it is refused, and its capacity is free again."""
        try:
            live.announce(lambda: self._enter(live))
        except BaseException:
            self.capacity.release()
            raise

    def _enter(self, live: LiveRun) -> None:
        if live.lineage.source is None:  # else the turn is its root's
            self.sessions.enter(live)
        self.completer.starting(live)
        self._directory.add(live)

    def _begin(self, live: LiveRun, start: Start, came_before: Cancellation | None) -> None:
        """Executes the run, if nobody has stopped it already."""
        try:
            if came_before is not None:
                live.cancel(CancelRequest(came_before))
            if live.state.is_terminal:
                self.capacity.release()
                return
            if start.deadline is not None:
                live.stop_at(self._clock.monotonic() + start.deadline, margin(start.deadline))
            self._execute_in_turn(live, start)
        except BaseException as error:
            self._refuse(live, error)
            raise

    # --- a start of a run's own code

    def start_child(
        self,
        parent: LiveRun,
        runnable: Runnable,
        info: RunnableInfo,
        input: str,
        data: Mapping[str, Any] | None,
        path: tuple[str, ...],
    ) -> Child:
        """Starts a child, also in a server that drains: its parent was admitted.

        Its run_id is new, so that no other start or early cancel can be meant: the store hears of
        it when it ends.
        """
        above = parent.spec
        spec = RunSpec(
            info.name,
            input,
            data,
            run_id=str(uuid.uuid4()),
            session_id=above.session_id,
            user_id=above.user_id,
        )
        spec.check(self._options.max_input_bytes)
        _, _, name = above.runnable.partition("/")
        whole_path = (name, *path, info.id)
        source = Source(info.kind, info.id, info.display_name, spec.run_id, whole_path)
        live = self._live_run(parent.scope, spec, DisconnectPolicy.CONTINUE, parent, source)
        self.capacity.take(for_child=True)
        self._announce(live)
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
        policy: DisconnectPolicy,
        parent: LiveRun | None = None,
        source: Source | None = None,
    ) -> LiveRun:
        return LiveRun(
            spec,
            scope=scope,
            options=self._options,
            clock=self._clock,
            policy=policy,
            on_end=self.completer.ended,
            on_abandon=self._abandoned,
            parent=parent,
            source=source,
        )

    def _port(self, live: LiveRun) -> LivePort:
        """What an executor that is given this run is given of it."""
        spec = live.spec
        return LivePort(
            live,
            start_child=self.start_child,
            history=lambda: (
                self._store.history(live.scope, spec.session_id, spec.runnable, _MAX_HISTORY)
                if spec.session_id
                else []
            ),
            on_release=self.capacity.release,
        )

    def _execute_in_turn(self, live: LiveRun, start: Start) -> None:
        """Executes a run as soon as its session lets it. Raises only if nothing was changed."""
        superseded = self._supersede(live)
        context = contextvars.copy_context()  # its own, not that of the run whose end begins it

        def execute() -> None:
            runs = self._runs(live.scope)
            self._executor.start(self._port(live), start.runnable, runs, loop=start.loop)

        def begin() -> None:
            try:
                if start.loop is not None and start.loop.is_closed():
                    raise RuntimeError("the event loop that was to run it is closed")
                context.run(execute)
            except Exception as error:
                live.fail(error)
                self.capacity.release()

        if not self.sessions.is_turn(live, begin):
            return
        if superseded:
            begin()
        else:
            execute()

    def _supersede(self, live: LiveRun) -> bool:
        """Stops the runs whose place this one takes; whether there were any."""
        if live.spec.session_policy is not SessionPolicy.SUPERSEDE:
            return False
        reason = f"run {live.run_id} took its place in the session"
        stop = CancelRequest(Cancellation(CancelCause.SUPERSEDED, reason=reason))
        earlier = self.sessions.supersede(live)
        each(earlier, lambda run: run.cancel(stop))
        return bool(earlier)

    # --- the way back

    def _leave_session(self, live: LiveRun) -> None:
        # After the store has the run: this begins the next one, which must find it in its history.
        if self.sessions.leave(live):
            self.capacity.release()  # no code of its own will: it was stopped while it waited

    def _refuse(self, live: LiveRun, error: BaseException) -> None:
        """The run was admitted, and cannot be executed."""
        live.refuse(error)
        self.completer.refused(live)
        self._directory.remove(live)
        self.capacity.release()
        self.sessions.leave(live)

    def _abandoned(self, live: LiveRun, stack: str) -> None:
        self._observer.run_abandoned(live.snapshot(with_output=False), stack)


def _must_be_same(existing: RunSpec, asked: RunSpec) -> None:
    if existing != asked:
        raise RunExists(asked.run_id)
