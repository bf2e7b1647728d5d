"""The messages before a model's first answer: instructions, earlier turns, the input.

Values in, values out. An earlier turn that was stopped is part of the conversation like any other,
with what it had made and a note that it was stopped.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pullcord.models.base import (
    AssistantMessage,
    Media,
    Message,
    Model,
    ModelError,
    SystemMessage,
    UserMessage,
)
from pullcord.native.endings import AnswerWithheld
from pullcord.run.context import RunContext
from pullcord.run.events import ToolCallState
from pullcord.run.message import TEXTUAL, Given, Part, Role
from pullcord.run.message import Message as Brought
from pullcord.run.record import Run, canonical
from pullcord.run.state import RunState
from pullcord.run.takes import Takes

_NO_INPUT = "[no input]"
"""Many providers take no empty message."""


_LONG = 10_000
"""Characters of an input with which the model failed that are shown again: it may be too long."""
_WITHHELD = "[this message was withheld by a filter, and is not shown again]"
"""A filter that refused it once would refuse every later turn that shows it again."""


def system_text(description: str, instructions: str | Iterable[str]) -> str:
    """The system message: the description, then the instructions, several as a list."""
    several = [instructions] if isinstance(instructions, str) else list(instructions)
    if len(several) > 1:
        several = ["\n".join(f"- {one}" for one in several)]
    return "\n\n".join(part for part in (description, *several) if part)


async def conversation_of(ctx: RunContext, system: str, model: Model) -> list[Message]:
    """Everything that the model of this run must know: the session's turns, or the caller's. A run
    that goes on after a pause has it already."""
    if ctx.resumed is not None:
        return []
    if ctx.messages or not ctx.session_id:
        history = []
    else:  # in a thread, because a shared store is asked over the network
        history = await ctx.in_thread(ctx.history)
    given = Given(ctx.input, ctx.input_data, ctx.parts, ctx.messages)
    return conversation(system, _with_files(history, takes_of(model)), given)


def conversation(system: str, history: Iterable[Run], given: Given) -> list[Message]:
    """The messages for the model, oldest first."""
    told = [m.text for m in given.messages if m.role is Role.SYSTEM]
    system = "\n\n".join(filter(None, (system, *told)))
    messages: list[Message] = [SystemMessage(system)] if system else []
    for run in history:
        messages.append(_user((_asked(run),), run.parts))
        messages.append(AssistantMessage(_answer(run)))
    messages += [_brought(m) for m in given.messages if m.role is not Role.SYSTEM]
    data = canonical(given.data) if given.data and not _is_said(given) else ""
    says_nothing = not (given.input or data or given.parts)
    if says_nothing and messages and isinstance(messages[-1], UserMessage):
        return _alternating(messages)  # the last message that was brought is the turn
    messages.append(_user((given.input, data), given.parts))
    return _alternating(messages)


def _alternating(messages: Iterable[Message]) -> list[Message]:
    """The same with a user's turn first, and no two turns of one side behind each other.

    Many servers' templates take nothing else, such as those of Mistral and Gemma.
    """
    made: list[Message] = []
    for message in messages:
        match made[-1] if made else None, message:
            case UserMessage() as before, UserMessage() as after:
                made[-1] = _together(before, after)
            case AssistantMessage(before_text), AssistantMessage(text):
                made[-1] = AssistantMessage(f"{before_text}\n\n{text}")
            case None | SystemMessage(), AssistantMessage():
                made += UserMessage(_NO_INPUT), message
            case _:
                made.append(message)
    return made


def _together(before: UserMessage, after: UserMessage) -> UserMessage:
    if not before.parts:
        text = "\n\n".join(filter(None, (before.text, after.text)))
        return UserMessage(text, after.parts)
    said = (Part(after.text),) if after.text else ()
    return UserMessage(before.text, (*before.parts, *said, *after.parts))


def _is_said(given: Given) -> bool:
    """Whether the text is the data already, as JSON."""
    if not given.input.startswith("{"):
        return False
    try:
        said: object = json.loads(given.input)
    except ValueError:
        return False
    return said == given.data


def takes_of(model: Model) -> Takes:
    """The inputs that an agent or a leader with this model takes."""
    media: object = getattr(model, "media", None)
    data, uri = (media.data, media.uri) if isinstance(media, Media) else ((), ())
    return Takes(True, True, (*data, *TEXTUAL), tuple(uri))


def _with_files(history: Sequence[Run], takes: Takes) -> list[Run]:
    """The history with those of its files that can be shown again, the others as notes.

    What made a model fail would make it fail in each later turn: a file that it refused, an address
    that has expired. So nothing is shown again from before such a failure.
    """
    failures = (number for number, run in enumerate(history) if _is_failure(run))
    failed = max(failures, default=-1)
    return [
        replace(
            run, parts=tuple(_shown_again(run, part, number > failed, takes) for part in run.parts)
        )
        for number, run in enumerate(history)
    ]


def _is_failure(run: Run) -> bool:
    is_failure = run.error is not None and run.error.type == ModelError.__name__
    return _is_withheld(run) or (is_failure and not run.output)


def _asked(run: Run) -> str:
    """The input of an earlier turn, or as much of it as makes no later turn fail."""
    if _is_withheld(run):
        return _WITHHELD
    if _is_failure(run) and len(run.input) > _LONG:
        missing = len(run.input) - _LONG
        return f"{run.input[:_LONG]}\n[{missing} more characters are not shown again]"
    return run.input


def _is_withheld(run: Run) -> bool:
    return run.error is not None and run.error.type == AnswerWithheld.__name__


def _shown_again(run: Run, part: Part, is_recent: bool, takes: Takes) -> Part:
    is_known = not _is_failure(run) if part.text is not None else is_recent
    if is_known and not takes.violations([part], (), ""):
        return part
    return Part(media_type=part.kind, name=part.name)


def _user(texts: Iterable[str], parts: Sequence[Part]) -> UserMessage:
    """A turn of the user's. Where all of it is text it is one text; files keep their places."""
    said = [text for text in texts if text]
    shown = [_shown(part) for part in parts]
    if all(part.text is not None for part in shown):
        return UserMessage("\n\n".join([*said, *(p.text for p in shown if p.text)]) or _NO_INPUT)
    return UserMessage("\n\n".join(said), tuple(part for part in shown if part.text != ""))


def _shown(part: Part) -> Part:
    """The part as models get it: files of text become text, and what is gone becomes a note."""
    text = part.as_text
    if part.uri is None and part.data is None and part.text is None:
        text = f"[{part.label} was here, and is not shown again]"
    elif text is not None and part.name:
        text = f"[{part.name}]\n{text}"
    return part if text is None else Part(text)


def _brought(message: Brought) -> Message:
    """A message of the caller's history."""
    if message.role is Role.ASSISTANT:
        return AssistantMessage(_named(message) or "[this answer was empty]")
    if message.role is Role.TOOL:  # its call is unknown, so that no provider would take it as one
        return UserMessage(f"[the tool {message.name} answered]\n{message.text}")
    if message.name:
        return _user((f"[{message.name}]",), message.parts)
    return _user((), message.parts)


def _named(message: Brought) -> str:
    return f"[{message.name}]\n{message.text}" if message.name else message.text


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
    ToolCallState.APPROVED: "which was not executed",
    ToolCallState.DECLINED: "which was not executed",
}
