"""Shows a run while it is at work: on a terminal, into a pipe, or as JSON lines.

A view shows what it is given. `follow` decides what an event means, and what Ctrl-C does.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from pullcord.cli.branches import clock, rows, state_words, style
from pullcord.cli.output import console, count, plain, print_json, seconds
from pullcord.cli.tree import Branch, Tree
from pullcord.run import events
from pullcord.run.events import Event
from pullcord.run.state import RunState
from pullcord.wire.event import event_message

try:
    import termios
except ImportError:  # not Unix
    termios = None  # type: ignore[assignment]

_TerminalError: type[Exception] = getattr(termios, "error", OSError)

_ABOVE = 4
"""Lines of the terminal that a tree leaves to the text above it, and to the status line."""
_LONGEST_LINE = 100
"""Characters of a member's line in a pipe; it goes on in the next one."""

_BETWEEN_PROGRESS = 1.0
"""Seconds between two lines that say how far the work has come, in a pipe."""


@dataclass
class Status:
    """The values that the status line shows."""

    began: float
    """When the command or the run began, of time.monotonic; so is the deadline."""
    deadline: float | None = None
    start_time: float = 0.0
    """When the run began, in seconds since the epoch of the server's clock; 0: not known yet."""
    state: RunState = RunState.PENDING
    words: int = 0
    tokens: int = 0
    doing: str = ""
    """The run's own progress, in words."""
    hint: str = ""
    offline: bool = False
    """Whether the connection to the server is lost."""
    tree: Tree = field(default_factory=Tree)

    def now(self) -> float:
        """The server's time, counted from the run's start; 0 before that is known."""
        return self.start_time and self.start_time + time.monotonic() - self.began


class View(Protocol):
    """The place where a run is shown: a terminal, a pipe, or JSON lines."""

    @property
    def has_keys(self) -> bool:
        """Whether somebody can answer by pressing a key."""

    def keys(self, pressed: Callable[[str], None]) -> Callable[[], None]:
        """Calls back for each key, until what this returns is called."""

    def event(self, event: Event) -> None:
        """Every event, before any other method is called for it."""

    def write(self, text: str) -> None:
        """More of the run's own text."""

    def aside(self, text: str) -> None:
        """More of what is not the run's own text: its reasoning."""

    def child(self, branch: Branch, event: Event) -> None:
        """Something has happened to a step or member, which the tree shows."""

    def note(self, line: str, style: str = "dim") -> None:
        """A line about the run."""

    def progress(self, where: str, words: str) -> None:
        """The progress of the run, or of its child at this path."""

    def tick(self, status: Status) -> None:
        """Time has passed, or something has changed."""

    def close(self, status: Status) -> None:
        """The run has ended, or was left: only notes may follow."""


class JsonView:
    """Events as JSON lines on stdout, and nothing else."""

    has_keys = False

    def keys(self, pressed: Callable[[str], None]) -> Callable[[], None]:
        """There are none."""
        return _nothing

    def event(self, event: Event) -> None:
        """Prints it."""
        print_json(event_message(event))

    def write(self, text: str) -> None:
        """The event was printed."""

    def aside(self, text: str) -> None:
        """The event was printed."""

    def note(self, line: str, style: str = "dim") -> None:
        """The event was printed."""

    def child(self, branch: Branch, event: Event) -> None:
        """The event was printed."""

    def progress(self, where: str, words: str) -> None:
        """The event was printed."""

    def tick(self, status: Status) -> None:
        """Nothing moves."""

    def close(self, status: Status) -> None:
        """Nothing is open."""


class PipeView:
    """The run's text on stdout, untouched; everything else on stderr."""

    has_keys = False

    def __init__(self) -> None:
        self._open = False
        self._lines: dict[Branch, str] = {}
        self._progress_at = 0.0
        self._clean = plain if sys.stdout.isatty() else str  # a terminal of little skill

    def keys(self, pressed: Callable[[str], None]) -> Callable[[], None]:
        """There are none."""
        return _nothing

    def event(self, event: Event) -> None:
        """The other methods get what is shown of it."""

    def write(self, text: str) -> None:
        """Passes it on at once."""
        self._open = not text.endswith("\n")
        sys.stdout.write(self._clean(text))
        sys.stdout.flush()

    def aside(self, text: str) -> None:
        """Goes to stderr."""
        sys.stderr.write(plain(text))

    def note(self, line: str, style: str = "dim") -> None:
        """Goes to stderr."""
        print(plain(line), file=sys.stderr, flush=True)

    def child(self, branch: Branch, event: Event) -> None:
        """Goes to stderr, line by line, each with the path of who says it before it."""
        match event.payload:
            case events.ContentDelta(text):
                *whole, rest = (self._lines.pop(branch, "") + text).split("\n")
                for line in whole:
                    self._tell(branch, line)
                while len(rest) > _LONGEST_LINE:
                    line, rest = _broken(rest)
                    self._tell(branch, line)
                if rest:
                    self._lines[branch] = rest
            case events.RunStarted() | events.StepStarted():
                if branch.state is RunState.RUNNING and branch.begin_time == event.create_time:
                    self._tell(branch, f"▸ {branch.remark or 'started'}")
            case events.ToolCallStarted() | events.ToolCallCompleted():
                self._tell(branch, branch.doing)
            case events.Progress():
                self.progress("/".join(branch.path), branch.doing)
            case events.StepCompleted() | events.RunCompleted() | events.RunCancelled():
                self._ended(branch, event)
            case events.RunFailed():
                self._ended(branch, event)

    def _ended(self, branch: Branch, event: Event) -> None:
        if line := self._lines.pop(branch, ""):
            self._tell(branch, line)
        if branch.worker and not isinstance(event.payload, events.StepCompleted):
            return  # the step ends as well, and says the same
        took = seconds(max(0.0, branch.end_time - branch.begin_time))
        because = f": {branch.remark}" if branch.remark else ""
        self._tell(branch, f"▪ {state_words(branch.state)}, {took}{because}")

    def progress(self, where: str, words: str) -> None:
        """Goes to stderr, a line a second at most: a fast loop must not flood a log."""
        now = time.monotonic()
        if now >= self._progress_at:
            self._progress_at = now + _BETWEEN_PROGRESS
            self.note(f"{where}: {words}" if where else words)

    def _tell(self, branch: Branch, line: str) -> None:
        self.note(f"{'/'.join(branch.path)}: {line}")

    def tick(self, status: Status) -> None:
        """Nothing moves in a pipe."""

    def close(self, status: Status) -> None:
        """Ends all last lines, and names the steps that have not begun."""
        if self._open:
            self.write("\n")
        for branch, line in self._lines.items():
            self._tell(branch, line)
        if status.state.is_terminal:
            for branch in status.tree:
                if branch.standing() is None and not branch.members:
                    self._tell(branch, state_words(None, is_complete=status.tree.is_complete))


class ScreenView:
    """A terminal: the text flows, and what is below it says how the run stands.

    That is one line, and a row for each step or member if there are any. Whole lines of the
    text are printed for good. Only the last one, which still grows, and what is below are painted
    again, at most as often as `tick` is called; in the end the tree is printed for good, too.
    """

    def __init__(self, to: Console) -> None:
        self._console = to
        self._live = Live(console=to, auto_refresh=False, transient=True, redirect_stdout=False)
        self._below: tuple[Text, ...] = (Text(),)
        self._line = ""
        self._style = ""
        self._dirty = False
        self._spoke = False
        self._is_gap = False  # the last whole row is empty
        self._closed = False
        self._quiet = contextlib.ExitStack()
        self._quiet.enter_context(_no_echo_of_control_keys())
        self._live.start()

    @property
    def has_keys(self) -> bool:
        """If stdin is a terminal, too."""
        return sys.stdin.isatty() and termios is not None

    def keys(self, pressed: Callable[[str], None]) -> Callable[[], None]:
        """Single keys, without Enter; what this returns makes the terminal as it was before."""
        if not self.has_keys:
            return _nothing
        loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
        changed = termios.tcgetattr(descriptor)
        changed[3] &= ~(termios.ICANON | termios.ECHO)  # not ISIG: Ctrl-C stays a signal
        termios.tcsetattr(descriptor, termios.TCSADRAIN, changed)

        def read() -> None:
            data = os.read(descriptor, 64)
            if not data:
                loop.remove_reader(descriptor)
            for key in data.decode("utf-8", "ignore"):
                pressed(key)

        def close() -> None:
            loop.remove_reader(descriptor)
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

        loop.add_reader(descriptor, read)
        return close

    def event(self, event: Event) -> None:
        """The other methods get what is shown of it."""

    def write(self, text: str) -> None:
        """Appends; shown at the next tick."""
        self._say(text, "")

    def aside(self, text: str) -> None:
        """Appends, in a fainter hand."""
        self._say(text, "dim italic")

    def child(self, branch: Branch, event: Event) -> None:
        """Shown in the tree at the next tick."""

    def progress(self, where: str, words: str) -> None:
        """Shown in the status line or in the tree at the next tick."""

    def note(self, line: str, style: str = "dim") -> None:
        """A line of its own, above what still grows."""
        self._end_line()
        # The terminal itself wraps a command, so that it can be copied whole.
        is_command = line.lstrip().startswith("pullcord ")
        self._console.print(Text(plain(line), style), soft_wrap=is_command)

    def tick(self, status: Status) -> None:
        """Paints, if anything has changed."""
        size = self._console.size
        below = rows(status.tree, status.now(), size.width, max(2, size.height - _ABOVE))
        shown = (_status_line(status), *below)
        if not self._dirty and shown == self._below:
            return
        self._below, self._dirty = shown, False
        self._paint()

    def close(self, status: Status) -> None:
        """The text and the tree stay, the status line goes."""
        if self._closed:
            return
        self._closed = True
        try:
            self._end_line()
            if status.tree and status.start_time:  # a refused run has no tree
                below = rows(status.tree, status.now(), self._console.width)
                name = Text(plain(status.tree.root.name), "bold")
                self._live.update(Text(), refresh=True)  # or the tree is there twice for a moment
                self._console.print(Text("\n").join([*self._space(), name, *below]))
        finally:
            self._live.stop()
            self._quiet.close()

    def _space(self) -> list[Text]:
        """An empty row between text and tree, unless there is one already."""
        return [Text()] if self._spoke and not self._is_gap else []

    def _say(self, text: str, style: str) -> None:
        self._spoke = True
        if style != self._style:
            self._end_line()
            self._style = style
        self._line += plain(text)
        self._dirty = True

    def _end_line(self) -> None:
        if self._line:
            self._line += "\n"
            self._paint()

    def _paint(self) -> None:
        *whole, self._line = self._rows()
        growing = Text(self._line, self._style, no_wrap=True, overflow="crop")
        parts = [growing, Text()] if self._line else [Text()]
        # First what is below, in which the whole rows are no longer: rich prints them above what
        # the live part showed last, so that the terminal would have them twice until the next tick.
        with self._console:  # in one write
            self._live.update(Group(*parts, *self._below), refresh=True)
            if whole:
                self._is_gap = not whole[-1].strip()
                self._console.print(Text("\n").join(Text(row, self._style) for row in whole))

    def _rows(self) -> list[str]:
        """The rows to show, one for each line of the terminal; the last one still grows."""
        *ended, growing = self._line.split("\n")
        rows = [row for line in ended for row in self._wrapped(line)]
        return rows + self._wrapped(growing)

    def _wrapped(self, line: str) -> list[str]:
        said = line.rstrip(" ")
        rows = [row.plain for row in Text(said).wrap(self._console, self._console.width)] or [""]
        rows[-1] += line[len(said) :]  # wrapping would drop it, and it parts the next word
        return rows


def _nothing() -> None:
    pass


def choose_view(as_json: bool) -> View:
    """The view that suits where stdout goes."""
    if as_json:
        return JsonView()
    to = console()
    return ScreenView(to) if to.is_terminal and not to.is_dumb_terminal else PipeView()


def _status_line(status: Status) -> Text:
    now = time.monotonic()
    parts = [clock(now - status.began)]
    if status.words:
        parts.append(count(status.words, "word"))
    if status.tokens:
        parts.append(f"about {count(status.tokens, 'token')}")  # the provider's count comes last
    if status.deadline is not None:
        parts.append(f"{clock(status.deadline - now)} left")
    line = Text(no_wrap=True, overflow="ellipsis")
    if status.tree:
        line.append(f"{plain(status.tree.root.name)}  ", "bold")
    line.append(f"● {state_words(status.state)}", style(status.state))
    if status.offline:
        line.append("  no connection", "yellow")
    line.append("".join(f"  {part}" for part in parts))
    if status.doing:
        line.append(f"  {plain(status.doing)}", "cyan")
    line.append(f"  {status.hint}", "dim")
    return line


def _broken(line: str) -> tuple[str, str]:
    """A line's beginning, and what goes to the next one; between words where that can be."""
    at = line.rfind(" ", 0, _LONGEST_LINE + 1)
    return (line[:at], line[at + 1 :]) if at > 0 else (line[:_LONGEST_LINE], line[_LONGEST_LINE:])


@contextlib.contextmanager
def _no_echo_of_control_keys() -> Iterator[None]:
    """Keeps the terminal from writing ^C into the text."""
    try:
        descriptor = sys.stdout.fileno()
        before = termios.tcgetattr(descriptor)
    except (AttributeError, ValueError, OSError, _TerminalError):  # no terminal, or not Unix
        yield
        return
    changed = [*before]
    changed[3] &= ~termios.ECHOCTL
    termios.tcsetattr(descriptor, termios.TCSANOW, changed)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)
