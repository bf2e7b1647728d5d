"""The grpc.aio server around RunService: options, health, reflection, and its end.

It owns the gRPC objects and closes them. Runs are the engine's, and outlive it.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from pullcord.engine.engine import Engine
from pullcord.identity.authenticator import Authenticator
from pullcord.service.access import Access, Policy, everybody
from pullcord.service.audit import Audit, NoAudit
from pullcord.service.lanes import Lanes
from pullcord.service.notifier import Notifier
from pullcord.service.quotas import Quotas
from pullcord.service.readers import Readers
from pullcord.service.verbs import Catalog, Verbs
from pullcord.transports.grpc.calls import Callers
from pullcord.transports.grpc.encoding import Encoder
from pullcord.transports.grpc.guarded import Health, Reflection
from pullcord.transports.grpc.service import SERVICE, RunService

_NO_LIMIT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """How the transport behaves. Times are seconds."""

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


@dataclass(frozen=True, slots=True)
class Doors:
    """Who comes in, what they may do and have, and who is told."""

    authenticator: Authenticator | None = None
    """None: nobody is verified, and everybody may do everything."""
    policy: Policy = everybody
    own_approval: bool = True
    """Whether callers may decide about the calls of their own runs."""
    quotas: Quotas = field(default_factory=Quotas)
    audit: Audit = field(default_factory=NoAudit)


class GrpcServer:
    """Serves one engine on one or more addresses. Made, started and stopped on one loop."""

    def __init__(
        self,
        engine: Engine,
        catalog: Catalog,
        options: GrpcOptions,
        doors: Doors | None = None,
    ) -> None:
        """Without doors, everybody may do everything."""
        doors = doors or Doors()
        loop = asyncio.get_running_loop()
        self._notifier = Notifier(loop, options.heartbeat)
        self._lanes = Lanes(loop, engine.options.max_live_runs)
        self._server = grpc.aio.server(options=list(_channel_arguments(options)))
        self._readers = Readers(loop, engine.options.max_finished_bytes)
        access = Access(engine, doors.policy, own_approval=doors.own_approval)
        verbs = Verbs(
            engine,
            catalog,
            self._lanes,
            self._notifier,
            self._readers,
            access,
            doors.quotas,
            doors.audit,
        )
        callers = Callers(doors.authenticator, doors.audit)
        self._encoder = Encoder()
        most, parts = engine.options.max_input_bytes, engine.options.part_bounds
        service = RunService(verbs, callers, self._lanes.requests, self._encoder, most, parts)
        self._server.add_generic_rpc_handlers([service.handler()])
        self._health = Health(callers)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflecting = Reflection(names, callers)
        add: Any = reflection_pb2_grpc.add_ServerReflectionServicer_to_server
        add(reflecting, self._server)
        self._drains = False
        self._troubles: set[str] = set()
        """Parts of the server without which no new run can be executed now."""
        self._tickers: list[asyncio.Task[None]] = []

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
        host = address.rpartition(":")[0]
        return address if address.startswith("unix:") else f"{host}:{port}"

    async def start(self) -> None:
        """Serves."""
        await self._server.start()
        for tick in (self._notifier.tick, self._readers.watch):
            self._tickers.append(asyncio.create_task(tick()))
        await self.set_serving(True)

    async def drain(self) -> None:
        """Tells load balancers that no new runs are taken; every call is still served."""
        await self.set_serving(False)
        self._drains = True

    async def set_serving(self, is_so: bool, part: str = "") -> None:
        """Says by health whether new runs can be executed, as far as one part of the server knows.

        SERVING is what all parts say; no is for good, once the server drains.
        """
        if is_so:
            self._troubles.discard(part)
        else:
            self._troubles.add(part)
        if not self._drains:
            status = health_pb2.HealthCheckResponse
            await self._set_health(status.NOT_SERVING if self._troubles else status.SERVING)

    async def stop(self, grace: float) -> None:
        """Refuses new calls now, and ends those under way after `grace` seconds."""
        await self._server.stop(grace)
        for ticker in self._tickers:
            ticker.cancel()
        await asyncio.gather(*self._tickers, return_exceptions=True)
        self._encoder.close()
        self._lanes.close()

    async def _set_health(self, status: int) -> None:
        for name in ("", SERVICE):
            await self._health.set(name, status)


def _channel_arguments(options: GrpcOptions) -> Iterable[tuple[str, int]]:
    yield "grpc.so_reuseport", int(options.reuse_port)
    yield "grpc.max_receive_message_length", options.max_message_bytes
    yield "grpc.max_send_message_length", -1
    # A burst is refused by us, with a typed error, never shed by the core without a word.
    yield "grpc.server.max_pending_requests", _NO_LIMIT
    yield "grpc.server.max_pending_requests_hard_limit", _NO_LIMIT
    yield "grpc.max_concurrent_streams", options.max_streams
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
