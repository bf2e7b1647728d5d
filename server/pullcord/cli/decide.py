"""`pullcord continue`: it brings a paused run the decisions on the tool calls that wait.

The server decides who may decide, and who was first.
"""

from typing import Annotated

import typer

from pullcord.cli.exits import refusals, wrong_usage
from pullcord.cli.ids import RunId, with_run
from pullcord.cli.options import Address, AsJson, connection
from pullcord.cli.output import console, print_json, print_run
from pullcord.client import RunClient
from pullcord.client.calls import DEFAULT_TARGET
from pullcord.run.record import Decision
from pullcord.wire.run import run_message


def go_on(
    run_id: RunId,
    approve: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Execute this tool call; may be repeated."),
    ] = None,
    decline: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Do not execute it; the model gets a note."),
    ] = None,
    answer: Annotated[
        list[str] | None,
        typer.Option(metavar="ID=TEXT", help="Return this text instead of executing it."),
    ] = None,
    note: Annotated[
        str, typer.Option(help="Why, in your own words; the model of a declined call gets it.")
    ] = "",
    address: Address = DEFAULT_TARGET,
    as_json: AsJson = False,
) -> None:
    """Decide about every tool call that a paused run waits for, so that the run goes on.

    `pullcord get` shows which calls wait. Of two callers who decide, the first wins,
    and the other gets an error.
    """
    decisions = [
        *(Decision(id, approved=True, note=note) for id in approve or ()),
        *(Decision(id, note=note) for id in decline or ()),
        *(_answer(text, note) for text in answer or ()),
    ]
    if not decisions:
        raise wrong_usage("give a decision: --approve, --decline or --answer")
    with refusals(as_json), RunClient(**connection(address)) as client:
        run = with_run(client, run_id, lambda whole: client.continue_run(whole, decisions))
    if as_json:
        print_json(run_message(run))
    else:
        print_run(run, console())


def _answer(text: str, note: str) -> Decision:
    id, sign, answer = text.partition("=")
    if not id or not sign:
        raise typer.BadParameter(f"{text!r} is no answer; write ID=TEXT", param_hint="--answer")
    return Decision(id, answer=answer, note=note)
