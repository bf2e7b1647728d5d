"""Workflows of LlamaIndex, and its agents, which are workflows.

How one run of a workflow is given its input, asked and answered, and read to its end. What its
events mean is `llama_index_events`' business.
"""

import asyncio
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack
from uuid import uuid4

from workflows import Context
from workflows.events import (
    Event,
    HumanResponseEvent,
    StartEvent,
)

from pullcord.adapters.foreign.driver import ForeignRunnable, Placement
from pullcord.adapters.foreign.llama_index_events import Watch, shown, watched
from pullcord.adapters.foreign.report import Report
from pullcord.adapters.foreign.turns import history_of, turns_of
from pullcord.native.carrying import of_form
from pullcord.run.context import RunContext
from pullcord.run.events import SourceKind, ToolCall
from pullcord.run.record import Decision
from pullcord.run.takes import NOTHING

_FORM = "llama-index/1"
_QUESTION = "input"
_AGENTS = "llama_index.core.agent"


class LlamaIndexWorkflow(ForeignRunnable):
    """A workflow of LlamaIndex; one of its agents is an agent here, too."""

    kind = SourceKind.WORKFLOW

    def __init__(
        self,
        workflow: Any,
        *,
        id: str | None = None,
        description: str | None = None,
        start: Callable[[RunContext], Any] | None = None,
        says: Callable[[Any], str | None] | None = None,
        respond: Callable[[Any, Decision], Any] | None = None,
        history: bool = True,
        **placement: Unpack[Placement],
    ) -> None:
        """Describes the workflow; its runtime is decorated when it is first run.

        Args:
            workflow: a `workflows.Workflow`, or an agent of llama-index-core.
            id: what callers name it by; made of its name, or its class's, if none is given.
            description: what it is, told to callers.
            start: makes the start event of a run, or its fields; sync or async. Without it the
                fields are `input`, `messages` (the session's conversation), and the input_data.
            says: the text that an event adds to the run's output; without it, its `delta`.
            respond: makes the event that answers an InputRequiredEvent. Without it that is the
                workflow's HumanResponseEvent with the fields of the question and `response`,
                `approved` and `note`.
            history: whether the session's earlier turns are told.
            placement: where each run executes: `isolation` and `resources`.

        Raises:
            ValueError: no id can be made of the name, or there is no such placement.
        """
        self._is_agent = any(c.__module__.startswith(_AGENTS) for c in type(workflow).__mro__)
        own = getattr(workflow, "name", None) or getattr(workflow, "_workflow_name", None)
        told = getattr(workflow, "description", None)
        super().__init__(
            id=id,
            name=own if isinstance(own, str) else type(workflow).__name__,
            fallback="workflow",
            description=description or (told if isinstance(told, str) else ""),
            **placement,
        )
        if self._is_agent:
            self.kind = SourceKind.AGENT
        if start is not None:
            self.takes = NOTHING  # the author's function may not look at them
        self.workflow = workflow
        self._start = start
        self._says = says
        self._respond = respond
        self._history = history

    async def follow(self, ctx: RunContext, report: Report) -> None:
        """Reads one run; see the class it fills."""
        workflow = self.workflow
        watch = watched(workflow, Watch(workflow, report, self._says))
        if (resumed := ctx.resumed) is None:
            handler = workflow.run(**await self._fields(ctx))
        else:
            context, requests = _taken_up(workflow, resumed.continuation)
            handler = workflow.run(ctx=context)
            self._answer(handler, requests, resumed.decisions, report)
        asking = asyncio.ensure_future(self._ask(handler, watch, report))
        result = asyncio.ensure_future(handler)
        try:
            await asyncio.wait([result])  # a cancel of its own task would leave steps at work
        except asyncio.CancelledError:
            watch.stop.set()
            await handler.cancel_run()
            raise
        finally:
            asking.cancel()
            result.cancel()
        report.output(_output(await result))

    async def _fields(self, ctx: RunContext) -> Mapping[str, Any]:
        """What the workflow is run with."""
        if self._start is not None:
            made = self._start(ctx)
            if inspect.isawaitable(made):
                made = await made
            return {"start_event": made} if isinstance(made, StartEvent) else dict(made)
        turns = turns_of(ctx, await history_of(ctx) if self._history else [])
        told = [{"role": turn.role, "content": turn.text} for turn in turns]
        if self._is_agent:
            from llama_index.core.llms import ChatMessage  # imported already: the agent is its

            earlier = [ChatMessage(**turn) for turn in told[:-1]]
            return {"user_msg": turns[-1].text, "chat_history": earlier}
        return {"input": ctx.input, "messages": told, **(ctx.input_data or {})}

    async def _ask(self, handler: Any, watch: Watch, report: Report) -> None:
        """Asks what the workflow asks, for as long as it runs."""
        try:
            while True:
                requests = [await watch.questions.get()]
                while not watch.questions.empty():
                    requests.append(watch.questions.get_nowait())
                calls = [_call_of(request) for request in requests]
                handed_over = _handed_over(self.workflow, handler, requests)
                decisions = await report.ask(_question(requests, calls), calls, handed_over)
                self._answer(handler, requests, decisions, report)
        except Exception as error:  # such as an author's response that cannot be made
            report.fail(error)

    def _answer(
        self, handler: Any, requests: Sequence[Any], decisions: Sequence[Decision], report: Report
    ) -> None:
        respond = self._respond or self._response
        for request, decision in zip(requests, decisions, strict=True):
            if not _is_of_tool(request) and decision.approved and decision.answer is None:
                id = decision.tool_call_id
                report.tool_started(id, _QUESTION, shown(request), is_async=True)
                report.tool_ended(id, "approved")
            handler.ctx.send_event(respond(request, decision))

    def _response(self, request: Any, decision: Decision) -> Any:
        """The answer to a question, as LlamaIndex's examples have it: `response` is a word."""
        known = [e for e in self.workflow.events if issubclass(e, HumanResponseEvent)]
        kind = known[0] if len(known) == 1 else HumanResponseEvent
        word = "yes" if decision.approved else "no"
        fields = {name: value for name, value in shown(request).items() if name != "prefix"}
        fields["response"] = word if decision.answer is None else decision.answer
        return kind(**fields, approved=decision.approved, note=decision.note)


# --- what a workflow asks


def _is_of_tool(request: Any) -> bool:
    return isinstance(getattr(request, "tool_id", None), str)


def _call_of(request: Any) -> ToolCall:
    """A question as a call to decide about: a tool's, or one that stands for the question."""
    if _is_of_tool(request):
        arguments = json.dumps(getattr(request, "tool_kwargs", {}), default=str)
        return ToolCall(request.tool_id, request.tool_name, arguments)
    return ToolCall(
        f"{_QUESTION}-{uuid4().hex[:8]}", _QUESTION, json.dumps(shown(request), default=str)
    )


def _question(requests: Sequence[Any], calls: Sequence[ToolCall]) -> str:
    if isinstance(prefix := getattr(requests[0], "prefix", None), str) and prefix:
        return prefix
    return f"May {' and '.join(dict.fromkeys(call.tool_name for call in calls))} be called?"


def _handed_over(workflow: Any, handler: Any, requests: Sequence[Any]) -> bytes | None:
    """The state of the workflow; None: it cannot be written down, or a step is at work."""
    serializer = workflow.runtime.get_serializer(workflow)
    try:
        state = handler.ctx.to_dict(serializer)
        if any(step["queue"] or step["in_progress"] for step in state["workers"].values()):
            return None
        asked = [serializer.serialize(request) for request in requests]
        return json.dumps({"form": _FORM, "state": state, "asked": asked}).encode()
    except Exception:  # what an author keeps in the state may be anything
        return None


def _taken_up(workflow: Any, continuation: bytes) -> tuple[Any, list[Any]]:
    """The context of a run that paused elsewhere, and what it asked. Raises ContinuationRefused."""
    told = of_form(continuation, _FORM)
    serializer = workflow.runtime.get_serializer(workflow)
    asked = [serializer.deserialize(request) for request in told["asked"]]
    return Context.from_dict(workflow, told["state"], serializer), asked


def _output(result: Any) -> Any:
    """The result as text or data; an agent's is its last answer, or what it made of it."""
    if (data := getattr(result, "structured_response", None)) is not None:
        return data
    if (answer := getattr(result, "response", None)) is not None and hasattr(answer, "content"):
        return str(answer.content or "")
    return shown(result) if isinstance(result, Event) else result
