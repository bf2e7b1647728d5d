"""The event log: every watcher gets every event once, in order, or is told what it missed."""

import threading
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pullcord.engine.log import numbered
from pullcord.engine.log.log import EventLog
from pullcord.engine.log.record import MAX_MESSAGE_CHARS, Record
from pullcord.engine.log.watch import Watcher
from pullcord.run.events import (
    Custom,
    Gap,
    Payload,
    RunCompleted,
    RunError,
    RunPaused,
    RunStarted,
    Snapshot,
    Source,
    SourceKind,
    StepCompleted,
    ToolCall,
    ToolCallStarted,
)
from pullcord.run.record import Run
from pullcord.run.state import RunState

BIG = 1 << 40
MEMBER = Source(SourceKind.AGENT, "m", "M", "r", ("t", "m"))

Said = tuple[Any, ...]
"""What one event says: a payload, or the text, source and kind of a delta."""


def make_log(
    max_bytes: int = BIG,
    max_records: int = BIG,
    max_output: int = BIG,
    full: Callable[[], None] = lambda: None,
) -> EventLog:
    return EventLog(max_bytes, max_records, max_output, full)


def make_watcher(log: EventLog, after: int = 0) -> Watcher:
    def snapshot() -> Run:
        text, last = log.output()
        state = RunState.COMPLETED if log.closed else RunState.RUNNING
        return Run("r", "agents/a", state, output=text, last_sequence=last)

    return Watcher("r", log, after, snapshot, lambda **_: None)


class Reader:
    """Checks what a watcher takes against what was said."""

    def __init__(self, said: list[Said], watcher: Watcher) -> None:
        self.said = said
        self.watcher = watcher
        self.sequence = watcher.after_sequence
        self.text = ""
        self.gaps = 0

    def take(self) -> list[Record]:
        records = self.watcher.take()
        for record in records:
            if isinstance(record.payload, Gap):
                self.gaps += 1
                assert record.payload.first_sequence == self.sequence + 1
                assert record.payload.last_sequence == record.sequence >= self.sequence
                self.sequence = record.sequence
            elif isinstance(record.payload, Snapshot):
                assert record.sequence == self.sequence
                self.text = record.payload.run.output
                told = self.said[: self.sequence]
                assert self.text == "".join(s[0] for s in told if s[1:] == (None, False))
            else:
                self._check(record)
        assert self.watcher.after_sequence == self.sequence
        return records

    def take_all(self) -> None:
        while self.take():
            pass

    def _check(self, record: Record) -> None:
        assert record.sequence - record.count == self.sequence, "lost or repeated"
        meant = self.said[self.sequence : record.sequence]
        assert len(meant) == record.count
        self.sequence = record.sequence
        if record.payload is not None:
            assert meant == [(record.payload,)]
            return
        assert record.text == "".join(s[0] for s in meant)
        assert {s[1:] for s in meant} == {(record.source, record.reasoning)}
        if (record.source, record.reasoning) == (None, False):
            self.text += record.text


texts = st.text(st.sampled_from("aé漢 \n"), max_size=4)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("write"), texts),
        st.tuples(st.just("write_as"), texts, st.sampled_from([None, MEMBER]), st.booleans()),
        st.tuples(st.just("append"), st.integers(0, 9)),
        st.tuples(st.just("read"), st.integers(0, 2)),
        st.tuples(st.just("arm"), st.integers(0, 2)),
        st.tuples(st.just("seal")),
        st.tuples(st.just("output")),
    ),
    max_size=40,
)


def play(log: EventLog, steps: list[tuple[Any, ...]]) -> tuple[list[Said], list[Reader]]:
    """Does the steps with three watchers; what was said, and the watchers."""
    said: list[Said] = [(Custom("first"),)]
    log.append(*said[0])
    readers = [Reader(said, make_watcher(log)) for _ in range(3)]
    rung: dict[int, list[bool]] = {}
    for name, *args in steps:
        if name == "write":
            log.write(*args)
            said.append((args[0], None, False))
        elif name == "write_as":
            log.write_as(*args)
            said.append(tuple(args))
        elif name == "append":
            payload = Custom(f"e{args[0]}", {"n": args[0]})
            assert log.append(payload)
            said.append((payload,))
        elif name == "read":
            reader = readers[args[0]]
            reader.watcher.disarm()
            reader.take()
        elif name == "arm" and args[0] not in rung:
            reader, calls = readers[args[0]], []
            behind = len(said) > reader.sequence
            assert reader.watcher.arm(lambda calls=calls: calls.append(True)) == (not behind)
            if behind:
                reader.watcher.disarm()
            else:
                rung[args[0]] = calls
        elif name == "seal":
            assert log.seal() == len(said)
        elif name == "output":
            text = "".join(s[0] for s in said if s[1:] == (None, False))
            assert log.output() == (text, len(said))
        if name in {"write", "write_as", "append"}:
            for calls in rung.values():
                assert calls == [True], "a waiting watcher is woken once, by the first event"
            rung.clear()
        elif name == "read":
            rung.pop(args[0], None)
    end = RunCompleted(log.output()[0])
    assert log.finish(lambda _: end)
    said.append((end,))
    return said, readers


@settings(max_examples=150, deadline=None)
@given(operations)
def test_promise_01_every_watcher_gets_every_event_once_and_in_order(
    steps: list[tuple[Any, ...]],
) -> None:
    """However writing and reading interleave, each watcher gets the same events, merged or not."""
    log = make_log()
    said, readers = play(log, steps)
    for reader in readers:
        reader.take_all()
        assert reader.watcher.ended
        assert reader.sequence == len(said) == log.last_sequence
        assert reader.text == log.output()[0]
        assert reader.gaps == 0
        assert not reader.watcher.arm(lambda: None)


@settings(max_examples=60, deadline=None)
@given(operations)
def test_promise_10_a_watcher_may_resume_after_every_single_event(
    steps: list[tuple[Any, ...]],
) -> None:
    """Coming back with any sequence, also one within merged deltas, misses and repeats nothing."""
    log = make_log()
    said, _ = play(log, steps)
    for after in range(len(said) + 1):
        reader = Reader(said, make_watcher(log, after))
        reader.take_all()
        assert reader.sequence == len(said)
        assert reader.watcher.ended
        assert reader.gaps == 0


@settings(max_examples=150, deadline=None)
@given(operations, st.integers(1, 6), st.integers(200, 2000))
def test_promise_10_who_misses_trimmed_events_gets_a_gap_and_a_snapshot(
    steps: list[tuple[Any, ...]], max_records: int, max_bytes: int
) -> None:
    """Where the log was trimmed, a gap names what is missing, and a snapshot makes up for it."""
    log = make_log(max_bytes, max_records)
    said, readers = play(log, steps)
    for reader in readers + [Reader(said, make_watcher(log, n)) for n in range(len(said) + 1)]:
        began = reader.sequence
        reader.take_all()
        assert reader.watcher.ended
        assert reader.sequence == len(said)
        if began == 0:
            assert reader.text == log.output()[0]
    assert len(log.records()) <= max_records


def test_promise_11_a_trimmed_log_stays_within_its_bounds() -> None:
    """However much is written, what is kept takes no more than the log's bounds."""
    log = make_log(max_bytes=50_000, max_records=100)
    for n in range(5000):
        log.append(Custom("n", {"n": n}))
        assert log.nbytes <= 50_000
        assert len(log._kept.records) < 2000
    log.finish(lambda _: RunCompleted("x" * 100_000))
    reader = Reader([(Custom("n", {"n": n}),) for n in range(5000)], make_watcher(log, 4999))
    assert isinstance(reader.watcher.take()[0].payload, Gap)
    assert isinstance(reader.watcher.take()[0].payload, RunCompleted)
    assert reader.watcher.ended


def test_promise_11_an_authors_later_change_of_its_data_does_not_confuse_the_bounds() -> None:
    """What a record was counted as when it was kept is what is given back when it is trimmed."""
    log = make_log(max_bytes=10_000)
    for _ in range(200):
        data: dict[str, Any] = {}
        log.append(Custom("n", data))
        data["grown"] = "x" * 5000
    assert 0 < log.nbytes <= 10_000
    assert len(log.records()) <= 50


def test_promise_11_what_nobody_reads_is_bounded_too() -> None:
    """Big deltas are counted although nobody watches: the output limit is noticed at once."""
    full = threading.Event()
    log = make_log(max_output=100_000, full=full.set)
    written = 0
    while not full.is_set() and written < 10_000_000:
        log.write("x" * 10_000)
        written += 10_000
    assert written == 100_000


def test_promise_11_output_never_grows_past_its_limit() -> None:
    """A delta that overshoots the limit is kept as far as the limit, and what follows is not."""
    calls: list[int] = []
    log = make_log(max_output=1000, full=lambda: calls.append(1))
    log.write("é" * 300)
    log.write("漢" * 100_000)
    log.write("more")
    text, last = log.output()
    assert text == "é" * 300 + "漢" * 133
    assert len(text.encode()) <= 1000
    assert calls == [1]
    log.finish(lambda _: RunCompleted(text))
    watcher = make_watcher(log)
    got = []
    while not watcher.ended:
        got += watcher.take()
    assert "".join(r.text for r in got) == text
    assert got[-1].sequence == log.last_sequence > last


def test_promise_11_no_message_outgrows_what_a_client_takes() -> None:
    """However big a delta is, the messages that carry it stay below a few hundred KiB."""
    log = make_log()
    log.write("a" * (3 * MAX_MESSAGE_CHARS + 5))
    log.write_as("b" * (2 * MAX_MESSAGE_CHARS), MEMBER, False)
    log.write("c")
    records = make_watcher(log).take()
    assert max(len(r.text) for r in records) <= 2 * MAX_MESSAGE_CHARS
    assert (
        "".join(r.text for r in records if r.source is None)
        == "a" * (3 * MAX_MESSAGE_CHARS + 5) + "c"
    )


def test_deltas_that_pile_up_become_one_message() -> None:
    """Ten thousand deltas that nobody read yet are one message that says how many it holds."""
    log = make_log()
    for n in range(10_000):
        log.write(f"{n} ")
    (record,) = make_watcher(log).take()
    assert (record.sequence, record.count) == (10_000, 10_000)
    assert record.text == "".join(f"{n} " for n in range(10_000))


def test_deltas_of_different_voices_are_not_merged() -> None:
    """Reasoning, a member's text and the run's own stay apart, in order."""
    log = make_log()
    log.write("a")
    log.write_as("b", None, True)
    log.write_as("c", MEMBER, False)
    log.write_as("d", MEMBER, False)
    log.write("e")
    records = make_watcher(log).take()
    assert [(r.text, r.count, r.source, r.reasoning) for r in records] == [
        ("a", 1, None, False),
        ("b", 1, None, True),
        ("cd", 2, MEMBER, False),
        ("e", 1, None, False),
    ]
    assert log.output() == ("ae", 5)


def test_promise_01_nothing_comes_after_the_terminal_event() -> None:
    """A closed log takes nothing more, whatever code that outlived its run still writes."""
    log = make_log()
    log.finish(lambda _: RunCompleted("done"))
    log.write("late")
    log.write_as("later", MEMBER, True)
    assert not log.append(Custom("latest"))
    for _ in range(10_000):
        log.write("for ever")
    assert len(log._pending) < 5000
    watcher = make_watcher(log)
    (record,) = watcher.take()
    assert isinstance(record.payload, RunCompleted)
    assert watcher.ended
    assert log.output() == ("", 1)


def test_characters_that_cannot_be_sent_are_replaced() -> None:
    """A lone surrogate becomes a question mark, and places between deltas stay right."""
    log = make_log()
    log.write("a\udc80b")
    log.write("c")
    assert log.output() == ("a?bc", 2)
    assert make_watcher(log, 1).take()[0].text == "c"


def test_halves_of_a_pair_in_one_delta_become_their_character() -> None:
    """Places between deltas stay right though the text became shorter."""
    log = make_log()
    for text in ("\ud83d\ude00!", "\ud83d", "\ude00", "c"):
        log.write(text)
    assert log.output() == ("\U0001f600!??c", 4)
    assert make_watcher(log, 1).take()[0].text == "??c"
    assert make_watcher(log, 3).take()[0].text == "c"


def test_a_waker_that_raises_harms_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    """A watcher whose wake-up fails keeps neither the producer nor other watchers from going on."""
    log, woken = make_log(), []

    def broken() -> None:
        raise RuntimeError("the loop is closed")

    first, second = make_watcher(log), make_watcher(log)
    assert first.arm(broken)
    assert second.arm(lambda: woken.append(True))
    log.write("x")
    assert woken == [True]
    assert log.output() == ("x", 1)


def test_promise_12_a_disarmed_watcher_is_forgotten() -> None:
    """A watcher that left is neither woken nor kept."""
    log = make_log()
    watcher = make_watcher(log)
    assert watcher.arm(lambda: pytest.fail("woken"))
    watcher.close()
    log.write("x")
    assert not log._waiting


LONG = "x" * 1000


@pytest.mark.parametrize(
    ("payload", "source"),
    [
        (ToolCallStarted(ToolCall("1", "t", LONG)), None),
        (RunPaused("?", (ToolCall("1", "t", LONG),)), None),
        (RunPaused(LONG), None),
        (StepCompleted("s", error=RunError("E", LONG)), None),
        (RunCompleted(LONG), None),
        (RunCompleted("", {"a": [{"b": LONG}]}), None),
        (Custom(LONG), None),
        (Custom("c", {LONG: 1}), None),
        (Custom("c", {"a": [None] * 100}), None),
        (Custom("c"), Source(SourceKind.STEP, "s", "", "r", (LONG,))),
    ],
    ids=range(10),
)
def test_an_event_counts_in_full(payload: Payload, source: Source | None) -> None:
    """All text and data of an event, and its source, count against the log's bounds."""
    log = make_log()
    log.append(payload, source)
    assert log.nbytes > 1000


ROUNDS = 3000


def test_no_wake_up_is_lost() -> None:
    """In 3000 rounds of one event each, a waiting watcher is woken by every single one."""
    log = make_log()
    seen = threading.Semaphore(0)

    def follow() -> None:
        for event in make_watcher(log):
            for _ in range(getattr(event.payload, "count", 1)):
                seen.release()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    for n in range(ROUNDS):
        log.write("x") if n % 3 else log.append(Custom("n"))
        assert seen.acquire(timeout=30), f"lost in round {n}"
    log.finish(lambda _: RunCompleted())
    thread.join(30)
    assert not thread.is_alive()


def test_writers_and_watchers_at_full_speed() -> None:
    """Three writers and three watchers at once: each watcher reads the same whole."""
    log, per_writer = make_log(), 4000
    results: list[str] = []
    counts: list[int] = []

    def produce(name: str) -> None:
        for n in range(per_writer):
            if n % 50 == 0:
                log.append(Custom(name))
            log.write(name)

    def follow() -> None:
        text, expected = [], count(1)
        last = 0
        for event in make_watcher(log):
            size = getattr(event.payload, "count", 1)
            last += size
            assert event.sequence == last
            next(expected)
            text.append(getattr(event.payload, "text", ""))
        results.append("".join(text))
        counts.append(last)

    writers = [threading.Thread(target=produce, args=(name,)) for name in "abc"]
    watchers = [threading.Thread(target=follow, daemon=True) for _ in range(3)]
    for thread in [*watchers, *writers]:
        thread.start()
    for thread in writers:
        thread.join(30)
    log.finish(lambda _: RunCompleted())
    for thread in watchers:
        thread.join(30)
    assert counts == [log.last_sequence] * 3
    assert results == [log.output()[0]] * 3
    assert sorted(results[0]) == sorted("abc" * per_writer)


def test_a_fenced_log_shows_nothing_and_all_of_it_afterwards() -> None:
    """A watcher waits without turning round while the log is fenced, is woken when that is over,
    and misses nothing; the end of a log whose store has it is shown all the same."""
    fenced = True
    log = EventLog(BIG, BIG, BIG, lambda: None, visible=2, is_fenced=lambda: fenced)
    watcher, woken = make_watcher(log), threading.Event()
    for text in ("a", "b", "c"):
        log.write(text)
        log.seal()
    assert watcher.take() == []
    assert watcher.arm(woken.set)
    log.write("d")
    assert watcher.take() == []
    woken.clear()
    assert watcher.arm(woken.set)
    fenced = False
    log.ring()
    assert woken.is_set()
    assert "".join(record.text for record in watcher.take()) == "ab"
    fenced = True
    log.finish(RunCompleted)
    log.show_end()
    assert not watcher.arm(woken.set)
    assert watcher.take()
    assert watcher.ended


def test_the_first_text_has_the_time_at_which_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if nobody reads and much comes after it; nothing is known once it has been trimmed."""
    now = 1.0
    monkeypatch.setattr(numbered, "time", lambda: now)
    log = make_log()
    log.append(RunStarted("agents/a"))
    assert log.first_text_time() == 0
    now = 2.0
    log.write("a")
    now = 3.0
    log.write("b")
    log.append(Custom("later"))
    assert log.first_text_time() == 2
    small = make_log(max_records=2)
    for _ in range(5):
        small.append(Custom("x"))
    small.write("a")
    assert small.first_text_time() == 0
