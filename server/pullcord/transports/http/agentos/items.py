"""Runs and tool calls in AgentOS's words. No event is made here, and nothing is asked.

Their fields are a superset of what agno's client reads; fields of ours ride along, which it drops.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pullcord.run.cancel import Cancellation
from pullcord.run.events import Source, SourceKind, ToolCall, ToolCallState
from pullcord.run.record import Run
from pullcord.run.runnable import RunnableInfo
from pullcord.run.state import RunState
from pullcord.run.usage import Usage

Json = dict[str, Any]

STATUS: Mapping[RunState, str] = {
    RunState.PENDING: "PENDING",
    RunState.RUNNING: "RUNNING",
    RunState.PAUSED: "PAUSED",
    # There is no word for a run that is being stopped.
    RunState.CANCELLING: "RUNNING",
    RunState.COMPLETED: "COMPLETED",
    RunState.CANCELLED: "CANCELLED",
    RunState.FAILED: "ERROR",
}
STATES: Mapping[str, frozenset[RunState]] = {
    word: frozenset(state for state, other in STATUS.items() if other == word)
    for word in STATUS.values()
}


def tool(call: ToolCall) -> Json:
    """A tool execution."""
    waits = call.state is ToolCallState.WAITING
    confirmed = {
        ToolCallState.APPROVED: True,
        ToolCallState.DECLINED: False,
    }.get(call.state)
    failed = call.state in (
        ToolCallState.FAILED,
        ToolCallState.INTERRUPTED,
        ToolCallState.UNKNOWN,
    )
    ended = failed or call.state is ToolCallState.COMPLETED
    declined = call.state is ToolCallState.DECLINED
    return {
        "tool_call_id": call.tool_call_id,
        "tool_name": call.tool_name,
        "tool_args": _arguments(call.arguments),
        "tool_call_error": failed if ended else None,
        "result": None if declined else call.result or None,
        "child_run_id": call.run_id or None,
        "stop_after_tool_call": False,
        "created_at": int(call.start_time) or None,
        "requires_confirmation": True if waits or confirmed is not None else None,
        "confirmed": confirmed,
        "confirmation_note": call.result if declined else None,
        "state": call.state.value,
    }


def _arguments(text: str) -> Any:
    """The arguments as an object; of text that was cut, the text."""
    try:
        read = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {"arguments": text}
    return read if isinstance(read, dict) else {"arguments": read}


def status_of(run: Run) -> str:
    """The word for where a run is. A child that waits pauses what it belongs to: agno's clients
    ask for a decision only then."""
    if run.state is RunState.RUNNING and _waiting(run):
        return STATUS[RunState.PAUSED]
    return STATUS[run.state]


def _waiting(run: Run) -> list[ToolCall]:
    return [call for call in run.tool_calls if call.state is ToolCallState.WAITING]


def requirements(
    calls: Iterable[ToolCall], created_at: float, asker: Source | None = None
) -> list[Json]:
    """The requirements of a pause. `asker`: the child that asks, as far as it is known."""
    whose = {} if asker is None else {f"member_agent_{k}": v for k, v in _named(asker).items()}
    return [
        {
            "id": call.tool_call_id,
            "created_at": iso(created_at),
            "tool_execution": tool(call),
            "member_run_id": call.run_id or None,
            **whose,
        }
        for call in calls
    ]


def _named(source: Source) -> Json:
    return {"id": source.id, "name": source.name or source.id}


def step_requirements(
    calls: Iterable[ToolCall], created_at: float, asker: Source | None = None
) -> list[Json]:
    """The same of a workflow: one for each child run whose calls wait."""
    step: Json = {}
    if asker is not None:
        step = {f"executor_{k}": v for k, v in _named(asker).items()}
        step["executor_type"] = asker.kind.value
        step |= {"step_id": asker.path[1], "step_name": asker.path[1]} if asker.path[1:] else {}
    by_child: dict[str, list[ToolCall]] = {}
    for call in calls:
        by_child.setdefault(call.run_id, []).append(call)
    return [
        {
            "step_id": child or "workflow",
            "requires_executor_input": True,
            "executor_run_id": child,
            "executor_requirements": requirements(waiting, created_at),
            **step,
        }
        for child, waiting in by_child.items()
    ]


def metrics(used: Usage) -> Json:
    """Tokens, in their words."""
    told: Json = {
        "input_tokens": used.input_tokens,
        "output_tokens": used.output_tokens,
        "total_tokens": used.total_tokens,
        "reasoning_tokens": used.reasoning_tokens,
        "cache_read_tokens": used.cached_tokens,
    }
    return told | ({} if used.cost is None else {"cost": used.cost})


def cancellation(stop: Cancellation | None) -> Json | None:
    """The stop: who, why and when; a field of ours."""
    if stop is None:
        return None
    return {
        "cause": stop.cause.value,
        "actor": stop.actor,
        "reason": stop.reason,
        "mode": stop.mode.value,
        "accepted_at": iso(stop.accept_time),
    }


def why(run_id: str, stop: Cancellation | None) -> str:
    """The words of a RunCancelled."""
    words = f"Run {run_id} was cancelled"
    if stop is None or not stop.reason:
        return words
    return f"{words}: {stop.reason}"


def who(kind: SourceKind, id: str, name: str) -> Json:
    """`agent_id` and `agent_name`, or those of a team or a workflow."""
    return {f"{kind.value}_id": id, f"{kind.value}_name": name or id}


def output(run: Run, info: RunnableInfo) -> Json:
    """A run as its RunOutput, TeamRunOutput or WorkflowRunOutput."""
    waiting = _waiting(run)
    told: Json = {
        "run_id": run.run_id,
        **who(info.kind, info.id, info.display_name),
        "session_id": run.session_id,
        "parent_run_id": run.parent_run_id or None,
        "user_id": run.user_id or None,
        "content": _content(run),
        "content_type": "str",
        "created_at": int(run.create_time),
        "status": status_of(run),
        "cancellation_stage": _stage(run),
        "metadata": dict(run.labels) or None,
        "state": run.state.value,
        "cancellation": cancellation(run.cancellation),
        "output_data": None if run.output_data is None else dict(run.output_data),
        "last_event_index": run.last_sequence - 1,
    }
    if run.error is not None:
        told["error"] = {"type": run.error.type, "message": run.error.message}
    if info.kind is SourceKind.WORKFLOW:
        told["input"] = run.input
        told |= ended(run, info.kind)
        told["usage"] = metrics(run.usage)
        told["step_requirements"] = step_requirements(waiting, run.create_time) or None
        return told
    told["input"] = {"input_content": run.input}
    told |= ended(run, info.kind)
    told["tools"] = [tool(call) for call in run.tool_calls]
    told["requirements"] = requirements(waiting, run.create_time) or None
    return told


def ended(run: Run, kind: SourceKind) -> Json:
    """The usage of a run, and the results of its children."""
    if kind is SourceKind.WORKFLOW:
        # Their metrics of a workflow are of its steps and its time, and none of tokens.
        begun = run.start_time or run.create_time
        duration = max(0.0, run.end_time - begun) if run.end_time else None
        results = _made(run, "steps", _step)
        return {"step_results": results, "metrics": {"steps": {}, "duration": duration}}
    told: Json = {"metrics": metrics(run.usage)}
    if kind is SourceKind.TEAM:
        told["member_responses"] = _made(run, "members", _member)
    return told


def entry(run: Run, info: RunnableInfo) -> Json:
    """A run as the list has it."""
    told = output(run, info)
    return {
        **told,
        "run_input": run.input,
        "created_at": iso(run.create_time),
        "parent_run_id": run.parent_run_id,
        "user_id": run.user_id,
        "messages": None,
        "events": None,
    }


def iso(seconds: float) -> str:
    """A time as they write it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _content(run: Run) -> str:
    """The text so far; of a run that failed without a word, the error's words."""
    if run.error is not None and not run.output:
        return run.error.message
    return run.output


def _stage(run: Run) -> str | None:
    if run.state is not RunState.CANCELLED:
        return None
    return "EXECUTING" if run.start_time else "PENDING"


def _made(run: Run, name: str, told: Any) -> list[Json]:
    """The results of children, as a run's data lists them."""
    made = (run.output_data or {}).get(name)
    if not isinstance(made, Sequence) or isinstance(made, str):
        return []
    return [told(one, run) for one in made if isinstance(one, Mapping)]


def _step(one: Mapping[str, Any], run: Run) -> Json:
    name = str(one.get("path") or one.get("name") or "")
    return {
        "step_name": name,
        "step_id": name,
        "step_type": "Step",
        "step_run_id": one.get("run_id"),
        "content": one.get("output"),
        "success": one.get("state") == "completed",
    }


def _member(one: Mapping[str, Any], run: Run) -> Json:
    state = one.get("state")
    known = [s for s in RunState if s.value == state]
    return {
        "run_id": one.get("run_id"),
        "agent_id": one.get("member"),
        "agent_name": one.get("member"),
        "session_id": run.session_id,
        "parent_run_id": run.run_id,
        "content": one.get("output"),
        "content_type": "str",
        "status": STATUS[known[0]] if known else None,
    }
