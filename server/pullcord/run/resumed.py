"""The state from which a fresh execution continues a run whose earlier one paused and is gone.

Values. Who made a continuation reads it; to everybody else it is bytes.
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
    """The decisions, in the order of the calls that it asked about. None for a run that had asked
    nothing itself, and waited for children that had."""
    usage: Usage = Usage()
    """The run's usage so far."""


@dataclass(frozen=True, slots=True)
class HandedOver:
    """What the code of a run that only waits for its children hands over when one of them asks."""

    continuation: bytes
    """From what another execution can go on, which starts these children `again`."""
    children: tuple[str, ...]
    """The run_ids of all the children that it waits for."""
