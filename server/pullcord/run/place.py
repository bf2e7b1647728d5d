"""The place of an author's running code: its run, and where runs that it starts live.

`agent.run()` inside a run, or in a tool of it, finds here what it must be a child of. Nothing is
started or stored here.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from pullcord.run.cancel import CancelRequest
from pullcord.run.record import Decision, Receipt, Run, RunSpec
from pullcord.run.runnable import Runnable


class Runs(Protocol):
    """The engine of runs, or a link to one, as `agent.run()` and its siblings reach it."""

    def follow(
        self,
        runnable: Runnable,
        spec: RunSpec,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        parent_run_id: str = "",
    ) -> Any:
        """Admits a run, or finds the one that this spec has started already; a watcher of it.

        The watcher is iterable and async iterable, has `run_id`, `ended`, `usage()` and `close()`,
        and answers also once its run has been forgotten elsewhere. Without another policy in the
        spec, the run is cancelled when its last watcher leaves.
        """

    def cancel(self, run_id: str, request: CancelRequest, *, before_start: bool = False) -> Receipt:
        """Stops a run, whatever its state."""

    def continue_run(self, run_id: str, decisions: Sequence[Decision], actor: str = "") -> Run:
        """Brings a paused run the decision on every call that waits."""

    def on_end(self, run_id: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls back once, in any thread, when the run has ended; returns the unsubscribe call."""

    def owns_loop(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether this is a run loop, which no caller may block to wait for a run."""


@dataclass(frozen=True, slots=True)
class Place:
    """The run whose code is calling, and where it lives."""

    runs: Runs
    run_id: str


at_work: ContextVar[Place | None] = ContextVar("at_work", default=None)
"""The place of the calling code; None outside every run. A thread or task that an author's code
makes by itself counts where it has taken over the context."""

default: Runs | None = None
"""In a worker process: where runs live that code outside every run starts. Else None."""
