"""The events of a run, as frozen values: one class a payload, in the order of the proto.

A payload says what happened, and nothing about its watchers. Text deltas are plain values too; the
engine decides how they are merged for a watcher that lags.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pullcord.run.cancel import Cancellation, StopStage
from pullcord.run.finish import FinishReason
from pullcord.run.plain import class_name, cut, words
from pullcord.run.redaction import redacted
from pullcord.run.state import RunState
from pullcord.run.usage import Usage

if TYPE_CHECKING:
    from pullcord.run.record import Run


class SourceKind(StrEnum):
    """The kind of thing that made an event."""

    AGENT = "agent"
    TEAM = "team"
    WORKFLOW = "workflow"
    STEP = "step"


@dataclass(frozen=True, slots=True)
class Source:
    """The agent, team, workflow or step that made an event."""

    kind: SourceKind
    id: str
    name: str
    run_id: str
    path: tuple[str, ...]
    """Ids from the stream's runnable down to this one."""


class ToolCallState(StrEnum):
    """The state of a tool call."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """Its code was stopped midway and has unwound."""
    UNKNOWN = "unknown"
    """Its code had not stopped when the run ended: it may have taken effect, or may yet."""
    WAITING = "waiting"
    """It waits for a decision; nothing of it has been executed."""
    APPROVED = "approved"
    """Somebody has approved it, and it has not begun yet."""
    DECLINED = "declined"
    """It was never executed: that was decided, or its run ended before it began."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One tool call of a run. Times are seconds since the epoch; 0: not yet."""

    tool_call_id: str
    tool_name: str
    arguments: str = ""
    """JSON text. Cut if it is long, but never while the call waits for a decision."""
    result: str = ""
    """The result, the error's message, or the note if it was declined. Cut if it is long."""
    state: ToolCallState = ToolCallState.RUNNING
    start_time: float = 0.0
    end_time: float = 0.0
    run_id: str = ""
    """The child run that made the call; empty: the run itself."""


MAX_ERROR_TYPE = 256
MAX_ERROR_MESSAGE = 4096
"""Bytes of an error's class name and message that are kept."""


@dataclass(frozen=True, slots=True)
class RunError:
    """Why a run failed: the exception's class name and words, never its traceback, and what callers
    may not read of them left out."""

    type: str
    message: str = ""

    @property
    def words(self) -> str:
        """Both in one line, such as `ValueError: no such city`."""
        return f"{self.type}: {self.message}" if self.message else self.type

    @classmethod
    def of(cls, error: BaseException) -> "RunError":
        """An exception's class and words, without secrets. Never raises, whatever its code does.

        That code is an author's and may take its time, so it must not be called under a lock.
        """
        name = class_name(error)
        try:
            message = words(error)
        except BaseException:  # its `__str__` raises SystemExit, for example
            message = f"<{name}>"
        return cls(name, cut(redacted(cut(message, 4 * MAX_ERROR_MESSAGE)), MAX_ERROR_MESSAGE))


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The run was accepted. Always a run's first event."""

    runnable: str
    session_id: str = ""
    parent_run_id: str = ""


@dataclass(frozen=True, slots=True)
class ContentDelta:
    """More text of the output. `count` events were merged into this one."""

    text: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of the model's thinking; not part of the output."""

    text: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """A tool call begins."""

    tool_call: ToolCall


@dataclass(frozen=True, slots=True)
class ToolCallCompleted:
    """A tool call has ended."""

    tool_call: ToolCall


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step begins."""

    step_id: str
    name: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class StepCompleted:
    """A step has ended in a terminal state."""

    step_id: str
    name: str = ""
    state: RunState = RunState.COMPLETED
    output: str = ""
    error: RunError | None = None


@dataclass(frozen=True, slots=True)
class UsageUpdated:
    """The usage of the whole run so far."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A stop was accepted, or hastened."""

    cancellation: Cancellation


@dataclass(frozen=True, slots=True)
class RunPaused:
    """The run waits for a decision."""

    question: str
    tool_calls: tuple[ToolCall, ...] = ()
    """The calls that wait for it."""
    survives: bool = False
    """Whether the run can still be continued when the server process that executes it is gone."""


@dataclass(frozen=True, slots=True)
class RunContinued:
    """The run goes on after a decision."""

    actor: str = ""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing happened for a while. Not numbered."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Events trimmed before this watcher came for them. Not numbered; a Snapshot follows."""

    first_sequence: int
    last_sequence: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole run as it is now; its output replaces what the watcher has. Not numbered."""

    run: "Run"


@dataclass(frozen=True, slots=True)
class Custom:
    """The author's own event. What JSON cannot hold in `data` becomes text."""

    name: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of the event's source; each replaces the one before it."""

    done: float
    """In whatever unit the author counts."""
    total: float = 0.0
    """In the same unit; 0: not known."""
    note: str = ""
    """The current work, in words for people."""


@dataclass(frozen=True, slots=True)
class RunCompleted:
    """Terminal: the run finished by itself."""

    output: str = ""
    output_data: Mapping[str, Any] | None = None
    usage: Usage = Usage()
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason | None = None
    """The end of the model's last answer; None: no model was asked, or its answer had not ended."""

    @property
    def cancellation(self) -> None:
        """None: it was not stopped. So every end of a run has this, and nobody must ask which."""
        return None


@dataclass(frozen=True, slots=True)
class RunCancelled:
    """Terminal: the run was stopped. Its output so far is kept."""

    cancellation: Cancellation
    output: str = ""
    output_data: Mapping[str, Any] | None = None
    usage: Usage = Usage()
    tool_calls: tuple[ToolCall, ...] = ()
    abandoned: bool = False
    """Its code did not stop in time, and may still be running."""
    stage: StopStage | None = None
    """The last stage that the stop needed; None: none of the run's code had begun."""
    finish_reason: FinishReason | None = None
    """The end of the model's last answer; None: no model was asked, or its answer had not ended."""
    killed_processes: tuple[str, ...] = ()
    """Names of programs that its code or its children had started, and that had to be killed."""


@dataclass(frozen=True, slots=True)
class RunFailed:
    """Terminal: the run raised an error, or (with a cancellation, cause LOST) its replica died."""

    error: RunError
    output: str = ""
    usage: Usage = Usage()
    tool_calls: tuple[ToolCall, ...] = ()
    cancellation: Cancellation | None = None
    output_data: Mapping[str, Any] | None = None
    finish_reason: FinishReason | None = None
    """The end of the model's last answer; None: no model was asked, or its answer had not ended."""


Payload = (
    RunStarted
    | ContentDelta
    | ReasoningDelta
    | ToolCallStarted
    | ToolCallCompleted
    | StepStarted
    | StepCompleted
    | UsageUpdated
    | CancelRequested
    | RunPaused
    | RunContinued
    | Heartbeat
    | Gap
    | Snapshot
    | Custom
    | Progress
    | RunCompleted
    | RunCancelled
    | RunFailed
)

TerminalPayload = RunCompleted | RunCancelled | RunFailed
TERMINAL_PAYLOADS = (RunCompleted, RunCancelled, RunFailed)

AUTHORS_PAYLOADS = (
    ToolCallStarted,
    ToolCallCompleted,
    StepStarted,
    StepCompleted,
    UsageUpdated,
    Custom,
    Progress,
)
"""Events that a run's own code may add. Text is written instead; the engine makes the others."""

RELAYED_PAYLOADS = (
    *AUTHORS_PAYLOADS,
    ContentDelta,
    ReasoningDelta,
    RunPaused,
    RunContinued,
    RunStarted,
    CancelRequested,
    *TERMINAL_PAYLOADS,
)
"""Events that an adapter may relay from a remote run: all that are numbered."""


@dataclass(frozen=True, slots=True)
class Event:
    """One message of a run."""

    run_id: str
    sequence: int
    """From 1. Merged deltas: the last one's. An unnumbered event: the one to resume after."""
    create_time: float
    """Seconds since the epoch."""
    payload: Payload
    source: Source | None = None
    """None: the stream's own runnable."""

    @property
    def is_terminal(self) -> bool:
        """Whether this is the run's own last event, not that of a child."""
        return self.source is None and isinstance(self.payload, TERMINAL_PAYLOADS)
