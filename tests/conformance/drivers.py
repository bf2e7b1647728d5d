"""The drivers as processes: how one is started, asked and ended.

What a driver is asked, and what its answers mean, is `play`'s business.
"""

import base64
import json
import queue
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import Any, Self

from google.protobuf.message import Message

PATIENCE = 60.0
"""Seconds that a driver may take for one answer. No scenario lets it wait for nearly so long."""


class DriverError(Exception):
    """A driver did not do as tests/conformance/README.md says, or has died."""


class Driver:
    """One driver's process. Ask it one thing at a time; end it, or use it in `with`."""

    def __init__(self, language: str, command: Sequence[str]) -> None:
        self.language = language
        self.command = command
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # open for as long as the process
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log
        )
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._read, name=f"driver-{language}", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def close(self) -> None:
        """Ends it: by closing its stdin, and where that does not do, by killing it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            self.kill()
        self._log.close()

    def freeze(self) -> None:
        """Stops the process where it is: it closes no connection, and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets the process go on; nothing, if it was not frozen."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Ends it at once, such as when it does not answer."""
        self._process.kill()
        self._process.wait()

    def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Asks, and waits for the answer. Raises DriverError."""
        self.send(op, **arguments)
        return self.answer()

    def send(self, op: str, **arguments: Any) -> None:
        """Asks, and does not wait. Messages go as base64. Raises DriverError."""
        request = {"op": op}
        for name, value in arguments.items():
            if isinstance(value, Message):
                value = base64.b64encode(value.SerializeToString()).decode()
            if value is not None:
                request[name] = value
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise DriverError(f"the driver has died{self._last_words()}") from error

    def answer(self) -> dict[str, Any]:
        """The next answer. Raises DriverError where it does not come, or is no JSON object."""
        try:
            line = self._lines.get(timeout=PATIENCE)
        except queue.Empty:
            self.kill()
            words = self._last_words()
            raise DriverError(f"the driver did not answer for {PATIENCE:g} s{words}") from None
        if not line:
            raise DriverError(f"the driver has died{self._last_words()}")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise DriverError(f"the driver's answer is no JSON object: {line[:200]!r}")
        return answer

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._process.wait()
        self._process.stdout.close()
        self._lines.put(b"")

    def _last_words(self) -> str:
        self._log.seek(0)
        words = self._log.read()[-2000:].decode(errors="replace").strip()
        return f"; its last words:\n{words}" if words else ""


def decode(kind: type[Message], text: Any) -> Message:
    """A message out of an answer. Raises DriverError where it is none."""
    try:
        return kind.FromString(base64.b64decode(text, validate=True))
    except Exception as error:
        raise DriverError(f"no {kind.__name__} in base64: {str(text)[:200]!r}") from error


class Drivers:
    """One driver a language, made when it is first asked for, and again where it has died."""

    def __init__(self, command: Callable[[str], Sequence[str]]) -> None:
        """`command` builds a language's driver, and is the command that runs it."""
        self._command = command
        self._commands: dict[str, Sequence[str] | DriverError] = {}
        self._drivers: dict[str, Driver] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for driver in self._drivers.values():
            driver.close()

    def get(self, language: str) -> Driver:
        """The language's driver, alive. Raises DriverError."""
        driver = self._drivers.get(language)
        if driver is None or not driver.is_alive:
            if driver is not None:
                driver.close()
            driver = self._drivers[language] = Driver(language, self._built(language))
        return driver

    def _built(self, language: str) -> Sequence[str]:
        """The command; what could not be built is not built again."""
        if language not in self._commands:
            try:
                self._commands[language] = self._command(language)
            except DriverError as error:
                self._commands[language] = error
        command = self._commands[language]
        if isinstance(command, DriverError):
            raise command
        return command
