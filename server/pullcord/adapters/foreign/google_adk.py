"""Agents of Google's Agent Development Kit, served as they are.

A plugin, added to each run, stands around every model call and every tool call, also those of the
agents that an agent calls; so none begins once the run must stop. What an agent is, is not known
here.
"""

import inspect
import json
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, Unpack

from google.adk.agents.run_config import RunConfig, StreamingMode, ToolThreadPoolConfig
from google.adk.apps.app import App
from google.adk.events.event import Event
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.runners import Runner
from google.adk.sessions.in_memory_session_service import InMemorySessionService
from google.genai import types

from pullcord.adapters.foreign.children import id_of
from pullcord.adapters.foreign.driver import ForeignRunFailed, ForeignRunnable, Placement, name_of
from pullcord.adapters.foreign.report import Report
from pullcord.adapters.foreign.turns import history_of, turns_of
from pullcord.adapters.foreign.values import text_of
from pullcord.native.approval import answer_of
from pullcord.native.carrying import of_form
from pullcord.run.context import RunContext
from pullcord.run.events import Source, ToolCall, ToolCallState
from pullcord.run.plain import class_name
from pullcord.run.record import Decision
from pullcord.run.usage import Usage

_FORM = "google-adk/1"
_APP = "pullcord"
_OF_GOOGLE = frozenset({"", "models", "projects", "publishers", "gemini", "vertex_ai"})
"""What the name of a model of Google's begins with, where it has a path."""
_CONFIRM = "adk_request_confirmation"
_PLACE = {"app_name": _APP, "user_id": "user", "session_id": "session"}
"""Where a run's session is: in a service of its own."""


class GoogleADKAgent(ForeignRunnable):
    """An agent of Google's ADK: of a model, or of other agents."""

    def __init__(
        self,
        agent: Any,
        *,
        id: str | None = None,
        description: str | None = None,
        plugins: Sequence[Any] = (),
        history: bool = True,
        **placement: Unpack[Placement],
    ) -> None:
        """Describes the agent; the object itself stays as it is.

        Args:
            agent: a `google.adk.agents.BaseAgent`, such as an LlmAgent.
            id: what callers name it by; made of the agent's name if none is given.
            description: what it is, told to callers.
            plugins: the ADK's plugins for its runs.
            history: whether the session's earlier turns are told to the model.
            placement: where each run executes: `isolation` and `resources`.

        Raises:
            ValueError: no id can be made of the name, or there is no such placement.
        """
        super().__init__(
            id=id,
            name=name_of(agent),
            fallback="agent",
            description=description or agent.description or "",
            **placement,
        )
        self.agent = agent
        self._plugins = tuple(plugins)
        self._history = history

    async def follow(self, ctx: RunContext, report: Report) -> None:
        """Reads one run; see the class it fills."""
        service: Any = InMemorySessionService()
        session = await service.create_session(**_PLACE)
        watch = _Watch(self.agent.name, report)
        if (resumed := ctx.resumed) is None:
            *earlier, last = turns_of(ctx, await history_of(ctx) if self._history else [])
            watch.system = [turn.text for turn in earlier if turn.role == "system"]
            for turn in earlier:
                if turn.role != "system":
                    await service.append_event(session, _event(self.agent.name, turn))
            given = types.UserContent(last.text)
        else:
            told = of_form(resumed.continuation, _FORM)
            for event in told["events"]:
                await service.append_event(session, Event.model_validate(event))
            asked = [types.FunctionCall.model_validate(call) for call in told["asked"]]
            given = watch.decided(asked, resumed.decisions)
        app = App(name=_APP, root_agent=self.agent, plugins=[*self._plugins, watch])
        runner = Runner(app=app, session_service=service)
        # Without threads the ADK calls sync tools on the event loop.
        config = RunConfig(
            streaming_mode=StreamingMode.SSE, tool_thread_pool_config=ToolThreadPoolConfig()
        )
        place = {"user_id": _PLACE["user_id"], "session_id": _PLACE["session_id"]}
        while True:
            asked, answer, failed = [], "", ""
            async for event in runner.run_async(**place, new_message=given, run_config=config):
                if event.error_code and not event.content:
                    failed = f"{event.error_code}: {event.error_message}"
                asked += [call for call in event.get_function_calls() if call.name == _CONFIRM]
                if event.is_final_response() and event.content and not event.partial:
                    answer = "".join(part.text or "" for part in event.content.parts or ())
            if failed:  # without an exception, which would say more
                raise ForeignRunFailed(failed)
            if not asked:
                break
            calls = [_call_of(call) for call in asked]
            names = " and ".join(dict.fromkeys(call.tool_name for call in calls))
            handed_over = _handed_over(await service.get_session(**_PLACE), asked)
            decisions = await report.ask(f"May {names} be called?", calls, handed_over)
            given = watch.decided(asked, decisions)
        report.output(json.loads(answer) if getattr(self.agent, "output_schema", None) else answer)


def _event(agent: str, turn: Any) -> Any:
    is_user = turn.role == "user"
    content = types.UserContent(turn.text) if is_user else types.ModelContent(turn.text)
    return Event(author="user" if is_user else agent, content=content)


# --- what a run waits for


def _call_of(request: Any) -> ToolCall:
    """The call that a confirmation is about."""
    call = request.args["originalFunctionCall"]
    return ToolCall(call["id"], call["name"], text_of(call.get("args") or {}))


def _handed_over(session: Any, asked: Sequence[Any]) -> bytes:
    """The session, which has the conversation."""
    events = [event.model_dump(mode="json", exclude_none=True) for event in session.events]
    calls = [call.model_dump(mode="json", exclude_none=True) for call in asked]
    return json.dumps({"form": _FORM, "events": events, "asked": calls}).encode()


# --- seeing what happens


class _Watch(BasePlugin):  # type: ignore[misc]  # an extra's class, not checked
    """Reports what one run does, and keeps calls from beginning once it must stop."""

    def __init__(self, root: str, report: Report) -> None:
        super().__init__("pullcord")
        self._root = root
        self._report = report
        self._answers: dict[str, str] = {}
        self._spoken: set[str] = set()
        self._within: ContextVar[tuple[str, Source | None]] = ContextVar(
            "pullcord_google_adk", default=("", None)
        )
        """The tool call that the code at work is of, and whose that is."""
        self.system: list[str] = []
        """What a caller tells the model as its system's words."""

    def decided(self, asked: Sequence[Any], decisions: Sequence[Decision]) -> Any:
        """The message that continues the run.

        The framework has fixed words for a declined call. So all are confirmed, and what was
        declined or answered is not executed: see `before_tool_callback`.
        """
        parts = []
        for request, decision in zip(asked, decisions, strict=True):
            if (answer := answer_of(decision)) is not None:
                self._answers[request.args["originalFunctionCall"]["id"]] = answer or "(empty)"
            made = types.FunctionResponse(
                id=request.id, name=_CONFIRM, response={"confirmed": True}
            )
            parts.append(types.Part(function_response=made))
        return types.UserContent(parts)

    def _child(self, context: Any) -> Source | None:
        return self._report.child(context.invocation_id)

    # --- agents within the agent

    async def before_run_callback(self, *, invocation_context: Any) -> None:
        """A runner begins; one that a tool has made is that of a child."""
        if invocation_context.session.id != _PLACE["session_id"]:
            name = invocation_context.agent.name
            tool, parent = self._within.get()
            id = invocation_context.invocation_id
            self._report.child_started(id, id_of(name), name, parent=parent, within=tool)
            # An agent as a tool is not streamed by itself; its last event has all of its text.
            streamed = {"streaming_mode": StreamingMode.SSE}
            config = invocation_context.run_config or RunConfig()
            invocation_context.run_config = config.model_copy(update=streamed)

    async def after_run_callback(self, *, invocation_context: Any) -> None:
        """A runner has ended."""
        self._report.child_ended(invocation_context.invocation_id)

    async def before_agent_callback(self, *, agent: Any, callback_context: Any) -> None:
        """An agent begins; one of the root's own agents is a step."""
        if agent.name != self._root and self._child(callback_context) is None:
            self._report.step_started(agent.name, agent.name)

    async def after_agent_callback(self, *, agent: Any, callback_context: Any) -> None:
        """An agent has ended."""
        if agent.name != self._root and self._child(callback_context) is None:
            self._report.step_ended(agent.name, agent.name)

    # --- models

    async def before_model_callback(self, *, callback_context: Any, llm_request: Any) -> None:
        """A model is about to be asked."""
        if self.system and self._child(callback_context) is None:
            llm_request.append_instructions(self.system)
        call = _call(callback_context)
        self._spoken.discard(call)
        contents = [
            text_of(part.text or "") for c in llm_request.contents for part in c.parts or ()
        ]
        provider, model = _named(llm_request.model or "")
        said = "\n".join((text_of(llm_request.config.system_instruction or ""), *contents))
        child = self._child(callback_context)
        if not self._report.model_began(
            call, said=said, model=model, provider=provider, source=child
        ):
            await self._report.never()

    async def after_model_callback(self, *, callback_context: Any, llm_response: Any) -> None:
        """A piece of an answer; the last one repeats the pieces before it."""
        call, child = _call(callback_context), self._child(callback_context)
        if llm_response.partial or call not in self._spoken:
            for part in (llm_response.content and llm_response.content.parts) or ():
                if part.thought:
                    self._report.reasoning(part.text or "", child, call=call)
                else:
                    speaker = callback_context.agent_name
                    self._report.text(part.text or "", child, call=call, speaker=speaker)
            self._spoken.add(call)
        if not llm_response.partial:
            reason = llm_response.finish_reason
            self._report.finish_reason(getattr(reason, "value", reason), child, call=call)
            self._report.model_ended(_usage(llm_response.usage_metadata), call)

    async def on_model_error_callback(
        self, *, callback_context: Any, llm_request: Any, error: Exception
    ) -> None:
        """A model could not answer."""
        self._report.model_failed(class_name(error), _call(callback_context))

    # --- tools

    async def before_tool_callback(self, *, tool: Any, tool_args: Any, tool_context: Any) -> Any:
        """A tool is about to be called; what this returns stands for its result."""
        id = tool_context.function_call_id
        if (answer := self._answers.get(id)) is not None:
            return {"result": answer}
        is_asked = await tool.check_require_confirmation(tool_args, tool_context)
        if is_asked and not tool_context.tool_confirmation:
            return None  # it is not called yet
        code = getattr(tool, "func", None)
        is_async = inspect.iscoroutinefunction(code) if code is not None else True
        child = self._child(tool_context)
        if not self._report.tool_started(id, tool.name, tool_args, is_async=is_async, source=child):
            await self._report.never()
        self._within.set((id, child))
        return None

    async def after_tool_callback(
        self, *, tool: Any, tool_args: Any, tool_context: Any, result: Any
    ) -> None:
        """A tool has returned."""
        if isinstance(result, dict) and result.keys() == {"result"}:
            result = result["result"]
        child = self._child(tool_context)
        self._report.tool_ended(tool_context.function_call_id, result, source=child)

    async def on_tool_error_callback(
        self, *, tool: Any, tool_args: Any, tool_context: Any, error: BaseException
    ) -> None:
        """A tool has raised, or was cancelled."""
        if isinstance(error, Exception):
            words, child = f"{type(error).__name__}: {error}", self._child(tool_context)
            id = tool_context.function_call_id
            self._report.tool_ended(id, words, ToolCallState.FAILED, source=child)


def _call(context: Any) -> str:
    return f"{context.invocation_id}/{context.agent_name}"


def _named(model: str) -> tuple[str, str]:
    """A model's provider and name. Those of others have both in theirs, as LiteLLM does; Google's
    may have a path before it."""
    path, _, name = model.rpartition("/")
    first = path.partition("/")[0]
    return (first if first not in _OF_GOOGLE else "google", name)


def _usage(told: Any) -> Usage | None:
    if told is None or not told.prompt_token_count:
        return None
    return Usage(
        input_tokens=told.prompt_token_count,
        output_tokens=(told.candidates_token_count or 0) + (told.thoughts_token_count or 0),
        cached_tokens=told.cached_content_token_count or 0,
        reasoning_tokens=told.thoughts_token_count or 0,
    )
