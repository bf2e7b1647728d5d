"""The claims and credentials of a call, over any transport, and the caller they prove.

No request is read here, and no connection is known: a transport makes an `Incoming` of each call.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from opentelemetry import propagate

from pullcord.identity.authenticator import Authenticator, Credentials
from pullcord.identity.run_tokens import PREFIX, RunTokens
from pullcord.run.caller import Caller
from pullcord.run.errors import Unauthenticated
from pullcord.run.principal import Principal, Width
from pullcord.service.audit import Audit
from pullcord.wire.actor import actor_of, principal_of


@dataclass(frozen=True, slots=True)
class Incoming:
    """A call before its request is read: metadata, peer and remaining time."""

    metadata: Sequence[tuple[str, str | bytes]] = ()
    """Metadata of gRPC, or headers of HTTP; the names in lower case."""
    peer: str = ""
    """The address the call came from, as gRPC writes it: `ipv4:127.0.0.1:50000`."""
    certificate: Sequence[str] = ()
    """The ids in the client certificate, see `Credentials`."""
    encrypted: bool = False
    of_other_origin: bool = False
    """Whether a page of another origin makes it, which must show a credential in any case."""
    deadline: float | None = None
    """When the caller gives up, on time.monotonic's scale; None: it does not."""

    @property
    def credentials(self) -> Credentials:
        """Its credentials."""
        tokens = [str(value) for key, value in self.metadata if key == "authorization"]
        return Credentials(tokens, self.certificate, self.encrypted, self.peer)


class Callers:
    """Finds out who calls one server. Without an authenticator, nobody has to say."""

    def __init__(
        self, authenticator: Authenticator | None, audit: Audit, run_tokens: RunTokens
    ) -> None:
        """`run_tokens` are taken from everybody, whether or not callers have to be known."""
        self._authenticator = authenticator
        self._audit = audit
        self._run_tokens = run_tokens

    @property
    def are_known(self) -> bool:
        """Whether callers have to say who they are."""
        return self._authenticator is not None

    async def of(self, incoming: Incoming) -> Caller:
        """The caller of this call, with the time that it has left now. Raises Unauthenticated."""
        caller = _claimed(incoming)
        try:
            principal = await self._principal(incoming)
        except Unauthenticated as error:
            self._audit.record("auth.refused", "Unauthenticated", caller, detail=error.why)
            raise
        if principal is None:
            return caller
        return replace(caller, principal=_delegated(principal, incoming))

    async def _principal(self, incoming: Incoming) -> Principal | None:
        """The verified caller; None: no caller is asked."""
        credentials = incoming.credentials
        bearers = [value.partition(" ")[2].strip() for value in credentials.authorization]
        if any(bearer.startswith(PREFIX) for bearer in bearers):
            if len(bearers) > 1:
                raise Unauthenticated("there is more than one authorization entry")
            return self._run_tokens.principal(bearers[0])
        if self._authenticator is not None:
            return await self._authenticator.authenticate(credentials)
        if incoming.of_other_origin:
            raise Unauthenticated("a page of another origin has no token for a run")
        return None

    def still(self, incoming: Incoming, caller: Caller) -> Callable[[], Awaitable[bool]] | None:
        """Asks whether the caller's credential is still valid; None: it has none."""
        if caller.principal.is_local:
            return None
        was = caller.principal

        async def ask() -> bool:
            try:
                principal = await self._principal(incoming)
            except Unauthenticated:
                return False
            if principal is None:
                return False
            now = _delegated(principal, incoming)
            # With other grants it may not see this run any more: it has to ask again.
            return (now.scope, now.grants) == (was.scope, was.grants)

        return ask


def _delegated(principal: Principal, incoming: Incoming) -> Principal:
    """The principal on whose behalf the caller calls, if it may; a claim of others is dropped."""
    if not principal.grants.act_as:
        return principal
    named = principal_of(incoming.metadata)
    if named is None or named.tenant != principal.tenant or named == principal.scope:
        return principal
    widths = {verb: min(width, Width.OWN) for verb, width in principal.grants.widths.items()}
    grants = replace(principal.grants, widths=widths, act_as=False)
    return replace(
        principal, subject=named.owner, grants=grants, name="", on_behalf_of=principal.subject
    )


def _claimed(incoming: Incoming) -> Caller:
    # Baggage is a caller's words, which run code and its own calls would take for the server's.
    fields = propagate.get_global_textmap().fields - {"baggage"}
    metadata = incoming.metadata
    trace = {key: value for key, value in metadata if key in fields and isinstance(value, str)}
    return Caller(actor_of(metadata), incoming.peer, incoming.deadline, trace)
