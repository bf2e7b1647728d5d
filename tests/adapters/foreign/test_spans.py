"""The contract of every adapter, on traces: each call of a model that a framework makes is a span.

What a kind's framework does not tell of a call, its kind says.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from pullcord.adapters.foreign.report import Report
from pullcord.telemetry import Telemetry

from tests.adapters.foreign.test_contract import ended, pytestmark, stop
from tests.adapters.foreign.test_driver import Framework
from tests.openai_server import Call, OpenAIServer, Refuse, Silence
from tests.transports.harness import Serve, Served, Signal

__all__ = ["pytestmark"]


class Traced:
    """A server for one object, and the spans that it has made."""

    def __init__(self, serve: Serve, given: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self._provider = TracerProvider()
        self._provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        telemetry = Telemetry(tracer=self._provider.get_tracer("test"))
        self.served: Served = serve(given, observer=telemetry)

    def close(self) -> None:
        self._provider.shutdown()

    def within(self, run_id: str) -> list[ReadableSpan]:
        """The spans right under the run's own, in the order in which they began."""
        self.served.until(lambda: bool(self._own(run_id)))
        (own,), spans = self._own(run_id), self._exporter.get_finished_spans()
        found = [s for s in spans if s.parent is not None and s.parent == own.context]
        return sorted(found, key=lambda span: span.start_time or 0)

    def _own(self, run_id: str) -> list[ReadableSpan]:
        spans = self._exporter.get_finished_spans()
        return [s for s in spans if s.name.startswith("invoke_") and about(s, "run.id") == run_id]

    def calls(self, run_id: str) -> list[ReadableSpan]:
        """Those of models."""
        return [span for span in self.within(run_id) if about(span, "operation") == "chat"]


def about(span: ReadableSpan, name: str) -> Any:
    """An attribute, by a short name."""
    full = {
        "run.id": "pullcord.run.id",
        "interrupted": "pullcord.interrupted",
        "estimated": "pullcord.usage.estimated",
        "operation": "gen_ai.operation.name",
        "model": "gen_ai.request.model",
        "provider": "gen_ai.provider.name",
        "input": "gen_ai.usage.input_tokens",
        "output": "gen_ai.usage.output_tokens",
        "reasons": "gen_ai.response.finish_reasons",
        "first": "gen_ai.response.time_to_first_chunk",
        "error": "error.type",
    }[name]
    return (span.attributes or {}).get(full)


@pytest.fixture
def traced(serve: Serve) -> Iterator[Any]:
    """Serves one object, and sees its spans."""
    made: list[Traced] = []

    def start(given: Any) -> Traced:
        made.append(Traced(serve, given))
        return made[-1]

    yield start
    for each in made:
        each.close()


def test_each_call_of_a_model_is_a_span_of_the_run(
    kind: Any, model: OpenAIServer, traced: Any
) -> None:
    """With the model, the provider's count of tokens, and how the answer ended. The tool's call is
    between them."""

    async def look(city: str) -> str:
        """Looks."""
        return f"sun in {city}"

    model.script(Call("look", {"city": "Rome"}, "a"))
    model.script("It is sunny today")
    server = traced(kind.agent(model.base_url, tools=[look]))
    stream = server.served.run(kind.served, "?")
    ended(stream, "run_completed")
    run_id = stream.events[0].run_id
    named = f"chat {kind.model}".rstrip()
    spans = server.within(run_id)
    assert [s.name for s in spans if about(s, "operation")] == [named, "execute_tool look", named]
    first, last = server.calls(run_id)
    assert {first.kind, last.kind} == {SpanKind.CLIENT}
    assert {about(span, "model") for span in (first, last)} == {kind.model or None}
    assert {about(span, "provider") for span in (first, last)} == {kind.provider or None}
    assert [about(last, name) for name in ("input", "output", "estimated")] == [10, 4, False]
    assert about(last, "reasons") == (kind.finish_reason,)
    assert about(last, "first") > 0
    assert {span.status.status_code for span in (first, last)} == {StatusCode.UNSET}


def test_a_call_that_was_stopped_is_a_span_and_no_error(
    kind: Any, model: OpenAIServer, traced: Any
) -> None:
    """It is said to have been interrupted, and its tokens are an estimate."""
    model.script("Once upon a time", Silence())
    server = traced(kind.agent(model.base_url))
    stream = server.served.run(kind.served, "?")
    while stream.text() != "Once upon a time":
        stream.until("content_delta")
    stop(server.served, stream)
    (call,) = server.calls(stream.events[0].run_id)
    assert (about(call, "interrupted"), about(call, "estimated")) == (True, True)
    assert about(call, "output") > 0
    assert about(call, "reasons") is None
    assert call.status.status_code is StatusCode.UNSET


def test_a_call_that_was_refused_is_an_error(kind: Any, model: OpenAIServer, traced: Any) -> None:
    """By the class of the framework's error, without its words."""
    model.script(Refuse(400, "no such model here"))
    server = traced(kind.agent(model.base_url))
    stream = server.served.run(kind.served, "?")
    ended(stream, "run_failed")
    (call,) = server.calls(stream.events[0].run_id)
    assert call.status.status_code is StatusCode.ERROR
    assert about(call, "error")
    assert (about(call, "output"), about(call, "interrupted")) == (0, None)
    assert "no such model here" not in str(call.attributes)


def test_a_call_that_a_stop_kept_from_beginning_is_no_span(traced: Any) -> None:
    """A GRACEFUL stop lets a tool finish; the model that comes next is not asked."""
    go_on = Signal()
    may: list[bool] = []

    async def play(report: Report) -> None:
        report.tool_started("1", "save", is_async=True)
        report.text("go")
        await go_on.come()
        may.append(report.model_began("m", said="many words to read", model="gpt-5-mini"))
        report.tool_ended("1", "saved")
        await asyncio.Event().wait()

    server = traced(Framework(play))
    stream = server.served.run("play")
    stream.until("content_delta")
    run_id = stream.events[0].run_id
    server.served.cancel(run_id, reason="enough")
    go_on.set()
    end = stop(server.served, stream)
    assert (may, end.usage.input_tokens) == ([False], 0)
    assert [span.name for span in server.within(run_id)] == ["execute_tool save"]
