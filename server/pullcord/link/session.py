"""A stream of bytes each way that outlives its connections: numbered, acknowledged, sent again.

Each end keeps what the other has not passed on yet, and sends it again over the next connection;
what comes twice is dropped. Nothing here reads a socket or a clock, and what the bytes mean is not
known here.

1. A piece has the next number, and comes in that order, whatever connections it takes.
2. No more than `WINDOW` bytes are on their way, so the other end always has room to read them. It
   therefore reads whatever comes, and answers a ping however slow the reader behind it is.
3. What was acknowledged was passed on, and is never sent again.
"""

import struct
from collections import deque
from enum import IntEnum

WINDOW = 1024 * 1024
"""Bytes that are kept until the other end has passed them on; until then nothing more is taken."""
PIECE = 64 * 1024
"""Bytes of one piece, and those that are made ready for a connection at a time."""
_WEIGHT = 128
"""Bytes that a piece is reckoned to take beside its content."""
_HEAD = struct.Struct("<BIQQ")
"""Kind, size of the content, number, and the last number that was passed on here."""


class _Kind(IntEnum):
    DATA = 1
    END = 2
    """After the last piece: there is no more of this direction."""
    HAVE = 3
    """The first of a connection: the last number that has come."""
    ACKNOWLEDGE = 4
    PING = 5
    PONG = 6
    """Bears the number of its ping."""
    OVER = 7
    """This end has left; the session is not continued."""


class SessionTorn(Exception):
    """The other end says what no end of a session can; the message says what."""


class Session:
    """One end of it."""

    def __init__(self) -> None:
        self._made = 0
        """The last number that was given to a piece."""
        self._kept: deque[tuple[int, _Kind, bytes]] = deque()
        """Pieces that the other end has not acknowledged."""
        self._kept_bytes = 0
        self._next = 1
        """The number that this connection sends next."""
        self._out = bytearray()
        """Records of this connection that are not sent, the first one perhaps in part."""
        self._records = bytearray()
        """What has come of a record that is not whole yet."""
        self._came: deque[tuple[int, _Kind, bytes]] = deque()
        """Pieces that were not passed on yet."""
        self._came_bytes = 0
        self._begun = 0
        """Bytes of the first of them that were passed on."""
        self._received = self._passed = 0
        """The last numbers that have come, and that were passed on."""
        self._untold = 0
        """Bytes that were passed on and not acknowledged."""
        self._echo = 0
        self.is_ended = False
        """Whether this end says nothing more."""
        self.is_resumed = False
        """Whether the other end has said over this connection what it has."""
        self.has_ended = False
        """Whether the other end had nothing more to say, and all that it said was passed on."""
        self.is_over = False
        """Whether the other end has left."""
        self.echoed = 0
        """The number of the latest ping that was answered."""

    # --- what this end says

    @property
    def has_room(self) -> bool:
        """Whether it takes a piece more."""
        return self._kept_bytes < WINDOW and not self.is_ended

    @property
    def is_delivered(self) -> bool:
        """Whether all that this end had to say was passed on there."""
        return self.is_ended and not self._kept

    @property
    def is_sent(self) -> bool:
        """Whether nothing is left to be sent over this connection."""
        return not self._out and self._next > self._made

    def put(self, data: bytes) -> None:
        """Takes a piece."""
        self._keep(_Kind.DATA, data)

    def end(self) -> None:
        """This end says nothing more."""
        if not self.is_ended:
            self.is_ended = True
            self._keep(_Kind.END, b"")

    def _keep(self, kind: _Kind, data: bytes) -> None:
        self._made += 1
        self._kept.append((self._made, kind, data))
        self._kept_bytes += len(data) + _WEIGHT

    def ping(self, number: int) -> None:
        """Asks the other end; its answer sets `echoed` to this number."""
        self._record(_Kind.PING, number)

    def leave(self) -> None:
        """This end leaves: what is still to be sent is only that."""
        self._next = self._made + 1
        self._record(_Kind.OVER)

    # --- what the other end says

    @property
    def incoming(self) -> bytes:
        """What must be passed on next; empty: nothing."""
        return self._came[0][2][self._begun :] if self._came else b""

    def passed(self, size: int) -> None:
        """So many bytes of `incoming` were passed on."""
        self._begun += size
        self._tidy()

    def _tidy(self) -> None:
        while self._came and self._begun >= len(self._came[0][2]):
            self._passed, kind, data = self._came.popleft()
            self._begun = 0
            self._came_bytes -= len(data) + _WEIGHT
            self._untold += len(data) + _WEIGHT
            if kind is _Kind.END:
                self.has_ended = True
                self._untold += WINDOW  # it waits for that

    # --- one connection after the other

    def attach(self) -> None:
        """There is a fresh connection."""
        self.detach()
        self._record(_Kind.HAVE, self._received)

    def detach(self) -> None:
        """There is no connection; what was under way in it counts for nothing."""
        self._out.clear()
        self._records.clear()
        self._echo = 0
        self.is_resumed = False

    def outgoing(self) -> bytes:
        """What must be sent next; `sent` says how much of it was. More may be added to what was
        returned, but it never changes."""
        self._fill()
        return bytes(self._out)

    @property
    def wants_to_send(self) -> bool:
        """Whether there is something to be sent."""
        self._fill()
        return bool(self._out)

    def sent(self, size: int) -> None:
        """So many bytes of `outgoing` were sent."""
        del self._out[:size]

    def _fill(self) -> None:
        if len(self._out) >= PIECE:
            return
        if self._echo:
            self._record(_Kind.PONG, self._echo)
            self._echo = 0
        if self._untold >= WINDOW // 8:
            self._record(_Kind.ACKNOWLEDGE)
        if not self.is_resumed:
            return
        while self._kept and len(self._out) < PIECE and self._next <= self._made:
            self._next = max(self._next, self._kept[0][0])
            number, kind, data = self._kept[self._next - self._kept[0][0]]
            self._record(kind, number, data)
            self._next += 1

    def _record(self, kind: _Kind, number: int = 0, data: bytes = b"") -> None:
        self._out += _HEAD.pack(kind, len(data), number, self._passed)
        self._out += data
        self._untold = 0

    def receive(self, data: bytes) -> None:
        """Takes what has come over this connection. Raises SessionTorn."""
        records = self._records
        records += data
        start = 0
        while len(records) - start >= _HEAD.size:
            kind, size, number, passed = _HEAD.unpack_from(records, start)
            if size > PIECE:
                raise SessionTorn(f"a piece of {size} bytes")
            end = start + _HEAD.size + size
            if len(records) < end:
                break
            content = bytes(memoryview(records)[end - size : end])
            start = end
            try:
                self._take(_Kind(kind), number, passed, content)
            except ValueError:
                raise SessionTorn(f"a record of kind {kind}") from None
        del records[:start]

    def _take(self, kind: _Kind, number: int, passed: int, content: bytes) -> None:
        if passed > self._made:
            raise SessionTorn(f"piece {passed} was acknowledged, and {self._made} is the last")
        while self._kept and self._kept[0][0] <= passed:
            _, _, data = self._kept.popleft()
            self._kept_bytes -= len(data) + _WEIGHT
        if kind is _Kind.DATA or kind is _Kind.END:
            self._come(kind, number, content)
        elif kind is _Kind.HAVE:
            first = self._kept[0][0] if self._kept else self._made + 1
            if not first - 1 <= number <= self._made:
                raise SessionTorn(f"it has {number} pieces, and {first} to {self._made} are kept")
            self._next = number + 1
            self.is_resumed = True
        elif kind is _Kind.PING:
            self._echo = number
        elif kind is _Kind.PONG:
            self.echoed = max(self.echoed, number)
        elif kind is _Kind.OVER:
            self.is_over = True

    def _come(self, kind: _Kind, number: int, content: bytes) -> None:
        if number <= self._received:  # it was sent again
            return
        if number != self._received + 1:
            raise SessionTorn(f"piece {number} came after {self._received}")
        self._received = number
        self._came.append((number, kind, content))
        self._came_bytes += len(content) + _WEIGHT
        if self._came_bytes > 2 * WINDOW:
            raise SessionTorn("more came than there is room for")
        self._tidy()
