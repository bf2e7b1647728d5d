"""`pullcord store`: looks after a store without serving it.

The store itself decides what is checked, made and deleted.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from pullcord.cli.erase import DryRun, Owner, Tenant, show
from pullcord.cli.exits import HELP, Exit, wrong_usage
from pullcord.cli.meant import Commands
from pullcord.cli.options import Session, User
from pullcord.run.record import Erased, RunFilter
from pullcord.run.scope import EVERYBODY, Reach

if TYPE_CHECKING:
    from pullcord.stores.postgres.connections import Address

T = TypeVar("T")

store = typer.Typer(
    name="store",
    cls=Commands,
    no_args_is_help=True,
    help="Check, migrate, sweep and erase a store, without serving it.",
    epilog=HELP,
)

Where = Annotated[
    str,
    typer.Argument(
        envvar="PULLCORD_STORE",
        help="postgresql://user@host/database; its password in PGPASSWORD or PGPASSFILE.",
    ),
]


@store.command()
def check(url: Where) -> None:
    """Say whether servers can use it as it is; exit 1 if not."""
    from pullcord.stores.postgres import upkeep

    _do(url, upkeep.check)


@store.command()
def migrate(url: Where) -> None:
    """Make the tables, or the steps that this release adds to them. Old servers may go on."""
    from pullcord.stores.postgres import upkeep

    _do(url, upkeep.migrate)


@store.command()
def sweep(url: Where) -> None:
    """Delete what has expired now. Servers do so by themselves, a little later."""
    from pullcord.stores.postgres import upkeep

    _do(url, upkeep.sweep_all)


@store.command()
def erase(
    where: Annotated[
        str,
        typer.Argument(
            envvar="PULLCORD_STORE",
            metavar="STORE",
            help="postgresql://user@host/database, or a file that no server has open.",
        ),
    ],
    user: User = "",
    session: Session = "",
    tenant: Tenant = "",
    owner: Owner = "",
    dry_run: DryRun = False,
) -> None:
    """Delete for good what is kept of ended runs that match all that is given.

    Live runs stay, and are named; exit 1 then. In a file, what was live when its server died ends
    LOST first, as in the next server.
    """
    matching = RunFilter(session_id=session, user_id=user)
    reach = Reach(tenant, owner)
    if matching == RunFilter() and reach == EVERYBODY:
        raise wrong_usage("say whose runs: --user, --session, --owner or --tenant")
    if "://" in where:
        from pullcord.stores.postgres import upkeep

        erased = _done(where, lambda at: upkeep.erase(at, reach, matching, validate_only=dry_run))
    else:
        erased = _erase_in_file(Path(where), reach, matching, validate_only=dry_run)
    show(erased, False, "would be deleted" if dry_run else "deleted")


def _erase_in_file(path: Path, reach: Reach, matching: RunFilter, *, validate_only: bool) -> Erased:
    from pullcord.engine.clock import ThreadClock
    from pullcord.engine.options import EngineOptions
    from pullcord.run.errors import StoreUnavailable
    from pullcord.stores.sqlite import SqliteStore, StoreRefused

    if not path.is_file():
        raise typer.BadParameter(f"there is no file {path}", param_hint="STORE")
    clock = ThreadClock()
    unbounded = EngineOptions(max_finished_runs=2**53, max_finished_bytes=2**53)
    try:
        opened = SqliteStore(clock, unbounded, path)
        try:
            opened.recover()
            return opened.erase(reach, matching, validate_only=validate_only)
        finally:
            opened.close()
    except (StoreRefused, StoreUnavailable) as error:
        typer.echo(f"pullcord: {error}", err=True)
        raise typer.Exit(Exit.FAILED) from None
    finally:
        clock.close()


def _do(url: str, work: "Callable[[Address], Awaitable[list[str]]]") -> None:
    for line in _done(url, work):
        typer.echo(line)


def _done(url: str, work: "Callable[[Address], Awaitable[T]]") -> T:
    from pullcord.run.errors import StoreUnavailable
    from pullcord.stores.postgres import Address, StoreError

    if not url.startswith(("postgresql://", "postgres://")):
        raise typer.BadParameter("must be postgresql://user@host/database")

    async def worked() -> T:
        return await work(Address(url))

    try:
        return asyncio.run(worked())
    except (StoreError, StoreUnavailable) as error:
        typer.echo(f"pullcord: {error}", err=True)
        raise typer.Exit(Exit.FAILED) from None
