"""What is Agent Framework's own: history providers, approvals, and tools that fail."""

from collections.abc import Sequence
from typing import Any

from agent_framework import HistoryProvider, Message
from pullcord.v1 import run_pb2

from tests.adapters.foreign.kinds import agent_framework_kind as kind
from tests.adapters.foreign.test_contract import decide, ended, ledger, pytestmark, stop
from tests.openai_server import Call, OpenAIServer, Silence
from tests.transports.harness import Serve

__all__ = ["pytestmark"]

Tools = run_pb2.ToolCallState


class Kept(HistoryProvider):
    """A history as one in a database is: by the session's id."""

    def __init__(self) -> None:
        super().__init__("kept")
        self.messages: dict[str | None, list[Message]] = {}

    async def get_messages(self, session_id: str | None, **_: Any) -> list[Message]:
        return list(self.messages.get(session_id, ()))

    async def save_messages(
        self, session_id: str | None, messages: Sequence[Message], **_: Any
    ) -> None:
        self.messages.setdefault(session_id, []).extend(messages)


def test_a_history_of_the_framework_is_told_what_was_interrupted(
    model: OpenAIServer, serve: Serve
) -> None:
    """It keeps nothing of a stopped turn; its question and its text are added."""
    agent = kind.agent(model.base_url)
    agent.context_providers.append(Kept())
    model.script("First answer")
    model.script("The secret word is plum", Silence())
    model.script("It was plum")
    model.script("Fourth answer")
    served = serve(agent)
    ended(served.run("helper", "one", session_id="s"), "run_completed")
    stream = served.run("helper", "two", session_id="s")
    while not stream.text().endswith("plum"):
        stream.until("content_delta")
    stop(served, stream)
    for turn in ("three", "four"):
        ended(served.run("helper", turn, session_id="s"), "run_completed")
    told = model.exchange(3).body["messages"]
    assert [m["role"] for m in told] == ["user", "assistant"] * 3 + ["user"]
    asked = ("one", "two", "three", "four")
    assert all(word in str(told[2 * turn]["content"]) for turn, word in enumerate(asked))
    assert "The secret word is plum" in str(told[3]["content"])


def test_calls_beside_the_one_that_waits_are_executed_afterwards(
    model: OpenAIServer, serve: Serve
) -> None:
    """The framework holds them back; an answer stands for the result of a call."""
    done: list[str] = []

    async def look() -> str:
        """Looks."""
        done.append("looked")
        return "seen"

    async def pay() -> str:
        """Pays."""
        done.append("paid")
        return "never"

    model.script(Call("look", {}, "l1"), Call("pay", {}, "p1"))
    model.script("Done")
    served = serve(kind.agent(model.base_url, tools=[look], approved=[pay]))
    stream = served.run("helper", "?")
    asked = stream.until("run_paused").run_paused
    assert [call.tool_call_id for call in asked.tool_calls] == ["p1"]
    assert done == []
    decide(served, stream.events[0].run_id, tool_call_id="p1", answer="Ann has paid")
    end = ended(stream, "run_completed")
    assert done == ["looked"]
    assert {call.tool_call_id: call.result for call in end.tool_calls} == {
        "l1": "seen",
        "p1": "Ann has paid",
    }
    assert "Ann has paid" in str(model.exchange(1).body["messages"])


def test_a_tool_that_raises_has_failed(model: OpenAIServer, serve: Serve) -> None:
    """The model hears of it, and the run goes on."""

    async def look() -> str:
        """Looks."""
        raise ValueError("no window here")

    model.script(Call("look", {}, "l1"))
    model.script("I cannot see")
    end = ended(serve(kind.agent(model.base_url, tools=[look])).run("helper", "?"), "run_completed")
    assert end.output == "I cannot see"
    assert ledger(end) == [("look", Tools.TOOL_CALL_STATE_FAILED)]
    assert "Error" in str(model.exchange(1).body["messages"])
