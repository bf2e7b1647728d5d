"""One worker process: started, watched for its death, and killed with all that it started.

It knows a socket, two pipes and a process id. What travels on the socket is not known here.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pullcord
from pullcord.executors.processes import WORKER_MARK, Killed, descendants, kill_all, marked

_ROOT = str(Path(pullcord.__file__).resolve().parents[1])


@dataclass(frozen=True)
class Process:
    """A worker that was started. The socket and the pipes do not block."""

    process: "subprocess.Popen[bytes]"
    sock: socket.socket
    stdout: int
    stderr: int
    pidfd: int
    mark: str
    """What its processes have in their environment."""

    @property
    def pid(self) -> int:
        """Its process id, and that of its group and session."""
        return self.process.pid

    def kill(self) -> list[Killed]:
        """Kills it, and every process that descends from it; returns those. Never waits.

        A worker with one run adopts what its code detaches, so that is found, too.
        """
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGSTOP)  # or it would start more while we look
        killed = kill_all(lambda: descendants(self.pid))
        for end in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                end(self.pid, signal.SIGKILL)
        return killed

    def reap(self) -> str:
        """After its death: ends what is left of its group, and says in words how it died.

        One that did not end by itself has left orphans, which are found by their mark, aside:
        looking at every process of the machine takes too long for an event loop.
        """
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        code = self.process.wait()
        if code != 0:
            find = partial(marked, WORKER_MARK, self.mark)
            threading.Thread(target=kill_all, args=(find,), name="pullcord-orphans").start()
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"

    def close(self) -> None:
        """Closes what is open of it. After the reap."""
        self.sock.close()
        for fd in (self.stdout, self.stderr, self.pidfd):
            with contextlib.suppress(OSError):
                os.close(fd)


def start_process() -> Process:
    """Starts a worker. Blocks for some milliseconds, so not on an event loop.

    Raises OSError where the system gives no more processes or descriptors.
    """
    ours, theirs = socket.socketpair()
    opened: list[int] = []
    mark = uuid.uuid4().hex
    try:
        for _ in ("stdout", "stderr"):
            opened += os.pipe()
        out_read, out_write, err_read, err_write = opened
        path = os.environ.get("PYTHONPATH", "")
        process = subprocess.Popen(
            [sys.executable, "-m", "pullcord.worker", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=out_write,
            stderr=err_write,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            env=os.environ
            | {"PYTHONPATH": f"{path}{os.pathsep}{_ROOT}" if path else _ROOT, WORKER_MARK: mark},
        )
    except BaseException:
        _close(ours, *opened[::2])
        raise
    finally:
        _close(theirs, *opened[1::2])
    try:
        for fd in (out_read, err_read):
            os.set_blocking(fd, False)
        ours.setblocking(False)
        pidfd = os.pidfd_open(process.pid)
    except OSError:  # no descriptor is left: the worker ends, as its socket is closed
        process.kill()
        process.wait()
        _close(ours, out_read, err_read)
        raise
    return Process(process, ours, out_read, err_read, pidfd, mark)


def _close(sock: socket.socket, *fds: int) -> None:
    sock.close()
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
