"""What a paused run asks, as forms of MCP's elicitation, and their answers as decisions.

Only for clients that show forms, over a connection on which a server may ask; each call that waits
is a form of its own. Which run asks, and who hears of it otherwise, is not known here.
"""

from typing import Any

import mcp_types as types
from mcp import MCPError
from mcp.server import ServerRequestContext

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
            "description": "Whether the call is to be made.",
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
    capabilities = ctx.session.client_capabilities
    shows = capabilities.elicitation if capabilities is not None else None
    # A client of 2025-06-18 declares elicitation without modes, and means forms.
    has_forms = shows is not None and (shows.form is not None or shows.url is None)
    return has_forms and ctx.session.can_send_request


async def asked(
    ctx: ServerRequestContext[Any, Any], pause: RunPaused
) -> tuple[Decision, ...] | None:
    """The decisions of the client's user; None: there are none, or not about all calls."""
    decisions = []
    for call in pause.tool_calls:
        words = f"{pause.question}\n{call.tool_name} {call.arguments}"[:_MAX_SHOWN]
        try:
            result = await ctx.session.elicit_form(words, _FORM, ctx.request_id)
        except MCPError:
            return None
        if result.action == "cancel":
            return None
        decisions.append(_decision(call, result))
    return tuple(decisions)


def _decision(call: ToolCall, result: types.ElicitResult) -> Decision:
    filled = {name: value for name, value in (result.content or {}).items() if value is not None}
    note = str(filled.get("note", ""))
    if result.action == "decline":
        return Decision(call.tool_call_id, note=note)
    answer = str(filled["answer"]) if filled.get("answer") else None
    # A form that was sent as it is, with nothing filled in, says yes.
    approved = filled.get("approved") is True or not filled
    return Decision(call.tool_call_id, approved=approved, answer=answer, note=note)
