"""Asking somebody about the calls of a model's turn that need it: once, for all of them.

What is asked and what the model hears of the decision. When a run pauses is the engine's business,
and executing an approved call the loop's.
"""

from collections.abc import Mapping, Sequence

from pullcord.models.base import ToolRequest
from pullcord.native.tools import Tool
from pullcord.run.context import RunContext
from pullcord.run.events import ToolCall
from pullcord.run.record import Decision


async def decisions_on(
    ctx: RunContext, tools: Mapping[str, Tool], wanted: Sequence[tuple[str, ToolRequest]]
) -> dict[str, Decision]:
    """The decisions by the calls' ids, once they have been made; none where none are needed."""
    calls = [
        ToolCall(ledger_id, request.name, request.arguments)
        for ledger_id, request in wanted
        if (tool := tools.get(request.name)) is not None
        and tool.is_to_be_asked_about(request.arguments)
    ]
    if not calls:
        return {}
    decisions = await ctx.ask(_question(calls), calls)
    return {call.tool_call_id: made for call, made in zip(calls, decisions, strict=True)}


def answer_of(decision: Decision) -> str | None:
    """What the model is told instead of a result; None: the call is to be executed."""
    if decision.answer is not None:
        return decision.answer
    if decision.approved:
        return None
    why = f": {decision.note}" if decision.note else ""
    return f"Declined{why}. The tool was not executed."


def _question(calls: Sequence[ToolCall]) -> str:
    names = list(dict.fromkeys(call.tool_name for call in calls))
    return f"May {' and '.join(names)} be called?"
