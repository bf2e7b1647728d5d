"""The model that needs no network."""

import asyncio
import json
import math
from contextlib import aclosing

import pytest
from pullcord.models.base import (
    Finished,
    ModelRequest,
    SystemMessage,
    Text,
    ToolMessage,
    ToolRequest,
    UserMessage,
)
from pullcord.models.offline import OfflineModel
from pullcord.run.usage import Usage

ASK = ModelRequest((SystemMessage("be kind"), UserMessage("Tell of a {tram}")))


async def test_it_tells_a_story_around_the_prompt() -> None:
    """The offline model streams a story, a word at a time, that quotes the prompt."""
    chunks = [chunk async for chunk in OfflineModel(words_per_second=math.inf).stream(ASK)]
    *said, usage, end = chunks
    story = "".join(chunk.text for chunk in said if isinstance(chunk, Text))
    assert "“Tell of a {tram}”" in story
    assert story.endswith("as far as he was.\n")
    assert usage == Usage(input_tokens=6, output_tokens=len(said))
    assert 300 < len(said) < 700
    assert end == Finished("stop")


async def test_silence_can_be_interrupted() -> None:
    """Its initial silence ends at once when its task is cancelled."""
    model = OfflineModel(think_for=3600)
    async with aclosing(model.stream(ASK)) as stream:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(stream)


async def test_it_leads_a_team() -> None:
    """With `hands_to` it asks every member for the prompt at once, and then says what came back."""
    model = OfflineModel(words_per_second=math.inf, hands_to=("a", "b"))
    first = [chunk async for chunk in model.stream(ASK)]
    asked = [chunk for chunk in first if isinstance(chunk, ToolRequest)]
    assert {chunk.name for chunk in asked} == {"delegate_to_member"}
    assert [json.loads(chunk.arguments) for chunk in asked] == [
        {"member_id": "a", "task": "Tell of a {tram}"},
        {"member_id": "b", "task": "Tell of a {tram}"},
    ]
    assert first[-1] == Finished("tool_calls")
    answers = (ToolMessage("call-1", "one"), ToolMessage("call-2", "one two"))
    second = [chunk async for chunk in model.stream(ModelRequest((*ASK.messages, *answers)))]
    said = "".join(chunk.text for chunk in second if isinstance(chunk, Text))
    assert said == "All have answered: a with 1 words, b with 2 words."
    assert second[-1] == Finished("stop")


def test_a_pace_must_be_a_pace() -> None:
    """A pace of no words a second is refused."""
    with pytest.raises(ValueError, match="words_per_second"):
        OfflineModel(words_per_second=0)
