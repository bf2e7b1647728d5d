"""What a paused run asks, as forms of MCP's elicitation, and their answers as decisions.

Only for clients that show forms; each call that waits is a form of its own. Before 2026-07-28 a
server asks in the middle of a call; since then the call ends with the forms, and the client calls
again with what was filled in. Which run asks, and who hears of it otherwise, is not known here.
"""

import json
from dataclasses import dataclass
from typing import Any

import mcp_types as types
from mcp import MCPError
from mcp.server import ServerRequestContext
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from pullcord.run.events import RunPaused, ToolCall
from pullcord.run.record import Decision

_MAX_SHOWN = 2000
"""Characters of a call's arguments."""
_FORM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "approved": {
            "type": "boolean",
            "title": "Approve",
            "description": "Whether the call may be made.",
            "default": False,
        },
        "answer": {
            "type": "string",
            "title": "Answer",
            "description": "What the call is to be answered, instead of being made.",
        },
        "note": {"type": "string", "title": "Note", "description": "Why it is declined."},
    },
}


def can_ask(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether the client of this call shows forms, and can be asked now."""
    return _shows_forms(ctx) and ctx.session.can_send_request


def is_called_again(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether the client shows forms, and calls again with their answers."""
    return _shows_forms(ctx) and ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


def _shows_forms(ctx: ServerRequestContext[Any, Any]) -> bool:
    capabilities = ctx.session.client_capabilities
    shows = capabilities.elicitation if capabilities is not None else None
    # A client of 2025-06-18 declares elicitation without modes, and means forms.
    return shows is not None and (shows.form is not None or shows.url is None)


async def asked(
    ctx: ServerRequestContext[Any, Any], pause: RunPaused
) -> tuple[Decision, ...] | None:
    """The decisions of the client's user; None: there are none, or not about all calls."""
    decisions = []
    for call in pause.tool_calls:
        try:
            result = await ctx.session.elicit_form(_words(pause, call), _FORM, ctx.request_id)
        except (MCPError, ValidationError):  # it shows none, or answers what is no answer
            return None
        if result.action == "cancel":
            return None
        decisions.append(_decision(call.tool_call_id, result))
    return tuple(decisions)


@dataclass(frozen=True, slots=True)
class Round:
    """A call that ended with forms: what its next one must know. The client keeps it, so nothing
    in it gives any right."""

    run_id: str
    waits: str
    """The run that asks, which may be a child."""
    sequence: int
    """The number of the pause."""

    def text(self) -> str:
        """As the client keeps it."""
        return json.dumps([self.run_id, self.waits, self.sequence])

    @classmethod
    def of(cls, text: str) -> "Round":
        """Raises ValueError for what is none."""
        match json.loads(text):
            case [str(run_id), str(waits), int(sequence)] if 0 <= sequence < 2**63:
                return cls(run_id, waits, sequence)
        raise ValueError("no state of ours")


def forms(pause: RunPaused, next: Round) -> types.InputRequiredResult:
    """What a pause asks, for a client that calls again."""
    requests: types.InputRequests = {
        call.tool_call_id: types.ElicitRequest(
            params=types.ElicitRequestFormParams(
                message=_words(pause, call), requested_schema=_FORM
            )
        )
        for call in pause.tool_calls
    }
    return types.InputRequiredResult(input_requests=requests, request_state=next.text())


def filled_in(responses: types.InputResponses | None) -> tuple[Decision, ...] | None:
    """The decisions of a call that comes again; None: a form was dismissed, or all are missing."""
    results = {
        id: result
        for id, result in (responses or {}).items()
        if isinstance(result, types.ElicitResult)
    }
    if not results or any(result.action == "cancel" for result in results.values()):
        return None
    return tuple(_decision(id, result) for id, result in results.items())


def _words(pause: RunPaused, call: ToolCall) -> str:
    return f"{pause.question}\n{call.tool_name} {call.arguments}"[:_MAX_SHOWN]


def _decision(id: str, result: types.ElicitResult) -> Decision:
    filled = {name: value for name, value in (result.content or {}).items() if value is not None}
    note = str(filled.get("note", ""))
    if result.action == "decline":
        return Decision(id, note=note)
    answer = str(filled["answer"]) if filled.get("answer") else None
    # Clients leave out a box that was not ticked, so nothing filled in is no approval.
    return Decision(id, approved=filled.get("approved") is True, answer=answer, note=note)
