"""Counts what a large request repeats before anything of it is read.

Reading makes an object of each element, and 16 MiB hold millions of them. So the fields of the
message's first levels are walked over, and what is too many is refused by name. What a run's data
hold is counted where they are read, in `structs`.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from google.protobuf.message import Message

from pullcord.run.errors import InvalidArgument, Violation
from pullcord.run.message import PartBounds
from pullcord.run.record import MAX_DECISIONS, MAX_LABELS
from pullcord.v1 import run_pb2
from pullcord.v1 import run_service_pb2 as v1

COUNT_FROM = 16 * 1024
"""Bytes from which on a request is counted; what a smaller one repeats is read in no time."""
MAX_VALUES = 50_000
"""Values in a run's data: objects, lists, and what they hold."""
_VALUE_BYTES = 16
"""Bytes that a value takes in a message beside its text, at most, roughly."""
_MAX_FIELDS = 1000

_SPEC = v1.RunRequest.DESCRIPTOR.fields_by_name["spec"].number
_DATA = run_pb2.RunSpec.DESCRIPTOR.fields_by_name["input_data"].number
_PARTS = run_pb2.RunSpec.DESCRIPTOR.fields_by_name["parts"].number
_MESSAGES = run_pb2.RunSpec.DESCRIPTOR.fields_by_name["messages"].number
_LABELS = run_pb2.RunSpec.DESCRIPTOR.fields_by_name["labels"].number
_DECISIONS = v1.ContinueRunRequest.DESCRIPTOR.fields_by_name["decisions"].number
_WIDTH = {1: 8, 5: 4}


def split_start(
    request: bytes, max_input_bytes: int, parts: PartBounds
) -> tuple[bytes, bytes | None]:
    """Of a RunRequest or StartRunRequest, the bytes of the spec without its data, and of the data.

    Raises InvalidArgument if it holds too many of anything, or is no such message.
    """
    try:
        return _split_start(request, max_input_bytes, parts)
    except _Nonsense:
        what = f"is not a {v1.RunRequest.DESCRIPTOR.full_name}"
        raise InvalidArgument(Violation("", what)) from None


def _split_start(
    request: bytes, max_input_bytes: int, parts: PartBounds
) -> tuple[bytes, bytes | None]:
    most = max_input_bytes + _VALUE_BYTES * MAX_VALUES
    spec = bytearray()
    data: bytes | None = None
    labels = seen = given = 0
    for number, _, body in _fields(memoryview(request)):
        seen = _one_more(seen)
        for inner, whole, part in _fields(body) if number == _SPEC else ():
            if inner in (_PARTS, _MESSAGES):
                within = _fields(part) if inner == _MESSAGES else ()
                given += 1 + sum(1 for _ in islice(within, parts.count + 1))
                if given > 4 * parts.count:  # the domain says it more exactly, of fewer
                    words = f"all parts, those of messages included, must be at most {parts.count}"
                    field = "spec.parts" if inner == _PARTS else "spec.messages"
                    raise InvalidArgument(Violation(field, words))
                spec += whole
                continue
            seen = _one_more(seen)
            labels += inner == _LABELS
            if labels > MAX_LABELS:
                raise InvalidArgument(Violation("spec.labels", f"must be at most {MAX_LABELS}"))
            if inner != _DATA:
                spec += whole
                continue
            data = (data or b"") + part  # of two, protobuf makes one
            if len(data) > most:
                words = f"must be at most {most} bytes in a message, and {MAX_VALUES} values"
                raise InvalidArgument(Violation("spec.input_data", words))
    return bytes(spec), data


def check_continue(data: bytes) -> None:
    """Raises InvalidArgument if a ContinueRunRequest holds too many of anything."""
    if len(data) < COUNT_FROM:
        return
    decisions = seen = 0
    with suppress(_Nonsense):  # its reader says so
        for number, _, _ in _fields(memoryview(data)):
            seen = _one_more(seen)
            decisions += number == _DECISIONS
            if decisions > MAX_DECISIONS:
                raise InvalidArgument(Violation("decisions", f"must be at most {MAX_DECISIONS}"))


def heaviest_field(message: type[Message], data: bytes) -> str:
    """The name of the field that takes most of these bytes, as far as the first fields show.

    Empty where that is no field of the message, or the bytes are none.
    """
    weights: Counter[int] = Counter()
    with suppress(_Nonsense):
        for number, whole, _ in islice(_fields(memoryview(data)), _MAX_FIELDS):
            weights[number] += len(whole)
    for number, _ in weights.most_common(1):
        field = message.DESCRIPTOR.fields_by_number.get(number)
        return "" if field is None else field.name
    return ""


class _Nonsense(Exception):
    """The bytes are no message."""


def _one_more(seen: int) -> int:
    if seen >= _MAX_FIELDS:
        raise InvalidArgument(Violation("", f"must have at most {_MAX_FIELDS} fields"))
    return seen + 1


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Each field's number, all of its bytes, and those behind its length if it has one."""
    position, end = 0, len(data)
    while position < end:
        start = position
        key, position = _varint(data, position)
        kind = key & 7
        body = data[:0]
        if kind == 0:
            _, position = _varint(data, position)
        elif kind == 2:
            length, position = _varint(data, position)
            body = data[position : position + length]
            position += length
        elif kind in _WIDTH:
            position += _WIDTH[kind]
        else:
            raise _Nonsense
        if position > end:
            raise _Nonsense
        yield key >> 3, data[start:position], body


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
    raise _Nonsense
