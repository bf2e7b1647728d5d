"""The checks between a server's port and its runs, made from the settings.

The authenticator, the policy, the shares, the audit log and TLS: each is made here once, at the
start, and whatever is wrong with it is said then. And here a server refuses to start if everybody
who reaches its port could do everything.
"""

import errno
import importlib
import logging
import socket
from collections.abc import Callable
from typing import Any

from pullcord.audit import AuditLog, to_file, to_logging, to_nobody
from pullcord.engine.ports import Observer
from pullcord.extras import missing
from pullcord.identity.authenticator import Authenticator, Chain, TokenVerifier
from pullcord.identity.certificates import Certificates
from pullcord.identity.run_tokens import RunTokens
from pullcord.identity.tokens import TokenFile
from pullcord.lines import LineWriter
from pullcord.run.disclosure import Disclosure
from pullcord.run.loopback import stays_here
from pullcord.run.record import Run
from pullcord.service.access import Policy, everybody
from pullcord.service.policy import read_policy
from pullcord.service.quotas import Quotas
from pullcord.settings import Settings, SettingsError
from pullcord.stores.opening import is_shared
from pullcord.transports.front import Doors
from pullcord.transports.tls import TlsFiles

_log = logging.getLogger("pullcord.server")


class Entrance:
    """The doors of one server, and what they hold open. Close it."""

    def __init__(
        self,
        settings: Settings,
        quotas: Quotas,
        authenticator: Authenticator | None = None,
        policy: Policy | None = None,
    ) -> None:
        """`authenticator` and `policy` are a program's own; they stand above the settings.

        Raises:
            SettingsError: a file or a function that is named cannot be used.
        """
        self._writer: LineWriter | None = None
        authenticator = authenticator or _authenticator(settings)
        self.doors = Doors(
            authenticator=authenticator,
            policy=policy or _policy(settings.policy),
            own_approval=settings.own_approval,
            quotas=quotas,
            run_tokens=_read("PULLCORD_RUN_TOKEN_KEY", lambda: _run_tokens(settings)),
            audit=AuditLog(self._sink(settings, is_asked=authenticator is not None)),
        )
        self.tls = _tls(settings)
        """Of the first listener; None: plaintext."""

    def _sink(self, settings: Settings, *, is_asked: bool) -> Callable[[bytes], object]:
        """The writer of the audit log; it writes nothing if the server verifies nobody."""
        if settings.audit_log is None:
            return to_logging if is_asked else to_nobody
        try:
            self._writer = to_file(settings.audit_log)
        except OSError as error:
            raise SettingsError(f"PULLCORD_AUDIT_LOG: {error}") from None
        return self._writer.write

    def close(self) -> None:
        """Writes what waits for the audit log."""
        if self._writer is not None:
            self._writer.close()


def check_exposure(listen: str, settings: Settings, *, knows_callers: bool) -> None:
    """Refuses an address at which everybody could do everything, or read what others say.

    Raises:
        SettingsError: with the three ways to go on.
    """
    encrypted = settings.tls_certificate is not None
    if stays_here(listen) or (encrypted and knows_callers):
        return
    if settings.insecure:
        _log.warning(
            "%s is open: %s; this was allowed by --insecure",
            listen,
            " and ".join(_missing(encrypted, knows_callers)),
        )
        return
    raise SettingsError(
        f"{listen} can be reached from other machines, and "
        f"{' and '.join(_missing(encrypted, knows_callers))}. There are three ways to go on:\n"
        "  1. serve with a certificate and with callers that the server knows: --tls-cert FILE "
        "--tls-key FILE, and one of --tokens FILE, --client-ca FILE and PULLCORD_JWT__ISSUER;\n"
        "  2. listen on 127.0.0.1, behind a proxy on this machine that does both;\n"
        "  3. say --insecure, if everybody who reaches the port may see and stop every run."
    )


def check_free(setting: str, address: str) -> None:
    """Refuses an address at which another program listens, before anything else is opened.

    What is no address, or cannot be looked at from here, is for the server that listens to say.

    Raises:
        OSError: with the name of the setting.
    """
    host, _, port = address.rpartition(":")
    if not address or address.startswith("unix:") or not port.isdecimal() or port == "0":
        return
    try:
        places = socket.getaddrinfo(
            host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError:
        return
    if places and all(map(_is_taken, places)):
        raise OSError(
            f"PULLCORD_{setting}: another program listens on {address} already, perhaps another "
            "Pullcord; stop that one, or name another address"
        )


def _is_taken(place: tuple[Any, ...]) -> bool:
    family, kind, protocol, _, where = place
    try:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(where)
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def _missing(encrypted: bool, knows_callers: bool) -> list[str]:
    return [
        *([] if encrypted else ["its connections are not encrypted"]),
        *([] if knows_callers else ["nobody is asked who calls"]),
    ]


def disclosure_of(settings: Settings, authenticator: Authenticator | None = None) -> Disclosure:
    """The part of errors that callers see; unset: all of them if the server verifies nobody."""
    if settings.errors:
        return Disclosure(settings.errors)
    knows = (authenticator, settings.authenticator, settings.tokens, settings.client_ca)
    verifies = any(knows) or bool(settings.jwt.issuer)
    return Disclosure.TYPE if verifies else Disclosure.FULL


def make_quotas(settings: Settings) -> Quotas:
    """The shares of callers and tenants."""
    return Quotas(settings.quotas)


def counting(observer: Observer, quotas: Quotas) -> Observer:
    """An observer that also reports ended runs to the quotas of their tenants."""
    return CountingObserver(observer, quotas)


class CountingObserver:
    """An Observer that also reports ended runs to the quotas. Any thread may call."""

    def __init__(self, within: Observer, quotas: Quotas) -> None:
        self.run_entered = within.run_entered
        self.within = within.within
        self.run_started = within.run_started
        self.run_withdrawn = within.run_withdrawn
        self.run_handed_over = within.run_handed_over
        self.step_began = within.step_began
        self.step_ended = within.step_ended
        self.model_called = within.model_called
        self.run_spoke = within.run_spoke
        self.run_refused = within.run_refused
        self.run_abandoned = within.run_abandoned
        self.loop_stalled = within.loop_stalled
        self._ended = within.run_ended
        self._lost = within.run_lost
        self._quotas = quotas

    def run_ended(self, run: Run) -> None:
        """A run has its terminal event."""
        self._quotas.ended(run)
        self._ended(run)

    def run_lost(self, run: Run) -> None:
        """A run of a process that is gone was ended here."""
        self._quotas.ended(run)
        self._lost(run)


def _run_tokens(settings: Settings) -> RunTokens:
    return RunTokens(settings.run_token_key, of_many=is_shared(settings.store))


def _authenticator(settings: Settings) -> Authenticator | None:
    if settings.authenticator:
        made = _function("PULLCORD_AUTHENTICATOR", settings.authenticator)
        return made if hasattr(made, "authenticate") else _Function(made)
    tokens: list[TokenVerifier] = []
    certificates = None
    if (path := settings.tokens) is not None:
        tokens.append(_read("PULLCORD_TOKENS", lambda: TokenFile(path)))
    if settings.jwt.issuer:
        tokens.append(_read("PULLCORD_JWT__ISSUER", lambda: _jwt(settings)))
    if settings.client_ca is not None:
        rules = settings.client_identities
        certificates = _read("PULLCORD_CLIENT_IDENTITIES", lambda: Certificates(rules))
    if not tokens and certificates is None:
        return None
    return Chain(tokens, certificates, plaintext=settings.insecure)


def _jwt(settings: Settings) -> TokenVerifier:
    try:
        from pullcord.identity.jwt import JwtVerifier
    except ImportError as error:
        raise ValueError(str(missing("verifying tokens", "jwt", error))) from None
    return JwtVerifier(settings.jwt)


class _Function:
    """An Authenticator of an operator's function: Credentials to Principal, or None."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    async def authenticate(self, credentials: Any) -> Any:
        """Calls it, and awaits what it returns if that has to be."""
        from pullcord.run.errors import Unauthenticated

        found = self._function(credentials)
        if hasattr(found, "__await__"):
            found = await found
        if found is None:
            raise Unauthenticated("the operator's function does not know the caller")
        return found


def _policy(named: str) -> Policy:
    if not named:
        return everybody
    if ":" in named:
        made: Policy = _function("PULLCORD_POLICY", named)
        return made
    from pathlib import Path

    policy: Policy = _read("PULLCORD_POLICY", lambda: read_policy(Path(named).read_text()))
    return policy


def _tls(settings: Settings) -> TlsFiles | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    ca = None if settings.mtls_listen else settings.client_ca
    return TlsFiles(settings.tls_certificate, settings.tls_key, ca)


def _read(variable: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (OSError, ValueError) as error:
        raise SettingsError(f"{variable}: {error}") from None


def _function(variable: str, named: str) -> Any:
    module, _, name = named.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"{variable}: {named!r} cannot be used: {error}") from None
