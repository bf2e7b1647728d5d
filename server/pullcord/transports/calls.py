"""What a call says of its caller, over whatever transport, and who that is found to be.

No request is read here, and no connection is known: a transport makes an `Incoming` of each call.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from opentelemetry import propagate

from pullcord.identity.authenticator import Authenticator, Credentials
from pullcord.run.caller import Caller
from pullcord.run.errors import Unauthenticated
from pullcord.run.principal import Principal, Width
from pullcord.service.audit import Audit
from pullcord.wire.actor import actor_of, principal_of


@dataclass(frozen=True, slots=True)
class Incoming:
    """What a call brings before its request is read."""

    metadata: Sequence[tuple[str, str | bytes]] = ()
    """Metadata of gRPC, or headers of HTTP; the names in lower case."""
    peer: str = ""
    """The address the call came from, as gRPC writes it: `ipv4:127.0.0.1:50000`."""
    certificate: Sequence[str] = ()
    """The ids in the client certificate, see `Credentials`."""
    encrypted: bool = False
    deadline: float | None = None
    """When the caller gives up, on time.monotonic's scale; None: it does not."""

    @property
    def credentials(self) -> Credentials:
        """What it carries to show who calls."""
        tokens = [str(value) for key, value in self.metadata if key == "authorization"]
        return Credentials(tokens, self.certificate, self.encrypted, self.peer)


class Callers:
    """Finds out who calls one server. Without an authenticator, nobody has to say."""

    def __init__(self, authenticator: Authenticator | None, audit: Audit) -> None:
        self._authenticator = authenticator
        self._audit = audit

    @property
    def are_known(self) -> bool:
        """Whether callers have to say who they are."""
        return self._authenticator is not None

    async def of(self, incoming: Incoming) -> Caller:
        """The caller of this call, with the time that it has left now. Raises Unauthenticated."""
        caller = _claimed(incoming)
        if self._authenticator is None:
            return caller
        try:
            principal = await self._authenticator.authenticate(incoming.credentials)
        except Unauthenticated as error:
            self._audit.record("auth.refused", "Unauthenticated", caller, detail=error.why)
            raise
        return replace(caller, principal=_delegated(principal, incoming))

    def still(self, incoming: Incoming, caller: Caller) -> Callable[[], Awaitable[bool]] | None:
        """What is asked whether the caller's credential is still valid; None: it has none."""
        authenticator = self._authenticator
        if authenticator is None:
            return None
        credentials = incoming.credentials
        scope = caller.principal.scope

        async def ask() -> bool:
            try:
                principal = await authenticator.authenticate(credentials)
            except Unauthenticated:
                return False
            return _delegated(principal, incoming).scope == scope

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
    fields = propagate.get_global_textmap().fields
    metadata = incoming.metadata
    trace = {key: value for key, value in metadata if key in fields and isinstance(value, str)}
    return Caller(actor_of(metadata), incoming.peer, incoming.deadline, trace)
