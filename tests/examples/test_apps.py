"""The agents in examples/, served by `pullcord serve` in worker processes."""

import json
from pathlib import Path

import pytest
from pullcord.client import RunClient
from pullcord.run.events import ContentDelta, RunCancelled, RunCompleted

from tests.cli.commands import Command
from tests.clients.toolchains import CLIENTS, toolchain
from tests.openai_server import Call, OpenAIServer, Silence
from tests.steady import PATIENCE

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
APPS = sorted(path.stem for path in EXAMPLES.glob("*_app.py"))


@pytest.mark.parametrize("app", APPS)
def test_an_agent_people_already_have(app: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is served as it is, stopped while its model is silent, and its next turn
    knows what it had said."""
    path = EXAMPLES / f"{app}.py"
    assert len(path.read_text().splitlines()) < 30
    with OpenAIServer(keep_alive=False) as model:
        monkeypatch.setenv("OPENAI_BASE_URL", model.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        model.script(Call("look_up", {"topic": "whales"}))
        model.script("Once there was a whale", Silence())
        model.script("It was a whale")
        options = ("--listen", "127.0.0.1:0", "--json")
        with Command("serve", f"{path}:agent", *options, cwd=EXAMPLES) as command:
            address = json.loads(command.until("\n"))["address"]
            with RunClient(address) as client:
                stream = client.run("agents/storyteller", "a story", session_id="s")
                said = ""
                for event in stream:
                    if isinstance(event.payload, ContentDelta):
                        said += event.payload.text
                        if said == "Once there was a whale":
                            stream.cancel("that will do")
                assert isinstance(stream.result, RunCancelled)
                assert stream.result.output == "Once there was a whale"
                assert [call.result for call in stream.result.tool_calls] == [
                    "whales is well known"
                ]
                assert model.exchange(1).left.wait(PATIENCE)
                again = client.run("agents/storyteller", "what was it?", session_id="s")
                list(again)
                assert isinstance(again.result, RunCompleted)
                assert "Once there was a whale" in str(model.exchange(2).body["messages"])
            command.interrupt()
            assert command.end()[0] == 0


@pytest.mark.timeout(600)
# Not the one whose MCP server may take longer to start than the client waits.
@pytest.mark.parametrize("app", sorted({*APPS} - {"mcp_app"}))
def test_a_stop_button_in_another_language(app: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Go client's example stops it after two seconds, silent as its model is."""
    go = toolchain("go")
    with OpenAIServer(keep_alive=False) as model:
        monkeypatch.setenv("OPENAI_BASE_URL", model.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        model.script("Once there was a whale", Silence())
        options = ("--listen", "127.0.0.1:0", "--json")
        target = f"{EXAMPLES / app}.py:agent"
        with Command("serve", target, *options, cwd=EXAMPLES) as command:
            address = json.loads(command.until("\n"))["address"]
            said = go.run(["go", "run", "./examples/stop-button", address], CLIENTS / "go")
            assert "CANCEL_OUTCOME_STOPPED" in said
            assert "CANCEL_CAUSE_USER, by the reader" in said
            assert model.exchange(0).left.wait(PATIENCE)
            command.interrupt()
            assert command.end()[0] == 0
