"""Asks whether a Pullcord is serving at an address, and answers with the exit code: 0 or 1.

For container health checks: `python -m pullcord.probe [ADDRESS]`. The address of a server with TLS
is written tls://host:port, or PULLCORD_TLS_CERTIFICATE is set, as it is in that server's container;
PULLCORD_CA, PULLCORD_CLIENT_CERT and PULLCORD_CLIENT_KEY are files. It knows gRPC's standard health
service, which asks nobody who calls, and nothing else of Pullcord; no server code lives here.
"""

import os
import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

DEFAULT_ADDRESS = "127.0.0.1:50051"
# A health check asks this very machine; a proxy set for the models' APIs has no part in it.
OPTIONS = [("grpc.enable_http_proxy", 0)]
TLS = "tls://"
TIMEOUT = 3.0  # seconds; the health service answers in milliseconds whatever the load


def is_serving(address: str, timeout: float = TIMEOUT) -> bool:
    """Tell whether the server at `address` (host:port or tls://host:port) is SERVING.

    A server that drains, that does not answer within `timeout` seconds, or that speaks no gRPC is
    not serving.
    """
    with _channel(address) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            response = check(health_pb2.HealthCheckRequest(), timeout=timeout)
        except grpc.RpcError:
            return False
    return response.status == health_pb2.HealthCheckResponse.SERVING


def _channel(address: str) -> grpc.Channel:
    if not address.startswith(TLS):
        return grpc.insecure_channel(address, options=OPTIONS)
    names = ("PULLCORD_CA", "PULLCORD_CLIENT_KEY", "PULLCORD_CLIENT_CERT")
    files = [os.environ.get(name) or None for name in names]
    read = [None if file is None else Path(file).read_bytes() for file in files]
    credentials = grpc.ssl_channel_credentials(*read)
    # A certificate names the machine as others know it, and this asks the machine itself.
    name = os.environ.get("PULLCORD_PROBE_NAME")
    options = [*OPTIONS, *([("grpc.ssl_target_name_override", name)] if name else [])]
    return grpc.secure_channel(address.removeprefix(TLS), credentials, options=options)


def main(arguments: list[str]) -> int:
    """Probe the address in `arguments`, or the default one; return the exit code."""
    address = arguments[0] if arguments else os.environ.get("PULLCORD_PROBE", DEFAULT_ADDRESS)
    if os.environ.get("PULLCORD_TLS_CERTIFICATE") and "://" not in address:
        address = f"{TLS}{address}"  # the server of the same environment speaks TLS
    try:
        return 0 if is_serving(address) else 1
    except OSError as error:
        print(f"the probe cannot read its certificates: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
