"""Reads AG-UI's inputs into values of ours, and refuses by name what is not supported.

Nothing is started here.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ag_ui.core import Message as TheirMessage
from ag_ui.core import ResumeEntry, RunAgentInput
from pydantic import ValidationError

from pullcord.run.errors import InvalidArgument, Violation
from pullcord.run.message import Message, Part, Role
from pullcord.run.record import Decision, DisconnectPolicy, RunSpec, SessionPolicy
from pullcord.transports.saying import decided

_ROLES = {
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
}
_SILENT = {"activity", "reasoning"}
"""Messages for the front end, which no model gets."""


def read_input(body: Any) -> RunAgentInput:
    """An input whose fields have the right types. Raises InvalidArgument."""
    try:
        return RunAgentInput.model_validate(body)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)
        raise InvalidArgument(
            *(
                Violation(".".join(map(str, one["loc"]))[:200] or "body", one["msg"][:200])
                for one in wrong[:20]
            )
        ) from None


def read_start(given: RunAgentInput, runnable: str) -> RunSpec:
    """The run that an input starts: its last message is the turn, and the earlier ones come before.

    A new message takes the place of what the thread still does, as people expect of a chat.

    Raises:
        InvalidArgument: it has what runs here have no use for, or no message of the user's.
    """
    wrong = []
    if given.tools:
        wrong.append(Violation("tools", "of a front end are not supported: a runnable has its own"))
    if given.state:
        wrong.append(Violation("state", "that is shared is not supported here"))
    if wrong:
        raise InvalidArgument(*wrong)
    messages = list(_messages(given.messages))
    if not messages or messages[-1].role is not Role.USER:
        raise InvalidArgument(Violation("messages", "must end with a message of the user's"))
    *before, last = messages
    first, *rest = last.parts or (Part(""),)
    if first.text is None:
        first, rest = Part(""), [first, *rest]
    rest += [Part(f"{one.description}: {one.value}") for one in given.context or ()]
    return RunSpec(
        runnable,
        first.text or "",
        run_id=given.run_id,
        session_id=given.thread_id,
        on_disconnect=DisconnectPolicy.CANCEL,
        session_policy=SessionPolicy.SUPERSEDE,
        parts=tuple(rest),
        messages=tuple(before),
    )


@dataclass(frozen=True, slots=True)
class Pause:
    """A run that waits, and how far its stream had come: its client has nothing of what came then.

    The run may be a child of the streamed one, which goes on meanwhile.
    """

    run_id: str
    sequence: int
    said: int
    """Characters of the streamed run's text."""

    def name(self, tool_call_id: str) -> str:
        """The id of the interrupt that is one of its calls."""
        return f"{self.run_id}/{self.sequence}/{self.said}/{tool_call_id}"


_INTERRUPT = re.compile(r"([^/]+)/([0-9]{1,15})/([0-9]{1,15})/(.*)", re.DOTALL)


def read_resume(entries: Sequence[ResumeEntry]) -> tuple[Pause, tuple[Decision, ...]]:
    """The pause that ends, and the decisions about its calls. Raises InvalidArgument."""
    pauses, decisions, wrong = set(), [], []
    for index, entry in enumerate(entries):
        named = _INTERRUPT.fullmatch(entry.interrupt_id)
        if named is None:
            wrong.append(Violation(f"resume[{index}].interruptId", "is of no run here"))
            continue
        run_id, sequence, said, call = named.groups()
        pauses.add(Pause(run_id, int(sequence), int(said)))
        decision = _decision(call, entry)
        if decision is None:
            words = "must be true or false, text, or an object of approved, answer and note"
            wrong.append(Violation(f"resume[{index}].payload", words))
        else:
            decisions.append(decision)
    if len(pauses) > 1:
        wrong.append(Violation("resume", "must be for one pause"))
    if wrong:
        raise InvalidArgument(*wrong)
    return pauses.pop(), tuple(decisions)


def _decision(call: str, entry: ResumeEntry) -> Decision | None:
    match entry.payload:
        case _ if entry.status == "cancelled":
            return Decision(call)
        case None:
            return Decision(call, approved=True)
        case bool(approved):
            return Decision(call, approved)
        case str(text):
            return decided(call, text) or Decision(call, answer=text)
        case dict(said) if set(said) <= {"approved", "answer", "note"}:
            approved, answer = said.get("approved", False), said.get("answer")
            note = said.get("note") or ""
            if isinstance(approved, bool) and isinstance(answer, str | None):
                return Decision(call, approved, answer, note) if isinstance(note, str) else None
    return None


def _messages(given: Sequence[TheirMessage]) -> Iterator[Message]:
    names: dict[str, str] = {}  # of tools, by their calls
    for index, message in enumerate(given):
        where = f"messages[{index}]"
        if message.role in _SILENT:
            continue
        content: Any = message.content
        parts = tuple(_parts(content or "", where))
        if message.role == "tool":
            yield Message(Role.TOOL, parts, names.get(message.tool_call_id, "tool"))
            continue
        for call in getattr(message, "tool_calls", None) or ():
            names[call.id] = call.function.name
        if parts:
            yield Message(_ROLES[message.role], parts)


def _parts(content: str | Sequence[Any], where: str) -> Iterator[Part]:
    if isinstance(content, str):
        if content:
            yield Part(content)
        return
    for index, part in enumerate(content):
        if part.type == "text":
            yield Part(part.text)
            continue
        name, source = f"{where}.content[{index}].source", part.source
        if source.type == "url":
            yield Part(uri=source.value, media_type=source.mime_type or "")
        elif source.type == "data":
            try:
                data = base64.b64decode(source.value, validate=True)
            except (binascii.Error, ValueError):
                raise InvalidArgument(Violation(f"{name}.value", "must be base64")) from None
            yield Part(data=data, media_type=source.mime_type)
        else:
            raise InvalidArgument(Violation(f"{name}.type", "must be url or data"))
