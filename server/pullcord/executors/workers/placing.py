"""Which worker a run is given to, and the runs that wait for one.

A run goes to the worker with the fewest runs among those that are quick; a run that has a process
for itself, or needs resources, to one without a run. How many workers there are is for `staffing`.
"""

import itertools
import logging
from functools import partial
from typing import TYPE_CHECKING

from pullcord.executors.workers.connection import Connection
from pullcord.executors.workers.execution import RemoteExecution
from pullcord.executors.workers.kinds import SHARED, Kind
from pullcord.executors.workers.staffing import Staff
from pullcord.link.values import PinnedOffer
from pullcord.run.cancel import ELSEWHERE
from pullcord.run.events import RunError
from pullcord.run.port import Failure

if TYPE_CHECKING:
    from pullcord.executors.workers.pool import WorkerExecutor

_LEAVING = 2.0
"""Seconds that the code of such a run has to end."""
_TURN = 64
"""Waiting runs that are given to workers in one turn of the loop."""

_NOT_SENT = RunError("NotSent", "the server could not send it to a worker; its log says why")
_log = logging.getLogger("pullcord.workers")


class Placing:
    """The assignment of runs to workers. Used on the pool's loop only."""

    def __init__(self, pool: "WorkerExecutor", staff: Staff) -> None:
        self._pool = pool
        self._staff = staff
        self._numbers = itertools.count(1)
        self.waiting: dict[Kind, dict[RemoteExecution, None]] = {SHARED: {}}
        """Runs without a worker, in their order, by what they need."""

    def place(self, execution: RemoteExecution) -> None:
        """Gives a run to a worker, as soon as one takes it; a child to that of its parent."""
        offer = execution.offer
        if execution.released:  # it was stopped meanwhile
            return
        if isinstance(offer, PinnedOffer):
            connection = next((c for c in self._staff.connections if c is offer.place), None)
            if connection is None:
                execution.die("the worker process that had to execute it has died")
                return
            offer.started = True
            self._start(connection, execution, offer.key)
            return
        self.wait(execution)
        self.assign()

    def wait(self, execution: RemoteExecution) -> None:
        """It waits for a worker, behind others."""
        self.waiting.setdefault(execution.kind, {})[execution] = None

    def assign(self) -> None:
        """Gives waiting runs to workers, as far as there are any."""
        left = _TURN
        for kind, waiting in list(self.waiting.items()):
            while waiting and left and (connection := self._pick(kind)) is not None:
                if connection.is_full:  # once it has read that, the pool comes here again
                    break
                execution = next(iter(waiting))
                del waiting[execution]
                self._start(connection, execution, 0)
                left -= 1
            if waiting and kind.resources is not None:
                self._make_room(kind, len(waiting))
        if not left:
            self._pool.loop_soon(self.assign)
        elif any(self.waiting.values()):
            self._staff.fill()

    def _start(self, connection: Connection, execution: RemoteExecution, key: int) -> None:
        """Sends a run to this worker. A run that cannot be sent ends FAILED; others go on."""
        number = next(self._numbers)
        try:
            connection.start(execution, number, key)
        except Exception:
            _log.exception("run %s cannot be sent to a worker", execution.port.run_id)
            connection.runs.pop(number, None)
            execution.connection = None
            execution.end(Failure(_NOT_SENT), "")
            self._pool.loop_soon(partial(self._pool.run_left, connection))

    def _pick(self, kind: Kind) -> Connection | None:
        free = self._staff.free(kind)
        if kind.takes_one:
            idle = next((c for c in free if not c.runs), None)
            if idle is not None and kind.exclusive:
                self._pool.loop_soon(self._staff.fill)  # a new spare
            return idle
        quick = [c for c in free if not self._staff.is_slow(c)]
        if not quick and free and self._staff.can_grow():
            if not self._staff.coming(SHARED):
                self._staff.spawn(SHARED)
            return None  # the fresh one is about to take it
        return min(quick or free, key=lambda c: len(c.runs), default=None)

    def _make_room(self, kind: Kind, needed: int) -> None:
        """Has workers of this kind left by trees of runs that wait for decisions, and can do so
        without them; a worker takes one tree."""
        taken = [c for c in self._staff.free(kind) if c.runs]
        needed -= sum(1 for connection in taken if connection.is_being_left)
        for connection in taken:
            if needed <= 0:
                return
            for execution in list(connection.runs.values()):
                self._leave(connection, execution)
            needed -= connection.is_being_left

    def _leave(self, connection: Connection, execution: RemoteExecution) -> bool:
        """Stops the code of a run that can wait for a decision without it; whether it can."""
        if not execution.begun or not execution.rest():
            return False
        execution.is_leaving = True
        connection.stop(execution, ELSEWHERE, 0.0)
        self._pool.loop_later(_LEAVING, partial(self._has_left, connection, execution))
        return True

    def _has_left(self, connection: Connection, execution: RemoteExecution) -> None:
        """The code of a run that waits elsewhere has had its time to end."""
        execution.is_leaving = False
        if execution.number in connection.runs and connection.kind.takes_one:
            self._pool.run_lingers(connection)
        else:
            self._pool.run_left(connection)

    def forget(self, execution: RemoteExecution) -> None:
        """It no longer waits for a worker."""
        if (waiting := self.waiting.get(execution.kind)) is not None:
            waiting.pop(execution, None)

    def move(self, connection: Connection) -> None:
        """Runs that have not begun on this worker go to another, and those that can wait for a
        decision without it do."""
        for execution in list(connection.runs.values()):
            if self._leave(connection, execution):
                continue
            if not execution.begun and not isinstance(execution.offer, PinnedOffer):
                del connection.runs[execution.number]
                connection.drop(execution)
                if execution.move():
                    self.wait(execution)
        self.assign()
