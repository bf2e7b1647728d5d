"""Agents of pydantic-ai."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, Tool
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.adapters.foreign.kinds import base
from tests.openai_server import Call

name = "pydantic-ai"
served = outer = "agents/helper"
gives_member_runs = True
model = "gpt-5-mini"
provider = "openai"
finish_reason = "stop"


def model_at(base_url: str) -> OpenAIChatModel:
    return OpenAIChatModel("gpt-5-mini", provider=OpenAIProvider(base_url=base_url, api_key="x"))


def agent(
    base_url: str,
    *,
    tools: Sequence[base.Tool] = (),
    approved: Sequence[base.Tool] = (),
    schema: type[BaseModel] | None = None,
) -> Any:
    return Agent(
        model_at(base_url),
        name="helper",
        output_type=schema or str,
        tools=[*map(Tool, tools), *(Tool(tool, requires_approval=True) for tool in approved)],
    )


def with_sub_agent(base_url: str) -> Any:
    member = Agent(model_at(base_url), name="member")

    async def ask_member(question: str) -> str:
        """Asks the member."""
        async with member.run_stream(question) as answer:
            return await answer.get_output()

    return agent(base_url, tools=[ask_member])


def delegation() -> tuple[str, dict[str, Any]]:
    return "ask_member", {"question": "why"}


def structured(answer: dict[str, Any]) -> list[Any]:
    return [Call("final_result", answer)]
