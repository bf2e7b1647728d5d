"""A run's event log: the one place where events are numbered, kept, merged and trimmed.

Producers append from any thread and never wait; watchers read at their own pace. Between them
stand *records*: what is written is first only put in a deque, and numbered ("sealed") when
somebody reads, or when enough has come. Deltas that pile up meanwhile become one record. What
states a run may be in is not known here.

Invariants:
 1. Sequences rise by one for each event made, in the order of the records.
 2. A record never changes once sealed, so its serialized form can be cached on it.
 3. The last record of a closed log is the terminal event, and it is never trimmed.
 4. No watcher is shown an event above `visible`, nor the end of a log that holds it back.
"""

import itertools
import logging
import threading
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from time import time
from typing import TypeVar

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

_log = logging.getLogger("pullcord.log")

_SEAL_AT = 4096
"""Unnumbered deltas after which the producer numbers them itself."""
_SEAL_CHARS = 256
"""A longer delta is numbered at once, so that what nobody reads is bounded in size too."""
_OVERHEAD = 200
"""Bytes that a record takes beside its text, roughly."""
UNBOUNDED = 1 << 62
"""The `visible` of a log whose events are all shown."""
P = TypeVar("P", bound=Payload)
Item = str | tuple[str, Source | None, bool]


class EventLog:
    """The events of one run."""

    def __init__(
        self,
        max_bytes: int,
        max_records: int,
        max_output: int,
        on_output_full: Callable[[], None],
        *,
        visible: int = UNBOUNDED,
        holds_end: bool = False,
    ) -> None:
        """`holds_end`: the terminal event is shown only after `show_end`."""
        self._lock = threading.Lock()
        self._pending: deque[Item] = deque()
        self._records: list[Record] = []
        self._start = 0  # index in _records of the first that is kept
        self._trimmed = 0  # records deleted from the front of _records, ever
        self._waiting: list[Callable[[], None]] = []
        self._max_bytes = max_bytes
        self._max_records = max_records
        self._max_output = max_output
        self._on_output_full = on_output_full
        self._output: list[str] = []
        self._output_size = 0
        self._hidden: deque[tuple[int, int]] = deque()  # content above `visible`: number, length
        self._holds_end = holds_end
        self.visible = visible
        """No event above this number is shown. It only rises."""
        self.nbytes = 0
        """Memory that the kept records take, roughly."""
        self.last_sequence = 0
        """Of the last sealed event."""
        self.closed = False
        """Whether the terminal event is in."""

    @classmethod
    def of(cls, records: Iterable[Record]) -> "EventLog":
        """A closed log of these records, the last of which is the terminal event."""
        log = cls(UNBOUNDED, UNBOUNDED, UNBOUNDED, _nobody)
        for record in records:
            log.last_sequence = record.sequence
            if record.is_content:
                log._output.append(record.text)
            log._keep(record, len(record.wire or record.text))
        log.closed = True
        return log

    # --- producers: any thread, never wait for a watcher

    def write(self, text: str) -> None:
        """Adds a content delta of the run's own runnable. This is the hot path: no lock."""
        pending = self._pending
        pending.append(text)
        # Append before looking who waits, as a watcher registers before it looks what is there:
        # one of the two always sees the other.
        if self._waiting:
            self._ring()
        elif len(pending) >= _SEAL_AT or len(text) > _SEAL_CHARS:
            self.seal()

    def write_as(self, text: str, source: Source | None, reasoning: bool) -> None:
        """Adds a delta of whoever `source` says."""
        self._pending.append((text, source, reasoning))
        if self._waiting:
            self._ring()
        elif len(self._pending) >= _SEAL_AT or len(text) > _SEAL_CHARS:
            self.seal()

    def extend(
        self, text: str, lengths: "Sequence[int]", source: Source | None, reasoning: bool
    ) -> None:
        """Adds deltas that were merged on their way here; `lengths` of one delta may be empty."""
        with self._lock:
            if self.closed:
                return
            self._seal()
            items: list[str] = [text]
            if len(lengths) > 1:
                starts = [0, *itertools.accumulate(lengths)]
                items = [text[a:b] for a, b in itertools.pairwise(starts)]
            self._seal_text(items, source, reasoning)
        if self._waiting:
            self._ring()

    def append(self, payload: Payload, source: Source | None = None) -> bool:
        """Adds any other event, after all that was written before; False if the log is closed."""
        with self._lock:
            if self.closed:
                return False
            self._seal()
            self._number(payload, source)
        self._ring()
        return True

    def finish(self, make: Callable[[str], P]) -> P | None:
        """Adds the terminal event, which `make` makes of all content so far; None if it is in.

        One step: what a watcher may have read is in that content, also if other threads write.
        """
        with self._lock:
            if self.closed:
                return None
            self._seal()
            payload = make(self._content())
            self._number(payload, None)
            self.closed = True
            self._on_output_full = _nobody  # or an ended run's log would keep its owner alive
            if self._holds_end:
                self.visible = min(self.visible, self.last_sequence - 1)
        self._ring()
        return payload

    def replace_end(self, before: Payload, make: Callable[[str], P]) -> P:
        """Puts another terminal event, and `before` ahead of it, in place of one that is held."""
        with self._lock:
            self.nbytes -= self._records.pop().nbytes
            self.last_sequence -= 1
            self._number(before, None)
            payload = make(self._content())
            self._number(payload, None)
        return payload

    def give_way(self, end: Record) -> None:
        """The run was ended by others, by this terminal event: it comes after what may be shown,
        behind a gap, in place of all else."""
        with self._lock:
            self._seal()
            kept = self._end() - (self.closed and self.last_sequence <= self.visible)
            for record in self._records[kept:]:
                self.nbytes -= record.nbytes
            del self._records[kept:]
            self._hidden.clear()
            last = self._records[-1].sequence if kept > self._start else self._first_sequence() - 1
            before = end.sequence - end.count
            if before > last:
                gap = Gap(last + 1, before)
                self._keep(Record(before, before - last, end.create_time, gap), 0)
            self._keep(end, len(end.wire or b""))
            self.last_sequence = end.sequence
            self.closed, self._holds_end, self.visible = True, False, UNBOUNDED
        self._ring()

    def seal(self) -> int:
        """Numbers what was written so far; returns the last number."""
        with self._lock:
            self._seal()
            return self.last_sequence

    def is_full(self) -> bool:
        """Whether all that was written so far reaches the bound, so that text may be missing."""
        self.seal()
        return self._output_size >= self._max_output

    def output(self) -> tuple[str, int]:
        """All content of the run's own runnable that may be shown, and the number of the last event
        in it."""
        with self._lock:
            self._seal()
            content = self._content()
            hidden = sum(length for _, length in self._hidden)
            return content[: len(content) - hidden], self._last_shown()

    def take(self, records: Iterable[Record], *, ends: bool = False) -> None:
        """Adds records that were numbered elsewhere; with `ends`, the last is the terminal event.
        Their text is not part of `output`."""
        with self._lock:
            for record in records:
                self.last_sequence = record.sequence
                self._keep(record, len(record.wire or record.text))
            self.closed = ends
        self._ring()

    # --- what the store has

    def since(
        self,
        sequence: int,
        max_bytes: int,
        *,
        from_here: bool = False,
        wake: Callable[[], None] | None = None,
    ) -> tuple[list[Record], str | None]:
        """The kept records after an event, unmerged, the terminal one not among them.

        At least one, if there is any, and then no more than so many bytes. If events in between are
        no longer kept, or with `from_here`: also all content up to the first of these records.
        `wake` is called once, in any thread, when there are more than these; of a closed log, only
        if there are already.
        """
        with self._lock:
            self._seal()
            records = self._records
            start = bisect_right(records, sequence, lo=self._start, key=lambda r: r.sequence)
            last = len(records) - self.closed
            end, nbytes = start, 0
            while end < last and (end == start or nbytes + records[end].nbytes <= max_bytes):
                nbytes += records[end].nbytes
                end += 1
            found = records[start:end]
            if wake is not None:
                if end < last:
                    wake()
                elif not self.closed:
                    self._waiting.append(wake)
            complete = not found or found[0].sequence - found[0].count <= sequence
            if complete and not from_here:
                return found, None
            after = sum(len(record.text) for record in records[start:] if record.is_content)
            content = self._content()
            return found, content[: len(content) - after]

    def records(self, after_sequence: int = 0) -> list[Record]:
        """The kept records after an event, unmerged; of a closed log, the terminal one too."""
        with self._lock:
            self._seal()
            start = bisect_right(
                self._records, after_sequence, lo=self._start, key=lambda r: r.sequence
            )
            return self._records[start:]

    def show(self, visible: int) -> None:
        """Events up to this number may be shown from now on."""
        with self._lock:
            if self._holds_end and self.closed:
                visible = min(visible, self.last_sequence - 1)
            if visible <= self.visible:
                return
            self._show(visible)
        self._ring()

    def show_end(self) -> None:
        """All that is in the log may be shown from now on, its end too."""
        with self._lock:
            self._holds_end = False
            self._show(UNBOUNDED)
        self._ring()

    def last_shown(self) -> int:
        """Numbers what was written so far; returns the last number that may be shown."""
        with self._lock:
            self._seal()
            return self._last_shown()

    # --- watchers

    def position(self, after_sequence: int) -> int:
        """The place of the first record that holds an event after this one."""
        with self._lock:
            self._seal()
            kept = bisect_right(
                self._records, after_sequence, lo=self._start, key=lambda r: r.sequence
            )
            return kept + self._trimmed

    def first_sequence(self) -> int:
        """Of the first event that is kept; one past the last if there is none."""
        with self._lock:
            return self._first_sequence()

    def read(self, position: int, after_sequence: int, limit: int) -> tuple[list[Record], int]:
        """At most `limit` messages from a position on, deltas merged, and the next position.

        Raises:
            Trimmed: events after `after_sequence` are no longer kept.
        """
        with self._lock:
            if self._pending:
                self._seal()
            records = self._records
            index = position - self._trimmed
            if index == len(records) - 1 and self.last_sequence <= self.visible:
                group = records[index]
                if group.sequence - group.count == after_sequence:  # the reader keeps up
                    return [group], position + 1
            if self._first_sequence() > after_sequence + 1:
                resume_at = min(self._last_shown(), self.last_sequence - self.closed)
                if resume_at <= after_sequence:  # what comes next may not be shown yet
                    return [], max(position, self._trimmed + self._start)
                raise Trimmed(resume_at)
            end = self._end()
            found: list[Record] = []
            while index < end and len(found) < limit:
                first = records[index]
                if first.sequence - first.count < after_sequence:
                    first = first.after(after_sequence)
                run, chars = [first], len(first.text)
                index += 1
                while (
                    index < end and chars < MAX_MESSAGE_CHARS and first.merges_with(records[index])
                ):
                    run.append(records[index])
                    chars += len(records[index].text)
                    index += 1
                found.append(first if len(run) == 1 else merged(run))
            return found, index + self._trimmed

    def arm(self, position: int, wake: Callable[[], None]) -> bool:
        """Calls `wake` once, in any thread, when something is at `position`; False: it is there."""
        with self._lock:
            self._waiting.append(wake)
            if self._pending and self.visible != UNBOUNDED:
                self._seal()  # whether they may be shown depends on their numbers
            if self._pending:
                self._waiting.remove(wake)
                return False
            is_over = self.closed and self.last_sequence <= self.visible
            if position - self._trimmed >= self._end() and not is_over:
                return True
            self._waiting.remove(wake)
            return False

    def disarm(self, wake: Callable[[], None]) -> None:
        """Forgets a watcher that is waiting."""
        with self._lock:
            if wake in self._waiting:
                self._waiting.remove(wake)

    # --- inside

    def _ring(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for wake in waiting:
            try:
                wake()
            except Exception:
                _log.exception("a watcher could not be woken; the run and the others go on")

    def _show(self, visible: int) -> None:
        self.visible = visible
        while self._hidden and self._hidden[0][0] <= visible:
            self._hidden.popleft()

    def _end(self) -> int:
        """The index one past the last record that may be shown. Merged deltas count as a whole."""
        if self.last_sequence <= self.visible:
            return len(self._records)
        return bisect_right(self._records, self.visible, lo=self._start, key=lambda r: r.sequence)

    def _last_shown(self) -> int:
        if self.last_sequence <= self.visible:
            return self.last_sequence
        end = self._end()
        if end > self._start:
            return self._records[end - 1].sequence
        return min(self.visible, self._first_sequence() - 1)

    def _content(self) -> str:
        self._output = ["".join(self._output)]
        return self._output[0]

    def _number(self, payload: Payload, source: Source | None) -> None:
        self.last_sequence += 1
        record = Record(self.last_sequence, 1, time(), payload, source=source)
        self._keep(record, size_of(payload, source))

    def _first_sequence(self) -> int:
        if self._start == len(self._records):
            return self.last_sequence + 1
        first = self._records[self._start]
        return first.sequence - first.count + 1

    def _seal(self) -> None:
        pending = self._pending
        while pending:
            first = pending.popleft()
            if self.closed:
                continue  # written by code that outlived its run
            if not pending and type(first) is str and self._seal_one(first):
                return
            items = [first] + [pending.popleft() for _ in range(len(pending))]
            try:
                self._seal_text(items, None, False)  # nearly always: all of one voice
            except TypeError:
                self._seal_mixed(items)

    def _seal_one(self, text: str) -> bool:
        """A single short delta, which is nearly all that a reader who keeps up sees; False: it
        takes the long way."""
        size = len(text)
        if size > _SEAL_CHARS or not text.isascii() or size >= self._max_output - self._output_size:
            return False
        self._output_size += size
        self._output.append(text)
        self.last_sequence += 1
        if self.last_sequence > self.visible:
            self._hidden.append((self.last_sequence, size))
        self._keep(Record(self.last_sequence, 1, time(), None, text), size + 4)
        return True

    def _seal_mixed(self, items: list[Item]) -> None:
        group: list[str] = []
        voice: tuple[Source | None, bool] = (None, False)
        for item in items:
            text, source, reasoning = (item, None, False) if isinstance(item, str) else item
            if group and (source, reasoning) != voice:
                self._seal_text(group, *voice)
                group = []
            voice = (source, reasoning)
            group.append(text)
        self._seal_text(group, *voice)

    def _seal_text(self, items: Sequence[Item], source: Source | None, reasoning: bool) -> None:
        """Raises TypeError, with nothing changed, where an item is no text."""
        text = items[0] if len(items) == 1 else "".join(items)  # type: ignore[arg-type]  # TypeError is the caller's
        if not isinstance(text, str):
            raise TypeError
        texts: Sequence[str] = items  # type: ignore[assignment]  # as was just seen
        if len(text) > MAX_MESSAGE_CHARS:
            for portion in portions(texts):
                self._seal_portion(portion, "".join(portion), source, reasoning)
        else:
            self._seal_portion(texts, text, source, reasoning)

    def _seal_portion(
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
        if source is None and not reasoning:
            room = self._max_output - self._output_size
            if nbytes >= room:
                if room <= 0:
                    return  # the run is being stopped for this
                self._output_size = self._max_output
                self._on_output_full()
                if nbytes > room:
                    text, items = cut(text, items, room)
                    nbytes = room
                    if not items:
                        return
            else:
                self._output_size += nbytes
            self._output.append(text)
        lengths = array("I", map(len, items)) if len(items) > 1 else None
        self.last_sequence += len(items)
        if self.last_sequence > self.visible and source is None and not reasoning:
            self._hidden.append((self.last_sequence, len(text)))
        record = Record(
            self.last_sequence, len(items), time(), None, text, source, reasoning, lengths
        )
        size = nbytes + 4 * len(items)
        self._keep(record, size if source is None else size + size_of(None, source))

    def _keep(self, record: Record, size: int) -> None:
        self._records.append(record)
        record.nbytes = size + _OVERHEAD
        self.nbytes += record.nbytes
        if self.nbytes > self._max_bytes or len(self._records) - self._start > self._max_records:
            self._trim()

    def _trim(self) -> None:
        records = self._records
        while self.nbytes > self._max_bytes or len(records) - self._start > self._max_records:
            if self._start == len(records) - 1:
                break
            self.nbytes -= records[self._start].nbytes
            self._start += 1
        if self._start > 512 and self._start * 2 > len(records):
            del records[: self._start]
            self._trimmed += self._start
            self._start = 0


def _nobody() -> None:
    pass


class Trimmed(Exception):
    """The reader's next event is no longer kept; it may go on after `resume_at`."""

    def __init__(self, resume_at: int) -> None:
        super().__init__(resume_at)
        self.resume_at = resume_at
