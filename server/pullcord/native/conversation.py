"""What an agent tells its model before the first answer: instructions, earlier turns, the input.

Values in, values out. An earlier turn that was stopped is part of the conversation like any other,
with what it had made and a note that it was stopped.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pullcord.models.base import AssistantMessage, Message, SystemMessage, UserMessage
from pullcord.run.events import ToolCallState
from pullcord.run.record import Run, canonical
from pullcord.run.state import RunState

_NO_INPUT = "[no input]"
"""Many providers take no empty message."""


def system_text(description: str, instructions: str | Iterable[str]) -> str:
    """The system message: the description, then the instructions, several as a list."""
    several = [instructions] if isinstance(instructions, str) else list(instructions)
    if len(several) > 1:
        several = ["\n".join(f"- {one}" for one in several)]
    return "\n\n".join(part for part in (description, *several) if part)


def conversation(
    system: str, history: Iterable[Run], input: str, input_data: Mapping[str, Any] | None
) -> list[Message]:
    """Everything the model is to know, oldest first."""
    messages: list[Message] = [SystemMessage(system)] if system else []
    for run in history:
        messages.append(UserMessage(run.input or _NO_INPUT))
        messages.append(AssistantMessage(_answer(run)))
    data = canonical(input_data) if input_data else ""
    messages.append(UserMessage("\n\n".join(part for part in (input, data) if part) or _NO_INPUT))
    return messages


def _answer(run: Run) -> str:
    if run.state is RunState.COMPLETED:
        return run.output if run.output.strip() else "[this answer was empty]"
    how = "was stopped" if run.state is RunState.CANCELLED else "failed"
    # What its tools have done to the world, the model must not do again unknowingly.
    calls = "".join(f"; it called {c.tool_name}, {_OUTCOME[c.state]}" for c in run.tool_calls)
    note = f"[this answer {how} before its end{calls}]"
    return f"{run.output}\n\n{note}" if run.output else note


_OUTCOME = {
    ToolCallState.RUNNING: "which may have taken effect",
    ToolCallState.COMPLETED: "which completed",
    ToolCallState.FAILED: "which failed",
    ToolCallState.INTERRUPTED: "which was interrupted",
    ToolCallState.UNKNOWN: "which may have taken effect",
    ToolCallState.WAITING: "which was not executed",
    ToolCallState.DECLINED: "which was not executed",
}
