"""Parts and messages of an agent's run: what its model is told, and what is refused."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from pullcord.agent import Agent
from pullcord.models.base import (
    AssistantMessage,
    Finished,
    Media,
    Model,
    ModelChunk,
    ModelError,
    ModelRequest,
    SystemMessage,
    Text,
    UserMessage,
)
from pullcord.models.openai import OpenAIChat
from pullcord.run.base import RunStatus
from pullcord.run.errors import InvalidArgument
from pullcord.run.finish import FinishReason
from pullcord.run.message import Message, Part
from pullcord.team import Team

IMAGE = Part(data=b"\x89PNG", media_type="image/png", name="cat.png")
LINK = Part(uri="https://example.com/cat.png", media_type="image/png")


class Hears(Model):
    """Remembers what it was told, and says hi."""

    id = "hears"
    media = Media(data=("image/*",))

    def __init__(self) -> None:
        self.told: list[Any] = []

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        self.told.append(list(request.messages))
        yield Text("hi")
        yield Finished(FinishReason.STOP)


class HearsText(Hears):
    media = Media()


def told(model: Hears) -> Any:
    return model.told[-1]


def test_files_and_text_keep_their_places() -> None:
    """Text that comes between files stays between them; the input comes first."""
    model = Hears()
    Agent(model=model).run("What is this?", parts=[IMAGE, "And this?", IMAGE], input_data={"a": 1})
    assert told(model) == [
        UserMessage('What is this?\n\n{"a":1}', (IMAGE, Part("And this?"), IMAGE))
    ]


def test_text_alone_is_one_text() -> None:
    """Files of text are text, with their names; so every model reads them."""
    model = HearsText()
    notes = Part(data=b"milk", media_type="text/plain", name="list.txt")
    Agent(model=model).run("Buy", parts=[Part("this:"), notes])
    assert told(model) == [UserMessage("Buy\n\nthis:\n\n[list.txt]\nmilk")]
    Agent(model=model).run(parts=[Part("")])
    assert told(model) == [UserMessage("[no input]")]


def test_messages_stand_before_the_turn() -> None:
    """The caller's system messages follow the author's; a tool's result is told as text."""
    model = Hears()
    Agent(model=model, instructions="Be brief.").run(
        "And now?",
        messages=[
            Message.of("system", "Be kind."),
            Message.of("user", "Look", IMAGE, name="ann"),
            Message.of("assistant", "A cat."),
            Message.of("tool", "21 °C", name="weather"),
            Message.of("assistant", ""),
        ],
    )
    assert told(model) == [
        SystemMessage("Be brief.\n\nBe kind."),
        UserMessage("[ann]", (Part("Look"), IMAGE)),
        AssistantMessage("A cat."),
        UserMessage("[the tool weather answered]\n21 °C"),
        AssistantMessage("[this answer was empty]"),
        UserMessage("And now?"),
    ]


def test_the_last_message_may_be_the_turn() -> None:
    """Whoever has the whole conversation as messages leaves the input empty."""
    model = Hears()
    Agent(model=model).run(messages=[Message.of("user", "hello")])
    assert told(model) == [UserMessage("hello")]
    Agent(model=model).run(messages=[Message.of("assistant", "hello")])
    turn = UserMessage("[no input]")
    assert told(model) == [turn, AssistantMessage("hello"), turn]


def test_turns_of_the_two_sides_alternate() -> None:
    """Strict templates, as of Mistral and Gemma, take neither two turns of one side nor an answer
    at first."""
    model = Hears()
    Agent(model=model, instructions="Be brief.").run(
        "And this?",
        parts=[Part("Or that?")],
        messages=[
            Message.of("assistant", "Hello."),
            Message.of("assistant", "Ask me."),
            Message.of("user", "Look", IMAGE),
            Message.of("tool", "21 °C", name="weather"),
            Message.of("user", IMAGE),
        ],
    )
    weather = Part("[the tool weather answered]\n21 °C")
    asked = Part("And this?\n\nOr that?")
    assert told(model) == [
        SystemMessage("Be brief."),
        UserMessage("[no input]"),
        AssistantMessage("Hello.\n\nAsk me."),
        UserMessage("", (Part("Look"), IMAGE, weather, IMAGE, asked)),
    ]


def test_the_caller_s_history_stands_in_place_of_the_session_s() -> None:
    """A later turn without messages is told the session's own turns, this one among them."""
    model = Hears()
    agent = Agent(model=model, id="in-place")
    agent.run("one", session_id="in-place")
    agent.run("two", session_id="in-place", messages=[Message.of("user", "zero")])
    assert told(model) == [UserMessage("zero\n\ntwo")]
    agent.run("three", session_id="in-place")
    assert [m.text for m in told(model)] == ["one", "hi", "two", "hi", "three"]


def test_a_session_s_earlier_files_are_shown_again() -> None:
    """The next question may be about the picture of the last one."""
    model = Hears()
    agent = Agent(model=model, id="shown-again")
    agent.run("What is this?", parts=[IMAGE], session_id="shown-again")
    agent.run("Which colour?", session_id="shown-again")
    assert told(model)[0] == UserMessage("What is this?", (IMAGE,))


def test_of_a_long_session_only_the_latest_files_are_shown_again() -> None:
    """Together they are as many bytes as one run may have; a note says that there were others."""
    model = Hears()
    agent = Agent(model=model, id="long-session")
    big = Part(data=b"x" * 4_000_000, media_type="image/png", name="big.png")
    for number in range(3):
        agent.run(str(number), parts=[big], session_id="long-session")
    agent.run("3", session_id="long-session")
    first, _, second, _, third, *_ = told(model)
    assert first == UserMessage("0\n\n[big.png (image/png) was here, and is not shown again]")
    assert second.parts == third.parts == (big,)


class Refuses(Hears):
    """Refuses every file that is named so."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        self.told.append(list(request.messages))
        for message in request.messages:
            for part in message.parts if isinstance(message, UserMessage) else ():
                if part.name == "bad.png":
                    raise ModelError("bad.png cannot be read")
        yield Text("hi")
        yield Finished(FinishReason.STOP)


def test_a_file_that_a_model_refused_poisons_no_session() -> None:
    """The turns after it are told that there were files, and are shown those that come later."""
    model = Refuses()
    agent = Agent(model=model, id="poisoned")
    bad = Part(data=b"x", media_type="image/png", name="bad.png")
    states = [
        agent.run(input, parts=parts, session_id="poisoned").status
        for input, parts in (
            ("one", [IMAGE]),
            ("two", [bad, "long text"]),
            ("three", [IMAGE]),
            ("four", []),
        )
    ]
    assert states == [RunStatus.completed, RunStatus.error, *[RunStatus.completed] * 2]
    users = [message for message in told(model) if isinstance(message, UserMessage)]
    gone = "was here, and is not shown again]"
    assert users == [
        UserMessage(f"one\n\n[cat.png (image/png) {gone}"),
        UserMessage(f"two\n\n[bad.png (image/png) {gone}\n\n[a file (text/plain) {gone}"),
        UserMessage("three", (IMAGE,)),
        UserMessage("four"),
    ]


def test_a_file_that_another_model_was_shown_is_told_of() -> None:
    """A session goes on with a model that sees less than the one before."""
    Agent(model=Hears(), id="swapped").run("one", parts=[IMAGE], session_id="swapped")
    model = HearsText()
    output = Agent(model=model, id="swapped").run("two", session_id="swapped")
    assert output.status is RunStatus.completed
    first, *_ = told(model)
    assert first == UserMessage("one\n\n[cat.png (image/png) was here, and is not shown again]")


def test_a_team_s_leader_is_given_them() -> None:
    """Its members are given what it tells them."""
    model = Hears()
    team = Team(name="T", model=model, members=[Agent(name="m", model=HearsText())])
    assert team.run("x", parts=[IMAGE]).status is RunStatus.completed
    assert told(model)[-1] == UserMessage("x", (IMAGE,))


def test_what_the_model_does_not_take_is_refused_before_the_run() -> None:
    """The field, the agent, what it takes and what came are in the words."""
    with pytest.raises(InvalidArgument) as raised:
        Agent(model=Hears(), id="picky").run(parts=["x", LINK])
    (violation,) = raised.value.violations
    assert violation.field == "spec.parts[1].uri"
    assert "agents/picky takes no files by a URI, not image/png" in violation.description
    with pytest.raises(InvalidArgument, match=r"spec.messages\[0\].parts\[0\].data"):
        Agent(model=HearsText(), id="blind").run(messages=[Message.of("user", IMAGE)])
    blind = OpenAIChat("text-only", media=Media())
    with pytest.raises(InvalidArgument, match="takes text/\\* as data, not image/png"):
        Agent(model=blind).run(parts=[IMAGE])


def test_a_file_comes_from_a_path(tmp_path: Path) -> None:
    """One line attaches a file."""
    path = tmp_path / "cat.png"
    path.write_bytes(b"\x89PNG")
    model = Hears()
    Agent(model=model).run("?", parts=[Part.file(path)])
    assert told(model) == [UserMessage("?", (IMAGE,))]


async def test_what_is_no_part_is_refused_by_its_class() -> None:
    """The path names the element."""
    with pytest.raises(TypeError, match=r"spec.parts\[0\] must be a Part, not bytes"):
        await Agent(model=Hears()).arun(parts=[b"x"])  # type: ignore[list-item]
