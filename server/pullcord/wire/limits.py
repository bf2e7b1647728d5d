"""Limits between proto and domain: unset (0) is no limit in the proto, None in the domain.

Whether a limit is one that a caller may ask for is said by `RunSpec`.
"""

from pullcord.run.usage import Limits
from pullcord.v1 import run_pb2
from pullcord.wire.values import duration, seconds_of


def limits_message(limits: Limits) -> run_pb2.Limits:
    """Writes limits."""
    return run_pb2.Limits(
        timeout=None if limits.timeout is None else duration(limits.timeout),
        max_tokens=limits.max_tokens or 0,
        max_cost=limits.max_cost or 0.0,
        max_steps=limits.max_steps or 0,
        max_tool_calls=limits.max_tool_calls or 0,
    )


def limits_of(message: run_pb2.Limits) -> Limits:
    """Reads limits that a server wrote."""
    return Limits(
        timeout=seconds_of(message.timeout) if message.HasField("timeout") else None,
        max_tokens=message.max_tokens or None,
        max_cost=message.max_cost or None,
        max_steps=message.max_steps or None,
        max_tool_calls=message.max_tool_calls or None,
    )
