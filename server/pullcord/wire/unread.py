"""An event's data apart from the event: it goes from a worker to every watcher without being read.

Filling a message with data reads every value of it in one go, only to write it again. So large data
stays the bytes that it came as, and is put into the message's bytes. What is in it is not known.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from pullcord.run import events
from pullcord.run.events import Payload
from pullcord.v1 import run_service_pb2
from pullcord.wire.values import StructData

_LARGE = 1024
"""Bytes from which on data goes into its message unread."""

DATA: dict[type[Any], str] = {
    events.Custom: "data",
    events.RunCompleted: "output_data",
    events.RunCancelled: "output_data",
    events.RunFailed: "output_data",
}
"""The payloads that have data of an author's, and the name of that field, also in the proto."""
_NONE: dict[str, Mapping[str, Any] | None] = {"data": {}, "output_data": None}

P = TypeVar("P", bound=Payload)


def without_data(payload: P) -> tuple[P, Mapping[str, Any] | None]:
    """A payload without its data, and that; None if it has none."""
    name = DATA.get(type(payload))
    data = None if name is None else getattr(payload, name)
    if name is None or data is None or (type(data) is dict and not data):
        return payload, None
    return _having(payload, name, _NONE[name]), data


def with_data(payload: Payload, data: Mapping[str, Any]) -> Payload:
    """The same payload with this data, as one of its kind has it."""
    return _having(payload, DATA[type(payload)], data)


def without_unread(payload: P) -> tuple[P, bytes]:
    """A payload without its data, and the bytes of that, if it is unread and large; else none."""
    name = DATA[type(payload)]
    data = getattr(payload, name)
    if type(data) is not StructData or len(data.serialized) < _LARGE:
        return payload, b""
    return _having(payload, name, _NONE[name]), data.serialized


def _having(payload: P, name: str, data: Mapping[str, Any] | None) -> P:
    return replace(payload, **{name: data})  # type: ignore[arg-type]  # each field is of its class


def around(message: run_service_pb2.RunResponse, name: str, data: bytes) -> bytes:
    """The bytes of this message with the data as the field `name` of its event's payload."""
    event = message.event
    kind = event.WhichOneof("payload")
    assert kind is not None
    part = getattr(event, kind)
    body = part.SerializeToString() + _field(part, name, data)
    event.ClearField(kind)
    whole = event.SerializeToString() + _field(event, kind, body)
    return _field(message, "event", whole)


def _field(message: Any, name: str, body: bytes) -> bytes:
    """A field of this message that is a message itself, as bytes."""
    number = message.DESCRIPTOR.fields_by_name[name].number
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    made = bytearray()
    while number >= 0x80:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)
