"""`pullcord erase`: deletes for good what a server keeps of a user, a session or a tenant.

The server decides what may be deleted, and by whom.
"""

import sys
from typing import Annotated

import typer
from rich.text import Text

from pullcord.cli.exits import Exit, refusals, wrong_usage
from pullcord.cli.options import Address, AsJson, Session, User, connection, identity
from pullcord.cli.output import console, count, print_json
from pullcord.client import RunClient
from pullcord.client.calls import DEFAULT_TARGET
from pullcord.run.record import Erased
from pullcord.wire.run import erased_message

Tenant = Annotated[str, typer.Option("--tenant", help="All of this tenant.")]
Owner = Annotated[str, typer.Option("--owner", help="All of this caller, by its subject.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", "--validate-only", help="Only say what would be deleted.")
]


def erase(
    user: User = "",
    session: Session = "",
    tenant: Tenant = "",
    owner: Owner = "",
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    address: Address = DEFAULT_TARGET,
    as_json: AsJson = False,
) -> None:
    """Delete for good what is kept of ended runs that match all that is given.

    Live runs stay, and are named: stop them with cancel-many, and erase again. The exit code is 1
    then. On a terminal it asks first; elsewhere --yes is needed.
    """
    who = identity.get()
    if not (user or session or tenant or owner or who.tenant or who.owner):
        raise wrong_usage("say whose runs: --user, --session, --owner or --tenant")
    if not (dry_run or yes or sys.stdin.isatty()):
        raise typer.BadParameter("needed where nobody can be asked", param_hint="--yes")
    made = connection(address)
    made["tenant"], made["owner"] = tenant or who.tenant, owner or who.owner
    with refusals(as_json), RunClient(**made) as client:
        if dry_run or not yes:
            found = client.erase(user_id=user, session_id=session, validate_only=True)
            if dry_run:
                show(found, as_json, "would be deleted")
                return
            if not typer.confirm(f"Delete {_named(found)} for good?", err=True):
                raise typer.Exit(Exit.COMPLETED)
        show(client.erase(user_id=user, session_id=session), as_json, "deleted")


def show(erased: Erased, as_json: bool, done: str) -> None:
    """Says what was erased; exits 1 if live runs are left."""
    to = console()
    if as_json:
        print_json(erased_message(erased))
    else:
        to.print(Text(f"{_named(erased)} {done}."))
    if not erased.live:
        return
    if not as_json:
        to.print(Text("Live, and so not deleted; stop them, and erase again:"))
        for run_id in erased.live:
            to.print(Text(f"  {run_id}"))
    raise typer.Exit(Exit.FAILED)


def _named(erased: Erased) -> str:
    cancels = f" and {count(erased.cancels, 'early cancel')}" if erased.cancels else ""
    return f"{count(erased.runs, 'run')}{cancels}"
