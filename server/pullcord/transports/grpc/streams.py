"""Sending a run's events to one caller. A caller that reads slowly is waited for here only."""

import asyncio

import grpc.aio

from pullcord.engine.log.record import Record
from pullcord.service.following import Following
from pullcord.transports.grpc.calls import Context
from pullcord.wire.event import response_bytes


async def send(following: Following, context: Context) -> None:
    """Sends a run's events until the terminal one, as fast as the caller reads them.

    If the connection breaks in the middle of a message, the caller has left: it ends cancelled.
    """
    run_id, write = following.run_id, context.write
    try:
        while (record := await following.next()) is not None:
            await write(record.wire or _serialized(run_id, record))
    except grpc.aio.InternalError as error:
        raise asyncio.CancelledError from error
    finally:
        following.close()


def _serialized(run_id: str, record: Record) -> bytes:
    record.wire = response_bytes(run_id, record)
    return record.wire
