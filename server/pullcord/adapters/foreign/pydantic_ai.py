"""Agents of pydantic-ai, served as they are.

A capability, added to each run, stands around every model call and every tool call; so no tool
begins once the run must stop, and approvals pause the run. What an agent is, is not known here.
"""

import inspect
import json
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import (
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    UserPromptPart,
)
from pydantic_ai.tools import DeferredToolResults, ToolDenied

from pullcord.adapters.foreign.driver import ForeignRunnable, name_of
from pullcord.adapters.foreign.report import Report
from pullcord.adapters.foreign.turns import Turn, history_of, turns_of
from pullcord.adapters.foreign.values import text_of
from pullcord.native.approval import answer_of
from pullcord.native.carrying import ContinuationRefused
from pullcord.run.context import RunContext
from pullcord.run.events import ToolCall, ToolCallState
from pullcord.run.record import Decision
from pullcord.run.resumed import Resumed
from pullcord.run.runnable import Isolation
from pullcord.run.usage import Usage

_FORM = "pydantic-ai/1"


class PydanticAgent(ForeignRunnable):
    """An agent of pydantic-ai."""

    def __init__(
        self,
        agent: Any,
        *,
        id: str | None = None,
        description: str | None = None,
        deps: Callable[[RunContext], Any] | None = None,
        history: bool = True,
        isolation: Isolation | None = None,
    ) -> None:
        """Describes the agent; the object itself stays as it is.

        Args:
            agent: a `pydantic_ai.Agent`.
            id: what callers name it by; made of the agent's name if none is given.
            description: what it is, told to callers.
            deps: makes the agent's dependencies for each run; sync or async, called on the run's
                event loop.
            history: whether the session's earlier turns are told to the model.
            isolation: "process" gives each run a process for itself.

        Raises:
            TypeError: `deps` cannot be called.
            ValueError: no id can be made of the name, or there is no such isolation.
        """
        if deps is not None and not callable(deps):
            raise TypeError(
                f"deps must be a function that makes the dependencies of one run, not {deps!r}; "
                "write deps=lambda ctx: value"
            )
        told = getattr(agent, "description", None)
        super().__init__(
            id=id,
            name=name_of(agent),
            fallback="agent",
            description=description or (told if isinstance(told, str) else ""),
            isolation=isolation,
        )
        self.agent = agent
        self._deps = deps
        self._history = history

    async def follow(self, ctx: RunContext, report: Report) -> None:
        """Reads one run; see the class it fills."""
        deps = self._deps(ctx) if self._deps is not None else None
        if inspect.isawaitable(deps):
            deps = await deps
        watch = _Watch(self.agent, report)
        running = self.agent.run_stream_events(
            **await self._given(ctx),
            deps=deps,
            conversation_id=ctx.session_id or ctx.run_id,
            capabilities=[watch],
            infer_name=False,
        )
        async with running as events:
            async for event in events:
                watch.take(event)

    async def _given(self, ctx: RunContext) -> dict[str, Any]:
        """What the run begins with; or the conversation of before its pause, and the decisions."""
        if (resumed := ctx.resumed) is not None:
            return _taken_up(resumed)
        *earlier, last = turns_of(ctx, await history_of(ctx) if self._history else [])
        return {
            "run_id": ctx.run_id,  # one that goes on has another id there each time
            "user_prompt": last.text,
            "message_history": [_message(turn) for turn in earlier],
        }


def _message(turn: Turn) -> Any:
    match turn.role:
        case "system":
            return ModelRequest(parts=[SystemPromptPart(turn.text)])
        case "user":
            return ModelRequest(parts=[UserPromptPart(turn.text)])
        case "assistant":
            return ModelResponse(parts=[TextPart(turn.text)])


class _Watch(AbstractCapability[Any]):  # type: ignore[misc]  # an extra's class, not checked
    """Reports what one run does, and keeps tools from beginning once it must stop."""

    def __init__(self, agent: Any, report: Report) -> None:
        self._agent = agent
        self._report = report
        self._counted = Usage()
        self._invalid: dict[str, Any] = {}

    # --- events

    def take(self, event: Any) -> None:
        """Reports an event of the stream, by its kind."""
        report = self._report
        match event.event_kind:
            case "part_start":
                self._piece(event.part.part_kind, getattr(event.part, "content", None))
            case "part_delta":
                delta = event.delta
                self._piece(delta.part_delta_kind, getattr(delta, "content_delta", None))
                if isinstance(asked := getattr(delta, "args_delta", None), str):
                    report.requested(asked)
            case "function_tool_call" if event.args_valid is False:
                self._invalid[event.part.tool_call_id] = event.part
            case "function_tool_result":
                if (call := self._invalid.pop(event.part.tool_call_id, None)) is not None:
                    report.tool_started(call.tool_call_id, call.tool_name, call.args_as_json_str())
                    why = text_of(event.part.content)
                    report.tool_ended(call.tool_call_id, why, ToolCallState.FAILED)
            case "agent_run_result":
                report.output(event.result.output)
                self._count_the_rest(event.result.usage)

    def _piece(self, kind: str, content: Any) -> None:
        if not isinstance(content, str):
            return
        if kind == "text":
            self._report.text(content)
        elif kind == "thinking":
            self._report.reasoning(content)

    def _count_the_rest(self, told: Any) -> None:
        """Agents that tools ran with this run's own usage object were not seen here."""
        total = told if hasattr(told, "input_tokens") else told()  # a method in older versions
        missing = _usage_of(total) - self._counted
        if missing.input_tokens > 0 or missing.output_tokens > 0:
            self._report.used(missing)

    # --- what the framework calls

    async def wrap_model_request(
        self, ctx: Any, *, request_context: Any, handler: Callable[[Any], Any]
    ) -> Any:
        """Stands around one call of a model."""
        model = request_context.model
        may = self._report.model_began(
            said=_said(request_context.messages),
            model=getattr(model, "model_name", ""),
            provider=getattr(model, "system", ""),
        )
        if not may:
            await self._report.never()
        try:
            response = await handler(request_context)
        except Exception:
            self._report.model_failed()
            raise
        used = _usage_of(response.usage)
        self._counted += used
        self._report.finish_reason(response.finish_reason)
        self._report.model_ended(used)
        return response

    async def wrap_tool_execute(
        self, ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Callable[[Any], Any]
    ) -> Any:
        """Stands around one call of a tool."""
        report, id = self._report, call.tool_call_id
        is_async = self._is_async(call.tool_name)
        if not report.tool_started(id, call.tool_name, call.args_as_json_str(), is_async=is_async):
            await report.never()
        try:
            result = await handler(args)
        except Exception as error:
            report.tool_ended(id, f"{type(error).__name__}: {error}", ToolCallState.FAILED)
            raise
        report.tool_ended(id, getattr(result, "return_value", result))
        return result

    def _is_async(self, tool_name: str) -> bool | None:
        for toolset in self._agent.toolsets:
            tools = getattr(toolset, "tools", None)
            if isinstance(tools, dict) and (tool := tools.get(tool_name)) is not None:
                schema = getattr(tool, "function_schema", None)
                is_async: bool | None = getattr(schema, "is_async", None)
                return is_async
        return None

    async def handle_deferred_tool_calls(self, ctx: Any, *, requests: Any) -> Any:
        """Asks about the calls that wait for somebody: for an approval, or for their result."""
        waiting = [*requests.approvals, *requests.calls]
        calls = [ToolCall(c.tool_call_id, c.tool_name, c.args_as_json_str()) for c in waiting]
        names = " and ".join(dict.fromkeys(call.tool_name for call in calls))
        ids = [call.tool_call_id for call in calls]
        approvals = {call.tool_call_id for call in requests.approvals}
        handed_over = _handed_over(ctx.messages, ids, approvals)
        decided = await self._report.ask(f"May {names} be called?", calls, handed_over)
        return _results(ids, approvals, decided)


def _results(ids: Sequence[str], approvals: AbstractSet[str], decided: Sequence[Decision]) -> Any:
    """The result or the approval of each call that waited, as the framework takes it."""
    results = DeferredToolResults()
    for id, decision in zip(ids, decided, strict=True):
        answer = answer_of(decision)
        if id in approvals:
            results.approvals[id] = True if answer is None else ToolDenied(answer or "(empty)")
        else:
            results.calls[id] = "Approved." if answer is None else answer
    return results


def _handed_over(
    messages: Sequence[Any], ids: Sequence[str], approvals: AbstractSet[str]
) -> bytes | None:
    """The conversation, if all calls of its last answer wait; None: others of them have been
    executed, whose results the framework does not tell yet."""
    parts = getattr(messages[-1], "parts", ()) if messages else ()
    asked = {part.tool_call_id for part in parts if part.part_kind == "tool-call"}
    if asked != set(ids):
        return None
    told = ModelMessagesTypeAdapter.dump_python(list(messages), mode="json")
    state = {"form": _FORM, "messages": told, "ids": list(ids), "approvals": sorted(approvals)}
    return json.dumps(state).encode()


def _taken_up(resumed: Resumed) -> dict[str, Any]:
    """The input that continues a run which paused elsewhere. Raises ContinuationRefused."""
    state = json.loads(resumed.continuation)
    if state["form"] != _FORM:
        raise ContinuationRefused(
            f"the run paused in a form that this release does not know: {state['form']!r}"
        )
    return {
        "message_history": ModelMessagesTypeAdapter.validate_python(state["messages"]),
        "deferred_tool_results": _results(state["ids"], set(state["approvals"]), resumed.decisions),
    }


def _usage_of(used: Any) -> Usage:
    details = getattr(used, "details", None) or {}
    return Usage(
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        reasoning_tokens=details.get("reasoning_tokens", 0),
        cached_tokens=used.cache_read_tokens,
        cost=float(getattr(used, "cost", None) or 0.0),
    )


def _said(messages: Any) -> str:
    """The words that a model reads, to estimate how many they are."""
    parts = (part for message in messages for part in message.parts)
    return "\n".join(
        text_of(getattr(part, "content", None) or getattr(part, "args", "")) for part in parts
    )
