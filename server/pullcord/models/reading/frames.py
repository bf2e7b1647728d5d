"""Bytes to frames: server-sent events as servers really send them, or JSON instead of a stream.

Comments, frames without data, any line ending, JSON line by line, one JSON for the whole body: all
of them come out as frames, and the beginning of anything else is kept for the error's words. The
meaning of a frame is not known here.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

MAX_FRAME = 16 * 1024 * 1024
"""Bytes of one frame, or of an answer that is no stream."""
_SHOWN = 300
_LINE_END = re.compile(rb"\r\n|\n|\r")
_CLOSING = (b"}", b"]")


_DECODER = json.JSONDecoder()
_GLUE = re.compile(r"\s*(?:data:\s*)*")


class Done:
    """The word `[DONE]`, by which many servers end a stream."""


DONE: Final = Done()


class NotAFrame(Exception):
    """Something came that is no frame of JSON.

    `text` is its beginning, `event` its event's name.
    """

    def __init__(self, text: str, event: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.event = event


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: the event's name, if it has any, and its data, which is JSON or DONE."""

    event: str
    data: Any


class FrameReader:
    """Puts frames together from pieces of bytes, each as soon as it is whole."""

    def __init__(self) -> None:
        self._open = bytearray()  # the last line, which has not ended yet
        self._after_return = False  # the line before ended with CR, whose LF may follow
        self._is_first = True
        self._event = ""
        self._data: list[bytes] = []
        self._size = 0
        self._is_plain = False  # the data is JSON without the name of a field
        self.ignored = ""
        """The beginning of what came and belongs to no stream."""

    def feed(self, piece: bytes) -> Iterator[Frame]:
        """The frames that are whole with this piece.

        Raises:
            NotAFrame: the data of a frame is no JSON, or too long.
        """
        for line in self._lines(piece):
            yield from self._take(line)
        if self._size + len(self._open) > MAX_FRAME:
            raise NotAFrame(f"a frame of more than {MAX_FRAME} bytes")
        # JSON shows by itself whether it is whole. The frame's end may never come: some servers
        # leave the connection open.
        if self._open:
            if bytes(self._open[-16:]).rstrip().endswith(_CLOSING):
                yield from self._try_open_line()
        elif self._data:
            yield from self._try()

    def end(self) -> Iterator[Frame]:
        """The frames in what is left; nothing that is not whole is one."""
        if self._open:
            line = bytes(self._open)
            self._open.clear()
            yield from self._take(line)
        yield from self._try()
        if self._data:
            self._ignore(b"\n".join(self._data))

    def _lines(self, piece: bytes) -> Iterator[bytes]:
        if not piece:
            return
        if self._after_return:
            piece = piece.removeprefix(b"\n")
        self._after_return = piece.endswith(b"\r")
        start = 0
        for end in _LINE_END.finditer(piece):
            self._open += piece[start : end.start()]
            start = end.end()
            line = bytes(self._open)
            self._open.clear()
            yield line
        self._open += piece[start:]

    def _take(self, line: bytes) -> Iterator[Frame]:
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        name, value = self._field(line)
        if name == b"data":
            if self._data and not self._is_plain:  # some servers leave out the empty line between
                yield from self._try()
            self._add(value)
            if self._is_plain and (len(self._data) == 1 or line.startswith(_CLOSING)):
                yield from self._try()
        elif not line.strip():
            if not self._is_plain:
                yield from self._must()
        elif name == b"event":
            yield from self._try()
            self._event = value.decode("utf-8", "replace").strip()
        elif name not in (b"", b"id", b"retry"):
            self._ignore(line)

    def _field(self, line: bytes) -> tuple[bytes, bytes]:
        if self._is_plain or (not self._data and line.lstrip()[:1] in (b"{", b"[")):
            self._is_plain = True
            return b"data", line
        name, _, value = line.partition(b":")
        return name.strip().lower(), value

    def _add(self, value: bytes) -> None:
        self._data.append(value)
        self._size += len(value)

    def _try_open_line(self) -> Iterator[Frame]:
        """The frame that the line which has not ended completes, if it does."""
        line = bytes(self._open)
        was_plain = self._is_plain
        name, value = self._field(line.removeprefix(b"\xef\xbb\xbf"))
        if name == b"data":
            self._add(value)
            frames = list(self._try())
            if frames:
                self._open.clear()
                self._is_first = False
                yield from frames
                return
            self._data.pop()
            self._size -= len(value)
        self._is_plain = was_plain

    def _try(self) -> Iterator[Frame]:
        """The frame that was gathered, if it is whole."""
        try:
            yield from self._must()
        except NotAFrame:
            return

    def _must(self) -> Iterator[Frame]:
        """The frame that was gathered; none where it has no data."""
        text = b"\n".join(self._data).decode("utf-8", "surrogateescape").strip()
        try:
            event = self._event
            frames = [Frame(event, value) for value in _parsed(text)]
        except (ValueError, RecursionError) as error:
            raise NotAFrame(text[:_SHOWN], self._event) from error
        self._event, self._data, self._size, self._is_plain = "", [], 0, False
        yield from frames

    def _ignore(self, line: bytes) -> None:
        if len(self.ignored) < _SHOWN:
            self.ignored += line[:_SHOWN].decode("utf-8", "replace") + " "


def _parsed(text: str) -> list[Any]:
    """The values in a frame's text: one, or several objects that a proxy has glued together."""
    if not text:
        return []
    if text.strip('"').upper() in ("[DONE]", "DONE"):
        return [DONE]
    try:
        return [json.loads(text)]
    except ValueError:
        if not (values := _glued(text)):
            raise
        return values


def _glued(text: str) -> list[Any]:
    """Objects that follow one another, perhaps each with the name of its field; else none."""
    values: list[Any] = []
    position = 0
    while match := _GLUE.match(text, position):
        position = match.end()
        if text[position:].upper() == "[DONE]":
            return [*values, DONE]
        if not text.startswith("{", position):
            return []
        try:
            value, position = _DECODER.raw_decode(text, position)
        except ValueError:
            return []
        values.append(value)
        if position == len(text):
            return values
    return []
