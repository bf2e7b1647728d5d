"""The events of a remote run, as part of the run here that it does the work of.

Its text becomes this run's text, its tool calls enter this ledger, its usage counts here, and what
child runs has its path below this run's. Whether this run ends, and how, is not
decided here.
"""

from contextlib import suppress
from dataclasses import replace

from pullcord.run.context import RunContext
from pullcord.run.errors import RunCancelledError
from pullcord.run.events import (
    CancelRequested,
    ContentDelta,
    Event,
    Gap,
    Heartbeat,
    Payload,
    RunCancelled,
    RunCompleted,
    RunError,
    RunFailed,
    RunStarted,
    Snapshot,
    SourceKind,
    StepCompleted,
    ToolCall,
    ToolCallCompleted,
    ToolCallStarted,
    ToolCallState,
    UsageUpdated,
)
from pullcord.run.usage import Usage

_UNSETTLED = (ToolCallState.RUNNING, ToolCallState.UNKNOWN)


class Joining:
    """One remote run's events on their way into the run here. Nothing in it raises for a stop."""

    def __init__(self, ctx: RunContext, own_id: str, kind: SourceKind) -> None:
        self._ctx = ctx
        self._own_id = own_id
        self._is_workflow = kind is SourceKind.WORKFLOW
        self._usage = Usage()
        self._written: list[str] = []
        self._calls: dict[tuple[str, str], ToolCallState] = {}
        self._missed = False

    def take(self, event: Event) -> None:
        """Adds an event to the run here."""
        payload, source = event.payload, event.source
        if source is not None:
            self._note(payload, source.run_id if source.run_id != event.run_id else "")
            path = (self._own_id, *source.path[1:])
            self._ctx.relay(self._fit(payload), source=replace(source, path=path))
            return
        match payload:
            case RunStarted() | CancelRequested() | Gap() | Heartbeat():
                pass  # this run has its own beginning and stop
            case ContentDelta(text):
                self._written.append(text)
                self._ctx.relay(ContentDelta(text))
            case UsageUpdated(usage):
                self._count(usage)
                self._ctx.relay(UsageUpdated(self._ctx.usage))
            case Snapshot(run):
                self._missed = True
                self._catch_up(run.output, run.tool_calls)
                self._count(run.usage)
            case RunCompleted() | RunCancelled() | RunFailed():
                self._finish(payload)
            case _:
                self._note(payload, "")
                self._ctx.relay(self._fit(payload))

    def _finish(self, result: RunCompleted | RunCancelled | RunFailed) -> None:
        if self._missed:
            self._catch_up(result.output, result.tool_calls)
        data = None if isinstance(result, RunFailed) else result.output_data
        streamed = result.output == "".join(self._written)
        self._ctx.set_output(None if streamed else result.output, data)
        if result.finish_reason is not None:
            self._ctx.set_finish_reason(result.finish_reason)
        self._count(result.usage)

    def _catch_up(self, output: str, calls: tuple[ToolCall, ...]) -> None:
        """Some events are gone, and this is their sum: relays what was not relayed."""
        text = "".join(self._written)
        rest = output.removeprefix(text)
        # An output that does not begin with the text was put in its place by the remote's code; the
        # end has the last of these. A workflow has no text of its own, only such outputs.
        if rest and (rest != output or not (text or self._is_workflow)):
            text += rest
            self._ctx.relay(ContentDelta(rest))
        self._written = [text]
        self._complete_ledger(calls)

    def _complete_ledger(self, calls: tuple[ToolCall, ...]) -> None:
        for call in calls:
            known = self._calls.get((call.run_id, call.tool_call_id))
            if known is None:
                self._tell(ToolCallStarted(replace(call, result="", end_time=0.0)))
            if call.state not in _UNSETTLED and known in (None, ToolCallState.RUNNING):
                self._tell(ToolCallCompleted(call))

    def _tell(self, payload: ToolCallStarted | ToolCallCompleted) -> None:
        self._note(payload, "")
        self._ctx.relay(self._fit(payload))

    def _fit(self, payload: Payload) -> Payload:
        """The event, its errors reduced to what callers here may read."""
        match payload:
            case ToolCallCompleted(call) if call.state is ToolCallState.FAILED:
                result = self._ctx.reported_result(call.result)
                return ToolCallCompleted(replace(call, result=result))
            case RunFailed(error) | StepCompleted(error=RunError() as error):
                told = self._ctx.reported_error(error.type, error.message)
                return replace(payload, error=told)
        return payload

    def _note(self, payload: object, run_id: str) -> None:
        if isinstance(payload, ToolCallStarted | ToolCallCompleted):
            call = payload.tool_call
            self._calls[call.run_id or run_id, call.tool_call_id] = call.state

    def _count(self, usage: Usage) -> None:
        """Counts what the remote run has used since the last time."""
        before, self._usage = self._usage, usage
        with suppress(RunCancelledError):  # a limit was reached: the run's token says so
            self._ctx.use(usage - before, begun=True)
