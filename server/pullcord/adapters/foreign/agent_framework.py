"""Agents of Microsoft's Agent Framework, served as they are.

Middleware, added to each run, stands around every model call and every tool call; so none begins
once the run must stop. Text comes as updates. What an agent is, is not known here.
"""

import inspect
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Unpack

from agent_framework import (
    AgentSession,
    ChatMiddleware,
    Content,
    FunctionMiddleware,
    HistoryProvider,
    InMemoryHistoryProvider,
    Message,
)

from pullcord.adapters.foreign.driver import ForeignRunnable, Placement, name_of
from pullcord.adapters.foreign.report import Report
from pullcord.adapters.foreign.turns import TEXT, history_of, turns_of
from pullcord.adapters.foreign.values import text_of
from pullcord.native.approval import answer_of
from pullcord.native.carrying import of_form
from pullcord.run.context import RunContext
from pullcord.run.events import ToolCall, ToolCallState
from pullcord.run.record import Decision
from pullcord.run.resumed import Resumed
from pullcord.run.state import RunState
from pullcord.run.usage import Usage

_FORM = "agent-framework/1"


class AgentFrameworkAgent(ForeignRunnable):
    """An agent of Microsoft's Agent Framework."""

    def __init__(
        self,
        agent: Any,
        *,
        id: str | None = None,
        description: str | None = None,
        history: bool = True,
        **placement: Unpack[Placement],
    ) -> None:
        """Describes the agent; the object itself stays as it is.

        Args:
            agent: an `agent_framework.Agent`. If one of its context providers keeps a history, that
                tells the conversation, in sessions named by the run's session_key.
            id: what callers name it by; made of the agent's name if none is given.
            description: what it is, told to callers.
            history: whether the session's earlier turns are told to the model.
            placement: where each run executes: `isolation` and `resources`.

        Raises:
            ValueError: no id can be made of the name, or there is no such placement.
        """
        told = getattr(agent, "description", None)
        super().__init__(
            id=id,
            name=name_of(agent),
            fallback="agent",
            description=description or (told if isinstance(told, str) else ""),
            **placement,
        )
        self._keeps = any(
            isinstance(provider, HistoryProvider)
            and provider.load_messages
            and not isinstance(provider, InMemoryHistoryProvider)  # a session's own, and made anew
            for provider in agent.context_providers
        )
        if self._keeps:
            self.takes = replace(TEXT, messages=False)  # the conversation is the provider's
        self.agent = agent
        self._history = history

    async def follow(self, ctx: RunContext, report: Report) -> None:
        """Reads one run; see the class it fills."""
        watch = _Watch(report)
        if (resumed := ctx.resumed) is None:
            session = AgentSession(session_id=ctx.session_key if self._keeps else ctx.run_id)
            given = await self._messages(ctx)
        else:
            session, requests = _taken_up(resumed)
            given = watch.decided(requests, resumed.decisions)
        while True:
            stream = self.agent.run(
                given,
                stream=True,
                session=session,
                middleware=[_Models(report), _Tools(watch)],
            )
            requests = [request async for update in stream for request in watch.take(update)]
            if not requests:
                break
            calls = [_call_of(request) for request in requests]
            names = " and ".join(dict.fromkeys(call.tool_name for call in calls))
            handed_over = _handed_over(session, requests)
            decisions = await report.ask(f"May {names} be called?", calls, handed_over)
            given = watch.decided(requests, decisions)
        response = await stream.get_final_response()
        report.output(response.text if response.value is None else response.value)

    async def _messages(self, ctx: RunContext) -> list[Any]:
        """The conversation; for a provider that has it, what is missing there, and the input."""
        history = await history_of(ctx) if self._history or self._keeps else []
        turns = turns_of(ctx, history)
        if self._keeps:
            is_stopped = bool(history) and history[-1].state is not RunState.COMPLETED
            turns = turns[-3:] if is_stopped else turns[-1:]
        return [Message(turn.role, [turn.text]) for turn in turns]


# --- what a run waits for


def _call_of(request: Any) -> ToolCall:
    call = request.function_call
    return ToolCall(call.call_id, call.name, text_of(call.arguments))


def _handed_over(session: Any, requests: Sequence[Any]) -> bytes | None:
    """The session, which has the conversation; None: it holds what cannot be written down."""
    asked = [request.to_dict() for request in requests]
    state = {"form": _FORM, "session": session.to_dict(), "asked": asked}
    try:
        return json.dumps(state).encode()
    except (TypeError, ValueError):
        return None


def _taken_up(resumed: Resumed) -> tuple[Any, list[Any]]:
    """The session of a run that paused elsewhere, and what it asked. Raises ContinuationRefused."""
    told = of_form(resumed.continuation, _FORM)
    asked = [Content.from_dict(request) for request in told["asked"]]
    return AgentSession.from_dict(told["session"]), asked


# --- seeing what happens


class _Watch:
    """Reports what one run says, and what is decided about its calls."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.answers: dict[str, str] = {}
        """What stands for the result of calls that somebody answered or declined, by their id."""

    def take(self, update: Any) -> list[Any]:
        """Reports a piece of the run; the approvals that it asks for."""
        asked = []
        for content in update.contents:
            match content.type:
                case "text" if update.role != "tool":
                    self.report.text(content.text or "")
                case "text_reasoning":
                    self.report.reasoning(content.text or "")
                case "function_call" if isinstance(content.arguments, str):
                    self.report.requested(content.arguments)
                case "function_approval_request":
                    asked.append(content)
        return asked

    def decided(self, requests: Sequence[Any], decisions: Sequence[Decision]) -> list[Any]:
        """The message that continues the run.

        The framework has fixed words for a declined call. So all are approved, and what was
        declined or answered is not executed: see `_Tools`.
        """
        for request, decision in zip(requests, decisions, strict=True):
            if (answer := answer_of(decision)) is not None:
                self.answers[request.function_call.call_id] = answer or "(empty)"
        return [Message("user", [r.to_function_approval_response(True) for r in requests])]


class _Models(ChatMiddleware):  # type: ignore[misc]  # an extra's class, not checked
    """Stands around the calls of a model."""

    def __init__(self, report: Report) -> None:
        self._report = report

    async def process(self, context: Any, call_next: Callable[[], Awaitable[None]]) -> None:
        """One call. Its answer is streamed after this has returned."""
        model = (context.options or {}).get("model") or getattr(context.client, "model", "")
        said = "\n".join(text_of(message.text) for message in context.messages)
        if not self._report.model_began(said=said, model=model if isinstance(model, str) else ""):
            await self._report.never()
        context.stream_result_hooks.append(self._ended)
        await call_next()

    def _ended(self, response: Any) -> None:
        self._report.finish_reason(response.finish_reason)
        self._report.model_ended(_usage(response.usage_details or {}))


class _Tools(FunctionMiddleware):  # type: ignore[misc]  # an extra's class, not checked
    """Stands around the calls of tools."""

    def __init__(self, watch: _Watch) -> None:
        self._watch = watch

    async def process(self, context: Any, call_next: Callable[[], Awaitable[None]]) -> None:
        """One call."""
        report, id, tool = self._watch.report, context.metadata["call_id"], context.function
        if (answer := self._watch.answers.get(id)) is not None:
            context.result = answer
            return
        is_async = inspect.iscoroutinefunction(tool.func)
        if not report.tool_started(id, tool.name, context.arguments, is_async=is_async):
            await report.never()
        try:
            await call_next()
        except Exception as error:
            report.tool_ended(id, f"{type(error).__name__}: {error}", ToolCallState.FAILED)
            raise
        result = context.result
        if isinstance(result, list):
            result = "\n".join(text_of(getattr(part, "text", None) or part) for part in result)
        report.tool_ended(id, result)


def _usage(told: Any) -> Usage | None:
    if not told.get("input_token_count"):
        return None
    return Usage(
        input_tokens=told["input_token_count"],
        output_tokens=told.get("output_token_count") or 0,
        cached_tokens=told.get("cache_read_input_token_count") or 0,
        reasoning_tokens=told.get("reasoning_output_token_count") or 0,
    )
