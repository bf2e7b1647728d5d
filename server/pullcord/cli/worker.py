"""`pullcord worker`: a worker of a server elsewhere. `pullcord.worker.elsewhere` does the work."""

import os
from pathlib import Path
from typing import Annotated

import typer

from pullcord.cli.exits import Exit, serving
from pullcord.cli.output import complain


def worker(
    target: Annotated[
        str,
        typer.Argument(metavar="APP:SERVER", help="What the server serves, as it is found here."),
    ],
    connect: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where the server awaits its workers. Else PULLCORD_WORKER_CONNECT.",
        ),
    ] = None,
    env_file: Annotated[
        Path | None,
        typer.Option(help="A file of variables, NAME=value, for your code. Default: .env."),
    ] = None,
) -> None:
    """Execute runs of a `pullcord serve` elsewhere, which has started this by its --worker-command.

    The server's one-time secret is in PULLCORD_WORKER_SECRET, or in the file that
    PULLCORD_WORKER_SECRET_FILE names. This ends with its link, and with the worker.
    """
    with serving("pullcord worker"):
        from pullcord.link.greeting import CONNECT, LinkRefused
        from pullcord.settings import SettingsError, is_address, load_env_file
        from pullcord.worker.elsewhere import serve_elsewhere, ticket_given

    try:
        load_env_file(env_file)
        name = "--connect" if connect is not None else CONNECT
        address = connect if connect is not None else os.environ.get(CONNECT, "")
        if address.startswith("unix:") or not is_address(address):
            raise SettingsError(f"{name}: must be host:port, where the server awaits its workers")
        host, _, port = address.rpartition(":")
        code = serve_elsewhere(target, host.strip("[]"), int(port), ticket_given())
    except SettingsError as error:
        complain(str(error))
        raise typer.Exit(Exit.USAGE) from None
    except (LinkRefused, OSError) as error:
        complain(f"the worker cannot begin: {error}")
        raise typer.Exit(Exit.UNAVAILABLE) from None
    raise typer.Exit(code)
