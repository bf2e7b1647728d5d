"""Tokens of an identity provider: the good one, and every way in which one can be bad."""

import asyncio
import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from pullcord.identity.jwt import JwtVerifier, Keys
from pullcord.identity.options import JwtOptions
from pullcord.run.errors import Unauthenticated
from pullcord.run.principal import Principal, Verb
from pullcord.run.scope import Reach

NOW = 1_800_000_000.0
ISSUER, AUDIENCE = "https://login.example.com/", "pullcord"
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
OTHER = rsa.generate_private_key(65537, 2048)
OPTIONS = JwtOptions(ISSUER, AUDIENCE, keys="unused", tenant_claim="org", leeway=30)


def published(**keys: Any) -> bytes:
    """A key set of these private keys, by key id."""
    told = []
    for key_id, key in keys.items():
        algorithm = ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else RSAAlgorithm
        made = json.loads(algorithm.to_jwk(key.public_key()))
        name = "ES256" if algorithm is ECAlgorithm else "RS256"
        told.append({**made, "kid": key_id, "alg": name, "use": "sig"})
    return json.dumps({"keys": told}).encode()


class Provider:
    """A provider whose keys a test changes, and which it can make fail."""

    def __init__(self) -> None:
        self.data = published(one=RSA)
        self.fetched = 0
        self.fails = False

    def load(self) -> bytes:
        self.fetched += 1
        if self.fails:
            raise OSError("no route to host")
        return self.data


class Setup:
    def __init__(self, options: JwtOptions = OPTIONS) -> None:
        self.provider = Provider()
        self.now, self.monotonic = NOW, 1000.0
        keys = Keys(self.provider.load, options.refresh, lambda: self.monotonic)
        self.verifier = JwtVerifier(options, keys, lambda: self.now)

    async def verify(self, token: str) -> Principal:
        found = await self.verifier.verify(token)
        assert found is not None
        return found

    async def refuses(self, token: str) -> bool:
        try:
            await self.verifier.verify(token)
        except Unauthenticated as error:
            return token not in error.why
        return False


@pytest.fixture
def setup() -> Setup:
    return Setup()


def claims(**changed: Any) -> dict[str, Any]:
    made = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "org": "acme", "exp": NOW + 600}
    return {name: value for name, value in {**made, **changed}.items() if value is not None}


def token(key: Any = RSA, alg: str = "RS256", headers: Any = None, **changed: Any) -> str:
    return jwt.encode(claims(**changed), key, alg, {"kid": "one", **(headers or {})})


async def test_a_good_token_says_who_calls(setup: Setup) -> None:
    """The subject is unique among issuers; words of other services in its scope are ignored."""
    found = await setup.verify(token(scope="openid runs:list:tenant profile runs:fly"))
    assert (found.tenant, found.subject, found.name) == ("acme", f"{ISSUER}|ann", "ann")
    assert found.expires_at == NOW + 600
    assert found.reach(Verb.LIST) == Reach("acme")
    assert found.reach(Verb.CANCEL) == Reach("acme", f"{ISSUER}|ann")
    assert await setup.verifier.verify("no-jwt") is None


BAD: dict[str, Callable[[], str]] = {
    "another issuer": lambda: token(iss="https://login.example.com.evil/"),
    "another audience": lambda: token(aud="other"),
    "no audience": lambda: token(aud=None),
    "no issuer": lambda: token(iss=None),
    "no end": lambda: token(exp=None),
    "no subject": lambda: token(sub=None),
    "no tenant": lambda: token(org=None),
    "a tenant with a slash": lambda: token(org="acme/umbrella"),
    "a subject with a space": lambda: token(sub="ann bob"),
    "expired": lambda: token(exp=NOW - 31),
    "not yet valid": lambda: token(nbf=NOW + 31),
    "an end that is no time": lambda: _raw(exp="soon"),
    "an end in infinity": lambda: _raw(exp=1e999),
    "a subject that is a number": lambda: _raw(sub=7),
    "no key id": lambda: jwt.encode(claims(), RSA, "RS256"),
    "an unknown key id": lambda: token(headers={"kid": "two"}),
    "a key id that is no text": lambda: _signed({"alg": "RS256", "kid": 1}, claims()),
    "another key": lambda: token(OTHER),
    "no algorithm": lambda: _unsigned("none"),
    "no algorithm, written otherwise": lambda: _unsigned("NONE"),
    "the public key as a secret": lambda: _confused("HS256"),
    "another algorithm of the same key": lambda: token(alg="PS256"),
    "an extension that must be understood": lambda: token(headers={"crit": ["b64"], "b64": False}),
    "a changed claim": lambda: _changed(token(), "org", "umbrella"),
    "too long": lambda: token(padding="x" * 9000),
    "nonsense": lambda: "a.b.c",
    "a key of its own": lambda: token(
        OTHER, headers={"jwk": json.loads(RSAAlgorithm.to_jwk(OTHER.public_key()))}
    ),
}


def _part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _signed(header: Any, body: Any) -> str:
    signing = f"{_part(header)}.{_part(body)}"
    signature = jwt.get_algorithm_by_name("RS256").sign(signing.encode(), RSA)
    return f"{signing}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def _raw(**changed: Any) -> str:
    return _signed({"alg": "RS256", "kid": "one"}, claims(**changed))


def _unsigned(alg: str) -> str:
    return f"{_part({'alg': alg, 'kid': 'one'})}.{_part(claims())}."


def _confused(alg: str) -> str:
    public = RSA.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signing = f"{_part({'alg': alg, 'kid': 'one'})}.{_part(claims())}"
    signature = hmac.new(public, signing.encode(), hashlib.sha256).digest()
    return f"{signing}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def _changed(good: str, name: str, value: str) -> str:
    header, _, signature = good.split(".")
    return f"{header}.{_part(claims(**{name: value}))}.{signature}"


@pytest.mark.parametrize("what", BAD)
async def test_a_bad_token_is_refused(setup: Setup, what: str) -> None:
    assert await setup.refuses(BAD[what]())
    assert await setup.verify(token())


async def test_the_clocks_may_differ_by_the_leeway(setup: Setup) -> None:
    assert await setup.verify(token(exp=NOW - 29))
    assert await setup.verify(token(nbf=NOW + 29))


async def test_a_token_is_not_replayed_after_its_end(setup: Setup) -> None:
    """Also one that was verified a moment before, and is remembered."""
    good = token(exp=NOW + 10)
    assert await setup.verify(good)
    setup.now = NOW + 39
    assert await setup.verify(good)
    setup.now = NOW + 41
    assert await setup.refuses(good)


async def test_new_keys_are_found_and_old_ones_let_go(setup: Setup) -> None:
    """By the id of a token that nobody knows yet, or in time."""
    setup.provider.data = published(one=RSA, two=EC)
    by_two = token(EC, "ES256", {"kid": "two"})
    setup.monotonic += 31
    assert (await setup.verify(by_two)).subject.endswith("|ann")
    setup.provider.data = published(two=EC)
    setup.monotonic += 300
    await setup.verify(token(EC, "ES256", {"kid": "two"}, jti="another"))
    fetching = setup.verifier._keys._fetching
    if fetching is not None:
        await fetching
    assert await setup.refuses(token(jti="of a key that is gone"))


async def test_unknown_key_ids_set_off_one_fetch(setup: Setup) -> None:
    """A thousand of them, all at once or one after the other."""
    setup.monotonic += 31
    bad = [token(headers={"kid": f"k{n}"}) for n in range(200)]
    await asyncio.gather(*(setup.refuses(one) for one in bad))
    for one in bad:
        assert await setup.refuses(one)
    assert setup.provider.fetched <= 2


async def test_while_the_provider_is_down_its_last_keys_stand(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    setup.provider.fails = True
    for _ in range(3):
        setup.monotonic += 600
        assert await setup.verify(token(jti=str(setup.monotonic)))
        fetching = setup.verifier._keys._fetching
        if fetching is not None:
            await fetching
    assert "the last ones stand" in caplog.text
    with pytest.raises(OSError, match="no route"):
        Keys(setup.provider.load, 300.0)


@pytest.mark.parametrize(
    "keys",
    ["[]", "{}", '{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "one", "alg": "HS256"}]}', "<"],
)
def test_a_key_set_without_a_usable_key_is_refused(keys: str, tmp_path: Path) -> None:
    """Shared secrets are no keys here."""
    path = tmp_path / "keys"
    path.write_text(keys)
    with pytest.raises(ValueError):  # noqa: PT011  # of json, or ours
        JwtVerifier(JwtOptions(ISSUER, AUDIENCE, keys=str(path)))


def test_the_audience_is_required() -> None:
    with pytest.raises(ValueError, match="audience is required"):
        JwtVerifier(JwtOptions(ISSUER))


@pytest.fixture
def web() -> Iterator[dict[str, tuple[int, Any]]]:
    """A web server of these paths, under the key `url`."""
    pages: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = pages.get(self.path, (404, b""))
            self.send_response(status)
            if status == 302:
                self.send_header("location", body.decode())
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    pages["url"] = f"http://127.0.0.1:{server.server_port}"
    yield pages
    server.shutdown()
    server.server_close()
    thread.join()


async def test_keys_are_found_by_the_providers_own_configuration(web: Any) -> None:
    """Unless it speaks for another issuer, or sends one elsewhere."""
    url = web["url"]
    about = {"issuer": url, "jwks_uri": f"{url}/keys"}
    web["/.well-known/openid-configuration"] = (200, json.dumps(about).encode())
    web["/keys"] = (200, published(one=RSA))
    verifier = JwtVerifier(JwtOptions(url, AUDIENCE))
    import time

    found = await verifier.verify(token(iss=url, exp=time.time() + 60))
    assert found is not None
    assert found.tenant == "default"
    web["/keys"] = (302, f"{url}/other".encode())
    web["/other"] = (200, published(one=OTHER))
    with pytest.raises(OSError):  # noqa: PT011  # urllib's, of the redirect
        JwtVerifier(JwtOptions(url, AUDIENCE))
    web["/.well-known/openid-configuration"] = (200, json.dumps({**about, "issuer": "x"}).encode())
    with pytest.raises(ValueError, match="configuration"):
        JwtVerifier(JwtOptions(url, AUDIENCE))
