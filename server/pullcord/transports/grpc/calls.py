"""What a gRPC call says of its caller, and who that is found to be. No request is read here."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import grpc.aio
from opentelemetry import propagate

from pullcord.identity.authenticator import Authenticator, Credentials
from pullcord.run.caller import Caller
from pullcord.run.errors import Unauthenticated
from pullcord.run.principal import Principal, Width
from pullcord.service.audit import Audit
from pullcord.wire.actor import actor_of, principal_of

Context = grpc.aio.ServicerContext[bytes, bytes]

_IDS = ("peer_spiffe_id", "peer_uri", "peer_dns")
"""What a certificate is known by, in this order; never its common name."""


class Callers:
    """Finds out who calls one server. Without an authenticator, nobody has to say."""

    def __init__(self, authenticator: Authenticator | None, audit: Audit) -> None:
        self._authenticator = authenticator
        self._audit = audit

    async def of(self, context: Context) -> Caller:
        """The caller of this call, with the time that it has left now. Raises Unauthenticated."""
        caller = _claimed(context)
        if self._authenticator is None:
            return caller
        try:
            principal = await self._authenticator.authenticate(_credentials(context))
        except Unauthenticated as error:
            self._audit.record("auth.refused", "Unauthenticated", caller, detail=error.why)
            raise
        return replace(caller, principal=_delegated(principal, context))

    def still(self, context: Context, caller: Caller) -> Callable[[], Awaitable[bool]] | None:
        """What is asked whether the caller's credential is still valid; None: it has none."""
        authenticator = self._authenticator
        if authenticator is None:
            return None
        credentials = _credentials(context)
        scope = caller.principal.scope

        async def ask() -> bool:
            try:
                principal = await authenticator.authenticate(credentials)
            except Unauthenticated:
                return False
            return _delegated(principal, context).scope == scope

        return ask


def _delegated(principal: Principal, context: Context) -> Principal:
    """The principal on whose behalf the caller calls, if it may; a claim of others is dropped."""
    if not principal.grants.act_as:
        return principal
    named = principal_of(context.invocation_metadata() or ())
    if named is None or named.tenant != principal.tenant or named == principal.scope:
        return principal
    widths = {verb: min(width, Width.OWN) for verb, width in principal.grants.widths.items()}
    grants = replace(principal.grants, widths=widths, act_as=False)
    return replace(
        principal, subject=named.owner, grants=grants, name="", on_behalf_of=principal.subject
    )


def _credentials(context: Context) -> Credentials:
    metadata = context.invocation_metadata() or ()
    tokens = [str(value) for key, value in metadata if key == "authorization"]
    about = context.auth_context()
    ids: list[str] = []
    for kind in _IDS:
        ids += [value.decode(errors="replace") for value in about.get(kind, ())]
    secure = any(kind in (b"ssl", b"tls") for kind in about.get("transport_security_type", ()))
    return Credentials(tokens, list(dict.fromkeys(ids)), secure, context.peer())


def _claimed(context: Context) -> Caller:
    metadata = context.invocation_metadata() or ()
    fields = propagate.get_global_textmap().fields
    trace = {key: value for key, value in metadata if key in fields and isinstance(value, str)}
    return Caller(actor_of(metadata), context.peer(), _deadline(context), trace)


def _deadline(context: Context) -> float | None:
    """When the caller gives up, at the latest (monotonic); None: it does not.

    gRPC sends a timeout of 1,001 s as one of 1,010 s: it rounds up to a few digits, so that what
    arrives may be a hundredth too long.
    """
    remaining = context.time_remaining()
    if remaining is None:
        return None
    return time.monotonic() + remaining * 0.99
