"""pullcord.v1 messages as JSON, in the mapping that protobuf defines, and in ASCII only.

ASCII, because some readers split lines at U+2028, which JSON allows inside text. The encoding in
bytes is in `event` and its neighbours.
"""

import json
from datetime import UTC, datetime
from json.decoder import JSONArray as _array  # type: ignore[attr-defined]
from json.decoder import JSONDecoder
from json.decoder import JSONObject as _object  # type: ignore[attr-defined]
from json.encoder import encode_basestring_ascii
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from pullcord.engine.log.record import Record
from pullcord.run.errors import InvalidArgument, Violation
from pullcord.run.plain import NOT_VALID, where_invalid
from pullcord.v1 import run_service_pb2 as v1
from pullcord.wire.event import response_bytes

M = TypeVar("M", bound=Message)

_AT_ONCE = 128 * 1024
"""Bytes of JSON that the C reader gets, which holds the interpreter until it is done."""


def event_json(run_id: str, record: Record) -> bytes:
    """The JSON of an event (RunEvent), on one line."""
    if record.payload is None and record.source is None:
        kind = "reasoningDelta" if record.reasoning else "contentDelta"
        count = f',"count":{record.count}' if record.count > 1 else ""
        return (
            f'{{"runId":"{run_id}","sequence":"{record.sequence}",'
            f'"createTime":"{_time(record.create_time)}",'
            f'"{kind}":{{"text":{encode_basestring_ascii(record.text)}{count}}}}}'
        ).encode()
    if record.json is None:
        data = record.wire or response_bytes(run_id, record)
        record.json = to_json(v1.RunResponse.FromString(data).event)
    return record.json


def _time(seconds: float) -> str:
    made = datetime.fromtimestamp(seconds, UTC)
    return f"{made:%Y-%m-%dT%H:%M:%S}.{made.microsecond:06}Z"


def to_json(message: Message) -> bytes:
    """The JSON of any message, on one line."""
    return json.dumps(json_format.MessageToDict(message), separators=(",", ":")).encode()


def from_json(message: type[M], data: bytes) -> M:
    """Reads a message from JSON. Fields that nobody knows are passed over.

    Raises:
        InvalidArgument: it is no JSON of such a message; the words say where.
    """
    made = message()
    try:
        values = _read(data)
        json_format.ParseDict(values, made, ignore_unknown_fields=True)
    except (json_format.ParseError, ValueError, RecursionError, TypeError, AttributeError) as error:
        words = f"is no JSON of a {message.DESCRIPTOR.full_name}: {str(error)[:300]}"
        raise InvalidArgument(Violation("", words)) from None
    return made


class _Decoder(JSONDecoder):
    """Python's own reader in Python: slower, but other threads run between any two values."""

    def __init__(self) -> None:
        super().__init__()
        self.parse_object = _object
        self.parse_array = _array
        self.scan_once = py_make_scanner(self)


def read_json(data: bytes) -> Any:
    """Any JSON value, whose text UTF-8 can hold. Raises InvalidArgument, which names the field."""
    try:
        return _read(data)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(Violation("", f"the body is no JSON: {error}")) from None


def _read(data: bytes) -> Any:
    """Raises InvalidArgument for text with half of a surrogate pair, which only an escape makes."""
    text = data.decode(json.detect_encoding(data))
    value = json.loads(text) if len(data) < _AT_ONCE else _Decoder().decode(text)
    if ("\\ud" in text or "\\uD" in text) and (where := where_invalid(value)) is not None:
        raise InvalidArgument(Violation(where, NOT_VALID))
    return value
