"""The agents in examples/, served by `pullcord serve` in worker processes, and a Go client."""

import base64
import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pullcord.v1 import cancel_pb2, event_pb2, run_pb2
from pullcord.v1 import run_service_pb2 as v1

from tests.cli.commands import Command
from tests.clients.toolchains import toolchain
from tests.conformance.drivers import Driver
from tests.conformance.languages import command
from tests.openai_server import Call, OpenAIServer, Silence
from tests.steady import PATIENCE

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
APART = {"google_adk_app", "smolagents_app"}
"""Those of environments of their own, where `make apart` tests them."""
APPS = os.environ.get("APPS", "").split() or sorted(
    path.stem for path in EXAMPLES.glob("*_app.py") if path.stem not in APART
)
WORKFLOWS = {"llama_index_app"}
"""Those that serve a workflow, which is the author's own code and calls no tool."""


@pytest.fixture(scope="module")
def go() -> Iterator[Driver]:
    """A program of the Go client, built once, that does what it is asked to on its stdin."""
    toolchain("go")
    with Driver("go", command("go")) as driver:
        yield driver


@pytest.mark.timeout(600)  # the first one may build the Go program
@pytest.mark.parametrize("app", APPS)
def test_an_agent_people_already_have(
    app: str, go: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is served as it is, a Go client stops it while its model is silent, and its next turn
    knows what it had said."""
    path = EXAMPLES / f"{app}.py"
    assert len(path.read_text().splitlines()) < 30
    kind = "workflow" if app in WORKFLOWS else "agent"
    tools = [] if app in WORKFLOWS else [Call("look_up", {"topic": "whales"})]
    with OpenAIServer(keep_alive=False) as model:
        monkeypatch.setenv("OPENAI_BASE_URL", model.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        for call in tools:
            model.script(call)
        model.script("Once there was a whale", Silence())
        model.script("It was a whale")
        options = ("--listen", "127.0.0.1:0", "--json")
        with Command("serve", f"{path}:{kind}", *options, cwd=EXAMPLES) as server:
            go.ask("connect", target=json.loads(server.until("\n"))["address"], actor="the reader")
            spec = run_pb2.RunSpec(runnable=f"{kind}s/storyteller", input="a story", session_id="s")
            end = stopped(go, spec, after="Once there was a whale")
            assert end.output == "Once there was a whale"
            results = [call.result for call in end.tool_calls]
            assert results == ["whales is well known"] * len(tools)
            assert end.cancellation.cause == cancel_pb2.CANCEL_CAUSE_USER
            assert (end.cancellation.actor, end.cancellation.reason) == ("the reader", "enough")
            assert model.exchange(len(tools)).left.wait(PATIENCE)
            spec.input = "what was it?"
            *_, last = events(go, go.ask("run", spec=spec)["stream"])
            assert last.run_completed.output == "It was a whale"
            assert "Once there was a whale" in str(model.exchange(len(tools) + 1).body["messages"])
            server.interrupt()
            assert server.end()[0] == 0


def events(go: Driver, stream: int) -> Iterator[event_pb2.RunEvent]:
    """What the Go client is told by a stream, until it ends."""
    while "event" in (said := go.ask("next", stream=stream)):
        yield event_pb2.RunEvent.FromString(base64.b64decode(said["event"]))
    assert said == {"end": True}


def stopped(go: Driver, spec: run_pb2.RunSpec, *, after: str) -> event_pb2.RunCancelled:
    """The end of a run that the Go client stops once the run has said this."""
    asked = go.ask("run", spec=spec)
    stop = v1.CancelRunRequest(run_id=asked["run_id"], reason="enough")
    stop.wait.FromTimedelta(timedelta(seconds=PATIENCE))
    said = ""
    for event in events(go, asked["stream"]):
        said += event.content_delta.text
        if event.HasField("content_delta") and said == after:
            receipt = v1.CancelRunResponse.FromString(
                base64.b64decode(go.ask("cancel", request=stop)["message"])
            )
            assert receipt.outcome == cancel_pb2.CANCEL_OUTCOME_STOPPED
    return event.run_cancelled
