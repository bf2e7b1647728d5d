"""Times, durations and JSON-like data, between Python's values and protobuf's.

What a run says has passed the gate (`run.gate`), so that it can be written as it is. What a caller
says is checked in `fields`.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from pullcord.run.plain import MAX_DEPTH as MAX_DEPTH
from pullcord.run.plain import UnreadData
from pullcord.wire.structs import read_struct

_WHOLE = 2.0**53
_BILLION = 1_000_000_000  # dividing ints rounds once, so that a written number comes back the same


def set_time(target: Timestamp, seconds: float) -> None:
    """Writes seconds since the epoch, to the nearest nanosecond."""
    whole = math.floor(seconds)
    nanos = int((seconds - whole) * 1e9 + 0.5)
    if nanos == 1_000_000_000:
        whole, nanos = whole + 1, 0
    target.seconds = whole
    target.nanos = nanos


def time_of(message: Timestamp) -> float:
    """Seconds since the epoch; an unset time is 0."""
    return (message.seconds * _BILLION + message.nanos) / _BILLION


def duration(seconds: float) -> Duration:
    """A duration of so many seconds, to the nearest nanosecond."""
    nanos = round(seconds * 1e9)
    sign = -1 if nanos < 0 else 1
    whole, rest = divmod(abs(nanos), 1_000_000_000)
    return Duration(seconds=sign * whole, nanos=sign * rest)


def seconds_of(message: Duration) -> float:
    """The seconds of a duration."""
    return (message.seconds * _BILLION + message.nanos) / _BILLION


class StructData(UnreadData):
    """JSON-like data as the bytes of its message, read only when somebody looks into it.

    A process that passes data on never spends time on the values in it.
    """

    __slots__ = ("_read", "nbytes", "serialized")

    def __init__(self, serialized: bytes, json_bytes: int | None = None) -> None:
        """`json_bytes`: how long it is as JSON text, if that is known."""
        self.serialized = serialized
        self.nbytes = len(serialized) if json_bytes is None else json_bytes
        """Its size for bounds on data."""
        self._read: dict[str, Any] | None = None

    def plain(self) -> dict[str, Any]:
        """The data in dicts and lists. It is read here: not for a loop."""
        if self._read is None:
            self._read = read_struct(self.serialized).data
        return self._read

    def __getitem__(self, key: str) -> Any:
        return self.plain()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.plain())

    def __len__(self) -> int:
        return len(self.plain())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, StructData) and other.serialized == self.serialized:
            return True
        return isinstance(other, Mapping) and self.plain() == dict(other)

    __hash__ = None  # type: ignore[assignment]  # as every mapping that compares by value

    def __repr__(self) -> str:
        return repr(self.plain())


def struct_bytes(data: Mapping[str, Any]) -> bytes:
    """The bytes of the message that holds this data."""
    if isinstance(data, StructData):
        return data.serialized
    message = Struct()
    set_data(message, data)
    return message.SerializeToString()


def set_data(target: Struct, data: Mapping[str, Any]) -> None:
    """Writes plain data. Raises TypeError or ValueError for what JSON cannot hold."""
    target.SetInParent()
    if isinstance(data, StructData):
        target.MergeFromString(data.serialized)
        return
    for key, value in data.items():
        _set_value(target.fields[key], value)


def _set_value(target: Value, value: Any) -> None:
    if value is None:
        target.null_value = 0  # type: ignore[assignment]  # the only NullValue
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, int | float):
        if not math.isfinite(value):
            raise ValueError("a number in data must be finite")
        target.number_value = value
    elif isinstance(value, dict):
        target.struct_value.SetInParent()
        for key, item in value.items():
            _set_value(target.struct_value.fields[key], item)
    elif isinstance(value, list):
        target.list_value.SetInParent()
        for item in value:
            _set_value(target.list_value.values.add(), item)
    else:
        raise TypeError(f"data cannot hold a {type(value).__name__}")


def data_of(message: Struct) -> dict[str, Any]:
    """The data of a message, as far down as MAX_DEPTH. Whole numbers become ints, as in JSON."""
    return {key: _value_of(value, 1) for key, value in message.fields.items()}


def _value_of(message: Value, depth: int) -> Any:
    kind = message.WhichOneof("kind")
    if kind == "string_value":
        return message.string_value
    if kind == "number_value":
        number = message.number_value
        return int(number) if number.is_integer() and abs(number) <= _WHOLE else number
    if kind == "bool_value":
        return message.bool_value
    if depth < MAX_DEPTH and kind == "struct_value":
        fields_ = message.struct_value.fields
        return {key: _value_of(value, depth + 1) for key, value in fields_.items()}
    if depth < MAX_DEPTH and kind == "list_value":
        return [_value_of(value, depth + 1) for value in message.list_value.values]
    return None
