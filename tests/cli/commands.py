"""Runs `pullcord` as people do: as a process, with pipes or with a terminal of its own."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.steady import PATIENCE

PULLCORD = [sys.executable, "-m", "pullcord"]
# The terminal must control the process, so that the key Ctrl-C is a signal to it.
ON_TERMINAL = [
    sys.executable,
    "-c",
    "import os, sys; os.login_tty(os.dup(0)); os.execv(sys.argv[1], sys.argv[1:])",
]


def environment(**more: str) -> dict[str, str]:
    """What a command sees: nothing of PULLCORD_ but what is given, and a wide terminal.

    Servers keep their runs in memory, unless a store is given.
    """
    more.setdefault("PULLCORD_STORE", "memory")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PULLCORD_")}
    return {**kept, "TERM": "xterm", "COLUMNS": "100", "LINES": "30", **more}


def call(
    *args: str, address: str = "", input: str = "", cwd: Path | None = None, **more: str
) -> "subprocess.CompletedProcess[str]":
    """Runs a command to its end."""
    if address:
        more["PULLCORD_ADDRESS"] = address
    return subprocess.run(
        [*PULLCORD, *args],
        input=input,
        env=environment(**more),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class Command:
    """A command that is still at work. Its process has ended when the block is left."""

    def __init__(
        self,
        *args: str,
        address: str = "",
        terminal: bool = False,
        cwd: Path | None = None,
        **more: str,
    ) -> None:
        if address:
            more["PULLCORD_ADDRESS"] = address
        self._seen = ""
        self._slave = -1
        if terminal:
            self._reads, self._slave = pty.openpty()
            stdin = stdout = stderr = self._slave
        else:
            stdin, stdout, stderr = subprocess.DEVNULL, subprocess.PIPE, subprocess.PIPE
        self.process = subprocess.Popen(
            [*(ON_TERMINAL if terminal else ()), *PULLCORD, *args],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=environment(**more),
            cwd=cwd,
        )
        if self.process.stdout is not None:
            self._reads = self.process.stdout.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        if self._slave >= 0:
            os.close(self._slave)
            os.close(self._reads)

    def until(self, what: str | Callable[[str], bool]) -> str:
        """Reads stdout, or the terminal, until this has come or is so; returns all that came."""
        ends = time.monotonic() + PATIENCE
        while not (what in self._seen if isinstance(what, str) else what(self._seen)):
            assert self._read(ends - time.monotonic()), f"no {what!r} in {self._seen[-999:]!r}"
        return self._seen

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def type(self, keys: str) -> None:
        """Presses keys on the terminal."""
        os.write(self._reads, keys.encode())

    def end(self) -> tuple[int, str, str]:
        """Waits for the end; the exit code, all of stdout (or of the terminal), and stderr."""
        ends = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < ends, f"still at work: {self._seen[-999:]!r}"
            self._read(0.02)
        while self._read(0):
            pass
        errors = self.process.stderr.read().decode() if self.process.stderr is not None else ""
        return self.process.returncode, self._seen, errors

    def _read(self, patience: float) -> bool:
        if not select.select([self._reads], [], [], max(0.0, patience))[0]:
            return False
        data = os.read(self._reads, 65536)
        self._seen += data.decode(errors="replace")
        return bool(data)
