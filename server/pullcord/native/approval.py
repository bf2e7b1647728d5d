"""Asking somebody about the calls of a model's turn that need it: once, for all of them.

What is asked and what the model hears of the decision. When a run pauses is the engine's business,
and executing an approved call the loop's.
"""

from collections.abc import Iterable, Mapping, Sequence

from pullcord.models.base import ToolRequest
from pullcord.native.tools import CallableTool
from pullcord.run.context import RunContext
from pullcord.run.events import ToolCall
from pullcord.run.record import Decision


def to_be_asked_about(
    tools: Mapping[str, CallableTool], wanted: Sequence[tuple[str, ToolRequest]]
) -> list[ToolCall]:
    """Those of a turn's calls that wait for a decision."""
    return [
        ToolCall(ledger_id, request.name, request.arguments)
        for ledger_id, request in wanted
        if (tool := tools.get(request.name)) is not None
        and tool.is_to_be_asked_about(request.arguments)
    ]


async def decisions_on(
    ctx: RunContext, calls: Sequence[ToolCall], continuation: bytes | None
) -> dict[str, Decision]:
    """The decisions by the calls' ids, once they have been made."""
    decisions = await ctx.ask(_question(calls), calls, continuation=continuation)
    return by_call([call.tool_call_id for call in calls], decisions)


def by_call(ids: Iterable[str], decisions: Iterable[Decision]) -> dict[str, Decision]:
    """Decisions by the ids of the calls, which are in the same order."""
    return dict(zip(ids, decisions, strict=True))


def answer_of(decision: Decision) -> str | None:
    """The text that the model gets instead of a result; None: the call must be executed."""
    if decision.answer is not None:
        return decision.answer
    if decision.approved:
        return None
    why = f": {decision.note}" if decision.note else ""
    return f"Declined{why}. The tool was not executed."


def _question(calls: Sequence[ToolCall]) -> str:
    names = list(dict.fromkeys(call.tool_name for call in calls))
    return f"May {' and '.join(names)} be called?"
