"""JSON Web Tokens of an identity provider (OIDC), verified by PyJWT. Needs the extra `jwt`.

Only signatures by asymmetric keys are taken, so that a public key is never mistaken for a shared
secret. Keys are fetched in a thread, ahead of time and never more than one fetch at a time; while
the provider is down, the last keys stand. Verified tokens are remembered for a minute at most.
"""

import asyncio
import hashlib
import json
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import HTTPRedirectHandler, Request, build_opener

import jwt
from jwt import PyJWK, PyJWKSet

from pullcord.identity.options import JwtOptions
from pullcord.run.errors import ServerBusy, Unauthenticated
from pullcord.run.principal import ACT_AS, ROLES, Principal, UnknownGrant, principal

ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
MAX_TOKEN = 8192
"""Characters. gRPC takes 16 KiB of metadata in all."""
_REMEMBERED = 10_000
_REMEMBER = 60.0
"""Seconds that a verified token is remembered, or until it expires."""
_FETCH_TIMEOUT = 10.0
_COOLDOWN = 30.0
"""Seconds between two fetches that an unknown key id sets off."""
_MAX_KEYS_BYTES = 1024 * 1024
_REMEMBER_REFUSED = 5.0
_AT_ONCE = 4
"""Unknown tokens that are verified at a time, in threads, so that a flood of bad ones leaves the
loop to others."""
_MOST_WAITING = 1000
"""Unknown tokens that wait to be verified; more calls are refused."""

_log = logging.getLogger("pullcord.identity")


class Keys:
    """The provider's public keys. Used on one loop; what blocks is done in a thread."""

    def __init__(
        self,
        load: Callable[[], bytes],
        refresh: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`load` gets the key set, JSON. It is called in a thread, or before there is a loop."""
        self._load = load
        self._refresh = refresh
        self._clock = clock
        self._by_id = _keys_of(load())
        self._at = clock()
        self._asked = clock() - _COOLDOWN
        self._fetching: asyncio.Future[None] | None = None

    async def find(self, key_id: str) -> PyJWK:
        """The key of this id. Raises Unauthenticated."""
        now = self._clock()
        if now >= self._at + self._refresh * 0.8:
            _ = self._begin_fetch()  # the keys of before serve meanwhile
        if key_id not in self._by_id and now >= self._asked + _COOLDOWN:
            self._asked = now
            await asyncio.shield(self._begin_fetch())
        try:
            return self._by_id[key_id]
        except KeyError:
            raise Unauthenticated("a token's key is not one of the issuer's") from None

    def _begin_fetch(self) -> "asyncio.Future[None]":
        if self._fetching is None:
            self._at = self._clock()
            self._fetching = asyncio.ensure_future(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            self._by_id = _keys_of(await asyncio.to_thread(self._load))
        except Exception as error:
            _log.error(
                "the keys of the token issuer cannot be read, the last ones stand: %s", error
            )
        finally:
            self._fetching = None


class JwtVerifier:
    """A TokenVerifier of one issuer. Used on one loop."""

    def __init__(
        self,
        options: JwtOptions,
        keys: Keys | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises OSError or ValueError if the keys cannot be had."""
        if not options.audience:
            raise ValueError("the audience is required, or tokens for others would be taken")
        self._options = options
        self._clock = clock
        self._granted = options.grants.replace(",", " ").split()
        self._keys = keys or Keys(_loader(options), options.refresh)
        # By the digest of the token, never by anything that it says of itself.
        self._known: OrderedDict[bytes, tuple[float, Principal | None]] = OrderedDict()
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0

    async def verify(self, token: str) -> Principal | None:
        """The caller; None: this is no JSON Web Token."""
        if token.count(".") != 2:
            return None
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        known = self._known.get(digest)
        if known is not None and self._clock() < known[0]:
            if known[1] is None:
                raise Unauthenticated("the token was refused a moment ago")
            return known[1]
        if len(token) > MAX_TOKEN:
            raise Unauthenticated("the token is too long")
        if self._waiting >= _MOST_WAITING:
            raise ServerBusy(f"{_MOST_WAITING} tokens wait to be verified; try again later")
        self._waiting += 1
        try:
            async with self._room:
                found = await self._verify(token)
        except Unauthenticated:
            self._remember(digest, self._clock() + _REMEMBER_REFUSED, None)
            raise
        finally:
            self._waiting -= 1
        assert found.expires_at is not None
        until = min(self._clock() + _REMEMBER, found.expires_at + self._options.leeway)
        self._remember(digest, until, found)
        return found

    def _remember(self, digest: bytes, until: float, found: Principal | None) -> None:
        self._known[digest] = (until, found)
        self._known.move_to_end(digest)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    async def _verify(self, token: str) -> Principal:
        try:
            header = jwt.get_unverified_header(token)
            algorithm, key_id = header.get("alg"), header.get("kid")
            if algorithm not in ALGORITHMS or not isinstance(key_id, str):
                raise Unauthenticated("the token has no key id, or an algorithm that is not taken")
            key = await self._keys.find(key_id)
            if key.algorithm_name != algorithm:
                raise Unauthenticated("the token's algorithm is not that of its key")
            claims = await asyncio.to_thread(self._decode, token, key, algorithm)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise Unauthenticated(f"the token is not valid: {type(error).__name__}") from None
        self._check_times(claims)
        return self._caller(claims)

    def _decode(self, token: str, key: PyJWK, algorithm: str) -> dict[str, Any]:
        """The claims of a token whose signature is right."""
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=self._options.audience,
            issuer=self._options.issuer,
            options={
                "require": ["exp", "sub", "aud", "iss"],
                "verify_exp": False,  # by the clock that was given, in `_check_times`
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
        return claims

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now, leeway = self._clock(), self._options.leeway
        expires, begins = claims["exp"], claims.get("nbf", now)
        for at in (expires, begins):
            if isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at):
                raise Unauthenticated("the token's exp or nbf is no time")
        if expires + leeway <= now:
            raise Unauthenticated("the token has expired")
        if begins - leeway > now:
            raise Unauthenticated("the token is not valid yet")

    def _caller(self, claims: Mapping[str, Any]) -> Principal:
        options, subject = self._options, claims["sub"]
        tenant = claims.get(options.tenant_claim) if options.tenant_claim else "default"
        if not isinstance(tenant, str) or not isinstance(subject, str):
            raise Unauthenticated("the token does not name its subject, or its tenant")
        grants = [*self._granted, *_known_words(claims.get(options.grants_claim))]
        try:
            return principal(
                tenant,
                f"{options.issuer}|{subject}",
                grants,
                kind="jwt",
                name=subject,
                expires_at=float(claims["exp"]),
            )
        except ValueError as error:
            raise Unauthenticated(f"the token's claims: {error}") from None


def _known_words(claim: object) -> list[str]:
    """The grants among a claim's words. The others are those of other services."""
    words = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
    found = []
    for word in words:
        if isinstance(word, str):
            with suppress(UnknownGrant):
                if word in ROLES or word == ACT_AS or word.startswith("runs:"):
                    principal("default", "x", [word])
                    found.append(word)
    return found


def _keys_of(data: bytes) -> Mapping[str, PyJWK]:
    """The keys of a set by their id. Raises ValueError if there is none that can be used."""
    told = json.loads(data)
    if not isinstance(told, dict):
        raise ValueError("it is no set of keys")
    usable: Sequence[Any] = [
        key
        for key in told.get("keys", ())
        if isinstance(key, dict) and key.get("kty") != "oct" and key.get("use", "sig") == "sig"
    ]
    try:
        keys = PyJWKSet.from_dict({"keys": list(usable)}).keys if usable else []
    except jwt.PyJWTError as error:
        raise ValueError(f"it cannot be read: {error}") from None
    found = {key.key_id: key for key in keys if key.key_id and key.algorithm_name in ALGORITHMS}
    if not found:
        raise ValueError("it holds no key with an id that verifies signatures")
    return found


def _loader(options: JwtOptions) -> Callable[[], bytes]:
    """The source of the keys."""
    if options.keys and "://" not in options.keys:
        return Path(options.keys).read_bytes

    def load() -> bytes:
        url = options.keys
        if not url:
            about = json.loads(
                _get(f"{options.issuer.rstrip('/')}/.well-known/openid-configuration")
            )
            if about.get("issuer") != options.issuer:
                raise ValueError(f"{options.issuer!r} is not what its own configuration says it is")
            url = about["jwks_uri"]
        return _get(url)

    return load


def _get(url: str) -> bytes:
    if not url.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
        raise ValueError(f"{url!r} is no https:// address")
    request = Request(url, headers={"accept": "application/json"})
    with build_opener(_NoRedirects).open(request, timeout=_FETCH_TIMEOUT) as response:
        data: bytes = response.read(_MAX_KEYS_BYTES)
        return data


class _NoRedirects(HTTPRedirectHandler):
    """Keys come from where they were asked for, or not at all."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None
