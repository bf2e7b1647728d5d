"""Parts and messages, between domain and proto.

What makes them right is said by the domain; here a field only becomes a field. A part that is read
holds the bytes of its own.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from pullcord.run.message import Message, Part
from pullcord.v1 import run_pb2
from pullcord.wire.enums import MESSAGE_ROLE
from pullcord.wire.fields import Fields


def fill_parts(target: Any, parts: Iterable[Part]) -> None:
    """Writes parts into a repeated field."""
    for part in parts:
        message = target.add(media_type=part.media_type, name=part.name)
        if part.text is not None:
            message.text = part.text
        elif part.uri is not None:
            message.uri = part.uri
        elif part.data is not None:
            message.data = part.data


def parts_of(messages: Iterable[run_pb2.Part]) -> tuple[Part, ...]:
    """Reads parts."""
    return tuple(map(_part_of, messages))


def _part_of(message: run_pb2.Part) -> Part:
    content = message.WhichOneof("content")
    return Part(
        text=message.text if content == "text" else None,
        uri=message.uri if content == "uri" else None,
        data=message.data if content == "data" else None,
        media_type=message.media_type,
        name=message.name,
    )


def fill_messages(target: Any, messages: Iterable[Message]) -> None:
    """Writes messages into a repeated field."""
    for message in messages:
        made = target.add(role=MESSAGE_ROLE.numbers[message.role], name=message.name)
        fill_parts(made.parts, message.parts)


def messages_of(messages: Iterable[run_pb2.Message]) -> tuple[Message, ...]:
    """Reads messages that were checked before."""
    return tuple(Message(MESSAGE_ROLE.read(m.role), parts_of(m.parts), m.name) for m in messages)


def parse_messages(
    fields: Fields, name: str, messages: Sequence[run_pb2.Message]
) -> tuple[Message, ...]:
    """Reads messages of a caller's, and remembers a role that is missing or unknown."""
    for index, message in enumerate(messages):
        if not message.role:
            fields.wrong(f"{name}[{index}].role", "is required")
        else:
            fields.enum(f"{name}[{index}].role", MESSAGE_ROLE, message.role)
    return messages_of(messages)
