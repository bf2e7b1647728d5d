"""The port by which a transport finds out who calls, and the chain that a server puts together.

A credential that is there and is wrong is refused, and never passed over for another one. Why is
for the server's log; a caller hears the same words whatever was wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pullcord.run.errors import Unauthenticated
from pullcord.run.loopback import stays_here
from pullcord.run.principal import Principal

_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials that a call carries."""

    authorization: Sequence[str] = ()
    """The values of every `authorization` entry."""
    certificate: Sequence[str] = ()
    """The ids in the client certificate that TLS has verified, the SPIFFE id first, then URIs, then
    DNS names; empty: there is none."""
    encrypted: bool = False
    peer: str = ""
    """The address the call came from."""

    @property
    def stays_here(self) -> bool:
        """Whether the connection does not leave this machine."""
        return not self.peer or stays_here(self.peer)


class Authenticator(Protocol):
    """Verifies callers. Called on the RPC loop, for each call: what waits must be awaited."""

    async def authenticate(self, credentials: Credentials) -> Principal:
        """The caller. Raises Unauthenticated, whose `why` only the server's log says."""


class TokenVerifier(Protocol):
    """Verifies one kind of bearer token."""

    async def verify(self, token: str) -> Principal | None:
        """The caller; None: the token is of another kind. Raises Unauthenticated."""


class CertificateVerifier(Protocol):
    """Knows the callers behind client certificates."""

    def identify(self, ids: Sequence[str]) -> Principal:
        """The caller of these ids. Raises Unauthenticated."""


class Chain:
    """An Authenticator of verifiers.

    A bearer token wins over a client certificate: behind a gateway, the certificate is the
    gateway's and the token is the caller's.
    """

    def __init__(
        self,
        tokens: Sequence[TokenVerifier] = (),
        certificates: CertificateVerifier | None = None,
        *,
        plaintext: bool = False,
    ) -> None:
        """`plaintext`: whether tokens are taken over connections that anybody could read."""
        self._tokens = tokens
        self._certificates = certificates
        self._plaintext = plaintext

    async def authenticate(self, credentials: Credentials) -> Principal:
        """The caller."""
        if credentials.authorization:
            return await self._by_token(credentials)
        if credentials.certificate and self._certificates is not None:
            return self._certificates.identify(credentials.certificate)
        raise Unauthenticated("there is no credential")

    async def _by_token(self, credentials: Credentials) -> Principal:
        if len(credentials.authorization) > 1:
            raise Unauthenticated("there is more than one authorization entry")
        if not (credentials.encrypted or self._plaintext or credentials.stays_here):
            raise Unauthenticated("a token was sent over a connection that is not encrypted")
        (value,) = credentials.authorization
        if value[: len(_BEARER)].lower() != _BEARER:
            raise Unauthenticated("the authorization is no bearer token")
        token = value[len(_BEARER) :].strip()
        for verifier in self._tokens:
            principal = await verifier.verify(token)
            if principal is not None:
                return principal
        raise Unauthenticated("nobody knows the token")
