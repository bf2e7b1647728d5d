"""The settings of verifiers. Values only; the library that verifies is not loaded for them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JwtOptions:
    """Whose tokens are taken, and what in them says what. Without an issuer: none are."""

    issuer: str = ""
    """The value that `iss` must have, such as `https://login.example.com/`. Its keys are found by
    `/.well-known/openid-configuration` there, unless `keys` says where they are."""
    audience: str = ""
    """The value that `aud` must hold: the name under which this server is registered. Required."""
    keys: str = ""
    """The keys' location: a URL, or a file that is read again when it changes."""
    tenant_claim: str = ""
    """The claim that names the tenant; unset: all callers are of tenant `default`."""
    grants_claim: str = "scope"
    """The claim that lists grants, as words or as a list; words that grant nothing are ignored."""
    client_id: str = ""
    """The name under which this server signs browsers in there, by OpenID Connect's code flow with
    PKCE; its redirect address is `/v1/session/done`. Unset: browsers bring a token."""
    client_secret: str = ""
    """A file with the secret that goes with `client_id`. Unset: there is none."""
    sign_in_scopes: str = "openid"
    """The scopes that a sign-in asks for, with blanks between them."""
    grants: str = "user"
    """The grants that every verified caller has in addition, such as `user`; empty: none."""
    leeway: float = 30.0
    """Seconds that the provider's clock may differ from this one's."""
    refresh: float = 300.0
    """Seconds after which the keys are fetched again."""
