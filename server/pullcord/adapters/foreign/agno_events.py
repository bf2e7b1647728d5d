"""Translates agno's events into reports, by the names of the events.

Events of an agent and of a team differ by a prefix. Each names its run, so those of parallel runs
are told apart; a run that is not the one that was begun is a child.
"""

import inspect
from collections.abc import Iterator
from typing import Any

from pullcord.adapters.foreign.driver import ForeignRunFailed
from pullcord.adapters.foreign.report import Report
from pullcord.adapters.foreign.values import text_of
from pullcord.run.cancel import Cancellation
from pullcord.run.context import RunContext
from pullcord.run.events import RunError, Source, SourceKind, ToolCallState
from pullcord.run.usage import Usage

_SILENT = frozenset(
    {
        "RunIntermediateContent",
        "RunContentCompleted",
        "RunContinued",
        "RunStarted",
        "StepContinued",
        "StepOutput",
        "WorkflowAgentCompleted",
        "WorkflowAgentStarted",
        "WorkflowStarted",
    }
)
"""Events that say nothing which others do not say."""
_PAUSES = frozenset(
    {"RunPaused", "WorkflowPaused", "StepPaused", "RouterPaused", "ConditionPaused"}
)
_DELEGATION = "delegate_task_to_member"
_CUT = 4096


class Events:
    """One run's events."""

    def __init__(self, ctx: RunContext, report: Report, own: Any) -> None:
        self._ctx = ctx
        self._report = report
        self._async_tools = dict(_tools_of(own))
        self._requirements: list[Any] = []
        self._steps: dict[str, dict[str, Any]] = {}
        self.output: Any = None
        """What agno keeps of the run, once it has paused or ended."""

    def take_requirements(self) -> list[Any]:
        """What the run waits for, if it has paused."""
        taken, self._requirements = self._requirements, []
        return taken

    def steps(self) -> list[dict[str, Any]]:
        """What the steps of a workflow have made so far."""
        return [{**step, "output": text_of(step["output"])} for step in self._steps.values()]

    def take(self, event: Any) -> None:
        """Reports an event. Raises ForeignRunFailed if it says that the run has failed."""
        name = getattr(event, "event", None)
        if not isinstance(name, str):
            self.output = event  # the RunOutput, which comes last
            return
        is_team = name.startswith("Team")
        name = name.removeprefix("Team")
        if event.run_id == self._ctx.run_id:
            self._own(name, event, None)
        else:
            self._of_child(name, event, is_team)

    def _of_child(self, name: str, event: Any, is_team: bool) -> None:
        id = event.team_id if is_team else getattr(event, "agent_id", "")
        called = event.team_name if is_team else getattr(event, "agent_name", "")
        kind = SourceKind.TEAM if is_team else SourceKind.AGENT
        id = id or called or kind.value
        parent = self._report.child(getattr(event, "parent_run_id", None) or "")
        if name in ("RunCompleted", "RunError", "RunCancelled"):
            error = None
            if name != "RunCompleted":
                error = self._error(event, event.content)
                self._report.model_failed(_error_type(event), event.run_id)
            self._report.child_ended(event.run_id, error=error)
            return
        source = self._report.child_started(event.run_id, id, called or id, kind, parent)
        self._own(name, event, source)

    def _own(self, name: str, event: Any, source: Source | None) -> None:
        report, call = self._report, event.run_id
        match name:
            case "ModelRequestStarted":
                self._model_began(event)
            case "ModelRequestCompleted":
                report.model_ended(_usage(event), call)
            case "RunContent":
                if isinstance(event.reasoning_content, str):
                    report.reasoning(event.reasoning_content, source, call=call)
                if isinstance(event.content, str):
                    report.text(event.content, source, call=call)
                    self._say_in_step(event)
            case "ReasoningContentDelta" | "ReasoningStep":
                words = getattr(event, "reasoning_content", None)
                report.reasoning(words if isinstance(words, str) else "", source, call=call)
            case "ToolCallStarted":
                self._tool_started(event.tool, source)
            case "ToolCallCompleted" | "ToolCallError":
                self._tool_ended(event.tool, name, source)
            case "StepStarted":
                self._step_started(event)
            case "StepCompleted" | "StepError":
                self._step_ended(event, name)
            case "RunCompleted" | "WorkflowCompleted" if source is None:
                report.output(event.content)
            case "RunError" | "WorkflowError" if source is None:
                words = text_of(getattr(event, "content", None) or getattr(event, "error", ""))
                report.model_failed(_error_type(event), call)
                raise ForeignRunFailed(f"{_error_type(event)}: {words}")
            case "RunCancelled" | "WorkflowCancelled" if source is None:
                if not self._ctx.cancel_token.cancelled:
                    self._ctx.cancel(Cancellation(reason=text_of(event.reason)))
            case _ if name in _PAUSES:
                waiting = getattr(event, "requirements", None) or [event]
                self._requirements = list(waiting)
            case _ if name not in _SILENT:
                report.custom(name, _told(event), source)

    def _model_began(self, event: Any) -> None:
        self._report.model_began(
            event.run_id,
            said=self._ctx.input,
            model=event.model or "",
            provider=(event.model_provider or "").lower(),
            has_begun=True,
        )

    # --- tools

    def _tool_started(self, tool: Any, source: Source | None) -> None:
        name = tool.tool_name or "tool"
        delegates = name.startswith(_DELEGATION)
        self._report.tool_started(
            tool.tool_call_id or name,
            name,
            tool.tool_args or {},
            is_async=True if delegates else self._async_tools.get(name),
            source=source,
            has_begun=True,
            holds=not delegates,
        )

    def _tool_ended(self, tool: Any, event: str, source: Source | None) -> None:
        failed = event == "ToolCallError" or tool.tool_call_error
        state = ToolCallState.FAILED if failed else ToolCallState.COMPLETED
        id = tool.tool_call_id or tool.tool_name or "tool"
        self._report.tool_ended(id, tool.result, state, source=source)

    # --- steps

    def _step_started(self, event: Any) -> None:
        id = event.step_id or event.step_name or "step"
        self._steps[id] = {"step_id": id, "name": event.step_name or "", "output": ""}
        self._steps[id]["state"] = "running"
        self._report.step_started(id, event.step_name or "")

    def _step_ended(self, event: Any, name: str) -> None:
        id = event.step_id or event.step_name or "step"
        output = text_of(getattr(event, "content", ""))
        error = None
        if name == "StepError":
            error = self._error(event, getattr(event, "error", ""))
        step = self._steps.setdefault(id, {"step_id": id, "name": event.step_name or ""})
        step["output"] = output or step.get("output", "")
        step["state"] = "completed" if error is None else "failed"
        self._report.step_ended(id, event.step_name or "", output, error)

    def _error(self, event: Any, words: Any) -> RunError:
        return self._ctx.reported_error(_error_type(event), text_of(words))

    def _say_in_step(self, event: Any) -> None:
        """A step that is stopped has what its agent had said."""
        if (step := self._steps.get(getattr(event, "step_id", None) or "")) is not None:
            step["output"] += event.content


def _usage(event: Any) -> Usage:
    return Usage(
        input_tokens=event.input_tokens or 0,
        output_tokens=event.output_tokens or 0,
        reasoning_tokens=event.reasoning_tokens or 0,
        cached_tokens=event.cache_read_tokens or 0,
    )


def _error_type(event: Any) -> str:
    return str(getattr(event, "error_type", None) or type(event).__name__)


def _told(event: Any) -> dict[str, str]:
    """The fields of an event other than ids and times, as text."""
    known = {"event", "run_id", "session_id", "created_at", "nested_depth"}
    fields = ((name, value) for name, value in vars(event).items() if name not in known)
    return {
        name: text_of(value)[:_CUT] for name, value in fields if value not in (None, "", [], {})
    }


def _tools_of(own: Any) -> Iterator[tuple[str, bool]]:
    """Whether each tool of an agent, a team and its members is async, by name."""
    tools = getattr(own, "tools", None)
    for tool in tools if isinstance(tools, list) else ():
        for name, function in _functions_of(tool):
            yield name, inspect.iscoroutinefunction(function)
    members = getattr(own, "members", None)
    for member in members if isinstance(members, list) else ():
        yield from _tools_of(member)


def _functions_of(tool: Any) -> Iterator[tuple[str, Any]]:
    if (functions := getattr(tool, "functions", None)) is not None:  # a Toolkit
        both = {**functions, **getattr(tool, "async_functions", {})}
        for name, function in both.items():
            yield name, getattr(function, "entrypoint", function)
    elif (entrypoint := getattr(tool, "entrypoint", None)) is not None:
        yield tool.name, inspect.unwrap(entrypoint)
    else:
        yield getattr(tool, "__name__", ""), tool
