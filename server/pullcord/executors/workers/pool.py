"""The executor of worker processes: the port that the engine calls, and how workers end.

How many workers there are is decided in `staffing`, and which run is given to which in `placing`.
It knows no run's state: whether a run may begin, and how it ends, is the engine's.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, cast

from opentelemetry import propagate

from pullcord.engine.live.port import LivePort
from pullcord.engine.ports import Observer
from pullcord.executors.workers.answers import Answers, Host
from pullcord.executors.workers.connection import Connection
from pullcord.executors.workers.execution import RemoteExecution
from pullcord.executors.workers.kinds import SHARED, Kind
from pullcord.executors.workers.launcher import CannotGive, Launcher
from pullcord.executors.workers.options import Listener, WorkerOptions
from pullcord.executors.workers.placing import Placing
from pullcord.executors.workers.staffing import Staff
from pullcord.link import frames_pb2 as pb
from pullcord.link.values import VERSION, Offer, PinnedOffer, offer_of
from pullcord.run.errors import ServerBusy
from pullcord.run.killed import KilledProcess
from pullcord.run.port import RunPort
from pullcord.run.runnable import full_name

_log = logging.getLogger("pullcord.workers")

_LEAVING = 3.0
"""Seconds that a worker has to end by itself, for its shutdown hooks."""
_MOST_LINGERING = 8
"""Ended runs of a worker that have left something at work which does not end."""
_ASIDE = 4
"""Threads that wait for a store for workers' cancels, and again for all else they ask."""
_TURN = 64
"""Waiting runs that are given to workers in one turn of the loop."""


class WorkerExecutor:
    """An executor whose runs are in worker processes."""

    def __init__(
        self, options: WorkerOptions, launcher: Launcher, observer: Observer, listener: Listener
    ) -> None:
        self._options = options
        self._observer = observer
        self._listener = listener
        self._host: Host | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self.staff = Staff(self, options, launcher, listener.output)
        self.placing = Placing(self, self.staff)
        self._is_healthy = True
        self._cancels = ThreadPoolExecutor(_ASIDE, "pullcord-asked-cancels")
        self._lookups = ThreadPoolExecutor(_ASIDE, "pullcord-asked")
        self._counting = threading.Lock()
        self._sync_runs = 0
        self._all_dead = asyncio.Event()
        self._reasons: dict[Connection, str] = {}
        """Why workers end that are about to."""
        self._killed: set[Connection] = set()
        """Of those, the ones that were killed."""

    # --- life

    def open(self, host: Host) -> None:
        """Starts the workers. On the loop on which everything here happens."""
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.staff.open()

    def close(self) -> None:
        """Ends every worker: it has a moment for its shutdown hooks, and then it is killed."""
        self.post(self._close)

    def _close(self) -> None:
        if self.staff.closing:
            return
        self.staff.close()
        for connection in list(self.staff.connections):
            self._end(connection, "the server ends")
        if not self.staff.connections:
            self._all_dead.set()

    async def closed(self) -> None:
        """Returns once every worker is dead and reaped, also those that were being started."""
        await self.staff.settled()
        if self.staff.connections:
            await self._all_dead.wait()
        await self.staff.dismissed()
        for threads in (self._cancels, self._lookups):
            threads.shutdown(wait=False)

    def post(self, call: Callable[..., None], *args: Any) -> None:
        """Makes a call on the loop: now, if this is its thread."""
        if threading.get_ident() == self._thread:
            call(*args)
        elif self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and all its runs are over
                self._loop.call_soon_threadsafe(call, *args)

    def answers(self, connection: Connection) -> Answers:
        """Who answers the questions of a worker."""
        assert self._host is not None
        return Answers(connection, self._host, self._cancels, self._lookups)

    # --- the port that the engine calls

    def start(
        self,
        port: RunPort,
        runnable: Any,
        runs: object,
        *,
        loop: object = None,
        parent: Any = None,
    ) -> RemoteExecution:
        """Gives the run to a worker; until one takes it, it waits, PENDING."""
        trace: dict[str, str] = {}
        propagate.inject(trace)
        execution = RemoteExecution(
            self, cast(LivePort, port), cast(Offer, runnable), trace, parent
        )
        self._count_in(execution)
        port.attach(execution)
        if threading.get_ident() == self._thread and not isinstance(runnable, PinnedOffer):
            # In the next turn: what the caller is told first need not wait for the worker's frame.
            self.loop_soon(partial(self.placing.place, execution))
        else:
            self.post(self.placing.place, execution)
        return execution

    def _count_in(self, execution: RemoteExecution) -> None:
        """Sync runs hold threads: too many are refused here, before a worker is asked."""
        options = self._options
        if execution.kind.takes_one or execution.offer.is_async:
            return
        with self._counting:
            if self._sync_runs >= options.workers * (options.threads + options.queue):
                raise ServerBusy(
                    f"all {options.workers * options.threads} worker threads are at work and "
                    f"{options.workers * options.queue} runs wait"
                )
            self._sync_runs += 1
            execution.counts = True

    def count_out(self) -> None:
        """A sync run holds its thread no more."""
        with self._counting:
            self._sync_runs -= 1

    def owns_loop(self, loop: object) -> bool:
        """Never: no loop of a run is in this process."""
        return False

    def kind_of(self, offer: Offer) -> Kind:
        """The kind of workers that execute runs of this; a child is where its parent is."""
        if isinstance(offer, PinnedOffer):
            return SHARED
        return Kind(self._options.isolate_all or offer.isolation == "process", offer.resources)

    def loop_soon(self, call: Callable[[], None]) -> None:
        """Makes a call in the next turn of the loop."""
        assert self._loop is not None
        self._loop.call_soon(call)

    def loop_later(self, seconds: float, call: Callable[[], None]) -> None:
        """Makes a call after so many seconds."""
        assert self._loop is not None
        self._loop.call_later(seconds, call)

    def reload(self) -> None:
        """The author's files have changed: fresh workers take over once they have imported them."""
        self.staff.reload()

    def has_room(self) -> None:
        """A worker has read most of what it was sent."""
        self.placing.assign()

    # --- what workers report

    def became_ready(self, connection: Connection, ready: pb.Ready) -> None:
        """A worker can take runs."""
        if ready.version != VERSION:
            self._listener.unready("the worker process is of another version of Pullcord")
            self.kill(connection, "it is of another version")
            return
        connection.ready = True
        if (
            connection.generation < self.staff.generation
        ):  # its files changed while it imported them
            self.retire(connection, "its files have changed")
            return
        for other in list(self.staff.connections):
            if other.ready and other.generation < connection.generation:
                self.retire(other, "its files have changed")
        offers = [offer_of(message) for message in ready.offers]
        try:
            self.staff.expect({self.kind_of(offer): full_name(offer) for offer in offers})
        except CannotGive as error:
            self.became_unready(connection, str(error))
            return
        self._listener.offered(offers)
        if connection.exclusive:
            self.staff.restarts[connection.kind].reset()
        self.look_at_health()
        self.placing.assign()
        self.staff.fill()

    def became_unready(self, connection: Connection, words: str) -> None:
        """A worker could not import what it must serve."""
        # A failure, or a module that cannot be imported would be imported all the time.
        self.staff.restarts[connection.kind].failed(0.0)
        self._listener.unready(words)
        self.retire(connection, "it has nothing to serve")
        self.look_at_health()

    def look_at_health(self) -> None:
        """Runs cannot be executed while workers fail one after the other and none takes runs."""
        looping = {kind for kind, restarts in self.staff.restarts.items() if restarts.is_looping}
        able = looping <= {SHARED} and (not looping or bool(self.staff.free()))
        if able is not self._is_healthy:
            self._is_healthy = able
            self._listener.healthy(able)

    def ponged(self, connection: Connection, number: int) -> None:
        """A worker answered a ping."""
        if self.staff.pulse is not None:
            self.staff.pulse.ponged(connection, number)

    def stalled(self, run_id: str, seconds: float, stack: str) -> None:
        """A run blocks its event loop."""
        self._observer.loop_stalled(run_id, seconds, stack)

    def run_left(self, connection: Connection) -> None:
        """A run of this worker holds nothing there any more."""
        if connection.retiring:
            self._let_go(connection)
        elif connection.exclusive:
            if _is_done(connection):
                self.retire(connection, "its run has ended")
        elif not connection.runs:
            if connection.kind.takes_one:
                self.placing.assign()
            if not connection.runs and self.staff.is_one_too_many(connection):
                self.retire(connection, "others are enough")

    def run_lingers(self, connection: Connection) -> None:
        """A run of this worker has ended, and left something at work that does not end."""
        lingering = sum(1 for execution in connection.runs.values() if execution.ended)
        if connection.kind.takes_one:
            self.retire(connection, "its run has ended")
        elif lingering >= _MOST_LINGERING:
            self.retire(connection, "it harbours code that does not stop")
        elif connection.retiring:
            self._let_go(connection)

    # --- the end of workers

    def connections(self) -> Iterable[Connection]:
        """Those that are alive."""
        return tuple(self.staff.connections)

    def kill(self, connection: Connection, reason: str) -> None:
        """Ends a worker now, with everything that descends from it."""
        if connection in self.staff.connections:
            if connection.ready and not _is_done(connection):
                _log.warning("worker %d is killed: %s", connection.process.pid, reason)
            self._reasons.setdefault(connection, reason)
            connection.retiring = connection.retiring or reason
            self._killed.add(connection)
            self._name_killed(connection, connection.process.kill())
            if connection.process.stops_at_once and not self.staff.closing:
                self.loop_soon(connection.hear_out)

    def how_killed(self, connection: Connection) -> str:
        """How a dead worker died, if that is known before it is reaped; empty: it is not."""
        killed = connection in self._killed and not self.staff.closing
        return "was killed by SIGKILL" if killed else ""

    def _name_killed(self, connection: Connection, killed: list[KilledProcess]) -> None:
        """The run that had the worker for itself says which of its processes were killed."""
        if killed and connection.exclusive:
            for execution in connection.runs.values():
                if execution.parent is None and not execution.ended:
                    execution.port.processes_killed(killed)

    def retire(self, connection: Connection, reason: str) -> None:
        """A worker takes no new runs; it is killed once its other runs have ended."""
        if connection not in self.staff.connections:
            return
        if not connection.retiring:
            connection.retiring = reason
            self.placing.move(connection)
            self.staff.fill()
        self._let_go(connection)

    def begins_none(self, connection: Connection, seconds: float) -> None:
        """A worker answers, but has begun no run for so long although it had room."""
        words = f"it began no run for {seconds:g} seconds, and had room"
        _log.error("worker %d takes no new runs: %s", connection.process.pid, words)
        # A failure, or a module that causes it would be imported all the time.
        lived = time.monotonic() - connection.started_at
        self.staff.restarts[connection.kind].failed(lived)
        self.retire(connection, words)
        self.look_at_health()

    def _let_go(self, connection: Connection) -> None:
        if _is_done(connection) and connection not in self._reasons:
            self._end(connection, connection.retiring)

    def _end(self, connection: Connection, reason: str) -> None:
        """Ends a worker without live runs: by itself, or, where code lives on in it, by a kill."""
        connection.retiring = connection.retiring or reason
        if not connection.ready or connection.runs:
            self.kill(connection, reason)
            return
        self._reasons.setdefault(connection, reason)
        connection.leave()
        assert self._loop is not None
        self._loop.call_later(_LEAVING, self.kill, connection, reason)

    def died(self, connection: Connection, words: str) -> None:
        """A worker is dead, and everything that it has said was read."""
        self.staff.connections.discard(connection)
        words = self.bury_runs(connection, words)
        self._reasons.pop(connection, None)
        self._killed.discard(connection)
        if self.staff.closing:
            return
        if not connection.ready and not connection.retiring:
            self._listener.unready(f"{words}, before it had imported {self._options.target}")
        if not connection.retiring:
            self._crashed(connection, words)
        self.staff.fill()

    def bury_runs(self, connection: Connection, words: str) -> str:
        """Ends or moves the runs of a worker that executes nothing more; returns why, in full."""
        reason = self._reasons.get(connection, "")
        words = f"the worker process {words}" + (f": {reason}" if reason else "")
        # Children first, so that a parent's stream has their end before its own.
        runs = deque(sorted(connection.runs.values(), key=lambda run: -run.number))
        connection.runs.clear()
        self._bury(connection, runs, words)
        return words

    def _bury(self, connection: Connection, runs: deque[RemoteExecution], words: str) -> None:
        """Ends or moves the runs of a dead worker; thousands would keep the loop: some a turn."""
        for _ in range(min(len(runs), _TURN)):
            run = runs.popleft()
            if run.begun or isinstance(run.offer, PinnedOffer):
                run.die(words)
            elif run.ended:
                run.release()
            elif run.move():
                self.placing.wait(run)
        if runs:
            self.loop_soon(partial(self._bury, connection, runs, words))
            return
        connection.answers.close()
        self.placing.assign()
        if self.staff.closing and not self.staff.connections:
            self._all_dead.set()

    def _crashed(self, connection: Connection, words: str) -> None:
        _log.error("worker %d died: %s", connection.process.pid, words)
        # A process that its run has for itself is replaced by nothing: only its import can loop.
        if not (connection.exclusive and connection.used):
            lived = time.monotonic() - connection.started_at
            self.staff.restarts[connection.kind].failed(lived)
            self.look_at_health()


def _is_done(connection: Connection) -> bool:
    """Whether no run of it is live any more; code that does not stop may still be at work."""
    runs = connection.runs.values()
    return all((run.ended and not run.is_leaving) or run.is_abandoned for run in runs)
