"""How many workers there are: those that the settings ask for or runs wait for are started, and one
that is not needed any more is let go.

Which run is given to which of them is for `placing`, and how a worker ends for the pool.
"""

import asyncio
import contextlib
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pullcord.executors.workers.connection import Connection
from pullcord.executors.workers.kinds import ALONE, SHARED, Kind
from pullcord.executors.workers.launcher import CannotGive, Launcher
from pullcord.executors.workers.options import WorkerOptions
from pullcord.executors.workers.pulse import Pulse
from pullcord.executors.workers.restarts import Restarts
from pullcord.link import frames_pb2 as pb

if TYPE_CHECKING:
    from pullcord.executors.workers.pool import WorkerExecutor

_log = logging.getLogger("pullcord.workers")


class Staff:
    """The workers that are alive, and those on their way. Used on the pool's loop only."""

    def __init__(
        self,
        pool: "WorkerExecutor",
        options: WorkerOptions,
        launcher: Launcher,
        on_output: Callable[[str, int, bytes], None],
    ) -> None:
        self._pool = pool
        self._options = options
        self._launcher = launcher
        self._on_output = on_output
        self.connections: set[Connection] = set()
        """The workers that are alive."""
        self.restarts: defaultdict[Kind, Restarts] = defaultdict(Restarts)
        """Of each kind of workers."""
        self.generation = 0
        """Of the author's files: how often they have changed."""
        self._kinds = {SHARED, ALONE} if options.isolate_all else {SHARED}
        """Of the workers that are kept warm."""
        self.pulse: Pulse | None = None
        self._starting: Counter[Kind] = Counter()
        """Processes on their way."""
        self._ending = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._beating: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Starts the first workers."""
        self._launcher.open()
        self.pulse = Pulse(self._pool, self._options)
        self._beating = asyncio.get_running_loop().create_task(self.pulse.beat())
        self.fill()

    @property
    def closing(self) -> bool:
        """Whether no worker is started any more."""
        return self._ending.is_set()

    def close(self) -> None:
        """No worker is started any more."""
        self._ending.set()
        if self._beating is not None:
            self._beating.cancel()

    async def settled(self) -> None:
        """Returns once no worker is on its way any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def dismissed(self) -> None:
        """Once all are dead: closes what started them."""
        await asyncio.to_thread(self._launcher.close)

    def expect(self, kinds: Mapping[Kind, str]) -> None:
        """These are the workers that runs will need, each with the name of a runnable.

        Raises CannotGive if there will never be such ones.
        """
        pools = 0
        for kind, name in kinds.items():
            if kind.resources is None:
                continue
            pools += 1
            try:
                self._launcher.check(kind.resources)
            except CannotGive as error:
                raise CannotGive(f"{name} cannot be executed here: {error}") from None
        options = self._options
        if pools and (needed := options.workers + pools * options.pool_workers) > (
            options.max_processes
        ):
            raise CannotGive(
                f"runnables ask for {pools} sets of resources, so that {needed} workers are needed "
                f"at once: set PULLCORD_MAX_PROCESSES, which is {options.max_processes}, to more"
            )
        self._kinds = {SHARED, *kinds}

    def free(self, kind: Kind = SHARED) -> list[Connection]:
        """Workers of a kind that take runs."""
        return [c for c in self.connections if c.takes_runs and c.kind == kind]

    def is_slow(self, connection: Connection) -> bool:
        """Whether threads that compute keep a worker from answering quickly."""
        return self.pulse is not None and self.pulse.is_slow(connection)

    def pace_changed(self) -> None:
        """A shared worker has become slow, or quick again: one that is quick must be at hand.

        It is started before a run needs it, because on a busy machine its import takes seconds.
        """
        free = self.free()
        if free and all(map(self.is_slow, free)):
            if self.can_grow() and not self.coming(SHARED):
                self.spawn(SHARED)
        else:
            self.trim()

    def has_room_beside(self, connection: Connection) -> bool:
        """Whether runs of this worker could go to a quicker one."""
        others = (c for c in self.free() if c is not connection)
        return self.can_grow() or any(not self.is_slow(other) for other in others)

    def coming(self, kind: Kind) -> int:
        """Workers that are being started, or import what they will serve."""
        return self._starting[kind] + sum(1 for c in self._staying(kind) if not c.ready)

    def _staying(self, kind: Kind) -> list[Connection]:
        return [c for c in self.connections if c.kind == kind and not c.retiring]

    def can_grow(self) -> bool:
        """Whether a shared worker more comes, or may be started: no more than processors beside
        those that the settings ask for, because on a busy machine each would seem slow."""
        if self._launcher.may_wait:  # runs would wait for one that never comes
            return False
        if self.coming(SHARED):
            return True
        beside = len(self._staying(SHARED)) - self._options.workers
        return beside < (os.cpu_count() or 1) and self._count() < self._options.max_processes

    def _count(self) -> int:
        return len(self.connections) + sum(self._starting.values())

    def trim(self) -> None:
        """Ends a worker that is idle and not needed: no run may come whose end would show that."""
        for connection in self.connections:
            if not connection.takes_runs or connection.exclusive or connection.runs:
                continue
            if self.is_one_too_many(connection):
                self._pool.retire(connection, "others are enough")
                return

    def is_one_too_many(self, connection: Connection) -> bool:
        """Whether it was started because others were slow or busy, and there are enough without
        it."""
        if connection.kind.resources is not None:
            staying = len(self._staying(connection.kind))
            return staying > self._options.pool_workers and not self._waiting(connection.kind)
        others = [c for c in self.free() if c is not connection and not self.is_slow(c)]
        return len(others) >= self._options.workers

    def fill(self) -> None:
        """Starts the workers that the settings ask for, or runs wait for, and are missing."""
        if self.closing:
            return
        for kind, number in list(self._missing()):
            for _ in range(number):
                if self._count() < self._options.max_processes:
                    self.spawn(kind)

    def _missing(self) -> Iterator[tuple[Kind, int]]:
        """How many workers of each kind must be started."""
        options = self._options
        there = len(self._staying(SHARED)) + self._starting[SHARED]
        # With a process for each run, one shared worker reports the catalog.
        yield SHARED, (min(options.workers, 1) if options.isolate_all else options.workers) - there
        for kind in (self._kinds | self._pool.placing.waiting.keys()) - {SHARED}:
            staying, starting = self._staying(kind), self._starting[kind]
            busy = sum(1 for c in staying if c.runs and not c.is_being_left)
            idle = len(staying) - busy + starting
            warm, most = options.spares, options.max_processes
            if kind.resources is not None:
                warm, most = options.pool_workers, options.max_pool_workers
            if kind not in self._kinds:  # nothing that is served now
                warm = 0
            # A worker that is busy takes another run later, except if it ends with its run.
            needed = self._waiting(kind) + warm
            if not kind.exclusive:
                needed = max(self._waiting(kind), warm - busy)
            yield kind, min(needed - idle, most - len(staying) - starting)

    def _waiting(self, kind: Kind) -> int:
        return len(self._pool.placing.waiting.get(kind, ()))

    def spawn(self, kind: Kind) -> None:
        """Starts one worker more, aside."""
        self._starting[kind] += 1
        self._spawn_task(self._start_worker(kind))

    def _spawn_task(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start_worker(self, kind: Kind) -> None:
        restarts = self.restarts[kind]
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), restarts.delay())
            if self.closing:
                return
            generation = self.generation  # as it was before the import began
            process = await asyncio.to_thread(self._launcher.start, kind.resources)
        except OSError as error:
            restarts.failed(0.0)
            _log.error("no worker process can be started: %s", error)
            self._pool.look_at_health()
            self._pool.loop_soon(self.fill)
            return
        finally:
            self._starting[kind] -= 1
        connection = Connection(self._pool, process, kind=kind, on_output=self._on_output)
        connection.generation = generation
        self.connections.add(connection)
        if self.closing:
            process.kill()
            return
        options = self._options
        hello = pb.Hello(
            target=options.target,
            options=options.engine,
            log_level=options.log_level,
            log_json=options.log_json,
            exclusive=kind.exclusive,
            disclosure=options.disclosure,
        )
        connection.send(pb.DownFrame(hello=hello))

    def reload(self) -> None:
        """The author's files have changed: fresh workers take over once they have imported them."""
        self.generation += 1
        for restarts in self.restarts.values():
            restarts.reset()
        if not self.closing:
            self.spawn(SHARED)
