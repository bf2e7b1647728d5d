"""The executor of this process: bounded threads for sync code, watched event loops for async code.

In-process programs, `--in-process` servers and worker processes use it alike. It starts nothing
until the first run needs it, and knows nothing of a run's state.
"""

import asyncio
import contextvars
import logging
import os
from collections.abc import Callable
from typing import Protocol

from pullcord.engine.clock import Clock
from pullcord.engine.options import EngineOptions
from pullcord.executors.commands import RunCommands
from pullcord.executors.execution import TaskExecution, ThreadExecution
from pullcord.executors.leftovers import Leftovers, keep_account
from pullcord.executors.loops import RunLoops, Stalled
from pullcord.executors.processes import descendants, kill_all
from pullcord.executors.threads import ThreadPool
from pullcord.run.context import RunContext
from pullcord.run.disclosure import Disclosure
from pullcord.run.place import Place, Runs, at_work
from pullcord.run.port import Execution, RunPort
from pullcord.run.resources import resources_of
from pullcord.run.runnable import Runnable
from pullcord.run.side import RunSide

_log = logging.getLogger("pullcord.executors")


_CALLBACK_THREADS = 16
"""Threads for the callbacks of cancels, at most."""


class _Stall(Protocol):
    def __call__(self, run_id: str, seconds: float, stack: str) -> None: ...


class LocalExecutor:
    """Executes runs in this process. Close it to end every thread that can be ended."""

    def __init__(
        self,
        options: EngineOptions,
        clock: Clock,
        on_stall: _Stall,
        *,
        disclosure: Disclosure = Disclosure.FULL,
        in_worker: bool = False,
        isolate_all: bool = False,
    ) -> None:
        """`on_stall` is called, in a thread of the clock's, when a run blocks its event loop.

        `disclosure`: how much callers see of the errors of runs.
        `in_worker`: this process was chosen for its runs, so each has the isolation it asked for.
        `isolate_all`: the settings ask for it, whatever the runnables say.
        """
        self._isolate_all = isolate_all
        self._isolation_is_settled = self._is_placed = in_worker
        self._alone = False
        self._disclosure = disclosure
        self._options = options
        self._clock = clock
        self._workers = ThreadPool("worker", options.workers, options.worker_queue)
        self._tools = ThreadPool("tool", options.tool_workers, options.max_live_runs)
        self._callbacks = ThreadPool("callback", _CALLBACK_THREADS, options.max_live_runs)
        self._loops = RunLoops(
            clock, options.max_run_loops, options.stall_after, _by_run_id(on_stall)
        )

    def serve_one_tree(self) -> None:
        """The next run has this process for itself: no process that it starts outlives it."""
        self._alone = True

    def start(
        self,
        port: RunPort,
        runnable: Runnable,
        runs: Runs,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        parent: Execution | None = None,
    ) -> Execution:
        """Begins a run's code as soon as a thread or loop is free.

        Async code runs on `loop` where one is given. `runs` is what the code's own `agent.run()`
        reaches.

        Raises:
            ServerBusy: too many runs wait for a thread, or every loop is blocked.
        """
        if not self._is_placed and resources_of(runnable) is not None:
            self._is_placed = True  # said once
            _log.warning(
                "%s asks for resources, for which `pullcord serve` without --in-process has "
                "workers; here its runs take what this process has",
                port.spec.runnable,
            )
        if not self._isolation_is_settled and (
            self._isolate_all or getattr(runnable, "isolation", None)
        ):
            self._isolation_is_settled = True  # said once
            _log.warning(
                "%s should have a process for each of its runs, which `pullcord serve` without "
                "--in-process gives; here its runs share this process with all others",
                port.spec.runnable,
            )
        options, spec = self._options, port.spec
        commands = RunCommands()
        leftovers = Leftovers(
            self._clock, self._callbacks, self._killer(port, commands, is_root=parent is None)
        )
        side = RunSide(
            port,
            aside=leftovers.call_aside,
            commands=commands,
            in_thread=self._tools.call,
            grace_period=options.grace_period,
            max_output_bytes=options.max_output_bytes,
            max_data_bytes=options.max_data_bytes,
            disclosure=self._disclosure,
            parent=getattr(parent, "side", None),
        )
        ctx = RunContext(
            run_id=spec.run_id,
            runnable=spec.runnable,
            input=spec.input,
            input_data=spec.input_data,
            session_id=spec.session_id,
            user_id=spec.user_id,
            labels=spec.labels,
            cancel_token=side.token,
            sink=side,
            parts=spec.parts,
            messages=spec.messages,
            scope=port.scope,
            resumed=port.resumed,
        )
        context = contextvars.copy_context()
        context.run(at_work.set, Place(runs, spec.run_id))
        keep_account(context, leftovers)
        if not runnable.is_async:
            thread = context.run(ThreadExecution, port, side, runnable, ctx, self._clock, leftovers)
            port.attach(thread)
            thread.submit(self._workers)
            return thread
        stuck_after = options.stall_after * 1.5
        task = context.run(
            TaskExecution, port, side, runnable, ctx, self._clock, leftovers, stuck_after
        )
        port.attach(task)
        if loop is not None:
            task.submit_to(loop)
        else:
            task.submit(self._loops)
        return task

    def _killer(self, port: RunPort, commands: RunCommands, *, is_root: bool) -> Callable[[], None]:
        """Kills the processes that a run's code has left, and says so in the run's stream."""
        strangers: frozenset[int] | None = None
        if self._alone and is_root:
            self._alone = False
            strangers = frozenset(descendants(os.getpid()))

        def kill() -> None:
            killed = commands.close()
            if strangers is not None:
                killed += kill_all(lambda: set(descendants(os.getpid())) - strangers)
            if killed:
                port.processes_killed(killed)

        return kill

    def owns_loop(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether this is a run loop of ours, which nobody may block to wait for a run."""
        return self._loops.owns(loop)

    def close(self) -> None:
        """Ends the loops, idle threads now and the others after their job."""
        self._loops.close()
        self._workers.close()
        self._tools.close()
        self._callbacks.close()


def _by_run_id(on_stall: _Stall) -> Stalled:
    def stalled(task: "asyncio.Task[object] | None", seconds: float, stack: str) -> None:
        name = task.get_name() if task is not None else ""
        run_id = name.removeprefix("run ") if name.startswith("run ") else ""
        on_stall(run_id, seconds, stack)

    return stalled
