"""`pullcord run` and `pullcord cancel-all` on a terminal."""

import io
import re
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from pullcord.cli.screen import ScreenView, Status
from pullcord.client import RunClient
from pullcord.run.state import RunState
from rich.console import Console

from tests.cli.commands import Command, call


def test_the_status_line(address: str) -> None:
    """A line below the text says the state, the time, the words and what Ctrl-C does."""
    args = ("run", "agents/forever", "--timeout", "1m")
    with Command(*args, address=address, terminal=True) as command:
        command.until("● running")
        seen = command.until(" words")
        assert "left" in seen
        assert "Ctrl-C stops it" in seen
        command.type("\x03")
        code, seen, _ = command.end()
    assert code == 130
    assert "■ cancelled after" in seen
    assert "delivered" in seen
    assert "^C" not in seen
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h") == 1  # the cursor is back


def test_the_tree(address: str, client: RunClient) -> None:
    """A workflow's steps are rows that fill in; they stay in the end, also those not started."""
    run_id = f"terminal-{uuid.uuid4()}"
    args = ("run", "workflows/sheet", "one two three", "--run-id", run_id)
    with Command(*args, address=address, terminal=True) as command:
        command.until("tick tick")
        seen = command.until(_shows("spell    ✔ completed"))
        assert "workflows/sheet" in seen
        assert "○ not started" in seen
        assert "● running" in seen
        command.type("\x03")
        code, seen, _ = command.end()
    assert code == 130
    shown = _screen(seen)
    start = shown.index("workflows/sheet")
    assert [line[:28].rstrip() for line in shown[start + 1 : start + 6]] == [
        "├─ say         ✔ completed",
        "├─ both        ■ cancelled",
        "│  ├─ spell    ✔ completed",
        "│  └─ forever  ■ cancelled",
        "└─ table       ○ not started",
    ]
    assert "one two three" in shown[start + 1]
    assert "tick" in shown[start + 4]
    assert not [line for line in shown if "●" in line]
    assert "■ cancelled after" in shown[start + 6]


def test_the_tree_of_a_team_that_is_left(address: str, client: RunClient) -> None:
    """Whoever leaves a watch keeps the tree as it then was; the leader's text stands above it."""
    run_id = client.start("teams/crew", "hello").run_id
    with Command("watch", run_id, address=address, terminal=True) as command:
        command.until("tick tick")
        command.until(_shows("say      ✔ completed"))
        command.type("\x03")
        code, seen, _ = command.end()
    assert code == 124
    shown = _screen(seen)
    start = shown.index("teams/crew")
    assert "I hand this to say and forever." in shown[:start]
    assert shown[start + 1].startswith("├─ say      ✔ completed")
    assert shown[start + 2].startswith("└─ forever  ● running")
    client.cancel(run_id, wait=30)


def test_ctrl_c_twice(address: str, client: RunClient) -> None:
    """Ctrl-C cancels, again interrupts tools; the status line says what the next one does."""
    run_id = f"terminal-{uuid.uuid4()}"
    args = ("run", "agents/booking", "--run-id", run_id)
    with Command(*args, address=address, terminal=True) as command:
        command.until("→ book_flight")
        command.type("\x03")
        command.until("Ctrl-C again interrupts tools")
        command.type("\x03")
        code, seen, _ = command.end()
    assert code == 130
    assert "← book_flight interrupted" in seen
    assert client.get(run_id).state is RunState.CANCELLED


def test_a_models_words_do_not_command_the_terminal(address: str) -> None:
    """Escape sequences in what a run says do not reach the terminal."""
    with Command("run", "agents/fails", address=address, terminal=True) as command:
        code, seen, _ = command.end()
    assert code == 1
    assert "\x1b[2J words" not in seen
    assert "[2J words" in seen


def test_what_the_terminal_shows_in_the_end(address: str) -> None:
    """Text is wrapped between words and loses none; of what was painted meanwhile nothing stays."""
    text = "one two three four  five\n\nsix, seven: " * 40
    with Command("run", "agents/spell", text, address=address, terminal=True) as command:
        code, seen, _ = command.end()
    assert code == 0
    first, *shown, ended = _screen(seen)
    assert first.startswith("run ")
    assert " ".join(shown).split() == text.split()
    assert max(map(len, shown)) <= 100
    assert "✔ completed in" in ended
    assert "●" not in "".join(shown)


def test_no_line_is_on_the_terminal_twice() -> None:
    """A line that ends leaves the live part in the same write in which it is printed for good."""
    written = Writes()
    view = ScreenView(Console(file=written, force_terminal=True, width=20, height=9))
    status = Status(began=0.0)
    for word in ("one ", "two", "\n", "three ", "four ", "is too long for it", "\n", "five"):
        view.write(word)
        view.tick(status)
    view.note("a note")
    view.close(status)
    for end in range(1, len(written.all) + 1):
        shown = _screen("".join(written.all[:end]).replace("\n", "\r\n"))
        assert len({line.rstrip() for line in shown}) == len(shown)
    assert " ".join(" ".join(shown).split()) == "one two three four is too long for it five a note"


def test_a_note_is_broken_between_words_and_a_command_is_not() -> None:
    """The terminal breaks a command by itself, so that it is copied as one line."""
    written = Writes()
    view = ScreenView(Console(file=written, force_terminal=True, width=20, height=9))
    view.note("failed: what is wrong with it")
    view.note("  pullcord continue some-run --approve c")
    view.close(Status(began=0.0))
    shown = _screen("".join(written.all).replace("\n", "\r\n"))
    assert [line.rstrip() for line in shown] == [
        "failed: what is",
        "wrong with it",
        "  pullcord continue some-run --approve c",
    ]


class Writes(io.StringIO):
    """A terminal that keeps what is written, each time that it is flushed."""

    all: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.all = []

    def flush(self) -> None:
        self.all.append(self.getvalue())
        self.seek(self.truncate(0))


def test_a_refused_run_leaves_nothing_but_the_refusal(address: str) -> None:
    """Neither its status line nor its tree stays, which would say that it waits."""
    args = ("run", "workflows/sheet", "x", "--session", "s", "--retry-of", "unknown")
    with Command(*args, address=address, terminal=True) as command:
        code, seen, _ = command.end()
    assert code == 2
    (line,) = _screen(seen)
    assert line.startswith("pullcord: --retry-of: names run 'unknown'")


_WRONG = {
    "a refusal": ["get", "x", "--address", "127.0.0.1:1"],
    "usage": ["get", "x", "--address", "127.0.0.1:1", "--no-such-option"],
}


@pytest.mark.parametrize("wrong", _WRONG)
def test_an_error_is_broken_between_words(wrong: str) -> None:
    """On a terminal no word of it is in two lines; into a pipe it is one line, without a frame."""
    done = call(*_WRONG[wrong], COLUMNS="40")
    error = done.stderr.splitlines()[-1]
    assert error.startswith("pullcord: ")
    with Command(*_WRONG[wrong], terminal=True, COLUMNS="40") as command:
        _, seen, _ = command.end()
    shown = _screen(seen)
    first = next(n for n, line in enumerate(shown) if line.startswith("pullcord:"))
    assert len(shown) > first + 1
    assert " ".join(" ".join(shown[first:]).split()) == error


def _shows(row: str) -> Callable[[str], bool]:
    return lambda seen: any(row in line for line in _screen(seen))


def _screen(seen: str) -> list[str]:
    """The lines that a terminal shows after all this, without empty ones."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[?\d;]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", seen):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part.startswith("\x1b") and part.endswith("A"):
            row -= int(part[2:-1])
        elif not part.startswith("\x1b"):
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return [line for line in lines if line.strip()]


def test_the_third_ctrl_c_leaves(address: str) -> None:
    """Where a run does not stop even at once, a third Ctrl-C leaves it."""
    with Command("run", "agents/stuck", address=address, terminal=True) as command:
        command.until("stuck")
        for hint in ("interrupts tools, too", "Ctrl-C again leaves"):
            command.type("\x03")
            command.until(hint)
        command.type("\x03")
        code, seen, _ = command.end()
    assert code == 130
    assert "which is stopping" in seen


def test_asking_before_many_are_stopped(address: str, client: RunClient) -> None:
    """`cancel-all` shows what it would stop and asks; only a yes stops anything."""
    session = f"session-{uuid.uuid4()}"
    run = client.start("agents/forever", session_id=session)
    args = ("cancel-all", "--session", session)
    with Command(*args, address=address, terminal=True) as command:
        command.until("Stop 1 run?")
        command.type("n\n")
        code, _, _ = command.end()
    assert code == 0
    assert client.get(run.run_id).state is RunState.RUNNING
    with Command(*args, address=address, terminal=True) as command:
        command.until("Stop 1 run?")
        command.type("y\n")
        code, _, _ = command.end()
    assert code == 0
    assert client.wait(run.run_id, 30).state is RunState.CANCELLED


def test_a_server_that_died_is_shown_as_such(tmp_path: Path) -> None:
    """Within seconds the screen says that the connection is lost, and a stop that nobody answered
    is no cancelled run: exit code 4, and the run's fate is unknown."""
    (tmp_path / "app.py").write_text(
        "import time\n"
        "from pullcord import RunServer, runnable\n"
        "@runnable\n"
        "def ticks(ctx):\n"
        "    while True:\n"
        "        yield 'tick '\n"
        "        ctx.cancel_token.wait(0.02)\n"
        "server = RunServer(agents=[ticks])\n"
    )
    with Command("serve", "app:server", "--listen", "127.0.0.1:0", cwd=tmp_path) as server:
        address = server.until("\n").split()[-1]
        with Command("run", "agents/ticks", address=address, terminal=True) as command:
            command.until("tick tick")
            server.process.kill()
            command.until("connection lost; trying again")
            command.until("no connection")
            for hint in ("Ctrl-C again interrupts", "Ctrl-C again leaves"):
                command.type("\x03")
                command.until(hint)
            command.type("\x03")
            code, seen, _ = command.end()
    assert code == 4
    said = " ".join(" ".join(_screen(seen)).split())
    assert "its fate is unknown" in said
    assert f"the stop did not reach the server: {address}: Connection refused" in said
