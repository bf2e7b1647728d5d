"""Moves the bytes of a link between a TLS connection and a local socket, in one thread.

It loses nothing that has come: where one end can take no more, what the other has said is still
passed on. What the bytes mean is not known here.
"""

import contextlib
import math
import selectors
import socket
import ssl
import time
from collections.abc import Mapping

_ROOM = 256 * 1024
"""Bytes that wait for one end; until it takes them, nothing more is read of the other."""
_PIECE = 64 * 1024
_LOOK = 1.0
"""Seconds between two looks where nothing happens."""
_DRAIN = 0.5
"""Seconds more, where time is up, for an end that goes on to say something."""
_FAREWELL = 5.0
"""Seconds that the other end has to read the last of it."""

_LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class _Way:
    """One direction."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self._source = source
        self._sink = sink
        self._buffer = bytearray()
        self._ended = False
        """Whether the source is at its end."""
        self._broken = False
        """Whether the sink takes nothing more."""

    @property
    def is_over(self) -> bool:
        """Whether all that the source had to say was passed on."""
        return self._ended and not self._buffer

    @property
    def reads(self) -> bool:
        """Whether it waits for the source."""
        return not self._ended and len(self._buffer) < _ROOM

    @property
    def writes(self) -> bool:
        """Whether it waits for the sink."""
        return bool(self._buffer)

    def pump(self) -> bool:
        """Moves what can be moved now; whether that was anything."""
        moved = False
        if self.reads:
            try:
                data = self._source.recv(_PIECE)
                self._ended, moved = not data, True
                self._buffer += data
            except _LATER:
                pass
            except OSError:
                self._ended = moved = True
        if self._broken:
            self._buffer.clear()
        elif self._buffer:
            try:
                sent = self._sink.send(bytes(self._buffer[:_PIECE]))
                del self._buffer[:sent]
                moved = moved or sent > 0
            except _LATER:
                pass
            except OSError:
                self._broken = True
                self._buffer.clear()
        return moved


def relay(link: ssl.SSLSocket, here: socket.socket, until: Mapping[int, float]) -> bool:
    """Moves bytes both ways until one end is at its end, and what it said was passed on; whether
    that was `here`.

    `until` names descriptors: once one is readable, so many seconds are left for the rest.
    """
    link.setblocking(False)
    here.setblocking(False)
    out, back = _Way(here, link), _Way(link, here)
    watched = dict(until)
    ends = math.inf
    with selectors.DefaultSelector() as selector:
        for fd in watched:
            selector.register(fd, selectors.EVENT_READ)
        while True:
            moved = out.pump()
            moved = back.pump() or moved
            now = time.monotonic()
            if out.is_over or back.is_over or (now >= ends and (not moved or now > ends + _DRAIN)):
                return out.is_over
            _wait_for(selector, link, reads=back.reads, writes=out.writes)
            _wait_for(selector, here, reads=out.reads, writes=back.writes)
            for key, _ in selector.select(0 if moved else max(0.0, min(ends - now, _LOOK))):
                if isinstance(key.fileobj, int):
                    selector.unregister(key.fileobj)
                    ends = min(ends, time.monotonic() + watched[key.fileobj])


def _wait_for(
    selector: selectors.BaseSelector, sock: socket.socket, *, reads: bool, writes: bool
) -> None:
    events = (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if writes else 0)
    known = selector.get_map().get(sock)
    if known is not None and not events:
        selector.unregister(sock)
    elif known is not None and known.events != events:
        selector.modify(sock, events)
    elif known is None and events:
        selector.register(sock, events)


def farewell(link: ssl.SSLSocket) -> None:
    """Closes a connection so that the other end can still read all that was sent.

    A socket that is closed with something unread in it is reset, and the other end may lose what it
    has not read yet.
    """
    with contextlib.suppress(OSError):
        link.settimeout(_FAREWELL)
        link.shutdown(socket.SHUT_WR)
        ends = time.monotonic() + _FAREWELL
        while time.monotonic() < ends and link.recv(_PIECE):
            pass
    link.close()
