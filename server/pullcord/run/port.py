"""The port between the code of one run and the engine that owns the run's state.

The run side (`side`) speaks through it, and so does whatever executes the code. In one process the
engine's live run fills it directly; in a worker process a link carries it as frames. Nothing here
decides anything.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pullcord.run.cancel import Cancellation
from pullcord.run.errors import RunCancelledError
from pullcord.run.events import Payload, RunError, Source, ToolCall
from pullcord.run.finish import FinishReason
from pullcord.run.killed import KilledProcess
from pullcord.run.message import Given
from pullcord.run.model_call import ModelCall
from pullcord.run.record import Decision, Run, RunSpec
from pullcord.run.resumed import HandedOver, Resumed
from pullcord.run.scope import Scope
from pullcord.run.usage import Usage

if TYPE_CHECKING:
    from pullcord.run.runnable import Runnable, RunnableInfo
    from pullcord.run.sink import Child


@dataclass(frozen=True, slots=True)
class Began:
    """The engine's consent to begin a run's code."""

    deadline: float | None = None
    """When the run will be stopped for lack of time, on time.monotonic's scale; None: never."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The failure of a run's code, without any object of the author's."""

    error: RunError
    is_cancel: bool = False
    """It raised what only a cancel raises, which fails a run that nobody has cancelled."""

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """Reads an exception of ours, which refuses a run."""
        return cls(RunError.of(error), is_cancel(error))


def is_cancel(error: BaseException) -> bool:
    """Whether it is one that only a cancel raises."""
    return issubclass(type(error), (RunCancelledError, StopIteration))


class Execution(Protocol):
    """The code of one run, waiting for its turn or at work."""

    def drop(self) -> bool:
        """Takes it out of the queue; False if it has begun, or finds out by itself."""

    def stop(self, cancellation: Cancellation, grace_period: float | None) -> None:
        """Delivers a stop, or hastens it. Never waits. None: the executor's own grace period."""

    @property
    def kill_after(self) -> float | None:
        """Seconds from an interrupt to `kill`; None: it shares its process."""

    def kill(self) -> None:
        """Kills the process that the run has for itself."""

    def abandon(self) -> str:
        """The run ends without its code, which does not stop; where that code is, if known."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop of an in-process caller that it runs on, and its children with it."""


class RunPort(Protocol):
    """One run, as its own code and its executor reach it. Any thread may call any method.

    Order is kept: the engine sees the calls of one run in the order in which they were made. A
    method that raises RunCancelledError has made sure that the stop was delivered before.
    """

    @property
    def run_id(self) -> str:
        """The run's id."""

    @property
    def scope(self) -> Scope:
        """Whose the run is."""

    @property
    def spec(self) -> RunSpec:
        """The request for the run."""

    @property
    def resumed(self) -> Resumed | None:
        """The state to resume from; None: the run begins."""

    # --- what the code makes: no answer, never waits for the engine

    def write(self, text: str) -> None:
        """Adds a content delta of the run's own runnable."""

    def write_as(self, text: str, source: Source | None, reasoning: bool) -> None:
        """Adds a content or reasoning delta of `source`."""

    def emit(self, payload: Payload, source: Source | None) -> None:
        """Adds an event of the author's."""

    def relay(self, payload: Payload, source: Source | None) -> None:
        """Adds an event of the remote run that does this run's work."""

    def set_output(self, output: str | None, output_data: Mapping[str, Any] | None) -> None:
        """Replaces the run's result."""

    def set_finish_reason(self, reason: FinishReason) -> None:
        """Sets the end of the model's last answer."""

    def use(self, usage: Usage) -> None:
        """Adds to the usage of the run and of its parents."""

    def tool_ended(self, call: ToolCall) -> None:
        """Replaces the ledger's entry of the same id."""

    def model_called(self, call: ModelCall) -> None:
        """A call of a model has ended, just now, however it ended."""

    def processes_killed(self, killed: Sequence[KilledProcess]) -> None:
        """Processes that the run's code had started were killed, by its stop or at its end."""

    def hands_over(self, handed: Sequence[HandedOver]) -> None:
        """The code only waits for children again; so do those of all its parents, the nearest
        first."""

    # --- what the engine answers

    def settle(self) -> None:
        """Returns once the engine has taken everything before, and delivered what follows."""

    def stop(self, cancellation: Cancellation) -> None:
        """Accepts a stop that the run's own code asks for; delivered when this returns."""

    def begin(self, payload: Payload, source: Source | None) -> None:
        """Adds the event that something begins. Raises RunCancelledError if the run must stop."""

    def tool_started(self, call: ToolCall) -> ToolCall:
        """Enters a call into the ledger. Raises RunCancelledError if the run must stop."""

    def ask(
        self,
        question: str,
        calls: Sequence[ToolCall],
        continuation: bytes | None,
        above: Sequence[HandedOver] = (),
    ) -> Awaitable[tuple[Decision, ...]]:
        """Pauses the run until somebody has decided about these calls.

        `continuation`: from what another execution can go on; None: none can. `above`: the same of
        all its parents, the nearest first.
        """

    def start(
        self,
        runnable: "Runnable",
        info: "RunnableInfo",
        given: Given,
        path: tuple[str, ...],
        again: str = "",
    ) -> "Child":
        """Starts a child run. Raises RunCancelledError if the run must stop.

        `info` describes the runnable, which itself is only executed. `again`: this child of an
        execution that is gone goes on instead.
        """

    def history(self) -> list[Run]:
        """The session's ended runs of the same runnable, oldest first."""

    # --- what the executor reports

    def attach(self, execution: Execution) -> None:
        """From now on stops go to this execution. Comes before the code can begin."""

    @property
    def may_wait(self) -> bool:
        """Whether `began` may wait for the store, and so must not be called on an event loop."""

    def began(self, then: Callable[[Began | None], None]) -> None:
        """Asks to begin the code; calls `then` once, with None if the run has been stopped."""

    def delivered(self) -> None:
        """A stop was delivered to the code."""

    def stuck(self) -> None:
        """The stop cannot be delivered, because other code blocks the run's event loop."""

    def released(self) -> None:
        """The code holds no thread and no task any more. Comes once, and before `ended`, unless
        that says that something is left."""

    def ended(self, failure: Failure | None, left: str = "") -> None:
        """The code has ended, by returning or by raising.

        `left`: what it has left at work and does not end, in words for the operator; it holds the
        run's capacity until `released`.
        """
