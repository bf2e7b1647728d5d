"""Asks whether a Pullcord is serving at an address, and answers with the exit code: 0 or 1.

For container health checks: `python -m pullcord.probe [ADDRESS]`. It knows gRPC's standard health
service and nothing else of Pullcord; no server code lives here.
"""

import sys

import grpc
from grpc_health.v1 import health_pb2

DEFAULT_ADDRESS = "127.0.0.1:50051"
# A health check asks this very machine; a proxy set for the models' APIs has no part in it.
OPTIONS = [("grpc.enable_http_proxy", 0)]
TIMEOUT = 3.0  # seconds; the health service answers in milliseconds whatever the load


def is_serving(address: str, timeout: float = TIMEOUT) -> bool:
    """Tell whether the server at `address` (host:port, plaintext) answers SERVING in `timeout` s.

    A server that drains, that is not there, or that speaks no gRPC is not serving.
    """
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
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


def main(arguments: list[str]) -> int:
    """Probe the address in `arguments`, or the default one; return the exit code."""
    address = arguments[0] if arguments else DEFAULT_ADDRESS
    return 0 if is_serving(address) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
