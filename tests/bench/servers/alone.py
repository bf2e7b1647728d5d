"""An agent of another framework without us: read and stopped as its users do, when it is told to.

`whole` reads a run to its end; `begin` until its first piece, and `stop` stops that one by the
framework's own means. The answers are lines of JSON.
"""

import asyncio
import json
import logging
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import uvloop

from tests.bench.process import answer, asked
from tests.bench.servers.adapted import made

Stop = Callable[[], Awaitable[None] | None]
Run = tuple[AsyncIterator[bool], Stop | None]
"""For each event whether it is a piece of text; and the framework's own stop, if it has one."""


def pydantic_ai(agent: Any) -> Run:
    from pydantic_ai import CancellationToken  # only of the framework of the job

    token = CancellationToken()

    async def read() -> AsyncIterator[bool]:
        async with agent.run_stream_events("?", cancellation_token=token) as events:
            async for event in events:
                kind = event.event_kind
                part = event.part if kind == "part_start" else getattr(event, "delta", None)
                yield kind in ("part_start", "part_delta") and hasattr(
                    part, "content" if kind == "part_start" else "content_delta"
                )

    return read(), token.cancel


def langgraph(agent: Any) -> Run:
    async def read() -> AsyncIterator[bool]:
        given = {"messages": [("user", "?")]}
        async for message, _ in agent.astream(given, stream_mode="messages"):
            yield bool(message.text)

    return read(), None


def openai_agents(agent: Any) -> Run:
    from agents import RunConfig, Runner

    result = Runner.run_streamed(agent, "?", run_config=RunConfig(tracing_disabled=True))

    async def read() -> AsyncIterator[bool]:
        async for event in result.stream_events():
            data = getattr(event, "data", None)
            yield getattr(data, "type", "") == "response.output_text.delta"

    return read(), result.cancel


def agno(agent: Any) -> Run:
    run_id = uuid.uuid4().hex

    async def read() -> AsyncIterator[bool]:
        async for event in agent.arun("?", run_id=run_id, stream=True, stream_events=True):
            yield event.event == "RunContent" and bool(event.content)

    async def stop() -> None:
        await agent.acancel_run(run_id)

    return read(), stop


FRAMEWORKS: dict[str, Callable[[Any], Run]] = {
    "pydantic_ai": pydantic_ai,
    "langgraph": langgraph,
    "openai_agents": openai_agents,
    "agno": agno,
}


async def main() -> None:
    # What a framework says on stdout is no answer of ours.
    sys.stdout, framework_says = os.fdopen(os.dup(1), "w"), os.open(os.devnull, os.O_WRONLY)
    os.dup2(framework_says, 1)
    logging.disable()
    job = json.loads(sys.argv[1])
    agent, run = made(job["framework"], job["base_url"]), FRAMEWORKS[job["framework"]]
    answer({"ready": True})
    words = asked()
    async for word in words:
        if word == "whole":
            events, _ = run(agent)
            answer({"deltas": sum([is_text async for is_text in events])})
            continue
        assert word == "begin", word
        events, stop = run(agent)
        has_spoken = asyncio.Event()
        reading = asyncio.create_task(_read(events, has_spoken))
        await has_spoken.wait()
        answer({"spoken": True})
        assert await anext(words) == "stop"
        started = time.monotonic()
        if stop is None:
            reading.cancel()
        elif (stopping := stop()) is not None:
            await stopping
        answer({"stopped": started})
        with suppress(asyncio.CancelledError, Exception):
            await reading
        answer({"ended": True})


async def _read(events: AsyncIterator[bool], has_spoken: asyncio.Event) -> None:
    async for is_text in events:
        if is_text:
            has_spoken.set()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
