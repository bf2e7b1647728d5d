"""An author's values as plain ones: exact built-in types, valid UTF-8, bounded in size.

A value of an author's may have code of its own that raises, lies or never returns. So all of this
runs in the author's thread, where the value was handed over, and never under a lock. What the
values mean (events, sources, usage) is not known here; that is `gate`.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

MAX_DEPTH = 30
"""Objects and lists within each other. Protobuf reads 100 messages deep; an object takes three."""
MAX_WHOLE = 2**53
"""JSON's numbers are doubles: a larger whole number would come back as another one."""


class UnreadData(Mapping[str, Any]):
    """Data that is still serialized. The thread that needs its values reads them."""

    nbytes: int
    """Its size for bounds on data."""

    def plain(self) -> dict[str, Any]:
        """The data in dicts and lists. It is read here: not on a loop that serves others."""
        raise NotImplementedError


_Where = tuple[str, "_Where | None"]
"""The last piece of a path, and the place that it is in."""
_VALUE = 12
"""Bytes that one value takes in a message beside its text, roughly."""
_MAX_CLASS_NAME = 256
_MAX_WHY = 256
"""Bytes of an author's error that are repeated in ours."""
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_name_of_class = type.__dict__["__name__"].__get__
"""Reads a class's real name, whatever its metaclass says."""


def class_name(value: object) -> str:
    """The name of the value's class."""
    return cut(str.__str__(_name_of_class(type(value))), _MAX_CLASS_NAME)


def words(value: object) -> str:
    """The value's text; its class's name in angle brackets if its own code raises."""
    try:
        return valid(str.__str__(str(value)))  # `__str__` may return a subclass of str
    except Exception:
        return f"<{class_name(value)}>"


def valid(text: str) -> str:
    """The same text as UTF-8 can hold it.

    Two halves of a surrogate pair, side by side, become their character; a lone half becomes "?".
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return _PAIR.sub(_joined, text).encode("utf-8", "replace").decode()
    return text


def is_valid(text: str) -> bool:
    """Whether UTF-8 can hold this text: no half of a surrogate pair is in it."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_TEXTLESS = (type(None), bool, int, float)
NOT_VALID = "is not valid Unicode: it has half of a surrogate pair"


def where_invalid(value: Any, path: str = "") -> str | None:
    """The path of the first text or key in a JSON value, or in a dataclass of such, that UTF-8
    cannot hold; None: there is none. Of a key it is the path of its object."""
    left: list[tuple[Any, _Where]] = [(value, (path, None))]
    while left:
        one, where = left.pop()
        if isinstance(one, str):
            if not is_valid(one):
                return _path(where)
        elif type(one) in _TEXTLESS or isinstance(one, UnreadData):  # that was read from UTF-8
            continue
        elif isinstance(one, Mapping):
            if not all(is_valid(key) for key in one if isinstance(key, str)):
                return _path(where)
            left += [(inner, (f".{key}", where)) for key, inner in reversed(list(one.items()))]
        elif isinstance(one, list | tuple):
            inner = [(item, (f"[{index}]", where)) for index, item in enumerate(one)]
            left += reversed(inner)
        elif is_dataclass(one):
            kind: Any = type(one)
            left += [(getattr(one, name), (piece, where)) for name, piece in _pieces(kind)]
    return None


@lru_cache(maxsize=256)
def _pieces(kind: Any) -> list[tuple[str, str]]:
    """The fields of a dataclass, last first, and what each is in a path."""
    return [(field.name, f".{field.name}") for field in reversed(fields(kind))]


def _path(where: "_Where | None") -> str:
    """The whole path of a place, or its end if it is long."""
    pieces: list[str] = []
    while where is not None:
        pieces.append(where[0])
        where = where[1]
    return "".join(reversed(pieces)).removeprefix(".")[-_MAX_WHY:]


def _joined(pair: "re.Match[str]") -> str:
    return pair[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le")


def cut(text: str, most: int) -> str:
    """The text as valid UTF-8, at most so many bytes of it; an ellipsis says that there was more.

    The ellipsis takes three bytes more.
    """
    head = valid(text[: most + 1])  # of a text of megabytes, no more is looked at
    encoded = head.encode()
    if len(encoded) <= most:
        return head
    return encoded[:most].decode("utf-8", "ignore") + "…"


def text(value: object, field: str, most: int | None = None) -> str:
    """The value as a valid text of the exact type str.

    Raises:
        TypeError, ValueError: `field` is no text, or has more than `most` bytes.
    """
    kind = type(value)
    if not issubclass(kind, str):
        raise TypeError(f"{field} must be text, not {class_name(value)}")
    made = valid(str.__str__(value))
    if most is not None and 4 * len(made) > most and (size := len(made.encode())) > most:
        raise ValueError(f"{field} must be at most {most} bytes, and has {size}")
    return made


def unreadable(field: str, error: Exception) -> TypeError:
    """The error to raise if an author's own code raised while `field` was read."""
    return TypeError(f"{field} cannot be read: {class_name(error)}: {cut(words(error), _MAX_WHY)}")


def plain(data: object, field: str, max_bytes: int) -> dict[str, Any]:
    """The same data as JSON has it, in objects of our own.

    Enums become their values, and sets lists, in order if there is one. What JSON cannot hold
    becomes text: NaN, infinities, whole numbers beyond 2**53, bytes, objects. Below MAX_DEPTH an
    object becomes `{…}`, and a list `[…]`.

    Raises:
        TypeError: `field` is no mapping, or cannot be read.
        ValueError: it would take more than `max_bytes` in a message.
    """
    try:
        if not issubclass(type(data), Mapping):
            raise _Refused(TypeError(f"{field} must be a mapping, not {class_name(data)}"))
        return _Copy(field, max_bytes).mapping(data, 1)
    except _Refused as refused:
        raise refused.error from None
    except Exception as error:  # the author's own code, such as that of a mapping of their own
        raise unreadable(field, error) from error


def _sorted(values: Iterable[Any]) -> list[Any]:
    """Texts in order, others as they come: the same set then is the same list in every process."""
    found = list(values)
    return sorted(found) if all(type(value) is str for value in found) else found


class _Refused(Exception):
    """Carries an error of ours past those that an author's code raises."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class _Copy:
    """One copy of data, and the room that is left for it."""

    def __init__(self, field: str, max_bytes: int) -> None:
        self._field = field
        self._max_bytes = max_bytes
        self._room = max_bytes

    def mapping(self, data: Any, depth: int) -> dict[str, Any]:
        # A subclass of dict may have code of its own; a dict's own method passes it by.
        items = dict.items(data) if issubclass(type(data), dict) else data.items()
        return {self._key(key): self._value(item, depth) for key, item in items}

    def _items(self, values: Iterable[Any], depth: int) -> list[Any]:
        return [self._value(item, depth) for item in values]

    def _key(self, key: Any) -> str:
        if type(key) is str:
            return self._text(key)
        if issubclass(type(key), Enum):
            key = key.value
        return self._text(str.__str__(key) if issubclass(type(key), str) else words(key))

    def _value(self, value: Any, depth: int) -> Any:
        self._take(_VALUE)
        kind = type(value)
        if kind is str:
            return self._text(value)
        if value is None or kind is bool:
            return value
        if issubclass(kind, Enum) and depth < MAX_DEPTH:  # its value may be any other, or itself
            return self._value(value.value, depth + 1)
        if issubclass(kind, str):
            return self._text(str.__str__(value))
        if issubclass(kind, int):
            whole = int.__int__(value)
            return whole if abs(whole) <= MAX_WHOLE else self._text(words(whole))
        if issubclass(kind, float):
            number = float.__float__(value)
            return number if math.isfinite(number) else self._text(words(number))
        if issubclass(kind, list | tuple):
            if depth == MAX_DEPTH:
                return self._text("[…]")
            own = list if issubclass(kind, list) else tuple
            return self._items(own.__iter__(value), depth + 1)
        if issubclass(kind, set | frozenset):
            if depth == MAX_DEPTH:
                return self._text("[…]")
            kept = set if issubclass(kind, set) else frozenset
            return self._items(_sorted(kept.__iter__(value)), depth + 1)
        if issubclass(kind, Mapping):
            return self.mapping(value, depth + 1) if depth < MAX_DEPTH else self._text("{…}")
        return self._text(words(value))

    def _text(self, text: str) -> str:
        made = valid(text)
        self._take(4 + (len(made) if made.isascii() else len(made.encode())))
        return made

    def _take(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise _Refused(ValueError(f"{self._field} must be at most {self._max_bytes} bytes"))
