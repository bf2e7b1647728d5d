"""Agents of the OpenAI Agents SDK, served as they are.

How a run of one begins, pauses and goes on. What it does is watched by `openai_agents_watch`, and
what an agent is, is not known here.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Unpack

from agents import RunConfig, Runner
from agents import RunState as SDKState

from pullcord.adapters.foreign.driver import ForeignRunnable, Placement, name_of
from pullcord.adapters.foreign.openai_agents_watch import Hooks, watch_within
from pullcord.adapters.foreign.own_loop import OwnLoop
from pullcord.adapters.foreign.report import Report
from pullcord.adapters.foreign.turns import TEXT, Turn, history_of, turns_of
from pullcord.adapters.foreign.values import text_of
from pullcord.native.approval import answer_of
from pullcord.run.context import RunContext
from pullcord.run.events import ToolCall
from pullcord.run.record import Decision
from pullcord.run.resumed import Resumed
from pullcord.run.state import RunState


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
        **placement: Unpack[Placement],
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
            placement: where each run executes: `isolation` and `resources`.

        Raises:
            ValueError: no id can be made of the name, or there is no such placement.
        """
        told = getattr(agent, "handoff_description", None)
        super().__init__(
            id=id,
            name=name_of(agent),
            fallback="agent",
            description=description or (told if isinstance(told, str) else ""),
            **placement,
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
        hooks = Hooks(report, OwnLoop(), ctx.run_id)
        watch_within(hooks)
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
            except BaseException as error:
                result.cancel()
                hooks.broke_off(error)
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
