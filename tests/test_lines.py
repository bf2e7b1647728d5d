"""Lines on their way out: nobody waits, what is missing is counted, and lines stay whole."""

import contextlib
import ctypes
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pullcord.lines import MAX_LINE, LineWriter, dropped_in_words, text_stream

from tests.steady import PATIENCE

MISSING = re.compile(rb"pullcord: (\d+) lines of output were dropped, because nobody read them\n")


@dataclass
class Pipe:
    """A pipe, and who reads it when."""

    ends: tuple[int, int] = field(default_factory=os.pipe)

    def fill(self) -> None:
        """Leaves no room for a single byte."""
        os.set_blocking(self.ends[1], False)
        for size in (65536, 1):
            try:
                while True:
                    os.write(self.ends[1], b"." * (size - 1) + b"\n")
            except BlockingIOError:
                pass
        os.set_blocking(self.ends[1], True)

    def read_to(self, end: bytes) -> bytes:
        """Reads until this line has come, and whatever came with it."""
        data = b""
        while end not in data:
            data += os.read(self.ends[0], 65536)
        return data

    def close(self) -> None:
        for fd in self.ends:
            with contextlib.suppress(OSError):
                os.close(fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture
def writer(pipe: Pipe) -> Iterator[LineWriter]:
    writer = LineWriter(pipe.ends[1], max_lines=1000)
    yield writer
    os.close(pipe.ends[0])  # or a writer that waits for room would never end
    writer.close(PATIENCE)
    assert not writer._thread.is_alive()


def test_lines_come_out_in_order(pipe: Pipe, writer: LineWriter) -> None:
    """What one thread writes is written in its order, and unchanged."""
    for n in range(500):
        writer.write(b"%d\n" % n)
    assert pipe.read_to(b"\n499\n") == b"".join(b"%d\n" % n for n in range(500))
    assert writer.dropped == 0


def test_a_pipe_that_nobody_reads_costs_lines_and_no_time(pipe: Pipe, writer: LineWriter) -> None:
    """Beyond the bound lines are dropped and counted; once somebody reads, the gap is reported."""
    pipe.fill()
    for n in range(5000):
        writer.write(b"%d\n" % n)
    dropped = writer.dropped
    assert 4000 <= dropped <= 4000 + 100  # one batch may be under way
    end = dropped_in_words(dropped, "output")
    text = pipe.read_to(end)
    writer.write(b"after\n")  # there is room again
    if b"after\n" not in text:
        text += pipe.read_to(b"after\n")
    text = text.lstrip(b".\n").replace(end, b"")
    assert text.split() == [*(b"%d" % n for n in range(5000 - dropped)), b"after"]
    assert writer.dropped == dropped


def test_bytes_are_bounded_too(pipe: Pipe) -> None:
    """Lines of any length wait in no more memory than the bound says."""
    writer = LineWriter(pipe.ends[1], max_bytes=3 << 20)
    pipe.fill()
    for _ in range(10):
        writer.write(b"x" * (MAX_LINE - 1) + b"\n")
    assert writer.dropped == 7
    pipe.close()
    writer.close(PATIENCE)
    assert writer.dropped == 10


def test_a_slow_pipe_gets_every_line_whole(pipe: Pipe, writer: LineWriter) -> None:
    """A reader that takes a byte now and then costs nobody anything but its own time."""
    line = b"y" * 300_000 + b"\n"
    writer.write(line)
    writer.write(b"z\n")
    seen = b""
    while not seen.endswith(b"z\n"):
        seen += os.read(pipe.ends[0], 777)
    assert seen == line + b"z\n"
    assert writer.dropped == 0


def test_a_closed_pipe_is_no_error(pipe: Pipe, writer: LineWriter) -> None:
    """Where the reader is gone, lines count as dropped, and writing goes on as if nothing was."""
    reading = os.dup(pipe.ends[0])
    os.close(pipe.ends[0])
    os.close(reading)
    for n in range(10):
        writer.write(b"%d\n" % n)
        assert writer.flush(PATIENCE)
    assert writer.dropped == 10
    pipe.ends = (os.open(os.devnull, os.O_RDONLY), pipe.ends[1])


def test_a_closed_descriptor_is_no_error() -> None:
    """A process without a stderr writes nothing and counts it."""
    writer = LineWriter(-1)
    writer.write(b"x\n")
    assert writer.flush(PATIENCE)
    assert writer.dropped == 1
    writer.close()


def test_a_non_blocking_pipe_loses_nothing(pipe: Pipe, writer: LineWriter) -> None:
    """A descriptor that another program made non-blocking is written as any other."""
    os.set_blocking(pipe.ends[1], False)
    line = b"x" * 999_999 + b"\n"
    writer.write(line)
    writer.write(b"end\n")
    assert pipe.read_to(b"end\n") == line + b"end\n"
    assert writer.dropped == 0


def test_the_line_after_a_torn_one_begins_anew(tmp_path: Path) -> None:
    """Where a line could be written in part only, the next one stands on a line of its own."""
    program = """
import os, resource, signal, sys
from pullcord.lines import LineWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
writer = LineWriter(fd)
writer.write(b"12345678901234567890\\n")
assert writer.flush(60)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
writer.write(b"next\\n")
writer.close()
"""
    path = tmp_path / "log"
    subprocess.run([sys.executable, "-c", program, path], check=True)
    first, second, report = path.read_bytes().splitlines(keepends=True)
    assert (first, second) == (b"1234567890\n", b"next\n")
    assert MISSING.fullmatch(report)


def test_many_threads_lose_no_line_and_tear_none(pipe: Pipe) -> None:
    """Every line of every thread is either written whole, or counted as dropped."""
    writer = LineWriter(pipe.ends[1], max_lines=200)
    threads = [
        threading.Thread(
            target=lambda n=n: [
                writer.write(b"%d %d %s\n" % (n, i, b"-" * 200)) for i in range(2000)
            ]
        )
        for n in range(16)
    ]
    lines: list[bytes] = []

    def read() -> None:
        with os.fdopen(os.dup(pipe.ends[0]), "rb") as file:
            lines.extend(iter(file.readline, b"end\n"))

    reader = threading.Thread(target=read)
    reader.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.flush(PATIENCE)
    writer.write(b"end\n")
    reader.join(PATIENCE)
    assert not reader.is_alive()
    whole = [line for line in lines if re.fullmatch(rb"\d+ \d+ -{200}\n", line)]
    assert len(whole) == len(set(whole))
    assert len(whole) + writer.dropped == 16 * 2000
    reports = [MISSING.fullmatch(line) for line in lines if b"-" not in line]
    assert sum(int(report[1]) for report in reports if report) == writer.dropped
    assert len(whole) + len(reports) == len(lines)
    last: Counter[bytes] = Counter()
    for line in whole:
        thread, number, _ = line.split()
        assert int(number) >= last[thread]
        last[thread] = int(number)
    writer.close()


def test_an_interrupt_inside_leaves_it_sound(pipe: Pipe, writer: LineWriter) -> None:
    """Exceptions that are raised into a writing thread from outside, wherever, cost a line."""

    class Stop(BaseException):
        pass

    over = threading.Event()
    stopped = 0

    def write_on() -> None:
        nonlocal stopped
        while not over.is_set():
            try:
                while True:
                    writer.write(b"line\n")
            except Stop:
                stopped += 1

    thread = threading.Thread(target=write_on, daemon=True)
    drain = threading.Thread(target=lambda: pipe.read_to(b"end\n"), daemon=True)
    drain.start()
    thread.start()
    assert thread.ident is not None
    while stopped < 50:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(Stop)
        )
    over.set()
    while thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(Stop)
        )
        thread.join(0.01)
    assert writer.flush(PATIENCE)
    writer.write(b"end\n")
    drain.join(PATIENCE)
    assert not drain.is_alive()


def test_sources_keep_their_lines_apart(pipe: Pipe, writer: LineWriter) -> None:
    """Two sources that write in pieces share the descriptor line by line, each byte unchanged."""
    writer.write(b"he", "one")
    writer.write(b"good", 2)
    writer.write(b"llo\nwor", "one")
    writer.write(b"bye\r\n\n\xffrest", 2)
    writer.write(b"ld\n", "one")
    writer.write(b"", 2)
    writer.write(b"", 2)
    writer.write(b"", "one")
    writer.write(b"end\n")
    assert pipe.read_to(b"end\n") == b"hello\ngoodbye\r\n\nworld\n\xffrest\nend\n"


def test_a_line_without_an_end_is_cut(pipe: Pipe, writer: LineWriter) -> None:
    """A source that never ends its line is kept in bounded memory; its bytes come out in order."""
    piece = b"x" * 65536
    for _ in range(2 * MAX_LINE // len(piece)):
        writer.write(piece, "source")
    writer.write(b"end\n")
    assert pipe.read_to(b"end\n") == (b"x" * MAX_LINE + b"\n") * 2 + b"end\n"


def test_a_source_that_floods_does_not_displace_the_log(pipe: Pipe, writer: LineWriter) -> None:
    """When a source has filled its share, there is still room for lines without a source."""
    pipe.fill()
    for _ in range(5000):
        writer.write(b"flood\n", "source")
    dropped = writer.dropped
    for n in range(200):
        writer.write(b"log %d\n" % n)
    assert writer.dropped == dropped > 4000
    text = pipe.read_to(b"log 199\n")
    assert text.count(b"log ") == 200


def test_last_words_are_written_before_a_process_dies(pipe: Pipe) -> None:
    """A line for which a pipe has room is in it when `write` returns."""
    program = EXITING.format("writer.write(b'last words\\n'); os.kill(os.getpid(), 9)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.stdout == b"last words\n"


def test_lines_stay_whole_among_other_writers(pipe: Pipe, writer: LineWriter) -> None:
    """Lines that waited together are not split by others that write to the same pipe."""
    pipe.fill()
    ours, theirs = b"o" * 500 + b"\n", b"another\n"
    for _ in range(800):
        writer.write(ours)

    def write() -> None:
        for _ in range(800):
            os.write(pipe.ends[1], theirs)

    others = [threading.Thread(target=write) for _ in range(4)]
    for other in others:
        other.start()
    seen = b""
    while seen.count(b"o\n") < 800 or seen.count(b"another\n") < 3200:
        seen += os.read(pipe.ends[0], 4096)
    for other in others:
        other.join()
    lines = seen.lstrip(b".\n").splitlines(keepends=True)
    assert Counter(lines) == {ours: 800, theirs: 3200}


def test_print_takes_part(pipe: Pipe, writer: LineWriter) -> None:
    """A text stream passes whole lines on, and the rest when it is flushed or the process asks."""
    stream = text_stream(writer, pipe.ends[1])
    print("one", 2, "\N{SNOWMAN} \ud800", file=stream)
    print("no end", file=stream, end="", flush=True)
    print(file=stream)
    assert stream.fileno() == pipe.ends[1]
    assert not stream.isatty()
    stream.buffer.write(b"bytes\n")
    print("end", file=stream)
    told = pipe.read_to(b"end\n").decode()
    assert told == "one 2 \N{SNOWMAN} \\ud800\nno end\nbytes\nend\n"


EXITING = """
import os, sys, threading
from pullcord.lines import LineWriter, text_stream
writer = LineWriter(1)
sys.stdout = text_stream(writer, 1)
{}
"""


def test_what_waits_at_exit_is_written(pipe: Pipe) -> None:
    """A process that ends writes what was said before, an unfinished line too."""
    program = EXITING.format("print('said'); print('rest', end='')")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"said\nrest"


def test_a_full_pipe_holds_up_no_exit(pipe: Pipe) -> None:
    """A process whose output nobody reads ends all the same, a bounded time later."""
    pipe.fill()
    program = EXITING.format("print('x' * 100_000)")
    subprocess.run(
        [sys.executable, "-c", program], stdout=pipe.ends[1], check=True, timeout=PATIENCE
    )


def test_a_forked_child_writes_by_itself(pipe: Pipe) -> None:
    """In a process that was forked there is no thread that writes: lines are written at once."""
    program = EXITING.format(
        """
if not os.fork():
    print("child")
    sys.stdout.flush()
    os._exit(0)
os.wait()
print("parent")
"""
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"child\nparent\n"
