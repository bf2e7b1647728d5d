"""The common part of both streams: the run that is followed, and which of its events are shown.

Nothing here waits or reads a connection; the streams do, each in its own way.
"""

from typing import Generic, TypeVar

from pullcord.client import verbs
from pullcord.client.resume import Result, Resume
from pullcord.client.verbs import Call, StreamCancelOptions
from pullcord.run.events import Event, Heartbeat
from pullcord.run.record import Receipt, RunSpec
from pullcord.v1 import event_pb2
from pullcord.wire.event import event_of

ClientT = TypeVar("ClientT")


class Following(Generic[ClientT]):
    """One run that is followed, over as many connections as it takes."""

    def __init__(
        self, client: ClientT, resume: Resume, spec: RunSpec | None, heartbeats: bool
    ) -> None:
        self.run_id = resume.run_id
        self._client = client
        self._resume = resume
        self._spec = spec
        self._heartbeats = heartbeats

    @property
    def result(self) -> Result | None:
        """The payload of the terminal event; None until it was seen."""
        return self._resume.result

    @property
    def outcome(self) -> Result:
        """The terminal event, once the stream has ended. Raises RuntimeError before."""
        if self._resume.result is None:
            raise RuntimeError(f"run {self.run_id!r} has not ended, as far as this stream has seen")
        return self._resume.result

    @property
    def after_sequence(self) -> int:
        """The number of the last event seen: where another watch can continue."""
        return self._resume.after_sequence

    @property
    def reconnecting(self) -> bool:
        """Whether the connection was lost and is being made again; nothing has come since."""
        return self._resume.reconnecting

    def _shown(self, message: event_pb2.RunEvent) -> Event | None:
        """Takes note of an event; None if the caller has seen it, or is not to see it."""
        event = event_of(message)
        if event is None:
            self._resume.skip(message.sequence)
            return None
        is_new = self._resume.admit(event)
        is_shown = self._heartbeats or not isinstance(event.payload, Heartbeat)
        return event if is_new and is_shown else None

    def _stop(self, reason: str, options: StreamCancelOptions) -> Call[Receipt]:
        before_start = not self._resume.begun
        return verbs.cancel(self.run_id, reason, {**options, "before_start": before_start})
