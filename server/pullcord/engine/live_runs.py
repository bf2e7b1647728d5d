"""Makes live runs, lets them be found, has them executed, and takes them out again.

Every live run passes here: one that a caller starts, a child, and one that a process which is gone
has left. Whether a run may start, and what becomes of one that waits, is decided elsewhere.
"""

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType

from pullcord.engine.capacity import Capacity
from pullcord.engine.clock import Clock
from pullcord.engine.completion import Completer
from pullcord.engine.directory import Directory
from pullcord.engine.history import history_of
from pullcord.engine.journal import Journal
from pullcord.engine.live.live import LiveRun
from pullcord.engine.live.port import LivePort, StartChild
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import (
    UNBOUNDED,
    Executor,
    Observer,
    RunStore,
    Terms,
)
from pullcord.engine.replicas import Replicas
from pullcord.engine.sessions import Sessions
from pullcord.engine.start import Start
from pullcord.engine.turns import Turns
from pullcord.run.events import Source
from pullcord.run.place import Runs
from pullcord.run.record import RunSpec
from pullcord.run.runnable import Runnable
from pullcord.run.scope import Scope

_log = logging.getLogger("pullcord.engine")


class LiveRuns:
    """The live runs of one engine, where they come and go. Any thread may call."""

    go_on: Callable[[LiveRun], None]
    """Executes a run anew that has waited without code."""
    start_child: StartChild
    """Starts a run that the code of another one asks for."""

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
        self.unheard = 0 if store.durable else UNBOUNDED
        """The events of a run that may be shown before its store has heard of it."""
        self.turns = Turns(
            store, clock, directory, self.sessions, self.completer, self.capacity, self.execute
        )
        self._replicas: Replicas | None = None

    def live_run(
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
        """A new live run, which nobody can find yet."""
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
            go_on=self.go_on,
        )

    def announce(self, live: LiveRun, opens: Terms | None, place: int = 0) -> None:
        """The run can be found from now on; or it is refused, and its capacity is free again.

        `opens`: the terms of a run that the store has not heard of.
        """
        try:
            live.announce(lambda: self.enter(live, place))
        except BaseException:
            self.capacity.release()
            raise
        self.entered(live)
        if self.journal is not None:
            self.journal.add(live, opens)

    def entered(self, live: LiveRun, trace: Mapping[str, str] = MappingProxyType({})) -> None:
        """The observer learns of a run that can be found, and gives it its trace."""
        source = live.lineage.source
        path = () if source is None else source.path[1:-1]
        run = live.snapshot(with_output=False)
        live.trace = self._observer.run_entered(run, path, trace)

    def enter(self, live: LiveRun, place: int, *, again: bool = False) -> None:
        """The run can be found, and stands in its session at this place."""
        if live.lineage.source is None:  # else the turn is its root's
            self.sessions.enter(live, place, again=again)
        self.completer.starting(live)
        self._directory.add(live)

    def take_turn(self, live: LiveRun, start: Start, *, asks: bool) -> None:
        """`asks`: it could be taken over while it waits, for its turn or else for a thread."""
        if asks and waits_for_thread(start, live.spec):
            self.turns.waits_for_thread(live)
            asks = False
        self.turns.take(live, start, asks=asks)

    def execute(self, live: LiveRun, start: Start) -> None:
        """Gives a run to the executor. Raises if it cannot be executed."""
        live.start = start
        runs = self._runs(live.scope)
        with self._observer.within(*live.key):
            self._executor.start(self._port(live), start.runnable, runs, loop=start.loop)

    def execute_beside(self, parent: LiveRun, live: LiveRun, runnable: Runnable) -> None:
        """Gives a child to the executor, where its parent's code is executed."""
        beside = parent.execution
        loop = beside.loop if beside is not None else None
        runs = self._runs(live.scope)
        with self._observer.within(*live.key):
            self._executor.start(self._port(live), runnable, runs, loop=loop, parent=beside)

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
            may_begin=self.turns.may_begin(live),
        )

    def let_go(self, live: LiveRun) -> None:
        """The run goes on in another process, and can no longer be found here."""
        self.completer.refused(live)
        self._observer.run_handed_over(live.snapshot(with_output=False))
        self._kept(live)
        self.capacity.release()

    def refuse(self, live: LiveRun, error: BaseException) -> None:
        """The run was admitted, and cannot be executed."""
        live.refuse(error)
        self.completer.refused(live)
        self._observer.run_withdrawn(*live.key)
        self._kept(live)
        self.capacity.release()
        self.sessions.leave(live)

    def _kept(self, live: LiveRun) -> None:
        if self.journal is not None:
            self.journal.forget(live)
            self.turns.forget(live)
        self._directory.remove(live)

    def _leave_session(self, live: LiveRun) -> None:
        # After the store has the run: this begins the next one, which must find it in its history.
        if self.sessions.leave(live) or live.rests:
            self.capacity.release()  # no code of its own will: it was stopped while it waited

    def _abandoned(self, live: LiveRun, stack: str) -> None:
        self._observer.run_abandoned(live.snapshot(with_output=False), stack)

    def join(self, replicas: Replicas) -> None:
        """Other processes share the store."""
        self._replicas = self.turns.replicas = replicas


def waits_for_thread(start: Start, spec: RunSpec) -> bool:
    """Whether all that it may have to wait for is a thread. A session's turn is another matter, and
    what another run has started is lost with that."""
    return not (start.runnable.is_async or spec.session_id or start.parent_run_id)


def _nothing(live: LiveRun) -> int:
    return 0
