"""How many workers there are: those that the settings ask for or runs wait for are started, and one
that is not needed any more is let go.

Which run is given to which of them is for `placing`, and how a worker ends for the pool.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pullcord.executors.workers.connection import Connection
from pullcord.executors.workers.launcher import Launcher
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
        self.restarts = {False: Restarts(), True: Restarts()}
        """Of shared and exclusive workers."""
        self.generation = 0
        """Of the author's files: how often they have changed."""
        self.isolates = False
        """Whether runs of some runnable have a process for themselves."""
        self.pulse: Pulse | None = None
        self._starting = {False: 0, True: 0}
        """Processes on their way, shared and exclusive."""
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

    def free(self) -> list[Connection]:
        """Shared workers that take runs."""
        return [c for c in self.connections if c.takes_runs and not c.exclusive]

    def is_slow(self, connection: Connection) -> bool:
        """Whether threads that compute keep a worker from answering quickly."""
        return self.pulse is not None and self.pulse.is_slow(connection)

    def pace_changed(self) -> None:
        """A shared worker has become slow, or quick again: one that is quick must be at hand.

        It is started before a run needs it, because on a busy machine its import takes seconds.
        """
        free = self.free()
        if free and all(map(self.is_slow, free)):
            if self.can_grow() and not self.coming(exclusive=False):
                self.spawn(exclusive=False)
        else:
            self.trim()

    def has_room_beside(self, connection: Connection) -> bool:
        """Whether runs of this worker could go to a quicker one."""
        others = (c for c in self.free() if c is not connection)
        return self.can_grow() or any(not self.is_slow(other) for other in others)

    def coming(self, *, exclusive: bool) -> int:
        """Workers that are being started, or import what they will serve."""
        importing = sum(
            1
            for c in self.connections
            if c.exclusive is exclusive and not c.ready and not c.retiring
        )
        return self._starting[exclusive] + importing

    def can_grow(self) -> bool:
        """Whether a shared worker more comes, or may be started: no more than processors beside
        those that the settings ask for, because on a busy machine each would seem slow."""
        if self.coming(exclusive=False):
            return True
        shared = sum(1 for c in self.connections if not c.exclusive and not c.retiring)
        beside = shared - self._options.workers
        return beside < (os.cpu_count() or 1) and self._count() < self._options.max_processes

    def _count(self) -> int:
        return len(self.connections) + sum(self._starting.values())

    def trim(self) -> None:
        """Ends a worker that is idle and not needed: no run may come whose end would show that."""
        for connection in self.free():
            if not connection.runs and self.is_one_too_many(connection):
                self._pool.retire(connection, "others are enough")
                return

    def is_one_too_many(self, connection: Connection) -> bool:
        """Whether it was started because others were slow, and there are enough without it."""
        others = [c for c in self.free() if c is not connection and not self.is_slow(c)]
        return len(others) >= self._options.workers

    def fill(self) -> None:
        """Starts the workers that the settings ask for, or runs wait for, and are missing."""
        if self.closing:
            return
        options = self._options
        shared = sum(1 for c in self.connections if not c.exclusive and not c.retiring)
        wanted = options.workers - shared - self._starting[False]
        if options.isolate_all:
            wanted = min(wanted, 1 - shared - self._starting[False])  # it reports the catalog
        idle = sum(1 for c in self.connections if c.exclusive and not c.runs and not c.retiring)
        waiting = len(self._pool.placing.waiting[True])
        warm = options.spares if options.isolate_all or self.isolates else 0
        spares = warm + waiting - idle - self._starting[True]
        for exclusive, number in ((False, wanted), (True, spares)):
            for _ in range(number):
                if self._count() < options.max_processes:
                    self.spawn(exclusive=exclusive)

    def spawn(self, *, exclusive: bool) -> None:
        """Starts one worker more, aside."""
        self._starting[exclusive] += 1
        self._spawn_task(self._start_worker(exclusive))

    def _spawn_task(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start_worker(self, exclusive: bool) -> None:
        restarts = self.restarts[exclusive]
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), restarts.delay())
            if self.closing:
                return
            generation = self.generation  # as it was before the import began
            process = await asyncio.to_thread(self._launcher.start)
        except OSError as error:
            restarts.failed(0.0)
            _log.error("no worker process can be started: %s", error)
            self._pool.look_at_health()
            self._pool.loop_soon(self.fill)
            return
        finally:
            self._starting[exclusive] -= 1
        connection = Connection(self._pool, process, exclusive=exclusive, on_output=self._on_output)
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
            exclusive=exclusive,
            disclosure=options.disclosure,
        )
        connection.send(pb.DownFrame(hello=hello))

    def reload(self) -> None:
        """The author's files have changed: fresh workers take over once they have imported them."""
        self.generation += 1
        for restarts in self.restarts.values():
            restarts.reset()
        if not self.closing:
            self.spawn(exclusive=False)
