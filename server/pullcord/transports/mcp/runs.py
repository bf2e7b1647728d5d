"""The port through which MCP's tools start, follow and stop runs.

Who fills it knows where runs live. Values and one protocol; the SDK of MCP is not known here.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pullcord.run.events import Event
from pullcord.run.record import Decision, Run
from pullcord.run.runnable import RunnableInfo


@dataclass(frozen=True, slots=True)
class Wanted:
    """A run that a call of a tool starts."""

    run_id: str
    """Made here, so that it can be stopped before it is known to have started."""
    runnable: str
    input: str
    input_data: Mapping[str, Any] | None
    session_id: str


class Runs(Protocol):
    """The runs of one caller. Every method raises the errors of `run.errors`."""

    async def offers(self) -> Sequence[RunnableInfo]:
        """The runnables that the caller may start."""

    def events(self, wanted: Wanted) -> AsyncGenerator[Event, None]:
        """Starts a run and follows it to its end. Closing it early leaves the run as it is."""

    def events_after(self, run_id: str, sequence: int) -> AsyncGenerator[Event, None]:
        """Follows a run that was started before, from after this event."""

    async def get(self, run_id: str) -> Run:
        """The run as it is now."""

    async def decide(self, run_id: str, decisions: Sequence[Decision]) -> None:
        """Brings a paused run the decisions that it waits for."""

    async def cancel(self, run_id: str, reason: str) -> None:
        """Stops a run, also one that has not started."""
