"""The tool calls of a run and of its children at any depth, each as far as it has come.

Bounded in number and in size, so that it fits a message. It guards nothing and decides nothing: its
owner holds a lock, and says what is entered.
"""

import itertools
from dataclasses import replace

from pullcord.run.events import ToolCall, ToolCallState
from pullcord.run.plain import cut
from pullcord.run.readers import MAX_TOOL_TEXT

_NOT_BEGUN = frozenset({ToolCallState.WAITING, ToolCallState.APPROVED})
_NOT_ENDED = _NOT_BEGUN | {ToolCallState.RUNNING}

_MOST_WAITING = 4
"""Child runs that an error names."""


class Ledger:
    """Tool calls in the order in which they began."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._calls: dict[int, ToolCall] = {}  # by a number of their own: ids may repeat
        self._latest: dict[tuple[str, str], int] = {}  # by run and id
        self._numbers = itertools.count()

    def calls(self) -> tuple[ToolCall, ...]:
        """All that are kept."""
        return tuple(self._calls.values())

    def find(self, like: ToolCall) -> ToolCall | None:
        """The latest call of the same run and id."""
        number = self._latest.get(_key(like))
        return None if number is None else self._calls[number]

    def begin(self, call: ToolCall) -> None:
        """Enters a new call. Some models count their calls anew in every turn: an earlier one of
        the same id stays, unless it is this one, which waited for a decision until now."""
        number = self._latest.pop(_key(call), None)
        if number is not None and self._calls[number].state in _NOT_BEGUN:
            del self._calls[number]
        self._add(call)

    def enter(self, call: ToolCall) -> None:
        """Enters what has become of the latest call of this run and id, or the call."""
        number = self._latest.get(_key(call))
        if number is None:
            self._add(call)
        else:
            self._calls[number] = call

    def approved(self, run_id: str) -> None:
        """A run goes on: its calls that waited were approved, unless an event says otherwise."""
        for number, call in self._calls.items():
            if call.run_id == run_id and call.state is ToolCallState.WAITING:
                self._calls[number] = short(replace(call, state=ToolCallState.APPROVED))

    def waiting_children(self) -> tuple[str, ...]:
        """The child runs that wait for a decision, the first few."""
        waiting = (c for c in self._calls.values() if c.state is ToolCallState.WAITING)
        return tuple(dict.fromkeys(call.run_id for call in waiting if call.run_id))[:_MOST_WAITING]

    def close(self) -> tuple[ToolCall, ...]:
        """The run has ended: what becomes of the calls that have not. Returns those."""
        closed = []
        for number, call in self._calls.items():
            if call.state is ToolCallState.RUNNING:  # what has unwound said so itself
                self._calls[number] = replace(call, state=ToolCallState.UNKNOWN)
            elif call.state in _NOT_BEGUN:
                self._calls[number] = short(replace(call, state=ToolCallState.DECLINED))
            else:
                continue
            closed.append(self._calls[number])
        return tuple(closed)

    def _add(self, call: ToolCall) -> None:
        if len(self._calls) >= self._limit:  # the oldest that has ended makes room, or the oldest
            ended = (n for n, c in self._calls.items() if c.state not in _NOT_ENDED)
            oldest = next(ended, next(iter(self._calls)))
            dropped = _key(self._calls.pop(oldest))
            if self._latest.get(dropped) == oldest:
                del self._latest[dropped]
        number = next(self._numbers)
        self._calls[number] = call
        self._latest[_key(call)] = number


def _key(call: ToolCall) -> tuple[str, str]:
    return call.run_id, call.tool_call_id


def short(call: ToolCall) -> ToolCall:
    """A call that has waited for a decision, now so short that a ledger of them fits a message."""
    return replace(
        call, arguments=cut(call.arguments, MAX_TOOL_TEXT), result=cut(call.result, MAX_TOOL_TEXT)
    )
