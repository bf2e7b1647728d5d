"""AgentOS with one agent, whose model says what its script wants. It runs in its own environment.

It is given what makes it quick: uvloop and httptools, no telemetry, no log lines, no bound on runs
in the background. It keeps runs in a database in memory, or keeps none, as its job says. What is
measured is not known here.
"""

import asyncio
import json
import logging
import socket
import sys
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

import uvicorn
from agno.agent import Agent
from agno.db.in_memory import InMemoryDb
from agno.models.base import Model
from agno.models.message import Message
from agno.models.response import ModelResponse
from agno.os import AgentOS
from agno.run.concurrency import set_background_max_concurrency
from agno.utils.log import set_log_level_to_error

from tests.bench.process import answer, end_with_parent
from tests.bench.script import TOKEN, Script


class Scripted(Model):
    """Reads its script in the last message."""

    def __init__(self) -> None:
        super().__init__(id="scripted", name="Scripted", provider="bench")

    async def ainvoke_stream(
        self, messages: list[Message], **options: object
    ) -> AsyncIterator[ModelResponse]:
        script = Script.of(str(messages[-1].content))
        await asyncio.sleep(script.delay)
        for number in range(1, script.count + 1):
            yield ModelResponse(content=TOKEN)
            if script.pauses_after(number):
                await asyncio.sleep(script.pause)

    # What AgentOS does not call when it streams.

    def invoke(self, *args: object, **options: object) -> ModelResponse:
        raise NotImplementedError

    async def ainvoke(self, *args: object, **options: object) -> ModelResponse:
        raise NotImplementedError

    def invoke_stream(self, *args: object, **options: object) -> Any:
        raise NotImplementedError

    def _parse_provider_response(self, response: Any, **options: object) -> ModelResponse:
        raise NotImplementedError

    def _parse_provider_response_delta(self, response: Any) -> ModelResponse:
        raise NotImplementedError


def main() -> None:
    end_with_parent()
    keeps_runs = json.loads(sys.argv[1])["keeps_runs"]
    database = InMemoryDb() if keeps_runs else None
    agent = Agent(id="scripted", name="Scripted", model=Scripted(), db=database, telemetry=False)
    app = AgentOS(agents=[agent], telemetry=False).get_app()
    set_background_max_concurrency(0)  # by default 32 stream and the others wait
    set_log_level_to_error()
    logging.disable(logging.WARNING)
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", access_log=False, timeout_keep_alive=3600
    )
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    # Already listening: who connects now is served as soon as the server is up.
    answer({"address": f"127.0.0.1:{listening.getsockname()[1]}", "version": version("agno")})
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
