"""`pullcord serve`: finds the server that is meant, and serves it until a signal.

`pullcord.server` serves, and ends.
"""

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pullcord import lines
from pullcord.cli.exits import Exit, serving
from pullcord.cli.options import AsJson, address_option, duration
from pullcord.cli.output import complain, plain

if TYPE_CHECKING:  # a client's commands do not load a server
    from pullcord.server import RunServer

_FLAGS = {"tls_certificate": "--tls-cert", "drain_time": "--drain", "webhook_url": "--webhook"}
"""Options that are named otherwise than their settings."""
_LONGEST = 100
"""Characters of a line that says what is served."""


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
    launcher: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Who starts workers: local, this machine, or ray, a cluster of Ray's. Default: "
            "local.",
        ),
    ] = None,
    worker_command: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Starts each worker, anywhere, and runs as long as it; in it `pullcord worker` "
            "connects back. Default: workers are processes of this machine.",
        ),
    ] = None,
    worker_listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where such workers connect. Default: 127.0.0.1 and a free port.",
        ),
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
    webhook: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="An address that is sent a request when a run has ended or waits for a decision, "
            "signed with PULLCORD_WEBHOOK_SECRET. Else PULLCORD_WEBHOOK_URL, else none.",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where Prometheus may scrape metrics, such as 127.0.0.1:9464.",
        ),
    ] = None,
    otlp: Annotated[
        bool,
        typer.Option("--otlp", help="Send metrics and traces by OTLP, as OTEL_ variables say."),
    ] = False,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure", help="Serve other machines without TLS, or without knowing who calls."
        ),
    ] = False,
    drain: Annotated[
        float | None,
        typer.Option(
            parser=duration,
            metavar="DURATION",
            help="How long runs may go on after SIGTERM or Ctrl-C before they are cancelled.",
        ),
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error. Default: info.")
    ] = None,
    log_json: Annotated[
        bool, typer.Option("--log-json", help="Write log lines as JSON, for machines.")
    ] = False,
    env_file: Annotated[
        Path | None,
        typer.Option(
            help="A file of variables, NAME=value, for the server and for your code; those of the "
            "environment win. Default: .env, if there is one."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Serve agents until SIGTERM or Ctrl-C, then drain: let runs end, and cancel those that do not.

    Once calls are answered, the first line on stdout says the address, and those behind it what is
    served and how to call it; log lines go to stderr. A second signal cancels the runs, a third one
    at once. Every option has a variable, such as PULLCORD_LISTEN for --listen, that holds if the
    option is not given.
    """
    with serving("pullcord serve"):
        from pullcord.exporting import begin_exporting
        from pullcord.settings import (
            NO_ADDRESS,
            SettingsError,
            is_address,
            load_env_file,
            unknown_variables,
        )
        from pullcord.telemetry import configure_logging

    given: dict[str, Any] = {}
    try:
        load_env_file(env_file)
        if listen is not None and not is_address(listen):
            raise SettingsError(f"--listen: {listen!r} {NO_ADDRESS}")
        if http is not None and not is_address(http):
            raise SettingsError(f"--http: {http!r} {NO_ADDRESS}")
        given = {
            "listen": listen,
            "http": http,
            "http_origin": tuple(http_origin) if http_origin else None,
            "launcher": launcher,
            "worker_command": worker_command,
            "worker_listen": worker_listen,
            "tls_certificate": tls_cert,
            "tls_key": tls_key,
            "client_ca": client_ca,
            "mtls_listen": mtls_listen,
            "tokens": tokens,
            "policy": policy,
            "authenticator": authenticator,
            "audit_log": audit_log,
            "webhook_url": webhook,
            "metrics": metrics,
            "otlp": True if otlp else None,
            "insecure": True if insecure else None,
            "drain_time": drain,
            "log_level": log_level,
            "log_json": True if log_json else None,
        }
        server = _server(target or "pullcord.demo:server", workers, in_process, reload, given)
        configure_logging(server.settings.log_level, server.settings.log_json)
        for words in unknown_variables(os.environ):
            logging.getLogger("pullcord.settings").warning(words)
        end_exporting = begin_exporting(server.settings)
        try:
            server.serve(
                listen,
                lambda address: _ready(address, server, as_json),
                store=store,
                outlives=True,
            )
        finally:
            end_exporting()
    except _failures() as error:
        complain(_by_flags(str(error), given))
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

        server = find_server(target, given)
        server.settings = overridden(server.settings, given)
        return server
    from pullcord.control import ControlServer
    from pullcord.settings import SettingsError, read_settings
    from pullcord.worker.loading import check_place

    number: int | None = None
    if workers is not None:
        if workers != "auto" and not workers.isdecimal():
            raise SettingsError("--workers: must be a number, or auto")
        number = 0 if workers == "auto" else int(workers)
    settings = read_settings(workers=number, **given)
    number = settings.workers or os.cpu_count() or 1
    check_place(
        target
    )  # before the store is opened, and without importing anything of the author's
    return ControlServer(target, settings, workers=number, reload=reload)


def _by_flags(words: str, given: dict[str, Any]) -> str:
    """The words of an error, where settings that have an option are named by it.

    One that a variable has set is named by its variable.
    """
    for name, value in given.items():
        if value is not None or f"PULLCORD_{name.upper()}" not in os.environ:
            flag = _FLAGS.get(name, f"--{name.replace('_', '-')}")
            words = words.replace(f"PULLCORD_{name.upper()}:", f"{flag}:")
    return words


def _failures() -> tuple[type[Exception], ...]:
    from pullcord.control import ImportFailed
    from pullcord.extras import MissingExtra
    from pullcord.settings import SettingsError
    from pullcord.worker.loading import TargetError

    return (TargetError, ImportFailed, MissingExtra, SettingsError, OSError)


def _ready(address: str, server: "RunServer", as_json: bool) -> None:
    """Says where what is served, and how to call it."""
    infos, http = server.catalog.all(), server.http_url
    if as_json:
        told = {"address": address, "store": server.kept_in} | ({"http": http} if http else {})
        lines.stdout().write(
            f"{json.dumps(told | {'runnables': [info.name for info in infos]})}\n".encode()
        )
        return
    said = [f"Pullcord is serving on {address}"]
    if http:
        said.append(f"Its console, for browsers, is at {http}/")
    width = max((len(info.name) for info in infos), default=0)
    for info in infos:
        about = " ".join(info.description.split())
        said.append(_cut(f"  {info.name:<{width}}  {about}".rstrip()))
    said.append(f"Runs are kept in {server.kept_in}.")
    if infos:
        said.append(f'Try: pullcord run {infos[0].name} "hello"{_option(address, server)}')
    # Nobody has to read it for the server to serve.
    lines.stdout().write("".join(f"{plain(line)}\n" for line in said).encode())


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1].rstrip()}…"


def _option(address: str, server: "RunServer") -> str:
    """The option by which a command on this machine reaches the server; empty if it needs none."""
    host, _, port = address.rpartition(":")
    if host in ("", "0.0.0.0", "[::]"):
        address = f"127.0.0.1:{port}"
    scheme = "tls://" if server.settings.tls_certificate is not None else ""
    return address_option(scheme + address)
