"""What one watcher of a run was shown, at whichever servers it was; what must never be shown is
said at once.
"""

from dataclasses import dataclass, field

from pullcord.run.events import ContentDelta, Event, Gap, Heartbeat, Snapshot


@dataclass
class Shown:
    """The numbered events, in the order in which they came."""

    run_id: str
    numbers: list[int] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    end: tuple[int, str] | None = None
    text: str = ""
    """What the run's own deltas say."""
    gaps: int = 0

    @property
    def last(self) -> int:
        """The number to go on after."""
        return self.numbers[-1] if self.numbers else 0

    def note(self, event: Event) -> list[str]:
        """Takes an event; what is wrong with it."""
        payload, wrong = event.payload, []
        if isinstance(payload, (Heartbeat, Snapshot)):
            return []
        last = self.last
        first = payload.first_sequence if isinstance(payload, Gap) else None
        if event.sequence <= last or (first is not None and first != last + 1):
            wrong.append(f"{self.run_id}: {event.sequence} was shown after {last}")
        count = getattr(payload, "count", 1)
        if first is None and event.sequence - count != last:
            wrong.append(
                f"{self.run_id}: {event.sequence} holds {count}, and {last} was shown before"
                f" ({type(payload).__name__} after {self.steps[-5:]})"
            )
        self.gaps += first is not None
        if isinstance(payload, ContentDelta) and event.source is None:
            self.text += payload.text
        self.numbers.append(event.sequence)
        self.steps.append(f"{event.sequence} {type(payload).__name__}")
        if event.is_terminal:
            self.end = (event.sequence, type(payload).__name__)
        return wrong
