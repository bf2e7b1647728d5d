"""A question that a run waits to have answered, and what a decision makes of its calls.

Values and rules only. When a run pauses and goes on is decided elsewhere.
"""

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from hashlib import sha256

from pullcord.run.errors import InvalidArgument, Violation
from pullcord.run.events import ToolCall, ToolCallState
from pullcord.run.record import MAX_DECISIONS, Decision
from pullcord.run.resumed import HandedOver


class Question:
    """A question to people, and the wait for its answer. Settled once, from any thread."""

    def __init__(
        self,
        words: str,
        calls: Sequence[ToolCall],
        continuation: bytes | None = None,
        *,
        sequence: int = 0,
        above: Sequence[HandedOver] = (),
    ) -> None:
        """Raises ValueError for what nobody can decide: no calls, or two with one id.

        `continuation`: from what another execution can go on, if this one is gone. `above`: the
        same of all parents, the nearest first.
        """
        self.words = words
        self.calls = tuple(calls)
        self.continuation = continuation
        self.above = tuple(above)
        self.sequence = sequence
        """Of the event that asks; 0: it is not in the log yet."""
        if not 0 < len({call.tool_call_id for call in calls}) == len(calls) <= MAX_DECISIONS:
            raise ValueError(f"a question is about 1 to {MAX_DECISIONS} calls, each with its id")
        self._decided: Future[tuple[Decision, ...] | None] = Future()

    def again(self) -> "Question":
        """The same question, for which nobody waits any more."""
        return Question(self.words, self.calls, self.continuation, sequence=self.sequence)

    def settle(self, decisions: tuple[Decision, ...] | None) -> None:
        """Wakes the code that waits; None: nobody will decide any more."""
        self._decided.set_result(decisions)

    async def wait(self) -> tuple[Decision, ...] | None:
        """Waits for the decisions, in the order of the calls. Any task of any loop may wait."""
        return await asyncio.shield(asyncio.wrap_future(self._decided))

    def in_order(self, decisions: Sequence[Decision]) -> tuple[Decision, ...]:
        """The decisions, in the order of the calls.

        Raises:
            InvalidArgument: it names every decision on no call that waits, and every call without.
        """
        waiting = {call.tool_call_id for call in self.calls}
        made = {decision.tool_call_id: decision for decision in decisions}
        wrong = [
            Violation(f"decisions[{index}].tool_call_id", "does not name a call that waits")
            for index, decision in enumerate(decisions)
            if decision.tool_call_id not in waiting
        ]
        wrong += [
            Violation("decisions", f"must have one for the call {call.tool_call_id!r}")
            for call in self.calls
            if call.tool_call_id not in made
        ]
        if wrong:
            raise InvalidArgument(*wrong)
        return tuple(made[call.tool_call_id] for call in self.calls)


def decided(call: ToolCall, decision: Decision, now: float) -> ToolCall:
    """A call that waited, after the decision. One that was approved has not begun yet."""
    if decision.answer is not None:
        return replace(call, state=ToolCallState.COMPLETED, result=decision.answer, end_time=now)
    if not decision.approved:
        return replace(call, state=ToolCallState.DECLINED, result=decision.note, end_time=now)
    return replace(call, state=ToolCallState.APPROVED)


def digest(decisions: Iterable[Decision]) -> str:
    """A short digest of decisions, which does not depend on their order."""
    whole = sha256()
    for made in sorted(decisions, key=lambda made: made.tool_call_id):
        said = (made.tool_call_id, str(made.approved), str(made.answer is None), made.note)
        for text in (*said, made.answer or ""):
            part = text.encode("utf-8", "surrogatepass")
            whole.update(b"%d:" % len(part))
            whole.update(part)
    return whole.hexdigest()
