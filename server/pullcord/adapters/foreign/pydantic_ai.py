"""Agents of pydantic-ai, served as they are.

How a run of one begins, pauses and goes on. What it does is watched by `pydantic_ai_watch`, and
what an agent is, is not known here.
"""

import inspect
import json
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Unpack

from pydantic_ai.messages import (
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    UserPromptPart,
)
from pydantic_ai.tools import DeferredToolResults, ToolDenied

from pullcord.adapters.foreign.driver import ForeignRunnable, Placement, name_of
from pullcord.adapters.foreign.own_loop import OwnLoop
from pullcord.adapters.foreign.pydantic_ai_watch import Watch, usage_of, watch_within
from pullcord.adapters.foreign.report import Report
from pullcord.adapters.foreign.turns import Turn, history_of, turns_of
from pullcord.native.approval import answer_of
from pullcord.native.carrying import of_form
from pullcord.run.context import RunContext
from pullcord.run.events import ToolCall
from pullcord.run.record import Decision
from pullcord.run.resumed import Resumed

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
        **placement: Unpack[Placement],
    ) -> None:
        """Describes the agent; the object itself stays as it is.

        Args:
            agent: a `pydantic_ai.Agent`.
            id: what callers name it by; made of the agent's name if none is given.
            description: what it is, told to callers.
            deps: makes the agent's dependencies for each run; sync or async, called on the run's
                event loop.
            history: whether the session's earlier turns are told to the model.
            placement: where each run executes: `isolation` and `resources`.

        Raises:
            TypeError: `deps` cannot be called.
            ValueError: no id can be made of the name, or there is no such placement.
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
            **placement,
        )
        self.agent = agent
        self._deps = deps
        self._history = history

    async def follow(self, ctx: RunContext, report: Report) -> None:
        """Reads one run; see the class it fills."""
        deps = self._deps(ctx) if self._deps is not None else None
        if inspect.isawaitable(deps):
            deps = await deps
        watch = _Watch(self.agent, report, OwnLoop())
        watch_within(watch)
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


class _Watch(Watch):
    """Watches the served run: its result, and what it waits for somebody to decide."""

    def take(self, event: Any) -> None:
        """Reports an event of the stream."""
        super().take(event)
        if event.event_kind == "agent_run_result":
            self.report.output(event.result.output)
            self._count_the_rest(event.result.usage)

    def _count_the_rest(self, told: Any) -> None:
        """What was counted by this run's own usage object, and not seen by us."""
        total = told if hasattr(told, "input_tokens") else told()  # a method in older versions
        missing = usage_of(total) - self.counted
        if missing.input_tokens > 0 or missing.output_tokens > 0:
            self.report.used(missing)

    async def handle_deferred_tool_calls(self, ctx: Any, *, requests: Any) -> Any:
        """Asks about the calls that wait for somebody: for an approval, or for their result."""
        waiting = [*requests.approvals, *requests.calls]
        calls = [ToolCall(c.tool_call_id, c.tool_name, c.args_as_json_str()) for c in waiting]
        names = " and ".join(dict.fromkeys(call.tool_name for call in calls))
        ids = [call.tool_call_id for call in calls]
        approvals = {call.tool_call_id for call in requests.approvals}
        handed_over = _handed_over(ctx.messages, ids, approvals)
        decided = await self.report.ask(f"May {names} be called?", calls, handed_over)
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
    state = of_form(resumed.continuation, _FORM)
    return {
        "message_history": ModelMessagesTypeAdapter.validate_python(state["messages"]),
        "deferred_tool_results": _results(state["ids"], set(state["approvals"]), resumed.decisions),
    }
