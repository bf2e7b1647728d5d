"""Agents of llama-index-core, which are workflows. They know no approvals."""

from collections.abc import Sequence
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from tests.adapters.foreign.kinds import base
from tests.openai_server import Say

name = "llama-index-agents"
served = outer = "agents/helper"
gives_member_runs = False
model = "gpt-5-mini"
provider = ""
finish_reason = "other"


def _made(name: str, base_url: str, **options: Any) -> Any:
    model = OpenAILike(
        model="gpt-5-mini",
        api_base=base_url,
        api_key="x",
        max_retries=0,
        is_chat_model=True,
        is_function_calling_model=True,
        should_use_structured_outputs=True,
        additional_kwargs={"stream_options": {"include_usage": True}},
    )
    return FunctionAgent(name=name, llm=model, timeout=None, **options)


def agent(
    base_url: str,
    *,
    tools: Sequence[base.Tool] = (),
    approved: Sequence[base.Tool] = (),
    schema: type[BaseModel] | None = None,
) -> Any:
    if approved:
        pytest.skip("the agents of llama-index-core know no approvals")
    return _made("helper", base_url, tools=list(tools), output_cls=schema)


def with_sub_agent(base_url: str) -> Any:
    member = _made("member", base_url)

    async def ask_member(question: str) -> str:
        """Asks the member."""
        return str(await member.run(question))

    return agent(base_url, tools=[ask_member])


def delegation() -> tuple[str, dict[str, Any]]:
    return "ask_member", {"question": "why"}


def structured(answer: dict[str, Any]) -> list[Any]:
    """It is asked once more for the answer as data."""
    return [Say("It is hot"), Say(base.Weather(**answer).model_dump_json())]
