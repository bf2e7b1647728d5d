"""Agents of the OpenAI Agents SDK, served as they are.

Hooks, added to each run, are awaited before every model call and every tool call; so none begins
once the run must stop. Text comes as raw events. What an agent is, is not known here.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import agents.tool
from agents import RunConfig, RunHooks, Runner
from agents import RunState as SDKState

from pullcord.adapters.foreign.driver import ForeignRunnable, name_of
from pullcord.adapters.foreign.report import Report
from pullcord.adapters.foreign.turns import TEXT, Turn, history_of, turns_of
from pullcord.adapters.foreign.values import text_of
from pullcord.native.approval import answer_of
from pullcord.run.context import RunContext
from pullcord.run.events import ToolCall
from pullcord.run.record import Decision
from pullcord.run.resumed import Resumed
from pullcord.run.runnable import Isolation
from pullcord.run.state import RunState
from pullcord.run.usage import Usage

_SYNC_MARK: str | None = getattr(agents.tool, "_SYNC_FUNCTION_TOOL_MARKER", None)
"""The attribute by which the SDK knows its sync tools; None: this version has none."""
_CALL = "agent"


class OpenAIAgentsAgent(ForeignRunnable):
    """An agent of the OpenAI Agents SDK."""

    def __init__(
        self,
        agent: Any,
        *,
        id: str | None = None,
        description: str | None = None,
        context: Callable[[RunContext], Any] | None = None,
        session: Callable[[RunContext], Any] | None = None,
        run_config: Any = None,
        max_turns: int | None = None,
        history: bool = True,
        isolation: Isolation | None = None,
    ) -> None:
        """Describes the agent; the object itself stays as it is.

        Args:
            agent: an `agents.Agent`.
            id: what callers name it by; made of the agent's name if none is given.
            description: what it is, told to callers; its handoff description if none is given.
            context: makes the run's context object; sync or async.
            session: makes the SDK's session for a run, such as a SQLiteSession of its session_key;
                without it the conversation is told from the runs that Pullcord keeps.
            run_config: the SDK's; without it traces are not sent to the vendor.
            max_turns: as the SDK's; None: the SDK's default.
            history: whether the session's earlier turns are told to the model.
            isolation: "process" gives each run a process for itself.

        Raises:
            ValueError: no id can be made of the name, or there is no such isolation.
        """
        told = getattr(agent, "handoff_description", None)
        super().__init__(
            id=id,
            name=name_of(agent),
            fallback="agent",
            description=description or (told if isinstance(told, str) else ""),
            isolation=isolation,
        )
        if session is not None:
            self.takes = replace(TEXT, messages=False)  # the conversation is the session's
        self.agent = agent
        self._context = context
        self._session = session
        self._options: dict[str, Any] = {
            "run_config": run_config or RunConfig(tracing_disabled=True)
        }
        if max_turns is not None:
            self._options["max_turns"] = max_turns
        self._history = history

    async def follow(self, ctx: RunContext, report: Report) -> None:
        """Reads one run; see the class it fills."""
        hooks = _Hooks(report)
        context = await _made(self._context, ctx)
        session = await _made(self._session, ctx)
        options = {**self._options, "session": session, "hooks": hooks}
        if (resumed := ctx.resumed) is None:
            given: Any = await self._input(ctx, session)
        else:
            given, context = await self._state(resumed, context), None
        while True:
            result = Runner.run_streamed(self.agent, given, context=context, **options)
            if resumed is not None:
                hooks.counted(result.context_wrapper.usage)
                resumed = None
            try:
                async for event in result.stream_events():
                    hooks.take(event)
            except BaseException:
                result.cancel()
                raise
            if not result.interruptions:
                break
            given = await _decided(report, result)
            context = None  # it is in the state
        report.output(result.final_output)
        hooks.count_the_rest(result.context_wrapper.usage)

    async def _state(self, resumed: Resumed, context: Any) -> Any:
        """The state of a run that paused in another process, with what was decided."""
        told = resumed.continuation.decode()
        state = await SDKState.from_string(self.agent, told, context_override=context)
        _decide(state, state.get_interruptions(), resumed.decisions)
        return state

    async def _input(self, ctx: RunContext, session: Any) -> Any:
        history = await history_of(ctx) if self._history or session is not None else []
        turns = turns_of(ctx, history)
        if session is None:
            return [_item(turn) for turn in turns]
        if history and history[-1].state is not RunState.COMPLETED:
            await session.add_items(await _missing(session, turns[-3:-1]))
        return turns[-1].text


async def _made(make: Callable[[RunContext], Any] | None, ctx: RunContext) -> Any:
    made = make(ctx) if make is not None else None
    return await made if inspect.isawaitable(made) else made


def _item(turn: Turn) -> Any:
    return {"role": turn.role, "content": turn.text}


async def _missing(session: Any, stopped: list[Turn]) -> list[Any]:
    """The items of a stopped turn that the session lacks: at least what the model had said."""
    last: Any = next(iter(await session.get_items(limit=1)), {})
    asked, answer = map(_item, stopped)
    is_asked = last.get("role") == "user" and text_of(last.get("content")) == asked["content"]
    return [answer] if is_asked else [asked, answer]


async def _decided(report: Report, result: Any) -> Any:
    """Asks about the calls that a run waits for; the state with which it goes on."""
    waiting = result.interruptions
    calls = [ToolCall(i.call_id, i.name or "tool", text_of(i.arguments)) for i in waiting]
    names = " and ".join(dict.fromkeys(call.tool_name for call in calls))
    state = result.to_state()
    decisions = await report.ask(f"May {names} be called?", calls, _handed_over(state))
    _decide(state, waiting, decisions)
    return state


def _handed_over(state: Any) -> bytes | None:
    """The state as the SDK writes it down; None: it cannot."""
    try:
        told: str = state.to_string()
    except Exception:  # such as two agents of one name, or a context of the author's
        return None
    return told.encode()


def _decide(state: Any, waiting: Sequence[Any], decisions: Sequence[Decision]) -> None:
    for item, decision in zip(waiting, decisions, strict=True):
        answer = answer_of(decision)
        if answer is None:
            state.approve(item)
        else:
            state.reject(item, rejection_message=answer or "(empty)")


class _Hooks(RunHooks[Any]):  # type: ignore[misc]  # an extra's class, not checked
    """Reports what one run does, and keeps calls from beginning once it must stop."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._counted = Usage()

    def take(self, event: Any) -> None:
        """Reports an event of the stream."""
        report = self._report
        if event.type == "agent_updated_stream_event":
            report.custom("agent_updated", {"agent": name_of(event.new_agent)})
            return
        if event.type != "raw_response_event":
            return
        data = event.data
        match data.type:
            case "response.output_text.delta" | "response.refusal.delta":
                report.text(data.delta, call=_CALL)
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                report.reasoning(data.delta, call=_CALL)
            case "response.function_call_arguments.delta":
                report.requested(data.delta, call=_CALL)
            case "response.incomplete":
                details = data.response.incomplete_details
                report.finish_reason(getattr(details, "reason", None))

    def counted(self, total: Any) -> None:
        """So much was used and counted before the run paused in another process."""
        self._counted = _usage(total)

    def count_the_rest(self, total: Any) -> None:
        """Agents that are tools of this one were not seen here."""
        missing = _usage(total) - self._counted
        if missing.input_tokens > 0 or missing.output_tokens > 0:
            self._report.used(missing)

    # --- what the SDK awaits

    async def on_llm_start(
        self, context: Any, agent: Any, system_prompt: str | None, input_items: Any
    ) -> None:
        """A model is about to be asked."""
        model = getattr(agent.model, "model", agent.model)
        said = "\n".join((system_prompt or "", *(text_of(item) for item in input_items)))
        named = model if isinstance(model, str) else ""
        if not self._report.model_began(_CALL, said=said, model=named, provider="openai"):
            await self._report.never()

    async def on_llm_end(self, context: Any, agent: Any, response: Any) -> None:
        """A model's answer has ended. Many servers do not report usage unless they are asked."""
        used = _usage(response.usage)
        self._counted += used
        self._report.model_ended(used if used.total_tokens else None, _CALL)

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        """A tool is about to be called."""
        arguments = getattr(context, "tool_arguments", "")
        if not self._report.tool_started(
            _id(context, tool), tool.name, arguments, is_async=_is_async(tool)
        ):
            await self._report.never()

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        """A tool has returned."""
        self._report.tool_ended(_id(context, tool), result)


def _id(context: Any, tool: Any) -> str:
    return getattr(context, "tool_call_id", None) or str(tool.name)


def _is_async(tool: Any) -> bool | None:
    if getattr(tool, "_is_agent_tool", False):
        return True
    invoke = getattr(tool, "on_invoke_tool", None)
    if invoke is None or _SYNC_MARK is None:
        return None
    return not getattr(invoke, _SYNC_MARK, False)


def _usage(used: Any) -> Usage:
    return Usage(
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        reasoning_tokens=getattr(used.output_tokens_details, "reasoning_tokens", 0) or 0,
        cached_tokens=getattr(used.input_tokens_details, "cached_tokens", 0) or 0,
    )
