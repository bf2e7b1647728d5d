"""One worker process: started, watched for its death, and killed with all that it started.

It knows a socket, two pipes and a process id. What travels on the socket is not known here.
"""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pullcord
from pullcord.executors.processes import WORKER_MARK, kill_all, kill_tree, marked
from pullcord.executors.workers.guardian import Guardian
from pullcord.executors.workers.weight import processor_time, resident
from pullcord.run.killed import KilledProcess

ROOT = str(Path(pullcord.__file__).resolve().parents[1])
"""Where Python finds this package."""
_OURS = ("PULLCORD_WEBHOOK_SECRET",)
"""Variables that no worker gets. With this one, code could make links that decide for it."""


@dataclass(frozen=True)
class Process:
    """A worker that was started. The socket and the pipes do not block."""

    process: "subprocess.Popen[bytes]"
    sock: socket.socket
    stdout: int
    stderr: int
    exit_fd: int
    """Readable once it is dead."""
    guardian: Guardian
    mark: str
    """What its processes have in their environment."""

    @property
    def pid(self) -> int:
        """Its process id, and that of its group and session."""
        return self.process.pid

    @property
    def has_come(self) -> bool:
        """It is here from the start."""
        return True

    @property
    def is_cut(self) -> bool:
        """Never: it is here."""
        return False

    @property
    def stops_at_once(self) -> bool:
        """Always: a process that was sent SIGKILL executes nothing more. To take it down needs
        processor time, for which it waits in its turn: tens of milliseconds on a busy machine."""
        return True

    def resident(self) -> int:
        """Bytes of it that are in memory now; 0 where the system does not tell."""
        return resident(self.pid)

    def processor_time(self) -> float:
        """Seconds of processor time that it has used; 0 where the system does not tell."""
        return processor_time(self.pid)

    def kill(self) -> list[KilledProcess]:
        """Kills it, and every process that descends from it; returns those. Never waits.

        A worker with one run adopts what its code detaches, so that is found, too.
        """
        return kill_tree(self.pid)

    def died(self) -> str:
        """Once it is dead: ends what is left of its group, and says in words how it died.

        Empty while the system is still taking it down, which takes milliseconds on a busy machine.
        """
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.guardian.forget(self.pid)
        code = self._exit_code()
        if code is None:
            return ""
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"

    def _exit_code(self) -> int | None:
        """As `Popen.poll`, but it does not reap: for a process of gigabytes that can take 0.4 s."""
        if not hasattr(os, "waitid"):
            return self.process.poll()
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def bury(self) -> None:
        """Reaps it, and kills what it has left, if it did not end by itself; in a thread.

        Orphans are found by their mark: looking at every process of the machine takes long.
        """
        threading.Thread(target=self._bury, name="pullcord-orphans").start()

    def _bury(self) -> None:
        if self.process.wait() != 0:
            kill_all(partial(marked, WORKER_MARK, self.mark))

    def close(self) -> None:
        """Closes what is open of it, once it is dead."""
        self.sock.close()
        for fd in (self.stdout, self.stderr, self.exit_fd):
            with contextlib.suppress(OSError):
                os.close(fd)


def start_process(
    guardian: Guardian,
    command: Sequence[str],
    ours: socket.socket,
    *,
    pass_fds: Sequence[int],
    variables: Mapping[str, str],
) -> Process:
    """Starts a worker, whose frames come at `ours`, which is closed if that fails.

    Blocks for some milliseconds, so not on an event loop. Raises OSError where the system gives no
    more processes or descriptors.
    """
    opened: list[int] = []
    mark = uuid.uuid4().hex
    try:
        for _ in ("stdout", "stderr"):
            opened += os.pipe()
        out_read, out_write, err_read, err_write = opened
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out_write,
            stderr=err_write,
            pass_fds=pass_fds,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name not in _OURS}
            | dict(variables)
            | {WORKER_MARK: mark},
        )
    except BaseException:
        _close(ours, *opened[::2])
        raise
    finally:
        for fd in opened[1::2]:
            os.close(fd)
    guardian.watch(process.pid, mark)
    try:
        for fd in (out_read, err_read):
            os.set_blocking(fd, False)
        ours.setblocking(False)
        exit_fd = _exit_of(process)
    except OSError:  # no descriptor is left: the worker ends, as its socket is closed
        process.kill()
        guardian.forget(process.pid)
        process.wait()
        _close(ours, out_read, err_read)
        raise
    return Process(process, ours, out_read, err_read, exit_fd, guardian, mark)


def _exit_of(process: "subprocess.Popen[bytes]") -> int:
    """A descriptor that becomes readable once the process is dead.

    That is a pidfd, or, where the system has none, a pipe that a waiting thread closes.
    """
    if hasattr(os, "pidfd_open"):
        return os.pidfd_open(process.pid)
    readable, written = os.pipe()
    waits = threading.Thread(
        target=_wait_for, args=(process, written), name="pullcord-exit", daemon=True
    )
    waits.start()
    return readable


def _wait_for(process: "subprocess.Popen[bytes]", fd: int) -> None:
    if hasattr(os, "waitid"):  # not reaped by this: until it is, its id means no other process
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    else:
        process.wait()
    os.close(fd)


def _close(sock: socket.socket, *fds: int) -> None:
    sock.close()
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
