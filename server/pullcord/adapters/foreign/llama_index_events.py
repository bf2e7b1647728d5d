"""What events of a LlamaIndex workflow mean: those that pass between steps, and the published ones.

A decorator of the workflow's runtime sees them, before the next step begins. Names are those of
LlamaIndex's agents: AgentSetup and AgentOutput are around a model call, ToolCall and ToolCallResult
around a tool's. How a workflow is run is not known here.
"""

import asyncio
import inspect
import json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from workflows.events import (
    InputRequiredEvent,
    InternalDispatchEvent,
    StepState,
    StepStateChanged,
    StopEvent,
)
from workflows.runtime.runtime_decorators import (
    BaseInternalRunAdapterDecorator,
    BaseRuntimeDecorator,
)

from pullcord.adapters.foreign.report import Report
from pullcord.adapters.foreign.values import data_of, text_of
from pullcord.run.events import ToolCallState
from pullcord.run.plain import class_name
from pullcord.run.usage import Usage

_OF_AGENTS = {"AgentInput", "AgentSetup", "AgentOutput", "ToolCall", "ToolCallResult"}


class Watch:
    """Reports the events of one run. All methods are called on the run's event loop."""

    def __init__(
        self, workflow: Any, report: Report, says: Callable[[Any], str | None] | None
    ) -> None:
        self.workflow = workflow
        self.questions: asyncio.Queue[Any] = asyncio.Queue()
        """What the workflow has asked, and nobody has read."""
        self.stop = asyncio.Event()
        """Set when the workflow must stop, at once."""
        self._report = report
        self._says = says or _delta
        self._open: set[str] = set()
        self._agent = ""

    async def ticked(self, tick: Any) -> None:
        """A turn of the workflow's loop; if nothing may follow, this raises once the run stops."""
        if tick.type == "add_event":
            if not self._passes(tick.event):
                await self.stop.wait()
                raise asyncio.CancelledError  # which ends the workflow's loop, and its steps
        elif tick.type == "step_result":
            for result in tick.result:
                if (error := getattr(result, "exception", None)) is not None:
                    self._failed(tick.event, error)

    def published(self, event: Any) -> None:
        """An event that the framework or a step publishes."""
        report = self._report
        if isinstance(event, StepStateChanged):
            if event.step_state is StepState.RUNNING:
                report.step_started(f"{event.name}:{event.worker_id}", event.name)
            elif event.step_state is StepState.NOT_RUNNING:
                report.step_ended(f"{event.name}:{event.worker_id}", event.name)
        elif isinstance(event, InputRequiredEvent):
            self.questions.put_nowait(event)
        elif (name := _name(event)) == "ToolCall":
            self._tool_started(event, has_begun=True)
        elif name == "ToolCallResult":
            self._tool_ended(event)
        elif name not in _OF_AGENTS and not isinstance(event, InternalDispatchEvent | StopEvent):
            if thought := getattr(event, "thinking_delta", None):
                report.reasoning(thought)
            if text := self._says(event):
                report.text(text, speaker=getattr(event, "current_agent_name", ""))
            elif name != "AgentStream":
                report.custom(name, shown(event))

    def _passes(self, event: Any) -> bool:
        """An event goes to its step; whether that may begin."""
        report = self._report
        match _name(event):
            case "AgentSetup":
                self._is_now(event.current_agent_name)
                said = "\n".join(_said(message) for message in event.input)
                model = getattr(event, "model", "") or self._model()
                return report.model_began(said=said, model=model)
            case "AgentOutput":
                report.model_ended(_usage(event))
            case "ToolCall":
                return self._tool_started(event)
            case "ToolCallResult":
                self._tool_ended(event)
        return report.halt is None

    def _failed(self, event: Any, error: BaseException) -> None:
        match _name(event):
            case "AgentSetup":
                self._report.model_failed(class_name(error))
            case "ToolCall":
                self._open.discard(event.tool_id)
                words = f"{type(error).__name__}: {error}"
                self._report.tool_ended(event.tool_id, words, ToolCallState.FAILED)

    def _is_now(self, agent: str) -> None:
        """One agent of several hands over to another."""
        if self._agent and agent != self._agent:
            self._report.custom("agent_updated", {"agent": agent})
        self._agent = agent

    # --- tools

    def _tool_started(self, event: Any, *, has_begun: bool = False) -> bool:
        if event.tool_id in self._open:
            return True
        may = self._report.tool_started(
            event.tool_id,
            event.tool_name,
            json.dumps(event.tool_kwargs, default=str),
            is_async=self._is_async(event.tool_name),
            has_begun=has_begun,
        )
        if may or has_begun:
            self._open.add(event.tool_id)
        return may

    def _tool_ended(self, event: Any) -> None:
        self._open.discard(event.tool_id)
        output = event.tool_output
        failed = getattr(output, "is_error", False)
        state = ToolCallState.FAILED if failed else ToolCallState.COMPLETED
        content = getattr(output, "content", output)
        self._report.tool_ended(event.tool_id, content, state)

    def _owner(self) -> Any:
        """The agent that is at work, of several; else the workflow itself."""
        agents = getattr(self.workflow, "agents", None)
        return (agents.get(self._agent) if isinstance(agents, dict) else None) or self.workflow

    def _is_async(self, name: str) -> bool | None:
        for tool in getattr(self._owner(), "tools", None) or ():
            code = getattr(tool, "real_fn", tool)
            known = getattr(getattr(tool, "metadata", None), "name", None)
            if name in (known, getattr(code, "__name__", None)):
                return inspect.iscoroutinefunction(code)
        return None

    def _model(self) -> str:
        model = getattr(getattr(self._owner(), "llm", None), "model", "")
        return model if isinstance(model, str) else ""


_current: ContextVar[Watch | None] = ContextVar("pullcord_llama_index", default=None)


class _Adapter(BaseInternalRunAdapterDecorator):  # type: ignore[misc]  # an extra's, not checked
    """Stands around what one run's loop does."""

    def __init__(self, decorated: Any, watch: Watch) -> None:
        super().__init__(decorated)
        self._watch = watch

    async def write_to_event_stream(self, event: Any) -> None:
        """Awaited when an event is published. Nobody else reads them."""
        self._watch.published(event)

    async def on_tick(self, tick: Any) -> None:
        """Awaited for each step's result and each event, before what follows of it begins."""
        await super().on_tick(tick)
        await self._watch.ticked(tick)


class _Runtime(BaseRuntimeDecorator):  # type: ignore[misc]  # an extra's, not checked
    """A workflow's runtime, which lets those runs be watched that are ours."""

    def get_internal_adapter(self, workflow: Any) -> Any:
        """The adapter of the run whose code calls this."""
        inner = super().get_internal_adapter(workflow)
        watch = _current.get()
        return inner if watch is None or watch.workflow is not workflow else _Adapter(inner, watch)


def watched(workflow: Any, watch: Watch) -> Watch:
    """From now on the workflow's runs that this task begins are watched."""
    if not isinstance(workflow.runtime, _Runtime):
        workflow._runtime = _Runtime(workflow.runtime)
    _current.set(watch)
    return watch


def shown(event: Any) -> dict[str, Any]:
    """An event's fields as data, also those that its class does not declare."""
    data = data_of(event)
    more = data.pop("_data", None)
    return {**data, **more} if isinstance(more, dict) else data


def _name(event: Any) -> str:
    """The name by which an event is known: its class's, or that of one which it extends."""
    names = [kind.__name__ for kind in type(event).__mro__]
    return next((name for name in names if name in _OF_AGENTS), names[0])


def _delta(event: Any) -> str | None:
    delta = getattr(event, "delta", None)
    return delta if isinstance(delta, str) else None


def _said(message: Any) -> str:
    if isinstance(message, Mapping):
        return text_of(message.get("content") or "")
    return text_of(getattr(message, "content", message) or "")


def _usage(output: Any) -> Usage | None:
    """The provider's count, of the last piece of its answer; None: there is none."""
    raw = data_of(getattr(output, "raw", None) or {})
    used = raw.get("usage") or {}
    given = used.get("prompt_tokens") or used.get("input_tokens")
    if not given:
        return None
    of_input = used.get("prompt_tokens_details") or used.get("input_tokens_details") or {}
    of_output = used.get("completion_tokens_details") or used.get("output_tokens_details") or {}
    return Usage(
        input_tokens=given,
        output_tokens=used.get("completion_tokens") or used.get("output_tokens") or 0,
        cached_tokens=of_input.get("cached_tokens") or 0,
        reasoning_tokens=of_output.get("reasoning_tokens") or 0,
    )
