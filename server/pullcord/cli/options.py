"""The options that several commands share, and how their values are read.

Only the shape of a value is checked here; what a run may be asked is the server's to say.
"""

import math
import os
import re
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypedDict

import grpc
import typer

from pullcord.client import Pace
from pullcord.client.calls import DEFAULT_TARGET
from pullcord.client.tokens import Token, TokenOnPlainLine, check_line
from pullcord.run.cancel import CancelMode
from pullcord.run.record import RunFilter
from pullcord.run.state import RunState

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ms|s|m|h|d|)")
_TLS = "tls://"
_PLAIN_HOST = re.compile(r"[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]")
"""An address without a port: gRPC would take 443."""
_ADDRESS_VARIABLE = "PULLCORD_ADDRESS"
_PORT = DEFAULT_TARGET.rpartition(":")[2]


class Connection(TypedDict):
    """The arguments that make a client."""

    target: str
    credentials: grpc.ChannelCredentials | None
    token: Token | None
    tenant: str
    owner: str
    pace: Pace


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller's identity, and whom it trusts: the options of `pullcord` itself."""

    token: Token | None = None
    ca: Path | None = None
    """None: the authorities that gRPC trusts by itself."""
    certificate: Path | None = None
    key: Path | None = None
    tenant: str = ""
    owner: str = ""
    """Whose runs are meant; empty: any that the caller may see."""

    def credentials(self) -> grpc.ChannelCredentials:
        """For an encrypted connection. Exits if a file cannot be read."""
        try:
            ca, key, chain = (
                None if path is None else path.read_bytes()
                for path in (self.ca, self.key, self.certificate)
            )
        except OSError as error:
            raise typer.BadParameter(str(error)) from None
        return grpc.ssl_channel_credentials(ca, key, chain)


identity: ContextVar[Identity] = ContextVar("identity", default=Identity())  # noqa: B039  # frozen
"""Set once, before a command."""


def connection(address: str) -> Connection:
    """The arguments of a client that calls the server at this address.

    It gives up soon on a server that has gone: a person looks on.
    """
    is_tls = address.startswith(_TLS)
    who = identity.get()
    credentials = who.credentials() if is_tls else None
    target = address.removeprefix(_TLS)
    if _PLAIN_HOST.fullmatch(target):
        target = f"{target}:{_PORT}"
    try:
        check_line(target, is_tls or who.token is None)
    except TokenOnPlainLine:
        raise typer.BadParameter(
            f"a token for {address} could be read on its way; write --address tls://{address}"
        ) from None
    pace = Pace(reconnect_for=20.0)
    return Connection(
        target=target,
        credentials=credentials,
        token=who.token,
        tenant=who.tenant,
        owner=who.owner,
        pace=pace,
    )


def address_option(address: str) -> str:
    """The option by which another command reaches this server, after a space; empty if none."""
    known = os.environ.get(_ADDRESS_VARIABLE) or DEFAULT_TARGET
    return "" if address == known else f" --address {address}"


def duration(text: str | float) -> float:
    """Seconds of `30s`, `1.5m`, `500ms`, `1m30s` or a plain number."""
    compact = str(text).strip().lower()  # an option's default is a number already
    parts = list(_DURATION.finditer(compact))
    whole = "".join(part[0] for part in parts) == compact
    if not parts or not whole or (len(parts) > 1 and any(not part[2] for part in parts)):
        raise typer.BadParameter(f"{text!r} is no duration; write 30s, 1.5m or 500ms")
    return math.fsum(float(part[1]) * _UNITS[part[2]] for part in parts)


def labels_of(texts: list[str] | None) -> dict[str, str]:
    """The labels of `key=value` texts."""
    labels: dict[str, str] = {}
    for text in texts or ():
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise typer.BadParameter(f"{text!r} is no label; write key=value", param_hint="--label")
        labels[key] = value
    return labels


def filter_of(
    session: str,
    user: str,
    runnable: str,
    labels: list[str] | None,
    states: frozenset[RunState] = frozenset(),
) -> RunFilter:
    """The filter that these options make."""
    return RunFilter(session, user, runnable, states=states, labels=labels_of(labels))


def mode_of(now: bool) -> CancelMode:
    """The mode of a stop: `--now` is IMMEDIATE."""
    return CancelMode.IMMEDIATE if now else CancelMode.GRACEFUL


Address = Annotated[
    str,
    typer.Option(
        "--address",
        "-a",
        envvar=_ADDRESS_VARIABLE,
        help="The server: host:port, or tls://host:port for an encrypted connection. "
        f"Without a port: {_PORT}.",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="One JSON object a line, with the API's field names.")
]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why, in your own words.")]
Now = Annotated[bool, typer.Option("--now", help="Interrupt tools too, at once.")]
Session = Annotated[str, typer.Option("--session", help="The id of the conversation.")]
User = Annotated[str, typer.Option("--user", help="The user for whom it runs.")]
OfRunnable = Annotated[
    str, typer.Option("--runnable", help="The runnable, such as agents/counter.")
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", "-l", metavar="KEY=VALUE", help="A label; may be repeated."),
]
