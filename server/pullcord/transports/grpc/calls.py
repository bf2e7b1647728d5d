"""Reads a gRPC call's metadata into the form of all transports. Verifies no caller."""

import time

import grpc.aio

from pullcord.transports.calls import Incoming

Context = grpc.aio.ServicerContext[bytes, bytes]

_IDS = ("peer_spiffe_id", "peer_uri", "peer_dns")
"""Names of a certificate that identify it, in this order; never its common name."""


def incoming(context: Context) -> Incoming:
    """The metadata of this call, with the time that it has left now."""
    about = context.auth_context()
    ids: list[str] = []
    for kind in _IDS:
        ids += [value.decode(errors="replace") for value in about.get(kind, ())]
    return Incoming(
        metadata=tuple(context.invocation_metadata() or ()),
        peer=context.peer(),
        certificate=list(dict.fromkeys(ids)),
        encrypted=any(
            kind in (b"ssl", b"tls") for kind in about.get("transport_security_type", ())
        ),
        deadline=_deadline(context),
    )


def _deadline(context: Context) -> float | None:
    """When the caller gives up, at the latest (monotonic); None: it does not.

    gRPC sends a timeout of 1,001 s as one of 1,010 s: it rounds up to a few digits, so that what
    arrives may be a hundredth too long.
    """
    remaining = context.time_remaining()
    if remaining is None:
        return None
    return time.monotonic() + remaining * 0.99
