"""The audit log: a line of JSON for each event, to a sink of its own, and a count of each kind.

An event has ids and names, never an input, an output, a reason or a token. No caller waits for it,
and refusals of one address are written a few times a second at most, and counted all.
"""

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from opentelemetry import metrics, trace

from pullcord import lines
from pullcord.run.caller import Caller

_REFUSALS_A_SECOND = 10
_PEERS = 10_000
"""Addresses whose refusals are remembered; then all are forgotten at once."""

Write = Callable[[bytes], object]


class AuditLog:
    """Fills the port of `service.audit`. Used on one loop."""

    def __init__(
        self,
        write: Write,
        meter: metrics.Meter | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`write` takes a line, and never waits."""
        meter = meter or metrics.get_meter("pullcord")
        self._write = write
        self._clock = clock
        self._counter = meter.create_counter(
            "pullcord.audit.events", description="Starts, stops, decisions and refusals, by outcome"
        )
        self._full = meter.create_counter(
            "pullcord.quota.refusals", description="Calls refused because a share was full"
        )
        self._refused: dict[str, tuple[int, int]] = {}  # by peer: the second, and how many in it
        self._dropped = 0

    def record(
        self, action: str, outcome: str, caller: Caller, *, run_id: str = "", detail: str = ""
    ) -> None:
        """Writes an event."""
        self._counter.add(1, {"action": action, "outcome": outcome})
        if action == "quota.refused":
            self._full.add(1, {"quota": outcome, "of": detail})
        now = self._clock()
        if outcome != "ok" and self._is_flood(_host(caller.peer), int(now)):
            self._dropped += 1
            return
        principal = caller.principal
        event = {
            "time": round(now, 6),
            "action": action,
            "outcome": outcome,
            "tenant": principal.tenant,
            "subject": principal.subject,
            "kind": principal.kind,
            "on_behalf_of": principal.on_behalf_of,
            "claim": caller.claim,
            "peer": caller.peer,
            "run_id": run_id,
            "detail": detail,
            "trace_id": _trace_id(caller),
            "not_written": self._dropped,
        }
        if action == "auth.refused":
            for name in ("tenant", "subject", "kind"):
                del event[name]
        self._dropped = 0
        line = json.dumps({key: value for key, value in event.items() if value != ""})
        self._write(line.replace("\x7f", "\\u007f").encode() + b"\n")

    def _is_flood(self, host: str, second: int) -> bool:
        last, count = self._refused.get(host, (second, 0))
        count = count + 1 if last == second else 1
        if len(self._refused) >= _PEERS:
            self._refused.clear()
        self._refused[host] = (second, count)
        return count > _REFUSALS_A_SECOND


def to_logging(line: bytes) -> None:
    """Hands a line to the standard library's logger `pullcord.audit`, for the program to route."""
    logging.getLogger("pullcord.audit").info("%s", line.decode().rstrip("\n"))


def to_nobody(line: bytes) -> None:
    """Drops a line, which is counted all the same."""


def to_file(path: Path) -> lines.LineWriter:
    """Appends lines to a file that only its owner reads. Close it. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        return lines.LineWriter(fd, "audit log")
    finally:
        os.close(fd)


def _host(peer: str) -> str:
    """The address without the port, which changes with each connection."""
    return peer.rpartition(":")[0] or peer


def _trace_id(caller: Caller) -> str:
    parts = caller.trace.get("traceparent", "").split("-")
    if len(parts) == 4 and len(parts[1]) == 32:
        return parts[1]
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""
