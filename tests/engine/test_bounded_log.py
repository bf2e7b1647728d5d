"""A log whose events are shown only up to a bound: nobody sees more, and nobody misses anything."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pullcord.engine.log.log import EventLog
from pullcord.engine.log.record import Record
from pullcord.engine.log.watch import Watcher
from pullcord.run.cancel import Cancellation
from pullcord.run.events import CancelRequested, Custom, Gap, RunCancelled, RunCompleted, Snapshot
from pullcord.run.record import Run
from pullcord.run.state import RunState

BIG = 1 << 40

steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.text(st.sampled_from("aé漢"), max_size=4)),
        st.tuples(st.just("append")),
        st.tuples(st.just("seal")),
        st.tuples(st.just("read"), st.integers(0, 1)),
        st.tuples(st.just("show"), st.integers(0, 12)),
        st.tuples(st.just("store"), st.integers(1, 600)),
    ),
    max_size=50,
)


class Kept:
    """A run whose store lags behind what it makes: it knows all that was made."""

    def __init__(self, max_records: int) -> None:
        self.log = EventLog(BIG, max_records, BIG, lambda: None, visible=3, holds_end=True)
        self.texts: list[str | None] = []
        """Of each event; None: it has none."""
        self.after = 0
        self.stored = ""
        self.watchers = [self.watch() for _ in range(2)]

    def watch(self, after: int = 0) -> Watcher:
        return Watcher("r", self.log, after, self.snapshot, lambda: None)

    def snapshot(self) -> Run:
        text, last = self.log.output()
        return Run("r", "agents/a", RunState.RUNNING, output=text, last_sequence=last)

    def text(self, last: int) -> str:
        return "".join(text or "" for text in self.texts[:last])

    def read(self, watcher: Watcher) -> list[Record]:
        records = watcher.take()
        assert watcher.after_sequence <= self.log.visible, "more was shown than may be"
        for record in records:
            if isinstance(record.payload, Snapshot):
                run = record.payload.run
                assert run.output == self.text(run.last_sequence)
        return records

    def store(self, most: int) -> None:
        """As the journal does: what is kept after what the store has, or a new beginning."""
        records, base = self.log.since(self.after, most)
        if base is not None:
            first = records[0].sequence - records[0].count
            assert base == self.text(first)
            self.stored = base
        elif records:
            assert records[0].sequence - records[0].count == self.after
        for record in records:
            self.stored += record.text if record.is_content else ""
            self.after = record.sequence
        assert self.stored == self.text(self.after)


def play(kept: Kept, done: list[tuple[Any, ...]]) -> None:
    for name, *args in done:
        if name == "write":
            kept.log.write(args[0])
            kept.texts.append(args[0])
        elif name == "append":
            kept.log.append(Custom("e"))
            kept.texts.append(None)
        elif name == "seal":
            assert kept.log.seal() == len(kept.texts)
        elif name == "read":
            kept.read(kept.watchers[args[0]])
        elif name == "show":
            kept.log.show(kept.log.visible + args[0])
        elif name == "store":
            kept.store(args[0])
        text, last = kept.log.output()
        assert last <= kept.log.visible
        assert text == kept.text(last)
        assert kept.log.last_shown() == last


@settings(max_examples=300, deadline=None)
@given(steps, st.sampled_from([2, 5, BIG]))
def test_nobody_sees_more_than_may_be_shown(done: list[tuple[Any, ...]], max_records: int) -> None:
    """Watchers and snapshots stop at the bound, and have the text up to just there; the store is
    brought everything, also what was trimmed before it could be."""
    kept = Kept(max_records)
    play(kept, done)
    while kept.after < len(kept.texts):
        kept.store(500)
    assert kept.stored == kept.text(len(kept.texts))
    end = RunCompleted(kept.text(len(kept.texts)))
    kept.log.finish(lambda text: end)
    kept.log.show(BIG)
    for watcher in kept.watchers:
        taken: list[Record] = []
        while found := kept.read(watcher):
            taken += found
        assert not watcher.ended
        assert watcher.after_sequence == len(kept.texts)
        assert all(record.payload is not end for record in taken)
        assert watcher.arm(lambda: None), "it waits for the end"
        watcher.disarm()
    woken: list[bool] = []
    assert kept.watchers[0].arm(lambda: woken.append(True))
    kept.log.show_end()
    assert woken
    for watcher in kept.watchers:
        assert [record.payload for record in watcher.take()] == [end]
        assert watcher.ended


@pytest.mark.parametrize("shown", [0, 3, 7])
def test_a_trimmed_log_gives_no_gap_that_leads_nowhere(shown: int) -> None:
    """Where all that may be shown was trimmed, a watcher gets one gap, and then waits."""
    log = EventLog(BIG, 2, BIG, lambda: None, visible=shown, holds_end=True)
    for _ in range(20):
        log.append(Custom("e"))

    def snapshot() -> Run:
        return Run("r", "agents/a", RunState.RUNNING, last_sequence=log.last_shown())

    watcher = Watcher("r", log, 0, snapshot, lambda: None)
    kinds = [type(record.payload) for record in watcher.take()]
    assert kinds == ([Gap, Snapshot] if shown else [])
    assert watcher.take() == []
    assert watcher.arm(lambda: None), "it must not look again and again"
    watcher.disarm()
    log.show(20)
    while watcher.take():
        pass
    assert watcher.after_sequence == 20


def test_a_replaced_end_leaves_one() -> None:
    """An end that nobody has seen gives way to another, behind the stop that led to it."""
    log = EventLog(BIG, BIG, BIG, lambda: None, holds_end=True)
    log.write("text")
    log.finish(RunCompleted)
    log.write("too late")
    stop = Cancellation(actor="ann")
    end = log.replace_end(CancelRequested(stop), lambda text: RunCancelled(stop, text))
    assert end.output == "text"
    log.show_end()
    assert [record.payload for record in log.records()][1:] == [CancelRequested(stop), end]
    assert [record.sequence for record in log.records()] == [1, 2, 3]
