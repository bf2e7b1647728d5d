"""Starts runs: a start is admitted, is found to have been made already, or is refused.

A run takes capacity, its row in the store and its place in its session, and can then be found. A
start that fails at one of these steps gives the earlier ones back. What an admitted run does is its
own business, and when its turn comes is its session's.
"""

import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

from pullcord.engine.capacity import Capacity
from pullcord.engine.clock import Clock
from pullcord.engine.completion import Completer
from pullcord.engine.directory import Directory, RunHandle
from pullcord.engine.history import history_of, must_be_turn
from pullcord.engine.journal import Journal
from pullcord.engine.live.child import ChildHandle, EndedChild
from pullcord.engine.live.lineage import Kin
from pullcord.engine.live.live import Key, LiveRun
from pullcord.engine.live.port import LivePort
from pullcord.engine.live.tree import hold, waits, whole
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import (
    UNBOUNDED,
    Admitted,
    AlreadyLive,
    CancelRequest,
    Carried,
    EndedRun,
    Executor,
    Observer,
    RunStore,
    Terms,
    Waiting,
)
from pullcord.engine.replicas import Replicas
from pullcord.engine.sessions import Sessions
from pullcord.engine.start import Start, margin
from pullcord.engine.turns import Turns
from pullcord.run.cancel import ELSEWHERE, Cancellation
from pullcord.run.errors import (
    InvalidArgument,
    PullcordError,
    RunCancelledError,
    RunExists,
    RunNotFound,
    ServerBusy,
    StoreUnavailable,
    Violation,
)
from pullcord.run.events import Source
from pullcord.run.message import Given
from pullcord.run.place import Runs
from pullcord.run.record import DisconnectPolicy, RunSpec
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
        self._turns = Turns(
            store, clock, directory, self.sessions, self.completer, self.capacity, self._execute
        )
        self._replicas: Replicas | None = None

    def join(self, replicas: Replicas) -> None:
        """Other processes share the store."""
        self._replicas = self._turns.replicas = replicas

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
        """Raises QuotaExceeded if the owner has had its share."""
        policy, share = spec.on_disconnect or start.default_policy, start.share()
        if not self._store.durable:
            return Terms(policy, parent_run_id=start.parent_run_id, share=share)
        deadline = 0.0 if start.deadline is None else self._clock.time() + start.deadline
        waits = self.sessions.waits(start.scope, spec, self._store.sharing is not None)
        waits = waits or (
            _waits_for_thread(start, spec) and self.capacity.occupied >= self._options.workers
        )
        return Terms(policy, deadline, start.parent_run_id, begins=not waits, share=share)

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
        self._entered(live)
        if self.journal is not None:
            self.journal.add(live, opens)

    def _entered(self, live: LiveRun, trace: Mapping[str, str] = MappingProxyType({})) -> None:
        source = live.lineage.source
        path = () if source is None else source.path[1:-1]
        run = live.snapshot(with_output=False)
        live.trace = self._observer.run_entered(run, path, trace)

    def _enter(self, live: LiveRun, place: int, *, again: bool = False) -> None:
        if live.lineage.source is None:  # else the turn is its root's
            self.sessions.enter(live, place, again=again)
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
            self._take_turn(live, start, asks=self._store.durable and not terms.begins)
        except BaseException as error:
            self._refuse(live, error)
            raise

    def _take_turn(self, live: LiveRun, start: Start, *, asks: bool) -> None:
        """`asks`: it could be taken over while it waits, for its turn or else for a thread."""
        if asks and _waits_for_thread(start, live.spec):
            self._turns.waits_for_thread(live)
            asks = False
        self._turns.take(live, start, asks=asks)

    # --- runs that wait, and outlive the process meanwhile

    def readmit(self, waiting: Waiting, find: Callable[[str], Runnable]) -> None:
        """Admits a run that was admitted by a process that is gone, and had not begun, or waits for
        a decision.

        A client that followed it has the time of a lease to come back.
        """
        spec, terms = waiting.spec, replace(waiting.terms, begins=False)
        if terms.policy is DisconnectPolicy.CANCEL:
            terms = replace(terms, policy=DisconnectPolicy.LEASE)
        self.capacity.take(for_child=True)  # it had its place already
        live = self._live_run(
            waiting.scope, spec, terms, reserved=waiting.reserved, create_time=waiting.create_time
        )
        carried = waiting.carried
        if carried is None:
            self._announce(live, None, waiting.place)
        else:
            self._take_up(live, waiting, carried)
        failure: Exception | None = None
        try:
            start = live.start = Start(find(spec.runnable))
            if terms.parent_run_id:  # which had begun, and is lost
                live.parent_ended()
            elif (left := self._until_deadline(waiting)) is not None:
                live.stop_at(self._clock.monotonic() + left, margin(left))
            if carried is not None:
                pass  # it has had its turn
            elif live.state.is_terminal:
                self.capacity.release()
            else:
                self._take_turn(live, start, asks=self._store.durable and not terms.begins)
        except Exception as error:
            failure = error
        live.presence.start_lease()
        self.completer.started(live)
        if carried is not None and carried.pause.children:
            self._take_up_children(live, waiting)
        if failure is not None:
            live.fail(failure)
            if carried is None:
                self.capacity.release()

    def _until_deadline(self, waiting: Waiting) -> float | None:
        if waiting.carried is not None:
            left = waiting.carried.pause.left.after(waiting.carried.elapsed).deadline
        elif waiting.terms.deadline:
            left = waiting.terms.deadline - self._clock.time()
        else:
            return None
        return None if left is None else max(0.0, left)

    # --- paused runs, which outlive their code, and the process if the store does

    def _take_up(self, live: LiveRun, waiting: Waiting, carried: Carried) -> None:
        """A paused run whose process is gone waits on here."""
        try:
            live.take_up(carried, lambda: self._enter(live, waiting.place, again=True))
        except BaseException:
            self.capacity.release()
            raise
        self._entered(live, carried.pause.trace)
        if self.journal is not None:
            self.journal.add(live, after=carried.pause.sequence)

    def _take_up_children(self, root: LiveRun, waiting: Waiting) -> None:
        """The children of a run that was taken up wait on here, too, and theirs."""
        parents: list[LiveRun] = []
        self._take_up_beneath(root, waiting, parents)
        hold(root)
        for parent in reversed(parents):  # the lowest first: it says what its own parent waits for
            if parent.departed:
                parent.wake()

    def _take_up_beneath(self, parent: LiveRun, waiting: Waiting, parents: list[LiveRun]) -> None:
        """Adds to the runs that wait for children, each before its own."""
        parents.append(parent)
        parent.departed.update((run.run_id, run) for run in waiting.ended)
        for one in waiting.children:
            if (live := self._take_up_child(parent, one)) is not None and one.children:
                self._take_up_beneath(live, one, parents)

    def _take_up_child(self, parent: LiveRun | None, waiting: Waiting) -> LiveRun | None:
        """A child waits on here; None: its parent has ended meanwhile, and so has it."""
        carried = waiting.carried
        assert carried is not None
        live = self._live_run(
            waiting.scope,
            waiting.spec,
            waiting.terms,
            parent,
            None if parent is None else carried.pause.source,
            reserved=waiting.reserved,
            create_time=waiting.create_time,
        )
        self.capacity.take(for_child=True)
        try:
            self._take_up(live, waiting, carried)
        except PullcordError:
            for one in (waiting, *waiting.children):
                self._take_up_child(None, one)
            return None
        self.completer.started(live)
        if parent is None:
            live.parent_ended()
        return live

    def _go_on(self, live: LiveRun) -> None:
        """A run that has no code any more goes on, because somebody has decided about it, or about
        a child: it is executed anew, a child beside its parent's code. If that is gone as well, it
        comes first, and starts the child again."""
        parent = live.lineage.parent
        with live.lock:
            beside, start = live.beside, live.start
            if live.state.is_terminal or not live.rests:
                return
            if parent is None and start is None:
                return
            if parent is None or beside is not None:
                live.rests = False  # its executor gives the capacity back
        if parent is not None and beside is None:
            parent.wake()
            return
        try:
            if beside is not None:
                beside()
            elif start is not None:
                self._execute(live, start)
        except ServerBusy:
            live.rests = True
            self.again(partial(self._go_on, live), _SOON)
        except Exception as error:
            live.rests = True
            live.fail(error)

    def can_put_down(self, live: LiveRun) -> bool:
        """Whether a run that waits can be continued by a process to come, and so all of its
        tree."""
        root = live.lineage.root
        return waits(root) and all(map(self._is_stored, whole(root)))

    def _is_stored(self, live: Kin) -> bool:
        assert isinstance(live, LiveRun)
        pause = live.pause() if self.journal is not None else None
        if self.journal is None or pause is None:
            return False
        return self.journal.has(live, pause.sequence, live.machine.standing)

    def again(self, call: Callable[[], None], after: float) -> None:
        """Makes a call after so many seconds, in a thread that may block; again if it raises."""
        self.completer.again(call, after)

    def put_down(self, live: LiveRun, *, fenced: bool = False) -> bool:
        """Lets go of a run that waits for its turn or for a decision: it goes on in a process to
        come, if the store outlives this one. Whether it does. `fenced`: this one has no runs."""
        if live.is_put_down:  # with its parent
            return True
        if not fenced and self._turns.give_up(live):
            live.put_down()
            self._let_go(live)
            return True
        if not self.can_put_down(live):
            return False
        root = live.lineage.root
        assert isinstance(root, LiveRun)
        runs = list(whole(root))
        executions = root.lay_down(fenced=fenced)
        if executions is None:
            return False
        for run in runs:
            assert isinstance(run, LiveRun)
            self.sessions.leave(run)
            self._let_go(run)
        for execution in executions:  # last: nothing that its code says now is written
            execution.stop(ELSEWHERE, 0.0)
        return True

    def _let_go(self, live: LiveRun) -> None:
        self.completer.refused(live)
        self._observer.run_handed_over(live.snapshot(with_output=False))
        self._kept(live)
        self.capacity.release()

    # --- a start of a run's own code

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
            return self._start_again(parent, runnable, again)
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
            self._execute_beside(parent, live, runnable)
        except BaseException as error:
            self._refuse(live, error)
            raise
        self.completer.started(live)
        return ChildHandle(live, parent)

    def _execute_beside(self, parent: LiveRun, live: LiveRun, runnable: Runnable) -> None:
        beside = parent.execution
        loop = beside.loop if beside is not None else None
        runs = self._runs(live.scope)
        with self._observer.within(*live.key):
            self._executor.start(self._port(live), runnable, runs, loop=loop, parent=beside)

    def _start_again(self, parent: LiveRun, runnable: Runnable, run_id: str) -> Child:
        """A child of a run that is executed anew is executed as soon as somebody has decided."""
        if (ended := parent.departed.get(run_id)) is not None:
            return EndedChild(ended)
        live = self._directory.here(parent.scope, run_id)
        if live is None or live.lineage.parent is not parent:
            if (ended := parent.departed.get(run_id)) is not None:  # just now
                return EndedChild(ended)
            raise RunNotFound(run_id)
        with live.lock:
            live.beside = partial(self._execute_beside, parent, live, runnable)
            goes_on = live.rests and live.machine.resumed is not None
        if goes_on:
            self._go_on(live)
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
            ask_others=None if self._replicas is None else self._replicas.ask_others,
            is_fenced=None if self._store.sharing is None else self._store.sharing.is_fenced,
            go_on=self._go_on,
        )

    def _port(self, live: LiveRun) -> LivePort:
        """The port through which an executor runs this run."""
        spec = live.spec
        return LivePort(
            live,
            start_child=self.start_child,
            history=lambda: history_of(
                self._store, live.scope, spec, max_bytes=self._options.max_parts_bytes
            ),
            on_release=self.capacity.release,
            observer=self._observer,
            may_begin=self._turns.may_begin(live),
        )

    def _execute(self, live: LiveRun, start: Start) -> None:
        live.start = start
        runs = self._runs(live.scope)
        with self._observer.within(*live.key):
            self._executor.start(self._port(live), start.runnable, runs, loop=start.loop)

    # --- the way back

    def _kept(self, live: LiveRun) -> None:
        if self.journal is not None:
            self.journal.forget(live)
            self._turns.forget(live)
        self._directory.remove(live)

    def _leave_session(self, live: LiveRun) -> None:
        # After the store has the run: this begins the next one, which must find it in its history.
        if self.sessions.leave(live) or live.rests:
            self.capacity.release()  # no code of its own will: it was stopped while it waited

    def _refuse(self, live: LiveRun, error: BaseException) -> None:
        """The run was admitted, and cannot be executed."""
        live.refuse(error)
        self.completer.refused(live)
        self._observer.run_withdrawn(*live.key)
        self._kept(live)
        self.capacity.release()
        self.sessions.leave(live)

    def _abandoned(self, live: LiveRun, stack: str) -> None:
        self._observer.run_abandoned(live.snapshot(with_output=False), stack)


def _waits_for_thread(start: Start, spec: RunSpec) -> bool:
    """Whether all that it may have to wait for is a thread. A session's turn is another matter, and
    what another run has started is lost with that."""
    return not (start.runnable.is_async or spec.session_id or start.parent_run_id)


def _nothing(live: LiveRun) -> int:
    return 0


def _must_be_same(existing: RunSpec, asked: RunSpec) -> None:
    if existing != asked:
        raise RunExists(asked.run_id)
