"""The tool calls of a foreign run that have not ended: the run's own, and those of its children.

Each gets its two events here. Whether a call may begin, and what a stop does to it, is the report's
business.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from pullcord.adapters.foreign.children import CallKey
from pullcord.run.context import RunContext
from pullcord.run.events import (
    Source,
    ToolCall,
    ToolCallCompleted,
    ToolCallStarted,
    ToolCallState,
)


@dataclass(slots=True)
class _Open:
    """A tool call that has not ended."""

    call: ToolCall
    source: Source | None
    is_async: bool | None
    """Whether it unwinds when it is cancelled; None: unknown."""
    holds: bool
    """Whether a GRACEFUL stop lets it finish."""
    models: set[str] = field(default_factory=set)
    """The calls of models that it waits for, because its children do."""


class ToolCalls:
    """One run's open tool calls. All methods are called on the run's event loop."""

    def __init__(self, ctx: RunContext) -> None:
        self._ctx = ctx
        self._open: dict[CallKey, _Open] = {}

    @property
    def hold(self) -> bool:
        """Whether a GRACEFUL stop must wait. Not for a call that waits for a child's model: the
        model is interrupted, and with it what waits for its answer."""
        return any(open.holds and not open.models for open in self._open.values())

    def started(
        self, call: ToolCall, source: Source | None, is_async: bool | None, holds: bool
    ) -> None:
        """A call has begun."""
        call = replace(call, start_time=time.time())
        self._ctx.relay(ToolCallStarted(call), source=source)
        self._open[key_of(call.tool_call_id, source)] = _Open(call, source, is_async, holds)

    def ended(self, key: CallKey, state: ToolCallState, result: str) -> None:
        """A call has ended; nothing happens if it is not open."""
        if (open := self._open.pop(key, None)) is None:
            return
        if state is ToolCallState.FAILED:
            result = self._ctx.reported_result(result)
        self._tell_end(open, state, result)

    def only_one(self, source: Source | None) -> CallKey | None:
        """The call of the run, or of a child, if exactly one is open."""
        keys = [key for key, open in self._open.items() if open.source == source]
        return keys[0] if len(keys) == 1 else None

    def wait_for_model(self, model_call: str, keys: Iterable[CallKey]) -> None:
        """These wait for a call of a model."""
        for key in keys:
            if (open := self._open.get(key)) is not None:
                open.models.add(model_call)

    def wait_no_longer(self, model_call: str) -> None:
        """A call of a model has ended."""
        for open in self._open.values():
            open.models.discard(model_call)

    def child_interrupted(self, run_id: str) -> None:
        """A child has unwound, and with it the async calls that it had begun."""
        for key, open in list(self._open.items()):
            if open.is_async and key[0] == run_id:
                self.ended(key, ToolCallState.INTERRUPTED, "")

    def close(self, state: ToolCallState) -> None:
        """The run is over. An async call that was cancelled has unwound, and gets this state. The
        thread of a sync one may still be at work, so it stays open, and the engine enters it as
        UNKNOWN."""
        for open in self._open.values():
            if open.is_async:
                self._tell_end(open, state, "")
        self._open.clear()

    def _tell_end(self, open: _Open, state: ToolCallState, result: str) -> None:
        call = replace(open.call, state=state, result=result, end_time=time.time())
        self._ctx.relay(ToolCallCompleted(call), source=open.source)


def key_of(id: str, source: Source | None) -> CallKey:
    """What the call is found by."""
    return (source.run_id if source is not None else "", id)
