"""The frame that starts a run, put together around what the run is given, which may be many MiB.

protobuf takes some 20 ms to encode 8 MiB, and the loop that sends frames answers nobody meanwhile.
So texts and files go as they are, behind their lengths. What a spec means is not known here.
"""

from collections.abc import Iterable, Iterator

from pullcord.link import frames_pb2 as pb
from pullcord.run.message import Message, Part
from pullcord.run.record import RunSpec
from pullcord.v1 import run_pb2
from pullcord.wire.enums import MESSAGE_ROLE

_FRAMES = pb.Down.FRAMES_FIELD_NUMBER
_START = pb.DownFrame.START_FIELD_NUMBER
_SPEC = pb.Start.SPEC_FIELD_NUMBER


def start_frame(start: pb.Start, given: RunSpec | None) -> list[bytes]:
    """A Down in pieces: `start`, and in its spec what the run is given; None: its input is there.

    A message that comes twice is merged, so that the large fields can be a message of their own.
    """
    pieces = [pb.DownFrame(start=start).SerializeToString()]
    if given is not None:
        pieces += _field(_START, _field(_SPEC, list(_given(given))))
    return _field(_FRAMES, pieces)


def _given(spec: RunSpec) -> Iterator[bytes]:
    yield from _field(run_pb2.RunSpec.INPUT_FIELD_NUMBER, [spec.input.encode()])
    yield from _parts(run_pb2.RunSpec.PARTS_FIELD_NUMBER, spec.parts)
    for message in spec.messages:
        yield from _field(run_pb2.RunSpec.MESSAGES_FIELD_NUMBER, _message(message))


def _message(message: Message) -> list[bytes]:
    role = MESSAGE_ROLE.numbers[message.role]
    small = run_pb2.Message(role=role, name=message.name).SerializeToString()
    return [small, *_parts(run_pb2.Message.PARTS_FIELD_NUMBER, message.parts)]


def _parts(number: int, parts: Iterable[Part]) -> Iterator[bytes]:
    for part in parts:
        small = run_pb2.Part(media_type=part.media_type, name=part.name).SerializeToString()
        yield from _field(number, [small, *_content(part)])


def _content(part: Part) -> list[bytes]:
    if part.text is not None:
        return _field(run_pb2.Part.TEXT_FIELD_NUMBER, [part.text.encode()])
    if part.uri is not None:
        return _field(run_pb2.Part.URI_FIELD_NUMBER, [part.uri.encode()])
    if part.data is not None:
        return _field(run_pb2.Part.DATA_FIELD_NUMBER, [part.data])
    return []


def _field(number: int, pieces: list[bytes]) -> list[bytes]:
    """A field of bytes, a text or a message, whose content is these pieces."""
    return [_varint(number << 3 | 2) + _varint(sum(map(len, pieces))), *pieces]


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)
