"""Values that both faces of the client use: the channel's options, the caller, the request.

Nothing here calls a server; the faces do, each in its own way.
"""

import getpass
import os
import socket
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from opentelemetry import propagate

from pullcord.run import gate
from pullcord.run.message import Message, Part
from pullcord.run.record import DisconnectPolicy, RunSpec, SessionPolicy
from pullcord.run.usage import Limits
from pullcord.wire.actor import actor_metadata

DEFAULT_TARGET = "127.0.0.1:50051"
CALL_TIMEOUT = 30.0
"""Seconds that a call may take which neither follows a run nor waits for one."""
LONGEST_CALL = 100 * 365 * 86_400.0
"""Seconds, a hundred years. gRPC counts 64-bit nanoseconds: a deadline that needs more has passed
already."""

KEEPALIVE = 30.0
KEEPALIVE_TIMEOUT = 10.0

Options = Sequence[tuple[str, Any]]
Metadata = tuple[tuple[str, str | bytes], ...]

MIB = 1024 * 1024
CHANNEL_OPTIONS: Options = (
    # A terminal event repeats all of a run's output, and a snapshot its input besides.
    ("grpc.max_receive_message_length", 64 * MIB),
    ("grpc.max_send_message_length", 64 * MIB),
    # Else gRPC waits up to two minutes before it tries a server again that has come back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 3_000),
)


class SpecOptions(TypedDict, total=False):
    """The options of a run, besides its runnable and its input."""

    run_id: str
    """Minted by the client where it is left out, so that a retry starts nothing twice."""
    session_id: str
    user_id: str
    limits: Limits
    input_data: Mapping[str, Any] | None
    """A value that JSON can hold."""
    on_disconnect: DisconnectPolicy | None
    lease: float | None
    """Seconds, with on_disconnect LEASE."""
    labels: Mapping[str, str]
    session_policy: SessionPolicy | None
    parts: Sequence[Part]
    """The rest of the user's turn, after the input."""
    messages: Sequence[Message]
    """The messages before this turn; they replace the session's own turns."""
    retry_of: str
    """A run of the same session whose turn this one replaces."""


def new_spec(runnable: str, input: str, options: SpecOptions) -> RunSpec:
    """The spec of a run, with an id of its own.

    Raises TypeError or ValueError that names the field, for a value of the wrong type.
    """
    spec: dict[str, Any] = {**options}
    spec["run_id"] = spec.get("run_id") or str(uuid.uuid4())
    for name in ("parts", "messages"):
        spec[name] = spec.get(name) or ()
    if isinstance(input, Mapping):
        raise TypeError("input must be text, not a mapping: data goes into input_data")
    return gate.spec(RunSpec(runnable=runnable, input=input, **spec))


def channel_options(
    options: Iterable[tuple[str, Any]],
    keepalive: float = KEEPALIVE,
    keepalive_timeout: float = KEEPALIVE_TIMEOUT,
) -> Options:
    """The channel's options; the caller's come last and win."""
    merged = {
        **dict(CHANNEL_OPTIONS),
        "grpc.keepalive_time_ms": int(keepalive * 1000),
        "grpc.keepalive_timeout_ms": int(keepalive_timeout * 1000),
        **dict(options),
    }
    # Or the core waits a minute for the answer to a ping, whatever keepalive_timeout says.
    merged.setdefault("grpc.http2.ping_timeout_ms", merged["grpc.keepalive_timeout_ms"])
    return tuple(merged.items())


def call_metadata(metadata: Iterable[tuple[str, str | bytes]], actor: str | None) -> Metadata:
    """The metadata of every call: the caller's own entries, and its name."""
    return (*metadata, actor_metadata(default_actor() if actor is None else actor))


def starting_metadata(metadata: Metadata) -> Metadata:
    """The metadata of a call that starts a run: with the trace, unless the caller gives one."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    said = {key for key, _ in metadata}
    trace = ((key.lower(), value) for key, value in carrier.items())
    return (*metadata, *(entry for entry in trace if entry[0] not in said))


def default_actor() -> str:
    """The user of this process and its host, such as `ann@host`."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = f"uid-{os.getuid()}" if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}"
