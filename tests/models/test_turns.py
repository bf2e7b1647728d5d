"""A turn with tools at every provider: what is sent first, and what goes back."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pullcord.agent import Agent
from pullcord.run.base import RunStatus
from pullcord.run.usage import Usage
from pydantic import BaseModel

from tests.models import claude_deviations as claude
from tests.models import gemini_deviations as gemini
from tests.models.kinds import KINDS, model_of
from tests.models.misbehaving import MisbehavingServer, Piece


@pytest.fixture
def server() -> Any:
    with MisbehavingServer() as server:
        yield server


@pytest.fixture
async def claude_model(server: MisbehavingServer) -> AsyncIterator[Any]:
    if "claude" not in KINDS:
        pytest.skip("the extra anthropic is not installed")
    model = model_of("claude", server, max_output_tokens=7, temperature=0.5)
    yield model
    await model.aclose()


@pytest.fixture
async def gemini_model(server: MisbehavingServer) -> AsyncIterator[Any]:
    if "gemini" not in KINDS:
        pytest.skip("the extra google is not installed")
    options = {"max_output_tokens": 7, "extra": {"generationConfig": {"topK": 3}, "x": None}}
    model = model_of("gemini", server, **options)
    yield model
    await model.aclose()


def weather(city: str) -> str:
    """Tells the weather."""
    return f"rain in {city}"


class Book(BaseModel):
    title: str


SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
CLOSED = {
    "type": "object",
    "title": "Book",
    "properties": {"title": {"title": "Title", "type": "string"}},
    "required": ["title"],
    "additionalProperties": False,
}


async def turn(server: MisbehavingServer, model: Any, first: list[Piece], then: list[Piece]) -> Any:
    server.script = lambda body, number: then if number else first
    agent = Agent(name="a", model=model, instructions="Be brief.", tools=[weather])
    output = await agent.arun("?")
    assert (output.status, output.content) == (RunStatus.completed, "hi")
    return [request.body for request in server.requests]


async def test_a_turn_of_claude(server: MisbehavingServer, claude_model: Any) -> None:
    """Claude gets its signed thinking back before the call, and the results in one message."""
    first = [*claude.SIGNED, *claude.call(1), *claude.call(2, claude.OSLO), *claude.end("tool_use")]
    then = [*claude.HI, *claude.end()]
    one, two = await turn(server, claude_model, first, then)
    asked = {"role": "user", "content": [{"type": "text", "text": "?"}]}
    assert one == {
        "model": "m",
        "max_tokens": 7,
        "temperature": 0.5,
        "system": "Be brief.",
        "stream": True,
        "messages": [asked],
        "tools": [{"name": "weather", "description": "Tells the weather.", "input_schema": SCHEMA}],
    }
    call = {"type": "tool_use", "name": "weather"}
    assert two["messages"] == [
        asked,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s1"},
                {**call, "id": "t1", "input": {"city": "Rome"}},
                {**call, "id": "t2", "input": {"city": "Oslo"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "rain in Rome"},
                {"type": "tool_result", "tool_use_id": "t2", "content": "rain in Oslo"},
            ],
        },
    ]
    assert server.requests[0].path == "/v1/messages"


async def test_a_turn_of_gemini(server: MisbehavingServer, gemini_model: Any) -> None:
    """Gemini gets its parts back as they came, with their signatures and ids."""
    call = {**gemini.call(id="c1"), "thoughtSignature": "s"}
    thought = gemini.text("hm", thought=True)
    first: list[Piece] = [gemini.said(thought), gemini.said(call), gemini.END]
    one, two = await turn(server, gemini_model, first, [gemini.HI, gemini.END])
    asked = {"role": "user", "parts": [{"text": "?"}]}
    declared = {"name": "weather", "description": "Tells the weather."}
    assert one == {
        "contents": [asked],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "tools": [{"functionDeclarations": [{**declared, "parametersJsonSchema": SCHEMA}]}],
        "generationConfig": {"maxOutputTokens": 7, "topK": 3},
    }
    answer = {"name": "weather", "response": {"result": "rain in Rome"}, "id": "c1"}
    assert two["contents"] == [
        asked,
        {"role": "model", "parts": [thought, call]},
        {"role": "user", "parts": [{"functionResponse": answer}]},
    ]
    assert server.requests[0].path.endswith("/models/m:streamGenerateContent?alt=sse")
    assert server.requests[0].headers["x-goog-api-key"] == "not-a-key-but-secret"


async def test_a_schema_is_asked_for(
    server: MisbehavingServer, claude_model: Any, gemini_model: Any
) -> None:
    """An output schema goes to each provider in its own field."""
    book = '{"title": "T"}'
    server.answers(claude.said(book), *claude.end())
    output = await Agent(model=claude_model, output_schema=Book).arun("?")
    assert output.output_data == {"title": "T"}
    asked = server.requests[0].body["output_config"]
    assert asked == {"format": {"type": "json_schema", "schema": CLOSED}}
    server.answers(gemini.said(gemini.text(book), finish="STOP"))
    output = await Agent(model=gemini_model, output_schema=Book).arun("?")
    assert output.output_data == {"title": "T"}
    config = server.requests[1].body["generationConfig"]
    assert (config["responseMimeType"], config["responseJsonSchema"]) == (
        "application/json",
        CLOSED,
    )


@pytest.mark.parametrize("name", [name for name in ("claude", "gemini") if name in KINDS])
def test_prices_are_known(name: str) -> None:
    """The models of each provider are in the list of prices."""
    id = {"claude": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash"}[name]
    assert KINDS[name](id=id).cost(Usage(1000, 1000)) > 0
