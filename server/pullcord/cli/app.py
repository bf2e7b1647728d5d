"""The commands put together, and the entry point. What each command does is in its own module."""

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from pullcord.cli.check import check
from pullcord.cli.decide import go_on
from pullcord.cli.erase import erase
from pullcord.cli.exits import HELP, usage_errors
from pullcord.cli.look import get, ps, runnables, wait
from pullcord.cli.mcp import mcp
from pullcord.cli.meant import Command, Commands
from pullcord.cli.options import Identity, identity
from pullcord.cli.output import complain
from pullcord.cli.run import run, watch
from pullcord.cli.serve import serve
from pullcord.cli.stop import cancel, cancel_many
from pullcord.cli.store import store
from pullcord.cli.worker import worker
from pullcord.client import FileToken
from pullcord.client.tokens import Token
from pullcord.variables import misspelt

app = typer.Typer(
    name="pullcord",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=HELP,
)


def _add(command: Callable[..., None], name: str | None = None, *, hidden: bool = False) -> None:
    """Its docstring is the help, each paragraph in one line: the terminal wraps it."""
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    app.command(name, help=text, epilog=HELP, hidden=hidden, cls=Command)(command)


_add(go_on, "continue")
_add(cancel_many, "cancel-all", hidden=True)  # its name in the first release
for command in (
    serve,
    check,
    run,
    cancel,
    cancel_many,
    erase,
    ps,
    watch,
    get,
    wait,
    runnables,
    mcp,
):
    _add(command)
_add(worker)
app.add_typer(store)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(version("pullcord"))
        raise typer.Exit


@app.callback()
def _all(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="PULLCORD_TOKEN_FILE",
            help="A file with the token to call as, read for each call. Or set PULLCORD_TOKEN.",
        ),
    ] = None,
    token: Annotated[
        bool,
        typer.Option("--token", help="Ask for the token here, so that no process list shows it."),
    ] = False,
    ca: Annotated[
        Path | None,
        typer.Option(envvar="PULLCORD_CA", help="A file with the CA to trust for tls://, PEM."),
    ] = None,
    client_cert: Annotated[
        Path | None,
        typer.Option(envvar="PULLCORD_CLIENT_CERT", help="A client certificate to show, PEM."),
    ] = None,
    client_key: Annotated[
        Path | None, typer.Option(envvar="PULLCORD_CLIENT_KEY", help="Its private key, PEM.")
    ] = None,
    tenant: Annotated[
        str, typer.Option(help="Whose runs are meant, if you may see those of several tenants.")
    ] = "",
    owner: Annotated[
        str, typer.Option(help="Whose runs are meant, if you may see those of several callers.")
    ] = "",
) -> None:
    """Start, stream and stop runs of agents, teams and workflows."""
    _warn_of_variables()
    if (client_cert is None) != (client_key is None):
        raise typer.BadParameter("--client-cert and --client-key go together")
    said: Token | None = os.environ.get("PULLCORD_TOKEN") or None
    if token:
        said = typer.prompt("Token", hide_input=True, err=True)
    elif token_file is not None:
        said = FileToken(token_file)
    identity.set(Identity(said, ca, client_cert, client_key, tenant, owner))


def _warn_of_variables() -> None:
    """Warns of variables that may be misspelt ones of a client; a server looks for its own."""
    if not misspelt(os.environ):
        return
    try:
        from pullcord.settings import Settings

        known = {name.upper() for name in Settings.model_fields}
    except ImportError:  # a client alone, where no server reads any variable
        known = set()
    for name, meant in misspelt(os.environ, known).items():
        complain(f"{name} is no setting, and is ignored; did you mean {meant}?")


def main() -> None:
    """The command `pullcord`."""
    with usage_errors():
        code = app(prog_name="pullcord", standalone_mode=False)
    sys.exit(code)
