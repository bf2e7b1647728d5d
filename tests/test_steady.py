"""A failure is forgiven to a machine that was late, and to nothing else."""

import itertools
from collections.abc import Callable

import pytest

from tests import steady
from tests.steady import ATTEMPTS, LATE, Sentinel


def late_by(seconds: float) -> Callable[[], Sentinel]:
    """A machine that is late by so much, whatever it does."""

    class Scripted(Sentinel):
        def _measure(self) -> None:
            self.late = seconds

    return Scripted


class Fails:
    """Fails so many times."""

    def __init__(self, times: int, failure: BaseException) -> None:
        self.times = times
        self.failure = failure
        self.attempts = 0

    def __call__(self) -> str:
        self.attempts += 1
        if self.attempts <= self.times:
            raise self.failure
        return "met"

    async def later(self) -> str:
        return self()


FAILURES = [AssertionError("0.3 < 0.2"), TimeoutError("late"), pytest.fail.Exception("not raised")]


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
async def test_an_attempt_on_a_late_machine_is_repeated(failure: BaseException) -> None:
    """What fails while the machine stalls is tried again, in sync and in async tests."""
    sync, later = (Fails(ATTEMPTS - 1, failure) for _ in range(2))
    assert steady._steady(sync, late_by(LATE + 0.01))() == "met"
    assert await steady._steady(later.later, late_by(LATE + 0.01))() == "met"
    assert sync.attempts == later.attempts == ATTEMPTS


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
async def test_a_failure_on_a_machine_on_time_is_real(failure: BaseException) -> None:
    """What fails while the machine is on time is raised at once, and tells how late it was."""
    sync, later = (Fails(1, failure) for _ in range(2))
    with pytest.raises(type(failure)) as raised:
        steady._steady(sync, late_by(LATE))()
    assert "attempt 1 of 5: the machine was late by 0.030 s" in raised.value.__notes__
    with pytest.raises(type(failure)):
        await steady._steady(later.later, late_by(LATE))()
    assert sync.attempts == later.attempts == 1


async def test_a_failure_that_stays_is_raised() -> None:
    """However late the machine is, a test that always fails fails."""
    sync, later = (Fails(ATTEMPTS, AssertionError("broken")) for _ in range(2))
    with pytest.raises(AssertionError, match="broken"):
        steady._steady(sync, late_by(9.0))()
    with pytest.raises(AssertionError, match="broken"):
        await steady._steady(later.later, late_by(9.0))()
    assert sync.attempts == later.attempts == ATTEMPTS


def test_a_stall_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentinel measures by how much it is woken late, and does so at least once."""
    monkeypatch.setattr(steady, "_now", itertools.count(0, 7).__next__)
    with Sentinel() as machine:
        pass
    assert 6.9 < machine.late < 7


def test_an_attempt_leaves_no_sentinel() -> None:
    """The sentinel's thread has ended with its block."""
    with Sentinel() as machine:
        pass
    assert not machine._thread.is_alive()
