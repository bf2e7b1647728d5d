"""What holds for every stream of every client, checked event by event, whatever the scenario.

An event comes once and in its order, belongs to the run, and is named as its payload is; nothing
comes after the end; the text of the deltas is the output.
"""

from collections.abc import Sequence
from typing import Any

from pullcord.v1 import event_pb2

from tests.conformance.plain import plain

TERMINAL = ("run_completed", "run_cancelled", "run_failed")


class Fault(Exception):
    """What was seen is not what a sound client shows."""


class Reading:
    """What was read of one stream so far."""

    def __init__(self, run_id: str, after_sequence: int = 0, skips: Sequence[int] = ()) -> None:
        self.run_id = run_id
        self.place = after_sequence
        """The number of the last event."""
        self.text = ""
        """The run's own deltas."""
        self.trail: list[str] = []
        """The payloads' names, those of others as `id:name`; of several in a row just one."""
        self.last: tuple[str, str, Any] = ("", "", None)
        """The last event: whose it is (empty: the run's own), its payload's name, its payload."""
        self.ended = False
        self._is_whole = after_sequence == 0
        self._skips = set(skips)
        self._gap: int | None = None

    def take(self, event: event_pb2.RunEvent, name: str) -> None:
        """Takes note of an event that was shown. Raises Fault."""
        actual = event.WhichOneof("payload")
        who = event.source.id if event.HasField("source") else ""
        shown = f"event {event.sequence} ({name})"
        if self.ended:
            raise Fault(f"{shown} came after the terminal event")
        if name != actual:
            raise Fault(f"{shown} is a {actual}")
        if event.run_id != self.run_id:
            raise Fault(f"{shown} is of run {event.run_id!r}, not {self.run_id!r}")
        if actual == "heartbeat":
            raise Fault("a heartbeat was shown")
        # Another gap, where the line broke between the two.
        if self._gap is not None and actual not in ("gap", "snapshot"):
            raise Fault(f"{shown} came after a gap, where a snapshot belongs")
        if actual == "gap":
            self._take_gap(event)
        elif actual == "snapshot":
            self._take_snapshot(event)
        else:
            self._take_numbered(event, shown)
        if actual == "content_delta" and not who:
            self.text += event.content_delta.text
        payload = plain(getattr(event, actual))
        self.last = (who, actual, payload)
        voice = f"{who}:{actual}" if who else actual
        if self.trail[-1:] != [voice]:
            self.trail.append(voice)
        if actual in TERMINAL and not who:
            self.ended = True
            if self._is_whole and payload["output"] != self.text:
                raise Fault(
                    f"the output has {len(payload['output'])} characters, "
                    f"and the deltas have {len(self.text)}, or others"
                )

    def _take_gap(self, event: event_pb2.RunEvent) -> None:
        if event.gap.last_sequence <= self.place:
            raise Fault(f"a gap was shown up to {event.gap.last_sequence}, seen before")
        self._gap = event.gap.last_sequence

    def _take_snapshot(self, event: event_pb2.RunEvent) -> None:
        if event.sequence < max(self.place, self._gap or 0):
            raise Fault(f"a snapshot of {event.sequence} was shown, older than what was seen")
        self._gap = None
        self.place = event.sequence
        self.text = event.snapshot.run.output
        self._is_whole = True

    def _take_numbered(self, event: event_pb2.RunEvent, shown: str) -> None:
        payload = event.WhichOneof("payload")
        count = max(1, getattr(getattr(event, payload), "count", 0)) if payload else 1
        while self.place + 1 in self._skips:
            self.place += 1
        if event.sequence != self.place + count:
            raise Fault(f"{shown} holds {count} and came after event {self.place}")
        self.place = event.sequence
