"""Run ids as people give them: the beginning of one is enough, and the shell completes it.

A whole id is never looked up first; only if there is no such run, the server's runs are listed.
"""

import difflib
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Annotated, NoReturn, TypeVar

import typer

from pullcord.cli.exits import Exit, wrong_usage
from pullcord.cli.options import connection
from pullcord.cli.output import complain, plain
from pullcord.client import RunClient
from pullcord.client.calls import DEFAULT_TARGET
from pullcord.run.errors import PullcordError, RunnableNotFound, RunNotFound
from pullcord.run.record import RunFilter, is_runnable_name

T = TypeVar("T")

LEAST = 4
"""Characters of an id that are looked up: fewer are too easily another run's."""
_LISTED = 1000
"""The newest runs among which a beginning is looked for."""
_NAMED = 5
_LIKE = 0.65
"""How similar an id must be to have been meant; 1: the same. `sya` for `say` is."""


def with_run(client: RunClient, given: str, act: Callable[[str], T]) -> T:
    """Does something with the run of this id, or with the only one whose id begins so.

    Raises RunNotFound if there is none, and typer.Exit if there are several.
    """
    given = given.removesuffix("…")  # as `ps` shows a long one
    try:
        return act(given)
    except RunNotFound:
        listed = islice(client.list(RunFilter(), page_size=_LISTED), _LISTED)
        whole = the_one(given, (run.run_id for run in listed))
    return act(whole)


def the_one(given: str, run_ids: Iterable[str]) -> str:
    """The only id that begins so, in at least LEAST characters.

    Raises RunNotFound if there is none, and typer.Exit if there are several.
    """
    found = [run_id for run_id in run_ids if run_id.startswith(given)]
    more = f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
    named = ", ".join(found[:_NAMED]) + more
    if len(given) < LEAST:
        missing = RunNotFound(given)
        begun = f"; with {given!r} begin {named}" if found else ""
        needed = f"and the beginning of an id must have at least {LEAST} characters"
        missing.args = (f"there is no run {given!r}, {needed}{begun}",)
        raise missing
    if not found:
        raise RunNotFound(given)
    if len(found) > 1:
        raise wrong_usage(f"several runs begin with {given!r}: {named}")
    return found[0]


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The name that may have been meant, as the end of an error; empty if no name is similar.

    Its id must be similar, since many names begin alike; of several, the one of that kind is meant.
    """
    name = name.lower()
    ids: dict[str, list[str]] = {}
    for one in names:
        ids.setdefault(one.partition("/")[2], []).append(one)
    id = name.rpartition("/")[2]
    like = difflib.get_close_matches(id, ids, n=1, cutoff=_LIKE)
    if not like:
        return ""
    (meant,) = difflib.get_close_matches(name, ids[like[0]], n=1, cutoff=0.0)
    return f"; did you mean {meant!r}?"


def unknown_runnable(name: str, on_offer: Iterable[str], as_json: bool) -> NoReturn:
    """Ends the command: there is no such runnable, and this is what may have been meant."""
    if as_json:
        raise RunnableNotFound(name)
    meant = did_you_mean(name, on_offer)
    is_name = is_runnable_name(name)
    shaped = "" if meant or is_name else "; it must look like agents/ID, teams/ID or workflows/ID"
    known = f"{'' if meant else ';'} `pullcord runnables` lists what is served"
    words = f"unknown runnable {plain(repr(name))}{meant}{shaped}{known}"
    complain(words)
    raise typer.Exit(Exit.NOT_FOUND if meant or is_name else Exit.USAGE)


def check_served(client: RunClient, name: str, as_json: bool) -> None:
    """Ends the command if no run can be of this runnable, since the server serves none of that
    name; for a command that has found no run. An empty name is none."""
    if name and name not in (known := [info.name for info in client.runnables()]):
        unknown_runnable(name, known, as_json)


def complete_run(ctx: typer.Context, incomplete: str) -> list[str]:
    """For the shell: ids of the server's runs that begin so, those that have not ended first."""
    try:
        with RunClient(**connection(ctx.params.get("address") or DEFAULT_TARGET)) as client:
            runs = list(islice(client.list(RunFilter(), page_size=100), 100))
    except (PullcordError, typer.BadParameter):
        return []
    runs.sort(key=lambda run: run.state.is_terminal)
    return [run.run_id for run in runs if run.run_id.startswith(incomplete)]


def complete_runnable(ctx: typer.Context, incomplete: str) -> list[str]:
    """For the shell: names of what the server serves."""
    try:
        with RunClient(**connection(ctx.params.get("address") or DEFAULT_TARGET)) as client:
            return [r.name for r in client.runnables() if r.name.startswith(incomplete)]
    except (PullcordError, typer.BadParameter):
        return []


RunId = Annotated[
    str,
    typer.Argument(
        metavar="RUN_ID",
        help="The run's id, or the beginning of it.",
        show_default=False,
        autocompletion=complete_run,
    ),
]
RunIds = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN_ID",
        help="The runs' ids, or the beginnings of them.",
        show_default=False,
        autocompletion=complete_run,
    ),
]
