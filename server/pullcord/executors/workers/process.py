"""One worker process: started, watched for its death, and killed with all that it started.

It knows a socket, two pipes and a process id. What travels on the socket is not known here.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pullcord

_ROOT = str(Path(pullcord.__file__).resolve().parents[1])


@dataclass(frozen=True)
class Process:
    """A worker that was started. The socket and the pipes do not block."""

    process: "subprocess.Popen[bytes]"
    sock: socket.socket
    stdout: int
    stderr: int
    pidfd: int

    @property
    def pid(self) -> int:
        """Its process id, and that of its group and session."""
        return self.process.pid

    def kill(self) -> None:
        """Kills it, its group, and every process that descends from it, detached or not."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGSTOP)  # or it would start more while we look
        for pid in descendants(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def reap(self) -> str:
        """After its death: ends what is left of its group, and says in words how it died."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        code = self.process.wait()
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
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    try:
        path = os.environ.get("PYTHONPATH", "")
        process = subprocess.Popen(
            [sys.executable, "-m", "pullcord.worker", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=out_write,
            stderr=err_write,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": f"{path}{os.pathsep}{_ROOT}" if path else _ROOT},
        )
    except BaseException:
        ours.close()
        os.close(out_read)
        os.close(err_read)
        raise
    finally:
        theirs.close()
        os.close(out_write)
        os.close(err_write)
    for fd in (out_read, err_read):
        os.set_blocking(fd, False)
    ours.setblocking(False)
    return Process(process, ours, out_read, err_read, os.pidfd_open(process.pid))


def descendants(pid: int) -> list[int]:
    """The processes that descend from this one, as far as the system tells; the deepest first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, ValueError, IndexError):
                stat = (entry / "stat").read_text(errors="replace")
                parent = int(stat.rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    ready = [pid]
    while ready:
        below = children.get(ready.pop(), [])
        found += below
        ready += below
    return found[::-1]
