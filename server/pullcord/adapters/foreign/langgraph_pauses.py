"""A graph's interrupts as questions, and the decisions about them as what resumes the graph.

LangChain's approvals name tool calls. Any other interrupt becomes a question of its own: an answer
is its value, an approval is True, and a refusal is False.
"""

import json
from collections.abc import Sequence
from typing import Any

from pullcord.adapters.foreign.report import Report
from pullcord.adapters.foreign.values import text_of
from pullcord.run.events import ToolCall
from pullcord.run.record import Decision

_INTERRUPT = "interrupt"


class Pause:
    """The interrupts that a paused graph waits for."""

    def __init__(self, interrupts: Sequence[Any], values: Any) -> None:
        self._interrupts = tuple(interrupts)
        self._asked: list[tuple[Any, list[ToolCall], bool]] = []
        messages = values.get("messages", []) if isinstance(values, dict) else []
        open = [call for m in messages if m.type == "ai" for call in m.tool_calls]
        for interrupt in self._interrupts:
            actions = _actions(interrupt.value)
            calls = [_call_of(action, open) for action in actions]
            question = ToolCall(interrupt.id, _INTERRUPT, text_of(interrupt.value))
            self._asked.append((interrupt, calls or [question], bool(calls)))

    @property
    def calls(self) -> list[ToolCall]:
        """The calls to decide about, in order."""
        return [call for _, calls, _ in self._asked for call in calls]

    @property
    def question(self) -> str:
        """The words of the question."""
        names = dict.fromkeys(
            call.tool_name for _, calls, are_tools in self._asked if are_tools for call in calls
        )
        if names:
            return f"May {' and '.join(names)} be called?"
        return text_of(self._interrupts[0].value)[:1000]

    def resume(self, decisions: Sequence[Decision], report: Report) -> dict[str, Any]:
        """The value that resumes each interrupt, by its id."""
        decided = iter(decisions)
        resumed: dict[str, Any] = {}
        for interrupt, calls, are_tools in self._asked:
            made = [next(decided) for _ in calls]
            if are_tools:
                resumed[interrupt.id] = _answers(interrupt.value, made)
                continue
            decision = made[0]
            if decision.answer is None and decision.approved:
                report.tool_started(interrupt.id, _INTERRUPT, calls[0].arguments, is_async=True)
                report.tool_ended(interrupt.id, "approved")
            resumed[interrupt.id] = (
                decision.approved if decision.answer is None else decision.answer
            )
        return resumed


def _actions(value: Any) -> list[Any]:
    """The tool calls that LangChain's approval middleware asks about, together or one by one."""
    if not isinstance(value, dict):
        return []
    if isinstance(actions := value.get("action_requests"), list):
        return actions
    if value.get("type") == "tool_approval":
        action = value.get("action_request") or value.get("tool_call") or value
        return [action] if "name" in action else []
    return []


def _call_of(action: Any, open: list[Any]) -> ToolCall:
    """The model's call that an action is; each is taken once."""
    for call in open:
        if call["name"] == action["name"] and call["args"] == action["args"]:
            open.remove(call)
            return ToolCall(call["id"], call["name"], json.dumps(call["args"]))
    return ToolCall(f"{action['name']}-{len(open)}", action["name"], text_of(action["args"]))


def _answers(value: Any, decisions: Sequence[Decision]) -> Any:
    answers = [_answer(decision) for decision in decisions]
    return {"decisions": answers} if "action_requests" in value else answers[0]


def _answer(decision: Decision) -> dict[str, str]:
    if decision.answer is not None:
        return {"type": "respond", "message": decision.answer}
    if decision.approved:
        return {"type": "approve"}
    return {"type": "reject", "message": decision.note or "Declined. The tool was not executed."}
