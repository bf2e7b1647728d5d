"""A pause that outlives the process that executes its run, as its store has it and gives it back.

Values only. When a run is carried from one process to another is decided elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pullcord.engine.log.record import Record
from pullcord.run.events import ToolCall
from pullcord.run.record import Run


@dataclass(frozen=True, slots=True)
class Pause:
    """What a store keeps of a pause, in one transaction with the event that says so."""

    sequence: int
    """The number of that event."""
    continuation: bytes
    """From what another execution can go on."""
    run: Run
    """The run as it paused. Its output is what its code has said it to be, not its text."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A paused run whose process is gone, as its store has it. Nothing came after the pause."""

    pause: Pause
    question: str
    calls: tuple[ToolCall, ...]
    """Those that wait for a decision."""
    pause_time: float
    """Seconds since the epoch."""
    records: Sequence[Record]
    """The events that the store has, in order; the last is the pause."""
    content: str
    """The run's text so far."""
