"""What it costs to know who calls: the verification by itself, and a call of the whole server.

The servers are in this process, and take turns. The baseline of a call is the server that asks
nobody, on a line that is not encrypted.
"""

import json
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import grpc
import grpc.aio
import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from pullcord import RunServer, runnable
from pullcord.identity.authenticator import Chain, Credentials
from pullcord.identity.jwt import JwtVerifier
from pullcord.identity.options import JwtOptions
from pullcord.identity.tokens import TokenFile
from pullcord.settings import Settings
from pullcord.v1 import run_service_pb2 as v1
from pullcord.v1.run_service_pb2_grpc import RunServiceStub

from tests.bench.figures import Figure, Series, at_most, percentile
from tests.bench.plan import Plan
from tests.identity.callers import Authority, token_of, write_tokens

_ISSUER, _AUDIENCE = "https://login.example.com/", "pullcord"
_CALLS = 500


@runnable
async def echo(input: str) -> str:
    return input


class _Provider:
    """An identity provider's key, and tokens of it."""

    def __init__(self, folder: Path) -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        made = json.loads(RSAAlgorithm.to_jwk(self._key.public_key()))
        path = folder / "keys.json"
        path.write_text(json.dumps({"keys": [{**made, "kid": "one", "alg": "RS256"}]}))
        self.options = JwtOptions(_ISSUER, _AUDIENCE, keys=str(path))
        self._count = 0

    def token(self) -> str:
        """Another one each time."""
        self._count += 1
        claims = {"iss": _ISSUER, "aud": _AUDIENCE, "sub": "ann", "exp": time.time() + 3600}
        made = {**claims, "jti": str(self._count)}
        return jwt.encode(made, self._key, "RS256", {"kid": "one"})


async def measure(plan: Plan) -> list[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        provider = _Provider(folder)
        return [
            *await _verifications(plan, folder, provider),
            *await _calls(plan, folder, provider),
        ]


async def _verifications(plan: Plan, folder: Path, provider: _Provider) -> list[Figure]:
    tokens = TokenFile(write_tokens(folder / "tokens"))
    chain = Chain([tokens, JwtVerifier(provider.options)])
    one = provider.token()
    rows: list[tuple[str, Callable[[], str], Any]] = [
        ("a token of a file", lambda: token_of("ann"), at_most(30)),
        ("a JSON Web Token, remembered", lambda: one, at_most(30)),
        ("a JSON Web Token, RS256, seen for the first time", provider.token, None),
    ]
    figures = []
    for name, make, goal in rows:
        series = Series(f"verification of {name}", "µs", goal)
        for _ in range(plan.rounds):
            count = plan.scaled(_CALLS)
            made = [Credentials([f"Bearer {make()}"]) for _ in range(count)]
            await chain.authenticate(made[0])
            started = perf_counter()
            for credentials in made[1:]:
                await chain.authenticate(credentials)
            series.add((perf_counter() - started) / max(1, count - 1) * 1e6)
        figures.append(series.figure())
    return figures


async def _calls(plan: Plan, folder: Path, provider: _Provider) -> list[Figure]:
    authority = Authority(folder)
    certificate, key = authority.issue("server")
    tls = {"tls_certificate": certificate, "tls_key": key}
    known = {"tokens": folder / "tokens", "jwt": provider.options}
    fixed, one = token_of("ann"), provider.token()
    trusting = grpc.ssl_channel_credentials(authority.path.read_bytes())
    async with AsyncExitStack() as stack:

        async def get(
            token: str, credentials: Any = None, **settings: Any
        ) -> Callable[[], Awaitable[float]]:
            return await stack.enter_async_context(_getting(token, credentials, settings))

        open_to_all = await get("")
        others = {
            "with a token of a file": await get(fixed, **known),
            "with a JSON Web Token": await get(one, **known),
            "over TLS, with a token of a file": await get(fixed, trusting, **known, **tls),
        }
        series = {name: Series(f"GetRun {name}, p50", "µs") for name in others}
        for _ in range(plan.rounds):
            took: dict[str, list[float]] = {name: [] for name in ("", *others)}
            for _ in range(plan.scaled(_CALLS)):
                took[""].append(await open_to_all())
                for name, call in others.items():
                    took[name].append(await call())
            for name, made in series.items():
                made.add(percentile(took[name], 0.5) * 1e6, percentile(took[""], 0.5) * 1e6)
    return [made.figure() for made in series.values()]


@asynccontextmanager
async def _getting(
    token: str, credentials: Any, settings: dict[str, Any]
) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """A call of GetRun on a server with these settings, and the seconds that it takes."""
    server = RunServer(agents=[echo], settings=Settings(_env_file=None, **settings))  # type: ignore[call-arg]
    address = server.start()
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    make = grpc.aio.insecure_channel(address)
    if credentials is not None:
        make = grpc.aio.secure_channel(address, credentials)
    try:
        async with make as channel:
            stub = RunServiceStub(channel)
            start = v1.StartRunRequest()
            start.spec.runnable, start.spec.run_id = "agents/echo", "r"
            await stub.StartRun(start, metadata=metadata)
            await stub.WaitRun(v1.WaitRunRequest(run_id="r"), metadata=metadata)

            async def call() -> float:
                started = perf_counter()
                await stub.GetRun(v1.GetRunRequest(run_id="r"), metadata=metadata)
                return perf_counter() - started

            yield call
    finally:
        server.stop()
