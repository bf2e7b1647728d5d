"""The state from which a fresh execution continues a run whose earlier one paused and is gone.

A value. Who made the continuation reads it; to everybody else it is bytes.
"""

from dataclasses import dataclass

from pullcord.run.record import Decision
from pullcord.run.usage import Usage


@dataclass(frozen=True, slots=True)
class Resumed:
    """The run has paused in an execution whose process is gone, and somebody has decided."""

    continuation: bytes
    """The bytes that the earlier execution handed over when it asked."""
    decisions: tuple[Decision, ...]
    """The decisions, in the order of the calls that it asked about."""
    usage: Usage = Usage()
    """The run's usage so far."""
