"""Agents of Microsoft's Agent Framework."""

from collections.abc import Sequence
from typing import Any

from agent_framework import Agent, tool
from agent_framework.openai import OpenAIChatCompletionClient
from pydantic import BaseModel

from tests.adapters.foreign.kinds import base
from tests.openai_server import Say

name = "agent-framework"
served = outer = "agents/helper"
gives_member_runs = False
model = "gpt-5-mini"
provider = ""
finish_reason = "stop"


def _made(name: str, base_url: str, **options: Any) -> Any:
    client = OpenAIChatCompletionClient("gpt-5-mini", base_url=base_url, api_key="x")
    return Agent(client, name=name, **options)


def agent(
    base_url: str,
    *,
    tools: Sequence[base.Tool] = (),
    approved: Sequence[base.Tool] = (),
    schema: type[BaseModel] | None = None,
) -> Any:
    asking = [tool(function, approval_mode="always_require") for function in approved]
    options: Any = {"response_format": schema} if schema else None
    return _made("helper", base_url, tools=[*tools, *asking], default_options=options)


def with_sub_agent(base_url: str) -> Any:
    member = _made("member", base_url)
    return _made("helper", base_url, tools=[member.as_tool(name="ask_member")])


def delegation() -> tuple[str, dict[str, Any]]:
    return "ask_member", {"task": "why"}


def structured(answer: dict[str, Any]) -> list[Any]:
    return [Say(base.Weather(**answer).model_dump_json())]
