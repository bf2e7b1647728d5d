"""The contract of all that starts workers: what the pool relies on, with no pool."""

import os
import select
import shlex
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from pullcord.executors.workers.command import CommandLauncher
from pullcord.executors.workers.launcher import Launcher, Worker
from pullcord.executors.workers.local import LocalLauncher
from pullcord.link import frames_pb2 as pb
from pullcord.link.framing import Deframer, framed
from pullcord.telemetry import LinkTelemetry

from tests.transports.harness import until

APP = """
import os, subprocess, sys
from pullcord import RunServer

print("imported", flush=True)
print("aside", file=sys.stderr, flush=True)
if os.path.exists("exits"):
    os._exit(7)
if os.path.exists("starts"):
    subprocess.Popen(["sleep", "600"], start_new_session=True)
server = RunServer(agents=[])
"""
COMMAND = shlex.join([sys.executable, "-m", "pullcord", "worker", "launched:server"])
_LONG = 120.0
"""Seconds after which a test fails that waits."""

Start = Callable[[], Worker]


@pytest.fixture(params=["local", "command"])
def launcher(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Launcher]:
    (tmp_path / "launched.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    launcher: Launcher = LocalLauncher()
    if request.param == "command":
        launcher = CommandLauncher(COMMAND, "127.0.0.1:0", 5.0, LinkTelemetry())
    launcher.open()
    yield launcher
    launcher.close()


@pytest.fixture
def start(launcher: Launcher) -> Iterator[Start]:
    """Starts workers, which are gone when the test has ended."""
    with ExitStack() as ending:

        def begin() -> Worker:
            worker = launcher.start()
            ending.callback(end, worker)
            return worker

        yield begin


def end(worker: Worker) -> None:
    worker.kill()
    select.select([worker.exit_fd], [], [], _LONG)
    until(lambda: bool(worker.died()))
    worker.close()
    worker.bury()


def greet(worker: Worker) -> None:
    """Tells it what to import."""
    hello = pb.Hello(target="launched:server", options="{}", log_level="info", disclosure="full")
    worker.sock.sendall(framed(pb.Down(frames=[pb.DownFrame(hello=hello)]).SerializeToString()))


def frames(worker: Worker) -> Iterator[pb.UpFrame]:
    """What it says, until the end."""
    deframer = Deframer()
    while True:
        assert select.select([worker.sock], [], [], _LONG)[0]
        data = worker.sock.recv(65536)
        if not data:
            return
        for message in deframer.feed(data):
            yield from pb.Up.FromString(message).frames


def read(fd: int, words: bytes) -> None:
    """Reads a pipe until these words have come."""
    found = b""
    while words not in found:
        assert select.select([fd], [], [], _LONG)[0]
        found += (data := os.read(fd, 65536))
        assert data, found


def test_a_worker_says_and_writes(start: Start) -> None:
    """Frames go both ways, and its stdout and stderr are to be read."""
    worker = start()
    greet(worker)
    assert next(frames(worker)).WhichOneof("frame") == "ready"
    read(worker.stdout, b"imported")
    read(worker.stderr, b"aside")
    assert not select.select([worker.exit_fd], [], [], 0)[0]
    assert worker.died() == ""


def test_a_kill_ends_it_with_what_it_has_started(start: Start) -> None:
    """Also what is detached from it."""
    Path("starts").touch()
    worker = start()
    greet(worker)
    assert next(frames(worker)).WhichOneof("frame") == "ready"
    started = psutil.Process(worker.pid).children(recursive=True)
    assert started
    worker.kill()
    assert select.select([worker.exit_fd], [], [], _LONG)[0]
    until(lambda: worker.died() == "was killed by SIGKILL")
    until(lambda: not any(map(is_running, started)))


def is_running(process: psutil.Process) -> bool:
    """Whether it lives, and is no zombie."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_worker_that_dies_by_itself_says_how(start: Start) -> None:
    """Its exit code is in the words, and the socket comes to its end."""
    Path("exits").touch()
    worker = start()
    greet(worker)
    assert select.select([worker.exit_fd], [], [], _LONG)[0]
    until(lambda: worker.died() == "ended with exit code 7")
    assert list(frames(worker)) == []


def test_a_worker_ends_with_its_socket(start: Start) -> None:
    """A worker that nobody listens to goes on for nobody."""
    worker = start()
    greet(worker)
    assert next(frames(worker)).WhichOneof("frame") == "ready"
    worker.sock.shutdown(socket.SHUT_RDWR)
    assert select.select([worker.exit_fd], [], [], _LONG)[0]
