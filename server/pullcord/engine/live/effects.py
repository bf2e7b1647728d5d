"""The effects of a decision about a run, as frozen values, in the order in which they are done.

The machine returns them and the live run does them. Nothing is decided or done here.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from pullcord.engine.live.question import Question
from pullcord.run.cancel import Cancellation
from pullcord.run.events import Payload, RunCompleted, Source, TerminalPayload, ToolCall
from pullcord.run.record import Decision


@dataclass(frozen=True, slots=True)
class Moment:
    """When something happens, on both scales of a clock."""

    time: float
    """Seconds since the epoch."""
    monotonic: float
    """Seconds on a scale that never goes back."""


class TimerName(StrEnum):
    """The names of the timers of a run; at most one timer of each name is armed."""

    PENDING = "pending"
    """The run has waited too long to begin."""
    TIMEOUT = "timeout"
    """Its code has taken too long."""
    PAUSE = "pause"
    """Nobody has decided about its question for too long."""
    DEADLINE = "deadline"
    """Its caller's deadline is near."""
    DEADLINE_INTERRUPT = "deadline_interrupt"
    """A third of the time until that deadline is over."""
    DEADLINE_ABANDON = "deadline_abandon"
    """Two thirds of it are over."""
    GRACE = "grace"
    """The grace period of a GRACEFUL stop is over."""
    KILL = "kill"
    """The code had its moment after an interrupt; the process it has for itself is killed."""
    ABANDON = "abandon"
    """The code has not stopped in time."""


# --- to be done in one step with the decision, under the run's lock


@dataclass(frozen=True, slots=True)
class Append:
    """An event enters the log."""

    payload: Payload
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """The terminal event enters the log, and nothing after it."""

    payload: TerminalPayload
    output: str | None
    """What the run's code said its output is; None: what its deltas come to."""

    def made(self, text: str) -> TerminalPayload:
        """The terminal event of a run whose deltas come to this text.

        A run that did not complete keeps its text: what it said to be its output was not all.
        """
        whole = isinstance(self.payload, RunCompleted) or not text
        output = self.output if self.output is not None and whole else text
        return replace(self.payload, output=output)


@dataclass(frozen=True, slots=True)
class Note:
    """A tool call of this run enters the ledgers of its parents, too."""

    call: ToolCall
    begins: bool = False
    """Whether it is a new call, also if an earlier one had the same id."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A timer fires after `delay` seconds; an earlier one of the same name is replaced."""

    timer: TimerName
    delay: float
    number: int
    """The firing brings it back: a timer that fires while it is replaced means nothing."""


@dataclass(frozen=True, slots=True)
class Disarm:
    """A timer fires no more."""

    timer: TimerName


# --- to be done once the lock is released


@dataclass(frozen=True, slots=True)
class Begin:
    """The run's code may begin."""

    deadline: float | None
    """When it will be stopped because its time is up (monotonic); None: never."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The execution delivers a stop to the code, or hastens it."""

    cancellation: Cancellation
    grace_period: float | None
    """Seconds; None: the engine's default."""


@dataclass(frozen=True, slots=True)
class StopChildren:
    """The stop goes down to every child."""

    cancellation: Cancellation


@dataclass(frozen=True, slots=True)
class Drop:
    """The execution, which has not begun, leaves its queue."""


@dataclass(frozen=True, slots=True)
class Kill:
    """The process that the run has for itself is killed."""


@dataclass(frozen=True, slots=True)
class Abandon:
    """The run ends without its code; that is reported, with where the code is."""


@dataclass(frozen=True, slots=True)
class Settle:
    """The code that asked a question is woken; None: nobody will decide any more."""

    question: Question
    decisions: tuple[Decision, ...] | None


@dataclass(frozen=True, slots=True)
class GoOn:
    """The run, which has waited without code, is executed anew."""


@dataclass(frozen=True, slots=True)
class EndLast:
    """The run, which must stop and has no code, ends as soon as no child of it is live."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The run has ended: its children must end too, and those who wait for it are notified."""


AtOnce = Append | Finish | Note | Arm | Disarm
Afterwards = Begin | Stop | StopChildren | Drop | Kill | Abandon | Settle | GoOn | EndLast | Ended
Effect = AtOnce | Afterwards
Effects = tuple[Effect, ...]
Rule = Callable[[Moment], Effects]
"""What the machine is asked, at a moment."""


class Timers:
    """Which timers of one run are armed, as its decisions have it."""

    def __init__(self) -> None:
        self._armed: dict[TimerName, int] = {}
        self._numbers = itertools.count(1)

    def arm(self, timer: TimerName, delay: float) -> Arm:
        """Arms it, in place of an earlier one of the same name."""
        self._armed[timer] = number = next(self._numbers)
        return Arm(timer, max(0.0, delay), number)

    def disarm(self, *timers: TimerName) -> Iterator[Disarm]:
        """Takes back those of them that are armed."""
        for timer in timers:
            if self._armed.pop(timer, None) is not None:
                yield Disarm(timer)

    def disarm_all(self) -> Iterator[Disarm]:
        """Takes back every timer."""
        return self.disarm(*tuple(self._armed))

    def take(self, timer: TimerName, number: int) -> bool:
        """Whether this firing counts; the timer is not armed any more then."""
        if self._armed.get(timer) != number:
            return False
        del self._armed[timer]
        return True
