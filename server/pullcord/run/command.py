"""Commands that a run's code starts as processes: what is asked for, and what came of it.

Values, and the port that executes them. How a process is started, followed and killed is not here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pullcord.run.cancel import CancelMode
from pullcord.run.events import Custom

MAX_OUTPUT = 1024 * 1024
"""Bytes that are kept of each stream, unless the author says otherwise."""

OnLine = Callable[[str, str], None]
"""Is given the name of a stream, `stdout` or `stderr`, and a line of it without its end."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command as an author asks for it."""

    command: str | Sequence[str]
    """A list of the program and its arguments; with `shell` the text that a shell reads."""
    shell: bool = False
    input: str | bytes | None = None
    """Its input on stdin; None: nothing."""
    cwd: str | Path | None = None
    """Its working directory; None: that of this process."""
    env: Mapping[str, str] | None = None
    """All of its environment; None: that of this process."""
    on_line: OnLine | None = None
    max_output: int = MAX_OUTPUT

    def __post_init__(self) -> None:
        """Raises TypeError where a list and a shell's text are mixed up, ValueError for a bound."""
        if isinstance(self.command, str) is not self.shell:
            wants = "one text" if self.shell else "a list such as ['ls', '-l']; or pass shell=True"
            raise TypeError(f"command must be {wants}, not {type(self.command).__name__}")
        if self.max_output < 1:
            raise ValueError(f"max_output is {self.max_output}; it must be at least 1")


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """The result of a command."""

    exit_code: int
    """0: it succeeded; negative: the signal that ended it."""
    stdout: str
    """Its output; of more than `max_output`, the beginning and the end."""
    stderr: str
    dropped: int = 0
    """Bytes of both that are missing in between."""


class Running(Protocol):
    """One command, about to begin or at work."""

    def run(self) -> ProcessResult:
        """Starts it, follows it, and returns once it has ended. Blocks this thread.

        Raises OSError where it cannot be started.
        """

    def kill(self) -> None:
        """Kills it with its group; one that has not begun does not begin. Never waits."""


class Commands(Protocol):
    """The commands of one run."""

    def prepare(self, command: Command, emit: Callable[[Custom], None]) -> Running:
        """A command that can be begun; its output goes to `emit`, too."""

    def environment(self) -> Mapping[str, str]:
        """Variables that mark a process to be killed when the run has ended."""

    def stop(self, mode: CancelMode) -> None:
        """SIGTERM or SIGKILL to every one at work. Never waits."""
