"""The executor of worker processes: which worker a run is given to, and what becomes of workers.

It keeps as many shared workers as the settings say and warm spares for runs that have a process for
themselves, replaces what dies or is retired, and moves runs that have not begun. It knows no run's
state: whether a run may begin, and how it ends, is the engine's.
"""

import asyncio
import contextlib
import itertools
import logging
import os
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
from pullcord.executors.workers.guardian import Guardian
from pullcord.executors.workers.options import Listener, WorkerOptions
from pullcord.executors.workers.process import ROOT, start_process
from pullcord.executors.workers.pulse import Pulse
from pullcord.executors.workers.restarts import Restarts
from pullcord.link import frames_pb2 as pb
from pullcord.link.values import VERSION, Offer, PinnedOffer, offer_of
from pullcord.run.errors import ServerBusy
from pullcord.run.killed import KilledProcess
from pullcord.run.port import RunPort

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

    def __init__(self, options: WorkerOptions, observer: Observer, listener: Listener) -> None:
        self._options = options
        self._observer = observer
        self._listener = listener
        self._host: Host | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._numbers = itertools.count(1)
        self._connections: set[Connection] = set()
        self._guardian = Guardian(ROOT)
        self._starting = {False: 0, True: 0}
        """Processes on their way, shared and exclusive."""
        self._waiting: dict[bool, dict[RemoteExecution, None]] = {False: {}, True: {}}
        """Runs without a worker, in their order: those that share one, and those that do not."""
        self._restarts = {False: Restarts(), True: Restarts()}
        """Of shared and exclusive workers."""
        self._is_healthy = True
        self._cancels = ThreadPoolExecutor(_ASIDE, "pullcord-asked-cancels")
        self._lookups = ThreadPoolExecutor(_ASIDE, "pullcord-asked")
        self._ending = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._pulse: Pulse | None = None
        self._beating: asyncio.Task[None] | None = None
        self._counting = threading.Lock()
        self._sync_runs = 0
        self._closing = False
        self._generation = 0
        self._isolates = False
        """Whether runs of some runnable have a process for themselves."""
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
        self._pulse = Pulse(self, self._options)
        self._beating = self._loop.create_task(self._pulse.beat())
        self._guardian.open()
        self._fill()

    def close(self) -> None:
        """Ends every worker: it has a moment for its shutdown hooks, and then it is killed."""
        self.post(self._close)

    def _close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._ending.set()
        if self._beating is not None:
            self._beating.cancel()
        for connection in list(self._connections):
            self._end(connection, "the server ends")
        if not self._connections:
            self._all_dead.set()

    async def closed(self) -> None:
        """Returns once every worker is dead and reaped, also those that were being started."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._connections:
            await self._all_dead.wait()
        await asyncio.to_thread(self._guardian.close)
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
            self._loop_soon(partial(self._place, execution))
        else:
            self.post(self._place, execution)
        return execution

    def _count_in(self, execution: RemoteExecution) -> None:
        """Sync runs hold threads: too many are refused here, before a worker is asked."""
        options = self._options
        if execution.is_alone or execution.offer.is_async:
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

    # --- which worker

    def _place(self, execution: RemoteExecution) -> None:
        offer = execution.offer
        if execution.released:  # it was stopped meanwhile
            return
        if isinstance(offer, PinnedOffer):
            connection = next((c for c in self._connections if c is offer.place), None)
            if connection is None:
                execution.die("the worker process that had to execute it has died")
                return
            offer.started = True
            connection.start(execution, next(self._numbers), offer.key)
            return
        self._wait(execution)
        self._assign()

    def _wait(self, execution: RemoteExecution) -> None:
        self._waiting[execution.is_alone][execution] = None

    def _assign(self) -> None:
        """Gives waiting runs to workers, as far as there are any."""
        left = _TURN
        for exclusive, waiting in self._waiting.items():
            while waiting and left and (connection := self._pick(exclusive)) is not None:
                execution = next(iter(waiting))
                del waiting[execution]
                connection.start(execution, next(self._numbers), 0)
                left -= 1
        if not left:
            self._loop_soon(self._assign)
        elif any(self._waiting.values()):
            self._fill()

    def is_alone(self, offer: Offer) -> bool:
        """Whether runs of this have a process for themselves; a child is where its parent is."""
        isolated = self._options.isolate_all or offer.isolation == "process"
        return isolated and not isinstance(offer, PinnedOffer)

    def _pick(self, exclusive: bool) -> Connection | None:
        if exclusive:
            for connection in self._connections:
                if connection.exclusive and connection.takes_runs and not connection.runs:
                    self._loop_soon(self._fill)  # a new spare
                    return connection
            return None
        free = self._free()
        quick = [c for c in free if not self.is_slow(c)]
        if not quick and free and self._can_grow():
            if not self._coming(exclusive=False):
                self._spawn(exclusive=False)
            return None  # the fresh one is about to take it
        return min(quick or free, key=lambda c: len(c.runs), default=None)

    def _free(self) -> list[Connection]:
        """Shared workers that take runs."""
        return [c for c in self._connections if c.takes_runs and not c.exclusive]

    def is_slow(self, connection: Connection) -> bool:
        """Whether threads that compute keep a worker from answering quickly."""
        return self._pulse is not None and self._pulse.is_slow(connection)

    def pace_changed(self) -> None:
        """A shared worker has become slow, or quick again: one that is quick must be at hand.

        It is started before a run needs it, because on a busy machine its import takes seconds.
        """
        free = self._free()
        if free and all(map(self.is_slow, free)):
            if self._can_grow() and not self._coming(exclusive=False):
                self._spawn(exclusive=False)
            return
        for connection in free:
            if not connection.runs and self._is_one_too_many(connection):
                self.retire(connection, "others are enough")
                return

    def has_room_beside(self, connection: Connection) -> bool:
        """Whether runs of this worker could go to a quicker one."""
        others = (c for c in self._free() if c is not connection)
        return self._can_grow() or any(not self.is_slow(other) for other in others)

    def _coming(self, *, exclusive: bool) -> int:
        """Workers that are being started, or import what they will serve."""
        importing = sum(
            1
            for c in self._connections
            if c.exclusive is exclusive and not c.ready and not c.retiring
        )
        return self._starting[exclusive] + importing

    def _can_grow(self) -> bool:
        """Whether a shared worker more comes, or may be started: no more than processors beside
        those that the settings ask for, because on a busy machine each would seem slow."""
        if self._coming(exclusive=False):
            return True
        shared = sum(1 for c in self._connections if not c.exclusive and not c.retiring)
        beside = shared - self._options.workers
        return beside < (os.cpu_count() or 1) and self._count() < self._options.max_processes

    def _count(self) -> int:
        return len(self._connections) + sum(self._starting.values())

    def forget(self, execution: RemoteExecution) -> None:
        """It no longer waits for a worker."""
        self._waiting[execution.is_alone].pop(execution, None)

    def move(self, connection: Connection) -> None:
        """Runs that have not begun on this worker go to another."""
        for execution in list(connection.runs.values()):
            if not execution.begun and not isinstance(execution.offer, PinnedOffer):
                del connection.runs[execution.number]
                connection.drop(execution)
                if execution.move():
                    self._wait(execution)
        self._assign()

    # --- how many workers

    def _fill(self) -> None:
        """Starts the workers that the settings ask for, or runs wait for, and are missing."""
        if self._closing:
            return
        options = self._options
        shared = sum(1 for c in self._connections if not c.exclusive and not c.retiring)
        wanted = options.workers - shared - self._starting[False]
        if options.isolate_all:
            wanted = min(wanted, 1 - shared - self._starting[False])  # it reports the catalog
        idle = sum(1 for c in self._connections if c.exclusive and not c.runs and not c.retiring)
        waiting = len(self._waiting[True])
        warm = options.spares if options.isolate_all or self._isolates else 0
        spares = warm + waiting - idle - self._starting[True]
        for exclusive, number in ((False, wanted), (True, spares)):
            for _ in range(number):
                if self._count() < options.max_processes:
                    self._spawn(exclusive=exclusive)

    def _spawn(self, *, exclusive: bool) -> None:
        self._starting[exclusive] += 1
        self._spawn_task(self._start_worker(exclusive))

    def _spawn_task(self, work: Any) -> None:
        assert self._loop is not None
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start_worker(self, exclusive: bool) -> None:
        restarts = self._restarts[exclusive]
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), restarts.delay())
            if self._closing:
                return
            generation = self._generation  # as it was before the import began
            process = await asyncio.to_thread(start_process, self._guardian)
        except OSError as error:
            restarts.failed(0.0)
            _log.error("no worker process can be started: %s", error)
            self._look_at_health()
            self._loop_soon(self._fill)
            return
        finally:
            self._starting[exclusive] -= 1
        connection = Connection(self, process, exclusive=exclusive, on_output=self._listener.output)
        connection.generation = generation
        self._connections.add(connection)
        if self._closing:
            process.kill()
            return
        options = self._options
        hello = pb.Hello(
            target=options.target,
            options=options.engine,
            log_level=options.log_level,
            log_json=options.log_json,
            exclusive=exclusive,
        )
        connection.send(pb.DownFrame(hello=hello))

    def _loop_soon(self, call: Callable[[], None]) -> None:
        assert self._loop is not None
        self._loop.call_soon(call)

    def reload(self) -> None:
        """The author's files have changed: fresh workers take over once they have imported them."""
        self._generation += 1
        for restarts in self._restarts.values():
            restarts.reset()
        if not self._closing:
            self._spawn(exclusive=False)

    # --- what workers report

    def became_ready(self, connection: Connection, ready: pb.Ready) -> None:
        """A worker can take runs."""
        if ready.version != VERSION:
            self._listener.unready("the worker process is of another version of Pullcord")
            self.kill(connection, "it is of another version")
            return
        connection.ready = True
        if connection.generation < self._generation:  # its files changed while it imported them
            self.retire(connection, "its files have changed")
            return
        for other in list(self._connections):
            if other.ready and other.generation < connection.generation:
                self.retire(other, "its files have changed")
        offers = [offer_of(message) for message in ready.offers]
        self._isolates = any(offer.isolation for offer in offers)
        self._listener.offered(offers)
        if connection.exclusive:
            self._restarts[True].reset()
        self._look_at_health()
        self._assign()
        self._fill()

    def became_unready(self, connection: Connection, words: str) -> None:
        """A worker could not import what it must serve."""
        # A failure, or a module that cannot be imported would be imported all the time.
        self._restarts[connection.exclusive].failed(0.0)
        self._listener.unready(words)
        self.retire(connection, "it has nothing to serve")
        self._look_at_health()

    def _look_at_health(self) -> None:
        """Runs cannot be executed while workers fail one after the other and none takes runs."""
        shared, exclusive = self._restarts[False], self._restarts[True]
        able = not exclusive.is_looping and (not shared.is_looping or bool(self._free()))
        if able is not self._is_healthy:
            self._is_healthy = able
            self._listener.healthy(able)

    def ponged(self, connection: Connection, number: int) -> None:
        """A worker answered a ping."""
        if self._pulse is not None:
            self._pulse.ponged(connection, number)

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
        elif not connection.runs and self._is_one_too_many(connection):
            self.retire(connection, "others are enough")

    def trim(self) -> None:
        """Ends a worker that is idle and not needed: no run may come whose end would show that."""
        for connection in self._free():
            if not connection.runs and self._is_one_too_many(connection):
                self.retire(connection, "others are enough")
                return

    def _is_one_too_many(self, connection: Connection) -> bool:
        """Whether it was started because others were slow, and there are enough without it."""
        others = [c for c in self._free() if c is not connection and not self.is_slow(c)]
        return len(others) >= self._options.workers

    def run_lingers(self, connection: Connection) -> None:
        """A run of this worker has ended, and left something at work that does not end."""
        lingering = sum(1 for execution in connection.runs.values() if execution.ended)
        if connection.exclusive:
            self.retire(connection, "its run has ended")
        elif lingering >= _MOST_LINGERING:
            self.retire(connection, "it harbours code that does not stop")
        elif connection.retiring:
            self._let_go(connection)

    # --- the end of workers

    def connections(self) -> Iterable[Connection]:
        """Those that are alive."""
        return tuple(self._connections)

    def kill(self, connection: Connection, reason: str) -> None:
        """Ends a worker now, with everything that descends from it."""
        if connection in self._connections:
            if connection.ready and not _is_done(connection):
                _log.warning("worker %d is killed: %s", connection.process.pid, reason)
            self._reasons.setdefault(connection, reason)
            connection.retiring = connection.retiring or reason
            self._killed.add(connection)
            self._name_killed(connection, connection.process.kill())

    def how_killed(self, connection: Connection) -> str:
        """How a dead worker died, if that is known before it is reaped; empty: it is not."""
        killed = connection in self._killed and not self._closing
        return "was killed by SIGKILL" if killed else ""

    def _name_killed(self, connection: Connection, killed: list[KilledProcess]) -> None:
        """The run that had the worker for itself says which of its processes were killed."""
        if killed and connection.exclusive:
            for execution in connection.runs.values():
                if execution.parent is None and not execution.ended:
                    execution.port.processes_killed(killed)

    def retire(self, connection: Connection, reason: str) -> None:
        """A worker takes no new runs; it is killed once its other runs have ended."""
        if connection not in self._connections:
            return
        if not connection.retiring:
            connection.retiring = reason
            self.move(connection)
            self._fill()
        self._let_go(connection)

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
        self._connections.discard(connection)
        reason = self._reasons.pop(connection, "")
        self._killed.discard(connection)
        words = f"the worker process {words}" + (f": {reason}" if reason else "")
        # Children first, so that a parent's stream has their end before its own.
        runs = deque(sorted(connection.runs.values(), key=lambda run: -run.number))
        connection.runs.clear()
        self._bury(connection, runs, words)
        if self._closing:
            return
        if not connection.ready and not connection.retiring:
            self._listener.unready(f"{words}, while it imported {self._options.target}")
        if not connection.retiring:
            self._crashed(connection, words)
        self._fill()

    def _bury(self, connection: Connection, runs: deque[RemoteExecution], words: str) -> None:
        """Ends or moves the runs of a dead worker; thousands would keep the loop: some a turn."""
        for _ in range(min(len(runs), _TURN)):
            run = runs.popleft()
            if run.begun or isinstance(run.offer, PinnedOffer):
                run.die(words)
            elif run.ended:
                run.release()
            elif run.move():
                self._wait(run)
        if runs:
            self._loop_soon(partial(self._bury, connection, runs, words))
            return
        connection.answers.close()
        self._assign()
        if self._closing and not self._connections:
            self._all_dead.set()

    def _crashed(self, connection: Connection, words: str) -> None:
        _log.error("worker %d died: %s", connection.process.pid, words)
        # A process that its run has for itself is replaced by nothing: only its import can loop.
        if not (connection.exclusive and connection.used):
            lived = time.monotonic() - connection.started_at
            self._restarts[connection.exclusive].failed(lived)
            self._look_at_health()


def _is_done(connection: Connection) -> bool:
    """Whether no run of it is live any more; code that does not stop may still be at work."""
    return all(run.ended or run.is_abandoned for run in connection.runs.values())
