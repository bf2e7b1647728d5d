"""RunService over gRPC: its handlers, and the status that each refusal becomes.

What the rpcs do is in `transports.answering`; how events are sent is in `streams`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import grpc
import grpc.aio

from pullcord.run.caller import Caller
from pullcord.transports.answering import SERVICE, ListOpening, Opening, Unary, notice_bytes
from pullcord.transports.faults import refusal_of
from pullcord.transports.front import Front
from pullcord.transports.grpc.calls import Context, incoming
from pullcord.transports.grpc.outgoing import PATIENCE, Outgoing
from pullcord.transports.grpc.streams import patient, send
from pullcord.wire.errors import to_status

T = TypeVar("T")


class OneCall:
    """One call, as the rpcs see it."""

    __slots__ = ("_context", "_outgoing", "caller")

    def __init__(self, caller: Caller, context: Context, outgoing: Outgoing) -> None:
        self.caller = caller
        self._context = context
        self._outgoing = outgoing

    def has_room(self, size: int) -> bool:
        """Whether it would be taken at once."""
        return self._outgoing.has_room(self._context.peer(), size)

    async def room(self, size: int, held: int = 0) -> None:
        """Takes room in the connection until the answer is out, which ends the call's task."""
        task, peer, outgoing = asyncio.current_task(), self._context.peer(), self._outgoing
        assert task is not None
        await outgoing.room(peer, size, PATIENCE, held)
        task.add_done_callback(lambda _: outgoing.free(peer, size))


class RunService:
    """The handlers of pullcord.v1.RunService. Requests and answers are bytes here."""

    def __init__(self, front: Front, outgoing: Outgoing, max_unread: float | None = None) -> None:
        """A stream whose reader takes nothing for `max_unread` seconds is ended."""
        self._front = front
        self._max_unread = max_unread
        self._outgoing = outgoing

    def handler(self) -> grpc.GenericRpcHandler:
        """The handler for a grpc.aio server."""
        answering = self._front.answering
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                **{
                    name: grpc.unary_unary_rpc_method_handler(
                        partial(self._guarded, partial(self._answer, rpc))
                    )
                    for name, rpc in answering.unary.items()
                },
                **{
                    name: grpc.unary_stream_rpc_method_handler(
                        partial(self._guarded, partial(self._stream, rpc))
                    )
                    for name, rpc in answering.streams.items()
                },
                **{
                    name: grpc.unary_stream_rpc_method_handler(
                        partial(self._guarded, partial(self._list, rpc))
                    )
                    for name, rpc in answering.lists.items()
                },
            },
        )

    async def _guarded(
        self, method: Callable[[bytes, Context], Awaitable[T]], data: bytes, context: Context
    ) -> T:
        """Calls a handler; what it raises becomes a status with details."""
        try:
            return await method(data, context)
        except asyncio.CancelledError as error:
            if has_left(error):
                raise
            refusal = refusal_of(error)
        except Exception as error:
            refusal = refusal_of(error)
        status = to_status(refusal)
        refusal.__traceback__ = None  # its frames hold what the call held
        await context.abort(status.code, status.details, status.trailing_metadata)
        raise refusal  # abort has raised: only the type checker comes here

    async def _answer(self, rpc: Unary, data: bytes, context: Context) -> bytes:
        caller = await self._front.callers.of(incoming(context))
        return await rpc(OneCall(caller, context, self._outgoing), data)

    async def _stream(self, rpc: Opening, data: bytes, context: Context) -> None:
        arrived = incoming(context)
        caller = await self._front.callers.of(arrived)
        following = await rpc(OneCall(caller, context, self._outgoing), data)
        if (check := self._front.callers.still(arrived, caller)) is not None:
            following.check_by(check)
        unread = partial(self._front.verbs.ended_unread, caller, following.run_id)
        write = patient(context, self._max_unread, unread)
        await send(following, context, self._outgoing, self._front.encoder, write)

    async def _list(self, rpc: ListOpening, data: bytes, context: Context) -> None:
        arrived = incoming(context)
        caller = await self._front.callers.of(arrived)
        following = await rpc(OneCall(caller, context, self._outgoing), data)
        if (check := self._front.callers.still(arrived, caller)) is not None:
            following.check_by(check)
        unread = partial(self._front.verbs.ended_unread, caller, "")
        write = patient(context, self._max_unread, unread)
        try:
            while True:
                await write(notice_bytes(await following.next()))
        except grpc.aio.InternalError as error:
            raise asyncio.CancelledError from error
        finally:
            following.close()


def has_left(error: asyncio.CancelledError) -> bool:
    """Whether the caller of this task has left, or its connection is broken.

    Else it is one of our own that escaped: gRPC would send no status, and the caller would hang.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0 or isinstance(error.__cause__, grpc.aio.BaseError)
