"""`pullcord store`: looks after a PostgreSQL that servers share, without being one of them.

What is checked, made and deleted is the store's own business.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from pullcord.cli.exits import HELP, Exit

if TYPE_CHECKING:
    from pullcord.stores.postgres.connections import Address

store = typer.Typer(
    name="store",
    no_args_is_help=True,
    help="Check, migrate and sweep a PostgreSQL that servers share.",
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


def _do(url: str, work: "Callable[[Address], Awaitable[list[str]]]") -> None:
    from pullcord.run.errors import StoreUnavailable
    from pullcord.stores.postgres import Address, StoreError

    if not url.startswith(("postgresql://", "postgres://")):
        raise typer.BadParameter("must be postgresql://user@host/database")

    async def worked() -> list[str]:
        return await work(Address(url))

    try:
        lines = asyncio.run(worked())
    except (StoreError, StoreUnavailable) as error:
        typer.echo(f"pullcord: {error}", err=True)
        raise typer.Exit(Exit.FAILED) from None
    for line in lines:
        typer.echo(line)
