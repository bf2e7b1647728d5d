"""A model's turn whose tool calls wait for child runs, such as a leader's for its members.

What is open and what came of the others, so that another execution can go on from there. What the
calls are, and when they are made, is the loop's business.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from pullcord.models.base import Model
from pullcord.native.carrying import Turn, dumped
from pullcord.native.tools import CallableTool
from pullcord.run.context import RunContext
from pullcord.run.resumed import HandedOver


@dataclass(slots=True)
class OpenCall:
    """A tool call at work."""

    id: str
    """In the run's ledger."""
    again: str = ""
    """The child that it waited for in an execution that is gone; empty: it begins."""


class OpenTurn:
    """The calls of one turn, as they come."""

    def __init__(
        self,
        ctx: RunContext,
        turn: Turn,
        model: Model,
        tools: Mapping[str, CallableTool],
        extra: Callable[[], Any],
    ) -> None:
        self._ctx = ctx
        self._turn = turn
        self._model = model
        self._tools = tools
        self._extra = extra
        self._results = dict(turn.results)
        self._children: dict[str, str] = {}
        ctx.can_go_on(self._handed_over)

    def begun(self, call: OpenCall, child: str) -> None:
        """A call has nothing to do now but to wait for this child."""
        self._children[call.id] = child

    def ended(self, call: OpenCall, result: str) -> None:
        """A call is done."""
        self._children.pop(call.id, None)
        self._results[call.id] = result
        if self._children:
            self._ctx.waits_again()

    def works(self, call: OpenCall) -> None:
        """A call waits for its child no longer, and has not ended yet."""
        self._children.pop(call.id, None)

    def _handed_over(self) -> HandedOver | None:
        children, results = dict(self._children), dict(self._results)
        if not children or len(children) + len(results) < len(self._turn.wanted):
            return None
        turn = replace(
            self._turn, asked=(), extra=self._extra(), results=results, children=children
        )
        data = dumped(turn, self._model, self._tools)
        return None if data is None else HandedOver(data, tuple(children.values()))


_at_work: ContextVar[tuple[OpenTurn, OpenCall] | None] = ContextVar("at_work", default=None)
"""The call whose function is called in this context."""


@contextmanager
def at_work(turn: OpenTurn, call: OpenCall) -> Iterator[None]:
    """The function of this call is called in here."""
    token = _at_work.set((turn, call))
    try:
        yield
    finally:
        _at_work.reset(token)


def again() -> str:
    """The child that the call in whose function this is asked has waited for in an execution that
    is gone; empty: none."""
    found = _at_work.get()
    return "" if found is None else found[1].again


@contextmanager
def waiting_for(child: str) -> Iterator[None]:
    """The call in whose function this is does nothing in here but wait for this child."""
    found = _at_work.get()
    if found is None:
        yield
        return
    turn, call = found
    turn.begun(call, child)
    try:
        yield
    finally:
        turn.works(call)
