"""Sends a worker's items in the order in which they were made; under load, few and big messages.

An item is sent at once while the link is idle, and otherwise within a millisecond; deltas of one
voice that come meanwhile go out as one frame. What is sent, and why, is not known here.

1. Items of one tree of runs leave in the order in which they were put in.
2. A thread that puts in an item waits only where more than `_MOST` items are not sent yet.
3. An author's thread may be at Python's recursion limit, or without memory, at any call in here.
   Then it gets the error, but no item is lost, and the flusher sends what that thread did not. So
   only locks in C are taken there: one in Python could be left locked.
"""

import contextlib
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Iterator
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from pullcord.link import frames_pb2 as pb
from pullcord.link.framing import framed
from pullcord.run.events import Source
from pullcord.run.usage import Usage
from pullcord.wire.event import fill_source
from pullcord.wire.run import fill_usage

if TYPE_CHECKING:
    from pullcord.worker.port import LinkPort

_SOON = 0.001
"""Seconds that an item waits at most while others are sent often."""
_AT_ONCE = 3
"""Items that are sent at once after an idle moment; those that follow wait for one another."""
_MOST = 4096
"""Items not sent yet, from which on who puts in another sends them."""
_LOOK = 0.5
"""Seconds after which the flusher looks by itself whether something was left unsent."""
_AGAIN = 0.1
"""Seconds until it tries again what has failed."""
_ATTEMPTS = 50
"""Failures in a row to send what there is until the worker ends."""
_LONG = 4096
"""Characters of a text, or bytes of a frame, that are sent at once."""
_CHUNK = 256 * 1024
"""Characters of one text; a longer one becomes several. A message ends with the first item that
makes it as long, so it has at most one that is long."""

Item = tuple["LinkPort | None", Any, Source | None, bool]
"""A run's port; its text, usage or ready frame; for text also whose it is, and of which kind."""


class Outbox:
    """The sending half of the link. Any thread may put in items."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._items: deque[Item] = deque()
        self._sending = threading.Lock()
        self._flushed_at = 0.0
        self._at_once = _AT_ONCE
        self._bell = threading.Lock()
        """Locked, except when the flusher must wake."""
        self._bell.acquire()
        self.pending = False
        """Whether the flusher is about to send; what is put in meanwhile goes with it."""
        self._flusher = threading.Thread(target=self._run, name="pullcord-link-out", daemon=True)
        self._flusher.start()

    def write(self, port: "LinkPort", text: str) -> None:
        """Puts in a content delta: the hot path."""
        if len(text) > _CHUNK:
            for piece in _pieces(text):
                self.write(port, piece)
            return
        self._items.append((port, text, None, False))
        if not self.pending or len(text) > _LONG:
            self._hasten(len(text))
        elif len(self._items) >= _MOST:
            self.flush()

    def write_as(self, port: "LinkPort", text: str, source: Source | None, reasoning: bool) -> None:
        """Puts in a delta of `source`."""
        if len(text) > _CHUNK:
            for piece in _pieces(text):
                self.write_as(port, piece, source, reasoning)
            return
        self._items.append((port, text, source, reasoning))
        if not self.pending or len(text) > _LONG:
            self._hasten(len(text))
        elif len(self._items) >= _MOST:
            self.flush()

    def use(self, port: "LinkPort", usage: Usage) -> None:
        """Puts in usage, which is summed up until it is sent."""
        self._items.append((port, usage, None, False))
        if not self.pending:
            self._hasten(0)

    def put(self, port: "LinkPort | None", frame: pb.UpFrame) -> None:
        """Puts in a ready frame, of a run or of none."""
        self._items.append((port, frame, None, False))
        size = frame.ByteSize()
        if not self.pending or size > _LONG:
            self._hasten(size)

    def flush(self) -> None:
        """Sends everything that is there now, and leaves what comes meanwhile to the threads that
        put it in: a thread that sends must not be kept by others that are quicker."""
        with self._sending:
            self._send()

    def forget(self) -> None:
        """In a process that was forked: nothing is kept or sent, and no lock is held."""
        self._items = deque(maxlen=0)
        self._sending = threading.Lock()

    def _hasten(self, length: int) -> None:
        if length > _LONG:
            self.flush()
        elif self._may_send_at_once() and self._sending.acquire(blocking=False):
            try:
                self._send()
            finally:
                self._sending.release()
        elif not self.pending:
            self.pending = True
            with contextlib.suppress(RuntimeError):  # it is rung already
                self._bell.release()

    def _may_send_at_once(self) -> bool:
        # A few in a row, too: code that says something and then holds the interpreter in one long
        # call would keep the flusher, and with it what it said, waiting for as long.
        if monotonic() - self._flushed_at >= _SOON:
            self._at_once = _AT_ONCE
        self._at_once -= 1
        return self._at_once >= 0

    def _run(self) -> None:
        failures = 0
        while failures < _ATTEMPTS:
            try:
                self._bell.acquire(timeout=_AGAIN if failures else _LOOK)
                wait = self._flushed_at + _SOON - monotonic()
                if wait > 0:
                    sleep(wait)
                # Lowered before the items are taken, so that one put in now is sent by somebody.
                self.pending = False
                if self._items:
                    self.flush()
                failures = 0
            except Exception:  # no memory, most likely; what was taken is back in its place
                failures += 1
        os.killpg(0, signal.SIGKILL)  # nothing can be said any more

    def _send(self) -> None:
        items = self._items
        left = len(items)
        while left > 0 and items:
            taken: list[Item] = []
            try:
                data = _Batch().pack(items, taken)
                left -= len(taken)
            except BaseException:
                items.extendleft(reversed(taken))
                raise
            try:
                self._sock.sendall(data)
            except OSError:  # the control process is gone, and this one ends by that
                items.clear()
        self._flushed_at = monotonic()


def _pieces(text: str) -> Iterator[str]:
    return (text[start : start + _CHUNK] for start in range(0, len(text), _CHUNK))


class _Batch:
    """Items on their way into one message."""

    def __init__(self) -> None:
        self._up = pb.Up()
        self._plain: pb.Texts | None = None
        """The last frame, while that has deltas of runs that speak for themselves."""
        self._texts: dict[LinkPort, _Text] = {}  # the last frame of a tree, while it is text
        self._used: dict[LinkPort, dict[LinkPort, Usage]] = {}  # by tree

    def pack(self, items: "deque[Item]", taken: list[Item]) -> bytes:
        """Takes items out, as many as make a message of a sound size; `taken` gets them."""
        texts = self._texts
        room = _CHUNK
        while items and room > 0:
            taken.append(items[0])
            port, what, source, reasoning = items.popleft()
            if port is None:
                room -= self._add(what)
            elif isinstance(what, str):
                room -= len(what) + 8
                text = texts.get(port.tree)
                if text is not None and text.is_of(port, source, reasoning):
                    text.parts.append(what)
                    continue
                if text is not None:
                    self._say(text)
                texts[port.tree] = _Text(port, what, source, reasoning)
            elif isinstance(what, Usage):
                used = self._used.setdefault(port.tree, {})
                used[port] = used[port].and_then(what) if port in used else what
            else:
                self._close(port.tree)
                room -= self._add(what)
        for text in texts.values():
            self._say(text)
        for used in self._used.values():
            self._use(used)
        return framed(self._up.SerializeToString())

    def _close(self, tree: "LinkPort") -> None:
        """Text and usage of a tree, before what comes next of it."""
        if (text := self._texts.pop(tree, None)) is not None:
            self._say(text)
        if (used := self._used.pop(tree, None)) is not None:
            self._use(used)

    def _add(self, frame: pb.UpFrame) -> int:
        """Adds a ready frame; the room that it takes."""
        self._plain = None
        self._up.frames.append(frame)
        return 256 + frame.ByteSize()

    def _use(self, used: "dict[LinkPort, Usage]") -> None:
        for port, usage in used.items():
            self._plain = None
            frame = self._up.frames.add().used
            frame.run = port.number
            fill_usage(frame.usage, usage)

    def _say(self, text: "_Text") -> None:
        parts = text.parts
        whole = parts[0] if len(parts) == 1 else "".join(parts)
        if not whole.isascii():  # a lone surrogate could not be sent
            whole = whole.encode("utf-8", "replace").decode()
        if len(parts) == 1 and text.source is None and not text.reasoning:
            plain = self._plain
            if plain is None:
                plain = self._plain = self._up.frames.add().texts
            plain.runs.append(text.port.number)
            plain.texts.append(whole)
            return
        self._plain = None
        said = self._up.frames.add().said
        said.run = text.port.number
        said.text = whole
        if len(parts) > 1:
            said.lengths.extend(map(len, parts))
        if text.source is not None:
            fill_source(said.source, text.source)
        said.reasoning = text.reasoning


class _Text:
    """Deltas of one voice that follow one another in a tree."""

    __slots__ = ("parts", "port", "reasoning", "source")

    def __init__(self, port: "LinkPort", text: str, source: Source | None, reasoning: bool) -> None:
        self.port = port
        self.source = source
        self.reasoning = reasoning
        self.parts = [text]

    def is_of(self, port: "LinkPort", source: Source | None, reasoning: bool) -> bool:
        return (
            self.port is port
            and self.reasoning is reasoning
            and (self.source is source or self.source == source)
        )
