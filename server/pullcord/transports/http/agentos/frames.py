"""A run's events as AgentOS's: one or none for each. Nothing is asked here, and nothing awaited.

`event_index` is our `sequence`, counted from 0, so "the events after that one" mean the same.
Names that agno's client does not know would be errors in its log, so what has no word there (a
gap, an author's own event) is a CustomEvent.
"""

import json
from dataclasses import replace

from pullcord.engine.log.record import Record
from pullcord.run.events import (
    Custom,
    Event,
    Gap,
    Progress,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunFailed,
    RunPaused,
    RunStarted,
    Snapshot,
    Source,
    SourceKind,
    StepCompleted,
    StepStarted,
    ToolCallCompleted,
    ToolCallStarted,
    ToolCallState,
)
from pullcord.run.record import Run
from pullcord.run.runnable import RunnableInfo
from pullcord.run.state import RunState
from pullcord.transports.http.agentos import items
from pullcord.transports.http.agentos.items import Json

_PREFIX = {SourceKind.AGENT: "", SourceKind.TEAM: "Team", SourceKind.WORKFLOW: ""}
_SEEN_IN = {
    SourceKind.AGENT: {SourceKind.AGENT},
    SourceKind.TEAM: {SourceKind.AGENT, SourceKind.TEAM},
    SourceKind.WORKFLOW: {SourceKind.AGENT, SourceKind.TEAM, SourceKind.STEP},
}
"""The children that a stream shows: agno's readers of each kind of stream know no others."""


class Frames:
    """Makes the events of one stream."""

    def __init__(self, run: Run, info: RunnableInfo, *, only_content: bool = False) -> None:
        """`run` says what events do not."""
        self._run = run
        self._info = info
        self._missed: Gap | None = None
        self._only_content = only_content
        self._steps = {id: index for index, id in enumerate(info.members)}

    def of(self, record: Record) -> Json | None:
        """The event of one record."""
        if isinstance(record.payload, Gap):
            self._missed = record.payload  # a snapshot follows
            return None
        if isinstance(record.payload, Snapshot):
            return self._snapshot(record.payload.run, record)
        event = record.event(self._run.run_id)
        source = event.source
        if isinstance(record.payload, RunPaused | RunContinued):
            source = None  # in agno a run pauses as a whole, so this is said of the outermost run
        kind = self._info.kind if source is None else source.kind
        if source is not None and kind not in _SEEN_IN[self._info.kind]:
            return None
        told: tuple[str, Json] | None = None
        if record.payload is None:
            told = self._delta(record, kind)
        elif not self._only_content:
            told = self._told(event, kind)
        if told is None:
            return None
        name, data = told
        return {
            "created_at": int(record.create_time),
            "event": name,
            **self._whose(source),
            "session_id": self._run.session_id,
            "nested_depth": 0,
            "event_index": record.sequence - 1,
            **data,
        }

    # --- whose it is

    def _whose(self, source: Source | None) -> Json:
        info = self._info
        if source is None or source.kind is SourceKind.STEP:
            told = items.who(info.kind, info.id, info.display_name)
            return {**told, "run_id": self._run.run_id}
        told = items.who(source.kind, source.id, source.name)
        told |= {"run_id": source.run_id, "parent_run_id": self._run.run_id}
        if info.kind is SourceKind.WORKFLOW:
            told |= {"workflow_id": info.id, "workflow_run_id": self._run.run_id}
            if len(source.path) > 1:
                told |= self._step(source.path[1], "")
        return told

    def _step(self, id: str, name: str) -> Json:
        index = self._steps.setdefault(id, len(self._steps))
        return {"step_id": id, "step_name": name or id, "step_index": index}

    # --- what it says

    def _delta(self, record: Record, kind: SourceKind) -> tuple[str, Json]:
        name = f"{_PREFIX.get(kind, '')}RunContent"
        if record.reasoning:
            return name, {"content_type": "str", "reasoning_content": record.text}
        return name, {"content": record.text, "content_type": "str", "reasoning_content": ""}

    def _told(self, event: Event, kind: SourceKind) -> tuple[str, Json] | None:
        prefix, payload, source = _PREFIX.get(kind, ""), event.payload, event.source
        is_workflow = kind is SourceKind.WORKFLOW
        match payload:
            case RunStarted():
                return ("WorkflowStarted" if is_workflow else f"{prefix}RunStarted"), {}
            case ToolCallStarted(call):
                return f"{prefix}ToolCallStarted", {"tool": items.tool(call)}
            case ToolCallCompleted(call) if call.state is ToolCallState.FAILED:
                told = {"tool": items.tool(call), "error": call.result}
                return f"{prefix}ToolCallError", told
            case ToolCallCompleted(call):
                return f"{prefix}ToolCallCompleted", {"tool": items.tool(call)}
            case StepStarted(id, name):
                return "StepStarted", self._step(id, name)
            case StepCompleted():
                return self._step_ended(payload)
            case RunPaused():
                return self._paused(payload, event, kind)
            case RunContinued() if not is_workflow:
                return f"{prefix}RunContinued", {}
            case RunCompleted():
                name = "WorkflowCompleted" if is_workflow else f"{prefix}RunCompleted"
                told = {"content": payload.output, "content_type": "str"}
                if source is not None:
                    return name, {**told, "metrics": items.metrics(payload.usage)}
                run = replace(
                    self._run,
                    usage=payload.usage,
                    output_data=payload.output_data,
                    end_time=event.create_time,
                )
                return name, {**told, **items.ended(run, kind)}
            case RunCancelled():
                name = "WorkflowCancelled" if is_workflow else f"{prefix}RunCancelled"
                run_id = self._run.run_id if source is None else source.run_id
                return name, {
                    "content": payload.output,
                    "reason": items.why(run_id, payload.cancellation),
                    "cancellation": items.cancellation(payload.cancellation),
                }
            case RunFailed(error):
                told = {"error_type": error.type, "output": payload.output}
                if is_workflow:
                    return "WorkflowError", {**told, "error": error.message}
                return f"{prefix}RunError", {**told, "content": error.message}
            case Custom(name, value):
                return "CustomEvent", {"name": name, "value": value}
            case Progress(done, total, note):
                value = {"done": done, "total": total, "note": note}
                return "CustomEvent", {"name": "progress", "value": value}
        return None

    def _step_ended(self, step: StepCompleted) -> tuple[str, Json]:
        told = self._step(step.step_id, step.name)
        if step.state is RunState.FAILED:
            return "StepError", {**told, "error": "" if step.error is None else step.error.message}
        response = {
            "step_name": step.name or step.step_id,
            "step_id": step.step_id,
            "step_type": "Step",
            "content": step.output,
            "success": step.state is RunState.COMPLETED,
        }
        more = {"content": step.output, "content_type": "str", "state": step.state.value}
        return "StepCompleted", {**told, **more, "step_response": response}

    def _paused(self, pause: RunPaused, event: Event, kind: SourceKind) -> tuple[str, Json]:
        at, asker = event.create_time, event.source
        if kind is SourceKind.WORKFLOW:
            waiting = items.step_requirements(pause.tool_calls, at, asker)
            told = {"status": "PAUSED", "content": pause.question, "step_requirements": waiting}
            return "WorkflowPaused", told
        return f"{_PREFIX[kind]}RunPaused", {
            "content": pause.question,
            "tools": [items.tool(call) for call in pause.tool_calls],
            "requirements": items.requirements(pause.tool_calls, at, asker),
        }

    def _snapshot(self, run: Run, record: Record) -> Json:
        """Events are no longer kept: which, and the text that replaces all that the client has."""
        first = record.sequence if self._missed is None else self._missed.first_sequence
        last = record.sequence if self._missed is None else self._missed.last_sequence
        return {
            "created_at": int(record.create_time),
            "event": "CustomEvent",
            **self._whose(None),
            "session_id": run.session_id,
            "nested_depth": 0,
            "event_index": record.sequence - 1,
            "name": "missed",
            "missed": {"from_index": first - 1, "to_index": last - 1},
            "content": run.output,
            "content_type": "str",
        }


def line(event: Json, name: str = "") -> bytes:
    """One server-sent event. ASCII only: a reader by lines must not tear it at U+2028."""
    told = json.dumps(event, separators=(",", ":"), default=str)
    return f"event: {name or event['event']}\ndata: {told}\n\n".encode("ascii")
