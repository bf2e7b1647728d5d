"""What a gRPC call says of its caller. Nothing here reads a request."""

import grpc.aio
from opentelemetry import propagate

from pullcord.run.caller import Caller
from pullcord.wire.actor import actor_of

Context = grpc.aio.ServicerContext[bytes, bytes]


def caller_of(context: Context) -> Caller:
    """The caller of this call, with the time that it has left now."""
    metadata = context.invocation_metadata() or ()
    fields = propagate.get_global_textmap().fields
    trace = {key: value for key, value in metadata if key in fields and isinstance(value, str)}
    return Caller(actor_of(metadata), context.peer(), _time_remaining(context), trace)


def _time_remaining(context: Context) -> float | None:
    """Seconds until the caller gives up, at most so many; None: it does not.

    gRPC sends a timeout of 1,001 s as one of 1,010 s: it rounds up to a few digits, so that what
    arrives may be a hundredth too long.
    """
    remaining = context.time_remaining()
    if remaining is None:
        return None
    return remaining * 0.99
