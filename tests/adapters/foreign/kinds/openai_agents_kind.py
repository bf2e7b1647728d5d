"""Agents of the OpenAI Agents SDK."""

from collections.abc import Sequence
from typing import Any

from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, function_tool
from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.adapters.foreign.kinds import base
from tests.openai_server import Say

name = "openai-agents"
served = outer = "agents/helper"
gives_member_runs = True
model = "gpt-5-mini"
provider = "openai"
finish_reason = "other"


def _made(name: str, base_url: str, **options: Any) -> Any:
    client = AsyncOpenAI(base_url=base_url, api_key="x")
    return Agent(
        name=name,
        model=OpenAIChatCompletionsModel("gpt-5-mini", client),
        model_settings=ModelSettings(include_usage=True),
        **options,
    )


def agent(
    base_url: str,
    *,
    tools: Sequence[base.Tool] = (),
    approved: Sequence[base.Tool] = (),
    schema: type[BaseModel] | None = None,
) -> Any:
    asking = [function_tool(tool, needs_approval=True) for tool in approved]
    made = [*map(function_tool, tools), *asking]
    return _made("helper", base_url, tools=made, output_type=schema)


def with_sub_agent(base_url: str) -> Any:
    member = _made("member", base_url)
    return _made("helper", base_url, tools=[member.as_tool("ask_member", "Asks the member.")])


def delegation() -> tuple[str, dict[str, Any]]:
    return "ask_member", {"input": "why"}


def structured(answer: dict[str, Any]) -> list[Any]:
    return [Say(base.Weather(**answer).model_dump_json())]
