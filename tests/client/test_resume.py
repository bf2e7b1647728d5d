"""What a broken stream does next, without any stream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pullcord.client.resume import Pace, Resume
from pullcord.run import errors
from pullcord.run.events import Event, Gap, Heartbeat, RunCompleted, Snapshot, Source, SourceKind
from pullcord.run.record import Run
from pullcord.run.state import RunState

from tests.client.scripted import RUN_ID, event, whole_run

LOST = errors.ConnectionLost("gone", RUN_ID)


class Clock:
    """A clock that moves when it is told to, and random numbers that are no surprise."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def pace(self, random: float = 1.0, reconnect_for: float = 60.0) -> Pace:
        return Pace(reconnect_for, clock=self, random=lambda: random)


def waits_until_it_gives_up(resume: Resume, clock: Clock) -> list[float]:
    waits: list[float] = []
    while True:
        try:
            waits.append(resume.lost(LOST))
        except errors.ConnectionLost:
            return waits
        clock.now += waits[-1]
        resume.opening()


def test_waits_double_up_to_a_bound_and_end() -> None:
    """A client waits 0.1 s, twice as long each time up to 5 s, and gives up after 60 s."""
    clock = Clock()
    waits = waits_until_it_gives_up(Resume(RUN_ID, clock.pace()), clock)
    assert waits[:8] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert sum(waits) == pytest.approx(60)


def test_waits_are_scattered_over_half_their_length() -> None:
    """Clients that lost one server do not come back all at once."""
    clock = Clock()
    assert Resume(RUN_ID, clock.pace(random=0.0)).lost(LOST) == 0.05
    assert Resume(RUN_ID, clock.pace(random=0.5)).lost(LOST) == pytest.approx(0.075)


def test_a_new_event_restores_patience() -> None:
    """After progress the first wait is short again, and the 60 s begin anew."""
    clock = Clock()
    resume = Resume(RUN_ID, clock.pace())
    waits_until_it_gives_up(resume, clock)
    assert resume.admit(whole_run()[0])
    assert resume.lost(LOST) == 0.1


def test_an_event_seen_before_restores_no_patience() -> None:
    """A server that repeats itself and breaks is given up too."""
    clock = Clock()
    resume = Resume(RUN_ID, clock.pace(), after_sequence=1)
    waits_until_it_gives_up(resume, clock)
    assert not resume.admit(whole_run()[0])
    with pytest.raises(errors.ConnectionLost):
        resume.lost(LOST)


def test_a_line_that_lived_is_no_failure() -> None:
    """A silent run whose line is cut every ten minutes, with heartbeats between, is followed on."""
    clock = Clock()
    resume = Resume(RUN_ID, clock.pace(), after_sequence=1)
    for _ in range(20):
        resume.opening()
        assert resume.admit(event(1, Heartbeat()))
        clock.now += 600
        assert resume.lost(LOST) == 0.1


def test_a_client_that_must_not_reconnect_does_not() -> None:
    """With reconnect_for 0 the first break is the last."""
    with pytest.raises(errors.ConnectionLost):
        Resume(RUN_ID, Clock().pace(reconnect_for=0)).lost(LOST)


@pytest.mark.parametrize(
    "error",
    [
        errors.RunNotFound(RUN_ID),
        errors.RunExists(RUN_ID),
        errors.RunnableNotFound("agents/a"),
        errors.InvalidArgument(errors.Violation("a", "b")),
        errors.SessionBusy("s", "r"),
        errors.DeadlineExceeded("late", RUN_ID),
        errors.CallFailed("PERMISSION_DENIED"),
        errors.CallFailed("INTERNAL"),
    ],
    ids=lambda error: type(error).__name__ + getattr(error, "code", ""),
)
@pytest.mark.parametrize("starting", [True, False], ids=["run", "watch"])
def test_an_answer_is_not_asked_for_again(error: errors.PullcordError, starting: bool) -> None:
    """A typed refusal, or the caller's own deadline, is raised at once."""
    with pytest.raises(type(error)):
        Resume(RUN_ID, Clock().pace(), starting=starting).lost(error)


@pytest.mark.parametrize(
    "error",
    [errors.Draining(2.0), errors.ServerBusy("full", 2.0), errors.StoreUnavailable()],
    ids=lambda error: type(error).__name__,
)
def test_a_server_that_has_no_time_is_asked_again_about_a_known_run(
    error: errors.PullcordError,
) -> None:
    """A new run is refused at once; a watcher waits as long as it is told, and comes back."""
    clock = Clock()
    with pytest.raises(type(error)):
        Resume(RUN_ID, clock.pace(), starting=True).lost(error)
    watching = Resume(RUN_ID, clock.pace())
    assert watching.lost(error) == getattr(error, "retry_after", 0.1)
    clock.now += 60
    with pytest.raises(type(error)):
        watching.lost(error)


def test_a_call_that_was_shed_is_made_again() -> None:
    """A bare CANCELLED, with which servers and proxies shed calls, is a break."""
    clock = Clock()
    resume = Resume(RUN_ID, clock.pace())
    assert resume.lost(errors.CallFailed("CANCELLED")) == 0.1
    clock.now += 60
    with pytest.raises(errors.ConnectionLost):
        resume.lost(errors.CallFailed("CANCELLED"))


def test_nobody_waits_beyond_the_callers_deadline() -> None:
    """A wait ends with the deadline, and the next connection is not made."""
    clock = Clock()
    resume = Resume(RUN_ID, clock.pace(), timeout=0.25)
    assert resume.opening() == 0.25
    assert resume.lost(LOST) == 0.1
    clock.now += 0.1
    assert resume.opening() == pytest.approx(0.15)
    assert resume.lost(LOST) == pytest.approx(0.15)
    clock.now += 0.151
    with pytest.raises(errors.DeadlineExceeded) as caught:
        resume.opening()
    assert caught.value.run_id == RUN_ID


def test_a_gap_moves_the_place_only_with_its_snapshot() -> None:
    """Where the line breaks between gap and snapshot, both come again."""
    resume = Resume(RUN_ID, Clock().pace(), after_sequence=3)
    assert resume.admit(event(9, Gap(4, 9)))
    assert resume.after_sequence == 3
    assert resume.admit(event(9, Gap(4, 9)))
    snapshot = event(9, Snapshot(Run(RUN_ID, "agents/a", RunState.RUNNING)))
    assert resume.admit(snapshot)
    assert resume.after_sequence == 9
    assert not resume.admit(event(9, Gap(4, 9)))
    assert not resume.admit(event(8, Snapshot(snapshot.payload.run)))  # type: ignore[union-attr]
    assert resume.admit(event(10, RunCompleted()))
    assert resume.ended


def test_a_run_whose_end_was_seen_has_ended() -> None:
    """A watch from after the terminal event ends without an event."""
    resume = Resume(RUN_ID, Clock().pace(), after_sequence=6)
    resume.learn(Run(RUN_ID, "agents/a", RunState.RUNNING, last_sequence=6))
    resume.learn(Run(RUN_ID, "agents/a", RunState.COMPLETED, last_sequence=7))
    assert not resume.ended
    resume.learn(Run(RUN_ID, "agents/a", RunState.COMPLETED, last_sequence=6))
    assert resume.ended
    assert resume.result is None


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), max_size=12))
def test_whatever_is_repeated_is_shown_once(pieces: list[tuple[int, int]]) -> None:
    """From any overlapping pieces of a run the caller gets each event once and in order."""
    events = whole_run(8)
    resume = Resume(RUN_ID, Clock().pace(), starting=True)
    shown: list[Event] = []
    for back, length in [*pieces, (0, len(events))]:
        first = max(0, resume.after_sequence - back)
        shown += [e for e in events[first : first + length] if resume.admit(e)]
    assert shown == events
    assert resume.result == events[-1].payload


def test_what_a_newer_server_says_moves_the_place() -> None:
    """An event that is skipped is not asked for again, and restores patience like any other."""
    clock = Clock()
    resume = Resume(RUN_ID, clock.pace(), starting=True)
    waits_until_it_gives_up(resume, clock)
    resume.skip(7)
    assert resume.begun
    assert resume.after_sequence == 7
    assert resume.lost(LOST) == 0.1
    clock.now += 1
    resume.skip(7)  # seen before: no progress
    assert resume.lost(LOST) == pytest.approx(0.2)
    resume.skip(3)
    assert resume.after_sequence == 7


def test_the_end_of_a_run_beneath_is_not_the_end() -> None:
    """A stream goes on after the terminal event of a member or step, which bears a source."""
    resume = Resume(RUN_ID, Clock().pace())
    member = Source(SourceKind.AGENT, "member", "", "another", ("team", "member"))
    assert resume.admit(Event(RUN_ID, 1, 0.0, RunCompleted("theirs"), member))
    assert not resume.ended
    assert resume.admit(Event(RUN_ID, 2, 0.0, RunCompleted("ours")))
    assert resume.ended
    assert resume.result == RunCompleted("ours")
