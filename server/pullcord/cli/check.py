"""`pullcord check`: whether what a server would serve can be imported and called, and stops.

`pullcord.checking` decides what is checked.
"""

from typing import Annotated

import typer
from rich.text import Text

from pullcord.cli.exits import Exit, serving, wrong_usage
from pullcord.cli.options import duration
from pullcord.cli.output import console, plain

_SIGNS = {"good": ("✔", "green"), "note": ("·", "yellow"), "wrong": ("✘", "red")}


def check(
    target: Annotated[
        str,
        typer.Argument(
            metavar="APP:SERVER", help="As for serve: package.module:name or path/to/file.py:name."
        ),
    ],
    call: Annotated[
        str | None,
        typer.Option(
            metavar="INPUT", help="Also run functions and workflows with this input, and stop them."
        ),
    ] = None,
    after: Annotated[
        float,
        typer.Option(
            parser=duration, metavar="DURATION", help="How long each may run before it is stopped."
        ),
    ] = 1.0,
) -> None:
    """Check what a server would serve: imports, the types of tools, and whether runs stop.

    Agents and teams run with a scripted model: no key is needed, and no tool is called.
    Functions, workflows and agents of other frameworks only run with --call, because their code may
    do anything. The exit code is 1 if something must be mended.
    """
    with serving("pullcord check"):
        from pullcord.checking import check as look
        from pullcord.local import local_engine
        from pullcord.settings import SettingsError, load_env_file
        from pullcord.telemetry import configure_logging
        from pullcord.worker.loading import TargetError, find_server
    try:
        load_env_file(None)
        configure_logging("error", False)
        server = find_server(target)
    except (TargetError, SettingsError) as error:
        raise wrong_usage(str(error)) from None
    to, wrong = console(), 0
    runnables = [server.catalog.find(name) for name in server.catalog.names()]
    to.print(Text(f"{target} serves {', '.join(server.catalog.names()) or 'nothing'}"))
    for finding in look(local_engine(), runnables, call, after):
        wrong += finding.kind == "wrong"
        sign, style = _SIGNS[finding.kind]
        line = Text(f"{sign} ", style).append(plain(f"{finding.runnable}: {finding.words}"), "")
        to.print(line, soft_wrap=True)
    if wrong:
        raise typer.Exit(Exit.FAILED)
