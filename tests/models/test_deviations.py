"""Whatever calls itself compatible, row by row, through the real client."""

from collections.abc import Iterator
from typing import Any

import pytest
from pullcord.models.base import (
    Finished,
    Kept,
    Model,
    ModelChunk,
    ModelError,
    ModelRequest,
    Reasoning,
    Text,
    ToolDefinition,
    ToolRequest,
    UserMessage,
)
from pullcord.run.usage import Usage

from tests.models import (
    chat_deviations,
    claude_deviations,
    gemini_deviations,
    responses_deviations,
)
from tests.models.deviations import Fails, Means, Row
from tests.models.kinds import KINDS, model_of
from tests.models.misbehaving import COMMENTS, MisbehavingServer, Piece

SCHEMA = {"type": "object", "properties": {}}
ASK = ModelRequest(
    (UserMessage("hello"),),
    tuple(ToolDefinition(name, "", SCHEMA) for name in ("weather", "now", "say")),
)
TABLES = {
    "chat": chat_deviations.ROWS,
    "responses": responses_deviations.ROWS,
    "claude": claude_deviations.ROWS,
    "gemini": gemini_deviations.ROWS,
}


@pytest.fixture(scope="module")
def server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as server:
        yield server


def rows() -> Iterator[Any]:
    for name in KINDS:
        for row in TABLES[name]:
            yield pytest.param(name, row, id=f"{name}: {row.name}")


async def everything(model: Model, said: list[ModelChunk]) -> None:
    async for chunk in model.stream(ASK):
        said.append(chunk)  # noqa: PERF401  # what came before an error counts
    await model.aclose()


@pytest.mark.parametrize(("name", "row"), list(rows()))
async def test_a_deviation(server: MisbehavingServer, name: str, row: Row) -> None:
    """A deviation is the answer that it means, or a ModelError that says what came."""
    server.answers(*row.pieces)
    model = model_of(name, server, max_retries=0)
    said: list[ModelChunk] = []
    if isinstance(row.is_, Fails):
        with pytest.raises(ModelError) as caught:
            await everything(model, said)
        await model.aclose()
        words = str(caught.value)
        assert row.is_.words in words
        assert not row.is_.without or row.is_.without not in words
        assert row.is_.status in (None, caught.value.status)
        assert caught.value.provider == model.provider
        assert text_of(said) == row.is_.text
    else:
        await everything(model, said)
        check(said, row.is_)


def text_of(said: list[ModelChunk]) -> str:
    return "".join(chunk.text for chunk in said if isinstance(chunk, Text))


def check(said: list[ModelChunk], means: Means) -> None:
    *before, end = said
    assert end == Finished(means.reason)
    assert not any(isinstance(chunk, Finished) for chunk in before)
    assert text_of(said) == means.text
    assert "".join(c.text for c in said if isinstance(c, Reasoning)) == means.reasoning
    calls = [chunk for chunk in said if isinstance(chunk, ToolRequest)]
    assert tuple((call.name, call.arguments) for call in calls) == means.calls
    assert len({call.id for call in calls} - {""}) == len(calls)
    if means.tokens is not None:
        last = [chunk for chunk in said if isinstance(chunk, Usage)][-1:] or [Usage()]
        assert (last[0].input_tokens, last[0].output_tokens) == means.tokens
    if means.kept is not None:
        assert [chunk.data for chunk in said if isinstance(chunk, Kept)] == [means.kept]
    if means.extra is not None:
        assert calls[0].extra == means.extra


SAYS_NOTHING: dict[str, Piece] = {
    "chat": chat_deviations.piece(index=0, arguments=""),
    "responses": responses_deviations.pieces(""),
    "claude": claude_deviations.delta(0, type="input_json_delta", partial_json=""),
    "gemini": gemini_deviations.said(gemini_deviations.text("")),
}


@pytest.mark.parametrize("name", KINDS)
async def test_empty_pieces_are_silence(server: MisbehavingServer, name: str) -> None:
    """A model that says nothing is given up, though it goes on saying it."""
    server.script = lambda body, number: [SAYS_NOTHING[name], 0.02] * 500
    model = model_of(name, server, timeout=0.2, max_retries=0)
    with pytest.raises(ModelError, match="in time"):
        await everything(model, [])
    await model.aclose()


@pytest.mark.parametrize("name", KINDS)
async def test_comments_are_silence(server: MisbehavingServer, name: str) -> None:
    """A model that says nothing is given up, though comments keep its connection alive."""
    server.closed.clear()
    server.answers(COMMENTS)
    model = model_of(name, server, timeout=0.2, max_retries=0)
    with pytest.raises(ModelError, match="in time"):
        await everything(model, [])
    await model.aclose()
    assert server.closed.wait(30)
