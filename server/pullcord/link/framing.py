"""Messages on a stream socket: each behind its length. What is in them is not known here."""

import struct
from collections.abc import Iterator

_LENGTH = struct.Struct("<I")
MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes of one message. A longer one can only come of a broken peer."""


def framed(message: bytes) -> bytes:
    """A message as it is sent."""
    return head(len(message)) + message


def head(size: int) -> bytes:
    """What is sent before a message of this size."""
    return _LENGTH.pack(size)


class Deframer:
    """Cuts what was received into messages. A message that is cut off at the end is dropped."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are whole by now. Raises ValueError for what no peer of ours sends."""
        self._buffer += data
        start, end = 0, len(self._buffer)
        while end - start >= 4:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            if length > MAX_MESSAGE:
                raise ValueError(f"a message of {length} bytes cannot be of this link")
            if end - start - 4 < length:
                break
            yield bytes(memoryview(self._buffer)[start + 4 : start + 4 + length])
            start += 4 + length
        if start:
            del self._buffer[:start]
