"""The numbered events of a log: kept up to a bound, and shown up to a number. No locks, no wakers.

The log, whose lock makes each call here one step, hands over what producers have said; here it gets
its numbers, becomes records, and is trimmed at the front. The content of the run's own runnable is
summed up on the way, up to its bound.
"""

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from time import time

from pullcord.engine.log.record import (
    MAX_MESSAGE_CHARS,
    Record,
    cut,
    merged,
    portions,
    size_of,
)
from pullcord.run.events import Gap, Payload, Source
from pullcord.run.plain import valid

LONG = 256
"""A longer delta takes the long way, and is numbered at once."""
_OVERHEAD = 200
"""Bytes that a record takes beside its text, roughly."""
_COPIED = 16 * 1024
"""Characters of merged deltas beside which a reader is given no others."""
UNBOUNDED = 1 << 62
"""The `visible` of a log whose events are all shown."""
Item = str | tuple[str, Source | None, bool]


class Numbered:
    """The records of one log, in the order of their numbers."""

    __slots__ = (
        "_hidden",
        "_max_bytes",
        "_max_output",
        "_max_records",
        "_output",
        "_released",
        "_start",
        "_trimmed",
        "closed",
        "held_at",
        "holds_end",
        "last_sequence",
        "nbytes",
        "on_output_full",
        "output_size",
        "records",
        "visible",
    )

    def __init__(
        self,
        max_bytes: int,
        max_records: int,
        max_output: int,
        on_output_full: Callable[[], None],
        visible: int,
        holds_end: bool,
    ) -> None:
        self.records: list[Record] = []
        """Those before `_start` are trimmed, and about to be deleted."""
        self._start = 0
        self._trimmed = 0  # records deleted from the front of `records`, ever
        self._max_bytes = max_bytes
        self._max_records = max_records
        self._max_output = max_output
        self.on_output_full = on_output_full
        self._output: list[str] = []
        self.output_size = 0
        """Bytes of all content, also of what has been trimmed."""
        self._hidden: deque[tuple[int, int]] = deque()  # content above `visible`: number, length
        self.holds_end = holds_end
        """Whether the terminal event is not shown yet, however high `visible` is."""
        self.held_at = 0
        """The number of an event after which nothing is shown until `release`; 0: there is none."""
        self._released = visible  # the `visible` once nothing is held
        self.visible = visible
        self.nbytes = 0
        self.last_sequence = 0
        self.closed = False

    # --- numbering

    def add(self, payload: Payload, source: Source | None) -> None:
        """Any event but a delta."""
        self.last_sequence += 1
        record = Record(self.last_sequence, 1, time(), payload, source=source)
        self.keep(record, size_of(payload, source))

    def add_one(self, text: str) -> bool:
        """A single short delta, which is nearly all that a reader who keeps up sees; False: it
        takes the long way."""
        size = len(text)
        if size > LONG or not text.isascii() or size >= self._max_output - self.output_size:
            return False
        self.output_size += size
        self._output.append(text)
        self.last_sequence += 1
        if self.last_sequence > self.visible:
            self._hidden.append((self.last_sequence, size))
        self.keep(Record(self.last_sequence, 1, time(), None, text), size + 4)
        return True

    def add_all(self, items: list[Item]) -> None:
        """Deltas that came together: one record for each voice in turn."""
        try:
            self.add_text(items, None, False)  # nearly always: all of one voice
        except TypeError:
            self._add_mixed(items)

    def add_text(self, items: Sequence[Item], source: Source | None, reasoning: bool) -> None:
        """Deltas of one voice. Raises TypeError, with nothing changed, where an item is no text."""
        text = items[0] if len(items) == 1 else "".join(items)  # type: ignore[arg-type]  # TypeError is the caller's
        if not isinstance(text, str):
            raise TypeError
        texts: Sequence[str] = items  # type: ignore[assignment]  # as was just seen
        if len(text) > MAX_MESSAGE_CHARS:
            for portion in portions(texts):
                self._add_portion(portion, "".join(portion), source, reasoning)
        else:
            self._add_portion(texts, text, source, reasoning)

    def keep(self, record: Record, size: int) -> None:
        """A record that has its numbers, and takes so many bytes beside its overhead."""
        self.records.append(record)
        record.nbytes = size + _OVERHEAD
        self.nbytes += record.nbytes
        if self.nbytes > self._max_bytes or len(self.records) - self._start > self._max_records:
            self._trim()

    def close(self) -> None:
        """The terminal event is in."""
        self.closed = True
        self.on_output_full = nobody  # or an ended run's log would keep its owner alive
        if self.holds_end:
            self.visible = min(self.visible, self.last_sequence - 1)

    def take_end_back(self) -> None:
        """Removes the terminal event, which was not shown."""
        self.nbytes -= self.records.pop().nbytes
        self.last_sequence -= 1

    def give_way(self, end: Record) -> None:
        """Keeps what may be shown, and behind a gap this terminal event, which was numbered by
        others."""
        kept = self._end() - (self.closed and self.last_sequence <= self.visible)
        for record in self.records[kept:]:
            self.nbytes -= record.nbytes
        del self.records[kept:]
        self._hidden.clear()
        last = self.records[-1].sequence if kept > self._start else self.first_sequence() - 1
        before = end.sequence - end.count
        if before > last:
            self.keep(Record(before, before - last, end.create_time, Gap(last + 1, before)), 0)
        self.keep(end, len(end.wire or b""))
        self.last_sequence = end.sequence
        self.closed, self.holds_end, self.visible, self.held_at = True, False, UNBOUNDED, 0

    # --- content

    def content(self) -> str:
        """All content of the run's own runnable."""
        self._output = ["".join(self._output)]
        return self._output[0]

    def shown_content(self) -> str:
        """The part of the content that may be shown."""
        content = self.content()
        return content[: len(content) - sum(length for _, length in self._hidden)]

    def note_content(self, text: str) -> None:
        """Content of a record that was numbered elsewhere."""
        self._output.append(text)

    @property
    def is_full(self) -> bool:
        """Whether the content reaches its bound, so that text may be missing."""
        return self.output_size >= self._max_output

    # --- what may be shown

    def hold(self) -> None:
        """What comes after the last event is shown only after `release`."""
        self.held_at, self._released = self.last_sequence, self.visible
        self.visible = min(self.visible, self.last_sequence)

    def release(self) -> int:
        """Nothing is held any more; the number up to which events may be shown now."""
        self.held_at = 0
        return self._released

    def show(self, visible: int) -> None:
        """Events up to this number may be shown from now on; those that are held, afterwards."""
        if self.held_at:
            self._released = max(visible, self._released)
            visible = max(self.visible, min(visible, self.held_at))
        self.visible = visible
        while self._hidden and self._hidden[0][0] <= visible:
            self._hidden.popleft()

    @property
    def last_shown(self) -> int:
        """The last number that may be shown."""
        if self.last_sequence <= self.visible:
            return self.last_sequence
        end = self._end()
        if end > self._start:
            return self.records[end - 1].sequence
        return min(self.visible, self.first_sequence() - 1)

    # --- reading

    def first_sequence(self) -> int:
        """The number of the first event that is kept; one past the last if there is none."""
        if self._start == len(self.records):
            return self.last_sequence + 1
        first = self.records[self._start]
        return first.sequence - first.count + 1

    def after(self, sequence: int) -> int:
        """The index of the first kept record that holds an event after this one."""
        if len(self.records) > self._start:  # nearly always all but the last one, or all
            last = self.records[-1]
            if last.sequence <= sequence:
                return len(self.records)
            if last.sequence - last.count <= sequence:
                return len(self.records) - 1
        return bisect_right(self.records, sequence, lo=self._start, key=lambda r: r.sequence)

    def position(self, sequence: int) -> int:
        """The same as a place that stays when records are trimmed."""
        return self.after(sequence) + self._trimmed

    def has(self, position: int) -> bool:
        """Whether something that may be shown is at this place, or nothing comes any more."""
        if self.last_sequence <= self.visible:
            return self.closed or position - self._trimmed < len(self.records)
        return position - self._trimmed < self._end()

    def read(self, position: int, after_sequence: int, limit: int) -> tuple[list[Record], int]:
        """At most `limit` messages from a position on, deltas merged, and the next position.

        Merged deltas are a copy of the reader's own. A large one comes alone, so that a reader that
        stands still holds no more than one.

        Raises:
            Trimmed: events after `after_sequence` are no longer kept.
        """
        records = self.records
        index = position - self._trimmed
        if index == len(records) - 1 and self.last_sequence <= self.visible:
            group = records[index]
            if group.sequence - group.count == after_sequence:  # the reader keeps up
                return [group], position + 1
        if self.first_sequence() > after_sequence + 1:
            resume_at = min(self.last_shown, self.last_sequence - self.closed)
            if resume_at <= after_sequence:  # what comes next may not be shown yet
                return [], max(position, self._trimmed + self._start)
            raise Trimmed(resume_at)
        end = self._end()
        found: list[Record] = []
        copied = 0
        while index < end and len(found) < limit and copied < _COPIED:
            begun = index
            first = records[index]
            if first.sequence - first.count < after_sequence:
                first = first.after(after_sequence)
            run, chars = [first], len(first.text)
            index += 1
            while index < end and chars < MAX_MESSAGE_CHARS and first.merges_with(records[index]):
                run.append(records[index])
                chars += len(records[index].text)
                index += 1
            if len(run) > 1 or first is not records[begun]:
                copied += chars
                if found and copied >= _COPIED:
                    return found, begun + self._trimmed
            found.append(first if len(run) == 1 else merged(run))
        return found, index + self._trimmed

    # --- inside

    def _end(self) -> int:
        """The index one past the last record that may be shown. Merged deltas count as a whole."""
        if self.last_sequence <= self.visible:
            return len(self.records)
        return self.after(self.visible)

    def _add_mixed(self, items: list[Item]) -> None:
        group: list[str] = []
        voice: tuple[Source | None, bool] = (None, False)
        for item in items:
            text, source, reasoning = (item, None, False) if isinstance(item, str) else item
            if group and (source, reasoning) != voice:
                self.add_text(group, *voice)
                group = []
            voice = (source, reasoning)
            group.append(text)
        self.add_text(group, *voice)

    def _add_portion(
        self, items: Sequence[str], text: str, source: Source | None, reasoning: bool
    ) -> None:
        nbytes = len(text)
        if not text.isascii():
            try:
                nbytes = len(text.encode())
            except UnicodeEncodeError:  # deltas are made valid here, and not on the hot path
                items = [valid(item) for item in items]
                text = "".join(items)
                nbytes = len(text.encode())
        is_content = source is None and not reasoning
        if is_content:
            room = self._max_output - self.output_size
            if nbytes >= room:
                if room <= 0:
                    return  # the run is being stopped for this
                self.output_size = self._max_output
                self.on_output_full()
                if nbytes > room:
                    text, items = cut(text, items, room)
                    nbytes = room
                    if not items:
                        return
            else:
                self.output_size += nbytes
            self._output.append(text)
        lengths = array("I", map(len, items)) if len(items) > 1 else None
        self.last_sequence += len(items)
        if is_content and self.last_sequence > self.visible:
            self._hidden.append((self.last_sequence, len(text)))
        record = Record(
            self.last_sequence, len(items), time(), None, text, source, reasoning, lengths
        )
        size = nbytes + 4 * len(items)
        self.keep(record, size if source is None else size + size_of(None, source))

    def _trim(self) -> None:
        records = self.records
        while self.nbytes > self._max_bytes or len(records) - self._start > self._max_records:
            if self._start == len(records) - 1:
                break
            self.nbytes -= records[self._start].nbytes
            self._start += 1
        if self._start > 512 and self._start * 2 > len(records):
            del records[: self._start]
            self._trimmed += self._start
            self._start = 0


def nobody() -> None:
    """For who has nobody to tell."""


class Trimmed(Exception):
    """The reader's next event is no longer kept; it may go on after `resume_at`."""

    def __init__(self, resume_at: int) -> None:
        super().__init__(resume_at)
        self.resume_at = resume_at
