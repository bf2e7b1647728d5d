"""The journal: brings what live runs make to a store that outlives the process, while they make it.

One thread asks the store to write for all runs that have something new, in one transaction, as soon
as the last one was answered. Nobody waits for it but those who must not show an event before its
number is reserved. How a run ends, and how the store gets to know that, is the completer's.

1. Producers notice nothing: a log calls back once, and again only after it was read here.
2. A number is shown once the store has reserved it. That is asked for ahead, in blocks that grow
   while a run uses them up quickly.
3. What waits for a store that is away is bounded: it is what the log keeps, and the run's text.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from pullcord.engine.live.facts import Standing
from pullcord.engine.live.live import Key, LiveRun
from pullcord.engine.log.record import Record
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import Entry, RunStore, Terms, Written
from pullcord.run.cancel import CancelMode, CancelRequest
from pullcord.run.events import RunError, RunPaused

_PAUSE, _LONG_PAUSE = 0.005, 0.02
"""Seconds between the beginnings of two writes, at least: after one by which somebody was shown
more, and after any other. What a quiet run makes is written at once."""
_FIRST_RETRY, _LONGEST_RETRY = 0.05, 5.0
"""Seconds until a store is asked again that did not write."""
_BLOCK, _LARGEST_BLOCK = 256, 1 << 20
"""Numbers that are reserved at a time. Twice as many while a block lasts less than `_QUICK`."""
_QUICK = 1.0
_ENTRIES = 1000
"""Runs that one write is for: who asks the store meanwhile waits for it."""
_ENTRY_BYTES, _WRITE_BYTES = 256 * 1024, 4 * 1024 * 1024
"""What one run may add to a write, and all of them together; the rest comes with the next one."""
PATIENCE = 30.0
"""Seconds that a run may make more than its log keeps while none of it can be stored. Then it ends
FAILED, with the text that it has."""

_log = logging.getLogger("pullcord.engine")


class _Book:
    """Records how much of one run the store has. Only the journal's thread changes it."""

    __slots__ = (
        "_changed",
        "after",
        "block",
        "block_since",
        "ended",
        "full_since",
        "live",
        "nbytes",
        "opens",
        "queued",
        "records",
        "reserved",
        "stood",
    )

    def __init__(
        self, live: LiveRun, opens: Terms | None, after: int, changed: Callable[["_Book"], None]
    ):
        self.live = live
        self.opens = opens
        self._changed = changed
        self.ended = False
        self.queued = False
        """Whether it waits for the next write."""
        self.after = after
        """The number of the last event that the store has."""
        self.reserved = live.log.visible
        self.block = _BLOCK
        self.block_since = 0.0
        self.nbytes = self.records = 0
        """What the store keeps of its events, roughly."""
        self.stood: Standing | None = None
        """What the run has handed over last, of that which the store has."""
        self.full_since: float | None = None
        """Since when events have been trimmed that the store does not have."""

    def ring(self) -> None:
        """Its run has made something. Not kept as a field, which would be a cycle."""
        self._changed(self)

    def reserve(self, last: int) -> int:
        """The numbers to ask for: half a block ahead, at least."""
        if self.reserved - last >= self.block // 2:
            return self.reserved
        now = time.monotonic()
        if now - self.block_since < _QUICK:
            self.block = min(2 * self.block, _LARGEST_BLOCK)
        self.block_since = now
        return last + self.block


class Journal:
    """The live runs of one engine, as their store is brought them. Any thread may call."""

    def __init__(self, store: RunStore, options: EngineOptions, patience: float = PATIENCE) -> None:
        self._store = store
        self._options = options
        self._patience = patience
        self._lock = threading.Lock()
        self._written = threading.Condition(self._lock)
        self._books: dict[Key, _Book] = {}
        self._dirty: deque[_Book] = deque()
        self._awake = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._shows = False
        """Whether the last write let more be shown."""
        self.is_away = False
        """Whether the store did not write when it was asked last."""

    def add(self, live: LiveRun, opens: Terms | None = None, *, after: int = 0) -> None:
        """Begins to write to the store what this run makes.

        `opens`: the store has not heard of the run, and holds it on these terms. `after`: the
        number of the last event that it has.
        """
        book = _Book(live, opens, after, self._changed)
        with self._lock:
            self._books[live.key] = book
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="pullcord-journal", daemon=True
                )
                self._thread.start()
        self._changed(book)

    def end(self, live: LiveRun) -> int:
        """The run has ended, and the completer brings the rest; the number of the last event that
        the store has."""
        book = self._books.get(live.key)
        if book is None:
            return 0
        book.ended = True
        return book.after

    def forget(self, live: LiveRun) -> None:
        """The store has the run's end, or the run was refused."""
        with self._lock:
            if (book := self._books.pop(live.key, None)) is not None:
                book.ended = True
            self._written.notify_all()

    def wait_written(self, live: LiveRun, timeout: float) -> bool:
        """Blocks until the store has all that the run has made so far, or its end; False if that
        took longer than `timeout` seconds."""
        last = live.log.seal()

        def is_written() -> bool:
            book = self._books.get(live.key)
            return book is None or (book.opens is None and book.after >= last)

        with self._written:
            return self._written.wait_for(is_written, timeout)

    def has(self, live: LiveRun, sequence: int, standing: Standing | None) -> bool:
        """Whether this event is the last one that the store has of the run, which has this handed
        over, as the store knows."""
        book = self._books.get(live.key)
        if book is None or book.opens is not None or book.after != sequence:
            return False
        return standing is None or book.stood is standing or live.rests

    def backlog(self) -> tuple[int, float]:
        """The bytes of live runs' events that the store does not have, roughly, and when the oldest
        of them was made, in seconds since the epoch; 0: there is none."""
        with self._lock:
            books = list(self._books.values())
        waiting = [book.live.log.waiting(book.after) for book in books if not book.ended]
        return sum(n for n, _ in waiting), min((first for _, first in waiting if first), default=0)

    def close(self) -> None:
        """Asks the store for nothing more."""
        self._closed.set()
        self._awake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(1.0)  # a store that hangs does not keep the program

    # --- inside

    def _changed(self, book: _Book) -> None:
        """Called by the thread that writes to a log, once after each time it was read here."""
        if book.queued:
            return
        book.queued = True
        self._dirty.append(book)
        if not self._awake.is_set():
            self._awake.set()

    def _run(self) -> None:
        failures = 0
        while self._next():
            begun = time.monotonic()
            if self._flush():
                failures = 0
                pause = _PAUSE if self._shows else _LONG_PAUSE
                pause -= time.monotonic() - begun
            else:
                failures += 1
                pause = min(_FIRST_RETRY * 2**failures, _LONGEST_RETRY) * random.uniform(0.5, 1.0)
            if pause > 0 and self._closed.wait(pause):
                return

    def _next(self) -> bool:
        self._awake.wait()
        self._awake.clear()  # before the queue is read, so that nothing is left behind
        return not self._closed.is_set()

    def _flush(self) -> bool:
        """Writes what there is, as far as one write takes it; whether the store answered."""
        books: list[_Book] = []
        entries: list[Entry] = []
        room = _WRITE_BYTES
        for _ in range(len(self._dirty)):
            if room <= 0 or len(entries) >= _ENTRIES:
                break
            book = self._dirty.popleft()
            book.queued = False
            entry = None if book.ended else self._entry(book)
            if entry is None:
                continue
            room -= _size(entry.records) + 200
            books.append(book)
            entries.append(entry)
        if not entries:
            return True
        try:
            answers = self._store.write(entries)
        except Exception as error:
            self._failed(books, error)
            return False
        if self.is_away:
            self.is_away = False
            _log.warning("the store writes again")
        self._shows = False
        for book, entry, answer in zip(books, entries, answers, strict=True):
            self._apply(book, entry, answer)
        with self._written:
            self._written.notify_all()
        if self._dirty:
            self._awake.set()
            self._shows = self._shows or len(entries) >= _ENTRIES
        return True

    def _entry(self, book: _Book) -> Entry | None:
        """What the store lacks of a run; None: it lacks nothing."""
        live, options = book.live, self._options
        too_much = (
            book.nbytes > 2 * options.max_log_bytes or book.records > 2 * options.max_log_records
        )
        records, text = live.log.since(book.after, _ENTRY_BYTES, from_here=too_much, wake=book.ring)
        reserve = book.reserve(live.log.last_sequence)
        last = records[-1].sequence if records else book.after
        stands = live.machine.standing
        if stands is None or not stands.holds or stands is book.stood or stands.sequence != last:
            stands = None
        if not records and reserve == book.reserved and book.opens is None and stands is None:
            return None
        after, base = book.after, None
        if text is not None:
            after = records[0].sequence - records[0].count if records else book.after
            run = live.snapshot(with_output=False)
            base = replace(run, output=text, last_sequence=after)
        waits = False
        for record in records:  # nearly all are text
            if record.payload is not None and record.source is None:
                waits = waits or isinstance(record.payload, RunPaused)
        pause = live.pause() if waits or stands is not None else None
        return Entry(live.scope, live.spec, records, after, reserve, base, pause, book.opens)

    def _apply(self, book: _Book, entry: Entry, answer: Written | None) -> None:
        live = book.live
        if answer is None:
            if not book.ended:
                _log.error("the store does not take run %s for one of ours", live.run_id)
            return
        if entry.base is not None:
            book.nbytes = book.records = 0
        book.nbytes += _size(entry.records)
        book.records += len(entry.records)
        book.opens = None
        book.full_since = None
        stands = live.machine.standing
        if entry.pause is not None and stands is not None and stands.is_of(entry.pause):
            book.stood = stands
        book.after, book.reserved = answer.last_sequence, answer.reserved
        if answer.reserved > live.log.visible:
            live.log.show(answer.reserved)
            self._shows = True
        live.log.release(book.after)
        if answer.stop is not None and is_news(live, answer.stop):
            live.stop(answer.stop)
        if book.after != (entry.records[-1].sequence if entry.records else entry.after):
            self._changed(book)  # the store has other events than it was taken to have

    def _failed(self, books: list[_Book], error: Exception) -> None:
        if not self.is_away:
            self.is_away = True
            _log.error("the store does not write; it is asked again", exc_info=error)
        now = time.monotonic()
        for book in books:
            self._changed(book)
            if book.live.log.first_sequence() <= book.after + 1:
                continue
            if book.full_since is None:
                book.full_since = now
            elif now - book.full_since >= self._patience and not book.ended:
                words = "it has made more than can be held here while the store is away"
                book.live.break_off(RunError("StoreUnavailable", words))


def _size(records: Sequence[Record]) -> int:
    """The memory that they take, roughly. A run that is quicker than its store has several."""
    return records[0].nbytes if len(records) == 1 else sum(record.nbytes for record in records)


def is_news(live: LiveRun, stop: CancelRequest) -> bool:
    """Whether a recorded stop would change anything about a run."""
    standing = live.cancellation
    if standing is None:
        return True
    immediate = CancelMode.IMMEDIATE
    return stop.cancellation.mode is immediate and standing.mode is not immediate
