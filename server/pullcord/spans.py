"""Runs as spans of a trace, by OpenTelemetry's conventions for generative AI (0.1, in development).

A span is made of what the engine says about a run, with the times that it says, and never stands
around an author's code, which may be interrupted anywhere. A run's parent is its parent run or the
step that started it, or the span of the caller. Inputs, outputs and words of errors are never in a
span.
"""

import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType

from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from pullcord.run.events import StepCompleted, StepStarted, ToolCallState
from pullcord.run.model_call import ModelCall
from pullcord.run.record import Run
from pullcord.run.scope import Scope
from pullcord.run.state import RunState

_BILLION = 1_000_000_000
_FAILED = {ToolCallState.FAILED, ToolCallState.UNKNOWN, ToolCallState.INTERRUPTED}
_PROVIDERS = {"google": "gcp.gemini"}
"""The conventions' names of providers, where they are not ours."""

Path = tuple[str, ...]


@dataclass(slots=True)
class _Open:
    """The spans of a run that has not ended."""

    span: trace.Span
    is_child: bool
    since: float
    """Seconds since the epoch; what happened before is in the span of another process."""
    steps: dict[Path, trace.Span] = field(default_factory=dict)

    @property
    def of(self) -> trace.SpanContext:
        """The span, as others name it."""
        return self.span.get_span_context()


class RunSpans:
    """The spans of the runs of one process. Any thread may call."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self._lock = threading.Lock()
        self._open: dict[tuple[Scope, str], _Open] = {}

    # --- runs

    def begin(self, run: Run, path: Path, carried: Mapping[str, str]) -> Mapping[str, str]:
        """A run has entered, just now and in the context of its caller; what carries its trace.

        `carried` is that of the process which had the run before. Its span is the new one's parent,
        and linked, because it ended without the run.
        """
        operation = "invoke_workflow" if run.runnable.startswith("workflows/") else "invoke_agent"
        name = run.runnable.partition("/")[2]
        above, links = self._parent_of(run, path), []
        start = run.create_time
        if carried:
            above = propagate.extract(carried, Context())
            links = [trace.Link(trace.get_current_span(above).get_span_context())]
            start = time.time()
        span = self._tracer.start_span(
            f"{operation} {name}",
            above,
            SpanKind.INTERNAL,
            {
                "gen_ai.operation.name": operation,
                "gen_ai.agent.name": name,
                "pullcord.run.id": run.run_id,
            },
            links,
            start_time=_nanoseconds(start),
        )
        if not span.get_span_context().is_valid:
            return {}
        with self._lock:
            self._open[run.scope, run.run_id] = _Open(span, bool(run.parent_run_id), start)
        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(span, Context()))
        return carrier

    def within(self, scope: Scope, run_id: str) -> AbstractContextManager[object]:
        """A block in which everything that is started has the run's span as its parent."""
        open_ = self._open.get((scope, run_id))
        if open_ is None:
            return nullcontext()
        if not open_.span.is_recording() and (open_.is_child or _here().is_valid):
            return nullcontext()  # the author's code may know a nearer span than this
        return _Current(open_.span)

    def withdraw(self, scope: Scope, run_id: str) -> None:
        """A run was refused: it is in no trace."""
        with self._lock:
            self._open.pop((scope, run_id), None)

    def end(self, run: Run) -> str:
        """A run has its terminal event; its trace's id, or an empty text."""
        open_ = self._close(run, run.end_time)
        if open_ is None:
            return ""
        span, stop = open_.span, run.cancellation
        if run.finish_reason is not None:
            span.set_attribute("gen_ai.response.finish_reasons", [run.finish_reason.value])
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
        span.end(_nanoseconds(run.end_time))
        return trace.format_trace_id(open_.of.trace_id)

    def hand_over(self, run: Run) -> None:
        """A run goes on in another process: its span here ends, and says so."""
        now = time.time()
        if (open_ := self._close(run, now)) is not None:
            open_.span.set_attribute("pullcord.handed_over", True)
            open_.span.add_event("run.handed_over", timestamp=_nanoseconds(now))
            open_.span.end(_nanoseconds(now))

    # --- what is within them

    def begin_step(self, scope: Scope, run_id: str, path: Path, step: StepStarted) -> None:
        """A step begins, just now; runs of this path are children of its span."""
        if (open_ := self._open.get((scope, run_id))) is None:
            return
        span = self._tracer.start_span(
            f"step {step.name or step.step_id}",
            trace.set_span_in_context(open_.steps.get(path[:-1], open_.span), Context()),
            SpanKind.INTERNAL,
            {"pullcord.run.id": run_id, "pullcord.step.path": "/".join(path)},
        )
        if step.attempt:
            span.set_attribute("pullcord.step.attempt", step.attempt)
        open_.steps[path] = span

    def end_step(self, scope: Scope, run_id: str, path: Path, step: StepCompleted) -> None:
        """A step has ended, just now."""
        if (open_ := self._open.get((scope, run_id))) is None:
            return
        if (span := open_.steps.pop(path, None)) is not None:
            span.set_attribute("pullcord.step.state", step.state.value)
            if step.state is RunState.FAILED:
                span.set_status(Status(StatusCode.ERROR))
                if step.error is not None:
                    span.set_attribute("error.type", step.error.type)
            span.end()

    def add_model_call(self, scope: Scope, run_id: str, call: ModelCall) -> None:
        """A call of a model has ended, just now."""
        open_ = self._open.get((scope, run_id))
        if open_ is None or not open_.span.is_recording():
            return
        now = time.time()
        used = call.usage
        about: dict[str, AttributeValue] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.usage.input_tokens": used.input_tokens,
            "gen_ai.usage.output_tokens": used.output_tokens,
            "pullcord.run.id": run_id,
            "pullcord.usage.estimated": used.estimated,
        }
        if call.model:
            about["gen_ai.request.model"] = call.model
        if call.provider:
            about["gen_ai.provider.name"] = _PROVIDERS.get(call.provider, call.provider)
        if call.first_after is not None:
            about["gen_ai.response.time_to_first_chunk"] = call.first_after
        if call.finish_reason is not None:
            about["gen_ai.response.finish_reasons"] = [call.finish_reason.value]
        span = self._tracer.start_span(
            f"chat {call.model}".rstrip(),
            trace.set_span_in_context(open_.span, Context()),
            SpanKind.CLIENT,
            about,
            start_time=_nanoseconds(now - call.seconds),
        )
        if call.error_type:
            span.set_attribute("error.type", call.error_type)
            span.set_status(Status(StatusCode.ERROR))
        elif call.finish_reason is None:
            span.set_attribute("pullcord.interrupted", True)
        span.end(_nanoseconds(now))

    # --- inside

    def _parent_of(self, run: Run, path: Path) -> Context | None:
        """None: the span that is current."""
        parent = self._open.get((run.scope, run.parent_run_id)) if run.parent_run_id else None
        if parent is None:
            return None
        here = _here()
        if here.trace_id == parent.of.trace_id and here.span_id != parent.of.span_id:
            return None  # a span of the author's, in code of the parent's in this process
        return trace.set_span_in_context(parent.steps.get(path, parent.span))

    def _close(self, run: Run, at: float) -> _Open | None:
        """Does what is common to a run that ends and one that is handed over."""
        with self._lock:
            open_ = self._open.pop((run.scope, run.run_id), None)
        if open_ is None:
            return None
        for step in open_.steps.values():
            step.end(_nanoseconds(at))
        self._add_tool_calls(open_, run, at)
        span = open_.span
        span.set_attributes(
            {
                "gen_ai.usage.input_tokens": run.usage.input_tokens,
                "gen_ai.usage.output_tokens": run.usage.output_tokens,
                "pullcord.run.state": run.state.value,
            }
        )
        if run.session_id:
            span.set_attribute("gen_ai.conversation.id", run.session_id)
        if run.start_time >= open_.since:
            span.add_event("run.began", timestamp=_nanoseconds(run.start_time))
        return open_

    def _add_tool_calls(self, above: _Open, run: Run, at: float) -> None:
        parent = trace.set_span_in_context(above.span, Context())
        for call in run.tool_calls:
            if call.run_id or call.start_time < above.since:  # not begun, or elsewhere
                continue
            span = self._tracer.start_span(
                f"execute_tool {call.tool_name}",
                parent,
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
            span.end(_nanoseconds(call.end_time or at))


class _Current:
    """A block in which this span is the current one."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def __enter__(self) -> None:
        self._token = context.attach(trace.set_span_in_context(self._span))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        context.detach(self._token)


def _here() -> trace.SpanContext:
    return trace.get_current_span().get_span_context()


def _nanoseconds(seconds: float) -> int:
    return int(seconds * _BILLION)
