"""A run's event log: the one place where events are numbered, kept, merged and trimmed.

Producers append from any thread and never wait; watchers read at their own pace. Between them
stand *records*: what is written is first only put in a deque, and numbered ("sealed") when
somebody reads, or when enough has come. Deltas that pile up meanwhile become one record. What
states a run may be in is not known here; how records are kept and shown is `numbered`'s.

Invariants:
 1. Sequences rise by one for each event made, in the order of the records.
 2. A record never changes once sealed, so its serialized form can be cached on it.
 3. The last record of a closed log is the terminal event, and it is never trimmed.
 4. No watcher is shown an event above `visible`, nor the end of a log that holds it back; and
    none at all while the log is fenced.
"""

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from pullcord.engine.log.numbered import LONG, UNBOUNDED, Item, Numbered, nobody
from pullcord.engine.log.record import Record
from pullcord.run.errors import StoreUnavailable
from pullcord.run.events import Payload, Source

_log = logging.getLogger("pullcord.log")

_SEAL_AT = 4096
"""Unnumbered deltas after which the producer numbers them itself."""
_LOOK = 256
"""Records among which the first delta is looked for."""
P = TypeVar("P", bound=Payload)


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
        after_sequence: int = 0,
        is_fenced: Callable[[], bool] | None = None,
    ) -> None:
        """`holds_end`: the terminal event is shown only after `show_end`. The first event's number
        is the one behind `after_sequence`. `is_fenced`: whether nothing may be shown now; `ring` is
        called when that is over."""
        self._lock = threading.Lock()
        self._pending: deque[Item] = deque()
        self._waiting: list[Callable[[], None]] = []
        self._kept = Numbered(
            max_bytes, max_records, max_output, on_output_full, visible, holds_end
        )
        self._kept.last_sequence = after_sequence
        self._is_fenced = is_fenced
        self._has_left = False
        self._seal_at = 1  # the first delta gets its number and its time at once

    @classmethod
    def of(cls, records: Iterable[Record]) -> "EventLog":
        """A closed log of these records, the last of which is the terminal event."""
        log = cls(UNBOUNDED, UNBOUNDED, UNBOUNDED, nobody)
        for record in records:
            log._kept.last_sequence = record.sequence
            if record.is_content:
                log._kept.note_content(record.text)
            log._kept.keep(record, len(record.wire or record.text))
        log._kept.closed = True
        return log

    @property
    def visible(self) -> int:
        """No event above this number is shown. It only rises."""
        return self._kept.visible

    @property
    def nbytes(self) -> int:
        """Memory that the kept records take, roughly."""
        return self._kept.nbytes

    @property
    def last_sequence(self) -> int:
        """The number of the last sealed event."""
        return self._kept.last_sequence

    @property
    def closed(self) -> bool:
        """Whether the terminal event is in."""
        return self._kept.closed

    # --- producers: any thread, never wait for a watcher

    def write(self, text: str) -> None:
        """Adds a content delta of the run's own runnable. This is the hot path: no lock."""
        pending = self._pending
        pending.append(text)
        # Append before looking who waits, as a watcher registers before it looks what is there:
        # one of the two always sees the other.
        if self._waiting:
            self._ring()
        elif len(pending) >= self._seal_at or len(text) > LONG:
            self.seal()

    def write_as(self, text: str, source: Source | None, reasoning: bool) -> None:
        """Adds a delta of this source."""
        self._pending.append((text, source, reasoning))
        if self._waiting:
            self._ring()
        elif len(self._pending) >= self._seal_at or len(text) > LONG:
            self.seal()

    def extend(
        self, text: str, lengths: "Sequence[int]", source: Source | None, reasoning: bool
    ) -> None:
        """Adds deltas that were merged on their way here; `lengths` of one delta may be empty."""
        with self._lock:
            if self._kept.closed:
                return
            self._seal()
            items: list[str] = [text]
            if len(lengths) > 1:
                starts = [0, *itertools.accumulate(lengths)]
                items = [text[a:b] for a, b in itertools.pairwise(starts)]
            self._kept.add_text(items, source, reasoning)
        if self._waiting:
            self._ring()

    def append(self, payload: Payload, source: Source | None = None, *, holds: bool = False) -> int:
        """Adds any other event, after all that was written before; its number, or 0 if the log is
        closed. `holds`: what comes after it is shown once the store has some of that."""
        with self._lock:
            if self._kept.closed:
                return 0
            self._seal()
            self._kept.add(payload, source)
            sequence = self._kept.last_sequence
            if holds:
                self._kept.hold()
        self._ring()
        return sequence

    def hold(self, sequence: int) -> None:
        """What comes after this event, which is the last one, is shown once the store has some of
        that. Nothing if it is not the last one any more."""
        with self._lock:
            self._seal()
            kept = self._kept
            if kept.last_sequence == sequence != kept.held_at and not kept.closed:
                kept.hold()

    def finish(self, make: Callable[[str], P]) -> P | None:
        """Adds the terminal event, which `make` makes of all content so far; None if it is in.

        One step: what a watcher may have read is in that content, also if other threads write.
        """
        with self._lock:
            if self._kept.closed:
                return None
            self._seal()
            payload = make(self._kept.content())
            self._kept.add(payload, None)
            self._kept.close()
        self._ring()
        return payload

    def replace_end(self, before: Payload, make: Callable[[str], P]) -> P:
        """Puts another terminal event, and `before` ahead of it, in place of one that is held."""
        with self._lock:
            self._kept.take_end_back()
            self._kept.add(before, None)
            payload = make(self._kept.content())
            self._kept.add(payload, None)
        return payload

    def give_way(self, end: Record) -> None:
        """The run was ended by others, by this terminal event: it comes after what may be shown,
        behind a gap, in place of all else."""
        with self._lock:
            self._seal()
            self._kept.give_way(end)
        self._ring()

    def seal(self) -> int:
        """Numbers what was written so far; returns the last number."""
        self._seal_at = _SEAL_AT
        with self._lock:
            self._seal()
            return self._kept.last_sequence

    def is_full(self) -> bool:
        """Whether all that was written so far reaches the bound, so that text may be missing."""
        self.seal()
        return self._kept.is_full

    def output(self) -> tuple[str, int]:
        """All content of the run's own runnable that may be shown, and the number of the last event
        in it."""
        with self._lock:
            self._seal()
            return self._kept.shown_content(), self._kept.last_shown

    def take(self, records: Iterable[Record], *, ends: bool = False) -> None:
        """Adds records that were numbered elsewhere; with `ends`, the last is the terminal event.
        Their text is not part of `output`."""
        with self._lock:
            for record in records:
                self._kept.last_sequence = record.sequence
                self._kept.keep(record, len(record.wire or record.text))
            self._kept.closed = ends
        self._ring()

    def take_up(self, records: Iterable[Record], content: str, last_sequence: int) -> None:
        """Goes on from what a store has of the run: these events, and this content so far."""
        with self._lock:
            for record in records:
                self._kept.keep(record, len(record.wire or record.text))
            self._kept.note_content(content)
            self._kept.output_size = len(content.encode())
            self._kept.last_sequence = last_sequence

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
            records = self._kept.records
            start = self._kept.after(sequence)
            last = len(records) - self._kept.closed
            end, nbytes = start, 0
            while end < last and (end == start or nbytes + records[end].nbytes <= max_bytes):
                nbytes += records[end].nbytes
                end += 1
            found = records[start:end]
            if wake is not None:
                if end < last:
                    wake()
                elif not self._kept.closed:
                    self._waiting.append(wake)
            complete = not found or found[0].sequence - found[0].count <= sequence
            if complete and not from_here:
                return found, None
            after = sum(len(record.text) for record in records[start:] if record.is_content)
            content = self._kept.content()
            return found, content[: len(content) - after]

    def waiting(self, sequence: int) -> tuple[int, float]:
        """The bytes that the kept records after an event take, and when the first of them was made;
        0: there is none."""
        with self._lock:
            self._seal()
            records = self._kept.records[self._kept.after(sequence) :]
            return sum(r.nbytes for r in records), records[0].create_time if records else 0.0

    def records(self, after_sequence: int = 0) -> list[Record]:
        """The kept records after an event, unmerged; of a closed log, the terminal one too."""
        with self._lock:
            self._seal()
            return self._kept.records[self._kept.after(after_sequence) :]

    def first_text_time(self) -> float:
        """When the first delta came, of any speaker; 0: none has, or it is not kept any more."""
        with self._lock:
            if self._kept.first_sequence() > 1:
                return 0.0
            first = itertools.islice(self._kept.records, _LOOK)
            return next((r.create_time for r in first if r.payload is None), 0.0)

    @property
    def made(self) -> int:
        """The number of events so far, roughly."""
        return self._kept.last_sequence + len(self._pending)

    def show(self, visible: int) -> None:
        """Events up to this number may be shown from now on."""
        with self._lock:
            kept = self._kept
            if kept.holds_end and kept.closed:
                visible = min(visible, kept.last_sequence - 1)
            if visible <= kept.visible:
                return
            kept.show(visible)
        self._ring()

    def release(self, stored: int) -> None:
        """The store has the events up to this number: what was held after an earlier one is shown,
        as far as it may be."""
        if 0 < self._kept.held_at < stored:
            with self._lock:
                visible = self._kept.release()
            self.show(visible)

    def show_end(self) -> None:
        """All that is in the log may be shown from now on, its end too."""
        with self._lock:
            self._kept.release()
            self._kept.holds_end = False
            self._kept.show(UNBOUNDED)
        self._ring()

    def last_shown(self) -> int:
        """Numbers what was written so far; returns the last number that may be shown."""
        with self._lock:
            self._seal()
            return self._kept.last_shown

    # --- watchers

    def position(self, after_sequence: int) -> int:
        """The place of the first record that holds an event after this one."""
        with self._lock:
            self._seal()
            return self._kept.position(after_sequence)

    def first_sequence(self) -> int:
        """The number of the first event that is kept; one past the last if there is none."""
        with self._lock:
            return self._kept.first_sequence()

    def read(self, position: int, after_sequence: int, limit: int) -> tuple[list[Record], int]:
        """At most `limit` messages from a position on, deltas merged, and the next position.

        Raises:
            Trimmed: events after `after_sequence` are no longer kept.
        """
        with self._lock:
            if self._pending:
                self._seal()
            if self._has_left:
                raise StoreUnavailable("the run goes on at another replica; watch it again")
            if self._is_fenced is not None and self._must_wait():
                return [], position
            return self._kept.read(position, after_sequence, limit)

    def arm(self, position: int, wake: Callable[[], None]) -> bool:
        """Calls `wake` once, in any thread, when something is at `position`; False: it is there."""
        with self._lock:
            self._waiting.append(wake)
            if self._pending and self._kept.visible != UNBOUNDED:
                self._seal()  # whether they may be shown depends on their numbers
            has_none = not self._pending and not self._kept.has(position)
            if (has_none or self._must_wait()) and not self._has_left:
                return True
            self._waiting.remove(wake)
            return False

    def disarm(self, wake: Callable[[], None]) -> None:
        """Forgets a watcher that is waiting."""
        with self._lock:
            if wake in self._waiting:
                self._waiting.remove(wake)

    def leave(self) -> None:
        """Nothing comes here any more, though the run goes on: its watchers are sent elsewhere,
        by StoreUnavailable."""
        with self._lock:
            self._has_left = True
        self._ring()

    def ring(self) -> None:
        """Wakes the watchers: fenced events may be shown again."""
        self._ring()

    # --- inside

    def _must_wait(self) -> bool:
        """Whether nothing may be shown now. The end of a log says that its store has all of it."""
        fenced = self._is_fenced
        return fenced is not None and self._kept.visible != UNBOUNDED and fenced()

    def _ring(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for wake in waiting:
            try:
                wake()
            except Exception:
                _log.exception("a watcher could not be woken; the run and the others go on")

    def _seal(self) -> None:
        pending, kept = self._pending, self._kept
        while pending:
            first = pending.popleft()
            if kept.closed:
                continue  # written by code that outlived its run
            if not pending and type(first) is str and kept.add_one(first):
                return
            kept.add_all([first] + [pending.popleft() for _ in range(len(pending))])
