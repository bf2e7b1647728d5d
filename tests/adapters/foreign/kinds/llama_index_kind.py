"""Workflows of LlamaIndex: an agent's loop, as its users write it around a model's client."""

import asyncio
import inspect
import json
from collections.abc import Sequence
from typing import Any

from openai import AsyncOpenAI
from pydantic import BaseModel
from workflows import Context, Workflow, step
from workflows.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
)

from tests.adapters.foreign.kinds import base
from tests.openai_server import Say

name = "llama-index"
served = outer = "workflows/helper"
gives_member_runs = False
model = ""
provider = ""
finish_reason = "other"


# Named and shaped as those of llama-index-core's agents.
class AgentSetup(Event):
    input: list[dict[str, Any]]
    current_agent_name: str = "helper"


class AgentStream(Event):
    delta: str


class ToolCall(Event):
    tool_id: str
    tool_name: str
    tool_kwargs: dict[str, Any]


class ToolCallResult(ToolCall):
    tool_output: Any


class AgentOutput(Event):
    text: str
    calls: list[ToolCall]
    raw: Any
    current_agent_name: str = "helper"


class Approval(InputRequiredEvent):
    tool_id: str
    tool_name: str
    tool_kwargs: dict[str, Any]


class Helper(Workflow):
    def __init__(
        self,
        base_url: str,
        tools: Sequence[base.Tool] = (),
        approved: Sequence[base.Tool] = (),
        schema: type[BaseModel] | None = None,
        name: str = "helper",
    ) -> None:
        super().__init__(timeout=None, workflow_name=name)
        self.base_url = base_url
        self.tools = [*tools, *approved]
        self._approved = {tool.__name__ for tool in approved}
        self._schema = schema

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> AgentSetup:
        return AgentSetup(input=ev.messages)

    @step
    async def ask(self, ctx: Context, ev: AgentSetup) -> AgentOutput:
        await ctx.store.set("messages", ev.input)
        client = AsyncOpenAI(base_url=self.base_url, api_key="x", max_retries=0)
        names = [{"type": "function", "function": {"name": t.__name__}} for t in self.tools]
        stream: Any = await client.chat.completions.create(
            model="gpt-5-mini",
            messages=ev.input,  # type: ignore[arg-type]
            tools=names or None,  # type: ignore[arg-type]
            stream=True,
            stream_options={"include_usage": True},
        )
        text, asked, raw = "", {}, None
        async with stream:
            async for chunk in stream:
                raw = chunk
                for choice in chunk.choices:
                    if choice.delta.content:
                        text += choice.delta.content
                        ctx.write_event_to_stream(AgentStream(delta=choice.delta.content))
                    for piece in choice.delta.tool_calls or ():
                        call = asked.setdefault(piece.index, {"id": "", "name": "", "text": ""})
                        call["id"] += piece.id or ""
                        call["name"] += piece.function.name or ""
                        call["text"] += piece.function.arguments or ""
        calls = [
            ToolCall(tool_id=c["id"], tool_name=c["name"], tool_kwargs=json.loads(c["text"]))
            for c in asked.values()
        ]
        return AgentOutput(text=text, calls=calls, raw=raw and raw.model_dump())

    @step
    async def look(self, ctx: Context, ev: AgentOutput) -> ToolCall | Approval | StopEvent | None:
        if not ev.calls:
            schema = self._schema
            return StopEvent(result=schema.model_validate_json(ev.text) if schema else ev.text)
        functions = [
            {
                "id": call.tool_id,
                "type": "function",
                "function": {"name": call.tool_name, "arguments": json.dumps(call.tool_kwargs)},
            }
            for call in ev.calls
        ]
        said = {"role": "assistant", "content": ev.text, "tool_calls": functions}
        await ctx.store.set("messages", [*await ctx.store.get("messages"), said])
        await ctx.store.set("waiting", len(ev.calls))
        for call in ev.calls:
            if call.tool_name not in self._approved:
                ctx.send_event(call)
        for call in ev.calls:
            if call.tool_name in self._approved:
                return Approval(**call.model_dump())
        return None

    @step
    async def hear(self, ctx: Context, ev: HumanResponseEvent) -> ToolCall | ToolCallResult:
        call = {"tool_id": ev.tool_id, "tool_name": ev.tool_name, "tool_kwargs": ev.tool_kwargs}
        if ev.approved:
            return ToolCall(**call)
        return ToolCallResult(**call, tool_output=ev.note)

    @step
    async def call(self, ctx: Context, ev: ToolCall) -> ToolCallResult:
        tool = next(tool for tool in self.tools if tool.__name__ == ev.tool_name)
        if inspect.iscoroutinefunction(tool):
            output = await tool(**ev.tool_kwargs)
        else:
            output = await asyncio.to_thread(tool, **ev.tool_kwargs)
        return ToolCallResult(**ev.model_dump(), tool_output=output)

    @step
    async def gather(self, ctx: Context, ev: ToolCallResult) -> AgentSetup | None:
        results = ctx.collect_events(ev, [ToolCallResult] * await ctx.store.get("waiting"))
        if results is None:
            return None
        told = [
            {"role": "tool", "tool_call_id": result.tool_id, "content": str(result.tool_output)}
            for result in results
            if isinstance(result, ToolCallResult)
        ]
        return AgentSetup(input=[*await ctx.store.get("messages"), *told])


def agent(
    base_url: str,
    *,
    tools: Sequence[base.Tool] = (),
    approved: Sequence[base.Tool] = (),
    schema: type[BaseModel] | None = None,
) -> Any:
    return Helper(base_url, tools, approved, schema)


def with_sub_agent(base_url: str) -> Any:
    member = Helper(base_url, name="member")

    async def ask_member(question: str) -> str:
        """Asks the member."""
        return str(await member.run(messages=[{"role": "user", "content": question}]))

    return agent(base_url, tools=[ask_member])


def delegation() -> tuple[str, dict[str, Any]]:
    return "ask_member", {"question": "why"}


def structured(answer: dict[str, Any]) -> list[Any]:
    return [Say(base.Weather(**answer).model_dump_json())]
