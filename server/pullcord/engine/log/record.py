"""Records: one or more events of a run that go out as one message, and how deltas merge into one.

Values, but for two things that are filled in later: what a record was counted as, and its
serialized form. Which records are kept is the log's business.
"""

from array import array
from collections.abc import Iterator, Sequence
from typing import Any

from pullcord.run.events import (
    ContentDelta,
    Event,
    Gap,
    Payload,
    ReasoningDelta,
    Source,
)

MAX_MESSAGE_CHARS = 128 * 1024
"""Merged deltas stop growing here; a delta that is longer becomes several events."""


class Record:
    """One or more events that go out as one message."""

    __slots__ = (
        "count",
        "create_time",
        "json",
        "lengths",
        "nbytes",
        "payload",
        "reasoning",
        "sequence",
        "source",
        "text",
        "wire",
    )

    def __init__(
        self,
        sequence: int,
        count: int,
        create_time: float,
        payload: Payload | None,
        text: str = "",
        source: Source | None = None,
        reasoning: bool = False,
        lengths: "array[int] | None" = None,
    ) -> None:
        self.sequence = sequence
        """Of the last event in it."""
        self.count = count
        self.create_time = create_time
        self.payload = payload
        """None for deltas, which `text` and `reasoning` say."""
        self.text = text
        self.source = source
        self.reasoning = reasoning
        self.lengths = lengths
        """Of the merged deltas, in characters, so that a watcher may begin between two of them."""
        self.nbytes = 0
        """What it was counted as when it was kept: data of an author's may have changed since."""
        self.wire: bytes | None = None
        """The serialized message, once somebody has made it: every watcher sends the same bytes."""
        self.json: bytes | None = None
        """Likewise as JSON; of deltas, which are made in no time, it is not kept."""

    def event(self, run_id: str) -> Event:
        """The event, as a value."""
        payload = self.payload
        if payload is None:
            made = ReasoningDelta if self.reasoning else ContentDelta
            payload = made(self.text, self.count)
        return Event(run_id, self.sequence, self.create_time, payload, self.source)

    @property
    def is_content(self) -> bool:
        """Whether these are content deltas of the run's own runnable."""
        return self.payload is None and self.source is None and not self.reasoning

    def after(self, sequence: int) -> "Record":
        """The part of these merged deltas, or of this gap, that comes after an event within it."""
        seen = sequence - (self.sequence - self.count)
        if isinstance(self.payload, Gap):
            left = Gap(sequence + 1, self.sequence)
            return Record(self.sequence, self.count - seen, self.create_time, left)
        assert self.lengths is not None
        return Record(
            self.sequence,
            self.count - seen,
            self.create_time,
            None,
            self.text[sum(self.lengths[:seen]) :],
            self.source,
            self.reasoning,
            self.lengths[seen:],
        )

    def merges_with(self, other: "Record") -> bool:
        """Whether both are deltas of one voice."""
        return (
            self.payload is None
            and other.payload is None
            and self.reasoning is other.reasoning
            and self.source == other.source
        )


def merged(records: list[Record]) -> Record:
    """One record of these deltas, which are of one voice."""
    last = records[-1]
    lengths = array("I")
    for record in records:
        if record.lengths is None:
            lengths.append(len(record.text))
        else:
            lengths.extend(record.lengths)
    text = "".join(record.text for record in records)
    return Record(
        last.sequence,
        sum(r.count for r in records),
        last.create_time,
        None,
        text,
        last.source,
        last.reasoning,
        lengths,
    )


def portions(texts: Sequence[str]) -> Iterator[list[str]]:
    """The same deltas in messages of a sound size; one that is too long becomes several."""
    portion: list[str] = []
    chars = 0
    for text in texts:
        for start in range(0, max(1, len(text)), MAX_MESSAGE_CHARS):
            portion.append(text[start : start + MAX_MESSAGE_CHARS])
            chars += len(portion[-1])
            if chars >= MAX_MESSAGE_CHARS:
                yield portion
                portion, chars = [], 0
    if portion:
        yield portion


def cut(text: str, items: Sequence[str], room: int) -> tuple[str, list[str]]:
    """The part of these deltas that so many bytes hold."""
    text = text.encode()[:room].decode("utf-8", "ignore")
    kept: list[str] = []
    left = len(text)
    for item in items:
        if left <= 0:
            break
        kept.append(item[:left])
        left -= len(item)
    return text, kept


_ITEM = 16
"""Bytes that each value in data, and each part of a path, takes beside its text, roughly."""


def size_of(payload: Payload | None, source: Source | None) -> int:
    """Bytes that an event takes, roughly: all of its payload's text and data, and its source."""
    return _measure(payload) + _measure(source)


def _measure(value: Any) -> int:
    kind = type(value)
    if kind is str:
        return len(value)
    if kind is dict:
        return sum(_ITEM + len(key) + _measure(item) for key, item in value.items())
    if kind is list or kind is tuple:
        return sum(_ITEM + _measure(item) for item in value)
    if (nbytes := getattr(value, "nbytes", None)) is not None:  # data that is still serialized
        return int(nbytes)
    fields = kind.__dict__.get("__dataclass_fields__", ())  # a value of ours; else it is small
    return sum(_measure(getattr(value, name)) for name in fields)
