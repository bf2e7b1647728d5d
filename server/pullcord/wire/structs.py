"""The reading of google.protobuf.Struct from its bytes, in Python: what it holds, and its faults.

Protobuf's own reader is quicker, but it is C, and holds the interpreter until it is done: a request
with tens of thousands of values would stop every other thread for as long. This one lets others run
between any two values. What a client reads or writes is in `values`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from math import inf, isfinite
from struct import Struct as Format
from typing import Any

from google.protobuf.struct_pb2 import ListValue, Struct, Value

from pullcord.run.plain import MAX_DEPTH, MAX_WHOLE

MAX_FAULTS = 32
"""Faults that are named; reading stops there."""
_FIELDS_A_VALUE = 4
"""Fields that a value takes at most, beside such as nobody knows."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def _key(message: Any, name: str, kind: int) -> int:
    number: int = message.DESCRIPTOR.fields_by_name[name].number
    return number << 3 | kind


_ENTRY = _key(Struct, "fields", _BYTES)
_ENTRY_KEY, _ENTRY_VALUE = 1 << 3 | _BYTES, 2 << 3 | _BYTES  # of every map
_ITEM = _key(ListValue, "values", _BYTES)
_NULL = _key(Value, "null_value", _VARINT)
_BOOL = _key(Value, "bool_value", _VARINT)
_NUMBER = _key(Value, "number_value", _FIXED64)
_STRING = _key(Value, "string_value", _BYTES)
_STRUCT = _key(Value, "struct_value", _BYTES)
_LIST = _key(Value, "list_value", _BYTES)
_KINDS = frozenset({_NULL, _BOOL, _NUMBER, _STRING, _STRUCT, _LIST})

_DOUBLE = Format("<d")


class TooManyValues(Exception):
    """The data holds more values than it may."""


@dataclass(frozen=True, slots=True)
class Read:
    """The data that was read."""

    data: dict[str, Any]
    """Whole numbers are ints, as in JSON."""
    json_bytes: int
    """Of the data as JSON text."""
    faults: list[tuple[str, str]]
    """The first values that JSON cannot hold: each one's path, such as `.a[2]`, and its fault."""


def read_struct(serialized: bytes, max_values: float = inf) -> Read:
    """Reads the bytes of a Struct, as far down as MAX_DEPTH.

    Raises:
        ValueError: they are no Struct.
        TooManyValues: there are more than `max_values`.
    """
    reader = _Reader(max_values)
    try:
        data = reader.struct(serialized, 1)
    except _Enough:
        data = {}
    return Read(data, reader.json_bytes, reader.faults)


class _Enough(Exception):
    pass


class _Reader:
    """One reading: what may still come, and the way to where it is."""

    def __init__(self, max_values: float) -> None:
        self._values = max_values
        self._fields_left = _FIELDS_A_VALUE * max_values + 16
        self._path: list[str | int] = []
        self.json_bytes = 0
        self.faults: list[tuple[str, str]] = []

    def struct(self, data: bytes, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        path = self._path
        for field, part in self._fields(data):
            if field != _ENTRY:
                continue
            key, value = b"", b""
            for inner, piece in self._fields(part):
                if inner == _ENTRY_KEY:
                    key = piece
                elif inner == _ENTRY_VALUE:
                    value += piece  # of two, protobuf makes one
            name = key.decode()
            path.append(name)
            made[name] = self._value(value, depth)
            path.pop()
            self.json_bytes += len(encode_basestring_ascii(name)) + 2
        self.json_bytes += 2 - bool(made)
        return made

    def _list(self, data: bytes, depth: int) -> list[Any]:
        made: list[Any] = []
        path = self._path
        for field, part in self._fields(data):
            if field == _ITEM:
                path.append(len(made))
                made.append(self._value(part, depth))
                path.pop()
        self.json_bytes += len(made) + 2 - bool(made)
        return made

    def _value(self, data: bytes, depth: int) -> Any:
        self._values -= 1
        if self._values < 0:
            raise TooManyValues
        kind, body = 0, b""
        for field, part in self._fields(data):
            if field == kind and field in (_STRUCT, _LIST):
                body += part  # of two, protobuf makes one
            elif field in _KINDS:  # of different kinds, the last one counts
                kind, body = field, part
        if kind == _STRING:
            text = body.decode()
            self.json_bytes += len(encode_basestring_ascii(text))
            return text
        if kind == _NUMBER:
            return self._number(body)
        if kind == _BOOL:
            truth = any(byte & 0x7F for byte in body)
            self.json_bytes += 4 if truth else 5
            return truth
        if kind in (_STRUCT, _LIST):
            if depth >= MAX_DEPTH:
                return self._wrong(f"must be nested at most {MAX_DEPTH} deep")
            return (self.struct if kind == _STRUCT else self._list)(body, depth + 1)
        self.json_bytes += 4
        return None

    def _number(self, body: bytes) -> Any:
        number: float = _DOUBLE.unpack(body)[0]
        if not isfinite(number):
            return self._wrong("must be a finite number")
        made = int(number) if number.is_integer() and abs(number) <= MAX_WHOLE else number
        self.json_bytes += len(repr(made))
        return made

    def _wrong(self, words: str) -> Any:
        path = "".join(
            f"[{step}]" if isinstance(step, int) else f".{step[:32]}" for step in self._path
        )
        self.faults.append((path, words))
        if len(self.faults) >= MAX_FAULTS:
            raise _Enough
        return None

    def _fields(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Each field's key (its number and kind) and its bytes."""
        at, end = 0, len(data)
        while at < end:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise TooManyValues
            key = data[at]
            at += 1
            if key >= 0x80:
                key, at = _varint(data, at - 1)
            kind = key & 7
            if kind == _BYTES:
                length = data[at] if at < end else 0
                at += 1
                if length >= 0x80:
                    length, at = _varint(data, at - 1)
            elif kind == _FIXED64:
                length = 8
            elif kind == _VARINT:
                length = _varint(data, at)[1] - at
            elif kind == _FIXED32:
                length = 4
            else:
                raise ValueError("it has a field of an unknown kind")
            if at + length > end:
                raise ValueError("it is cut off")
            yield key, data[at : at + length]
            at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at + shift // 7] if at + shift // 7 < len(data) else -1
        if byte < 0:
            raise ValueError("it is cut off")
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + shift // 7 + 1
    raise ValueError("it has a number that is too long")
