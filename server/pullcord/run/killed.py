"""Processes that had to be killed with a run's code, and the details of each.

How they are found and killed is not here. This imports nothing of ours, because the small process
that guards workers imports it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

MAX_KILLED = 32
"""Names of killed processes that a run bears, the first ones."""
MAX_NAME = 64
"""Characters of such a name."""


@dataclass(frozen=True, slots=True)
class KilledProcess:
    """A process that was killed."""

    pid: int
    name: str
    """Of its program, such as `sleep`; empty: it could not be read any more."""
    command: str
    """Its command line, cut; in brackets its name, if it has none."""


def names_of(killed: Sequence[KilledProcess]) -> tuple[str, ...]:
    """The names that a run bears of them; of one without a name its process id."""
    return tuple(one.name or str(one.pid) for one in killed[:MAX_KILLED])
