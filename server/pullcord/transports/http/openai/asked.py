"""Reads OpenAI's requests into values of ours, and refuses by name what is not supported.

Nothing is started here.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from pullcord.run.cancel import CancelMode
from pullcord.run.errors import InvalidArgument, Violation
from pullcord.run.message import Message, Part, Role, guessed_type
from pullcord.run.record import MAX_REASON_LENGTH, Decision
from pullcord.run.requests import CancelRequest
from pullcord.run.usage import Limits

MAX_WAIT = 60
"""Seconds that an answer to a cancel waits for the stop."""

NEUTRAL: Mapping[str, Sequence[Any]] = {
    "include": ([],),
    "include_obfuscation": (False, True),
    "n": (1,),
    "parallel_tool_calls": (True,),
    "reasoning_effort": (),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (True,),
    "text": ({"format": {"type": "text"}}, {}),
    "tool_choice": ("auto",),
    "tools": ([],),
    "top_logprobs": (0,),
    "logprobs": (False,),
    "truncation": ("disabled",),
}
"""Fields that may be given with a value that asks for nothing: a runnable has its own tools and
its own settings of the model."""

_ROLES = {
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
}
_LIMITS = {
    "timeout": (int, float),
    "max_tokens": (int,),
    "max_cost": (int, float),
    "max_steps": (int,),
    "max_tool_calls": (int,),
}


@dataclass(slots=True)
class Turn:
    """The next turn of a conversation."""

    input: str = ""
    parts: tuple[Part, ...] = ()
    before: tuple[Message, ...] = ()
    """Messages that the request has before the last one of the user's."""


@dataclass(slots=True)
class Asked:
    """A response that is asked for."""

    model: str
    turn: Turn
    decisions: tuple[Decision, ...] = ()
    """Set: a paused run continues, and nothing is started."""
    instructions: str = ""
    previous: str = ""
    conversation: str = ""
    run_id: str = ""
    stream: bool = False
    background: bool = False
    user: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    limits: Limits = Limits()


class Fields:
    """Takes the fields of a JSON object one after the other, and collects what is wrong."""

    def __init__(self, body: Any) -> None:
        """Raises InvalidArgument where it is no object."""
        if not isinstance(body, dict):
            raise refused("body", "must be a JSON object")
        self.left: dict[str, Any] = {k: v for k, v in body.items() if v is not None}
        self.wrong: list[Violation] = []

    def take(self, name: str, kind: type, default: Any) -> Any:
        """A field of this type; what has another type is noted."""
        value = self.left.pop(name, default)
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            self.wrong.append(Violation(name, f"must be {_KINDS[kind]}"))
            return default
        return value

    def done(self) -> None:
        """Raises InvalidArgument that names all that was wrong, and all that nobody took."""
        for name, value in self.left.items():
            if name not in NEUTRAL or value not in NEUTRAL[name]:
                self.wrong.append(Violation(name[:64], "is not supported here"))
        if self.wrong:
            raise InvalidArgument(*self.wrong)


_KINDS = {str: "text", bool: "true or false", dict: "an object", list: "a list"}


def refused(name: str, why: str) -> InvalidArgument:
    """The error that names one field."""
    return InvalidArgument(Violation(name, why))


def read_response(body: Any) -> Asked:
    """A request for a response. Raises InvalidArgument."""
    fields = Fields(body)
    fields.take("stream_options", dict, {})
    conversation = fields.left.pop("conversation", "")
    if isinstance(conversation, dict):
        conversation = conversation.get("id", "")
    turn, decisions = read_input(fields.left.pop("input", ""))
    asked = Asked(
        model=fields.take("model", str, ""),
        turn=turn,
        decisions=decisions,
        instructions=fields.take("instructions", str, ""),
        previous=fields.take("previous_response_id", str, ""),
        conversation=conversation if isinstance(conversation, str) else "",
        run_id=fields.take("run_id", str, ""),
        stream=fields.take("stream", bool, False),
        background=fields.take("background", bool, False),
        user=fields.take("user", str, "") or fields.take("safety_identifier", str, ""),
        metadata=read_metadata(fields),
        limits=read_limits(fields),
    )
    if asked.previous and asked.conversation:
        why = "cannot be given together with conversation"
        fields.wrong.append(Violation("previous_response_id", why))
    if decisions and not asked.previous:
        why = "must be the paused response that an approval is for"
        fields.wrong.append(Violation("previous_response_id", why))
    if not asked.model and not decisions:
        fields.wrong.append(Violation("model", "is required, such as 'agents/story-writer'"))
    fields.done()
    return asked


def read_cancel(body: Any, run_id: str) -> CancelRequest:
    """A request for a stop: OpenAI's has no fields, and all of these are ours.

    Raises InvalidArgument.
    """
    fields = Fields(body)
    reason = fields.take("reason", str, "")
    word = fields.take("mode", str, "") or CancelMode.GRACEFUL.value
    wait = fields.left.pop("wait", 0)
    before_start = fields.take("before_start", bool, False)
    if word not in list(CancelMode):
        fields.wrong.append(Violation("mode", "must be graceful or immediate"))
    if isinstance(wait, bool) or not isinstance(wait, int | float) or not 0 <= wait <= MAX_WAIT:
        fields.wrong.append(Violation("wait", f"must be 0 to {MAX_WAIT} seconds"))
    if len(reason) > MAX_REASON_LENGTH:
        why = f"must be at most {MAX_REASON_LENGTH} characters"
        fields.wrong.append(Violation("reason", why))
    fields.done()
    return CancelRequest(
        run_id, reason=reason, mode=CancelMode(word), wait=wait, before_start=before_start
    )


def read_metadata(fields: Fields) -> dict[str, str]:
    """Pairs of texts, which become the run's labels."""
    metadata = fields.take("metadata", dict, {})
    if any(not isinstance(value, str) for value in metadata.values()):
        fields.wrong.append(Violation("metadata", "must have texts as values"))
        return {}
    return dict(metadata)


def read_limits(fields: Fields) -> Limits:
    """`max_tool_calls`, which is OpenAI's, and `limits`, which is ours."""
    found: dict[str, Any] = {}
    given = fields.take("limits", dict, {})
    for name, value in given.items():
        kinds = _LIMITS.get(name)
        if kinds is None or not isinstance(value, kinds) or isinstance(value, bool):
            fields.wrong.append(Violation(f"limits.{name[:64]}", "is no limit of a run"))
        else:
            found[name] = value
    if "max_tool_calls" in fields.left:
        value = fields.left.pop("max_tool_calls")
        if isinstance(value, bool) or not isinstance(value, int):
            fields.wrong.append(Violation("max_tool_calls", "must be a whole number"))
        else:
            found["max_tool_calls"] = value
    return Limits(**found)


def read_input(given: Any) -> tuple[Turn, tuple[Decision, ...]]:
    """A text, or a list of messages and approvals. Raises InvalidArgument."""
    if isinstance(given, str):
        return Turn(given), ()
    if not isinstance(given, list):
        raise refused("input", "must be text or a list")
    messages: list[Message] = []
    decisions: list[Decision] = []
    for index, item in enumerate(given):
        where = f"input[{index}]"
        if not isinstance(item, dict):
            raise refused(where, "must be an object")
        kind = item.get("type", "message")
        if kind == "mcp_approval_response":
            decisions.append(_decision(item, where))
        elif kind == "message":
            messages.append(read_message(item, where))
        else:
            raise refused(f"{where}.type", f"{str(kind)[:64]!r} is not supported here")
    if decisions and messages:
        raise refused("input", "must have either approvals or messages")
    return (Turn() if decisions else turn_of(messages, "input")), tuple(decisions)


def turn_of(messages: Sequence[Message], name: str) -> Turn:
    """The last message of the user's is the turn; all before it is what came before."""
    if not messages:
        return Turn()
    *before, last = messages
    if last.role is not Role.USER:
        raise refused(f"{name}[{len(before)}].role", "must be user in the last message")
    first, *rest = last.parts or (Part(""),)
    if first.text is None:
        return Turn("", last.parts, tuple(before))
    return Turn(first.text, tuple(rest), tuple(before))


def read_message(item: Mapping[str, Any], where: str) -> Message:
    """One message. Raises InvalidArgument."""
    role = _ROLES.get(str(item.get("role", "")))
    if role is None:
        raise refused(f"{where}.role", f"must be one of {', '.join(_ROLES)}")
    content = item.get("content")
    if isinstance(content, str):
        return Message(role, (Part(content),))
    if not isinstance(content, list):
        raise refused(f"{where}.content", "must be text or a list")
    parts = [_part(part, f"{where}.content[{index}]") for index, part in enumerate(content)]
    return Message(role, tuple(parts))


def _part(part: Any, where: str) -> Part:
    if not isinstance(part, dict):
        raise refused(where, "must be an object")
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            return Part(_text(part, "text", where))
        case "input_image":
            return _file(_text(part, "image_url", where), "", f"{where}.image_url", "image/png")
        case "image_url" if isinstance(part.get("image_url"), dict):
            url = _text(part["image_url"], "url", f"{where}.image_url")
            return _file(url, "", f"{where}.image_url.url", "image/png")
        case "input_file" | "file":
            inner = part.get("file", part)
            name = str(inner.get("filename") or "")
            source = "file_url" if "file_url" in inner else "file_data"
            text = _text(inner, source, where)
            kind = guessed_type(name) or "application/pdf"
            return _file(text, name, f"{where}.{source}", kind)
        case other:
            raise refused(f"{where}.type", f"{str(other)[:64]!r} is not supported here")


def _file(source: str, name: str, where: str, kind: str) -> Part:
    """A file by its address, as a data: address, or in base64."""
    if source.startswith(("http://", "https://")):
        return Part(
            uri=source, media_type=guessed_type(source.partition("?")[0]) or kind, name=name
        )
    head, comma, body = source.partition(",")
    encoded = True
    if head.startswith("data:") and comma:
        said, _, coding = head[5:].partition(";")
        kind, encoded = said or kind, coding.endswith("base64")
    else:
        body = source
    try:
        data = base64.b64decode(body, validate=True) if encoded else unquote_to_bytes(body)
    except (binascii.Error, ValueError):
        raise refused(where, "must be an address, or data in base64") from None
    return Part(data=data, media_type=kind, name=name)


def _text(holder: Mapping[str, Any], name: str, where: str) -> str:
    value = holder.get(name)
    if not isinstance(value, str):
        raise refused(f"{where}.{name}", "must be text")
    return value


def _decision(item: Mapping[str, Any], where: str) -> Decision:
    call = _text(item, "approval_request_id", where).removeprefix("apr_")
    approved = item.get("approve")
    if not isinstance(approved, bool):
        raise refused(f"{where}.approve", "must be true or false")
    return Decision(call, approved, note=str(item.get("reason") or ""))
