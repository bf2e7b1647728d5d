"""The example of smolagents, whose threads end with their process only.

`make apart` runs this, in an environment of its own, which the others are spared.
"""

import json
from pathlib import Path

import pytest
from pullcord.client import RunClient
from pullcord.run.cancel import CancelMode
from pullcord.run.events import ContentDelta, RunCancelled, RunCompleted, StopStage

from tests.cli.commands import Command
from tests.openai_server import Call, OpenAIServer, Silence
from tests.steady import PATIENCE

EXAMPLES = Path(__file__).parents[4] / "examples"


def test_a_stop_kills_it_while_its_model_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is closed, its text is kept, and its next turn knows it."""
    path = EXAMPLES / "smolagents_app.py"
    assert len(path.read_text().splitlines()) < 30
    with OpenAIServer(keep_alive=False) as model:
        monkeypatch.setenv("OPENAI_BASE_URL", model.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        model.script(Call("look_up", {"topic": "whales"}))
        model.script("Once there was a whale", Silence())
        model.script(Call("final_answer", {"answer": "It was a whale"}))
        options = ("--listen", "127.0.0.1:0", "--json")
        with Command("serve", f"{path}:storyteller", *options, cwd=EXAMPLES) as server:
            with RunClient(json.loads(server.until("\n"))["address"]) as client:
                stream = client.run("agents/storyteller", "a story", session_id="s")
                for event in stream:
                    if isinstance(event.payload, ContentDelta) and "whale" in event.payload.text:
                        stream.cancel("enough", mode=CancelMode.IMMEDIATE)
                end = stream.result
                assert isinstance(end, RunCancelled)
                assert (end.output, end.stage) == ("Once there was a whale", StopStage.KILL)
                assert model.exchange(1).left.wait(PATIENCE)
                again = client.run("agents/storyteller", "what was it?", session_id="s")
                list(again)
                assert isinstance(again.result, RunCompleted)
                assert again.result.output == "It was a whale"
                assert "Once there was a whale" in str(model.exchange(2).body["messages"])
            server.interrupt()
            assert server.end()[0] == 0
