"""What an author's code says, checked and copied in the author's own thread, where it says it.

After this nothing that goes into a log or an answer is an author's object any more: nobody's code
runs when it is sent, it shows what was said when it was said, and it fits a message.
"""

import functools
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

MAX_DEPTH = 30
"""Objects and lists within each other. Protobuf reads 100 messages deep; an object takes three."""
_VALUE = 12
"""Bytes that one value takes in a message beside its text, roughly."""
_MAX_TEXT = 2 * 1024 * 1024
"""Bytes of one text in an event that is not the run's own text."""
_SMALL = {"steps", "tool_calls", "attempt", "count"}
"""Numbers that are 32 bits wide in the API; the others are 64."""


def words(value: object) -> str:
    """The value's text, or, where that cannot be had, its type's name."""
    try:
        return str(value)
    except Exception:  # its own code raised
        return f"<{type(value).__name__}>"


def plain(data: Mapping[Any, Any], max_bytes: int) -> dict[str, Any]:
    """The same data as JSON has it, in objects of our own; what JSON cannot hold becomes text.

    Raises:
        TypeError: it is no mapping.
        ValueError: it would take more than `max_bytes` in a message.
    """
    if not isinstance(data, Mapping):
        raise TypeError(f"data must be a mapping, not {type(data).__name__}")
    return _Copy(max_bytes).mapping(data, 1)


class _Copy:
    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._room = max_bytes

    def mapping(self, data: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        return {self._text(words(key)): self._value(item, depth) for key, item in data.items()}

    def _value(self, value: Any, depth: int) -> Any:
        self._take(_VALUE)
        kind = type(value)
        # What most data is made of; a subclass may have code of its own, and takes the long way.
        if kind is str:
            return self._text(value)
        if kind is bool or value is None:
            return value
        if isinstance(value, Enum):
            value = value.value
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(str(value))
        if isinstance(value, (int, float)) and _is_finite(value):
            return float(value) if isinstance(value, float) else int(value)
        if depth < MAX_DEPTH:
            if isinstance(value, Mapping):
                return self.mapping(value, depth + 1)
            if isinstance(value, list | tuple):
                return [self._value(item, depth + 1) for item in value]
        return self._text(words(value))

    def _text(self, text: str) -> str:
        if type(text) is str and text.isascii():
            self._take(len(text) + 4)
            return text
        encoded = text.encode("utf-8", "replace")  # a lone surrogate could not be sent
        self._take(len(encoded) + 4)
        return encoded.decode()

    def _take(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise ValueError(f"data must be at most {self._max_bytes} bytes")


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an int that no double can hold
        return False


def check(value: Any) -> None:
    """Raises TypeError or ValueError where one of our values holds what its fields cannot."""
    for name, kinds in _kinds(value.__class__).items():
        held = getattr(value, name)
        if not isinstance(held, kinds):
            raise TypeError(f"{type(value).__name__}.{name} cannot be a {type(held).__name__}")
        if isinstance(held, str):
            is_short = type(held) is str and 4 * len(held) <= _MAX_TEXT
            if not is_short and len(held.encode("utf-8", "replace")) > _MAX_TEXT:
                raise ValueError(f"{type(value).__name__}.{name} must be at most {_MAX_TEXT} bytes")
        elif isinstance(held, (int, float)) and not isinstance(held, bool):
            most = 2**31 if name in _SMALL else 2**53
            if not abs(held) < most:  # a correction may be negative; NaN is no number
                raise ValueError(f"{type(value).__name__}.{name} must be less than {most}")
        elif is_dataclass(held):
            check(held)


@functools.cache
def _kinds(owner: type) -> dict[str, tuple[type, ...]]:
    """What each field of a dataclass of ours may hold."""
    hints = typing.get_type_hints(owner)
    return {field.name: tuple(_classes(hints[field.name])) for field in fields(owner)}


def _classes(hint: Any) -> Iterable[type]:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        for part in typing.get_args(hint):
            yield from _classes(part)
    else:
        yield typing.get_origin(hint) or hint
        if hint is float:
            yield int
