"""A2A over gRPC, beside RunService on the same ports. Needs the extra a2a.

One service is there for all runnables: the `tenant` of a request is the runnable's name. What is
asked is done by `transports.a2a`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from typing import Any

import grpc
import grpc.aio
from a2a.types import InvalidParamsError, a2a_pb2
from a2a.utils.errors import A2AError
from google.protobuf.message import DecodeError, Message
from grpc_status import rpc_status

from pullcord.engine.log.record import Record
from pullcord.run.caller import Caller
from pullcord.run.errors import InvalidArgument, Violation
from pullcord.service.following import Following
from pullcord.transports.a2a.agent import Agent, Call, Flow
from pullcord.transports.a2a.methods import STREAMS, Method, check_version, methods
from pullcord.transports.a2a.refusals import refusal
from pullcord.transports.answering import LARGE
from pullcord.transports.faults import refusal_of
from pullcord.transports.front import Front
from pullcord.transports.grpc.calls import Context, incoming
from pullcord.transports.grpc.outgoing import Outgoing
from pullcord.transports.grpc.service import OneCall, has_left
from pullcord.transports.grpc.streams import patient

_SERVICE: Any = a2a_pb2.DESCRIPTOR.services_by_name["A2AService"]
A2A: str = _SERVICE.full_name


class A2AService:
    """The handlers of A2A's service. Requests and answers are bytes here."""

    def __init__(
        self, front: Front, outgoing: Outgoing, max_unread: float | None, default: str
    ) -> None:
        """`default`: the runnable of calls that name none, if there are several."""
        self._front = front
        self._outgoing = outgoing
        self._max_unread = max_unread
        self._default = default
        self._methods = methods(Agent(front, _records))

    def handler(self) -> grpc.GenericRpcHandler:
        """The handler for a grpc.aio server."""
        made: dict[str, Any] = {}
        for name, method in self._methods.items():
            handle = partial(self._guarded, method)
            if name in STREAMS:
                made[name] = grpc.unary_stream_rpc_method_handler(handle)
            else:
                made[name] = grpc.unary_unary_rpc_method_handler(handle)
        return grpc.method_handlers_generic_handler(A2A, made)

    async def _guarded(self, method: Method, data: bytes, context: Context) -> bytes | None:
        """Calls a method; what it raises becomes a status with details."""
        try:
            return await self._answer(method, data, context)
        except asyncio.CancelledError as error:
            if has_left(error):
                raise
            said = refusal(refusal_of(error))
        except A2AError as error:
            said = refusal(error)
        except Exception as error:
            said = refusal(refusal_of(error))
        status = rpc_status.to_status(said.status)
        await context.abort(status.code, status.details, status.trailing_metadata)
        return None  # abort has raised: only the type checker comes here

    async def _answer(self, method: Method, data: bytes, context: Context) -> bytes | None:
        kind, ask = method
        arrived = incoming(context)
        caller = await self._front.callers.of(arrived)
        for key, value in arrived.metadata:
            if key == "a2a-version":
                check_version(str(value))
        request = _read(kind, data)
        named = getattr(request, "tenant", "") or await self._only(caller)
        call = Call(caller, named, self._front.callers.still(arrived, caller))
        given = await ask(call, request)
        if isinstance(given, Flow):
            await self._send(given, caller, context)
            return None
        answer = given.SerializeToString()
        if len(answer) >= LARGE:
            await OneCall(caller, context, self._outgoing).room(len(answer))
        return answer

    async def _only(self, caller: Caller) -> str:
        """The runnable of a call that names none. Raises InvalidArgument."""
        names = [info.name for info in await self._front.verbs.runnables(caller)]
        if self._default in names:
            return self._default
        if len(names) != 1:
            words = "must name the runnable, such as 'agents/story-writer': there are several"
            raise InvalidArgument(Violation("tenant", words if names else "nothing is served here"))
        return names[0]

    async def _send(self, flow: Flow, caller: Caller, context: Context) -> None:
        """Sends a stream as fast as the caller reads it."""
        unread = partial(self._front.verbs.ended_unread, caller, flow.run_id)
        write, peer = patient(context, self._max_unread, unread), context.peer()
        with closing(flow):
            try:
                async for response in flow.responses():
                    if response is None:
                        continue  # connections are kept alive by gRPC itself
                    data = response.SerializeToString()
                    if len(data) < LARGE:
                        await write(data)
                        continue
                    await self._outgoing.room(peer, len(data), held=len(data))
                    try:
                        await write(data)
                    finally:
                        self._outgoing.free(peer, len(data))
            except grpc.aio.InternalError as error:
                raise asyncio.CancelledError from error


async def _records(following: Following) -> AsyncIterator[Record]:
    while await following.ready() is not None:
        yield following.take()


def _read(kind: type[Message], data: bytes) -> Message:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise InvalidParamsError(f"the request is no {kind.DESCRIPTOR.full_name}") from None
