"""Protobuf messages as the plain values that scenarios are written in, and back.

A message is a table by field name. Bytes are their base64. An enum is its member's name without
the enum's prefix, a timestamp or duration is seconds, a Struct is what it holds. An unset message
is left out; any other field that is unset is empty, false or 0.
"""

import base64
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp


def plain(message: Message) -> Any:
    """What a message says."""
    if isinstance(message, (Timestamp, Duration)):
        return message.seconds + message.nanos / 1e9
    if isinstance(message, Struct):
        return json_format.MessageToDict(message)
    said = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if _is_map(field):
            said[field.name] = dict(value)
        elif field.is_repeated:
            said[field.name] = [_plain(field, item) for item in value]
        elif not field.has_presence or message.HasField(field.name):
            said[field.name] = _plain(field, value)
    return said


def fill(message: Message, said: Any) -> None:
    """Writes into an empty message. Raises where the message has no such field or value."""
    if isinstance(message, (Timestamp, Duration)):
        nanos = round(said * 1e9)
        message.seconds, message.nanos = nanos // 10**9, nanos % 10**9
    elif isinstance(message, Struct):
        message.SetInParent()
        message.update(said)
    else:
        message.SetInParent()
        for name, value in said.items():
            _set(message, message.DESCRIPTOR.fields_by_name[name], value)


def _set(message: Message, field: FieldDescriptor, value: Any) -> None:
    held = getattr(message, field.name)
    if _is_map(field):
        held.update(value)
    elif field.is_repeated and field.message_type is not None:
        for item in value:
            fill(held.add(), item)
    elif field.is_repeated:
        held.extend(_number(field, item) for item in value)
    elif field.message_type is not None:
        fill(held, value)
    else:
        setattr(message, field.name, _number(field, value))


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _plain(field: FieldDescriptor, value: Any) -> Any:
    if field.type == field.TYPE_BYTES:
        return base64.b64encode(value).decode()
    if field.message_type is not None:
        return plain(value)
    if field.enum_type is not None:
        names: Mapping[int, Any] = field.enum_type.values_by_number
        known = names.get(value)
        return value if known is None else known.name.removeprefix(_prefix(field.enum_type))
    return value


def _number(field: FieldDescriptor, value: Any) -> Any:
    if field.type == field.TYPE_BYTES:
        return base64.b64decode(value)
    if field.enum_type is not None and isinstance(value, str):
        return field.enum_type.values_by_name[_prefix(field.enum_type) + value].number
    return value


def _prefix(kind: EnumDescriptor) -> str:
    return str(kind.values_by_number[0].name).removesuffix("UNSPECIFIED")
