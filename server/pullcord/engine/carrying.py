"""Runs that wait without code, and outlive it: the process, too, if the store does.

What a process that is gone has left is admitted again here, a paused run is put down for a process
to come, and one that somebody has decided about goes on.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from pullcord.engine.clock import Clock
from pullcord.engine.directory import Directory
from pullcord.engine.live import tree
from pullcord.engine.live.child import ChildHandle, EndedChild
from pullcord.engine.live.lineage import Kin
from pullcord.engine.live.live import LiveRun
from pullcord.engine.live_runs import LiveRuns
from pullcord.engine.ports import (
    Carried,
    RunStore,
    Terms,
    Waiting,
)
from pullcord.engine.start import Start, margin
from pullcord.run.cancel import ELSEWHERE
from pullcord.run.errors import (
    PullcordError,
    RunCancelledError,
    RunNotFound,
    ServerBusy,
    StoreUnavailable,
)
from pullcord.run.record import DisconnectPolicy
from pullcord.run.runnable import Runnable
from pullcord.run.sink import Child

_log = logging.getLogger("pullcord.engine")

_SOON = 1.0
"""Seconds until a run is tried again for which there was no room, or no store."""


class Carrying:
    """The waiting runs of one engine. Any thread may call."""

    def __init__(
        self, live_runs: LiveRuns, clock: Clock, store: RunStore, directory: Directory
    ) -> None:
        self._live_runs = live_runs
        self._clock = clock
        self._store = store
        self._directory = directory
        live_runs.go_on = self.go_on

    def readmit(self, waiting: Waiting, find: Callable[[str], Runnable]) -> None:
        """Admits a run that was admitted by a process that is gone, and had not begun, or waits for
        a decision. If that fails it is tried again, here or elsewhere.

        A client that followed it has the time of a lease to come back.
        """
        try:
            self._readmit(waiting, find)
        except (Exception, RunCancelledError):  # a mistake of ours, which must not stop the others
            self._try_again(waiting, find)

    def _try_again(self, waiting: Waiting, find: Callable[[str], Runnable]) -> None:
        """A run, or one of its children, could not be taken up, with the error at hand."""
        _log.exception("run %s could not be taken up; tried again", waiting.spec.run_id)

        def again() -> None:
            keys = [(one.scope, one.spec.run_id) for one in waiting.whole()]
            missing = [key for key in keys if self._directory.here(*key) is None]
            if self._store.sharing is not None:
                self._store.sharing.give_back(missing)
            elif keys[0] in missing:
                self.readmit(waiting, find)

        self._live_runs.completer.again(again, _SOON)

    def _readmit(self, waiting: Waiting, find: Callable[[str], Runnable]) -> None:
        spec, terms = waiting.spec, replace(waiting.terms, begins=False)
        if terms.policy is DisconnectPolicy.CANCEL:
            terms = replace(terms, policy=DisconnectPolicy.LEASE)
        self._live_runs.capacity.take(for_child=True)  # it had its place already
        live = self._live_runs.live_run(
            waiting.scope, spec, terms, reserved=waiting.reserved, create_time=waiting.create_time
        )
        carried = waiting.carried
        if carried is None:
            self._live_runs.announce(live, None, waiting.place)
        else:
            self._take_up(live, waiting, carried)
        failure: BaseException | None = None
        try:
            live.start = Start(find(spec.runnable))
        except Exception as error:
            failure = error
        try:
            if carried is not None and carried.pause.children:
                self._take_up_children(live, waiting)  # before its stop: then it has no new ones
        except (Exception, RunCancelledError) as error:
            failure = failure or error
            self._try_again(waiting, find)
        if failure is None:
            self._go_on_waiting(live, waiting, terms)
        live.presence.start_lease()
        self._live_runs.completer.started(live)
        if failure is not None:
            live.fail(failure)
        if carried is None:
            if failure is None:
                self._take_turn(live, asks=self._store.durable and not terms.begins)
            else:
                self._live_runs.capacity.release()

    def _go_on_waiting(self, live: LiveRun, waiting: Waiting, terms: Terms) -> None:
        """Its time goes on."""
        if terms.parent_run_id:  # which had begun, and is lost
            live.parent_ended()
        elif (left := self._until_deadline(waiting)) is not None:
            live.stop_at(self._clock.monotonic() + left, margin(left))

    def _take_turn(self, live: LiveRun, *, asks: bool) -> None:
        """It begins when it is its turn."""
        try:
            if not live.state.is_terminal:
                assert live.start is not None
                self._live_runs.take_turn(live, live.start, asks=asks)
                return
        except StoreUnavailable:
            self._live_runs.completer.again(partial(self._take_turn, live, asks=asks), _SOON)
            return
        except Exception as error:
            live.fail(error)
        self._live_runs.capacity.release()

    def _until_deadline(self, waiting: Waiting) -> float | None:
        if waiting.carried is not None:
            left = waiting.carried.pause.left.after(waiting.carried.elapsed).deadline
        elif waiting.terms.deadline:
            left = waiting.terms.deadline - self._clock.time()
        else:
            return None
        return None if left is None else max(0.0, left)

    def _take_up(self, live: LiveRun, waiting: Waiting, carried: Carried) -> None:
        """A paused run whose process is gone waits on here."""
        try:
            live.take_up(carried, lambda: self._live_runs.enter(live, waiting.place, again=True))
        except BaseException:
            self._live_runs.capacity.release()
            raise
        self._live_runs.entered(live, carried.pause.trace)
        if self._live_runs.journal is not None:
            self._live_runs.journal.add(live, after=carried.pause.sequence)

    def _take_up_children(self, root: LiveRun, waiting: Waiting) -> None:
        """The children of a run that was taken up wait on here, too, and theirs."""
        parents: list[LiveRun] = []
        try:
            self._take_up_beneath(root, waiting, parents)
            tree.hold(root)
        finally:
            for parent in reversed(parents):
                parent.children_came()
        for parent in reversed(parents):  # the lowest first: it says what its own parent waits for
            if parent.departed:
                parent.wake()

    def _take_up_beneath(self, parent: LiveRun, waiting: Waiting, parents: list[LiveRun]) -> None:
        """Adds to the runs that wait for children, each before its own."""
        parents.append(parent)
        parent.departed.update((run.run_id, run) for run in waiting.ended)
        for one in waiting.children:
            live, carried = self._take_up_child(parent, one), one.carried
            if live is not None and carried is not None and carried.pause.children:
                self._take_up_beneath(live, one, parents)

    def _take_up_child(self, parent: LiveRun | None, waiting: Waiting) -> LiveRun | None:
        """A child waits on here; None: its parent has ended meanwhile, and so has it."""
        carried = waiting.carried
        assert carried is not None
        live = self._live_runs.live_run(
            waiting.scope,
            waiting.spec,
            waiting.terms,
            parent,
            None if parent is None else carried.pause.source,
            reserved=waiting.reserved,
            create_time=waiting.create_time,
        )
        self._live_runs.capacity.take(for_child=True)
        try:
            self._take_up(live, waiting, carried)
        except (PullcordError, RunCancelledError):
            if parent is None:
                raise
            self._end_alone(waiting)
            return None
        self._live_runs.completer.started(live)
        if parent is None:
            live.children_came()  # they have no parent any more, either
            live.parent_ended()
        elif (stop := parent.cancellation) is not None:  # which came while it was not here
            live.stop_with_parent(stop)
        return live

    def _end_alone(self, waiting: Waiting) -> None:
        """A child whose parent has ended, or must stop, ends with all its own children."""
        self._take_up_child(None, waiting)
        for one in waiting.children:
            self._end_alone(one)

    def go_on(self, live: LiveRun) -> None:
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
                self._live_runs.execute(live, start)
        except ServerBusy:
            live.rests = True
            self._live_runs.completer.again(partial(self.go_on, live), _SOON)
        except Exception as error:
            live.rests = True
            live.fail(error)

    def start_again(self, parent: LiveRun, runnable: Runnable, run_id: str) -> Child:
        """A child of a run that is executed anew is executed as soon as somebody has decided."""
        if (ended := parent.departed.get(run_id)) is not None:
            return EndedChild(ended)
        live = self._directory.here(parent.scope, run_id)
        if live is None or live.lineage.parent is not parent:
            if (ended := parent.departed.get(run_id)) is not None:  # just now
                return EndedChild(ended)
            raise RunNotFound(run_id)
        with live.lock:
            live.beside = partial(self._live_runs.execute_beside, parent, live, runnable)
            goes_on = live.rests and live.machine.resumed is not None
        if goes_on:
            self.go_on(live)
        return ChildHandle(live, parent)

    def can_put_down(self, live: LiveRun) -> bool:
        """Whether a run that waits can be continued by a process to come, and so all of its
        tree."""
        root = live.lineage.root
        return tree.waits(root) and all(map(self._is_stored, tree.whole(root)))

    def _is_stored(self, live: Kin) -> bool:
        assert isinstance(live, LiveRun)
        pause = live.pause() if self._live_runs.journal is not None else None
        if self._live_runs.journal is None or pause is None:
            return False
        return self._live_runs.journal.has(live, pause.sequence, live.machine.standing)

    def put_down(self, live: LiveRun, *, fenced: bool = False) -> bool:
        """Lets go of a run that waits for its turn or for a decision: it goes on in a process to
        come, if the store outlives this one. Whether it does. `fenced`: this one has no runs."""
        if live.is_put_down:  # with its parent
            return True
        if not fenced and self._live_runs.turns.give_up(live):
            live.put_down()
            self._live_runs.let_go(live)
            return True
        if not self.can_put_down(live):
            return False
        root = live.lineage.root
        assert isinstance(root, LiveRun)
        runs = list(tree.whole(root))
        executions = tree.lay_down(root, fenced=fenced)
        if executions is None:
            return False
        for run in runs:
            assert isinstance(run, LiveRun)
            self._live_runs.sessions.leave(run)
            self._live_runs.let_go(run)
        for execution in executions:  # last: nothing that its code says now is written
            execution.stop(ELSEWHERE, 0.0)
        return True
