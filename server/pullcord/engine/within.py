"""An engine as the code of one run reaches it: only runs of the same scope are there.

Each call is the engine's own, with the scope filled in; nothing is decided or kept here.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pullcord.engine.log.watch import Watcher
from pullcord.engine.ports import CancelRequest
from pullcord.run.record import Decision, Receipt, Run, RunSpec
from pullcord.run.runnable import Runnable
from pullcord.run.scope import Scope

if TYPE_CHECKING:
    from pullcord.engine.engine import Engine


class Within:
    """Fills `Runs` for one scope."""

    def __init__(self, engine: "Engine", scope: Scope) -> None:
        self._engine = engine
        self._scope = scope

    def follow(
        self,
        runnable: Runnable,
        spec: RunSpec,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        parent_run_id: str = "",
    ) -> Watcher:
        """Admits a run, or finds the one that this spec has started already; a watcher of it."""
        return self._engine.follow(
            runnable, spec, loop=loop, parent_run_id=parent_run_id, scope=self._scope
        )

    def cancel(self, run_id: str, request: CancelRequest, *, before_start: bool = False) -> Receipt:
        """Stops a run, whatever its state."""
        return self._engine.cancel(run_id, request, before_start=before_start, scope=self._scope)

    def continue_run(self, run_id: str, decisions: Sequence[Decision], actor: str = "") -> Run:
        """Brings a paused run the decision on every call that waits."""
        return self._engine.continue_run(run_id, decisions, actor, scope=self._scope)

    def on_end(self, run_id: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls back once, in any thread, when the run has ended; returns the unsubscribe call."""
        return self._engine.on_end(run_id, callback, scope=self._scope)

    def owns_loop(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether this is a run loop, which no caller may block to wait for a run."""
        return self._engine.owns_loop(loop)
