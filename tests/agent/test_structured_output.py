"""Structured output from the agent to the provider's socket, through the real openai package."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest
from pullcord.agent import Agent
from pullcord.models.base import Model
from pullcord.models.openai import OpenAIChat, OpenAIResponses
from pullcord.run.base import RunStatus
from pullcord.team import Team
from pydantic import BaseModel, Field, RootModel

from tests.openai_server import Call, Gate, OpenAIServer, Say, Silence, Stop


class Author(BaseModel):
    name: str
    born: datetime | None = None


class Book(BaseModel):
    """A book."""

    title: str
    pages: int = Field(description="How many there are.")
    authors: list[Author]


WHOLE = (
    '{"title": "Trams", "pages": 7, "authors": [{"name": "Ann", "born": "1990-05-01T08:00:00"}]}'
)
HALF = '{"title": "Trams", "pages": 7'
DATA = {"title": "Trams", "pages": 7, "authors": [{"name": "Ann", "born": "1990-05-01T08:00:00"}]}


@pytest.fixture(params=[OpenAIChat, OpenAIResponses])
async def model(request: pytest.FixtureRequest, server: OpenAIServer) -> AsyncIterator[Model]:
    model = request.param(id="gpt-5-mini", base_url=server.base_url)
    yield model
    await model.aclose()


def asked_for(body: dict[str, Any]) -> dict[str, Any]:
    """The schema part of a request, of either API."""
    if "text" in body:
        form: dict[str, Any] = body["text"]["format"]
        assert form["type"] == "json_schema"
        return form
    assert body["response_format"]["type"] == "json_schema"
    inner: dict[str, Any] = body["response_format"]["json_schema"]
    return inner


async def test_the_answer_is_text_and_an_object(server: OpenAIServer, model: Model) -> None:
    """The text streams as it comes; the valid whole of it is `output_data`, as JSON has it."""
    gate = Gate()
    server.script(HALF, gate, Say(WHOLE.removeprefix(HALF)))
    agent = Agent(name="a", model=model, output_schema=Book)
    chunks = []
    said = ""
    async for chunk in agent.arun("a book", stream=True):
        chunks.append(chunk)
        if chunk.event == "RunContent":
            said += chunk.content
            if said == HALF:
                gate.open()
    assert said == chunks[-1].content == WHOLE
    assert [c.output_data for c in chunks if c.output_data is not None] == [DATA]
    assert chunks[-1].output_data == DATA
    server.script(WHOLE)
    output = await agent.arun("a book")
    assert (output.content, output.output_data) == (WHOLE, DATA)


async def test_the_provider_is_asked_for_it_strictly(server: OpenAIServer, model: Model) -> None:
    """Name and schema go with the request: no other properties, and all of them required."""
    server.script(WHOLE)
    await Agent(model=model, output_schema=Book).arun("a book")
    form = asked_for(server.exchange(0).body)
    assert (form["name"], form["strict"]) == ("Book", True)
    author = form["schema"]["$defs"]["Author"]
    for part, names in (
        (form["schema"], ["title", "pages", "authors"]),
        (author, ["name", "born"]),
    ):
        assert part["additionalProperties"] is False
        assert part["required"] == names


async def test_without_a_schema_none_is_asked_for(server: OpenAIServer, model: Model) -> None:
    """An agent without a schema sends none, and has no data."""
    output = await Agent(model=model).arun("hello")
    body = server.exchange(0).body
    assert "text" not in body
    assert "response_format" not in body
    assert output.output_data is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It was a dark night", "answer: Invalid JSON"),
        ('{"title": "T", "pages": "many", "authors": []}', "pages: "),
        ('{"title": "T", "pages": 7, "authors": [{}]}', "authors.0.name: "),
        ('{"title": "T", "pages": 7, "auth', "answer: Invalid JSON"),
        ("", "answer: Invalid JSON"),
    ],
)
async def test_an_invalid_answer_fails_the_run_and_stays(
    server: OpenAIServer, model: Model, text: str, words: str
) -> None:
    """The run ends FAILED, InvalidOutput, saying where it is wrong; the text is kept, no data."""
    server.script(text)
    agent = Agent(name="a", model=model, output_schema=Book)
    chunks = [chunk async for chunk in agent.arun("a book", stream=True, run_id="")]
    last = chunks[-1]
    assert last.status is RunStatus.error
    assert last.output_data is None
    assert words in last.content
    server.script(text)
    output = await agent.arun("a book")
    assert (output.status, output.output_data) == (RunStatus.error, None)
    assert output.content == (text or output.error)


async def test_only_the_last_answer_is_the_object(server: OpenAIServer, model: Model) -> None:
    """What the model says before it calls a tool is text of the run, and no part of the object."""
    server.script("Let me look. ", Call("look"))
    server.script(WHOLE)

    def look() -> str:
        return "seen"

    output = await Agent(model=model, tools=[look], output_schema=Book).arun("a book")
    assert output.content == "Let me look. " + WHOLE
    assert output.output_data == DATA
    assert asked_for(server.exchange(1).body)["name"] == "Book"


async def test_a_run_stopped_midway_has_text_and_no_object(
    server: OpenAIServer, model: Model
) -> None:
    """A cancel in the middle of the object keeps the text, and leaves no half of an object."""
    server.script(HALF, Silence())
    agent = Agent(model=model, output_schema=Book)
    said = ""
    async for chunk in agent.arun("a book", stream=True):
        if chunk.event == "RunContent":
            said += chunk.content
            if said == HALF:
                assert agent.cancel_run(chunk.run_id)
    assert chunk.status is RunStatus.cancelled
    assert (chunk.content, chunk.output_data) == (HALF, None)


async def test_a_team_s_answer_can_be_an_object(server: OpenAIServer, model: Model) -> None:
    """A leader with a schema is asked for it, and its answer is the team's data."""
    server.script(WHOLE)
    member = Agent(name="m", model=model)
    team = Team(name="t", model=model, members=[member], output_schema=Book)
    output = await team.arun("a book")
    assert (output.content, output.output_data) == (WHOLE, DATA)
    assert asked_for(server.exchange(0).body)["strict"] is True


@pytest.mark.parametrize(
    "schema", [dict, Book(title="", pages=0, authors=[]), RootModel[list[int]]]
)
def test_a_schema_is_a_pydantic_model_of_an_object(schema: Any) -> None:
    """Anything else is refused where the agent is written down."""
    with pytest.raises(TypeError, match="pydantic model"):
        Agent(model=OpenAIChat(id="m"), output_schema=schema)


BOOK = '{"title": "T", "pages": 7, "authors": []}'


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{BOOK}\n```",
        f"Here it is:\n\n```\n{BOOK}\n```\nEnjoy!",
        f"~~~JSON\r\n{BOOK}\r\n~~~",
        f"```json {BOOK} ```",
        f"```application/json\n{BOOK}\n```",
        f"\ufeff{BOOK}",
        f"```json\n{BOOK}",
        f'```json\n{{"title": "a draft"}}\n```\nBetter:\n```json\n{BOOK}\n```',
        f"```json\n{BOOK.replace('T', 'A ```fence``` within')}\n```",
    ],
)
async def test_an_answer_within_a_markdown_fence_is_taken(
    server: OpenAIServer, model: Model, text: str
) -> None:
    """Models that wrap their JSON in Markdown are understood; the text stays as it was written."""
    server.script(Say(text))
    output = await Agent(model=model, output_schema=Book).arun("a book")
    assert (output.status, output.content) == (RunStatus.completed, text)
    assert Book.model_validate(output.output_data).pages == 7


async def test_a_wrong_answer_within_a_fence_says_what_is_wrong(
    server: OpenAIServer, model: Model
) -> None:
    """The error names the wrong field, and not the fence."""
    server.script(Say('```json\n{"title": "T", "pages": "many", "authors": []}\n```'))
    output = await Agent(model=model, output_schema=Book).arun("a book")
    assert output.error.startswith("pages: ")


async def test_structured_output_that_was_cut_off_says_so(
    server: OpenAIServer, model: Model
) -> None:
    """What the limit of tokens made invalid fails the run, AnswerCutOff; what is valid is whole."""
    server.script('{"title": "T", "pag', Stop("length"))
    server.script(BOOK, Stop("length"))
    agent = Agent(model=model, output_schema=Book)
    output = await agent.arun("a book")
    assert output.status is RunStatus.error
    assert output.error.startswith("the limit of tokens cut off the structured output: ")
    assert (await agent.arun("a book")).status is RunStatus.completed


async def test_an_invalid_answer_is_asked_for_again(server: OpenAIServer, model: Model) -> None:
    """The model is told what is wrong; the result is the valid answer alone."""
    server.script("no object")
    server.script('{"title": "Trams"}')
    server.script(WHOLE)
    agent = Agent(name="a", model=model, output_schema=Book, output_retries=2)
    output = await agent.arun("a book")
    assert (output.status, output.content) == (RunStatus.completed, WHOLE)
    assert (output.output_data, output.metrics.steps) == (DATA, 3)
    assert "pages: Field required" in str(server.exchange(2).body)


async def test_the_last_invalid_answer_fails_the_run(server: OpenAIServer, model: Model) -> None:
    """As without retries, once there is none left; a negative number is refused at once."""
    server.script("no object")
    server.script("still none")
    agent = Agent(name="a", model=model, output_schema=Book, output_retries=1)
    output = await agent.arun("a book")
    assert (output.status, output.metrics.steps) == (RunStatus.error, 2)
    with pytest.raises(ValueError, match="output_retries must be a whole number"):
        Agent(name="a", model=model, output_retries=-1)
