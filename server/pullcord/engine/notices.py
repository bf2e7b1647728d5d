"""Notices: that a run has ended, or waits for a decision, and somebody must be notified of it.

The shapes only: a store fills `Notices`. Who is notified, and how, is not known here.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from pullcord.run.scope import Scope
from pullcord.run.state import RunState

KEPT = 24 * 3600.0
"""Seconds that a notice is kept at most, whatever comes of it."""


@dataclass(frozen=True, slots=True)
class Paused:
    """A run that waits for a decision now."""

    scope: Scope
    run_id: str
    question: int
    """The number of the event that asked."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that a receiver must be notified of, once at least."""

    number: int
    """In its store."""
    scope: Scope
    run_id: str
    runnable: str
    """Empty for a pause."""
    state: RunState
    """The end, or PAUSED."""
    question: int
    """The number of the event that asked; 0: the run has ended."""
    note_time: float
    """When it became so, in seconds since the epoch. The same at every try."""
    age: float
    """Seconds since then, by the clock of the store."""
    tries: int
    """Tries before this one."""
    stands: bool
    """Whether it is still so; False: the pause is over."""


class Notices(Protocol):
    """What a store keeps of them. Any thread may call; the calls may block.

    With a durable store, a notice is written in the transaction of the end, or of the event that
    asks. Ends are those of runs without a parent; pauses, those of all runs.
    """

    def open(self, paused: Callable[[], Collection[Paused]]) -> None:
        """From now on notices are kept. `paused` says which runs wait here, for a store that is not
        told of pauses. To be called before any run is started or recovered."""

    def claim(self, most: int, lease: float) -> Sequence[Notice]:
        """At most so many that are due, the oldest first. Nobody else gets them for `lease`
        seconds, or until they are settled."""

    def settle(self, notice: Notice, again: float | None) -> None:
        """None: it is over. Else it is due again after so many seconds."""

    def pending(self) -> int:
        """The number that is not settled, due or not."""
