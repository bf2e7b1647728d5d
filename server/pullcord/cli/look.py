"""`pullcord ps`, `get`, `wait` and `runnables`: they look at a server, and change nothing."""

import contextlib
import itertools
from typing import Annotated

import typer
from rich.text import Text

from pullcord.cli.exits import exit_of, refusals
from pullcord.cli.ids import RunId, check_served, with_run
from pullcord.cli.listing import print_change, print_runs
from pullcord.cli.options import (
    Address,
    AsJson,
    Labels,
    OfRunnable,
    Session,
    User,
    connection,
    duration,
    filter_of,
)
from pullcord.cli.output import (
    console,
    name_table,
    print_json,
    print_output,
    print_run,
)
from pullcord.client import RunClient
from pullcord.client.calls import DEFAULT_TARGET
from pullcord.run.record import Run, RunFilter, is_runnable_name
from pullcord.run.runnable import RunnableInfo
from pullcord.run.state import RunState
from pullcord.v1 import runnable_pb2
from pullcord.wire.enums import RUNNABLE_KIND
from pullcord.wire.run import run_message


def ps(
    show_all: Annotated[
        bool, typer.Option("--all", "-A", help="Also runs that have ended.")
    ] = False,
    state: Annotated[
        list[RunState] | None, typer.Option("--state", help="Only these; may be repeated.")
    ] = None,
    session: Session = "",
    user: User = "",
    runnable: OfRunnable = "",
    label: Labels = None,
    most: Annotated[int, typer.Option("--limit", "-n", min=1, help="The most runs to list.")] = 100,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            "-w",
            help="Show the live ones, and then a line for each change, until Ctrl-C.",
        ),
    ] = False,
    address: Address = DEFAULT_TARGET,
    as_json: AsJson = False,
) -> None:
    """List runs, the newest first; those that have not ended, unless you ask for others."""
    live = frozenset(s for s in RunState if not s.is_terminal)
    states = frozenset(state or ()) if state or show_all else live
    matching = filter_of(session, user, runnable, label, states)
    if watch:
        _watch(matching, frozenset(state or ()), address, as_json)
        return
    with refusals(as_json), RunClient(**connection(address)) as client:
        if runnable and not as_json and not is_runnable_name(runnable):
            check_served(client, runnable, as_json)
        runs = list(itertools.islice(client.list(matching, page_size=min(most, 1000)), most))
        if not runs:
            check_served(client, runnable, as_json)
    if as_json:
        for run in runs:
            print_json(run_message(run))
    elif not runs and states == live:
        console().print(Text("No live runs; --all lists those that have ended.", "dim"))
    else:
        print_runs(runs, console())


def _watch(matching: RunFilter, states: frozenset[RunState], address: str, as_json: bool) -> None:
    """Prints a line for each run that is live, is new, changes or ends."""
    with (
        refusals(as_json),
        contextlib.suppress(KeyboardInterrupt),
        RunClient(**connection(address)) as client,
    ):
        check_served(client, matching.runnable, as_json)
        for change in client.watch_runs(matching):
            if change.run is None or (states and change.run.state not in states):
                continue
            if as_json:
                print_json(run_message(change.run))
            else:
                print_change(change.run, console())


def get(
    run_id: RunId,
    only_output: Annotated[
        bool, typer.Option("--output", "-o", help="Print its text alone, unchanged.")
    ] = False,
    address: Address = DEFAULT_TARGET,
    as_json: AsJson = False,
) -> None:
    """Show a run as it is now, with all that it has made so far."""
    with refusals(as_json), RunClient(**connection(address)) as client:
        run = with_run(client, run_id, client.get)
    if only_output and not as_json:
        print_output(run.output, console())
    else:
        _show(run, as_json)


def wait(
    run_id: RunId,
    timeout: Annotated[
        float | None,
        typer.Option(parser=duration, metavar="DURATION", help="How long. [default: no end]"),
    ] = None,
    address: Address = DEFAULT_TARGET,
    as_json: AsJson = False,
) -> None:
    """Wait until a run has ended, and show it; the exit code says how it ended."""
    with refusals(as_json), RunClient(**connection(address)) as client:
        run = with_run(client, run_id, lambda whole: client.wait(whole, timeout))
    _show(run, as_json)
    raise typer.Exit(exit_of(run.state))


def runnables(address: Address = DEFAULT_TARGET, as_json: AsJson = False) -> None:
    """List what can be run."""
    with refusals(as_json), RunClient(**connection(address)) as client:
        found = client.runnables()
    if as_json:
        for info in found:
            print_json(_message(info))
    else:
        rows = ((info.name, " ".join(info.description.split())) for info in found)
        console().print(name_table(rows, "runnable", "what it does"))


def _show(run: Run, as_json: bool) -> None:
    if as_json:
        print_json(run_message(run))
    else:
        print_run(run, console())


def _message(info: RunnableInfo) -> runnable_pb2.Runnable:
    return runnable_pb2.Runnable(
        name=info.name,
        kind=RUNNABLE_KIND.numbers[info.kind],
        id=info.id,
        display_name=info.display_name,
        description=info.description,
        members=info.members,
    )
