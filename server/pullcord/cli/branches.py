"""Draws a run's tree on a terminal: a row for each branch, as many as there is room for.

`tree` knows the branches and their states.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from pullcord.cli.output import STYLES, count, plain, seconds
from pullcord.cli.tree import Branch, Tree
from pullcord.run.state import RunState

_SIGNS = {
    None: "○",
    RunState.PENDING: "○",
    RunState.RUNNING: "●",
    RunState.PAUSED: "‖",
    RunState.CANCELLING: "●",
    RunState.COMPLETED: "✔",
    RunState.CANCELLED: "■",
    RunState.FAILED: "✘",
}
_STATES = {
    None: "not started",
    RunState.PENDING: "waiting",
    RunState.CANCELLING: "stopping",
}
_STATE_WIDTH = max(len(words) for words in (*_STATES.values(), *RunState))
_LONGEST_NAME = 32
_TIME_WIDTH = 6
_COUNT_WIDTH = 11


def rows(tree: Tree, now: float, width: int, height: int | None = None) -> list[Text]:
    """A row a branch, none longer than `width`; `now` is what the clock of the events says.

    Where there are more than `height`, what has ended is folded first, then what has not begun;
    what is left over is counted. None: all are shown.
    """
    shown, left_out = _shown(tree, height)
    # One column for all, so that nothing moves sideways while states change.
    column = max((cell_len(line.stem + _name(line.branch)) for line in shown), default=0)
    column = min(column, max(12, width // 2))
    made = [
        _row(line.stem, line.branch, now, column, width, is_complete=tree.is_complete)
        for line in shown
    ]
    if left_out + tree.untold:
        made.append(Text(f"… and {left_out + tree.untold:,} more"[:width], "dim"))
    return made


def clock(length: float) -> str:
    """Whole seconds: figures that race would draw the eye away from the text."""
    minutes, rest = divmod(max(0, int(length)), 60)
    return f"{minutes}:{rest:02}" if minutes else f"{rest} s"


def state_words(state: RunState | None, *, is_complete: bool = False) -> str:
    """A state in words for people; `is_complete`: the whole run has completed."""
    if state is None and is_complete:
        return "skipped"
    return _STATES.get(state, state.value if state else "")


def sign(state: RunState | None) -> str:
    """A state in one character."""
    return _SIGNS[state]


def style(state: RunState | None) -> str:
    """A state's colour."""
    return STYLES[state] if state else "dim"


@dataclass(frozen=True)
class _Line:
    branch: Branch
    stem: str
    """The lines that lead to it."""
    is_folded: bool
    """Whether one of its parents has ended."""


def _lines(members: list[Branch], stem: str = "", *, is_folded: bool = False) -> Iterator[_Line]:
    for branch in members:
        is_last = branch is members[-1]
        yield _Line(branch, stem + ("└─ " if is_last else "├─ "), is_folded)
        state = branch.standing()
        ended = state is not None and state.is_terminal
        below = stem + ("   " if is_last else "│  ")
        yield from _lines(branch.members, below, is_folded=is_folded or ended)


def _shown(tree: Tree, height: int | None) -> tuple[list[_Line], int]:
    lines = list(_lines(tree.root.members))
    if height is None or len(lines) <= height:
        return lines, 0
    room = max(1, height - 1)  # a row says how many are left out
    kept = [line for line in lines if not line.is_folded]
    if len(kept) > room:
        alive = [n for n, line in enumerate(kept) if _is_alive(line.branch)] or [len(kept) - 1]
        near = sorted(
            range(len(kept)),
            key=lambda n: (min(abs(n - at) for at in alive), bool(kept[n].branch.members)),
        )
        kept = [kept[n] for n in sorted(near[:room])]
    return kept, len(lines) - len(kept)


def _is_alive(branch: Branch) -> bool:
    state = branch.standing()
    return state is not None and not state.is_terminal


def _name(branch: Branch) -> str:
    name = " ".join(plain(branch.name).split())
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _row(
    stem: str, branch: Branch, now: float, column: int, width: int, *, is_complete: bool
) -> Text:
    state = branch.standing()
    row = Text(no_wrap=True, overflow="ellipsis")
    row.append(stem, "dim").append(_name(branch), "dim" if state is None else "")
    row.truncate(column, overflow="ellipsis", pad=True)
    words = state_words(state, is_complete=is_complete)
    row.append(f"  {sign(state)} {words:<{_STATE_WIDTH}}", style(state))
    took = ""
    if branch.begin_time:
        took = (
            seconds(max(0.0, branch.end_time - branch.begin_time))
            if branch.end_time
            else clock(now - branch.begin_time)
        )
    words = count(branch.words, "word") if branch.words else ""
    row.append(f" {took:>{_TIME_WIDTH}}  {words:>{_COUNT_WIDTH}}" if state else "")
    room = width - row.cell_len - 2
    if room >= 10 and (said := _said(branch, room)):
        row.append("  ").append(said, "dim")
    row.rstrip()
    row.truncate(width, overflow="ellipsis")
    return row


def _said(branch: Branch, room: int) -> str:
    """The latest words, as the last line of a column this wide: it grows, and begins anew."""
    text = branch.doing or branch.remark
    if text and (branch.doing or not branch.tail):
        return _cut(text, room)
    if text:
        text = _cut(text, room) + "  "
        room -= len(text)
    return text + _last_line(branch.tail, room) if room >= 10 else text


def _last_line(text: str, room: int) -> str:
    """The line that still grows, where this text is set in lines so wide."""
    ended, _, last = text.rstrip().rpartition("\n")
    line = ""
    for word in (last or ended).split():
        if cell_len(line) + cell_len(word) >= room:
            line = ""
        line += f" {plain(word)}" if line else plain(word)
    return _cut(line, room)


def _cut(text: str, room: int) -> str:
    line = Text(" ".join(plain(text).split()))
    line.truncate(max(0, room), overflow="ellipsis")
    return line.plain
