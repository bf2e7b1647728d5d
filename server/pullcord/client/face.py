"""The common part of both faces of the client: where calls go, as whom, how a run is followed.

A face only adds how it waits: by blocking a thread, or by awaiting. Nothing here waits.
"""

import contextlib
import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any, Generic, Self, TypeVar, Unpack

import grpc

from pullcord.client.calls import (
    DEFAULT_TARGET,
    KEEPALIVE,
    KEEPALIVE_TIMEOUT,
    Metadata,
    Options,
    SpecOptions,
    call_metadata,
    channel_options,
    new_spec,
    starting_metadata,
)
from pullcord.client.resume import Pace, Resume
from pullcord.client.tokens import Token, authorization, check_line
from pullcord.client.verbs import Call
from pullcord.run.record import RunFilter, RunSpec
from pullcord.run.requests import WatchListRequest
from pullcord.run.scope import Scope
from pullcord.v1 import run_service_pb2 as v1
from pullcord.v1.run_service_pb2_grpc import RunServiceStub
from pullcord.wire.actor import principal_metadata, with_actor
from pullcord.wire.errors import from_rpc_error
from pullcord.wire.requests import watch_list_message
from pullcord.wire.spec import spec_message

StreamT = TypeVar("StreamT")
ChannelT = TypeVar("ChannelT")


class Face(ABC, Generic[StreamT, ChannelT]):
    """A client of one server."""

    _grpc: ModuleType
    """The module that makes this face's channels: `grpc` or `grpc.aio`."""
    _options: Options = ()
    """Channel options that this face needs."""

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Iterable[tuple[str, str | bytes]] = (),
        token: Token | None = None,
        tenant: str = "",
        owner: str = "",
        actor: str | None = None,
        options: Iterable[tuple[str, Any]] = (),
        pace: Pace = Pace(),  # noqa: B008  # a frozen value
        keepalive: float = KEEPALIVE,
        keepalive_timeout: float = KEEPALIVE_TIMEOUT,
        channel: ChannelT | None = None,
    ) -> None:
        """
        Args:
            target: the server's address, in gRPC's form.
            credentials: for TLS; None: the connection is not encrypted.
            metadata: sent with every call.
            token: a bearer token, or a function that returns one, which is called before each
                call; `FileToken(path)` reads a file. Goes with `credentials` only, unless the
                server is on this machine.
            tenant: whose runs are meant, for a caller that may see the runs of several tenants.
            owner: likewise, of several callers of a tenant.
            actor: who calls, shown in receipts and events; None: `user@host` of this process.
            options: gRPC channel options; they replace the client's own.
            pace: how the client reconnects to a stream that broke.
            keepalive: seconds of silence, while a call is open, after which the connection is
                pinged.
            keepalive_timeout: seconds without an answer to a ping, after which the connection is
                lost.
            channel: used instead of a new one; its owner closes it.
        """
        if token is not None and channel is None:
            check_line(target, credentials is not None)
        self._token = token
        self._whose = {"tenant": tenant, "owner": owner} if tenant or owner else {}
        self._channel: Any = channel
        self._owns_channel = channel is None
        if channel is None:
            settings = channel_options([*self._options, *options], keepalive, keepalive_timeout)
            if credentials is None:
                self._channel = self._grpc.insecure_channel(target, settings)
            else:
                self._channel = self._grpc.secure_channel(target, credentials, settings)
        self._stub: Any = RunServiceStub(self._channel)
        self._fixed = call_metadata(metadata, actor)
        self.pace = pace

    @property
    def _metadata(self) -> Metadata:
        """The metadata of a call that is made now."""
        return self._fixed if self._token is None else (*self._fixed, authorization(self._token))

    def on_behalf_of(self, tenant: str, subject: str) -> Self:
        """The same client, whose calls are made for somebody else; it shares the connection.

        The server takes it from a caller with the grant `act_as`, for its own tenant, and from
        others it ignores it.
        """
        other = copy.copy(self)
        other._owns_channel = False
        entry = principal_metadata(Scope(tenant, subject))
        other._fixed = (*(e for e in self._fixed if e[0] != entry[0]), entry)
        return other

    def of(self, tenant: str = "", owner: str = "") -> Self:
        """The same client for the runs of one tenant and owner; it shares the connection.

        For a caller that may see the runs of several, two of which may have the same id. Empty:
        the caller's own, else any that it may see.
        """
        other = copy.copy(self)
        other._owns_channel = False
        other._whose = {"tenant": tenant, "owner": owner}
        return other

    def run(
        self,
        runnable: str,
        input: str = "",
        *,
        timeout: float | None = None,
        heartbeats: bool = False,
        **options: Unpack[SpecOptions],
    ) -> StreamT:
        """Starts a run and follows it.

        After `timeout` seconds the run ends with cause DEADLINE, a little before the call does.
        """
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout must be more than 0 seconds, and is {timeout}")
        spec = new_spec(runnable, input, options)
        resume = Resume(spec.run_id, self.pace, starting=True, timeout=timeout)
        return self._follow(resume, spec, heartbeats)

    def watch(
        self,
        run_id: str,
        after_sequence: int = 0,
        *,
        timeout: float | None = None,
        heartbeats: bool = False,
    ) -> StreamT:
        """Follows a run from any event to its end, for at most `timeout` seconds."""
        resume = Resume(run_id, self.pace, after_sequence=after_sequence, timeout=timeout)
        return self._follow(resume, None, heartbeats)

    @abstractmethod
    def _follow(self, resume: Resume, spec: RunSpec | None, heartbeats: bool) -> StreamT: ...

    def open(self, resume: Resume, spec: RunSpec | None) -> Any:
        """Opens a connection for a stream: by Run until the run has begun, else by WatchRun."""
        timeout = resume.opening()
        if spec is not None and not resume.begun:
            request = v1.RunRequest(spec=spec_message(spec))
            metadata = starting_metadata(self._metadata)
            return self._stub.Run(request, timeout=timeout, metadata=metadata)
        watch = v1.WatchRunRequest(
            run_id=resume.run_id, after_sequence=resume.after_sequence, **self._whose
        )
        return self._stub.WatchRun(watch, timeout=timeout, metadata=self._metadata)

    def _open_list(self, resume: Resume, matching: RunFilter | None, after: str) -> Any:
        """Opens a connection for the changes of the list."""
        request = watch_list_message(WatchListRequest(matching or RunFilter(), after))
        for name, value in self._whose.items():
            setattr(request, name, value)
        return self._stub.WatchRuns(request, timeout=resume.opening(), metadata=self._metadata)

    def _send(self, call: Call[Any]) -> Any:
        """Makes a call: the response, or what is awaited for it."""
        metadata = self._metadata
        if call.actor is not None:
            metadata = with_actor(metadata, call.actor)
        if call.is_start:
            metadata = starting_metadata(metadata)
        for name, value in self._whose.items():
            if name in call.request.DESCRIPTOR.fields_by_name:
                setattr(call.request, name, value)
        method = getattr(self._stub, call.method)
        return method(call.request, timeout=call.timeout, metadata=metadata)


@contextlib.contextmanager
def refusals(call: Call[Any]) -> Iterator[None]:
    """Raises a failed call's error as its class in `pullcord.run.errors`.

    gRPC's own error says nothing more, and is not shown with it; it stays in `__context__`.
    """
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error, call.run_id) from None
