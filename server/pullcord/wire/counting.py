"""Counts what a large request repeats before anything of it is read.

Reading makes an object of each element, and 16 MiB hold millions of them. So the fields of the
message's first levels are walked over, and what is too many is refused by name. Bytes that are no
message at all are left to whoever reads them.
"""

from collections.abc import Iterator

from google.protobuf.struct_pb2 import ListValue, Struct, Value

from pullcord.run.errors import InvalidArgument, Violation
from pullcord.run.record import MAX_DECISIONS, MAX_LABELS
from pullcord.v1 import run_pb2
from pullcord.v1 import run_service_pb2 as v1

COUNT_FROM = 16 * 1024
"""Bytes from which on a request is counted; what a smaller one repeats is read in no time."""
MAX_VALUES = 50_000
"""Values in a run's data: objects, lists, and what they hold."""
_VALUE_BYTES = 16
"""Bytes that a value takes in a message beside its text, at most, roughly."""
_WALK_FROM = 256 * 1024
"""Bytes from which on a run's data is walked over: protobuf reads in one go and lets nobody else
run meanwhile, which is no matter for less."""
_MAX_FIELDS = 1000

_SPEC = v1.RunRequest.DESCRIPTOR.fields_by_name["spec"].number
_DATA = run_pb2.RunSpec.DESCRIPTOR.fields_by_name["input_data"].number
_LABELS = run_pb2.RunSpec.DESCRIPTOR.fields_by_name["labels"].number
_DECISIONS = v1.ContinueRunRequest.DESCRIPTOR.fields_by_name["decisions"].number
_WITHIN = {
    ("struct", Struct.DESCRIPTOR.fields_by_name["fields"].number): "entry",
    ("entry", 2): "value",  # of every map
    ("value", Value.DESCRIPTOR.fields_by_name["struct_value"].number): "struct",
    ("value", Value.DESCRIPTOR.fields_by_name["list_value"].number): "list",
    ("list", ListValue.DESCRIPTOR.fields_by_name["values"].number): "value",
}
"""What a field of google.protobuf.Struct and its parts leads to."""
_WIDTH = {1: 8, 5: 4}


def check_start(data: bytes, max_input_bytes: int) -> None:
    """Raises InvalidArgument if a RunRequest or StartRunRequest holds too many of anything."""
    if len(data) < COUNT_FROM:
        return
    most = max_input_bytes + _VALUE_BYTES * MAX_VALUES
    labels = values = seen = 0
    for number, body in _fields(memoryview(data)):
        seen = _one_more(seen)
        for inner, part in _fields(body) if number == _SPEC else ():
            seen = _one_more(seen)
            labels += inner == _LABELS
            values += len(part) if inner == _DATA else 0
            if labels > MAX_LABELS:
                raise InvalidArgument(Violation("spec.labels", f"must be at most {MAX_LABELS}"))
            if values > most:
                words = f"must be at most {most} bytes in a message, and {MAX_VALUES} values"
                raise InvalidArgument(Violation("spec.input_data", words))
            if inner == _DATA and len(part) > _WALK_FROM and _has_more_values(part, MAX_VALUES):
                words = f"must hold at most {MAX_VALUES} values"
                raise InvalidArgument(Violation("spec.input_data", words))


def check_continue(data: bytes) -> None:
    """Raises InvalidArgument if a ContinueRunRequest holds too many of anything."""
    if len(data) < COUNT_FROM:
        return
    decisions = seen = 0
    for number, _ in _fields(memoryview(data)):
        seen = _one_more(seen)
        decisions += number == _DECISIONS
        if decisions > MAX_DECISIONS:
            raise InvalidArgument(Violation("decisions", f"must be at most {MAX_DECISIONS}"))


def _has_more_values(struct: memoryview, most: int) -> bool:
    """Whether this Struct holds more values."""
    within = [("struct", struct)]
    values = seen = 0
    while within:
        kind, data = within.pop()
        for number, body in _fields(data):
            inner = _WITHIN.get((kind, number))
            values += inner == "value"
            seen += 1
            if values > most or seen > 4 * most:
                return True
            if inner is not None:
                within.append((inner, body))
    return False


def _one_more(seen: int) -> int:
    if seen >= _MAX_FIELDS:
        raise InvalidArgument(Violation("", f"must have at most {_MAX_FIELDS} fields"))
    return seen + 1


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Each field's number, and its bytes if it has a length; ends where the bytes make no sense."""
    position, end = 0, len(data)
    while position < end:
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
            return
        yield key >> 3, body


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
    return value, len(data)
