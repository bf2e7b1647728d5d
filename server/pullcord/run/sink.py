"""What a run's code says goes to a `Sink`, and a child run is held as a `Child`.

The ports between the context, which authors hold, and the run side, which fills them. Nothing is
decided or done here.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from pullcord.run.cancel import Cancellation
from pullcord.run.command import Command, ProcessResult
from pullcord.run.events import Payload, Source, ToolCall
from pullcord.run.finish import FinishReason
from pullcord.run.message import Message, Part
from pullcord.run.model_call import ModelCall
from pullcord.run.record import Decision, Run
from pullcord.run.resumed import HandedOver
from pullcord.run.usage import Limits, Usage

if TYPE_CHECKING:
    from pullcord.run.disclosure import Errors
    from pullcord.run.runnable import Runnable


HandOver = Callable[[], HandedOver | None]
"""What another execution could go on from now; None: there is nothing, since more than the wait for
children is at work. Any thread calls."""


class Child(Protocol):
    """A child run, as the code of its parent holds it."""

    run_id: str

    async def wait(self) -> Run:
        """Waits until it has ended, and returns it, in whatever state it ended.

        Raises RunCancelledError if it was stopped because the parent must stop, and CancelledError
        if the waiting task was cancelled; either way it has been cancelled, cause PARENT, and has
        ended.
        """

    def snapshot(self) -> Run:
        """It as it is now."""


class Sink(Protocol):
    """The receiver of all that a run's code makes. Any thread may call any method."""

    def write(self, text: str) -> None:
        """Adds a content delta of the run's own runnable."""

    def write_as(self, text: str, source: Source | None, reasoning: bool) -> None:
        """Adds a content or reasoning delta of `source`."""

    def emit(self, payload: Payload, source: Source | None) -> None:
        """Adds any other event."""

    def begin(self, payload: Payload, source: Source | None) -> None:
        """Adds the event that something begins. Raises RunCancelledError if the run must stop."""

    def relay(self, payload: Payload, source: Source | None) -> None:
        """Adds an event of the remote run that does this run's work."""

    def set_finish_reason(self, reason: FinishReason) -> None:
        """Sets the end of the model's last answer."""

    def set_output(self, output: str | None, output_data: Mapping[str, Any] | None) -> None:
        """Replaces the run's result."""

    def model_called(self, call: ModelCall) -> None:
        """A call of a model has ended, just now, however it ended."""

    def use(self, usage: Usage) -> None:
        """Adds to the usage, and stops the run if that reaches a limit."""

    def usage(self) -> Usage:
        """The run's usage so far."""

    def limits_left(self) -> Limits:
        """The usage that is left, by the run's own limits and those of its parents."""

    def grace_period(self) -> float:
        """Seconds that a GRACEFUL stop gives, or would give, to critical parts."""

    def stop(self, cancellation: Cancellation) -> None:
        """Accepts a stop that the run's own code asks for."""

    def tool_started(self, call: ToolCall) -> ToolCall:
        """Enters a call into the ledger; returns it with its time."""

    def tool_ended(self, call: ToolCall) -> None:
        """Replaces the ledger's entry of the same id."""

    @property
    def errors(self) -> "Errors":
        """The errors of the run, as callers may read them."""

    def critical(self) -> AbstractContextManager[None]:
        """A part of the run that a GRACEFUL cancel does not interrupt."""

    def check(self) -> None:
        """Raises RunCancelledError if the run must stop here and now."""

    async def ask(
        self, question: str, calls: Sequence[ToolCall], continuation: bytes | None
    ) -> tuple[Decision, ...]:
        """Pauses the run until somebody has decided about these calls."""

    def start(
        self,
        runnable: "Runnable",
        input: str,
        data: Mapping[str, Any] | None,
        path: tuple[str, ...],
        parts: Sequence[Part],
        messages: Sequence[Message],
        again: str,
    ) -> Child:
        """Starts a child run; `again`: goes on with this one, whose code is gone."""

    def can_go_on(self, hand_over: "HandOver") -> None:
        """What is asked for a continuation when a child asks for a decision."""

    def waits_again(self) -> None:
        """The code only waits for children again, some of which may wait for a decision."""

    async def in_thread(self, function: Callable[[], Any]) -> Any:
        """Runs a blocking function in a worker thread."""

    def run_process_sync(self, command: Command) -> ProcessResult:
        """Executes a command, blocking this thread."""

    async def run_process(self, command: Command) -> ProcessResult:
        """Executes a command."""

    def process_environment(self) -> Mapping[str, str]:
        """Variables that mark a process as the run's."""

    def history(self) -> list[Run]:
        """The session's ended runs of the same runnable, oldest first."""
