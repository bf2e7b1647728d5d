"""The commands of a run as processes: started in a session of their own, followed, and killed.

No command outlives its call, and what it has detached does not outlive its run. What a stop means
for the code that waits for a command is not decided here.
"""

import codecs
import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

from pullcord.executors.processes import (
    RUN_MARK,
    WORKER_MARK,
    descendants,
    is_alive,
    kill_all,
    marked,
)
from pullcord.run.cancel import CancelMode
from pullcord.run.command import Command, OnLine, ProcessResult
from pullcord.run.errors import RunCancelledError
from pullcord.run.events import Custom
from pullcord.run.killed import KilledProcess

_EVERY = 0.05
"""Seconds between two events of one command's output; what comes meanwhile is merged."""
_READ = 64 * 1024
"""Bytes of one read."""
_MAX_EVENT = 32 * 1024
"""Characters of one event; of a flood the rest is dropped there, and counted."""
_MAX_LINE = 8 * 1024
"""Characters of one line; a longer one comes in pieces."""
_LAST_READS = 32
"""Reads of what a command that has ended left in its pipe."""
_POLL = 0.05
"""Seconds between two looks whether it has ended, where the system has no pidfd."""

Emit = Callable[[Custom], None]


class RunCommands:
    """The commands of one run. Any thread may call any method."""

    def __init__(self) -> None:
        self._mark = ""
        self._lock = threading.Lock()
        self._stopped = False
        self._running: set[RunningCommand] = set()
        self._killed: list[KilledProcess] = []

    def prepare(self, command: Command, emit: Emit) -> "RunningCommand":
        """A command that can be begun; its output goes to `emit`, too."""
        env = os.environ if command.env is None else command.env
        return RunningCommand(self, command, emit, {**env, **self.environment()})

    def environment(self) -> dict[str, str]:
        """Variables that mark a process to be killed when the run has ended."""
        with self._lock:
            self._mark = self._mark or uuid.uuid4().hex
        worker = os.environ.get(WORKER_MARK)
        return {RUN_MARK: self._mark} | ({WORKER_MARK: worker} if worker else {})

    def stop(self, mode: CancelMode) -> None:
        """SIGTERM or SIGKILL to every one at work; no other begins. Never waits."""
        for running in self._take_all():
            if mode is CancelMode.GRACEFUL:
                running.terminate()
            else:
                running.kill()

    def close(self) -> list[KilledProcess]:
        """The run has ended: kills what is left, detached or not; all that had to be killed."""
        for running in self._take_all():
            running.kill()
        if self._mark:
            self.note(kill_all(lambda: marked(RUN_MARK, self._mark)))
        return list(self._killed)

    def _take_all(self) -> "list[RunningCommand]":
        with self._lock:
            self._stopped = True
            return list(self._running)

    def enter(self, running: "RunningCommand") -> None:
        """It is about to begin. Raises RunCancelledError if it must not."""
        with self._lock:
            if self._stopped:
                raise RunCancelledError("the run must stop, or has ended: no command begins")
            self._running.add(running)

    def leave(self, running: "RunningCommand") -> None:
        """It has ended."""
        with self._lock:
            self._running.discard(running)

    def note(self, killed: list[KilledProcess]) -> None:
        """Remembers, each once, what a stop or the run's end had to kill."""
        with self._lock:
            known = {one.pid for one in self._killed}
            self._killed += [one for one in killed if one.pid not in known]


class RunningCommand:
    """One command, about to begin or at work.

    Its leader is reaped last: until then its id, which is that of its group, means no other.
    """

    def __init__(
        self, commands: RunCommands, command: Command, emit: Emit, env: Mapping[str, str]
    ) -> None:
        self._commands = commands
        self._command = command
        self._emit = emit
        self._env = env
        self._lock = threading.Lock()
        self._pid = 0
        """Of the leader, while it is not reaped."""
        self._signal: signal.Signals | None = None

    # --- its stop, from any thread

    def terminate(self) -> None:
        """Asks it to end. Never waits."""
        self._stop(signal.SIGTERM)

    def kill(self) -> None:
        """Kills it with its group; one that has not begun does not go on. Never waits."""
        self._stop(signal.SIGKILL)

    def _stop(self, number: signal.Signals) -> None:
        with self._lock:
            self._signal = number
            if self._pid:
                self._send(number)

    def _send(self, number: signal.Signals) -> None:
        pid = self._pid
        if number is signal.SIGKILL and is_alive(pid):
            self._commands.note(kill_all(lambda: [pid, *descendants(pid)]))
        _signal_group(pid, number)

    # --- its life, in one thread

    def run(self) -> ProcessResult:
        """Starts it, follows it, and returns once it has ended. Blocks this thread."""
        self._commands.enter(self)
        try:
            process = self._start()
            try:
                stdout, stderr = self._follow(process)
            finally:
                self._end(process)
        finally:
            self._commands.leave(self)
        dropped = stdout.dropped + stderr.dropped
        return ProcessResult(process.returncode, stdout.kept(), stderr.kept(), dropped)

    def _start(self) -> "subprocess.Popen[bytes]":
        command = self._command
        process = subprocess.Popen(
            command.command,
            shell=command.shell,
            stdin=subprocess.DEVNULL if command.input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=command.cwd,
            env=self._env,
            start_new_session=True,
        )
        with self._lock:
            self._pid = process.pid
            if self._signal is not None:  # it came meanwhile
                self._send(self._signal)
        return process

    def _follow(self, process: "subprocess.Popen[bytes]") -> "tuple[_Output, _Output]":
        assert process.stdout is not None
        assert process.stderr is not None
        stdout = _Output("stdout", process.stdout, process.pid, self._command, self._emit)
        stderr = _Output("stderr", process.stderr, process.pid, self._command, self._emit)
        ends: list[_Input | _Output] = [stdout, stderr]
        if process.stdin is not None:
            ends.append(_Input(process.stdin, self._command.input or b""))
        with selectors.DefaultSelector() as selector, _exit_of(process) as exit_fd:
            for end in ends:
                os.set_blocking(end.pipe.fileno(), False)
                selector.register(end.pipe, end.event, end)
            if exit_fd is not None:
                selector.register(exit_fd, selectors.EVENT_READ)
            due = 0.0
            goes_on = True
            while goes_on:
                patience = None if exit_fd is not None else _POLL
                if stdout.has_untold or stderr.has_untold:
                    patience = max(0.0, due - time.monotonic())
                for key, _ in selector.select(patience):
                    if key.data is None:
                        goes_on = False
                    elif not key.data.ready():
                        selector.unregister(key.fileobj)
                        key.data.pipe.close()
                if exit_fd is None and process.poll() is not None:
                    goes_on = False
                if time.monotonic() >= due and stdout.tell() | stderr.tell():
                    due = time.monotonic() + _EVERY
        _signal_group(process.pid, signal.SIGKILL)  # what it left in its group ends with it
        for output in (stdout, stderr):
            output.finish()
        return stdout, stderr

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        """Whatever ended the following: nothing of its group is left, and its leader is reaped."""
        with self._lock:
            self._pid = 0
        if process.returncode is None:
            _signal_group(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


class _Input:
    """The bytes that are written to stdin."""

    event = selectors.EVENT_WRITE

    def __init__(self, pipe: IO[bytes], data: str | bytes) -> None:
        self.pipe = pipe
        self._data = memoryview(data.encode() if isinstance(data, str) else data)

    def ready(self) -> bool:
        """Writes some of it; False once all is written, or nobody reads."""
        try:
            self._data = self._data[os.write(self.pipe.fileno(), self._data[:_READ]) :]
        except BlockingIOError:
            return True
        except OSError:
            return False
        return len(self._data) > 0


class _Output:
    """One stream of a command: kept, sent as events, and handed over line by line."""

    event = selectors.EVENT_READ

    def __init__(self, name: str, pipe: IO[bytes], pid: int, command: Command, emit: Emit) -> None:
        self._name = name
        self.pipe = pipe
        self._pid = pid
        self._emit = emit
        self._on_line = command.on_line
        self._half = (command.max_output + 1) // 2
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self.dropped = 0
        """Bytes that are not kept."""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._untold: list[str] = []
        self._untold_length = 0
        self._skipped = 0
        self._line = ""

    @property
    def has_untold(self) -> bool:
        """Whether there is text that no event has carried yet."""
        return bool(self._untold)

    def ready(self) -> bool:
        """Takes what has come; False at the end, or if nothing has come."""
        try:
            data = os.read(self.pipe.fileno(), _READ)
        except OSError:
            return False
        if data:
            self._keep(data)
            self._take(self._decoder.decode(data))
        return bool(data)

    def finish(self) -> None:
        """Takes what is left: nobody writes any more."""
        for _ in range(_LAST_READS):
            if self.pipe.closed or not self.ready():
                break
        self._take(self._decoder.decode(b"", final=True))
        self.tell()
        if self._line and self._on_line is not None:
            _hand_over(self._on_line, self._name, self._line)

    def kept(self) -> str:
        """The part of the output that is kept."""
        data = bytes(self._head) + b"".join(self._tail)
        return data.decode("utf-8", "replace")

    def tell(self) -> bool:
        """Makes an event of the text that none has carried yet; whether there was any."""
        if not self._untold:
            return False
        told: dict[str, Any] = {"pid": self._pid, "stream": self._name}
        told["text"] = "".join(self._untold)
        if self._skipped:
            told["dropped"] = self._skipped
        self._untold.clear()
        self._untold_length = self._skipped = 0
        self._emit(Custom("process_output", told))
        return True

    def _keep(self, data: bytes) -> None:
        room = self._half - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            self._tail.append(data)
            self._tail_bytes += len(data)
            while self._tail_bytes > self._half:
                first = self._tail.popleft()
                cut = min(len(first), self._tail_bytes - self._half)
                self.dropped += cut
                self._tail_bytes -= cut
                if cut < len(first):
                    self._tail.appendleft(first[cut:])

    def _take(self, text: str) -> None:
        if not text:
            return
        room = max(0, _MAX_EVENT - self._untold_length)
        if room:
            self._untold.append(text[:room])
            self._untold_length += len(text[:room])
        self._skipped += len(text[room:])
        if self._on_line is not None:
            *lines, self._line = (self._line + text).split("\n")
            for line in lines:
                self._hand_over_in_pieces(line.removesuffix("\r"))
            while len(self._line) > _MAX_LINE:
                _hand_over(self._on_line, self._name, self._line[:_MAX_LINE])
                self._line = self._line[_MAX_LINE:]

    def _hand_over_in_pieces(self, line: str) -> None:
        assert self._on_line is not None
        _hand_over(self._on_line, self._name, line[:_MAX_LINE])
        for start in range(_MAX_LINE, len(line), _MAX_LINE):
            _hand_over(self._on_line, self._name, line[start : start + _MAX_LINE])


def _hand_over(on_line: OnLine, name: str, line: str) -> None:
    """The author's code, which an interrupt may reach."""
    on_line(name, line)


@contextlib.contextmanager
def _exit_of(process: "subprocess.Popen[bytes]") -> Iterator[int | None]:
    """A descriptor that can be read once the process has ended; None where there are none."""
    if not hasattr(os, "pidfd_open"):
        yield None
        return
    fd = os.pidfd_open(process.pid)
    try:
        yield fd
    finally:
        os.close(fd)
