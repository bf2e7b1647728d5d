"""Compiled graphs of LangGraph, and LangChain's `create_agent`, which makes such graphs.

How one run of a graph is given its input and read to its end. What its parts and callbacks mean is
`langgraph_parts`' business, and what somebody decides about an interrupt `langgraph_pauses`'.
"""

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Unpack

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from pullcord.adapters.foreign.driver import ForeignRunnable, Placement, name_of
from pullcord.adapters.foreign.langgraph_parts import Parts
from pullcord.adapters.foreign.langgraph_pauses import Pause
from pullcord.adapters.foreign.report import Report
from pullcord.adapters.foreign.turns import TEXT, Turn, history_of, turns_of
from pullcord.native.carrying import ContinuationRefused
from pullcord.run.context import RunContext
from pullcord.run.record import Run
from pullcord.run.resumed import Resumed
from pullcord.run.state import RunState
from pullcord.run.takes import NOTHING

_FORM = "langgraph/1"
_NAMELESS = "LangGraph"
"""What a graph is called that was given no name."""
_MODES = ["messages", "tasks", "custom", "values"]
_STOPPED = "The run was stopped before this call had ended. It may have taken effect."


class LangGraphAgent(ForeignRunnable):
    """A compiled graph."""

    def __init__(
        self,
        graph: Any,
        *,
        id: str | None = None,
        description: str = "",
        input: Callable[[RunContext], Any] | None = None,
        context: Callable[[RunContext], Any] | None = None,
        speaks: Sequence[str] | None = None,
        history: bool = True,
        **placement: Unpack[Placement],
    ) -> None:
        """Describes the graph; the object itself stays as it is.

        Args:
            graph: what `StateGraph.compile()` or `create_agent()` returns.
            id: what callers name it by; made of the graph's name if none is given.
            description: what it is, told to callers.
            input: makes the state that a run begins with; sync or async. Without it a graph whose
                state has `messages` gets the conversation, and any other the run's `input_data`.
            context: makes the run's context, if the graph has a context schema; sync or async.
            speaks: the nodes whose text is the run's output; all of them if None.
            history: whether a graph without a checkpointer is told the session's earlier turns.
            placement: where each run executes: `isolation` and `resources`.

        Raises:
            TypeError: the graph's checkpointer is a sync one.
            ValueError: no id can be made of the name, or there is no such placement.
        """
        saver = graph.checkpointer
        self._has_saver = isinstance(saver, BaseCheckpointSaver)
        if self._has_saver and type(saver).aget_tuple is BaseCheckpointSaver.aget_tuple:
            name = type(saver).__name__
            raise TypeError(
                f"the graph's checkpointer is a {name}, which is sync; compile the graph with its "
                f"async sibling, such as Async{name}"
            )
        given = name_of(graph)
        super().__init__(
            id=id,
            name="" if given == _NAMELESS else given,
            fallback="graph",
            description=description,
            **placement,
        )
        if input is not None or "messages" not in graph.channels:
            self.takes = NOTHING  # the author's function may not look at them
        elif self._has_saver:
            self.takes = replace(TEXT, messages=False)  # the conversation is the checkpointer's
        self.graph = graph
        self._input = input
        self._context = context
        self._speaks = None if speaks is None else frozenset(speaks)
        self._history = history

    async def follow(self, ctx: RunContext, report: Report) -> None:
        """Reads one run; see the class it fills."""
        graph = self.graph
        thread = ctx.session_key
        if not self._has_saver:  # an interrupt could not be resumed without any
            graph, thread = graph.copy(update={"checkpointer": InMemorySaver()}), ctx.run_id
        parts = Parts(graph, report, ctx.run_id, self._speaks)
        config = {"configurable": {"thread_id": thread}, "callbacks": [parts]}
        if (resumed := ctx.resumed) is None:
            given = await self._given(graph, config, ctx)
        else:
            given = await _taken_up(graph, config, resumed, report, parts)
        context = await _made(self._context, ctx) if self._context is not None else None
        while True:
            stream = graph.astream(
                given,
                config,
                context=context,
                stream_mode=_MODES,
                subgraphs=True,
                version="v2",
            )
            async for part in stream:
                parts.take(part)
            state = await graph.aget_state(config)
            if not state.interrupts:
                break
            pause = Pause(state.interrupts, state.values)
            spoke = report.speakers.last
            handed_over = _handed_over(state, spoke) if self._saver_lasts else None
            decisions = await report.ask(pause.question, pause.calls, handed_over)
            given = Command(resume=pause.resume(decisions, report))
        if self._speaks is None:
            report.output(_last_text(parts.values))
        report.output(_data(parts.values))

    @property
    def _saver_lasts(self) -> bool:
        """Whether the state of a run is somewhere else than in this process."""
        return self._has_saver and type(self.graph.checkpointer) is not InMemorySaver

    async def _given(self, graph: Any, config: Any, ctx: RunContext) -> Any:
        if self._input is not None:
            return await _made(self._input, ctx)
        if "messages" not in graph.channels:
            if ctx.input_data is None:
                raise ValueError(
                    f"the state of the graph {self.id!r} has no messages: give the run input_data "
                    "(on the command line: --data), or make its state with "
                    "LangGraphAgent(graph, input=…)"
                )
            return dict(ctx.input_data)
        history = await history_of(ctx) if self._history or self._has_saver else []
        turns = turns_of(ctx, history)
        if not self._has_saver:
            return {"messages": [_message(turn) for turn in turns]}
        mended = await _mended(graph, config, history, turns)
        return {"messages": [*mended, _message(turns[-1])]}


async def _made(make: Callable[[RunContext], Any], ctx: RunContext) -> Any:
    made = make(ctx)
    return await made if inspect.isawaitable(made) else made


def _handed_over(state: Any, spoke: str) -> bytes:
    """Which pause it is, and which node spoke last. The graph's state is with its checkpointer."""
    asked = [interrupt.id for interrupt in state.interrupts]
    return json.dumps({"form": _FORM, "interrupts": asked, "spoke": spoke}).encode()


async def _taken_up(graph: Any, config: Any, resumed: Resumed, report: Report, parts: Parts) -> Any:
    """The graph input that resumes a run that paused in another process.

    Raises ContinuationRefused if the checkpointer has another state by now, or none.
    """
    told = json.loads(resumed.continuation)
    report.speakers.go_on(told.pop("spoke", ""))
    state = await graph.aget_state(config, subgraphs=True)
    asked = [interrupt.id for interrupt in state.interrupts]
    if told != {"form": _FORM, "interrupts": asked}:
        raise ContinuationRefused(
            "the checkpointer of the graph does not have the state in which the run paused"
        )
    parts.go_on(state.tasks)
    pause = Pause(state.interrupts, state.values)
    return Command(resume=pause.resume(resumed.decisions, report))


def _message(turn: Turn) -> Any:
    kinds = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}
    return kinds[turn.role](turn.text)


async def _mended(graph: Any, config: Any, history: list[Run], turns: list[Turn]) -> list[Any]:
    """The messages of the turn before that the checkpointer lacks, if it was stopped or failed.

    A provider refuses a conversation with a tool call that has no result, and the text of the model
    call that was interrupted is in no checkpoint.
    """
    messages = (await graph.aget_state(config)).values.get("messages", [])
    mended: list[Any] = [
        ToolMessage(_STOPPED, tool_call_id=call["id"], name=call["name"])
        for call in _unanswered(messages)
    ]
    if not history or history[-1].state is RunState.COMPLETED:
        return mended
    asked, answer = turns[-3:-1]
    since: list[Any] = []
    for message in messages:
        since = [] if message.type == "human" else [*since, message]
    if messages:
        unknown = answer.text.strip()
        for message in since:  # between those of different nodes there is a blank line
            if message.type == "ai":
                unknown = unknown.removeprefix(_text(message).strip()).strip()
        answer = Turn("assistant", unknown)
    else:
        mended.append(_message(asked))
    return [*mended, _message(answer)]


def _unanswered(messages: Sequence[Any]) -> list[Any]:
    answered = {m.tool_call_id for m in messages if m.type == "tool"}
    asked = [call for m in messages if m.type == "ai" for call in m.tool_calls]
    return [call for call in asked if call["id"] not in answered]


def _text(message: Any) -> str:
    return str(message.text)


def _last_text(values: Any) -> str | None:
    messages = values.get("messages") if isinstance(values, dict) else None
    last = messages[-1] if isinstance(messages, list) and messages else None
    return _text(last) if getattr(last, "type", "") == "ai" else None


def _data(values: Any) -> Any:
    """The state as data; the messages are text, and structured output stands for itself."""
    if not isinstance(values, dict):
        return values
    rest = {name: value for name, value in values.items() if name != "messages"}
    if rest.keys() == {"structured_response"}:
        return rest["structured_response"]
    return rest or None
