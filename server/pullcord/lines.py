"""Lines on their way to stdout and stderr: taken from any thread without waiting, and written by a
thread of its own.

A pipe that nobody reads costs lines, which are counted, and delays nobody. Nothing here knows what
a line says, and no lock is ever held while bytes are written.
"""

import atexit
import contextlib
import functools
import io
import os
import select
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, TextIO

MAX_LINE = 1024 * 1024
"""Bytes of a source's line that are kept until its end comes; a longer line becomes several."""
EXIT = 1.0
"""Seconds that a process which exits waits until its lines are written."""
_AT_ONCE = 100
"""Pieces that go into one system call, if so many wait."""


class LineWriter:
    """Writes lines to a file descriptor, and drops those for which there is no room.

    `write` never waits and never raises, whatever becomes of the descriptor. It takes no lock: a
    thread that is interrupted inside it, or that enters it again from a signal handler or a
    finalizer, leaves it sound.
    """

    def __init__(
        self, fd: int, name: str = "output", *, max_lines: int = 10_000, max_bytes: int = 8 << 20
    ) -> None:
        """Starts the thread. The descriptor is duplicated: the caller keeps it and may close it.

        `name` says in reports which lines were dropped.
        """
        try:
            self._fd = os.dup(fd)
        except OSError:  # it is closed: every line counts as dropped
            self._fd = -1
        self._pipe = _opened_anew(self._fd)
        self.name = name
        self._max_lines, self._max_bytes = max_lines, max_bytes
        # What waits. An interrupted write may leave these too high: they are corrected whenever
        # nothing waits. Under the interpreter's lock no thread switch falls inside a `+=`.
        self._lines = self._bytes = 0
        self._dropped = self._reported = 0
        # A queue in C: to put something there is one step, which no exception can tear.
        self._queue: SimpleQueue[bytes | threading.Event | None] = SimpleQueue()
        self._rests: dict[object, bytearray] = {}
        self._is_torn = False
        """The last byte written was in the middle of a line whose rest could not be written."""
        self._closed = False
        self._process = os.getpid()
        self.on_dropped: Callable[[int, str], bytes] = dropped_in_words
        """Makes the line that reports so many dropped lines of this name, once the descriptor takes
        lines again. Called in the writing thread; returns b"" if it reports them elsewhere."""
        self._thread = threading.Thread(target=self._run, name="pullcord-lines", daemon=True)
        self._thread.start()
        atexit.register(self.flush, EXIT)

    @property
    def dropped(self) -> int:
        """Lines that were not written: there was no room, or the descriptor refused them."""
        return self._dropped

    def write(self, data: bytes, source: object = None) -> None:
        """Takes lines, which are written together or not at all.

        With a source, `data` is the next bytes of what it writes, in pieces of any size, and b""
        is its end: lines of different sources never mix. One thread at a time may write for one
        source. A quarter of the room is kept for lines without a source, so that a source which
        floods does not displace the log.
        """
        max_lines, max_bytes = self._max_lines, self._max_bytes
        if source is not None:
            data = self._whole_lines(data, source)
            max_lines, max_bytes = max_lines * 3 // 4, max_bytes * 3 // 4
        if not data:
            return
        if os.getpid() != self._process:  # forked: the writing thread does not exist here
            self._put_out(data)
            return
        lines, size = _count(data), len(data)
        if self._closed or self._lines + lines > max_lines or self._bytes + size > max_bytes:
            self._dropped += lines
            return
        if not self._lines and size <= select.PIPE_BUF and self._is_written_at_once(data):
            return
        self._lines += lines
        self._bytes += size
        self._queue.put(data)

    def flush(self, timeout: float) -> bool:
        """Waits until everything taken so far is written or dropped; False if time ran out."""
        if os.getpid() != self._process:
            return True
        if self._closed:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        reached = threading.Event()
        self._queue.put(reached)
        return reached.wait(timeout)

    def close(self, timeout: float = EXIT) -> None:
        """Takes no more lines, and waits at most `timeout` seconds until those taken are written.

        A process that exits needs no close: it flushes by itself.
        """
        if self._closed or os.getpid() != self._process:
            return
        self._closed = True
        atexit.unregister(self.flush)
        self._queue.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            return
        for fd in (self._fd, self._pipe):
            if fd >= 0:
                os.close(fd)
        self._fd = self._pipe = -1

    def _is_written_at_once(self, data: bytes) -> bool:
        """Writes to a pipe that has room, so that a process which dies next has said its last
        words. So few bytes are written whole or not at all, also beside other writers."""
        if self._pipe < 0 or self._is_torn or self._dropped > self._reported:
            return False
        try:
            return os.write(self._pipe, data) == len(data)
        except OSError:
            return False

    def _whole_lines(self, data: bytes, source: object) -> bytes:
        """The lines that this data completes; what follows them is kept for the next."""
        if not data:
            rest = self._rests.pop(source, None)
            return bytes(rest) + b"\n" if rest else b""
        rest = self._rests.setdefault(source, bytearray())
        ended, newline, begun = data.rpartition(b"\n")
        whole = b""
        if newline:
            whole = bytes(rest) + ended + newline
            rest.clear()
        rest += begun
        if len(rest) >= MAX_LINE:
            whole += bytes(rest) + b"\n"
            rest.clear()
        return whole

    # --- in the thread that writes

    def _run(self) -> None:
        while self._write_some():
            pass

    def _write_some(self) -> bool:
        """Waits for something and writes it; False if there will be no more."""
        items = [self._queue.get()]
        with contextlib.suppress(Empty):
            while len(items) < _AT_ONCE:
                items.append(self._queue.get_nowait())
        if data := [item for item in items if isinstance(item, bytes)]:
            self._write_all(data)
        for item in items:
            if isinstance(item, threading.Event):
                item.set()
        return None not in items

    def _write_all(self, data: list[bytes]) -> None:
        lines = sum(map(_count, data))
        is_written = self._put_out(b"".join(data))
        if not is_written:
            self._dropped += lines
        self._lines -= lines
        self._bytes -= sum(map(len, data))
        if self._queue.empty():
            self._lines = self._bytes = 0
        missing = self._dropped - self._reported
        if is_written and missing and self._put_out(self._report(missing)):
            self._reported += missing

    def _report(self, missing: int) -> bytes:
        try:
            return self.on_dropped(missing, self.name)
        except Exception:  # a formatter's mistake must not end the thread
            return dropped_in_words(missing, self.name)

    def _put_out(self, data: bytes) -> bool:
        """Writes, for as long as it takes; False if the descriptor does not take it."""
        if self._is_torn:
            data = b"\n" + data
        view = memoryview(data)
        done = 0
        try:
            while done < len(data):
                end = _end_of_lines(data, done)
                while done < end:
                    try:
                        done += os.write(self._fd, view[done:end])
                    except BlockingIOError:  # somebody made it non-blocking
                        _wait_for_room(self._fd)
        except OSError:
            if done:
                self._is_torn = data[done - 1 : done] != b"\n"
            return False
        self._is_torn = False
        return True


def _end_of_lines(data: bytes, begin: int) -> int:
    """Where the lines end that fit into one write which other writers to a pipe cannot split; the
    end of the first line, if it is longer."""
    limit = begin + select.PIPE_BUF
    if len(data) <= limit:
        return len(data)
    return data.rfind(b"\n", begin, limit) + 1 or data.find(b"\n", limit) + 1 or len(data)


def dropped_in_words(missing: int, name: str) -> bytes:
    """The line that stands where lines are missing."""
    return b"pullcord: %d lines of %s were dropped, because nobody read them\n" % (
        missing,
        name.encode(),
    )


def _count(data: bytes) -> int:
    """Lines in a piece; text without a newline is one."""
    return data.count(b"\n") or 1


def _opened_anew(fd: int) -> int:
    """A pipe's second opening, which does not block although the first does; -1 if there is none.

    To make the first one non-blocking would change it for all processes that share it.
    """
    try:
        if fd >= 0 and stat.S_ISFIFO(os.fstat(fd).st_mode):
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # another system than Linux, or not permitted
        pass
    return -1


def _wait_for_room(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll()


# --- this process's own


@functools.cache
def stderr() -> LineWriter:
    """The writer of this process's stderr."""
    return LineWriter(2, "stderr")


@functools.cache
def stdout() -> LineWriter:
    """The writer of this process's stdout: that of stderr, if both are one pipe or terminal.

    What it drops is reported on stderr, since programs may read stdout.
    """
    if _is_same_stream(1, 2):
        return stderr()
    writer = LineWriter(1, "stdout")

    def report(missing: int, name: str) -> bytes:
        stderr().write(stderr().on_dropped(missing, name))
        return b""

    writer.on_dropped = report
    return writer


def _is_same_stream(one: int, other: int) -> bool:
    """Whether both are the same pipe, socket or terminal; files never delay their writers."""
    try:
        first, second = os.fstat(one), os.fstat(other)
    except OSError:
        return False
    return os.path.samestat(first, second) and not stat.S_ISREG(first.st_mode)


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Within it, what is printed to `sys.stdout` and `sys.stderr` takes part, and never waits."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = text_stream(stdout(), 1), text_stream(stderr(), 2)
    ours = sys.stdout, sys.stderr
    try:
        yield
    finally:
        for stream in ours:
            stream.flush()
        sys.stdout, sys.stderr = before
        for writer in {stdout(), stderr()}:
            writer.flush(EXIT)


def text_stream(writer: LineWriter, fd: int) -> TextIO:
    """A text file such as `sys.stdout` that writes to a LineWriter.

    `fd` is given to programs that ask for the file descriptor, and says whether it is a terminal.
    """
    stream = io.TextIOWrapper(
        _Raw(writer, fd),  # type: ignore[type-var]  # a raw file will do, as for `python -u`
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )
    atexit.register(stream.flush)  # called before the writer's flush, which was registered before
    return stream


class _Raw(io.RawIOBase):
    """The bytes of a text stream. Nothing in it waits, so its callers' locks are not held long."""

    def __init__(self, writer: LineWriter, fd: int) -> None:
        self._writer = writer
        self._fd = fd

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def write(self, data: Any) -> int:
        taken = bytes(data)
        self._writer.write(taken)
        return len(taken)
