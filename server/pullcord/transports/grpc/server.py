"""The grpc.aio server around RunService: options, health, reflection, and its end.

It owns the gRPC objects and closes them. Runs are the engine's, and outlive it.
"""

import asyncio
import contextlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from pullcord.transports.answering import SERVICE
from pullcord.transports.front import Front
from pullcord.transports.grpc.guarded import Health, Reflection
from pullcord.transports.grpc.outgoing import Outgoing
from pullcord.transports.grpc.service import RunService

_NO_LIMIT = 2**31 - 1
_PENDING = 6_000
"""Calls that have arrived and that nobody has begun to handle."""
_SOCKET = 0o660
"""The mode of a Unix socket: a process that may write to it may do everything."""


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """The options of the gRPC transport. Times are seconds."""

    heartbeat: float = 15.0
    """A stream on which nothing happened for so long gets a heartbeat."""
    keepalive: float = 20.0
    """A connection on which nothing was heard for so long is pinged, and after `keepalive_timeout`
    without an answer it is gone, and its runs' disconnect policies hold."""
    keepalive_timeout: float = 10.0
    max_message_bytes: int = 16 * 1024 * 1024
    """The largest request. More: RESOURCE_EXHAUSTED by gRPC itself, before we see it."""
    reuse_port: bool = False
    """Whether several processes may listen on one port."""
    max_streams: int = 5000
    """Calls that one connection has open at a time. The client keeps further ones waiting."""
    max_idle: float = 300.0
    """A connection without a call is closed after so long."""
    handshake: float = 10.0
    """A connection that has not become one of HTTP/2 after so long is closed."""
    max_connections: int = _NO_LIMIT - 1
    """Of each address. More are closed at once. At 2**31 - 1 gRPC's core aborts the process."""
    max_header_bytes: int = 16 * 1024
    """Metadata of a call. More: RESOURCE_EXHAUSTED by gRPC itself."""
    max_unread: float | None = None
    """A stream whose reader takes nothing for so long is ended; None: it never is."""
    a2a: bool = False
    """Whether A2A is served, too, which needs its extra."""
    a2a_agent: str = ""
    """The runnable of A2A's calls that name none, if there are several."""


class GrpcServer:
    """Serves one engine on one or more addresses. Made, started and stopped on one loop."""

    def __init__(self, front: Front, options: GrpcOptions) -> None:
        self._front = front
        self._server = grpc.aio.server(options=list(_channel_arguments(options)))
        outgoing = Outgoing()
        service = RunService(front, outgoing, options.max_unread)
        self._server.add_generic_rpc_handlers([service.handler()])
        self._services = [SERVICE]
        if options.a2a:
            from pullcord.transports.grpc.a2a import A2A, A2AService

            a2a = A2AService(front, outgoing, options.max_unread, options.a2a_agent)
            self._server.add_generic_rpc_handlers([a2a.handler()])
            self._services.append(A2A)
        self._health = Health(front.callers)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        add: Any = reflection_pb2_grpc.add_ServerReflectionServicer_to_server
        add(Reflection(names, front.callers), self._server)
        self._saying: set[asyncio.Task[None]] = set()

    def listen(self, address: str, credentials: grpc.ServerCredentials | None = None) -> str:
        """Adds an address to serve, before the start; returns it with the port it really has.

        Raises:
            OSError: the address cannot be listened on.
        """
        try:
            if credentials is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(
                f"cannot listen on {address!r}: it is in use, or not an address"
            ) from error
        if address.startswith("unix:"):
            with contextlib.suppress(OSError):  # it may be none that we may change
                Path(address.removeprefix("unix:").removeprefix("//")).chmod(_SOCKET)
            return address
        host = address.rpartition(":")[0]
        return f"{host}:{port}"

    async def start(self) -> None:
        """Serves."""
        await self._server.start()
        self._front.on_serving(self._say)
        await self._set_health(self._front.is_serving)

    async def stop(self, grace: float) -> None:
        """Refuses new calls now, and ends those under way after `grace` seconds."""
        await self._server.stop(grace)
        await asyncio.gather(*self._saying, return_exceptions=True)

    def _say(self, is_serving: bool) -> None:
        said = asyncio.create_task(self._set_health(is_serving))
        self._saying.add(said)
        said.add_done_callback(self._saying.discard)

    async def _set_health(self, is_serving: bool) -> None:
        status = health_pb2.HealthCheckResponse
        for name in ("", *self._services):
            await self._health.set(name, status.SERVING if is_serving else status.NOT_SERVING)


def most_connections() -> int:
    """The number of connections that leaves as many files for the rest of the process."""
    if sys.platform == "win32":
        return _NO_LIMIT
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _NO_LIMIT if soft == resource.RLIM_INFINITY else max(1, soft // 2)


def _channel_arguments(options: GrpcOptions) -> Iterable[tuple[str, int]]:
    yield "grpc.so_reuseport", int(options.reuse_port)
    yield "grpc.max_receive_message_length", options.max_message_bytes
    yield "grpc.max_send_message_length", -1
    # A burst is refused by us, with a typed error, and not shed by the core without a word. What
    # is far more than any burst is a flood: streams that are opened and reset at once wait here,
    # where without a bound they take gigabytes within seconds and keep out everybody else.
    yield "grpc.server.max_pending_requests", _PENDING
    yield "grpc.server.max_pending_requests_hard_limit", _PENDING
    yield "grpc.max_concurrent_streams", options.max_streams
    yield "grpc.max_allowed_incoming_connections", options.max_connections
    # Between the two the core would refuse some calls and not others.
    yield "grpc.max_metadata_size", options.max_header_bytes
    yield "grpc.absolute_max_metadata_size", options.max_header_bytes
    yield "grpc.max_connection_idle_ms", int(options.max_idle * 1000)
    yield "grpc.server_handshake_timeout_ms", int(options.handshake * 1000)
    # A client that dies without a word is noticed within keepalive + keepalive_timeout.
    yield "grpc.keepalive_time_ms", int(options.keepalive * 1000)
    yield "grpc.keepalive_timeout_ms", int(options.keepalive_timeout * 1000)
    # Or the core waits a minute for the answer to a ping, whatever keepalive_timeout says.
    yield "grpc.http2.ping_timeout_ms", int(options.keepalive_timeout * 1000)
    yield "grpc.keepalive_permit_without_calls", 1
    yield "grpc.http2.max_pings_without_data", 0
    yield "grpc.http2.min_ping_interval_without_data_ms", 5000
