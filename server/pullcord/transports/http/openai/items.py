"""A run as OpenAI's response object, and its parts as output items. Values only."""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import json_format

from pullcord.run.events import ToolCall, ToolCallState
from pullcord.run.finish import FinishReason
from pullcord.run.record import Run
from pullcord.run.state import RunState
from pullcord.run.usage import Usage
from pullcord.wire.run import run_message

Json = dict[str, Any]

SERVER = "pullcord"
"""The label of who calls the tools: a client sees calls that are not for it to make."""

_CUT = {
    FinishReason.LENGTH: "max_output_tokens",
    FinishReason.CONTENT_FILTER: "content_filter",
}
_DONE = {
    ToolCallState.COMPLETED: "completed",
    ToolCallState.RUNNING: "in_progress",
    ToolCallState.WAITING: "in_progress",
    ToolCallState.APPROVED: "in_progress",
    ToolCallState.INTERRUPTED: "incomplete",
    ToolCallState.UNKNOWN: "incomplete",
}
_SAID = ("state", "cancellation", "abandoned", "killedProcesses", "error", "runnable", "runId")


def response(run: Run, output: Sequence[Json], more: Mapping[str, Any] | None = None) -> Json:
    """The response object of a run, with these items."""
    status = status_of(run)
    ours = json_format.MessageToDict(run_message(run))
    reason = _CUT.get(run.finish_reason) if run.finish_reason is not None else None
    error = None
    if status == "failed" and run.error is not None:
        error = {"code": "server_error", "message": run.error.words}
    return {
        "id": run.run_id,
        "object": "response",
        "created_at": run.create_time,
        "completed_at": run.end_time if status == "completed" else None,
        "status": status,
        "background": True,
        "error": error,
        "incomplete_details": {"reason": reason} if status == "incomplete" else None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": dict(run.labels),
        "model": run.runnable,
        "output": list(output),
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "conversation": {"id": run.session_id} if run.session_id else None,
        "store": True,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "usage": usage(run.usage),
        "user": run.user_id or None,
        SERVER: {key: ours[key] for key in _SAID if key in ours}
        | {"sequence": run.last_sequence}
        | dict(more or {}),
    }


def status_of(run: Run) -> str:
    """The word for where a run is. OpenAI has none for a pause, nor for a stop under way."""
    match run.state:
        case RunState.PENDING:
            return "queued"
        case RunState.COMPLETED:
            return "incomplete" if run.finish_reason in _CUT else "completed"
        case RunState.CANCELLED:
            return "cancelled"
        case RunState.FAILED:
            return "failed"
    return "in_progress"


def usage(used: Usage) -> Json:
    """Tokens, in OpenAI's words."""
    return {
        "input_tokens": used.input_tokens,
        "input_tokens_details": {"cached_tokens": used.cached_tokens},
        "output_tokens": used.output_tokens,
        "output_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
        "total_tokens": used.total_tokens,
    }


def output_of(run: Run) -> list[Json]:
    """The items of a run that was not followed: its tool calls, and then all of its text."""
    items = [tool_item(call) for call in run.tool_calls if not call.run_id]
    items += [
        approval_item(call)
        for call in run.tool_calls
        if call.state is ToolCallState.WAITING and not call.run_id
    ]
    if run.output:
        ended = "completed" if run.state is RunState.COMPLETED else "incomplete"
        status = ended if run.state.is_terminal else "in_progress"
        items.append(message_item(f"msg_{run.run_id}_0", run.output, status))
    return items


def message_item(id: str, text: str, status: str) -> Json:
    """Text of the runnable's."""
    return {
        "id": id,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [text_part(text)] if text or status != "in_progress" else [],
    }


def text_part(text: str) -> Json:
    """The one part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def reasoning_item(id: str, text: str, status: str) -> Json:
    """Thinking of the model's."""
    content = [{"type": "reasoning_text", "text": text}] if text else []
    return {"id": id, "type": "reasoning", "summary": [], "content": content, "status": status}


def tool_item(call: ToolCall) -> Json:
    """A tool call that the server makes: as that of an MCP server, which clients only show."""
    failed = call.state is ToolCallState.FAILED
    declined = call.state is ToolCallState.DECLINED
    return {
        "id": f"mcp_{call.tool_call_id}",
        "type": "mcp_call",
        "server_label": SERVER,
        "name": call.tool_name,
        "arguments": call.arguments,
        "status": _DONE.get(call.state, "failed"),
        "output": None if failed or declined else call.result or None,
        "error": (call.result or "declined") if failed or declined else None,
    }


def approval_item(call: ToolCall) -> Json:
    """A tool call that waits for somebody's approval."""
    return {
        "id": f"apr_{call.tool_call_id}",
        "type": "mcp_approval_request",
        "server_label": SERVER,
        "name": call.tool_name,
        "arguments": call.arguments,
    }
