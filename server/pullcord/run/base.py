"""The statuses and results of in-process use, by the names the ecosystem's programs use.

They are views of the same runs and events; nothing is decided here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pullcord.run.cancel import CancelCause
from pullcord.run.events import Source, ToolCall
from pullcord.run.finish import FinishReason
from pullcord.run.state import RunState
from pullcord.run.usage import Usage


class RunStatus(StrEnum):
    """The state of a run, as in-process programs read it."""

    pending = "PENDING"
    running = "RUNNING"
    paused = "PAUSED"
    completed = "COMPLETED"
    cancelled = "CANCELLED"
    error = "ERROR"

    @classmethod
    def of(cls, state: RunState) -> "RunStatus":
        """The status of a state; a run that is being cancelled still counts as running."""
        return _STATUS[state]


_STATUS = {
    RunState.PENDING: RunStatus.pending,
    RunState.RUNNING: RunStatus.running,
    RunState.PAUSED: RunStatus.paused,
    RunState.CANCELLING: RunStatus.running,
    RunState.COMPLETED: RunStatus.completed,
    RunState.CANCELLED: RunStatus.cancelled,
    RunState.FAILED: RunStatus.error,
}


@dataclass(frozen=True, slots=True)
class RunOutputEvent:
    """One chunk of a streamed run."""

    event: StrEnum
    """A RunEvent, TeamRunEvent or WorkflowRunEvent; equal to its text, such as "RunContent"."""
    run_id: str
    sequence: int
    content: Any = None
    """The text, delta or final; the error's message in a run_error; None: this chunk has none."""
    metrics: Usage = Usage()
    """The run's usage when this chunk was made."""
    status: RunStatus = RunStatus.running
    reason: str = ""
    """Why it was cancelled, in the asker's words."""
    cause: CancelCause | None = None
    session_id: str = ""
    tool: ToolCall | None = None
    tools: tuple[ToolCall, ...] = ()
    """The calls that wait for a decision, in a run_paused; all of the run's calls at its end."""
    source: Source | None = None
    output_data: Mapping[str, Any] | None = None
    """The structured result, in the last chunk; None: there is none."""
    finish_reason: FinishReason | None = None
    """The end of the model's last answer, in the last chunk; None: there is none yet."""
    killed_processes: tuple[str, ...] = ()
    """Of a cancelled run: the names of programs that it had started and that had to be killed."""


@dataclass(frozen=True, slots=True)
class RunOutput:
    """The result of a run that was not streamed."""

    run_id: str
    status: RunStatus
    content: Any = None
    """All of its text, also if it was cancelled; the error's message if it failed without text."""
    metrics: Usage = Usage()
    reason: str = ""
    cause: CancelCause | None = None
    session_id: str = ""
    tools: tuple[ToolCall, ...] = ()
    error: str = ""
    output_data: Mapping[str, Any] | None = None
    """The structured result; None: there is none, or the run ended before it was complete."""
    finish_reason: FinishReason | None = None
    """The end of the model's last answer; None: it had not ended, or no model was asked."""
    killed_processes: tuple[str, ...] = ()
    """Of a cancelled run: the names of programs that it had started and that had to be killed."""
