"""Sending a run's events to one caller. A caller that reads slowly is waited for here only."""

import asyncio
from collections.abc import Awaitable, Callable

import grpc.aio

from pullcord.engine.log.record import Record
from pullcord.run.errors import ServerBusy
from pullcord.run.events import Snapshot
from pullcord.service.following import Following
from pullcord.transports.answering import LARGE, weight
from pullcord.transports.encoding import Encoder
from pullcord.transports.grpc.calls import Context
from pullcord.transports.grpc.outgoing import Outgoing
from pullcord.wire.event import response_bytes

Write = Callable[[bytes], Awaitable[object]]


def patient(context: Context, patience: float | None, on_unread: Callable[[], None]) -> Write:
    """Writes to a stream; it raises ServerBusy if its reader takes nothing for `patience` seconds.
    None: it waits for ever. The refusal waits in its turn behind what is not taken."""
    if patience is None:
        return context.write

    async def write(data: bytes) -> None:
        try:
            async with asyncio.timeout(patience):
                await context.write(data)
        except TimeoutError:
            on_unread()
            words = (
                f"the stream was not read for {patience:g} s; watch the run after its last event"
            )
            raise ServerBusy(words) from None

    return write


async def send(
    following: Following,
    context: Context,
    outgoing: Outgoing,
    encoder: Encoder,
    write: Write | None = None,
) -> None:
    """Sends a run's events until the terminal one, as fast as the caller reads them.

    If the connection breaks in the middle of a message, the caller has left: it ends cancelled.
    """
    run_id, write = following.run_id, write or context.write
    try:
        while (record := await following.ready()) is not None:
            size = _size(record)
            if size < LARGE:
                following.take()
                await write(record.wire or _serialized(run_id, record))
                continue
            del record  # while it waits for room, it is the following's to let go
            peer = context.peer()
            await outgoing.room(peer, size)
            try:
                await write(await encoder.event(run_id, following.take()))
            finally:
                outgoing.free(peer, size)
    except grpc.aio.InternalError as error:
        raise asyncio.CancelledError from error
    finally:
        following.close()


def _size(record: Record) -> int:
    payload = record.payload
    if payload is None:
        return len(record.text)
    return weight(payload.run) if isinstance(payload, Snapshot) else record.nbytes


def _serialized(run_id: str, record: Record) -> bytes:
    record.wire = response_bytes(run_id, record)
    return record.wire
