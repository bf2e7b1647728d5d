"""The spans of `pullcord serve --otlp`, as a collector at a real socket gets them.

One server is started, stopped in the middle of a pause, and started again; all tests look at what
the two have sent.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from pullcord import runnable
from pullcord.client import RunClient
from pullcord.run.record import Decision, Run, RunFilter
from pullcord.run.state import RunState
from pullcord.server import RunServer

from tests.cli.commands import Command
from tests.collector import Collector, collecting
from tests.restarts.test_pauses import paused, stored
from tests.steady import PATIENCE
from tests.transports.harness import make_settings

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"

APP = """
import asyncio, os
from opentelemetry import trace
from pullcord import (
    Agent, Parallel, RemoteRunnable, RunContext, RunServer, Step, Workflow, needs_approval,
    runnable,
)
from pullcord.models.base import Finished, Model, ModelError, Text, ToolMessage, ToolRequest
from pullcord.run.finish import FinishReason
from pullcord.run.usage import Usage

@runnable
def place(ctx: RunContext):
    span = trace.get_current_span().get_span_context()
    return f"{span.trace_id:032x}/{span.span_id:016x}"

class Scripted(Model):
    provider = "google"

    def __init__(self, id):
        self.id = id

    async def stream(self, request):
        if self.id == "silent":
            yield Text("secret")
            await asyncio.sleep(600)
        if self.id == "broken":
            raise ModelError("secret words", status=500)
        if isinstance(request.messages[-1], ToolMessage):
            yield Text("secret words")
            yield Usage(input_tokens=7, output_tokens=3, cost=0.0)
            yield Finished(FinishReason.STOP)
        else:
            yield ToolRequest("call-1", "buy", '{"thing": "secret words"}')
            yield Usage(input_tokens=5, output_tokens=2, cost=0.0)
            yield Finished(FinishReason.TOOL_CALLS)

def look(thing: str) -> str:
    return thing

@needs_approval
def buy(thing: str) -> str:
    return thing

look.__name__ = "buy"
server = RunServer(
    agents=[
        place,
        Agent(id="writer", model=Scripted("gem-1"), tools=[look]),
        Agent(id="buyer", model=Scripted("gem-1"), tools=[buy]),
        Agent(id="silent", model=Scripted("silent")),
        Agent(id="broken", model=Scripted("broken")),
        RemoteRunnable(os.environ["THERE"], "agents/place", id="far"),
    ],
    workflows=[
        Workflow(id="two", steps=[
            Parallel(Step("left", executor=place), Step("right", executor=place), name="both"),
        ]),
    ],
)
"""


@dataclass
class Seen:
    """What was sent, and what callers know of the runs."""

    spans: list[Any]
    runs: dict[str, Run]

    def one(self, name: str, **attributes: str) -> Any:
        """The span of this name and attributes."""
        found = [
            span
            for span in self.spans
            if span.name == name and attributes.items() <= values(span).items()
        ]
        assert len(found) == 1, f"{len(found)} of {name} {attributes}: {self.names()}"
        return found[0]

    def of_run(self, run_id: str) -> Any:
        """The one span of a run."""
        found = [
            span
            for span in self.spans
            if span.name.startswith("invoke_") and values(span)["pullcord.run.id"] == run_id
        ]
        assert len(found) == 1, f"{len(found)} of {run_id}: {self.names()}"
        return found[0]

    def names(self) -> list[str]:
        return [span.name for span in self.spans]


def values(span: Any) -> dict[str, Any]:
    """A span's attributes, lists as their first value."""
    found = {}
    for pair in span.attributes:
        value = pair.value
        if value.WhichOneof("value") == "array_value":
            value = value.array_value.values[0]
        found[pair.key] = getattr(value, value.WhichOneof("value"))
    return found


@runnable
def place() -> str:
    """The span that a remote run of this process is in."""
    span = trace.get_current_span().get_span_context()
    return f"{span.trace_id:032x}/{span.span_id:016x}"


def served(folder: Path, collector: Collector, there: str) -> tuple[Command, str]:
    """A server, and its address."""
    command = Command(
        *("serve", "app:server", "--listen", "127.0.0.1:0", "--json", "--otlp"),
        cwd=folder,
        THERE=there,
        PULLCORD_STORE="runs.db",
        **collector.endpoint,
    )
    return command, json.loads(command.until("\n").partition("\n")[0])["address"]


def left(command: Command) -> None:
    """The server has sent what it has, and has ended."""
    command.interrupt()
    code, _, log = command.end()
    assert code == 0, log
    command.__exit__(None, None, None)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("served")
    (folder / "app.py").write_text(APP)
    remote = RunServer(agents=[place], settings=make_settings())
    there = remote.start()
    runs = {}
    header = [("traceparent", f"00-{TRACE}-{CALLER}-01")]
    with collecting() as collector:
        command, address = served(folder, collector, there)
        with RunClient(address, metadata=header) as client:
            for name in ("agents/writer", "agents/broken", "agents/far"):
                runs[name] = client.wait(client.start(name).run_id, PATIENCE)
            runs["two"] = client.wait(client.start("workflows/two").run_id, PATIENCE)
            silent = client.run("agents/silent")
            next(event for event in silent if getattr(event.payload, "text", ""))
            client.cancel(silent.run_id, wait=PATIENCE)
            runs["silent"] = client.get(silent.run_id)
            for child in client.list(RunFilter(parent_run_id=runs["two"].run_id)):
                runs[child.run_id] = client.get(child.run_id)
            paused(client, "carried")
            stored(folder, "carried")
        left(command)
        first = list(collector.spans)
        command, address = served(folder, collector, there)
        with RunClient(address) as client:
            client.continue_run("carried", [Decision("call-1", approved=True)])
            runs["carried"] = client.wait("carried", PATIENCE)
        left(command)
    assert "carried" in {values(span).get("pullcord.run.id") for span in first}
    remote.stop()
    return Seen(collector.spans, runs)


def is_child(span: Any, parent: Any) -> bool:
    return (span.trace_id, span.parent_span_id) == (parent.trace_id, parent.span_id)


def test_each_call_of_a_model_is_a_span_of_its_run(seen: Seen) -> None:
    """By the conventions for generative AI: a client's, with the model, its provider, what was used
    and how it ended. The run's other work is beside it."""
    run = seen.of_run(seen.runs["agents/writer"].run_id)
    assert (run.trace_id.hex(), run.parent_span_id.hex()) == (TRACE, CALLER)
    own = [span for span in seen.spans if is_child(span, run)]
    assert sorted(span.name for span in own) == ["chat gem-1", "chat gem-1", "execute_tool buy"]
    first, last = sorted(
        (span for span in own if span.name == "chat gem-1"),
        key=lambda span: span.start_time_unix_nano,
    )
    assert first.kind == first.SPAN_KIND_CLIENT
    assert values(first) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": "gem-1",
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.response.finish_reasons": "tool_calls",
        "gen_ai.response.time_to_first_chunk": values(first)["gen_ai.response.time_to_first_chunk"],
        "pullcord.run.id": seen.runs["agents/writer"].run_id,
        "pullcord.usage.estimated": False,
    }
    assert values(last)["gen_ai.response.finish_reasons"] == "stop"
    assert first.start_time_unix_nano <= first.end_time_unix_nano <= run.end_time_unix_nano


def test_a_call_that_failed_is_an_error_and_one_that_was_stopped_is_none(seen: Seen) -> None:
    broken, silent = seen.one("chat broken"), seen.one("chat silent")
    assert broken.status.code == broken.status.STATUS_CODE_ERROR
    assert values(broken)["error.type"] == "ModelError"
    assert silent.status.code == silent.status.STATUS_CODE_UNSET
    assert values(silent)["pullcord.interrupted"] is True
    assert "error.type" not in values(silent)


def test_the_code_of_a_run_is_in_its_span(seen: Seen) -> None:
    """In a worker process, also that of children, and at the other end of a remote: so whatever
    else the code traces is found within its run."""
    children = [run for run in seen.runs.values() if run.parent_run_id]
    assert len(children) == 2
    for child in children:
        assert child.output == f"{TRACE}/{seen.of_run(child.run_id).span_id.hex()}"
    far = seen.runs["agents/far"]
    assert far.output == f"{TRACE}/{seen.of_run(far.run_id).span_id.hex()}"


def test_steps_are_spans_around_the_runs_that_they_start(seen: Seen) -> None:
    """A step within another one is within its span."""
    workflow = seen.of_run(seen.runs["two"].run_id)
    assert workflow.name == "invoke_workflow two"
    both = seen.one("step both")
    assert is_child(both, workflow)
    for name in ("left", "right"):
        step = seen.one(f"step {name}")
        assert is_child(step, both)
        assert values(step)["pullcord.step.state"] == "completed"
        (run,) = (span for span in seen.spans if is_child(span, step))
        assert run.name == "invoke_agent place"


def test_a_run_that_goes_on_elsewhere_is_one_trace(seen: Seen) -> None:
    """Its span ends with the process that hands it over, and says so; the next one's is its child
    and has a link to it. What was done is in the span of the process that did it."""
    assert seen.runs["carried"].state is RunState.COMPLETED
    before, after = (s for s in seen.spans if s.name == "invoke_agent buyer")
    assert values(before)["pullcord.handed_over"] is True
    assert values(before)["pullcord.run.state"] == "paused"
    assert before.status.code == before.status.STATUS_CODE_UNSET
    assert is_child(after, before)
    assert [(link.trace_id, link.span_id) for link in after.links] == [
        (before.trace_id, before.span_id)
    ]
    assert values(after)["pullcord.run.state"] == "completed"
    assert before.end_time_unix_nano <= after.start_time_unix_nano
    made = {
        name: [span for span in seen.spans if is_child(span, parent) and span.name == name]
        for name, parent in (("chat gem-1", before), ("execute_tool buy", after))
    }
    assert {name: len(spans) for name, spans in made.items()} == {
        "chat gem-1": 1,
        "execute_tool buy": 1,
    }


def test_no_span_has_a_word_that_was_said(seen: Seen) -> None:
    assert len(seen.spans) > 15
    assert all(b"secret" not in span.SerializeToString() for span in seen.spans)
