"""Runs as spans of a trace, by OpenTelemetry's conventions for generative AI (0.1, in development).

A span is made of what the engine says about a run, with the times that it says, and never stands
around an author's code, which may be interrupted anywhere. A run's parent is its parent run, or the
span of the caller that started it. Inputs, outputs and words of errors are never in a span.
"""

import threading

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from pullcord.run.events import ToolCallState
from pullcord.run.record import Run
from pullcord.run.scope import Scope
from pullcord.run.state import RunState

_BILLION = 1_000_000_000
_FAILED = {ToolCallState.FAILED, ToolCallState.UNKNOWN, ToolCallState.INTERRUPTED}


class RunSpans:
    """The spans of the runs of one process. Any thread may call."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self._lock = threading.Lock()
        self._open: dict[tuple[Scope, str], trace.Span] = {}

    def begin(self, run: Run) -> None:
        """A run was admitted, just now and in the context of its caller."""
        operation = "invoke_workflow" if run.runnable.startswith("workflows/") else "invoke_agent"
        name = run.runnable.partition("/")[2]
        above = self._open.get((run.scope, run.parent_run_id)) if run.parent_run_id else None
        span = self._tracer.start_span(
            f"{operation} {name}",
            None if above is None else trace.set_span_in_context(above),
            SpanKind.INTERNAL,
            {
                "gen_ai.operation.name": operation,
                "gen_ai.agent.name": name,
                "pullcord.run.id": run.run_id,
            },
            start_time=_nanoseconds(run.create_time),
        )
        if not span.is_recording():
            return
        with self._lock:
            self._open[run.scope, run.run_id] = span

    def end(self, run: Run) -> str:
        """A run has its terminal event; its trace's id, or an empty text."""
        with self._lock:
            span = self._open.pop((run.scope, run.run_id), None)
        if span is None:
            return ""
        self._add_tool_calls(span, run)
        used, stop = run.usage, run.cancellation
        span.set_attributes(
            {
                "gen_ai.usage.input_tokens": used.input_tokens,
                "gen_ai.usage.output_tokens": used.output_tokens,
                "pullcord.run.state": run.state.value,
            }
        )
        if run.session_id:
            span.set_attribute("gen_ai.conversation.id", run.session_id)
        if run.finish_reason is not None:
            span.set_attribute("gen_ai.response.finish_reasons", [run.finish_reason.value])
        if run.start_time:
            span.add_event("run.began", timestamp=_nanoseconds(run.start_time))
        if stop is not None:
            span.set_attribute("pullcord.cancel.cause", stop.cause.value)
            span.set_attribute("pullcord.cancel.mode", stop.mode.value)
            span.set_attribute("pullcord.abandoned", run.abandoned)
            if stop.accept_time:
                span.add_event("cancel.accepted", timestamp=_nanoseconds(stop.accept_time))
        if run.state is RunState.FAILED:  # a stopped run is no error
            span.set_status(Status(StatusCode.ERROR))
            if run.error is not None:
                span.set_attribute("error.type", run.error.type)
        trace_id = trace.format_trace_id(span.get_span_context().trace_id)
        span.end(_nanoseconds(run.end_time))
        return trace_id

    def _add_tool_calls(self, above: trace.Span, run: Run) -> None:
        context = trace.set_span_in_context(above)
        for call in run.tool_calls:
            if call.run_id or not call.start_time:
                continue
            span = self._tracer.start_span(
                f"execute_tool {call.tool_name}",
                context,
                SpanKind.INTERNAL,
                {
                    "gen_ai.operation.name": "execute_tool",
                    "gen_ai.tool.name": call.tool_name,
                    "gen_ai.tool.call.id": call.tool_call_id,
                    "pullcord.tool.state": call.state.value,
                },
                start_time=_nanoseconds(call.start_time),
            )
            if call.state in _FAILED:
                span.set_status(Status(StatusCode.ERROR))
            span.end(_nanoseconds(call.end_time or run.end_time))


def _nanoseconds(seconds: float) -> int:
    return int(seconds * _BILLION)
