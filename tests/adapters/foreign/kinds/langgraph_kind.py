"""Agents of LangChain, which are graphs of LangGraph."""

from collections.abc import Sequence
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from tests.adapters.foreign.kinds import base
from tests.openai_server import Call

name = "langgraph"
served = outer = "agents/helper"
gives_member_runs = True
model = "gpt-5-mini"
provider = "openai"
finish_reason = "stop"


def _model(base_url: str) -> ChatOpenAI:
    return ChatOpenAI(model="gpt-5-mini", base_url=base_url, api_key="x", stream_usage=True)


def agent(
    base_url: str,
    *,
    tools: Sequence[base.Tool] = (),
    approved: Sequence[base.Tool] = (),
    schema: type[BaseModel] | None = None,
) -> Any:
    asking = HumanInTheLoopMiddleware({tool.__name__: True for tool in approved})
    return create_agent(
        _model(base_url),
        tools=[*tools, *approved],
        middleware=[asking] if approved else [],
        response_format=ToolStrategy(schema) if schema else None,
        name="helper",
    )


def with_sub_agent(base_url: str) -> Any:
    member = create_agent(_model(base_url), name="member")

    async def ask_member(question: str) -> str:
        """Asks the member."""
        answer = await member.ainvoke({"messages": [("user", question)]})
        return str(answer["messages"][-1].text)

    return agent(base_url, tools=[ask_member])


def delegation() -> tuple[str, dict[str, Any]]:
    return "ask_member", {"question": "why"}


def structured(answer: dict[str, Any]) -> list[Any]:
    return [Call("Weather", answer)]
