"""Streams in the form of servers that people run, written after their public formats."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pullcord.models.base import Kept, Model, ModelChunk, ModelError, ModelRequest, UserMessage
from pullcord.models.openai import OpenAIChat
from pullcord.run.finish import FinishReason

from tests.models.deviations import BOTH, CALLS, FILTER, ONE, Fails, Means
from tests.models.misbehaving import MisbehavingServer, Reply
from tests.models.test_deviations import check, text_of

STREAMS = Path(__file__).parent / "streams"
RAIN = "It rains."
COMPACT = tuple((name, arguments.replace(": ", ":")) for name, arguments in BOTH)

EXPECTED: dict[str, Means | Fails] = {
    "vllm.sse": Means(f"\n\n{RAIN}", "The user asks.", tokens=(31, 9)),
    "vllm-error.sse": Fails("EngineCore encountered an issue", 500, text="It"),
    "llama-cpp.sse": Means("", "Need weather.", COMPACT[:1], CALLS, (70, 12)),
    "ollama.sse": Means("", "Two cities.", COMPACT, CALLS, (166, 40)),
    "azure.sse": Means(RAIN, tokens=(20, 5)),
    "azure-filtered.sse": Means(reason=FILTER),
    "openrouter.sse": Means("", "Need weather.", COMPACT[:1], CALLS, (200, 60)),
    "openrouter-error.sse": Fails("Provider disconnected unexpectedly", 500, text="It"),
    "mistral.sse": Means("", "Need weather.", ONE, CALLS, (90, 40)),
    "deepseek.sse": Means(RAIN, "Rain?", tokens=(12, 9)),
    "gemini.sse": Means("", "", COMPACT, CALLS, (60, 40)),
    "gemini-error.json": Fails("missing a thought_signature", 400),
    "litellm.sse": Means("", "Need weather.", ONE, CALLS, (400, 80)),
    "groq.sse": Means(RAIN, "Rain.", tokens=(80, 15)),
}


@pytest.fixture(scope="module")
def server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as server:
        yield server


async def everything(model: Model, said: list[ModelChunk]) -> None:
    async for chunk in model.stream(ModelRequest((UserMessage("?"),))):
        said.append(chunk)  # noqa: PERF401  # what came before an error counts
    await model.aclose()


def test_every_stream_is_tested() -> None:
    """No file of the folder is forgotten."""
    assert {path.name for path in STREAMS.iterdir()} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
async def test_a_stream(server: MisbehavingServer, name: str) -> None:
    """It is the answer, or the failure, that it is meant to be."""
    data, expected = (STREAMS / name).read_bytes(), EXPECTED[name]
    server.answers(Reply(400, data) if name.endswith(".json") else data)
    model = OpenAIChat(id="m", base_url=server.base_url, max_retries=0)
    said: list[ModelChunk] = []
    if isinstance(expected, Means):
        await everything(model, said)
        check(said, expected)
        return
    with pytest.raises(ModelError) as caught:
        await everything(model, said)
    await model.aclose()
    assert expected.words in str(caught.value)
    assert (caught.value.status, text_of(said)) == (expected.status, expected.text)


KEPT: dict[str, dict[str, Any]] = {
    "openrouter.sse": {
        "reasoning": "Need weather.",
        "reasoning_details": [
            {
                "type": "reasoning.text",
                "text": "Need weather.",
                "format": "anthropic-claude-v1",
                "index": 0,
                "signature": "EsgB",
            }
        ],
    },
    "mistral.sse": {
        "content": [
            {
                "type": "thinking",
                "thinking": [
                    {"type": "text", "text": "Need"},
                    {"type": "text", "text": " weather."},
                ],
            }
        ]
    },
    "llama-cpp.sse": {"reasoning_content": "Need weather."},
    "ollama.sse": {"reasoning": "Two cities."},
}


@pytest.mark.parametrize("name", KEPT)
async def test_what_a_server_wants_back(server: MisbehavingServer, name: str) -> None:
    """Reasoning is kept in the form in which the server wants it back."""
    server.answers((STREAMS / name).read_bytes())
    model = OpenAIChat(id="m", base_url=server.base_url)
    said: list[ModelChunk] = []
    await everything(model, said)
    assert [chunk.data for chunk in said if isinstance(chunk, Kept)] == [KEPT[name]]
    assert FinishReason.TOOL_CALLS in [getattr(chunk, "reason", None) for chunk in said]
