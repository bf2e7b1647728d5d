"""Agents of agno."""

import json
from collections.abc import Sequence
from typing import Any

from agno.agent import Agent
from agno.models.openai import OpenAIChat
from agno.team import Team
from agno.tools import tool
from pydantic import BaseModel

from tests.adapters.foreign.kinds import base
from tests.openai_server import Say

name = "agno"
served = "agents/helper"
outer = "teams/helper"
gives_member_runs = True
model = "gpt-5-mini"
provider = "openai"
finish_reason = "other"


def model_at(base_url: str) -> OpenAIChat:
    return OpenAIChat(id="gpt-5-mini", base_url=base_url, api_key="x")


def agent(
    base_url: str,
    *,
    tools: Sequence[base.Tool] = (),
    approved: Sequence[base.Tool] = (),
    schema: type[BaseModel] | None = None,
) -> Any:
    asking = [tool(requires_confirmation=True)(function) for function in approved]
    return Agent(
        name="helper",
        model=model_at(base_url),
        tools=[*tools, *asking],
        output_schema=schema,
        telemetry=False,
    )


def with_sub_agent(base_url: str) -> Any:
    member = Agent(name="member", model=model_at(base_url), telemetry=False)
    return Team(name="helper", model=model_at(base_url), members=[member], telemetry=False)


def delegation() -> tuple[str, dict[str, Any]]:
    return "delegate_task_to_member", {"member_id": "member", "task": "why"}


def structured(answer: dict[str, Any]) -> list[Any]:
    return [Say(json.dumps(answer))]
