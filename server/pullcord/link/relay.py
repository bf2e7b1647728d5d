"""Moves the bytes of a session between a local socket and its connections, in one thread.

It loses nothing that has come: where one end can take no more, what the other has said is still
passed on. What the bytes mean is not known here, and neither is how a connection is opened.
"""

import contextlib
import math
import os
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any

from pullcord.link.lease import Pace, now
from pullcord.link.session import PIECE, Session

_LOOK = 1.0
"""Seconds between two looks where nothing happens."""
_DRAIN = 0.5
"""Seconds more, where time is up, for an end that goes on to say something."""
_LAST_WORD = 0.2
"""Seconds to say that this end leaves; the other end finds out by itself."""
_NS = 1_000_000_000

_LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Ended(Enum):
    """Why a relay has ended."""

    HERE = auto()
    """The local socket was at its end, and what it said was passed on."""
    THERE = auto()
    """The other end was, or it has left."""
    LEASE = auto()
    """There was no connection for too long."""
    UNTIL = auto()
    """Time was up after one of the descriptors became readable."""
    REFUSED = auto()
    """No other connection can be opened."""


class Doorstep:
    """The newest connection of a session, until its relay takes it. Any thread may call."""

    def __init__(self) -> None:
        self.fd, self._wake = os.pipe()
        """Readable once a connection was handed in, or none can be."""
        self._lock = threading.Lock()
        self._link: ssl.SSLSocket | None = None
        self.closed = threading.Event()
        """Set once no connection is taken any more."""
        self.refusal = ""
        """Why no connection can be opened any more."""

    def hand_in(self, link: ssl.SSLSocket) -> None:
        """It takes the place of one that was not taken yet."""
        with self._lock:
            if self.closed.is_set():
                link.close()
                return
            if self._link is not None:
                self._link.close()
            self._link = link
            os.write(self._wake, b"!")

    def refuse(self, words: str) -> None:
        """No connection can be opened any more."""
        with self._lock:
            self.refusal = words
            if not self.closed.is_set():
                os.write(self._wake, b"!")

    def take(self) -> ssl.SSLSocket | None:
        """The newest connection, if one was handed in."""
        with self._lock:
            link, self._link = self._link, None
            if link is not None:
                os.read(self.fd, 4096)
            return link

    @property
    def is_empty(self) -> bool:
        """Whether no connection waits to be taken."""
        return self._link is None

    def close(self) -> None:
        """Connections are closed from now on, also one that waits."""
        with self._lock:
            if not self.closed.is_set():
                self.closed.set()
                if self._link is not None:
                    self._link.close()
                os.close(self.fd)
                os.close(self._wake)


class Relay:
    """One end of a session."""

    def __init__(
        self,
        here: socket.socket,
        pace: Pace,
        *,
        call: Callable[[bool], None] | None = None,
        returned: Callable[[float], None] | None = None,
        held: Callable[[float], None] | None = None,
        since: float | None = None,
    ) -> None:
        """`call` makes this the end that opens connections: it is called where one was lost, with
        whether that one had been of use, and sees to it that another is handed in.

        `returned` is called with the seconds for which nothing had come, when a connection but the
        first is in use; `held` with the time, by `now`, at which the lease of the end that calls is
        over as things stand. `since` is when the first one was opened at the earliest, by `now`."""
        self.doorstep = Doorstep()
        self._session = Session()
        self._here = here
        self._pace = pace
        self._call = call
        self._returned = returned
        self._held = held
        self._now = now if call is not None else time.monotonic
        self._since = self._heard = self._pinged = self._now() if since is None else since
        self._link: ssl.SSLSocket | None = None
        self._links = 0
        self._silent = 0.0
        """Seconds for which nothing had come before the latest of them."""
        self._is_resumed = False
        self._here_ended = self._here_broken = False
        self._readable: set[Any] = set()
        """Which sockets have something to read, as was seen last."""

    @property
    def is_cut(self) -> bool:
        """Whether nothing has come for so long that the other end may be out of reach."""
        return self._link is None or self.silent > self._pace.silence

    @property
    def silent(self) -> float:
        """Seconds for which nothing has come."""
        return self._now() - self._heard

    def run(self, until: Mapping[int, float]) -> Ended:
        """Moves bytes both ways until that has an end; the caller then calls `close`.

        `until` names descriptors: once one is readable, so many seconds are left for the rest. For
        the end that calls, what is left of `here` then counts as nothing; the other one ends.
        Raises SessionTorn.
        """
        self._here.setblocking(False)
        self._tell_held()
        watched = dict(until)
        ends = math.inf
        with selectors.DefaultSelector() as selector:
            for fd in (*watched, self.doorstep.fd):
                selector.register(fd, selectors.EVENT_READ)
            while True:
                self._exchange(selector)
                moved = self._pump(selector)
                at = time.monotonic()
                if ends < math.inf and self._call is None and self._link is None:
                    ends = min(ends, at)  # and nobody comes back
                if at >= ends and (not moved or at > ends + _DRAIN):
                    if self._call is None:
                        return Ended.UNTIL
                    self._here_ends()
                    ends, moved = math.inf, True
                ended = self._ended(moved)
                if ended is not None:
                    return ended
                self._wait_for_both(selector)
                again = (moved and ends < math.inf) or self._holds_some()
                wait = 0.0 if again else max(0.0, min(self._next_look(), ends - at))
                self._readable.clear()
                for key, events in selector.select(wait):
                    if events & selectors.EVENT_READ:
                        self._readable.add(key.fileobj)
                    if isinstance(key.fileobj, int) and key.fileobj in watched:
                        selector.unregister(key.fileobj)
                        ends = min(ends, time.monotonic() + watched[key.fileobj])

    def close(self) -> None:
        """Leaves the session, and says so if there is a connection."""
        self.doorstep.close()
        if self._link is not None:
            with contextlib.suppress(OSError):
                self._link.settimeout(_LAST_WORD)
                self._session.leave()
                self._link.sendall(self._session.outgoing())
            self._link.close()
            self._link = None

    # --- connections

    def _exchange(self, selector: selectors.BaseSelector) -> None:
        """Takes a fresh connection instead of the one that there is."""
        link = self.doorstep.take()
        if link is None:
            return
        if self._link is not None:
            self._drop(selector)
        link.setblocking(False)
        self._link = link
        self._links += 1
        self._silent, self._heard = self.silent, self._now()
        self._is_resumed = False
        self._session.attach()

    def _drop(self, selector: selectors.BaseSelector) -> None:
        assert self._link is not None
        if self._link in selector.get_map():
            selector.unregister(self._link)
        self._link.close()
        self._link = None
        self._session.detach()

    def _lost(self, selector: selectors.BaseSelector) -> None:
        was_of_use = self._session.is_resumed
        self._drop(selector)
        if self._call is not None and not self._session.is_over:
            self._call(was_of_use)

    # --- bytes

    def _pump(self, selector: selectors.BaseSelector) -> bool:
        """Moves what can be moved now; whether that was anything."""
        moved = self._read_here()
        if self._link is not None:
            self._ping()
            try:
                moved = self._send(self._link) or moved
                moved = self._receive(self._link) or moved
            except OSError:
                self._lost(selector)
                moved = True
            else:
                if not moved and self._call and self.silent > self._pace.silence:
                    self._lost(selector)
        return self._write_here() or moved

    def _read_here(self) -> bool:
        if self._here_ended or self._here not in self._readable or not self._session.has_room:
            return False
        try:
            data = self._here.recv(PIECE)
        except _LATER:
            return False
        except OSError:
            data = b""
        if data:
            self._session.put(data)
        else:
            self._here_ends()
        return True

    def _here_ends(self) -> None:
        self._here_ended = True
        self._session.end()

    def _write_here(self) -> bool:
        moved = False
        while data := self._session.incoming:
            try:
                size = len(data) if self._here_broken else self._here.send(data)
            except _LATER:
                break
            except OSError:
                self._here_broken, size = True, len(data)
            self._session.passed(size)
            moved = True
        return moved

    def _ping(self) -> None:
        if self._call is not None and self._session.is_resumed:
            at = self._now()
            if at >= self._pinged + self._pace.every:
                self._pinged = at
                self._session.ping(int(at * _NS))

    def _send(self, link: ssl.SSLSocket) -> bool:
        data = self._session.outgoing()
        if not data:
            return False
        try:
            size = link.send(data)
        except _LATER:
            return False
        self._session.sent(size)
        return size > 0

    def _holds_some(self) -> bool:
        """Whether something has come that the system does not know of: TLS has read it."""
        return self._link is not None and self._link.pending() > 0

    def _receive(self, link: ssl.SSLSocket) -> bool:
        if link not in self._readable and not self._holds_some():
            return False
        try:
            data = link.recv(PIECE)
        except _LATER:
            return False
        if not data:
            raise ConnectionResetError
        self._heard = self._now()
        echoed = self._session.echoed
        self._session.receive(data)
        if self._session.echoed > echoed:
            self._tell_held()
        if self._session.is_resumed and not self._is_resumed:
            self._is_resumed = True
            if self._links > 1 and self._returned is not None:
                self._returned(self._silent)
        return True

    # --- time

    def _ended(self, moved: bool) -> Ended | None:
        session, calls = self._session, self._call is not None
        if session.has_ended or (session.is_over and (calls or not session.incoming)):
            # What the other end has not passed on when it leaves, nobody waits for.
            return Ended.HERE if self._here_ended and calls else Ended.THERE
        if session.is_delivered:
            return Ended.HERE
        if self._here_ended and not calls and (self._link is None or session.is_sent):
            return Ended.HERE
        if self.doorstep.refusal and self._link is None and self.doorstep.is_empty:
            return Ended.REFUSED
        if not moved and self._left() <= 0 and (calls or not session.incoming):
            return Ended.LEASE
        return None

    def _left(self) -> float:
        """Seconds until the lease is over."""
        if self._call is None:
            return self._heard + self._pace.kept - self._now()
        return self._ends() - self._now()

    def _ends(self) -> float:
        """When the lease of the end that calls is over."""
        return max(self._since, self._session.echoed / _NS) + self._pace.lease

    def _tell_held(self) -> None:
        if self._held is not None:
            self._held(self._ends())

    def _next_look(self) -> float:
        """Seconds until there is something to do, though nothing happens."""
        soon = min(_LOOK, self._left())
        if self._call is not None and self._link is not None:
            soon = min(soon, self._heard + self._pace.silence - self._now())
            if self._session.is_resumed:
                soon = min(soon, self._pinged + self._pace.every - self._now())
        return soon

    def _wait_for_both(self, selector: selectors.BaseSelector) -> None:
        session = self._session
        reads = not self._here_ended and session.has_room
        _wait_for(selector, self._here, reads=reads, writes=bool(session.incoming))
        if self._link is not None:
            _wait_for(selector, self._link, reads=True, writes=session.wants_to_send)


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
