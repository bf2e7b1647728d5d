"""Reads A2A's requests into values of ours, and refuses by name what is not supported.

Nothing is started here. What our API has and A2A has not may stand in a request's metadata, under
`pullcord`, as the JSON of our own messages.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeVar

from a2a.types import (
    CancelTaskRequest,
    ContentTypeNotSupportedError,
    Message,
    PushNotificationNotSupportedError,
    Role,
    SendMessageRequest,
)
from a2a.types import Part as TheirPart
from a2a.utils.proto_utils import validate_proto_required_fields
from google.protobuf import json_format
from google.protobuf.message import Message as AnyMessage
from google.protobuf.struct_pb2 import Struct

from pullcord.run.errors import InvalidArgument, Violation
from pullcord.run.events import ToolCall
from pullcord.run.message import PartBounds
from pullcord.run.record import MAX_LABEL_LENGTH, Decision, RunSpec
from pullcord.run.requests import CancelRequest, ContinueRequest
from pullcord.run.runnable import RunnableInfo
from pullcord.transports.a2a.tasks import MESSAGE_ID, OURS
from pullcord.transports.saying import decided
from pullcord.v1 import run_pb2
from pullcord.v1 import run_service_pb2 as v1
from pullcord.wire.requests import parse_cancel, parse_continue
from pullcord.wire.spec import parse_spec

M = TypeVar("M", bound=AnyMessage)

_OF_A_START = {"limits", "labels", "userId", "sessionPolicy", "retryOf"}
_OF_A_CANCEL = {"reason", "mode", "gracePeriod", "wait"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """The inputs that a server takes."""

    input_bytes: int
    parts: PartBounds


def check_message(request: SendMessageRequest) -> Message:
    """The message of a request, if it is whole.

    Raises:
        InvalidParamsError, InvalidArgument: a field is missing, or wrong.
        PushNotificationNotSupportedError: it wants to be notified by a webhook.
    """
    if request.configuration.HasField("task_push_notification_config"):
        raise PushNotificationNotSupportedError("there are no push notifications here: subscribe")
    validate_proto_required_fields(request)
    message = request.message
    wrong = [
        Violation(f"message.parts[{index}]", "must have one of text, raw, url and data")
        for index, part in enumerate(message.parts)
        if part.WhichOneof("content") is None
    ]
    if message.role != Role.ROLE_USER:
        wrong.append(Violation("message.role", "must be ROLE_USER"))
    if len(message.message_id) > MAX_LABEL_LENGTH:
        most = f"must be at most {MAX_LABEL_LENGTH} characters"
        wrong.append(Violation("message.messageId", most))
    if wrong:
        raise InvalidArgument(*wrong)
    return message


def read_start(request: SendMessageRequest, info: RunnableInfo, bounds: Bounds) -> RunSpec:
    """A message that starts a task; see `check_message`.

    The run's id is made of the message, so that one that is sent again starts nothing.

    Raises:
        InvalidArgument: a field is wrong.
        ContentTypeNotSupportedError: the runnable does not take such a part.
    """
    message = request.message
    asked = _read_ours(request.metadata, run_pb2.RunSpec, _OF_A_START)
    whole = SendMessageRequest(tenant=info.name, message=message, metadata=request.metadata)
    asked.runnable = info.name
    asked.run_id = str(_id_of(whole))
    asked.session_id = message.context_id or asked.run_id
    asked.on_disconnect = run_pb2.DISCONNECT_POLICY_CONTINUE
    asked.labels[MESSAGE_ID] = message.message_id
    _fill(asked, message.parts)
    spec = parse_spec(asked, bounds.input_bytes, bounds.parts)
    if refused := info.takes.violations(spec.parts, spec.messages, info.name):
        raise ContentTypeNotSupportedError(refused[0].description)
    return spec


def _id_of(request: SendMessageRequest) -> uuid.UUID:
    """The same for the same request. Nobody who does not know all of it can guess it."""
    whole = request.SerializeToString(deterministic=True)
    return uuid.UUID(bytes=sha256(whole).digest()[:16], version=5)


def _fill(asked: run_pb2.RunSpec, parts: Sequence[TheirPart]) -> None:
    """The texts at the beginning are the input; data is data; what else comes are parts."""
    texts: list[str] = []
    for index, part in enumerate(parts):
        where = f"message.parts[{index}]"
        kind = part.WhichOneof("content")
        if kind == "data":
            if part.data.WhichOneof("kind") != "struct_value":
                raise InvalidArgument(Violation(f"{where}.data", "must be an object"))
            if asked.HasField("input_data"):
                raise InvalidArgument(Violation(f"{where}.data", "must be one for a message"))
            asked.input_data.CopyFrom(part.data.struct_value)
        elif kind == "text" and not asked.parts:
            texts.append(part.text)
        elif kind == "text":
            asked.parts.add(text=part.text, media_type=part.media_type, name=part.filename)
        elif kind == "url":
            asked.parts.add(uri=part.url, media_type=part.media_type, name=part.filename)
        else:
            asked.parts.add(data=part.raw, media_type=part.media_type, name=part.filename)
    asked.input = "\n\n".join(texts)


def read_decisions(
    message: Message, waiting: Sequence[ToolCall], most: int
) -> tuple[Decision, ...]:
    """The decisions in a message to a paused task.

    A data part `{"decisions": […]}` is the JSON of ContinueRunRequest. A text that says yes or no
    decides about all calls; any other text is the answer of the one call that waits.

    Raises:
        InvalidArgument: it decides nothing, or not enough.
    """
    data = [part.data for part in message.parts if part.WhichOneof("content") == "data"]
    if data:
        said: Any = json_format.MessageToDict(data[0])
        if len(message.parts) > 1 or not isinstance(said, dict) or set(said) != {"decisions"}:
            words = 'must be one data part {"decisions": […]}, or text'
            raise InvalidArgument(Violation("message.parts", words))
        asked = _read(said, v1.ContinueRunRequest, "message.parts[0].data")
        asked.run_id = message.task_id
        request: ContinueRequest = parse_continue(asked, most)
        return request.decisions
    if any(part.WhichOneof("content") != "text" for part in message.parts):
        words = "must be text, or one data part with decisions: a run that goes on takes no files"
        raise InvalidArgument(Violation("message.parts", words))
    text = "\n\n".join(part.text for part in message.parts).strip()
    made = [decided(call.tool_call_id, text) for call in waiting]
    if made and None not in made:
        return tuple(filter(None, made))
    if len(waiting) != 1 or not text:
        words = f"{len(waiting)} calls wait: say yes or no to all, or send a data part of decisions"
        raise InvalidArgument(Violation("message.parts", words))
    return (Decision(waiting[0].tool_call_id, answer=text),)


def read_cancel(request: CancelTaskRequest, wait: float) -> CancelRequest:
    """A cancel, which waits for the stop for so long unless it says otherwise."""
    asked = _read_ours(request.metadata, v1.CancelRunRequest, _OF_A_CANCEL)
    asked.run_id = request.id
    if not asked.HasField("wait"):
        asked.wait.FromNanoseconds(round(wait * 1e9))
    return parse_cancel(asked)


def _read_ours(metadata: Struct, kind: type[M], takes: set[str]) -> M:
    """Our part of a request's metadata; that of others is none of our business."""
    said: Any = json_format.MessageToDict(metadata).get(OURS, {})
    where = f"metadata.{OURS}"
    if not isinstance(said, dict):
        raise InvalidArgument(Violation(where, "must be an object"))
    if foreign := sorted(set(said) - takes):
        words = f"is not supported here; {', '.join(sorted(takes))} are"
        raise InvalidArgument(*(Violation(f"{where}.{name[:64]}", words) for name in foreign))
    return _read(said, kind, where)


def _read(said: Any, kind: type[M], where: str) -> M:
    try:
        return json_format.ParseDict(said, kind())
    except (json_format.ParseError, ValueError, TypeError, RecursionError) as error:
        raise InvalidArgument(Violation(where, str(error)[:300])) from None
