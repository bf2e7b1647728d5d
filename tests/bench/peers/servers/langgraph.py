"""LangGraph's server in memory, as `langgraph dev` starts it, with one graph of one scripted model.

It runs in its own environment, and needs neither licence nor network. It is given what makes it
quick: no tracing, no files, no search for blocking calls, a worker for every run that will be live.
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langgraph.graph import END, START, MessagesState, StateGraph

from tests.bench.process import answer, end_with_parent
from tests.bench.script import TOKEN, Script

WORKERS = 512


class Scripted(BaseChatModel):
    """Reads its script in the last message."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    async def _astream(
        self, messages: list[BaseMessage], *args: object, **options: object
    ) -> AsyncIterator[ChatGenerationChunk]:
        script = Script.of(str(messages[-1].content))
        await asyncio.sleep(script.delay)
        for number in range(1, script.count + 1):
            yield ChatGenerationChunk(message=AIMessageChunk(content=TOKEN))
            if script.pauses_after(number):
                await asyncio.sleep(script.pause)

    def _generate(self, *args: object, **options: object) -> ChatResult:
        raise NotImplementedError  # a stream is all that is asked for


model = Scripted()


async def speak(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await model.ainvoke(state["messages"])]}


graph = (
    StateGraph(MessagesState)
    .add_node("speak", speak)
    .add_edge(START, "speak")
    .add_edge("speak", END)
    .compile()
)


def main() -> None:
    end_with_parent()
    # Without a key it sends nothing to anybody.
    os.environ.pop("LANGSMITH_API_KEY", None)
    os.environ.pop("LANGCHAIN_API_KEY", None)
    os.environ["LANGSMITH_TRACING"] = "false"
    os.environ["LANGGRAPH_NO_VERSION_CHECK"] = "true"
    os.environ["LOG_LEVEL"] = "ERROR"
    from langgraph_api.cli import run_server  # which reads the environment when it is loaded

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    answer({"address": f"127.0.0.1:{port}", "version": version("langgraph-api")})
    logging.getLogger("langgraph_api.cli").setLevel(logging.WARNING)  # no greeting
    run_server(
        "127.0.0.1",
        port,
        graphs={"scripted": f"{__file__}:graph"},
        n_jobs_per_worker=WORKERS,
        disable_persistence=True,
        allow_blocking=True,
        timeout_keep_alive=3600,
    )


if __name__ == "__main__":
    main()
