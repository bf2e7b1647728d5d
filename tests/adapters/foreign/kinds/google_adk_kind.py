"""Agents of Google's ADK, on a model of another provider, as LiteLLM brings it."""

from collections.abc import Sequence
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.models.lite_llm import LiteLlm
from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.function_tool import FunctionTool
from pydantic import BaseModel

from tests.adapters.foreign.kinds import base
from tests.openai_server import Say

name = "google-adk"
served = outer = "agents/helper"
gives_member_runs = True
model = "gpt-5-mini"
provider = "openai"
finish_reason = "stop"


def _made(name: str, base_url: str, **options: Any) -> Any:
    model = LiteLlm("openai/gpt-5-mini", api_base=base_url, api_key="x")
    return LlmAgent(name=name, model=model, **options)


def agent(
    base_url: str,
    *,
    tools: Sequence[base.Tool] = (),
    approved: Sequence[base.Tool] = (),
    schema: type[BaseModel] | None = None,
) -> Any:
    asking = [FunctionTool(tool, require_confirmation=True) for tool in approved]
    return _made("helper", base_url, tools=[*tools, *asking], output_schema=schema)


def with_sub_agent(base_url: str) -> Any:
    member = _made("member", base_url)
    return _made("helper", base_url, tools=[AgentTool(member)])


def delegation() -> tuple[str, dict[str, Any]]:
    return "member", {"request": "why"}


def structured(answer: dict[str, Any]) -> list[Any]:
    return [Say(base.Weather(**answer).model_dump_json())]
