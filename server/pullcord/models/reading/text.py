"""Text from providers and authors, made such that it can be encoded, logged and shown.

Characters only: what a text means is not known here.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_BYTES = re.compile("[\udc80-\udcff]+")
_LONE = re.compile("[\ud800-\udfff]")
_OPEN_END = re.compile("(?:[\ud800-\udbff]|[\udc80-\udcff]{1,3})$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_MAX_DEPTH = 64


def encodable(text: str) -> str:
    """The same text without surrogates: halves that belong together are joined, lone ones replaced.

    Bytes that were no UTF-8 are expected as `surrogateescape` decodes them.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        text = _PAIR.sub(_joined, text)
        text = _BYTES.sub(_decoded, text)
        text = _LONE.sub("\ufffd", text)
    return text


def _joined(pair: re.Match[str]) -> str:
    return pair[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le")


def _decoded(run: re.Match[str]) -> str:
    return run[0].encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class Joint:
    """Text that comes in pieces, which may be cut in the middle of a character."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """The text that can be passed on now; half a character is held back."""
        if not self._held and piece.isascii():
            return piece
        text = self._held + piece
        end = _OPEN_END.search(text)
        self._held = end[0] if end is not None else ""
        return encodable(text[: len(text) - len(self._held)])

    def flush(self) -> str:
        """The half of a character that was held back, and whose other half has not come."""
        held, self._held = self._held, ""
        return encodable(held)


def sendable(value: Any, depth: int = 0) -> Any:
    """The same JSON value such that it can be encoded: no surrogates, no NaN, no endless depth."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if depth >= _MAX_DEPTH:
        return None if isinstance(value, Mapping | list | tuple) else value
    if isinstance(value, Mapping):
        return {encodable(str(k)): sendable(item, depth + 1) for k, item in value.items()}
    if isinstance(value, list | tuple):
        return [sendable(item, depth + 1) for item in value]
    return value


def one_line(text: str, most: int) -> str:
    """The text in one line without control characters, cut at so many characters."""
    line = _CONTROL.sub(" ", encodable(text[: 4 * most])).strip()
    return line if len(line) <= most else f"{line[: most - 1]}…"
