"""Struct read in Python is what protobuf reads, and what is too much or wrong is named."""

import json
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from hypothesis import given
from hypothesis import strategies as st
from pullcord.run.plain import MAX_DEPTH
from pullcord.wire.structs import MAX_FAULTS, TooManyValues, read_struct
from pullcord.wire.values import data_of, struct_bytes

from tests.wire.strategies import data


@given(data)
def test_data_is_read_as_protobuf_reads_it(made: dict[str, Any]) -> None:
    """The data, and the length of their JSON text."""
    serialized = struct_bytes(made)
    read = read_struct(serialized)
    assert read.data == data_of(Struct.FromString(serialized))
    assert read.json_bytes == len(json.dumps(read.data, separators=(",", ":")))
    assert read.faults == []


@given(data, data)
def test_two_messages_in_a_row_are_one(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Bytes that follow one another merge, at every depth, as protobuf has it."""
    inner = Value(struct_value=Struct.FromString(struct_bytes(first))).SerializeToString()
    inner += Value(struct_value=Struct.FromString(struct_bytes(second))).SerializeToString()
    inner += Value(list_value=ListValue(values=[Value(bool_value=True)])).SerializeToString()
    inner += Value(list_value=ListValue(values=[Value(number_value=1)])).SerializeToString()
    entry = b"\x0a\x01k\x12" + _varint(len(inner)) + inner
    serialized = struct_bytes(first) + struct_bytes(second) + b"\x0a" + _varint(len(entry)) + entry
    assert read_struct(serialized).data == data_of(Struct.FromString(serialized))


@given(st.binary(max_size=60))
def test_nonsense_is_refused_or_is_nothing(serialized: bytes) -> None:
    """Bytes of anybody's raise nothing but ValueError."""
    with suppress(ValueError):
        read_struct(serialized)


def _varint(number: int) -> bytes:
    return bytes([number & 0x7F | 0x80, number >> 7]) if number > 127 else bytes([number])


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_message_that_is_cut_off_is_refused(cut: int) -> None:
    """Also where what is left would make sense by itself, but for its length."""
    serialized = struct_bytes({"key": [1.5, "text"]})
    with pytest.raises(ValueError, match="cut off"):
        read_struct(serialized[:-cut])


def _list(count: int) -> Struct:
    return Struct(fields={"a": Value(list_value={"values": [Value(number_value=1)] * (count - 1)})})


def _keys(count: int) -> Struct:
    return Struct(fields={f"{n}": Value(string_value="x") for n in range(count)})


def _nested(count: int) -> Struct:
    pair = Value(struct_value=Struct(fields={"a": Value(null_value=0)}))  # type: ignore[arg-type]  # the only one
    return Struct(fields={"a": Value(list_value={"values": [pair] * ((count - 1) // 2)})})


@pytest.mark.parametrize("shape", [_list, _keys, _nested])
def test_values_are_counted_whatever_their_shape(shape: Any) -> None:
    """Data of just the bound passes, and one value more is refused."""
    read_struct(shape(1001).SerializeToString(), 1001)
    with pytest.raises(TooManyValues):
        read_struct(shape(1003).SerializeToString(), 1001)


def test_fields_that_nobody_knows_are_counted() -> None:
    """What holds no value may not take for ever either."""
    with pytest.raises(TooManyValues):
        read_struct(b"\xf8\x7f\x01" * 10_000, 1000)


def test_faults_have_a_path() -> None:
    """What JSON cannot hold is named by its place; of very many, the first."""
    message = Struct()
    message.update({"a": [1, {"b": float("nan")}], "c": 1})
    deep: Any = {"end": 1}
    for _ in range(MAX_DEPTH):
        deep = {"d": deep}
    message.fields["deep"].struct_value.update(deep)
    assert dict(read_struct(message.SerializeToString()).faults) == {
        ".a[1].b": "must be a finite number",
        ".deep" + ".d" * (MAX_DEPTH - 1): f"must be nested at most {MAX_DEPTH} deep",
    }
    many = Struct()
    many.update({"a": [float("inf")] * 1000})
    assert len(read_struct(many.SerializeToString()).faults) == MAX_FAULTS
