"""Turns at a provider."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from pullcord.models.base import ModelRequest, Text, UserMessage
from pullcord.models.openai import OpenAIChat
from pullcord.models.throttle import Throttle

from tests.models.chat_deviations import HI, says
from tests.models.misbehaving import HOLD, MisbehavingServer

ASK = ModelRequest((UserMessage("hello"),))


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as server:
        yield server


@pytest.fixture
async def models(server: MisbehavingServer) -> AsyncIterator[list[OpenAIChat]]:
    """Two models that share two turns."""
    throttle = Throttle(max_concurrent=2)
    models = [OpenAIChat(id=i, base_url=server.base_url, throttle=throttle) for i in ("a", "b")]
    yield models
    for model in models:
        await model.aclose()


async def holding(model: OpenAIChat, begun: asyncio.Event) -> None:
    async with aclosing(model.stream(ASK)) as chunks:
        async for chunk in chunks:
            if chunk == Text("hi"):
                begun.set()


async def first_words(model: OpenAIChat) -> Any:
    chunks = [chunk async for chunk in model.stream(ASK)]
    return chunks[0]


async def test_models_share_their_turns(
    server: MisbehavingServer, models: list[OpenAIChat]
) -> None:
    """A third call begins once one of two has ended; one that gives up loses nobody a turn."""
    server.script = lambda body, number: [HI, HOLD] if number < 2 else says("hi")
    events = [asyncio.Event(), asyncio.Event()]
    calls = [asyncio.create_task(holding(m, e)) for m, e in zip(models, events, strict=True)]
    for event in events:
        await event.wait()
    gives_up = asyncio.create_task(first_words(models[0]))
    waits = asyncio.create_task(first_words(models[1]))
    await asyncio.sleep(0)
    gives_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gives_up
    assert len(server.requests) == 2
    calls[0].cancel()
    assert await waits == Text("hi")
    assert await first_words(models[0]) == Text("hi")
    calls[1].cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert len(server.requests) == 4


async def test_a_turn_that_came_too_late_goes_on_to_the_next() -> None:
    """A call that is cancelled in the moment in which its turn comes gives it back."""
    throttle = Throttle(max_concurrent=1)

    async def take(entered: asyncio.Event) -> None:
        async with throttle.turn():
            entered.set()

    first, second, third = asyncio.Event(), asyncio.Event(), asyncio.Event()
    async with throttle.turn():
        late = asyncio.create_task(take(second))
        last = asyncio.create_task(take(third))
        await asyncio.sleep(0)
    late.cancel()  # its turn is on its way
    await last
    assert third.is_set()
    assert not second.is_set()
    await take(first)


def test_turns_are_shared_by_event_loops() -> None:
    """A turn that ends in one event loop is given to a call that waits in another."""
    throttle = Throttle(max_concurrent=1)

    asks = threading.Event()

    async def take() -> None:
        asks.set()
        async with throttle.turn():
            pass

    async def take_in_another_loop() -> None:
        async with throttle.turn():
            other = asyncio.create_task(asyncio.to_thread(asyncio.run, take()))
            assert await asyncio.to_thread(asks.wait, 30)
        await other

    asyncio.run(take_in_another_loop())


async def test_calls_are_spread_over_the_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 120 a minute each call begins half a second after the one before it, at the earliest."""
    now = 100.0
    monkeypatch.setattr("pullcord.models.throttle.time.monotonic", lambda: now)
    throttle = Throttle(max_per_minute=120)
    assert [throttle._wait() for _ in range(3)] == [0.0, 0.5, 1.0]
    now = 200.0
    assert throttle._wait() == 0.0


@pytest.mark.parametrize("limit", ["max_concurrent", "max_per_minute"])
def test_wrong_limits_are_refused(limit: str) -> None:
    """A limit that lets nothing through is a mistake."""
    with pytest.raises(ValueError, match=limit):
        Throttle(**{limit: 0})  # type: ignore[arg-type]
