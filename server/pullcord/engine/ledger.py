"""The tool calls of a run and of all beneath it, each as far as it has come.

Bounded in number and in size, so that it fits a message. It guards nothing and decides nothing: its
owner holds a lock, and says what is entered.
"""

from collections.abc import Iterator
from dataclasses import replace

from pullcord.run.events import ToolCall, ToolCallState
from pullcord.run.said import check

_TOOL_NAME = 128
"""Bytes of a tool call's id, and of its name, that are kept."""
_TOOL_TEXT = 1024
"""Bytes of a tool call's arguments, and of its result, that are kept."""

_NOT_ENDED = frozenset({ToolCallState.RUNNING, ToolCallState.WAITING})


class Ledger:
    """Tool calls in the order in which they began."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._calls: dict[tuple[str, str], ToolCall] = {}  # by run and id

    def calls(self) -> tuple[ToolCall, ...]:
        """All that are kept."""
        return tuple(self._calls.values())

    def find(self, like: ToolCall) -> ToolCall | None:
        """The call of the same run and id."""
        return self._calls.get((like.run_id, like.tool_call_id))

    def enter(self, call: ToolCall) -> None:
        """Enters a call, or what has become of it. The oldest ended one makes room."""
        key = (call.run_id, call.tool_call_id)
        calls = self._calls
        if key not in calls and len(calls) >= self._limit:
            ended = (k for k, c in calls.items() if c.state not in _NOT_ENDED)
            calls.pop(next(ended, key), None)
        calls[key] = call

    def make_way(self, call: ToolCall) -> None:
        """Some models count their calls anew in every turn: an earlier one gets another key."""
        key = (call.run_id, call.tool_call_id)
        earlier = self._calls.pop(key, None)
        if earlier is not None and earlier.state is not ToolCallState.WAITING:
            self._calls[call.run_id, f"{key[1]} {len(self._calls)} before"] = earlier

    def closing(self) -> Iterator[ToolCall]:
        """What becomes, at the end of the run, of the calls that have not ended."""
        for call in self.calls():
            if call.state is ToolCallState.RUNNING:  # what has unwound said so itself
                yield replace(call, state=ToolCallState.UNKNOWN)
            elif call.state is ToolCallState.WAITING:
                yield short(replace(call, state=ToolCallState.DECLINED))


def short(call: ToolCall) -> ToolCall:
    """The same call, so short that a ledger of them fits a message."""
    check(call)
    return replace(
        call,
        tool_call_id=_cut(call.tool_call_id, _TOOL_NAME),
        tool_name=_cut(call.tool_name, _TOOL_NAME),
        arguments=_cut(call.arguments, _TOOL_TEXT),
        result=_cut(call.result, _TOOL_TEXT),
    )


def short_but_whole(call: ToolCall) -> ToolCall:
    """The same, with all of its arguments: nobody is to approve what is not shown."""
    arguments = call.arguments.encode("utf-8", "replace").decode()
    return replace(short(call), arguments=arguments, run_id="")


def _cut(text: str, most: int) -> str:
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= most:
        return encoded.decode()
    return encoded[:most].decode("utf-8", "ignore") + "…"
