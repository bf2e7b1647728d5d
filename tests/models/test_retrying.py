"""Asking again: what may pass is tried again before the first piece, wherever it is said."""

import asyncio
import email.utils
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest
from pullcord.models.base import Model, ModelChunk, ModelError, ModelRequest, Text, UserMessage

from tests.models import chat_deviations as chat
from tests.models import claude_deviations as claude
from tests.models import gemini_deviations as gemini
from tests.models import responses_deviations as responses
from tests.models.kinds import KINDS, model_of
from tests.models.misbehaving import HOLD, RESET, MisbehavingServer, Piece, Reply

ASK = ModelRequest((UserMessage("hello"),))
AT_ONCE = {"retry-after": "0"}


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as server:
        yield server


@pytest.fixture(params=KINDS)
async def model(request: pytest.FixtureRequest, server: MisbehavingServer) -> AsyncIterator[Model]:
    model = model_of(request.param, server)
    yield model
    await model.aclose()


SAYS_HI: dict[str, list[Piece]] = {
    "OpenAIChat": chat.says("hi"),
    "OpenAIResponses": [responses.said("hi"), responses.END],
    "Claude": [claude.said("hi"), *claude.end()],
    "Gemini": [gemini.HI, gemini.END],
}


def hi(model: Model) -> list[Piece]:
    return SAYS_HI[type(model).__name__]


async def everything(model: Model) -> list[ModelChunk]:
    return [chunk async for chunk in model.stream(ASK)]


BUSY: dict[str, list[Piece]] = {
    "429": [Reply(429, {"error": "busy"}, AT_ONCE)],
    "408": [Reply(408, b"", AT_ONCE)],
    "503 as text": [Reply(503, b"busy", AT_ONCE)],
    "the milliseconds": [Reply(429, b"", {"retry-after-ms": "1", "retry-after": "3600"})],
    "a date that is past": [Reply(429, b"", {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"})],
    "a wait that is negative": [Reply(429, b"", {"retry-after": "-5"})],
    "a wait in the body": [Reply(429, {"error": {"message": "busy", "retry_after": 0}})],
    "a wait as Google has it": [
        Reply(429, [{"error": {"code": 429, "details": [{"@type": "x", "retryDelay": "0s"}]}}])
    ],
    "200 with JSON": [Reply(200, {"error": {"code": 429, "message": "busy", "retry_after": 0}})],
    "200 with JSON and the header": [Reply(200, {"error": {"code": "503"}}, AT_ONCE)],
    "in the stream": [{"error": {"code": 502, "message": "busy", "retry_after": 0}}],
    "in the stream by its name": [{"error": {"type": "overloaded_error", "retry_after": 0}}],
    "after the usage": [
        {"choices": [], "type": "response.in_progress", "usage": chat.count(3, 1)},
        {"error": {"status": 503, "retry_after": 0}},
    ],
}


@pytest.mark.parametrize("name", BUSY)
async def test_what_may_pass_is_tried_again(
    server: MisbehavingServer, model: Model, name: str
) -> None:
    """Wherever the status stands and the wait: the second try is the answer."""
    server.script = lambda body, number: hi(model) if number else BUSY[name]
    assert Text("hi") in await everything(model)
    assert len(server.requests) == 2


IN_AN_HOUR = email.utils.formatdate(time.time() + 3600)
FINAL: dict[str, list[Piece]] = {
    "400": [Reply(400, {"error": "no"})],
    "404": [Reply(404, b"")],
    "in the stream": [{"error": {"code": 400, "message": "no"}}],
    "without a status": [{"error": "no"}],
    "a wait of an hour": [Reply(429, b"", {"retry-after": "3600"})],
    "a date in an hour": [Reply(503, b"", {"retry-after": IN_AN_HOUR})],
    "a wait of an hour in the body": [{"error": {"code": 429, "retry_after": 3600}}],
    "x-should-retry": [Reply(503, b"", {"x-should-retry": "false"})],
    "JSON that nobody knows": ["{"],
}  # fmt: skip


@pytest.mark.parametrize("name", FINAL)
async def test_what_will_not_pass_is_not_tried_again(
    server: MisbehavingServer, model: Model, name: str
) -> None:
    """A refusal for good, or for longer than two minutes, is the end."""
    server.answers(*FINAL[name])
    with pytest.raises(ModelError):
        await everything(model)
    assert len(server.requests) == 1


@pytest.mark.parametrize("wait", ["nan", "inf", "soon", "", "1e400"])
async def test_a_wait_that_is_no_number_is_ours(
    server: MisbehavingServer, model: Model, wait: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no number of seconds leaves the wait to us."""
    monkeypatch.setattr("pullcord.models.retrying._FIRST_WAIT", 0.001)
    busy = Reply(429, b"", {"retry-after": wait})
    server.script = lambda body, number: hi(model) if number else [busy]
    assert Text("hi") in await everything(model)


async def test_a_connection_that_breaks_before_the_first_piece(
    server: MisbehavingServer, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was said, so it is asked again; the same where the answer was empty."""
    monkeypatch.setattr("pullcord.models.retrying._FIRST_WAIT", 0.001)
    first: list[list[Piece]] = [[b": x\n\n", RESET], []]
    server.script = lambda body, number: first[number] if number < 2 else hi(model)
    assert Text("hi") in await everything(model)


async def test_nothing_is_said_twice(server: MisbehavingServer, model: Model) -> None:
    """After the first piece a failure that may pass is the end."""
    server.answers(hi(model)[0], {"error": {"code": 503, "retry_after": 0}})
    async with aclosing(model.stream(ASK)) as stream:
        assert await anext(stream) == Text("hi")
        with pytest.raises(ModelError) as caught:
            await anext(stream)
    assert caught.value.status == 503
    assert len(server.requests) == 1


async def test_a_wait_ends_with_its_task(server: MisbehavingServer, model: Model) -> None:
    """A cancel does not wait for the provider's patience."""
    server.answers({"error": {"code": 429, "retry_after": 100}})
    task = asyncio.create_task(everything(model))
    assert await asyncio.to_thread(server.asked.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancel_closes_the_connection(server: MisbehavingServer, model: Model) -> None:
    """Cancelling the task that reads a silent answer closes its connection at once."""
    server.answers(hi(model)[0], HOLD)
    said = asyncio.Event()

    async def read() -> None:
        async for chunk in model.stream(ASK):
            if chunk == Text("hi"):
                said.set()

    task = asyncio.create_task(read())
    await said.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(server.closed.wait, 30)
