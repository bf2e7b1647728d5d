"""A pause that outlives the process that executes its run, as its store has it and gives it back.

Values only. When a run is carried from one process to another is decided elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pullcord.engine.log.record import Record
from pullcord.run.events import Source, ToolCall
from pullcord.run.record import Run


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """How long a paused run may still take, in seconds; None: there is no such limit.

    No time of day: the clock of the process that goes on may be another one.
    """

    pause: float | None = None
    """Until nobody has decided for too long."""
    timeout: float | None = None
    """Until its code has taken too long."""
    deadline: float | None = None
    """Until its caller's deadline."""

    def after(self, seconds: float) -> "TimeLeft":
        """The time that is left after so many seconds."""
        left = (self.pause, self.timeout, self.deadline)
        return TimeLeft(*(None if one is None else one - seconds for one in left))


@dataclass(frozen=True, slots=True)
class OpenStep:
    """A step that has begun and not ended."""

    source: Source
    run_id: str = ""
    """The child that does it; empty: it is a group of steps, or its run has not begun."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause as a store keeps it, in one transaction with its event."""

    sequence: int
    """The number of that event."""
    continuation: bytes
    """From what another execution can go on."""
    run: Run
    """The run as it paused. Its output is what its code has said it to be, not its text."""
    left: TimeLeft = TimeLeft()
    """When it was handed to the store."""
    trace: Mapping[str, str] = field(default_factory=dict)
    """What carries the run's trace, such as `traceparent`; empty: it has none."""
    children: tuple[str, ...] = ()
    """Set for a run that asks nothing itself: the run_ids of the children that it waits for. Then
    `sequence` is that of the last event before its code had nothing to do but wait."""
    source: Source | None = None
    """Who the run is in its parent's stream; None: it has no parent."""
    steps: tuple[OpenStep, ...] = ()
    """The steps of its own that have begun and not ended."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A paused run whose process is gone, or one that waits for such children, as its store has it.
    Nothing came after the pause."""

    pause: Pause
    question: str
    calls: tuple[ToolCall, ...]
    """Those that wait for a decision."""
    elapsed: float
    """Seconds since the store had the pause, by the store's clock."""
    records: Sequence[Record]
    """The events that the store has, in order; the last is the pause."""
    content: str
    """The run's text so far."""
