"""The commands put together, and the entry point. What each command does is in its own module."""

from typing import Annotated

import typer

from pullcord.cli.decide import go_on
from pullcord.cli.exits import HELP
from pullcord.cli.look import get, ps, runnables, wait
from pullcord.cli.run import run, watch
from pullcord.cli.serve import serve
from pullcord.cli.stop import cancel, cancel_all

app = typer.Typer(
    name="pullcord",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=HELP,
)
app.command("continue", epilog=HELP)(go_on)
for command in (serve, run, cancel, cancel_all, ps, watch, get, wait, runnables):
    app.command(epilog=HELP)(command)


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
) -> None:
    """Start, stream and stop runs of agents, teams and workflows."""


def main() -> None:
    """The command `pullcord`."""
    app()
