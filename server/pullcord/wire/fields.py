"""The reading of a request's fields, which collects everything that is wrong before it refuses.

One reader serves one request. What the fields mean together is the domain's business.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message

from pullcord.run.errors import InvalidArgument, Violation
from pullcord.run.principal import MAX_SUBJECT_LENGTH
from pullcord.run.record import (
    MAX_DURATION,
    MAX_LABELS,
    is_id,
    is_runnable_name,
    is_user_id,
    label_violations,
)
from pullcord.run.scope import Reach
from pullcord.wire.counting import MAX_VALUES, heaviest_field
from pullcord.wire.enums import D, EnumPair
from pullcord.wire.structs import TooManyValues, read_struct
from pullcord.wire.values import StructData, seconds_of

M = TypeVar("M", bound=Message)

_MAX_DURATION_SECONDS = 315_576_000_000
"""Of google.protobuf.Duration: ten thousand years."""

MAX_REQUEST_BYTES = 256 * 1024
"""Of a request that carries neither input nor answers."""


def decode(message: type[M], data: bytes, most: int = MAX_REQUEST_BYTES) -> M:
    """Reads a request's bytes.

    Raises:
        InvalidArgument: they are more than `most`, and the field that takes most of them is named;
            or they are no such message, or nested deeper than protobuf reads.
    """
    if len(data) > most:
        field = heaviest_field(message, data)
        words = f"must be at most {most} bytes, and has {len(data)}"
        raise InvalidArgument(Violation(field, f"the request {words}" if field else words))
    try:
        return message.FromString(data)
    except DecodeError:
        what = f"is not a {message.DESCRIPTOR.full_name}, or nested too deep"
        raise InvalidArgument(Violation("", what)) from None


class Fields:
    """Reads fields, and remembers every one that is wrong."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def wrong(self, field: str, description: str) -> None:
        """Remembers that a field is wrong."""
        self.violations.append(Violation(field, description))

    def is_wrong(self, field: str) -> bool:
        """Whether this field, or something within it, was found wrong."""
        return any(v.field == field or v.field.startswith(f"{field}.") for v in self.violations)

    def check(self, prefix: str = "") -> None:
        """Raises InvalidArgument if anything was wrong, with `prefix` before every field's path."""
        if self.violations:
            raise InvalidArgument(
                *(Violation(prefix + v.field, v.description) for v in self.violations)
            )

    def run_id(self, field: str, value: str, *, required: bool = True) -> str:
        """A run's or a session's id."""
        if not value and required:
            self.wrong(field, "is required")
        elif value and not is_id(value):
            self.wrong(field, "must be 1 to 128 of letters, digits, '-', '_', '.' and ':'")
        return value

    def user_id(self, field: str, value: str) -> str:
        """A user's id, or nothing."""
        if value and not is_user_id(value):
            self.wrong(field, "must be 1 to 128 of letters, digits and -_.:@+/")
        return value

    def whose(self, message: Any) -> Reach:
        """Whose runs are meant, by the message's `tenant` and `owner`."""
        tenant = self.text("tenant", message.tenant, MAX_SUBJECT_LENGTH)
        return Reach(tenant, self.text("owner", message.owner, MAX_SUBJECT_LENGTH))

    def runnable(self, field: str, value: str) -> str:
        """A runnable's full name, or nothing."""
        if value and not is_runnable_name(value):
            self.wrong(field, "must look like 'agents/<id>', 'teams/<id>' or 'workflows/<id>'")
        return value

    def labels(self, field: str, value: Mapping[str, str]) -> dict[str, str]:
        """Labels, as a dict of their own; empty if they are too many."""
        if len(value) > MAX_LABELS:
            self.wrong(field, f"must be at most {MAX_LABELS}")
            return {}
        labels = dict(value)
        for violation in label_violations(labels):
            where = violation.field.removeprefix("labels")
            self.wrong(field + where, violation.description)
        return labels

    def text(self, field: str, value: str, most: int) -> str:
        """Words of at most so many characters."""
        if len(value) > most:
            self.wrong(field, f"must be at most {most} characters")
        return value

    def number(self, field: str, value: int, most: int | None = None) -> int:
        """A number that is not negative."""
        if value < 0 or (most is not None and value > most):
            self.wrong(field, "must not be negative" if most is None else f"must be 0 to {most}")
        return value

    def enum(self, field: str, pair: EnumPair[D], number: int) -> D | None:
        """A member of an enum; None where it is not stated."""
        member = pair.find(number)
        if member is None and number:
            self.wrong(field, f"has no value {number}")
        return member

    def seconds(self, field: str, owner: Message, name: str) -> float | None:
        """A well-formed duration of the owner's field `name`; None where it is unset or wrong."""
        if not owner.HasField(name):
            return None
        message: Duration = getattr(owner, name)
        if (
            abs(message.seconds) > _MAX_DURATION_SECONDS
            or abs(message.nanos) > 999_999_999
            or message.seconds * message.nanos < 0
        ):
            self.wrong(field, "is not a valid google.protobuf.Duration")
            return None
        return seconds_of(message)

    def wait(self, field: str, owner: Message, name: str) -> float | None:
        """A duration from 0 to 30 days, both included; None where it is unset or wrong."""
        seconds = self.seconds(field, owner, name)
        if seconds is not None and not 0 <= seconds <= MAX_DURATION:
            self.wrong(field, "must be 0 to 30 days")
            return None
        return seconds

    def data(self, field: str, serialized: bytes | None) -> StructData | None:
        """JSON-like data, from the bytes of its Struct; None where it is unset or wrong."""
        if serialized is None:
            return None
        try:
            read = read_struct(serialized, MAX_VALUES)
        except TooManyValues:
            self.wrong(field, f"must hold at most {MAX_VALUES} values")
            return None
        except ValueError:
            self.wrong(field, "is not a google.protobuf.Struct")
            return None
        for path, description in read.faults:
            self.wrong(field + path, description)
        return None if read.faults else StructData(serialized, read.json_bytes)
