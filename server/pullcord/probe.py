"""Asks whether a Pullcord is serving at an address, and answers with the exit code: 0 or 1.

For container health checks: `python -m pullcord.probe [ADDRESS]`. Everything is set by the
environment, much of it already as it is for that server: see docs/deploy.md. It knows gRPC's
standard health service and nothing else of Pullcord; no server code lives here.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

from pullcord.run.loopback import stays_here

DEFAULT_ADDRESS = "127.0.0.1:50051"
# A health check asks this very machine; a proxy set for the models' APIs has no part in it.
OPTIONS = [("grpc.enable_http_proxy", 0)]
TLS = "tls://"
TIMEOUT = 3.0  # seconds; the health service answers in milliseconds whatever the load


def is_serving(address: str, timeout: float = TIMEOUT) -> bool:
    """Tell whether the server at `address` (host:port or tls://host:port) is SERVING.

    A server that drains, that does not answer within `timeout` seconds, or that speaks no gRPC is
    not serving. Raises OSError where a file that is named cannot be read.
    """
    ends = time.monotonic() + timeout
    for channel in _channels(address):
        with channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            left = max(0.0, ends - time.monotonic())
            try:
                response = check(
                    health_pb2.HealthCheckRequest(), timeout=left, metadata=_token(address)
                )
            except grpc.RpcError:
                continue
            return response.status == health_pb2.HealthCheckResponse.SERVING
    return False


def _channels(address: str) -> Iterator[grpc.Channel]:
    """The ways to connect, one after the other until one succeeds."""
    if not address.startswith(TLS):
        yield grpc.insecure_channel(address, options=OPTIONS)
        return
    key, certificate = _file("PULLCORD_CLIENT_KEY"), _file("PULLCORD_CLIENT_CERT")
    # A certificate names the machine as others know it, and this asks the machine itself.
    name = os.environ.get("PULLCORD_PROBE_NAME")
    options = [*OPTIONS, *([("grpc.ssl_target_name_override", name)] if name else [])]
    # The server of the same container may show a certificate that stands for itself.
    trusted = [_file("PULLCORD_CA")]
    if trusted == [None]:
        trusted.append(_file("PULLCORD_TLS_CERTIFICATE"))
    for roots in dict.fromkeys(trusted):
        credentials = grpc.ssl_channel_credentials(roots, key, certificate)
        yield grpc.secure_channel(address.removeprefix(TLS), credentials, options=options)


def _token(address: str) -> tuple[tuple[str, str], ...]:
    """The token, if there is one and nobody can read it on its way. Only gateways ask for it."""
    token = os.environ.get("PULLCORD_TOKEN", "")
    if not token and (file := _file("PULLCORD_TOKEN_FILE")) is not None:
        token = file.decode().strip()
    if token and (address.startswith(TLS) or stays_here(address)):
        return (("authorization", f"Bearer {token}"),)
    return ()


def _file(variable: str) -> bytes | None:
    named = os.environ.get(variable)
    return Path(named).read_bytes() if named else None


def address_of_environment() -> str:
    """The address of the server that this environment is meant for."""
    if probe := os.environ.get("PULLCORD_PROBE"):
        return probe
    host, _, port = os.environ.get("PULLCORD_LISTEN", DEFAULT_ADDRESS).rpartition(":")
    return f"127.0.0.1:{port}" if host in ("", "0.0.0.0", "[::]", "::") else f"{host}:{port}"


def main(arguments: list[str]) -> int:
    """Probe the address in `arguments`, or the default one; return the exit code."""
    address = arguments[0] if arguments else address_of_environment()
    if os.environ.get("PULLCORD_TLS_CERTIFICATE") and "://" not in address:
        address = f"{TLS}{address}"  # the server of the same environment speaks TLS
    try:
        return 0 if is_serving(address) else 1
    except OSError as error:
        print(f"the probe cannot read what it is told to: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
