"""`pullcord serve`: finds the server that is meant, and serves it until a signal.

What serving is, and how it ends, is `pullcord.server`'s business.
"""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pullcord import lines
from pullcord.cli.exits import Exit, serving
from pullcord.cli.options import AsJson

if TYPE_CHECKING:  # a client's commands do not load a server
    from pullcord.server import RunServer


def serve(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="APP:SERVER",
            help="A RunServer, or a function that returns one: package.module:name or "
            "path/to/file.py:name. Without it, a demo that needs no key.",
        ),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            help="The address, host:port; port 0 takes a free one. Else PULLCORD_LISTEN, "
            "else 127.0.0.1:50051."
        ),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(
            help="A second address, host:port, for browsers and HTTP clients. Else PULLCORD_HTTP, "
            "else none."
        ),
    ] = None,
    http_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="An origin whose pages may call over HTTP, such as https://app.example.com. "
            "May be given several times."
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="Where runs are kept: a file, memory, or postgresql://user@host/database (its "
            "password in PGPASSWORD or PGPASSFILE). Else PULLCORD_STORE, else a file in .pullcord "
            "for this address; in memory with port 0."
        ),
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(help="Worker processes that execute runs: a number, or auto for the cores."),
    ] = None,
    in_process: Annotated[
        bool,
        typer.Option("--in-process", help="Execute runs in the serving process, for debuggers."),
    ] = False,
    reload: Annotated[
        bool,
        typer.Option("--reload", help="Fresh workers take over when a Python file here changes."),
    ] = False,
    tls_cert: Annotated[
        Path | None, typer.Option(help="The server's certificate chain, PEM. With --tls-key.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    client_ca: Annotated[
        Path | None,
        typer.Option(help="The CA of client certificates, PEM: callers must show one."),
    ] = None,
    mtls_listen: Annotated[
        str | None,
        typer.Option(help="A second address, for callers with a client certificate only."),
    ] = None,
    tokens: Annotated[
        Path | None,
        typer.Option(help="A file of tokens, a line each: sha256-hex tenant subject grants."),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(help="Who may start what: a file of lines, or a function as module:name."),
    ] = None,
    authenticator: Annotated[
        str | None, typer.Option(help="A function that verifies callers, as module:name.")
    ] = None,
    audit_log: Annotated[
        Path | None, typer.Option(help="A file to which the audit log is appended.")
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure", help="Serve other machines without TLS, or without knowing who calls."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Serve agents until SIGTERM or Ctrl-C, then drain: let runs end, and cancel those that do not.

    One line on stdout tells the address once calls are answered; log lines go to stderr. A second
    signal cancels the runs, a third one at once.
    """
    with serving("pullcord serve"):
        from pullcord.settings import NO_ADDRESS, SettingsError, is_address
        from pullcord.telemetry import configure_logging

    try:
        if listen is not None and not is_address(listen):
            raise SettingsError(f"--listen: {listen!r} {NO_ADDRESS}")
        if http is not None and not is_address(http):
            raise SettingsError(f"--http: {http!r} {NO_ADDRESS}")
        given = {
            "http": http,
            "http_origin": tuple(http_origin) if http_origin else None,
            "tls_certificate": tls_cert,
            "tls_key": tls_key,
            "client_ca": client_ca,
            "mtls_listen": mtls_listen,
            "tokens": tokens,
            "policy": policy,
            "authenticator": authenticator,
            "audit_log": audit_log,
            "insecure": True if insecure else None,
        }
        server = _server(target or "pullcord.demo:server", workers, in_process, reload, given)
        configure_logging(server.settings.log_level, server.settings.log_json)
        server.serve(
            listen,
            lambda address: _ready(address, server.http_url, server.kept_in, as_json),
            store=store,
            outlives=True,
        )
    except _failures() as error:
        print(f"pullcord: {error}", file=sys.stderr)
        raise typer.Exit(Exit.USAGE) from None


def _server(
    target: str,
    workers: str | None,
    in_process: bool,
    reload: bool,
    given: dict[str, Any],
) -> "RunServer":
    if in_process:
        from pullcord.settings import overridden
        from pullcord.worker.loading import find_server

        server = find_server(target)
        server.settings = overridden(server.settings, given)
        return server
    from pullcord.control import ControlServer
    from pullcord.settings import SettingsError, read_settings

    number: int | None = None
    if workers is not None:
        if workers != "auto" and not workers.isdecimal():
            raise SettingsError("--workers: must be a number, or auto")
        number = 0 if workers == "auto" else int(workers)
    settings = read_settings(workers=number, **given)
    number = settings.workers or os.cpu_count() or 1
    return ControlServer(target, settings, workers=number, reload=reload)


def _failures() -> tuple[type[Exception], ...]:
    from pullcord.control import ImportFailed
    from pullcord.settings import SettingsError
    from pullcord.worker.loading import TargetError

    return (TargetError, ImportFailed, SettingsError, OSError)


def _ready(address: str, http: str, store: str, as_json: bool) -> None:
    if as_json:
        line = json.dumps({"address": address, "store": store} | ({"http": http} if http else {}))
    else:
        line = f"Pullcord is serving on {address}" + (f" and {http}" if http else "")
    lines.stdout().write(f"{line}\n".encode())  # nobody has to read it for the server to serve
