"""The pause of one run: which question stands, and what a decision makes of its calls.

Rules only. Whether the run is in a state to pause or to go on, the machine decides.
"""

from collections.abc import Sequence
from dataclasses import replace

from pullcord.engine.live.effects import (
    Append,
    Effect,
    Effects,
    Moment,
    Note,
    Settle,
    TimerName,
    Timers,
)
from pullcord.engine.live.ledger import Ledger, short
from pullcord.engine.live.question import Question, decided, digest
from pullcord.run.events import (
    RunContinued,
    RunPaused,
    ToolCall,
    ToolCallCompleted,
    ToolCallState,
)
from pullcord.run.record import Decision


class Pausing:
    """The question that stands, if one does."""

    def __init__(self, ledger: Ledger, timers: Timers, max_pause: float) -> None:
        self._ledger = ledger
        self._timers = timers
        self._max_pause = max_pause
        self.question: Question | None = None
        self.ends: float | None = None
        """When it has stood for too long (monotonic)."""
        self.decided = ""
        """The digest of the decisions by which the run went on last; empty: of none."""

    def pause(self, asked: Question, at: Moment, *, survives: bool) -> Effects:
        """The question stands, and its calls wait. `survives`: also without this process."""
        self.question = asked
        waiting = tuple(
            replace(call, state=ToolCallState.WAITING, start_time=at.time) for call in asked.calls
        )
        for call in waiting:
            self._ledger.begin(call)
        notes = (Note(call, begins=True) for call in waiting)
        armed = self._wait(self._max_pause, at)
        return (Append(RunPaused(asked.words, waiting, survives)), *notes, armed)

    def take_up(self, asked: Question, left: float | None, at: Moment) -> Effects:
        """The question stood in a process that is gone, and stands on, for so long at most."""
        self.question = asked
        return (self._wait(self._max_pause if left is None else left, at),)

    def _wait(self, seconds: float, at: Moment) -> Effect:
        self.ends = at.monotonic + seconds
        return self._timers.arm(TimerName.PAUSE, seconds)

    def rest(self) -> bool:
        """Whether the question can stand without the code that asked it; then it does."""
        if self.question is None or self.question.continuation is None:
            return False
        self.question = self.question.again()
        return True

    def decide(
        self, asked: Question, decisions: Sequence[Decision], actor: str, at: Moment
    ) -> Effects:
        """The run goes on by these decisions. Raises InvalidArgument; nothing was changed."""
        made = asked.in_order(decisions)
        self.decided = digest(decisions)
        calls = (
            decided(self._as_listed(c), d, at.time) for c, d in zip(asked.calls, made, strict=True)
        )
        return (
            *self._go_on(RunContinued(actor), [short(call) for call in calls]),
            Settle(asked, made),
        )

    def take_back(self, asked: Question, at: Moment) -> Effects:
        """The run goes on without an answer: its calls are declined."""
        none = (decided(self._as_listed(c), Decision(c.tool_call_id), at.time) for c in asked.calls)
        return (*self._go_on(RunContinued(), [short(call) for call in none]), Settle(asked, None))

    def drop(self) -> Effects:
        """Nobody may decide any more."""
        asked, self.question = self.question, None
        if asked is None:
            return ()
        return (*self._timers.disarm(TimerName.PAUSE), Settle(asked, None))

    def _as_listed(self, call: ToolCall) -> ToolCall:
        return self._ledger.find(call) or call

    def _go_on(self, continued: RunContinued, calls: Sequence[ToolCall]) -> Effects:
        self.question = None
        effects: list[Effect] = [Append(continued), *self._timers.disarm(TimerName.PAUSE)]
        for call in calls:
            self._ledger.enter(call)
            effects.append(Note(call))
            if call.state is not ToolCallState.APPROVED:
                effects.append(Append(ToolCallCompleted(call)))
        return tuple(effects)
