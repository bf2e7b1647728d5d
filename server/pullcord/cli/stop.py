"""`pullcord cancel` and `pullcord cancel-many`: they stop runs and show the receipts."""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import typer
from rich.text import Text

from pullcord.cli.exits import Exit, refusals, tell, wrong_usage
from pullcord.cli.ids import RunIds, check_served, with_run
from pullcord.cli.options import (
    Address,
    AsJson,
    Labels,
    Now,
    OfRunnable,
    Reason,
    Session,
    User,
    connection,
    duration,
    filter_of,
    mode_of,
)
from pullcord.cli.output import OUTCOMES, console, count, name_table, print_json, print_receipt
from pullcord.client import RunClient
from pullcord.client.calls import DEFAULT_TARGET
from pullcord.run.errors import PullcordError
from pullcord.run.record import CancelResult, Receipt, RunFilter
from pullcord.run.requests import DEFAULT_MAX_AFFECTED
from pullcord.wire.run import cancel_results_message, receipt_message

_AT_ONCE = 16
"""Runs that one command stops at the same time."""


def cancel(
    run_ids: RunIds,
    reason: Reason = "",
    now: Now = False,
    grace: Annotated[
        float | None,
        typer.Option(
            parser=duration,
            metavar="DURATION",
            help="How long a tool call in flight may take to finish. [default: the server's]",
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            parser=duration, metavar="DURATION", help="How long to wait for the run to stop."
        ),
    ] = 5.0,
    before_start: Annotated[
        bool,
        typer.Option("--before-start", help="Also stop a run that has not come yet."),
    ] = False,
    address: Address = DEFAULT_TARGET,
    as_json: AsJson = False,
) -> None:
    """Stop runs, and show the receipts: when each stop was accepted, delivered, achieved.

    What a run has made so far is kept. Cancelling again gives the same receipt; --now then hastens
    the stop. The exit code is 0 for every receipt, also if the run had ended before. Of several
    runs all are stopped, also if one of them is unknown.
    """
    refused: list[PullcordError] = []
    with refusals(as_json), RunClient(**connection(address)) as client:

        def stop(run_id: str) -> Receipt:
            return client.cancel(
                run_id,
                reason,
                mode=mode_of(now),
                grace_period=grace,
                wait=wait,
                before_start=before_start,
            )

        with ThreadPoolExecutor(min(len(run_ids), _AT_ONCE)) as threads:
            stops = [threads.submit(with_run, client, run_id, stop) for run_id in run_ids]
        for asked in stops:
            try:
                _show_receipt(asked.result(), as_json, several=len(run_ids) > 1)
            except PullcordError as error:
                refused.append(error)
        for earlier in refused[:-1]:
            tell(earlier, as_json)
        if refused:
            raise refused[-1]


def _show_receipt(receipt: Receipt, as_json: bool, *, several: bool) -> None:
    if as_json:
        print_json(receipt_message(receipt))
        return
    to = console()
    if several and receipt.run is not None:
        to.print(Text(receipt.run.run_id))
    print_receipt(receipt, to)


def cancel_many(
    session: Session = "",
    user: User = "",
    runnable: OfRunnable = "",
    label: Labels = None,
    reason: Reason = "",
    now: Now = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", "--validate-only", help="Only say which runs would be stopped."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    most: Annotated[
        int,
        typer.Option(
            "--max-affected", "--max", metavar="N", help="Stop none if more runs than this match."
        ),
    ] = DEFAULT_MAX_AFFECTED,
    address: Address = DEFAULT_TARGET,
    as_json: AsJson = False,
) -> None:
    """Stop every live run that matches all that is given: session, user, runnable, labels.

    On a terminal it shows the runs and asks first; elsewhere --yes is needed.
    """
    matching = filter_of(session, user, runnable, label)
    if matching == RunFilter():
        raise wrong_usage("say which runs: --session, --user, --runnable or --label")
    if not (dry_run or yes or sys.stdin.isatty()):
        raise typer.BadParameter("needed where nobody can be asked", param_hint="--yes")
    with refusals(as_json), RunClient(**connection(address)) as client:
        if dry_run or not yes:
            found = client.cancel_many(matching, validate_only=True, max_affected=most)
            if not found:
                check_served(client, runnable, as_json)
            _show(found, as_json)
            if dry_run or not found:
                return
            if not typer.confirm(f"Stop {count(len(found), 'run')}?", err=True):
                raise typer.Exit(Exit.COMPLETED)
        found = client.cancel_many(matching, reason, mode=mode_of(now), max_affected=most)
        if not found:
            check_served(client, runnable, as_json)
        _show(found, as_json)


def _show(results: tuple[CancelResult, ...], as_json: bool) -> None:
    if as_json:
        for result in cancel_results_message(results).results:
            print_json(result)
        return
    to = console()
    if not results:
        to.print(Text("No live run matches.", "dim"))
        return
    rows = ((r.run_id, OUTCOMES[r.outcome] if r.outcome else "would be stopped") for r in results)
    to.print(name_table(rows, "run", "outcome"))
