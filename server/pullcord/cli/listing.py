"""Lists of runs in words: the table of `pullcord ps`, and a line for each change with `--watch`.

Which runs are listed is the command's business; how one run is shown whole is in `output`.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from pullcord.cli.output import STYLES, plain, progress_words, seconds, shortened, usage_words, why
from pullcord.run.record import Run


def print_runs(runs: Iterable[Run], to: Console) -> None:
    """Runs in columns under a header, each with its children below it, indented.

    More about a run stands behind it, or below it if the terminal is too narrow. Ids are
    shortened there, to beginnings that say which run is meant.
    """
    listed = list(runs)
    if to.is_terminal and not _print_runs(listed, to, {}):
        _print_runs(listed, to, beginnings([run.run_id for run in listed]), in_any_case=True)
    elif not to.is_terminal:
        _print_runs(listed, to, {}, in_any_case=True)


_SHORTEST = 8
"""Characters of an id that is shortened."""


def beginnings(run_ids: Sequence[str]) -> dict[str, str]:
    """Each id's shortest beginning that no other of them has, with an ellipsis."""
    made = {}
    for length in range(_SHORTEST, max(map(len, run_ids), default=0)):
        counted = Counter(run_id[:length] for run_id in run_ids)
        for run_id in run_ids:
            if run_id not in made and counted[run_id[:length]] == 1 and len(run_id) > length + 1:
                made[run_id] = f"{run_id[:length]}…"
    return made


def _print_runs(
    listed: list[Run], to: Console, short: Mapping[str, str], *, in_any_case: bool = False
) -> bool:
    """Prints them if they fit the terminal, or in any case; whether it did."""
    now = time.time()
    rows = []
    known = {run.run_id for run in listed}
    several = len({run.scope for run in listed}) > 1
    for depth, run in _with_children(listed):
        name = "  " * depth + short.get(run.run_id, run.run_id)
        age = seconds(max(0.0, now - run.create_time))
        rows.append((run, (name, run.runnable, run.state.value, age, _duration(run, now))))
    if not rows:
        to.print(Text("No runs.", "dim"))
        return True
    columns = len(_HEADER)
    every = [_HEADER, *(cells for _, cells in rows)]
    widths = [max(len(cells[column]) for cells in every) for column in range(columns)]
    header = _columns(_HEADER, widths, "dim")
    if header.cell_len > to.width and not in_any_case:
        return False
    to.print(header)
    for run, cells in rows:
        line = _columns(cells, widths)
        line.highlight_words([run.state.value], STYLES[run.state])
        details = "  ".join(
            plain(about)
            for about in (
                f"of {run.tenant}/{run.owner}" if several else "",
                f"part of {run.parent_run_id}"
                if run.parent_run_id and run.parent_run_id not in known
                else "",
                f"session {run.session_id}" if run.session_id else "",
                f"user {run.user_id}" if run.user_id else "",
                *(f"{key}={value}" for key, value in run.labels.items()),
                _progress(run),
                usage_words(run),
                *_how_it_ended(run),
            )
            if about
        )
        if details:
            fits = line.cell_len + 2 + cell_len(details) <= to.width
            line.append("  " if fits else "\n    ").append(details, "dim")
        to.print(line)
    return True


def print_change(run: Run, to: Console) -> None:
    """A run that is new or has changed, on one line."""
    now = time.time()
    cells = (run.run_id, run.runnable, run.state.value, _duration(run, now))
    line = Text("  ".join(plain(cell) for cell in cells if cell))
    line.highlight_words([run.state.value], STYLES[run.state])
    details = [
        _progress(run),
        usage_words(run),
        *_how_it_ended(run),
    ]
    for words in filter(None, details):
        line.append("  ").append(plain(words), "dim")
    to.print(line, soft_wrap=True)


def _progress(run: Run) -> str:
    """The progress of a live run; empty for one that has ended."""
    live = run.progress is not None and not run.state.is_terminal
    return progress_words(run.progress) if live and run.progress is not None else ""


def _how_it_ended(run: Run) -> list[str]:
    """Why a run is being stopped, and by what it failed: once, where both say the same."""
    stop, error = run.cancellation, run.error
    words = [why(stop)] if stop is not None else []
    if error is not None and (stop is None or stop.reason != error.message):
        words.append(f"{error.type}: {shortened(error.message)}")
    return words


_HEADER = ("run", "runnable", "state", "age", "duration")


def _columns(cells: tuple[str, ...], widths: list[int], style: str = "") -> Text:
    padded = (f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
    return Text("  ".join(padded), style)


def _duration(run: Run, now: float) -> str:
    """The run's duration so far; a dash if it has not begun."""
    if not run.start_time:
        return "-"
    return seconds(max(0.0, (run.end_time or now) - run.start_time))


def _with_children(runs: list[Run]) -> Iterator[tuple[int, Run]]:
    """Each run with its depth among these: roots as given, children in the order they began.

    A run whose parent is not among them is a root.
    """
    known = {run.run_id for run in runs}
    children: dict[str, list[Run]] = {}
    for run in runs:
        parent = run.parent_run_id if run.parent_run_id in known else ""
        children.setdefault(parent, []).append(run)
    todo = [(0, run) for run in reversed(children.get("", ()))]
    while todo:
        depth, run = todo.pop()
        yield depth, run
        todo += [(depth + 1, child) for child in children.get(run.run_id, ())]
