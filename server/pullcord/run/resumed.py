"""What a fresh execution of a run goes on from, when an earlier one paused and is gone.

A value. Who made the continuation reads it; to everybody else it is bytes.
"""

from dataclasses import dataclass

from pullcord.run.record import Decision
from pullcord.run.usage import Usage


@dataclass(frozen=True, slots=True)
class Resumed:
    """The run has paused in an execution whose process is gone, and somebody has decided."""

    continuation: bytes
    """What that execution had handed over when it asked."""
    decisions: tuple[Decision, ...]
    """What was decided, in the order of the calls that it asked about."""
    usage: Usage = Usage()
    """What the run has used so far."""
