"""Begins admitted runs, each when its session lets it.

A run that waits in a durable store can be taken over by another process meanwhile: such a run asks
the store before it begins, in a thread that may block. Whose turn it is `sessions` decides.
"""

import contextvars
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from pullcord.engine.aside import each
from pullcord.engine.capacity import Capacity
from pullcord.engine.clock import Clock
from pullcord.engine.completion import Completer
from pullcord.engine.directory import Directory
from pullcord.engine.live.live import Key, LiveRun
from pullcord.engine.ports import CancelRequest, NotYet, RunStore
from pullcord.engine.replicas import Replicas
from pullcord.engine.sessions import Sessions
from pullcord.engine.start import Start
from pullcord.run.cancel import CancelCause, Cancellation
from pullcord.run.errors import StoreUnavailable
from pullcord.run.record import SessionPolicy

_SOON = 1.0
"""Seconds until a store that did not answer is asked again."""

Execute = Callable[[LiveRun, Start], None]
"""Gives a run to its executor. Raises if it cannot be executed."""


class Turns:
    """The runs of one engine on their way from admission to execution. Any thread may call."""

    def __init__(
        self,
        store: RunStore,
        clock: Clock,
        directory: Directory,
        sessions: Sessions,
        completer: Completer,
        capacity: Capacity,
        execute: Execute,
    ) -> None:
        self._store = store
        self._clock = clock
        self._directory = directory
        self._sessions = sessions
        self._completer = completer
        self._capacity = capacity
        self._execute = execute
        self.replicas: Replicas | None = None
        """Set if other processes share the store."""
        self._takeable: set[Key] = set()
        """Runs that wait for their turn, and that another process may begin."""
        self._for_thread: set[Key] = set()
        """Likewise, runs that wait for a thread."""

    def take(self, live: LiveRun, start: Start, *, asks: bool) -> None:
        """Executes a run as soon as its session lets it. Raises only if nothing was changed.

        `asks`: it could be taken over while it waits, and so asks the store before it begins.
        """
        superseded = self._supersede(live)
        context = contextvars.copy_context()  # its own, not that of the run whose end begins it
        begin = partial(self._begin, live, start, context, asks)
        if asks:
            self._takeable.add(live.key)
            turn = partial(self._completer.soon, begin)  # the end that makes it its turn goes on
        else:
            turn = begin
        if not self._sessions.is_turn(live, turn):
            return
        if superseded or asks:
            begin()
        else:
            self._execute(live, start)

    def give_up(self, live: LiveRun) -> bool:
        """Takes a run that waits out of its session, for another process; whether it may be."""
        return live.key in self._takeable and self._sessions.leave(live)

    def forget(self, live: LiveRun) -> None:
        """The store has the run's end, or another process has the run."""
        self._takeable.discard(live.key)
        self._for_thread.discard(live.key)

    def waits_for_thread(self, live: LiveRun) -> None:
        """It may have to: the store is asked before its code begins, when there is a thread."""
        self._for_thread.add(live.key)

    def may_begin(self, live: LiveRun) -> Callable[[], bool] | None:
        """What is asked before the code of this run begins, in a thread that may block; None:
        nothing."""
        return partial(self._ask_until_known, live) if live.key in self._for_thread else None

    # --- inside

    def _begin(self, live: LiveRun, start: Start, context: contextvars.Context, asks: bool) -> None:
        """It is the run's turn; `asks`: if the store lets it begin."""
        again = partial(self._begin, live, start, context, asks)
        try:
            if start.loop is not None and start.loop.is_closed():
                raise RuntimeError("the event loop that was to run it is closed")
            if asks and (may := self._may_begin(live)) is not True:
                if may is None and self.replicas is not None:
                    self.replicas.wait_for_turn(live, again)
                else:
                    self._capacity.release()
                return
            context.run(self._execute, live, start)
        except StoreUnavailable:
            self._completer.again(again, _SOON)
        except Exception as error:
            live.fail(error)
            self._capacity.release()

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

    def _ask_until_known(self, live: LiveRun) -> bool:
        """Whether the code may begin; once for all, so that a run that moves is not asked again."""
        while live.key in self._for_thread:
            try:
                may = self._may_begin(live)
            except StoreUnavailable:
                threading.Event().wait(_SOON)
                continue
            self._for_thread.discard(live.key)
            return may is True
        return not live.state.is_terminal

    def _supersede(self, live: LiveRun) -> bool:
        """Stops the runs whose place this one takes; whether there were any."""
        if live.spec.session_policy is not SessionPolicy.SUPERSEDE:
            return False
        reason = f"run {live.run_id} took its place in the session"
        stop = CancelRequest(Cancellation(CancelCause.SUPERSEDED, reason=reason))
        earlier = self._sessions.supersede(live)
        each(earlier, lambda run: run.cancel(stop))
        if (sharing := self._store.sharing) is not None:
            for run_id in sharing.ahead(*live.key):
                if self._directory.here(live.scope, run_id) is None:
                    now = replace(stop.cancellation, accept_time=self._clock.time())
                    request = replace(stop, cancellation=now)
                    self._store.request_stop(live.scope, run_id, request, before_start=False)
        return bool(earlier)
