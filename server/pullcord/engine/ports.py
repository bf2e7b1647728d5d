"""The ports that stores, registries and observers fill. The engine knows them by these shapes only.

A port's methods may be called from any thread. One that does input or output says so by
`blocking`, and the transports then call the engine away from their loop.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pullcord.engine.log import EventLog
from pullcord.run.cancel import Cancellation
from pullcord.run.cancel import CancelRequest as CancelRequest
from pullcord.run.place import Runs
from pullcord.run.port import Execution, RunPort
from pullcord.run.record import Receipt, Run, RunFilter, RunSpec
from pullcord.run.runnable import Runnable


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run that has ended, with all that a late watcher can ask for."""

    spec: RunSpec
    run: Run
    log: EventLog
    """Closed."""
    deliver_time: float
    """When its code was told to stop; 0: it was not."""
    decided: str = ""
    """The digest of the decisions by which it went on last; empty: of none."""


class RunStore(Protocol):
    """Keeps ended runs until they expire.

    Raises StoreUnavailable where it does not answer; nothing was changed then.
    """

    blocking: bool

    def put(self, finished: FinishedRun) -> None:
        """Keeps a run that has ended."""

    def get(self, run_id: str) -> FinishedRun | None:
        """The run of this id; None where there is none, or it has expired."""

    def select(self, matching: RunFilter) -> list[Run]:
        """The runs that match, in no order."""

    def history(self, session_id: str, runnable: str) -> list[Run]:
        """The session's runs of one runnable, in the order they ended."""


Deliver = Callable[[CancelRequest], Receipt]


class CancelRegistry(Protocol):
    """Brings a cancel to the one run it is meant for, wherever that is, or keeps it until it comes.

    Claims and requests are serialized: a cancel is either delivered, or found by the claim that
    comes after it, or refused as unknown. It is never lost between them.
    """

    blocking: bool

    def claim(self, run_id: str, deliver: Deliver) -> Cancellation | None:
        """From now on this run's cancels go to `deliver`; returns one that came before its run."""

    def release(self, run_id: str) -> None:
        """The run has ended, and its store has it."""

    def request(self, run_id: str, request: CancelRequest) -> Receipt | None:
        """Delivers; the run's receipt, or None where nobody claims the run."""

    def record(self, run_id: str, request: CancelRequest) -> Receipt:
        """Delivers, or else keeps the cancel for the run to come.

        Raises:
            ServerBusy: too many are kept.
        """


class Executor(Protocol):
    """Where code runs. Any thread may call; nothing here waits for an author's code."""

    def start(
        self,
        port: RunPort,
        runnable: Runnable,
        runs: Runs,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        parent: Execution | None = None,
    ) -> Execution:
        """Begins a run's code as soon as there is room for it; a child beside its parent.

        Async code runs on `loop` where one is given. Raises ServerBusy where too much waits.
        """

    def owns_loop(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether this is an event loop of the executor's, which no caller may block."""

    def close(self) -> None:
        """Ends everything that can be ended."""


class Observer(Protocol):
    """Is told what operators want to count and read. Quick, and never raises."""

    def run_started(self, run: Run) -> None:
        """A run was admitted."""

    def run_ended(self, run: Run) -> None:
        """A run has its terminal event."""

    def run_refused(self, reason: str) -> None:
        """A run was not admitted."""

    def run_abandoned(self, run: Run, stack: str) -> None:
        """A run did not stop in time; `stack` is where its thread is, if known."""

    def loop_stalled(self, run_id: str, seconds: float, stack: str) -> None:
        """A run blocks its event loop; `run_id` is empty where it is not known whose code does."""


class SilentObserver:
    """Tells nobody."""

    def run_started(self, run: Run) -> None:
        """Nothing."""

    def run_ended(self, run: Run) -> None:
        """Nothing."""

    def run_refused(self, reason: str) -> None:
        """Nothing."""

    def run_abandoned(self, run: Run, stack: str) -> None:
        """Nothing."""

    def loop_stalled(self, run_id: str, seconds: float, stack: str) -> None:
        """Nothing."""
